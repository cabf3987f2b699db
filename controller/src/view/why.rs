//! `weir why NAME`: one screen that says what happened, with the numbers, and what to do next.

use weir_engine::{Outcome, Phase, Timestamp};

use super::paint::{self, Paint, Tone};
use super::{CanaryDetail, CanaryView, EndedView, story};

/// Column that the values begin in.
const INDENT: usize = 12;
/// Newest events that are told.
const EVENTS: usize = 3;

/// What the exit status says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Promoted, or nothing was to be done: what the target declares serves. Exit status 0.
    Serving,
    /// Taken back. Exit status 1.
    TakenBack,
    /// Under way, held, or not known. Exit status 2.
    Undecided,
    /// The object cannot work as it is: waiting helps only once a person has changed something. Exit status 2.
    Stalled,
}

impl Standing {
    /// Returns where a Canary stands.
    #[must_use]
    pub fn of(view: &CanaryView) -> Self {
        match view.phase {
            _ if view.stalled => Self::Stalled,
            // The phase tells of the revision before.
            _ if view.waiting => Self::Undecided,
            Phase::Initialized | Phase::Succeeded => Self::Serving,
            Phase::Failed => Self::TakenBack,
            _ => Self::Undecided,
        }
    }

    /// Returns the exit status.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Serving => 0,
            Self::TakenBack => 1,
            Self::Undecided | Self::Stalled => 2,
        }
    }
}

/// Writes why a Canary stands as it does.
#[must_use]
pub fn why(detail: &CanaryDetail, now: Timestamp, paint: Paint) -> String {
    let view = &detail.view;
    let mut out = headline(view, now, paint) + "\n";
    let mut rows = match &view.ended {
        Some(ended) if !is_about_now(view) => of_ended(ended),
        _ => of_run(view),
    };
    rows.push(("gateways", gateways(view)));
    for (name, text) in &rows {
        out += &format!("  {name:w$}{}\n", paint.wrap(text, INDENT), w = INDENT - 2);
    }
    for event in detail.events.iter().rev().take(EVENTS).rev() {
        let line = format!("  {}  {}", paint::clock(event.at, now), event.text);
        out += &format!("{}\n", paint.text(Tone::Faint, &paint::fit(&line, paint.column())));
    }
    out + &format!("  {:w$}{}\n", "next", paint.wrap(&advice(view), INDENT), w = INDENT - 2)
}

/// Returns one line: where a Canary stands.
#[must_use]
pub fn headline(view: &CanaryView, now: Timestamp, paint: Paint) -> String {
    let name = format!("{}/{}", view.namespace, view.name);
    let (mark, tone) = paint::mark(view);
    let (reason, message) = (&view.reason, &view.message);
    let text = match &view.ended {
        _ if view.stalled => return paint.text(Tone::Bad, &format!("✖ {name}: cannot work: {reason}: {message}")),
        _ if view.waiting => {
            // Something that is missing says nothing of revisions.
            let what =
                if ["Suspended", "Paused"].contains(&reason.as_str()) { "a new revision waits" } else { "waits" };
            format!("॥ {name}: {}, and {what}: {reason}: {message}", view.phase)
        }
        Some(ended) if !is_about_now(view) => {
            let what = match ended.result {
                Outcome::Promoted => "was promoted",
                Outcome::RolledBack => "was taken back",
                Outcome::Superseded => "was replaced",
                Outcome::PromotionFailed => "was not promoted",
            };
            let ago = paint::age(now.since(ended.at));
            let revision = paint::short(&ended.revision);
            let at = paint::clock(ended.at, now);
            return paint
                .text(story::tone(ended.result), &format!("{mark} {name}: {revision} {what} at {at}, {ago} ago"));
        }
        _ if view.is_rolling_out() => {
            let revision = view.canary.revision.as_deref().map_or("a new revision", paint::short);
            let since = paint::age(now.since(view.started.unwrap_or(view.since)));
            format!("{mark} {name}: {revision} is being released, {} for {since}", view.phase)
        }
        _ => format!("{mark} {name}: {} for {}", view.phase, paint::age(now.since(view.since))),
    };
    paint.text(tone, &text)
}

/// Returns whether there is more to tell of a Canary than how its last rollout ended.
fn is_about_now(view: &CanaryView) -> bool {
    view.is_rolling_out() || view.phase == Phase::Initializing || view.stalled || view.waiting
}

