//! What a page shows of one Canary beside its view: the way to promotion, who uses the weights, how many failures the guard still
//! allows, and what others said last.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weir_engine::latency::quantile;
use weir_engine::{
    Check, CheckResult, Counts, Observation, Outcome, Past, Phase, Plan, Run, Source, Stage, State, Step, Timestamp,
    WebhookKind,
};
use weir_wire::names::{Arm, Cohort};

use crate::api::webhook_word;

/// Failures that are tried until a guard's table says stop: a table's limits grow more slowly than its counts, so it ends sooner.
const TRIED: u32 = 1000;

/// What is shown of one Canary beside its view.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Particulars {
    /// What to do, in words.
    pub advice: String,
    /// The way to promotion.
    pub steps: Vec<PlannedStep>,
    /// Gateways and callers that serve.
    pub gateways: Vec<GatewayView>,
    /// The guard of the gateway that is nearest to stopping the canary; nothing while no request reaches it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guard: Option<GuardView>,
    /// The metrics of a check, with their last values.
    pub metrics: Vec<MetricView>,
    /// The webhooks, with what they said last.
    pub webhooks: Vec<WebhookView>,
    /// The newest rollouts that ended, oldest first.
    pub rollouts: Vec<PastView>,
}

/// One step of the way to promotion.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PlannedStep {
    /// Percent of the requests.
    pub weight: f64,
    /// Whether requests that meet a condition go to the canary.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub matching: bool,
    /// What it waits for, in words, in order.
    pub waits: Vec<String>,
    /// `done`, `now`, or nothing while it is ahead.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub state: String,
}

/// A gateway, or a caller.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayView {
    /// Its pod.
    pub name: String,
    /// Whether it uses the weight that was asked for.
    pub acknowledged: bool,
    /// Whether it has never acknowledged anything.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub silent: bool,
    /// Failed canary requests that it waits with, its requests all the primary's, until Weir has seen them; 0 while it does not.
    #[serde(skip_serializing_if = "is_zero")]
    pub waits: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// How far a gateway's guard is from stopping the canary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GuardView {
    /// The gateway.
    pub gateway: String,
    /// Canary requests that failed there since the stretch of this weight began.
    pub failed: u64,
    /// Failures at which it stops the canary, as long as nothing else changes.
    pub limit: u64,
}

/// A metric of a check.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MetricView {
    /// Its name.
    pub name: String,
    /// The unit of its value: `%`, `ms`, or nothing for a query that others answer.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// Its last value; `null` where there is none, or one above every edge of the histogram.
    pub value: Option<f64>,
    /// The least value that is good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The greatest value that is good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// `inside`, `outside`, or `unknown` without a value.
    pub result: String,
    /// What was said instead of a value.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// A webhook.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WebhookView {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// `Passed`, `Failed`, or nothing while it was not called.
    pub result: String,
    /// The beginning of what it said where it failed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// A rollout that ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PastView {
    /// What was analysed.
    pub revision: String,
    /// What became of it.
    pub result: Outcome,
    /// Stable code of the reason.
    pub reason: String,
    /// When it began.
    pub started: Timestamp,
    /// When it was decided.
    pub at: Timestamp,
    /// Canary requests that had ended.
    pub canary_ended: u64,
    /// Those that had failed.
    pub canary_failed: u64,
}

/// What other programs said last: of webhooks with their type, of metrics by their name.
#[derive(Clone, Debug, Default)]
pub struct Replies {
    /// By the webhook's name: its type, and what it said.
    pub webhooks: BTreeMap<String, (String, CheckResult)>,
    /// By the metric's name.
    pub metrics: BTreeMap<String, CheckResult>,
}

