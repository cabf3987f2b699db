//! The status of a Canary: what people, `kubectl wait` and Flux read, and what the engine remembers.
//!
//! Made for kstatus: a rollout never makes an object look unready, since Flux would stop applying; one that cannot work says
//! `Stalled` at once; one that nobody has looked at is in progress, by the schema's default.

use std::collections::BTreeMap;

use weir_engine::{CheckResult, Event, Outcome, Phase, Severity, State, Timestamp};

use crate::api::Problem;
use crate::kubernetes::api_server::clock::rfc3339;
use crate::kubernetes::gateway::Bound;
use crate::kubernetes::kinds::canary::{CanaryStatus, Condition, EvidenceStatus, Fault, GatewayStatus, WebhookStatus};
use crate::text::floor;
use crate::view::CanaryView;

/// Returns the status after a pass.
#[must_use]
pub(crate) fn status(
    old: &CanaryStatus,
    view: &CanaryView,
    state: &State,
    generation: i64,
    bound: Bound,
    now: Timestamp,
) -> CanaryStatus {
    let run = state.run.as_ref();
    let iteration = run.filter(|_| state.traffic.matching || state.traffic.weight.percent() == 0.0);
    let message = match (state.phase, &state.ended) {
        // The reason is what is waited for; why is what people ask.
        (Phase::Failed, Some(_)) => format!("{}; {}", promoted_text(state, ""), view.message),
        _ if ["NoGateway", "NoCaller"].contains(&view.reason.as_str()) && !bound.bound => {
            format!("{}; {}", view.message, bound.message)
        }
        _ => view.message.clone(),
    };
    let promoted = match state.phase {
        Phase::Initialized | Phase::Succeeded => "True",
        Phase::Failed => "False",
        _ => "Unknown",
    };
    let word = state.phase.to_string();
    let said = run.is_some() || state.ended.is_some();
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let evidence = said.then(|| EvidenceStatus {
        canary_requests: count(view.canary.ended),
        canary_failures: count(view.canary.failed),
        primary_requests: count(view.primary.ended),
        primary_failures: count(view.primary.failed),
        observed_share: view.applied.observed.map(|share| (share * 100.0).round() / 100.0),
    });
    let ready = match state.phase {
        Phase::Initializing => ("Unknown", "Initializing", message.clone()),
        _ => ("True", "Reconciling", "the Canary is accepted and looked after".to_owned()),
    };
    CanaryStatus {
        observed_generation: Some(generation),
        phase: Some(word.clone()),
        reason: Some(view.reason.clone()),
        message: Some(message.clone()),
        // All that is tested has the canary, as in Flagger's A/B tests.
        canary_weight: Some(if view.matching && view.weight == 0.0 { 100.0 } else { view.weight }),
        failed_checks: Some(i64::from(view.checks.failed)),
        iterations: Some(iteration.map_or(0, |run| i64::try_from(run.step).unwrap_or(0))),
        last_applied_spec: state.applied.as_ref().map(ToString::to_string),
        last_promoted_spec: state.promoted.as_ref().map(ToString::to_string),
        previous_session_affinity_cookie: old.previous_session_affinity_cookie.clone(),
        taken_over: old.taken_over.clone(),
        last_transition_time: Some(rfc3339(state.since)),
        gateways: Some(GatewayStatus {
            serving: i64::try_from(view.applied.of).unwrap_or(0),
            acknowledged: i64::try_from(view.applied.gateways).unwrap_or(0),
        }),
        evidence,
        tracked_configs: old.tracked_configs.clone(),
        webhooks: old.webhooks.clone(),
        alerts: old.alerts.clone(),
        conditions: conditions(
            old,
            generation,
            now,
            [
                ("Ready", ready.0, ready.1, ready.2),
                ("Promoted", promoted, &word, promoted_text(state, &message)),
                ("GatewayBound", if bound.bound { "True" } else { "False" }, bound.reason, bound.message),
            ],
        ),
        state: serde_json::to_string(state).ok(),
    }
}

/// Returns the status of an object that cannot work. What the engine remembers stays.
#[must_use]
pub(crate) fn stalled(
    old: &CanaryStatus,
    reason: &str,
    message: &str,
    generation: i64,
    now: Timestamp,
) -> CanaryStatus {
    let said = [("Ready", "False", reason, message.to_owned()), ("Stalled", "True", reason, message.to_owned())];
    faulty(old, (reason, message), generation, conditions(old, generation, now, said))
}

