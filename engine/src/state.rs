//! What is remembered between two passes. It is stored, so it must survive being written by one version of Weir and read by
//! the next: fields are added with defaults.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weir_wire::{Limits, Weight};

use super::counter_history::CounterHistory;
use super::counts::Counts;
use super::past::Past;
use super::run_evidence::RunEvidence;
use super::time::Timestamp;
use super::words::words;

/// Identity of one version of the target: a hash of all that makes it run differently.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub String);

/// Where a Canary stands; Flagger's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// The primary is being made.
    #[default]
    Initializing,
    /// The primary serves everything; no rollout has been yet.
    Initialized,
    /// A rollout waits for its `confirm-rollout` gate.
    Waiting,
    /// The canary is started or analysed.
    Progressing,
    /// The analysis is done; a gate holds the promotion.
    WaitingPromotion,
    /// The primary takes over the canary's revision.
    Promoting,
    /// The traffic goes back to the primary.
    Finalising,
    /// The last rollout was promoted.
    Succeeded,
    /// The last rollout was taken back.
    Failed,
    /// The Canary is being deleted.
    Terminating,
    /// Nothing is left to do but to let go.
    Terminated,
}

/// Everything that is remembered of one Canary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Where it stands.
    pub phase: Phase,
    /// When it got there.
    pub since: Timestamp,
    /// The newest revision that the primary was seen to run.
    pub promoted: Option<Revision>,
    /// The revision that the primary is told to run: the promoted one, or the one whose promotion is under way.
    pub installed: Option<Revision>,
    /// The newest revision of the target that was dealt with.
    pub applied: Option<Revision>,
    /// The rollout under way, or the last one while its canary is still being taken down.
    pub run: Option<Run>,
    /// The split that gateways were last asked for.
    pub traffic: Traffic,
    /// Whether the canary stands in for the primary: its promotion failed, and the primary's former revision is not back.
    #[serde(rename = "canary_is_home")]
    pub canary_is_fallback: bool,
    /// Whether a person paused this Canary.
    pub paused: bool,
    /// The last verb that was carried out.
    pub verb: Option<String>,
    /// How the last rollout ended.
    pub ended: Option<Ended>,
    /// The newest rollouts that ended, that one included, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub past: Vec<Past>,
    /// What the gateways have counted. An earlier Weir called it `ledger`, and does not look for what it cannot read.
    #[serde(rename = "counted", alias = "ledger")]
    pub counters: CounterHistory,
    /// On deletion: whether people were told that it is held.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub deletion_held: bool,
    /// On deletion: the epoch whose acknowledgement shows that gateways know the routes without Weir.
    pub unrouted: Option<u64>,
}

/// One rollout of one revision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Run {
    /// Identifies the rollout; a guard's trip is latched for it.
    pub id: String,
    /// What is analysed, and promoted: never anything else.
    pub revision: Revision,
    /// When it began.
    pub started: Timestamp,
    /// How far it is.
    pub stage: Stage,
    /// When that stage began, or when it last got further within it: deadlines count from here.
    pub since: Timestamp,
    /// Checks that failed so far.
    pub failed_checks: u32,
    /// Checks made so far; numbers the questions to other programs.
    pub checks: u32,
    /// The step of the plan under way.
    pub step: usize,
    /// First epoch of the requests that the next check judges.
    pub window: u64,
    /// Canary requests of the window in epochs that are closed.
    pub window_retired: Counts,
    /// Those of them in epochs in which the canary was warm: what a bound on the duration judges.
    pub window_retired_warm: Counts,
    /// Whether the window goes on over the next step: a bound was left undecided in this one, and has to be made good there.
    pub window_kept: bool,
    /// Checks of this step that left a bound undecided.
    pub undecided: u32,
    /// When the window was opened.
    pub window_opened: Timestamp,
    /// Whether the `rollout` webhooks have answered since: a load test has been made.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub load_made: bool,
    /// When they were asked once more for a load test, since there were too few requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_asked: Option<Timestamp>,
    /// When all gateways were seen to use the step's split: the interval counts from here.
    pub window_since: Option<Timestamp>,
    /// Whether a check of this step passed, and only a gate or the primary holds the next one.
    #[serde(rename = "cleared")]
    pub check_passed: bool,
    /// When the canary was first seen ready: its first seconds are no measure of its latency.
    pub ready_since: Option<Timestamp>,
    /// When the canary was last seen ready: the deadline for coming back counts from here.
    pub ready_last: Timestamp,
    /// When the primary was last seen ready.
    pub primary_ready_last: Timestamp,
    /// The hold that people were last told of.
    pub told: Option<String>,
    /// When a canary request was last seen to fail.
    pub failure_seen: Option<Timestamp>,
    /// The epoch whose acknowledgement shows that gateways know the canary's endpoints.
    pub confirmed: Option<u64>,
    /// Whether a person said promote.
    pub promote: bool,
    /// Whether the plan had it promoted without the analysis, or without the rest of it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
    /// Text of the newest failed check.
    #[serde(rename = "halted")]
    pub last_failed_check: Option<String>,
    /// The evidence so far.
    #[serde(rename = "proof")]
    pub evidence: RunEvidence,
    /// Whether the gateways' silence after a rollback was reported.
    pub unreachable_reported: bool,
    /// Whether, since the canary was taken back, nothing of the primary was seen to serve: what serves later is of its former revision.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub primary_gone: bool,
}

