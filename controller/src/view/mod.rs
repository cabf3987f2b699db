//! What people see of a Canary: one value, made of the engine's by a pure function, served as JSON and printed by the
//! command line. Whoever prints it needs nothing else.
//!
//! ```text
//! Plan, State, Observation, Reason ─ CanaryView::of ─> CanaryView ─┬─ JSON ─> API
//!                                                                  ├─ Summary, History, with Particulars ─> the page
//!                                                                  └─ table, live, tree, story, why ─> terminal
//! ```

mod attention;
mod build;
mod history;
pub mod live;
pub mod paint;
mod particulars;
pub mod story;
mod summary;
pub mod table;
pub mod tree;
pub mod why;

use serde::{Deserialize, Serialize};
use weir_engine::{Outcome, Phase, Severity, Timestamp};

pub use attention::{Attention, is_overdue};
pub use history::{History, LastView, POINTS, Point};
pub use particulars::{GatewayView, GuardView, MetricView, Particulars, PastView, PlannedStep, Replies, WebhookView};
pub use summary::{Changes, Summaries, Summary};

/// One Canary, as people see it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CanaryView {
    /// The Canary's namespace.
    pub namespace: String,
    /// The Canary's name.
    pub name: String,
    /// Flagger's word for where it stands.
    pub phase: Phase,
    /// When it got there, in milliseconds since the Unix epoch.
    pub since: Timestamp,
    /// Stable code of the reason.
    pub reason: String,
    /// The reason in words, with its numbers.
    pub message: String,
    /// The rollout under way; empty between rollouts.
    pub run: String,
    /// When that rollout began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// Whether a person paused it.
    pub paused: bool,
    /// Whether the object cannot work as it is; the reason and the message say why.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stalled: bool,
    /// Whether a revision waits that the target declares and nobody has dealt with, or it is not known whether one does.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub waiting: bool,
    /// Whether its reason lasts longer than it does where all is well, as far as this program has seen: a person has to look.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub overdue: bool,
    /// Whether it is in a cluster, where people reach it by `kubectl weir`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub in_cluster: bool,
    /// Percent of the requests that gateways were asked to send to the canary.
    pub weight: f64,
    /// Whether requests that meet a condition go to the canary.
    pub matching: bool,
    /// Whether the weight is a share of the requests that meet a condition, and all others are the primary's.
    pub only_matched: bool,
    /// What gateways made of it.
    pub applied: Applied,
    /// The step under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<StepView>,
    /// Failed checks, and how many take the canary back.
    pub checks: Checks,
    /// The revision in production.
    pub primary: ArmView,
    /// The revision under test.
    pub canary: ArmView,
    /// The evidence so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<EvidenceView>,
    /// How the last rollout ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<EndedView>,
}

/// What gateways made of the weight that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Applied {
    /// Gateways that use it.
    pub gateways: usize,
    /// Gateways that serve.
    pub of: usize,
    /// The newest weight that every gateway used, in percent; nothing while none was seen to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// Names of those that do not use it yet.
    pub missing: Vec<String>,
    /// How many of these never said that they run the filter: they send the canary nothing, and no advance waits for them.
    pub silent: usize,
    /// Percent of the drawn requests that went to the canary since the step began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed: Option<f64>,
    /// Drawn requests that this share is of.
    pub draws: u64,
}

/// The step under way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StepView {
    /// Its number, from 1.
    pub number: usize,
    /// How many there are.
    pub of: usize,
    /// The weight that the next one has, in percent; nothing at the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<f64>,
}

/// Failed checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Checks {
    /// How many have failed in this rollout.
    pub failed: u32,
    /// How many take the canary back.
    pub threshold: u32,
}

/// One arm: what it runs, and how its requests ended in this rollout. Between rollouts: in the last one, or lately where `observeAtRest` counts them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ArmView {
    /// The revision that its workload was told to run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// `ready`, `absent`, or why it is not ready.
    pub readiness: String,
    /// Requests that it was given.
    pub requests: u64,
    /// Requests that have ended, however.
    pub ended: u64,
    /// Those that ended badly.
    pub failed: u64,
    /// Those whose client left before the response was complete.
    pub abandoned: u64,
    /// Median of the latency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50: Option<Quantile>,
    /// 99th percentile of the latency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99: Option<Quantile>,
}