/// The condition of an object that something is missing for, since when it is. It is there only meanwhile.
pub(super) const REFERENCES: &str = "ReferencesResolved";

/// Returns the status of an object that something is missing for, which may be on its way: in progress if it was never Ready, and
/// Ready as it was otherwise.
#[must_use]
pub(crate) fn missing(
    old: &CanaryStatus,
    reason: &str,
    message: &str,
    generation: i64,
    now: Timestamp,
) -> CanaryStatus {
    let was_ready = old.conditions.iter().any(|condition| condition.kind == "Ready" && condition.status == "True");
    let ready = if was_ready { "True" } else { "Unknown" };
    let said = [("Ready", ready, reason, message.to_owned()), (REFERENCES, "False", reason, message.to_owned())];
    faulty(old, (reason, message), generation, conditions(old, generation, now, said))
}

pub(super) fn faulty(old: &CanaryStatus, (word, text): (&str, &str), of: i64, new: Vec<Condition>) -> CanaryStatus {
    let stays = |before: &&Condition| match before.kind.as_str() {
        "Stalled" => false,
        REFERENCES if before.reason != word => false,
        kind => new.iter().all(|condition| condition.kind != kind),
    };
    let mut kept: Vec<_> = old.conditions.iter().filter(stays).cloned().collect();
    kept.extend(new);
    CanaryStatus {
        observed_generation: Some(of),
        reason: Some(word.into()),
        message: Some(text.into()),
        conditions: kept,
        ..old.clone()
    }
}

/// Returns what each webhook said last.
pub(crate) fn webhooks(
    old: &CanaryStatus,
    outcomes: BTreeMap<String, (String, CheckResult)>,
    now: Timestamp,
) -> Vec<WebhookStatus> {
    let status = |(name, (kind, said)): (String, (String, CheckResult))| {
        let (result, message) = match said {
            CheckResult::Failed(why) | CheckResult::NoValue(why) => ("Failed", why),
            CheckResult::Passed | CheckResult::Value(_) => ("Passed", String::new()),
        };
        let before = old.webhooks.iter().find(|before| before.name == name && before.result == result);
        let since = before.map_or_else(|| rfc3339(now), |before| before.last_transition_time.clone());
        WebhookStatus { name, kind, result: result.into(), message, last_transition_time: since }
    };
    outcomes.into_iter().map(status).collect()
}

/// Returns the event of an object that cannot work from now on, or for another reason than before.
#[must_use]
pub(crate) fn newly_stalled(old: &CanaryStatus, (reason, problem): &Fault) -> Option<Event> {
    let told = old.conditions.iter().any(|c| c.kind == "Stalled" && c.status == "True" && c.reason == *reason);
    (!told).then(|| Event::new(Severity::Error, reason, problem.clone()))
}

/// The condition of alerts that are not delivered. It is there only where there are some.
const ALERTS_FAILING: &str = "AlertsFailing";

/// Adds to a status which alerts are not delivered; returns the event where it was not told before.
pub(crate) fn alerts_failing(
    old: &CanaryStatus,
    new: &mut CanaryStatus,
    problems: &[String],
    generation: i64,
    now: Timestamp,
) -> Option<Event> {
    let message = problems.join("; ");
    let text: String = format!("alerts are not delivered: {message}").chars().take(EVENT_TEXT / 2).collect();
    let is_changed = list(old, new, (ALERTS_FAILING, "NotDelivered"), message, generation, now);
    is_changed.then(|| Event::new(Severity::Warning, "AlertNotDelivered", text))
}

/// Has a condition list something, or be gone where there is nothing to list; returns whether it is news.
fn list(
    old: &CanaryStatus,
    new: &mut CanaryStatus,
    (kind, reason): (&str, &str),
    message: String,
    generation: i64,
    now: Timestamp,
) -> bool {
    new.conditions.retain(|condition| condition.kind != kind);
    if message.is_empty() {
        return false;
    }
    let told = old.conditions.iter().any(|condition| condition.kind == kind && condition.message == message);
    new.conditions.extend(conditions(old, generation, now, [(kind, "True", reason, message)]));
    !told
}

/// The condition of what is to be known before a release. It is there only where there is something.
pub(crate) const HAZARD: &str = "Hazard";
/// What an event says that has no room for all of them.
const HAZARDS_MORE: &str = " … (the condition Hazard has all)";

