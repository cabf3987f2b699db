//! The figures of `weir evidence`; its fields are the JSON that programs read.

use serde::Serialize;

use super::EvidenceArgs;
use weir_controller::view::RatioView;
use weir_engine::evidence::{
    Absolute, Comparison, GOOD, NotWorse, Onset, Quantiles, Stretch, budget, excess, forecast, guard, log_e_below,
    log_e_not_worse, ratio_interval,
};

/// Ratios that a forecast is made for: hardly worse, clearly worse, broken.
const FORECAST: [f64; 4] = [2.0, 5.0, 10.0, 100.0];

/// Everything that the counts say. Evidence comes as `e` and as its logarithm: `e` is `null` where it exceeds what a
/// number can hold, `log_e` is always a number.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) alpha: f64,
    /// 1/alpha.
    pub(crate) threshold: f64,
    /// The null: the canary may fail so many times as often.
    pub(crate) ratio: f64,
    pub(crate) epochs: Vec<EpochReport>,
    /// §2, without onset.
    pub(crate) e: Option<f64>,
    pub(crate) log_e: f64,
    /// §12: gives the verdict.
    pub(crate) e_onset: Option<f64>,
    pub(crate) log_e_onset: f64,
    pub(crate) verdict: &'static str,
    pub(crate) not_worse: Vec<NotWorseReport>,
    pub(crate) observed_ratio: Option<RatioView>,
    /// Canary failures beyond its share.
    pub(crate) excess_failures: f64,
    pub(crate) missing: Missing,
    pub(crate) forecast: Vec<ForecastReport>,
    /// Only where `--absolute` is given.
    #[serde(flatten)]
    pub(crate) absolute: Option<AbsoluteReport>,
    pub(crate) limits: Limits,
}

