//! How a release would go, by the engine's own formulas and without a play: how long it takes at least, how many requests it needs,
//! and what a bad revision costs until it is taken back.
//!
//! Exact for one gateway process and a primary that fails as often as is said. Several processes share leases, which cost a failure or
//! two more (docs/evidence.md).

use weir_controller::view::paint;
use weir_engine::evidence::{Absolute, Comparison, Onset, budget, ceiling, forecast, guard};
use weir_engine::{Plan, Source, Span, Step, WebhookKind};

use crate::simulate::forecast::number;

/// How often the primary is taken to fail where it takes failures of both to tell them apart.
const PRIMARY: f64 = 0.001;
/// How many times as often a bad revision fails: clearly worse, broken.
const RATIOS: [f64; 2] = [10.0, 3.0];
/// An epoch is judged in blocks of this length, each of which begins its tests anew (docs/evidence.md).
const BLOCK: Span = Span::seconds(30);

/// Returns the lines of a forecast, the first without an indent.
pub(super) fn lines(plan: &Plan) -> Vec<String> {
    if plan.suspend {
        let after = lines(&Plan { suspend: false, ..plan.clone() });
        return ["starts nothing while spec.suspend is true; after that:".into()].into_iter().chain(after).collect();
    }
    if plan.observe_only {
        return observed(plan);
    }
    if plan.skip_analysis {
        return vec!["promotes at once, without analysis".into()];
    }
    let judged: Vec<&Step> = plan.steps.iter().filter(|step| step.judged).collect();
    let ends = judged.first().zip(judged.last());
    let mut about = vec![("gates", gates(plan))];
    about.push(("requests", ends.and_then(|(first, last)| requests(plan, first, last))));
    about.extend(ends.map(|(first, last)| ("failures", Some(all_fail(plan, first, last)))));
    about.extend(ends.into_iter().flat_map(|(first, _)| some_fail(plan, first)).map(|line| ("", Some(line))));
    about.push(("bounds", bounds(plan)));
    let line = |(what, line): (&str, Option<String>)| Some(format!("{what:<9} {}", line?));
    [course(plan)].into_iter().chain(about.into_iter().filter_map(line)).collect()
}

/// Says how a release goes that people decide on: it stays at its first step.
fn observed(plan: &Plan) -> Vec<String> {
    let first = plan.steps.first();
    let at = first.map(place).unwrap_or_default();
    let said = format!("observed{at}: nothing is advanced, promoted or taken back but by a person");
    let requests = first.filter(|step| step.judged).and_then(|step| requests(plan, step, step));
    [said].into_iter().chain(requests.map(|line| format!("requests  {line}"))).collect()
}

/// Says which steps there are, and how long they take.
fn course(plan: &Plan) -> String {
    let steps = plan.steps.len();
    let times = |n: usize| Span(plan.interval.0.saturating_mul(u64::try_from(n).unwrap_or(u64::MAX)));
    let mut weights: Vec<String> = plan.steps.iter().map(|step| paint::percent(step.weight.percent())).collect();
    weights.dedup();
    let how = match plan.steps.iter().any(|step| step.iteration.is_some()) {
        true => format!("{steps} checks"),
        false => format!("weights {} %", weights.join(", ")),
    };
    let gradual = plan.promotion_step.map_or_else(String::new, |step| {
        let top = plan.steps.last().map_or(0.0, |step| step.weight.percent());
        let back = ((100.0 - top) / step.percent()).ceil().max(0.0) as usize;
        format!(", and {} more until the primary has all requests", paint::age(times(back)))
    });
    format!("{how}; promoted after {} at least{gradual}", paint::age(times(steps)))
}

/// Says who else must say yes.
fn gates(plan: &Plan) -> Option<String> {
    const GATES: [WebhookKind; 3] =
        [WebhookKind::ConfirmRollout, WebhookKind::ConfirmTrafficIncrease, WebhookKind::ConfirmPromotion];
    let names: Vec<&str> =
        GATES.into_iter().flat_map(|kind| plan.webhooks(kind)).map(|webhook| webhook.name.as_str()).collect();
    (!names.is_empty()).then(|| format!("waits for the yes of {}", names.join(", ")))
}

/// Says how many requests a check of the built-in metrics needs, and at what rate they come in time.
fn requests(plan: &Plan, first: &Step, last: &Step) -> Option<String> {
    let built_in = plan.checks.iter().any(|check| check.source != Source::Template);
    if !built_in || plan.min_requests == 0 {
        return None;
    }
    let rate = |step: &Step| plan.min_requests as f64 / share(step) / (plan.interval.0 as f64 / 1000.0);
    let at = |step: &Step| format!("{}/s{}", number(round(rate(step))), place(step));
    let rates = if place(first) == place(last) { at(first) } else { format!("{}, {}", at(first), at(last)) };
    let fewer = match plan.insufficient_deadline {
        Some(deadline) => format!("with fewer it waits, {} at most", paint::age(deadline)),
        None => "with fewer it waits".into(),
    };
    let (least, interval) = (paint::count(plan.min_requests), plan.interval);
    Some(format!("{least} of the canary in each step, after {interval}: {rates}; {fewer}"))
}

