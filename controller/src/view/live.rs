//! `weir get canaries -w` on a terminal: what moves, drawn again and again.

use weir_engine::{Phase, Timestamp};

use super::paint::{self, Paint, Tone};
use super::{ArmView, Attention, CanaryList, CanaryView, EvidenceView, table};

const BAR: usize = 20;

/// Writes the whole screen, what needs a person first: a block for each Canary with a rollout, a line for each of the others.
#[must_use]
pub fn screen(list: &CanaryList, now: Timestamp, paint: Paint) -> String {
    let mut out = String::new();
    let mut items: Vec<&CanaryView> = list.items.iter().collect();
    items.sort_by_key(|view| Attention::of(view));
    for view in items {
        out += &head(view, now, paint);
        if view.is_rolling_out() || view.phase == Phase::Failed && !view.run.is_empty() {
            out += &block(view, paint);
        } else if Attention::of(view) == Attention::Person {
            out += &format!("   why      {}\n", paint.wrap(&format!("{}: {}", view.reason, view.cause()), 12));
        }
    }
    if list.items.is_empty() {
        out += "no Canaries yet\n";
    }
    out + &table::problems(list, paint)
}

fn head(view: &CanaryView, now: Timestamp, paint: Paint) -> String {
    let (mark, tone) = paint::mark(view);
    let name = format!("{}/{}", view.namespace, view.name);
    let word = paint::word(view);
    let step = view.step.as_ref().map(|step| format!("  step {} of {}", step.number, step.of)).unwrap_or_default();
    let since = paint::age(now.since(view.started.unwrap_or(view.since)));
    let plain = format!("{name}  {mark} {word}{step}  {since}  ");
    // Why it needs a person has lines of its own.
    let rest = match view.is_rolling_out() || Attention::of(view) == Attention::Person {
        true => String::new(),
        false => paint::fit(view.cause(), paint.column().saturating_sub(plain.chars().count())),
    };
    let line = format!("{}  {}{step}  {since}  {rest}", paint.text(Tone::Strong, &name), {
        paint.text(tone, &format!("{mark} {word}"))
    });
    line.trim_end().to_owned() + "\n"
}

fn block(view: &CanaryView, paint: Paint) -> String {
    let mut lines = vec![
        format!("├─ primary  {}", arm(&view.primary, paint)),
        format!("└─ canary   {}", arm(&view.canary, paint)),
        format!("   asked    {}  {}", paint.bar(Tone::Busy, view.weight / 100.0, BAR), asked(view)),
    ];
    if let Some(observed) = view.applied.observed {
        let bar = paint.bar(Tone::Busy, observed / 100.0, BAR);
        let draws = paint::several(view.applied.draws, "drawn request");
        lines.push(format!("   seen     {bar}  {} % of {draws}", paint::percent(observed)));
    }
    if let Some(evidence) = &view.evidence {
        lines.extend(verdicts(evidence, paint));
    }
    let checks = view.checks;
    lines.push(format!("   checks   {} of {} failed", checks.failed, checks.threshold));
    let now = format!("{}: {}", view.reason, view.cause());
    lines.push(format!("   now      {}", paint.wrap(&now, 12)));
    lines.join("\n") + "\n"
}

fn arm(arm: &ArmView, paint: Paint) -> String {
    let revision = arm.revision.as_deref().map_or("-", paint::short);
    let failed = format!("{} failed ({})", paint::count(arm.failed), paint::share(arm.failed, arm.ended));
    let (p50, p99) = (paint::quantile(arm.p50), paint::quantile(arm.p99));
    let left = if arm.abandoned > 0 { format!("  {} gave up", paint::count(arm.abandoned)) } else { String::new() };
    let line = format!("{revision:8} {:>9} ended  {failed:20}  p50 {p50:7}  p99 {p99}{left}", paint::count(arm.ended));
    if line.chars().count() + 12 > paint.column() { paint.wrap(&line, 12) } else { line }
}

fn asked(view: &CanaryView) -> String {
    let unit = if table::counts_matches(view) { "ing requests" } else { " %" };
    let applied = &view.applied;
    let next = view.step.as_ref().and_then(|step| step.next).map(|next| format!(", next {} %", paint::percent(next)));
    let on = format!("on {} of {} gateways", applied.gateways, applied.of);
    format!("{}{unit}, {on}{}", table::weight(view), next.unwrap_or_default())
}

fn verdicts(evidence: &EvidenceView, paint: Paint) -> Vec<String> {
    let largest = evidence.tests.iter().max_by(|one, other| one.log_e.total_cmp(&other.log_e));
    let of = largest.map(|test| format!(", most of it from {}", test.test)).unwrap_or_default();
    let bad = format!("{} of {:.0}{of}", paint::evidence(evidence.log_e), evidence.threshold);
    let (near_bad, near_good) = evidence.distances();
    let good = format!("{} % of the proof that it is not worse", paint::percent(100.0 * evidence.good.min(1.0)));
    vec![
        format!("   bad      {}  {bad}", paint.bar(Tone::Bad, near_bad, BAR)),
        format!("   good     {}  {good}", paint.bar(Tone::Good, near_good, BAR)),
    ]
}