/// How far a rollout is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Stage {
    /// Before the `confirm-rollout` gates.
    #[default]
    Gated,
    /// The canary is being started; no request reaches it.
    Starting,
    /// The canary is ready; the `pre-rollout` checks run.
    Checking,
    /// Gateways are shown to know the canary.
    Confirming,
    /// The plan's steps.
    Analysing,
    /// The canary takes all of the traffic, since the primary's update will stop its last pod.
    Relieving,
    /// The primary takes over the revision.
    Promoting,
    /// The weight goes back in steps.
    Returning,
    /// Weight 0 was asked; the canary stays until no gateway sends to it.
    Draining,
    /// The primary did not come up with the revision; the canary serves until the former one is back.
    Stranded,
}

/// The split that gateways are asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Traffic {
    /// The rollout it belongs to, empty between rollouts.
    pub run: String,
    /// Numbers the stretch of this split; grows for the life of the Canary.
    pub epoch: u64,
    /// Share of drawn requests.
    pub weight: Weight,
    /// Whether requests that meet a condition go to the canary.
    pub matching: bool,
    /// Whether the weight is a share of the requests that meet a condition, and all others are the primary's.
    pub only_matched: bool,
    /// Whether requests to the canary's own Service go to it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub direct: bool,
    /// When it was asked for.
    pub since: Timestamp,
    /// Whether the canary serves because the primary cannot.
    pub fallback: bool,
    /// The guard's tables, newest epoch first.
    pub limits: Vec<Limits>,
    /// How many canary requests may fail in one process that nobody here has seen. 0: no bound, and the tables judge.
    #[serde(skip_serializing_if = "is_zero")]
    pub lease: u32,
    /// What was seen of those that wait for it: by `boot` number, how many have failed. Seen again after a restart.
    #[serde(skip)]
    pub seen: BTreeMap<u64, u64>,
    /// When that was said last.
    #[serde(skip)]
    pub seen_at: Timestamp,
    /// What the filter in the gateways has to do with the Canary's requests. Follows from the rest of the state on every
    /// pass.
    pub filter: FilterMode,
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// What the filter in the gateways has to do with a Canary's requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FilterMode {
    /// Nothing: no request passes it, and the gateways' configuration does not name the Canary.
    #[default]
    Off,
    /// The configuration names the Canary, so that an acknowledged epoch shows that gateways know its routes. No request
    /// passes the filter.
    Named,
    /// Requests pass it: they are counted, and split.
    On,
}

/// How a rollout ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ended {
    /// Its id.
    pub run: String,
    /// What was analysed.
    pub revision: Revision,
    /// What became of it.
    pub result: Outcome,
    /// Stable code of the reason.
    pub reason: String,
    /// The reason in words, with its numbers.
    pub text: String,
    /// When it began.
    pub started: Timestamp,
    /// When it was decided.
    pub at: Timestamp,
    /// The weight at that moment.
    pub weight: Weight,
    /// Canary requests that ended, and those that failed, at the moment of the decision.
    pub canary: [u64; 2],
    /// Primary requests that ended during the rollout, and those that failed.
    pub primary: [u64; 2],
    /// Whether the `post-rollout` webhooks are still to be told.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub post_rollout_pending: bool,
}