impl Particulars {
    /// Returns what is shown of a Canary after a pass. The advice is the view's, and not in it yet.
    #[must_use]
    pub fn of(plan: &Plan, state: &State, seen: &Observation, replies: &Replies) -> Self {
        let epoch = state.traffic.epoch;
        let gateways = seen.gateways.iter().map(|gateway| GatewayView {
            name: gateway.name.clone(),
            acknowledged: gateway.acknowledged.is_some_and(|known| known >= epoch),
            silent: gateway.silent,
            waits: seen.scrapes.iter().find(|scrape| scrape.gateway == gateway.name).map_or(0, |scrape| scrape.held),
        });
        let window = state.run.as_ref().map(|run| {
            let mut window = state.counters.since(run.window);
            window.add(&run.window_retired);
            window
        });
        Self {
            advice: String::new(),
            steps: steps(plan, state),
            gateways: gateways.collect(),
            guard: guard(state, seen),
            metrics: plan.checks.iter().map(|check| metric(plan, check, window.as_ref(), replies)).collect(),
            webhooks: webhooks(plan, replies),
            rollouts: state.past.iter().map(PastView::from).collect(),
        }
    }
}

impl From<&Past> for PastView {
    fn from(past: &Past) -> Self {
        Self {
            revision: past.revision.to_string(),
            result: past.result,
            reason: past.reason.clone(),
            started: past.started,
            at: past.at,
            canary_ended: past.canary[0],
            canary_failed: past.canary[1],
        }
    }
}

fn steps(plan: &Plan, state: &State) -> Vec<PlannedStep> {
    let run = state.run.as_ref().filter(|_| state.phase != Phase::Failed);
    let stands = |i: usize| {
        let word = match run {
            Some(Run { stage, .. }) if *stage > Stage::Analysing => "done",
            Some(Run { stage: Stage::Analysing, step, .. }) if i < *step => "done",
            Some(Run { stage: Stage::Analysing, step, .. }) if i == *step => "now",
            _ => "",
        };
        word.to_owned()
    };
    let last = plan.steps.len().saturating_sub(1);
    let step = |(i, step): (usize, &Step)| PlannedStep {
        weight: step.weight.percent(),
        matching: step.matching || step.only_matched,
        waits: waits(plan, step, i == last),
        state: stands(i),
    };
    plan.steps.iter().enumerate().map(step).collect()
}

fn waits(plan: &Plan, step: &Step, is_last: bool) -> Vec<String> {
    let hooks = |kind, what: &str| {
        let hooks = plan.webhooks(kind).map(|hook| format!("{what} {}", hook.name)).collect::<Vec<_>>();
        hooks.into_iter()
    };
    let mut waits = Vec::new();
    if step.has_users() {
        waits.extend(hooks(WebhookKind::ConfirmTrafficIncrease, "gate"));
    }
    waits.push(format!("{}", plan.interval));
    if step.judged && plan.min_requests > 0 && plan.checks.iter().any(|check| check.source != Source::Template) {
        let plural = if plan.min_requests == 1 { "" } else { "s" };
        waits.push(format!("{} canary request{plural}", plan.min_requests));
    }
    waits.extend(plan.checks.iter().filter(|check| step.judged || check.source == Source::Template).map(bounds));
    waits.extend(hooks(WebhookKind::Rollout, "webhook"));
    let switches = plan.steps.iter().any(|step| step.confirm);
    let is_before_promotion = if switches { step.confirm } else { is_last };
    if is_before_promotion {
        waits.extend(hooks(WebhookKind::ConfirmPromotion, "gate"));
    }
    waits
}

fn bounds(check: &Check) -> String {
    let unit = unit(check.source);
    let bound = |sign: &str, value: f64| {
        let space = if unit.is_empty() { "" } else { " " };
        format!("{} {sign} {value}{space}{unit}", check.name)
    };
    match (check.bounds.min, check.bounds.max) {
        (Some(min), Some(max)) => format!("{}, ≤ {max}", bound("≥", min)),
        (Some(min), None) => bound("≥", min),
        (None, Some(max)) => bound("≤", max),
        (None, None) => check.name.clone(),
    }
}