fn of_ended(ended: &EndedView) -> Vec<(&'static str, String)> {
    let arm = |failed, of| {
        format!("{} of {} failed ({})", paint::count(failed), paint::several(of, "request"), paint::share(failed, of))
    };
    // A promoted canary has given its requests back already.
    let weight = match ended.result {
        Outcome::Promoted => String::new(),
        _ => format!(", at {} % when it was decided", paint::percent(ended.weight)),
    };
    vec![
        ("why", format!("{}: {}", ended.reason, ended.message)),
        ("canary", arm(ended.canary_failed, ended.canary_ended) + &weight),
        ("primary", format!("{} during the rollout", arm(ended.primary_failed, ended.primary_ended))),
        ("took", paint::age(ended.at.since(ended.started))),
    ]
}

fn of_run(view: &CanaryView) -> Vec<(&'static str, String)> {
    let mut rows = vec![("why", format!("{}: {}", view.reason, view.message))];
    if view.is_rolling_out() {
        rows.push(("canary", format!("{}; {}", view.canary.readiness, paint::requests(&view.canary))));
        rows.push(("primary", format!("{}; {}", view.primary.readiness, paint::requests(&view.primary))));
        rows.push(("checks", format!("{} of {} failed", view.checks.failed, view.checks.threshold)));
    }
    if let Some(evidence) = &view.evidence {
        let bad = format!("{} of {:.0} that takes it back", paint::evidence(evidence.log_e), evidence.threshold);
        rows.push(("evidence", format!("{}: {bad}", evidence.verdict)));
        if let Some(ratio) = &evidence.ratio {
            rows.push(("ratio", paint::ratio(ratio)));
        }
    }
    rows
}

fn gateways(view: &CanaryView) -> String {
    let applied = &view.applied;
    let weight = super::table::weight(view);
    let missing = match &applied.missing[..] {
        [] => String::new(),
        names => format!("; not yet {}", names.join(", ")),
    };
    format!("canary weight {weight} on {} of {}{missing}", applied.gateways, applied.of)
}

/// Returns what to do next, with commands between backticks.
pub(crate) fn advice(view: &CanaryView) -> String {
    let name = match view.namespace.as_str() {
        "default" => view.name.clone(),
        namespace => format!("-n {namespace} {}", view.name),
    };
    let program = if view.in_cluster { "kubectl weir" } else { "weir" };
    let verb = |verb: &str| format!("`{program} {verb} {name}`");
    match (view.phase, view.reason.as_str()) {
        _ if view.stalled => format!("change what the reason {} is about: docs/reasons.md says how", view.reason),
        // The canary serves, or will in a moment: a retry of it is ignored.
        (Phase::Failed, reason) if !view.run.is_empty() && (view.weight > 0.0 || reason == "PromotionFailed") => {
            "the canary serves until the primary is back; put a revision into the target that starts as the primary"
                .to_owned()
        }
        (Phase::Failed, _) if view.paused => {
            format!("{} goes on with new revisions; or {} to analyse the same one again", verb("resume"), verb("retry"))
        }
        _ if view.paused && view.phase.is_rolling_out() => match view.phase {
            Phase::Promoting => format!("wait; {} takes it back", verb("abort")),
            Phase::Finalising => "wait: the traffic returns to the primary".to_owned(),
            _ => format!("{} goes on, {} takes it back", verb("resume"), verb("abort")),
        },
        _ if view.paused => format!("{} goes on with new revisions", verb("resume")),
        (_, "Suspended") => "set spec.suspend to false to go on".to_owned(),
        (Phase::Failed, _) => {
            format!("change the target: a new revision is analysed; or {} to analyse the same one again", verb("retry"))
        }
        (Phase::Initialized | Phase::Succeeded, _) if !view.waiting && !view.overdue => {
            "nothing to do; a changed target starts a rollout".to_owned()
        }
        (_, "WaitingForGate") => format!("open the gate, or {} to promote without it", verb("promote")),
        (_, "Insufficient") => {
            format!("wait for requests, send some, lower analysis.minRequests, or {} without them", verb("promote"))
        }
        (_, "Undecided") => {
            format!(
                "wait: the message says what decides it; {} promotes without it, {} takes it back",
                verb("promote"),
                verb("abort")
            )
        }
        (_, "Observing") => format!(
            "it is yours: {} promotes it, {} takes it back, and observeOnly: false lets Weir go on",
            verb("promote"),
            verb("abort")
        ),
        (_, "NoSyntheticLoad") => "let the load test call the gateway, with a host of the Canary".to_owned(),
        (_, "ModuleTooOld") => "give the gateway that is named the module of this Weir".to_owned(),
        (_, "NoGateway") => "start the gateway: without it no request can be split".to_owned(),
        (_, "NoCaller") => "give the callers a sidecar: without one no request can be split".to_owned(),
        (_, "CanaryNotReady") => "look at the logs of the canary; it is taken back at the progress deadline".to_owned(),
        (_, "FilterOff") => in_time(view, "look whether its routes reach the gateway that is named"),
        (_, "NotAcknowledged" | "WaitingForScrape" | "Draining") => {
            in_time(view, "look at the gateways that are named, and their logs")
        }
        (_, "NotRoutable") => in_time(view, "look at the canary's Service and its endpoints"),
        (_, "PrimaryNotReady" | "Initializing" | "Promoting") => in_time(view, "look at the logs of the primary"),
        (_, "WaitingForAnswer") => in_time(view, "look at the webhook or the metric that is named"),
        (_, "WaitingForRequests") => in_time(view, "look why requests of the canary do not end"),
        (Phase::Initializing | Phase::Terminating | Phase::Terminated, _) => {
            in_time(view, "look at what the message names")
        }
        (Phase::Promoting, _) => format!("wait; {} takes it back", verb("abort")),
        (Phase::Finalising | Phase::Initialized | Phase::Succeeded, _) => "wait".to_owned(),
        _ => format!("wait; {} holds it, {} takes it back", verb("pause"), verb("abort")),
    }
}