/// Says what a revision costs of which every request fails.
fn all_fail(plan: &Plan, first: &Step, last: &Step) -> String {
    let blocks = |until: usize| {
        let each = plan.interval.0.div_ceil(BLOCK.0).max(1);
        each.saturating_mul(u64::try_from(until).unwrap_or(u64::MAX))
    };
    let limit = |step: &Step, before: u64| {
        let count = guarded(plan, step, before).map_or_else(|| "never".to_owned(), |n| n.to_string());
        format!("{count}{}", place(step))
    };
    let mut said = limit(first, 0);
    if place(first) != place(last) {
        said += &format!(", {}", limit(last, blocks(plan.steps.len().saturating_sub(1))));
    }
    format!("every request fails: taken back after {said}")
}

/// Returns how many failures, one after the other, the guard of one gateway takes for proof, after so many blocks without any.
fn guarded(plan: &Plan, step: &Step, before: u64) -> Option<u32> {
    let thresholds = budget(plan.alpha, 1);
    let begun = |weights: &[f64]| {
        let mut onset = Onset::new(weights.len());
        // A prior that is spread over a thousand blocks is spread as thin as it will be.
        (0..=before.min(1000)).for_each(|_| onset.begin_block(weights));
        onset
    };
    let compared = guard::comparison(
        &Comparison::EQUAL,
        &begun(&Comparison::WEIGHTS),
        step.weight.percent() / 100.0,
        thresholds.comparison_guard,
        1,
    );
    let p0 = Absolute::at(ceiling(plan.allowed_failures().map(|share| 1.0 - share), 0, 0));
    let absolute = guard::absolute(&p0, &begun(&Absolute::WEIGHTS), thresholds.absolute_guard, 1);
    let least = |table: &guard::Table| table.rows.first().map(|row| row[1]);
    least(&compared).into_iter().chain(least(&absolute)).min()
}

/// Says how long the comparison takes with revisions that are not as bad as that.
fn some_fail(plan: &Plan, step: &Step) -> Vec<String> {
    let rho = step.weight.percent() / 100.0;
    let mut onset = Onset::new(Comparison::WEIGHTS.len());
    onset.begin_block(&Comparison::WEIGHTS);
    let threshold = budget(plan.alpha, 1).comparison_guard;
    let of = |ratio: f64| {
        let found = forecast(&Comparison::EQUAL, &onset, rho, ratio, threshold)?;
        let (canary, all) = (found.canary, found.requests(PRIMARY));
        let rate = number(round(all.median as f64 / (plan.interval.0 as f64 / 1000.0)));
        Some([
            format!(
                "{}x as often as a primary at 0.1 %: after {}{} (9 of 10: {})",
                number(ratio),
                canary.median,
                place(step),
                canary.p90
            ),
            format!(
                "  in {} requests (9 of 10: {}), which come in one step at {rate}/s",
                paint::count(all.median),
                paint::count(all.p90)
            ),
        ])
    };
    RATIOS.into_iter().filter_map(of).flatten().collect()
}

/// Says what is so of a bound that is neither met nor shown to be broken.
fn bounds(plan: &Plan) -> Option<String> {
    let judged = plan.steps.iter().any(|step| step.judged)
        && !plan.plain_bounds
        && plan.checks.iter().any(|check| check.source != Source::Template);
    judged.then(|| {
        let limit = plan.undecided_limit();
        let most = paint::age(Span(plan.interval.0.saturating_mul(u64::from(limit))));
        format!("neither met nor shown to be broken: a step waits for {limit} checks at most, {most}")
    })
}

/// Returns the canary's share of the requests that a step is about.
fn share(step: &Step) -> f64 {
    match step.weight.percent() / 100.0 {
        share if share > 0.0 => share,
        // Those that match, or those of the load test, are all the canary's.
        _ => 1.0,
    }
}

/// Says of which requests the numbers of a step are.
fn place(step: &Step) -> String {
    let weight = paint::percent(step.weight.percent());
    match (step.has_users(), step.matching, step.only_matched) {
        (false, ..) => " of the load test".into(),
        (_, true, _) if weight == "0" => " that match".into(),
        (_, true, _) => format!(" at {weight} % (and all that match)"),
        (.., true) => format!(" at {weight} % of what matches"),
        _ => format!(" at {weight} %"),
    }
}

/// Returns a rate with as many digits as say something.
fn round(rate: f64) -> f64 {
    let unit = 10f64.powf(rate.abs().max(1e-9).log10().floor() - 1.0);
    let rounded = (rate / unit).ceil() * unit;
    // What a binary fraction adds behind the tenth digit is nobody's number.
    (rounded * 1e9).round() / 1e9
}