/// What became of a rollout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The revision is in production.
    #[default]
    Promoted,
    /// The primary kept its revision.
    RolledBack,
    /// The target went back to the primary's revision, or to another new one, by itself.
    Superseded,
    /// The analysis passed, but the primary did not come up with it.
    PromotionFailed,
}

impl Phase {
    /// Returns whether a rollout is under way.
    #[must_use]
    pub fn is_rolling_out(self) -> bool {
        use Phase::{Finalising, Progressing, Promoting, Waiting, WaitingPromotion};
        matches!(self, Waiting | Progressing | WaitingPromotion | Promoting | Finalising)
    }
}

words!(Phase {
    Initializing = "Initializing",
    Initialized = "Initialized",
    Waiting = "Waiting",
    Progressing = "Progressing",
    WaitingPromotion = "WaitingPromotion",
    Promoting = "Promoting",
    Finalising = "Finalising",
    Succeeded = "Succeeded",
    Failed = "Failed",
    Terminating = "Terminating",
    Terminated = "Terminated",
});

words!(Outcome {
    Promoted = "Promoted",
    RolledBack = "RolledBack",
    Superseded = "Superseded",
    PromotionFailed = "PromotionFailed",
});

impl State {
    /// Returns what must survive this program: everything but what is counted or seen again anyway.
    #[must_use]
    pub fn durable(&self) -> Self {
        let mut durable = Self { counters: CounterHistory::default(), ..self.clone() };
        (durable.traffic.seen, durable.traffic.seen_at) = (BTreeMap::new(), Timestamp::default());
        if let Some(run) = &mut durable.run {
            run.evidence = RunEvidence::default();
            run.window_retired = Counts::default();
            run.window_retired_warm = Counts::default();
            run.ready_last = Timestamp::default();
            run.primary_ready_last = Timestamp::default();
            run.failure_seen = None;
        }
        durable
    }

    /// Returns the revisions that may still run.
    pub fn live_revisions(&self) -> impl Iterator<Item = &Revision> {
        let run = self.run.as_ref().map(|run| &run.revision);
        [run, self.promoted.as_ref(), self.installed.as_ref()].into_iter().flatten()
    }

    /// Returns the revisions that this state speaks of: those that may still run, and the one that was last dealt with.
    pub fn revisions(&self) -> impl Iterator<Item = &Revision> {
        self.live_revisions().chain(self.applied.as_ref())
    }

    /// Returns whether the canary has all of the traffic because the primary cannot serve.
    #[must_use]
    pub fn stands_in(&self) -> bool {
        self.canary_is_fallback && self.traffic.fallback && self.traffic.weight == Weight::FULL
    }

    /// Returns what the filter has to do with the Canary's requests: it is on from the moment a new revision is seen, so that
    /// the primary's rate is known before the first weight, until the last weight is acknowledged as 0.
    #[must_use]
    pub fn filter_mode(&self, observe_at_rest: bool) -> FilterMode {
        let rollout = self.run.is_some() || self.canary_is_fallback || self.traffic.reaches_canary();
        match self.phase {
            _ if rollout || observe_at_rest => FilterMode::On,
            // What istiod sent of the routes is acknowledged with an epoch, since it sends the configuration last.
            Phase::Initializing | Phase::Terminating | Phase::Terminated => FilterMode::Named,
            _ => FilterMode::Off,
        }
    }
}

impl Traffic {
    /// Returns whether any request can reach the canary.
    #[must_use]
    pub fn reaches_canary(&self) -> bool {
        self.reaches_users() || self.direct
    }

    /// Returns whether users' requests can, and not only those of load tests.
    #[must_use]
    pub fn reaches_users(&self) -> bool {
        self.matching || self.weight > Weight::ZERO
    }

    /// Returns whether this split takes requests of the canary's away that `other` gave it, and adds none.
    #[must_use]
    pub fn takes_away_from(&self, other: &Self) -> bool {
        let (narrows, widens) = (self.only_matched && !other.only_matched, !self.only_matched && other.only_matched);
        let less =
            self.weight < other.weight || (other.matching && !self.matching) || (narrows && self.reaches_users());
        let less = less || (other.direct && !self.direct);
        let adds = self.weight > other.weight || (self.matching && !other.matching) || (widens && self.reaches_users());
        less && !adds && (other.direct || !self.direct)
    }
}

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