#[derive(Debug, Serialize)]
pub(crate) struct EpochReport {
    pub(crate) weight: f64,
    pub(crate) canary_failures: u64,
    pub(crate) primary_failures: u64,
    /// What the canary's failures would be if it failed as often as the primary, of as many in all.
    pub(crate) canary_share: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct NotWorseReport {
    pub(crate) margin: f64,
    pub(crate) e: Option<f64>,
    pub(crate) log_e: f64,
    pub(crate) threshold: f64,
}

/// The test of the canary's own failure rate.
#[derive(Debug, Serialize)]
pub(crate) struct AbsoluteReport {
    pub p0: f64,
    pub(crate) e_absolute: Option<f64>,
    pub(crate) log_e_absolute: f64,
    pub(crate) verdict_absolute: &'static str,
    /// §5: that the failure rate is below p0.
    pub e_below_p0: Option<f64>,
    pub log_e_below_p0: f64,
    /// Further canary requests, all failing.
    pub(crate) failures_to_bad_absolute: Option<u64>,
}

/// `null`: does not apply, or cannot be reached.
#[derive(Debug, Serialize)]
pub(crate) struct Missing {
    /// Further canary failures in the last epoch, none on the primary.
    pub(crate) canary_failures_to_bad: Option<u64>,
    /// Further failures of both arms in the last epoch, by its weight, as of a canary that is as good as the primary.
    pub(crate) failures_to_good: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ForecastReport {
    pub(crate) ratio: f64,
    pub(crate) canary_failures_median: u64,
    pub canary_failures_p90: u64,
}

/// The guard's tables for the last epoch, in the form of the filter's configuration, and the evidence they stand for.
#[derive(Debug, Serialize)]
pub(crate) struct Limits {
    pub(crate) comparison: Vec<[u32; 2]>,
    pub(crate) absolute: Vec<[u32; 2]>,
    pub(crate) end: [u32; 2],
    pub(crate) comparison_threshold: f64,
    pub(crate) absolute_threshold: f64,
    pub p0: f64,
}

impl Report {
    pub(crate) fn of(args: &EvidenceArgs) -> Self {
        let threshold = 1.0 / args.alpha;
        let test = Comparison { null_ratio: args.ratio };
        let stretch =
            |epoch: &super::Epoch| Stretch { rho: epoch.weight, canary: epoch.canary, primary: epoch.primary };
        let stretches: Vec<Stretch> = args.epochs.iter().map(stretch).collect();
        let (block, onset) = comparison_state(&test, &stretches);
        let absolute = Absolute::at(args.p0);
        let (absolute_block, absolute_onset) = absolute_state(&absolute, args);
        let (log_e, log_e_onset) = (test.log_e(&stretches), onset.log_e());
        let not_worse = NotWorse::MARGINS.map(|margin| (margin, log_e_not_worse(margin, &stretches)));
        let is_good = not_worse.first().is_some_and(|(_, log_e)| *log_e >= GOOD.ln());
        let verdict = verdict(log_e_onset >= threshold.ln(), is_good);
        let last = stretches.last().copied();
        Self {
            alpha: args.alpha,
            threshold,
            ratio: args.ratio,
            epochs: stretches.iter().map(EpochReport::of).collect(),
            e: e(log_e),
            log_e,
            e_onset: e(log_e_onset),
            log_e_onset,
            verdict,
            not_worse: not_worse
                .map(|(margin, log_e)| NotWorseReport { margin, e: e(log_e), log_e, threshold: GOOD })
                .into(),
            observed_ratio: ratio_interval(&stretches).map(RatioView::from),
            excess_failures: excess(&stretches),
            missing: Missing {
                canary_failures_to_bad: last.and_then(|last| {
                    least(|more| onset.log_e_after(&test.log_ratios(last.rho, more, 0)) >= threshold.ln())
                }),
                failures_to_good: last.and_then(|last| failures_to_good(&stretches, last.rho)),
            },
            forecast: last.filter(|_| verdict != "bad").map_or_else(Vec::new, |last| {
                let foreseen = |ratio: f64| forecast(&test, &onset, last.rho, ratio, threshold);
                FORECAST.iter().filter_map(|ratio| Some(ForecastReport::of(*ratio, foreseen(*ratio)?.canary))).collect()
            }),
            absolute: (!args.absolute.is_empty())
                .then(|| AbsoluteReport::of(args, &absolute, &absolute_onset, threshold)),
            limits: Limits::of(args, (&test, &block), last, (&absolute, &absolute_block)),
        }
    }
}

impl EpochReport {
    fn of(stretch: &Stretch) -> Self {
        let all = stretch.canary as f64 + stretch.primary as f64;
        Self {
            weight: stretch.rho,
            canary_failures: stretch.canary,
            primary_failures: stretch.primary,
            canary_share: all * stretch.rho,
        }
    }
}

impl AbsoluteReport {
    fn of(args: &EvidenceArgs, test: &Absolute, onset: &Onset, threshold: f64) -> Self {
        let failures = args.absolute.iter().fold(0u64, |sum, seen| sum.saturating_add(seen.failures));
        let completed = args.absolute.iter().fold(0u64, |sum, seen| sum.saturating_add(seen.completed));
        let (log_e, log_e_below_p0) = (onset.log_e(), log_e_below(test.p0(), failures, completed));
        Self {
            p0: test.p0(),
            e_absolute: e(log_e),
            log_e_absolute: log_e,
            verdict_absolute: verdict(log_e >= threshold.ln(), log_e_below_p0 >= GOOD.ln()),
            e_below_p0: e(log_e_below_p0),
            log_e_below_p0,
            failures_to_bad_absolute: least(|more| onset.log_e_after(&test.log_ratios(more, 0)) >= threshold.ln()),
        }
    }
}

impl ForecastReport {
    fn of(ratio: f64, canary: Quantiles) -> Self {
        Self { ratio, canary_failures_median: canary.median, canary_failures_p90: canary.p90 }
    }
}

impl Limits {
    fn of(
        args: &EvidenceArgs,
        (test, block): (&Comparison, &Onset),
        last: Option<Stretch>,
        (absolute, absolute_block): (&Absolute, &Onset),
    ) -> Self {
        let thresholds = budget(args.alpha, args.gateways);
        let compared = last.map_or_else(guard::Table::default, |last| {
            guard::comparison(test, block, last.rho, thresholds.comparison_guard, guard::ROWS)
        });
        let counted = guard::absolute(absolute, absolute_block, thresholds.absolute_guard, guard::ROWS);
        Self {
            end: [compared.end, counted.end],
            comparison: compared.rows,
            absolute: counted.rows,
            comparison_threshold: thresholds.comparison_guard,
            absolute_threshold: thresholds.absolute_guard,
            p0: absolute.p0(),
        }
    }
}

/// The onset mixture at the start of the last epoch, and after it. Each epoch is one block.
fn comparison_state(test: &Comparison, stretches: &[Stretch]) -> (Onset, Onset) {
    let mut now = Onset::new(Comparison::WEIGHTS.len());
    let mut block = now.clone();
    for Stretch { rho, canary, primary } in stretches {
        now.begin_block(&Comparison::WEIGHTS);
        block.clone_from(&now);
        now.absorb(&test.log_ratios(*rho, *canary, *primary));
    }
    (block, now)
}

/// The same of the absolute test; without counts it stands at the start of its first block.
fn absolute_state(test: &Absolute, args: &EvidenceArgs) -> (Onset, Onset) {
    let mut now = Onset::new(Absolute::WEIGHTS.len());
    now.begin_block(&Absolute::WEIGHTS);
    let mut block = now.clone();
    for (index, seen) in args.absolute.iter().enumerate() {
        if index > 0 {
            now.begin_block(&Absolute::WEIGHTS);
            block.clone_from(&now);
        }
        now.absorb(&test.log_ratios(seen.failures, seen.completed - seen.failures));
    }
    (block, now)
}

fn verdict(bad: bool, good: bool) -> &'static str {
    match (bad, good) {
        (true, _) => "bad",
        (false, true) => "good",
        (false, false) => "insufficient",
    }
}

fn failures_to_good(stretches: &[Stretch], rho: f64) -> Option<u64> {
    let margin = *NotWorse::MARGINS.first()?;
    least(|more| {
        let canary = (more as f64 * rho).round() as u64;
        let further = Stretch { rho, canary, primary: more.saturating_sub(canary) };
        let all: Vec<Stretch> = stretches.iter().copied().chain([further]).collect();
        log_e_not_worse(margin, &all) >= GOOD.ln()
    })
}

fn e(log_e: f64) -> Option<f64> {
    Some(log_e.exp()).filter(|e| e.is_finite())
}

/// Returns the least number that meets a condition which, once met, stays met.
fn least(met: impl Fn(u64) -> bool) -> Option<u64> {
    if met(0) {
        return Some(0);
    }
    let mut high = 1u64;
    while !met(high) {
        high = high.checked_mul(2)?;
    }
    let mut low = high / 2;
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if met(middle) { high = middle } else { low = middle }
    }
    Some(high)
}