/// Adds to a status what is to be known before a release; returns the event where it was not told before. As long as nothing is
/// known, what was told stays.
pub(crate) fn hazards(
    old: &CanaryStatus,
    new: &mut CanaryStatus,
    hazards: Option<&[String]>,
    generation: i64,
    now: Timestamp,
) -> Option<Event> {
    let Some(hazards) = hazards else {
        new.conditions.retain(|condition| condition.kind != HAZARD);
        new.conditions.extend(old.conditions.iter().find(|condition| condition.kind == HAZARD).cloned());
        return None;
    };
    let message = hazards.join("; ");
    let mut text = message.clone();
    if text.len() > EVENT_TEXT {
        text = floor(&text, EVENT_TEXT - HAZARDS_MORE.len()).to_owned() + HAZARDS_MORE;
    }
    let is_changed = list(old, new, (HAZARD, "BeforeRelease"), message, generation, now);
    is_changed.then(|| Event::new(Severity::Warning, HAZARD, text))
}

/// The condition that lists fields of the spec that have no effect, or less than they say. It is there only where there are some.
const NO_EFFECT: &str = "NoEffect";
/// An event's text is cut off by the API server after 1,024 bytes.
const EVENT_TEXT: usize = 1000;

/// Adds to a status what of the spec has no effect; returns the event where the status did not say so before.
pub(crate) fn no_effect(
    old: &CanaryStatus,
    new: &mut CanaryStatus,
    remarks: &[Problem],
    generation: i64,
    now: Timestamp,
) -> Option<Event> {
    let message = remarks.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let is_changed = list(old, new, (NO_EFFECT, "FieldsWithoutEffect"), message, generation, now);
    let mut text = "accepted, but without the effect that they describe (the condition NoEffect says why):".to_owned();
    for (i, Problem { field, .. }) in remarks.iter().enumerate() {
        if text.len() + field.len() > EVENT_TEXT {
            text += " …";
            break;
        }
        text += if i == 0 { " " } else { ", " };
        text += field;
    }
    is_changed.then(|| Event::new(Severity::Warning, NO_EFFECT, text))
}

/// Returns a status without its figures, which change with every request, and without the engine's memory. What differs otherwise is
/// written at once.
#[must_use]
pub(crate) fn without_figures(status: &CanaryStatus) -> CanaryStatus {
    let mut without_figures = CanaryStatus { message: None, evidence: None, state: None, ..status.clone() };
    without_figures.webhooks.clear();
    let listed = |condition: &&mut Condition| [NO_EFFECT, ALERTS_FAILING, HAZARD].contains(&condition.kind.as_str());
    for condition in without_figures.conditions.iter_mut().filter(|condition| !listed(condition)) {
        condition.message.clear();
    }
    without_figures
}

/// Returns what the engine remembered.
///
/// # Errors
/// In words, when it cannot be read.
pub(crate) fn stored_state(status: &CanaryStatus) -> Result<State, String> {
    let Some(text) = &status.state else { return Ok(State::default()) };
    serde_json::from_str(text)
        .map_err(|error| format!("status.state cannot be read ({error}); a newer Weir may have written it"))
}

fn promoted_text(state: &State, message: &str) -> String {
    match (&state.phase, &state.ended) {
        (Phase::Failed, Some(ended)) => {
            let what = match ended.result {
                Outcome::PromotionFailed => "not promoted",
                _ => "taken back",
            };
            format!("revision {} was {what}: {}", ended.revision, ended.text)
        }
        (Phase::Initialized | Phase::Succeeded, _) => "the newest revision is in production".into(),
        _ => message.into(),
    }
}