/// A quantile of the latency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantile {
    /// In milliseconds, interpolated between the edges of the histogram.
    pub ms: f64,
    /// It lies somewhere above `ms`, which is the last edge.
    pub beyond: bool,
}

/// The evidence so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EvidenceView {
    /// `bad`, `good` or `insufficient`.
    pub verdict: String,
    /// Natural logarithm of the evidence that the canary is worse.
    pub log_e: f64,
    /// The evidence (not its logarithm) that takes the canary back.
    pub threshold: f64,
    /// How close it is to being shown good: 1 is shown.
    pub good: f64,
    /// The tests that it is made of.
    pub tests: Vec<TestView>,
    /// How many times as often as the primary the canary has failed; nothing while no drawn request has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<RatioView>,
}

/// The ratio of the arms' failure rates. With 95 % probability it is in the interval at every moment at once, however often
/// one looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RatioView {
    /// The least that it may be.
    pub low: f64,
    /// The most likely one; `null` while the canary alone has failed.
    pub estimate: Option<f64>,
    /// The most that it may be; `null`: no limit yet.
    pub high: Option<f64>,
}

/// One test's part of the evidence.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TestView {
    /// `failures`, `absolute`, `abandoned`, `latency` or `split`.
    pub test: String,
    /// Natural logarithm of its evidence.
    pub log_e: f64,
}

/// How a rollout ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndedView {
    /// The rollout.
    pub run: String,
    /// What was analysed.
    pub revision: String,
    /// What became of it.
    pub result: Outcome,
    /// Stable code of the reason.
    pub reason: String,
    /// The reason in words, with its numbers.
    pub message: String,
    /// When it began.
    pub started: Timestamp,
    /// When it was decided.
    pub at: Timestamp,
    /// The weight at that moment, in percent.
    pub weight: f64,
    /// Canary requests that had ended.
    pub canary_ended: u64,
    /// Those that had failed.
    pub canary_failed: u64,
    /// Primary requests that ended during the rollout.
    pub primary_ended: u64,
    /// Those that failed.
    pub primary_failed: u64,
}

/// Something that happened to a Canary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventView {
    /// When.
    pub at: Timestamp,
    /// Whether somebody should look.
    pub severity: Severity,
    /// Stable code of the reason.
    pub reason: String,
    /// One sentence.
    pub text: String,
}

/// A Canary and what happened to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CanaryDetail {
    /// The Canary.
    #[serde(flatten)]
    pub view: CanaryView,
    /// What is shown of it beside its view.
    #[serde(flatten)]
    pub particulars: Particulars,
    /// Whether it is what the Canary's status tells: the Weir that acts knows more, and could not be asked.
    #[serde(default, rename = "fromStatus", skip_serializing_if = "std::ops::Not::not")]
    pub from_status: bool,
    /// The rollout under way, or the last one, as a line over time; nothing where this program has seen none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
    /// What was seen last of the rollout before, between rollouts; nothing where this program has seen none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastView>,
    /// What happened to it, oldest first.
    #[serde(default)]
    pub events: Vec<EventView>,
}

/// Every Canary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CanaryList {
    /// The Canaries, by namespace and name.
    pub items: Vec<CanaryView>,
    /// What is wrong with objects that could not be used.
    pub problems: Vec<String>,
}

impl CanaryView {
    /// Returns whether a rollout is under way.
    #[must_use]
    pub fn is_rolling_out(&self) -> bool {
        self.phase.is_rolling_out()
    }

    /// Returns why it stands where it does, in words: of a release that was taken back what took it back.
    #[must_use]
    pub fn cause(&self) -> &str {
        let cause = self.ended.as_ref().filter(|ended| {
            let is_over = self.phase == Phase::Failed && !self.stalled;
            is_over && self.reason == ended.reason
        });
        cause.map_or(&self.message, |ended| &ended.message)
    }

    /// Returns the view of an object that cannot work as it is.
    #[must_use]
    pub fn stalled_by(self, reason: &str, message: &str) -> Self {
        Self { stalled: true, reason: reason.to_owned(), message: message.to_owned(), ..self }
    }
}

impl CanaryList {
    /// Returns it as all that changed since never.
    #[must_use]
    pub fn as_changes(&self) -> Changes {
        let items = self.items.iter().map(Summary::from).collect();
        Changes { whole: true, items, problems: self.problems.clone(), ..Changes::default() }
    }
}