fn unit(source: Source) -> &'static str {
    match source {
        Source::SuccessRate => "%",
        Source::Duration => "ms",
        Source::Template => "",
    }
}

/// Returns how far the guard is from stopping the canary. One process judges by its tables; each of many waits after its lease, which
/// begins anew with every failure that Weir has seen.
fn guard(state: &State, seen: &Observation) -> Option<GuardView> {
    let traffic = &state.traffic;
    if traffic.lease > 0 {
        let gateway = format!("each of {} proxies until Weir has seen it", seen.gateways.len());
        return Some(GuardView { gateway, failed: 0, limit: traffic.lease.into() });
    }
    let limits = traffic.limits.first().filter(|limits| limits.epoch == traffic.epoch)?;
    let [gateway] = seen.gateways.as_slice() else { return None };
    let counts = state.counters.epoch(limits.epoch);
    let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let draws = |arm| small(counts.cell(arm, Cohort::Draw).failure);
    let canary = counts.arm(Arm::Canary);
    let trips = |more: &u32| {
        let failed = small(canary.failure).saturating_add(*more);
        let drawn = draws(Arm::Canary).saturating_add(*more);
        limits.comparison_limit(draws(Arm::Primary)).is_some_and(|limit| drawn >= limit)
            || limits.absolute_limit(small(canary.ended()).saturating_add(*more)).is_some_and(|limit| failed >= limit)
    };
    let more = (0..=TRIED).find(trips)?;
    let failed = canary.failure;
    Some(GuardView { gateway: gateway.name.clone(), failed, limit: failed + u64::from(more) })
}

fn metric(plan: &Plan, check: &Check, window: Option<&Counts>, replies: &Replies) -> MetricView {
    let canary = window.map(|window| window.arm(Arm::Canary));
    let (value, message) = match check.source {
        Source::SuccessRate => {
            let answered = canary.as_ref().map_or(0, |canary| canary.answered());
            let rate = canary.filter(|_| answered > 0).map(|canary| 100.0 * canary.success as f64 / answered as f64);
            (rate, String::new())
        }
        Source::Duration => {
            let p99 = canary.and_then(|canary| quantile(0.99, &canary.latency, canary.unended(), &plan.latency_ms));
            let above = p99.is_some_and(|ms| !ms.is_finite());
            (p99, if above { "above the last edge".to_owned() } else { String::new() })
        }
        Source::Template => match replies.metrics.get(&check.name) {
            Some(CheckResult::Value(value)) => (Some(*value), String::new()),
            Some(CheckResult::NoValue(why) | CheckResult::Failed(why)) => (None, why.clone()),
            Some(CheckResult::Passed) | None => (None, String::new()),
        },
    };
    let result = match value {
        None => "unknown",
        Some(value) if check.bounds.hold(value) => "inside",
        Some(_) => "outside",
    };
    MetricView {
        name: check.name.clone(),
        unit: unit(check.source).to_owned(),
        value: value.filter(|value| value.is_finite()).map(|value| (value * 1000.0).round() / 1000.0),
        min: check.bounds.min,
        max: check.bounds.max,
        result: result.to_owned(),
        message,
    }
}

fn webhooks(plan: &Plan, replies: &Replies) -> Vec<WebhookView> {
    let named = plan.webhooks.iter().map(|hook| {
        let (result, message) = match replies.webhooks.get(&hook.name) {
            Some((_, CheckResult::Failed(why) | CheckResult::NoValue(why))) => ("Failed", why.clone()),
            Some((_, CheckResult::Passed | CheckResult::Value(_))) => ("Passed", String::new()),
            None => ("", String::new()),
        };
        let kind = replies
            .webhooks
            .get(&hook.name)
            .map_or_else(|| webhook_word(hook.kind).to_owned(), |(kind, _)| kind.clone());
        WebhookView { name: hook.name.clone(), kind, result: result.to_owned(), message }
    });
    named.collect()
}