pub(super) fn conditions<const N: usize>(
    old: &CanaryStatus,
    generation: i64,
    now: Timestamp,
    fresh: [(&str, &str, &str, String); N],
) -> Vec<Condition> {
    let condition = |(kind, status, reason, message): (&str, &str, &str, String)| {
        let before = old.conditions.iter().find(|condition| condition.kind == kind && condition.status == status);
        Condition {
            kind: kind.into(),
            status: status.into(),
            reason: reason.into(),
            message,
            last_transition_time: before.map_or_else(|| rfc3339(now), |before| before.last_transition_time.clone()),
            observed_generation: Some(generation),
        }
    };
    fresh.into_iter().map(condition).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_engine::{Ended, Revision};

    fn condition<'a>(status: &'a CanaryStatus, kind: &str) -> Option<&'a Condition> {
        status.conditions.iter().find(|condition| condition.kind == kind)
    }

    fn made(old: &CanaryStatus, phase: Phase, now: Timestamp) -> CanaryStatus {
        let state = State { phase, ..State::default() };
        status(old, &CanaryView::default(), &state, 3, Bound::plain(), now)
    }

    #[test]
    fn a_rollout_never_makes_the_object_look_unready() {
        for phase in [Phase::Initialized, Phase::Waiting, Phase::Progressing, Phase::Promoting, Phase::Failed] {
            let status = made(&CanaryStatus::default(), phase, Timestamp(0));
            assert_eq!(condition(&status, "Ready").unwrap().status, "True", "{phase:?}");
            assert!(condition(&status, "Stalled").is_none() && status.observed_generation == Some(3));
        }
        let rows = [(Phase::Initialized, "True"), (Phase::Progressing, "Unknown"), (Phase::Failed, "False")];
        for (phase, promoted) in rows {
            let status = made(&CanaryStatus::default(), phase, Timestamp(0));
            assert_eq!(condition(&status, "Promoted").unwrap().status, promoted, "{phase:?}");
        }
    }

    #[test]
    fn the_message_of_a_failed_release_says_why() {
        for (result, what) in [(Outcome::RolledBack, "taken back"), (Outcome::PromotionFailed, "not promoted")] {
            let revision = Revision("5c6b".into());
            let ended = Ended { revision, result, text: "3 of 4 failed".into(), ..Ended::default() };
            let state = State { phase: Phase::Failed, ended: Some(ended), ..State::default() };
            let view = CanaryView { message: "waiting for another one".into(), ..CanaryView::default() };
            let status = status(&CanaryStatus::default(), &view, &state, 3, Bound::plain(), Timestamp(0));
            let message = status.message.unwrap();
            assert_eq!(message, format!("revision 5c6b was {what}: 3 of 4 failed; waiting for another one"));
        }
    }

    #[test]
    fn a_condition_keeps_its_time_while_its_status_does_not_change() {
        let first = made(&CanaryStatus::default(), Phase::Initialized, Timestamp(1000));
        let second = made(&first, Phase::Progressing, Timestamp(9000));
        let time = |status: &CanaryStatus, kind| condition(status, kind).unwrap().last_transition_time.clone();
        assert_eq!(time(&first, "Ready"), time(&second, "Ready"));
        assert_ne!(time(&first, "Promoted"), time(&second, "Promoted"));
    }

    #[test]
    fn fields_without_effect_are_listed_and_told_once_until_they_change() {
        let remark = |field: &str| Problem::new(field, "has no effect");
        let told = |old: &CanaryStatus, remarks: &[Problem]| {
            let mut new = made(old, Phase::Succeeded, Timestamp(2000));
            let event = no_effect(old, &mut new, remarks, 4, Timestamp(2000));
            (new, event.map(|event| event.text))
        };
        let remarks = [remark("spec.analysis.alerts"), remark("spec.metricsServer")];
        let (first, event) = told(&CanaryStatus::default(), &remarks);
        assert!(event.unwrap().ends_with(": spec.analysis.alerts, spec.metricsServer"));
        let listed = condition(&first, "NoEffect").unwrap();
        assert_eq!(listed.message, "spec.analysis.alerts: has no effect; spec.metricsServer: has no effect");
        assert_eq!((listed.status.as_str(), listed.observed_generation), ("True", Some(4)));
        assert_eq!(told(&first, &remarks), (first.clone(), None));
        let (second, event) = told(&first, &remarks[..1]);
        assert!(event.is_some() && without_figures(&first) != without_figures(&second), "another list is news");
        let (third, event) = told(&second, &[]);
        assert!(event.is_none() && condition(&third, "NoEffect").is_none());
        let many: Vec<Problem> = (0..200).map(|i| remark(&format!("spec.service.hosts[{i}]"))).collect();
        assert!(told(&third, &many).1.unwrap().len() < 1024);
    }

    #[test]
    fn an_object_that_cannot_work_is_stalled_and_loses_nothing() {
        let before = made(&CanaryStatus::default(), Phase::Succeeded, Timestamp(1000));
        let after = stalled(&before, "InvalidSpec", "port is missing", 4, Timestamp(2000));
        assert_eq!(condition(&after, "Stalled").unwrap().status, "True");
        assert_eq!(condition(&after, "Ready").unwrap().status, "False");
        assert_eq!((after.state.clone(), after.observed_generation), (before.state.clone(), Some(4)));
        // Looked at again, nothing is written again.
        assert_eq!(stalled(&after, "InvalidSpec", "port is missing", 4, Timestamp(3000)), after);
    }
}
