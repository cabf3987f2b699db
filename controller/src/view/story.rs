//! `weir describe canary NAME`: all that is known of it, then its story in events.

use weir_engine::Timestamp;

use super::paint::{self, Paint, Tone};
use super::{ArmView, CanaryDetail, CanaryView, EndedView, table};

/// Column that the values begin in.
const INDENT: usize = 15;

/// Writes all that is known of a Canary.
#[must_use]
pub fn story(detail: &CanaryDetail, now: Timestamp, paint: Paint) -> String {
    let mut out = facts(&detail.view, now, paint);
    out += "Events:\n";
    if detail.events.is_empty() {
        out += "  none yet\n";
    }
    for event in &detail.events {
        let (word, tone) = paint::severity(event.severity);
        let head = format!("  {}  {}  ", paint::clock(event.at, now), paint.text(tone, &format!("{word:7}")));
        // The indent is counted without colours.
        let indent = format!("  {}  {word:7}  ", paint::clock(event.at, now)).chars().count();
        out += &format!("{head}{}\n", paint.wrap(&format!("{} ({})", event.text, event.reason), indent));
    }
    out
}

fn facts(view: &CanaryView, now: Timestamp, paint: Paint) -> String {
    let (mark, tone) = paint::mark(view);
    let since = format!("since {} ({})", paint::clock(view.since, now), paint::age(now.since(view.since)));
    let paused = if view.paused { ", paused" } else { "" };
    let mut rows = vec![
        ("Name", view.name.clone()),
        ("Namespace", view.namespace.clone()),
        ("Status", format!("{} {since}{paused}", paint.text(tone, &format!("{mark} {}", paint::word(view))))),
        ("Reason", format!("{}: {}", view.reason, view.cause())),
        ("Weight", weight(view)),
    ];
    if let Some(step) = &view.step {
        let next = step.next.map_or("promotion".to_owned(), |next| format!("{} %", paint::percent(next)));
        rows.push(("Step", format!("{} of {}, then {next}", step.number, step.of)));
    }
    if !view.run.is_empty() {
        rows.push(("Checks", format!("{} of {} failed", view.checks.failed, view.checks.threshold)));
    }
    rows.push(("Primary", arm(&view.primary)));
    rows.push(("Canary", arm(&view.canary)));
    if let Some(evidence) = &view.evidence {
        let bad = format!("{} of {:.0}", paint::evidence(evidence.log_e), evidence.threshold);
        let tests: Vec<String> =
            evidence.tests.iter().map(|test| format!("{} {}", test.test, paint::evidence(test.log_e))).collect();
        rows.push(("Evidence", format!("{}; that it is worse: {bad} ({})", evidence.verdict, tests.join(", "))));
        if let Some(ratio) = &evidence.ratio {
            rows.push(("Ratio", paint::ratio(ratio)));
        }
    }
    if let Some(ended) = &view.ended {
        rows.push(("Last rollout", last(ended, now)));
    }
    rows.into_iter()
        .map(|(name, value)| format!("{:INDENT$}{}\n", format!("{name}:"), paint.wrap(&value, INDENT)))
        .collect()
}

fn weight(view: &CanaryView) -> String {
    let applied = &view.applied;
    let seen = applied.observed.map_or_else(String::new, |observed| {
        format!("; seen {} % of {}", paint::percent(observed), paint::several(applied.draws, "drawn request"))
    });
    let missing = match &applied.missing[..] {
        [] => String::new(),
        names => format!(" (not yet {})", names.join(", ")),
    };
    let unit = if table::counts_matches(view) { "" } else { " %" };
    format!("{}{unit} asked, on {} of {} gateways{missing}{seen}", table::weight(view), applied.gateways, applied.of)
}

fn arm(arm: &ArmView) -> String {
    let revision = arm.revision.as_deref().unwrap_or("no revision");
    let latency = format!("p50 {}, p99 {}", paint::quantile(arm.p50), paint::quantile(arm.p99));
    format!("{revision}, {}; {}; {latency}", arm.readiness, paint::requests(arm))
}

fn last(ended: &EndedView, now: Timestamp) -> String {
    let took = paint::age(ended.at.since(ended.started));
    let at = paint::clock(ended.at, now);
    format!("{} {} at {at} after {took}: {}: {}", ended.revision, ended.result, ended.reason, ended.message)
}

/// Returns the tone of an outcome.
#[must_use]
pub fn tone(result: weir_engine::Outcome) -> Tone {
    match result {
        weir_engine::Outcome::Promoted => Tone::Good,
        weir_engine::Outcome::Superseded => Tone::Busy,
        weir_engine::Outcome::RolledBack | weir_engine::Outcome::PromotionFailed => Tone::Bad,
    }
}