/// Says to wait while a reason is young, and then what else to do.
fn in_time(view: &CanaryView, otherwise: &str) -> String {
    if view.overdue { format!("it lasts too long: {otherwise}") } else { format!("wait; if it stays so, {otherwise}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_those_that_reach_this_weir_and_do_something_where_the_canary_stands() {
        let view = |phase, reason: &str| CanaryView {
            namespace: "shop".into(),
            name: "cart".into(),
            phase,
            reason: reason.into(),
            ..CanaryView::default()
        };
        let failed = view(Phase::Failed, "Aborted");
        assert!(advice(&failed).contains("`weir retry -n shop cart`"), "{}", advice(&failed));
        let there = CanaryView { in_cluster: true, ..failed.clone() };
        assert!(advice(&there).contains("`kubectl weir retry -n shop cart`"), "{}", advice(&there));
        let paused = |view: CanaryView| advice(&CanaryView { paused: true, ..view });
        let has = |advice: &str, verbs: &[&str]| {
            ["pause", "resume", "promote", "abort", "retry"]
                .iter()
                .all(|verb| advice.contains(&format!("`weir {verb} ")) == verbs.contains(verb))
        };
        for (advice, verbs) in [
            (paused(failed), &["resume", "retry"][..]),
            (paused(view(Phase::Progressing, "Paused")), &["resume", "abort"]),
            (paused(view(Phase::Promoting, "Promoting")), &["abort"]),
            (paused(view(Phase::Finalising, "Returning")), &[]),
            (paused(view(Phase::Succeeded, "Paused")), &["resume"]),
            (advice(&view(Phase::Finalising, "Returning")), &[]),
        ] {
            assert!(has(&advice, verbs), "{advice} {verbs:?}");
        }
    }

    #[test]
    fn what_lasts_too_long_is_not_waited_for() {
        let young = CanaryView { phase: Phase::Progressing, reason: "FilterOff".into(), ..CanaryView::default() };
        assert!(advice(&young).starts_with("wait; if it stays so, look"), "{}", advice(&young));
        let old = CanaryView { overdue: true, ..young };
        assert!(advice(&old).starts_with("it lasts too long: look"), "{}", advice(&old));
    }

    #[test]
    fn a_retry_is_advised_only_where_the_canary_does_not_serve_in_the_primarys_place() {
        let failed = CanaryView { phase: Phase::Failed, reason: "Aborted".into(), ..CanaryView::default() };
        assert!(advice(&failed).contains("weir retry"), "{}", advice(&failed));
        let serves = CanaryView { run: "r".into(), weight: 100.0, ..failed.clone() };
        assert!(!advice(&serves).contains("retry"), "{}", advice(&serves));
        let drains = CanaryView { weight: 0.0, ..serves };
        assert!(advice(&drains).contains("weir retry"), "{}", advice(&drains));
    }
}
