//! Does the canary fail more often than the primary? Error attribution (statistics.md §2).
//!
//! A drawn request that failed was sent to the canary with probability θ(r, ρ) = ρ r / (ρ r + 1 - ρ), where ρ is the
//! weight in force when it was assigned and r the ratio of the arms' failure rates. So each failure is a coin whose bias
//! tells r, whatever the level of errors was at that moment; requests that went well need not be counted, and no window
//! has to be chosen. Source: Lindon & Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022 (arXiv
//! 2011.03567); the discrete mixture and the epochs are statistics.md's adaptation.
//!
//! Null: r ≤ R ("null ratio"). With g = r/R and θ_0 = θ(R, ρ) the factors of one failure become
//! θ/θ_0 = g/(1 + θ_0 (g - 1)) on the canary and 1/(1 + θ_0 (g - 1)) on the primary, which neither overflow nor cancel.

use serde::{Deserialize, Serialize};

use super::logspace;

/// How many times worse than the null the alternatives are: dense where detection is slow, wide where it is at once.
const WORSE: [f64; 8] = [1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0];

/// The alternatives of non-inferiority (statistics.md §5): the canary is this much better than the margin.
const BETTER: [f64; 6] = [0.1, 0.25, 0.5, 0.7, 0.8, 0.9];

/// Failures (or other bad outcomes) of drawn requests under one weight.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stretch {
    /// The canary's share of draws, above 0 and below 1; any other is no comparison and counts for nothing.
    pub rho: f64,
    /// On the canary.
    pub canary: u64,
    /// On the primary.
    pub primary: u64,
}

/// The test of `r ≤ null_ratio`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// The largest ratio of the arms' failure rates that is still fine; above 0 and finite.
    pub null_ratio: f64,
}

impl Comparison {
    /// The weights of the alternatives, all equal.
    pub const WEIGHTS: [f64; WORSE.len()] = [1.0 / WORSE.len() as f64; WORSE.len()];

    /// The test whether the canary fails more often at all.
    pub const EQUAL: Self = Self { null_ratio: 1.0 };

    /// Returns the log likelihood ratios of these failures, one for each alternative.
    ///
    /// Zeros, which is no evidence, unless 0 < ρ < 1: at the ends every failure's arm is known beforehand.
    #[must_use]
    pub fn log_ratios(&self, rho: f64, canary: u64, primary: u64) -> [f64; WORSE.len()] {
        log_ratios(self.null_ratio, &WORSE, Stretch { rho, canary, primary })
    }

    /// Returns `ln E` of §2, without onset: the alternatives over all stretches together.
    #[must_use]
    pub fn log_e(&self, stretches: &[Stretch]) -> f64 {
        log_mixture(self.null_ratio, &WORSE, stretches)
    }
}

/// Returns `ln E` against "the canary fails at least `margin` times as often as the primary" (§5, non-inferiority).
#[must_use]
pub fn log_e_not_worse(margin: f64, stretches: &[Stretch]) -> f64 {
    log_mixture(margin, &BETTER, stretches)
}

/// Returns the canary's failures beyond its share: what it would have fewer if it failed as often as the primary.
///
/// Negative for a better canary.
#[must_use]
pub fn excess(stretches: &[Stretch]) -> f64 {
    let judged = stretches.iter().filter(|stretch| stretch.rho > 0.0 && stretch.rho < 1.0);
    judged.map(|Stretch { rho, canary, primary }| *canary as f64 - *primary as f64 * rho / (1.0 - rho)).sum()
}

/// Returns θ(r, ρ): the probability that a failed draw was the canary's.
#[must_use]
pub fn attribution(ratio: f64, rho: f64) -> f64 {
    rho * ratio / (1.0 - rho + rho * ratio)
}

fn log_ratios<const K: usize>(null_ratio: f64, factors: &[f64; K], seen: Stretch) -> [f64; K] {
    if !(seen.rho > 0.0 && seen.rho < 1.0) {
        return [0.0; K];
    }
    let (theta, canary) = (attribution(null_ratio, seen.rho), seen.canary as f64);
    let all = canary + seen.primary as f64;
    factors.map(|g| canary * g.ln() - all * (theta * (g - 1.0)).ln_1p())
}

fn log_mixture<const K: usize>(null_ratio: f64, factors: &[f64; K], stretches: &[Stretch]) -> f64 {
    let mut total = [0.0; K];
    for stretch in stretches {
        for (sum, ratio) in total.iter_mut().zip(log_ratios(null_ratio, factors, *stretch)) {
            *sum += ratio;
        }
    }
    logspace::sum(total.into_iter()) - (K as f64).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretch(rho: f64, canary: u64, primary: u64) -> Stretch {
        Stretch { rho, canary, primary }
    }

    fn e(rho: f64, canary: u64, primary: u64) -> f64 {
        Comparison::EQUAL.log_e(&[stretch(rho, canary, primary)]).exp()
    }

    #[test]
    fn evidence_has_the_values_of_statistics_2() {
        for (canary, primary, values) in [
            (1, 0, ["11.8937", "5.9306", "4.0834", "1.5681"]),
            (2, 0, ["398.7072", "64.0074", "24.6099", "2.5566"]),
            (3, 0, ["17549.1494", "876.9829", "180.6328", "4.3126"]),
            (5, 95, ["16.5404", "0.2231", "0.0398", "0.0000"]),
        ] {
            let seen = [0.01, 0.05, 0.1, 0.5].map(|rho| format!("{:.4}", e(rho, canary, primary)));
            assert_eq!(seen, values, "({canary}, {primary})");
        }
    }

    #[test]
    fn weights_that_change_with_the_error_rate_do_not_confound() {
        // Pooled, the canary has a third of the failures at a mean weight far below: Simpson's paradox.
        let log_e = Comparison::EQUAL.log_e(&[stretch(0.01, 1, 99), stretch(0.5, 1000, 1000)]);
        assert_eq!(format!("{log_e:.4}"), "-14.5285");
    }

    #[test]
    fn failures_to_a_verdict_are_those_of_statistics_2() {
        let needed = |rho, alpha: f64| (0..).find(|x| e(rho, *x, 0) >= 1.0 / alpha).unwrap();
        assert_eq!([0.01, 0.05, 0.1, 0.2, 0.5].map(|rho| needed(rho, 0.01)), [2, 3, 3, 4, 9]);
        assert_eq!([0.01, 0.05, 0.1, 0.2, 0.5].map(|rho| needed(rho, 0.001)), [3, 4, 4, 6, 12]);
    }

    #[test]
    fn figures_of_the_status_sketch_are_the_formulas() {
        let seen = [stretch(0.05, 14, 214)];
        assert_eq!(format!("{:.4}", e(0.05, 14, 214)), "0.3287");
        assert_eq!(format!("{:.4}", log_e_not_worse(2.0, &seen).exp()), "2.4676");
        assert_eq!(format!("{:.2}", log_e_not_worse(3.0, &seen).exp()), "150.27");
        assert_eq!(format!("{:.4}", excess(&seen)), format!("{:.4}", 14.0 - 214.0 * 5.0 / 95.0));
    }

    #[test]
    fn non_inferiority_needs_the_failures_of_statistics_5() {
        // The table's canary is exactly as good as the primary: a share ρ of n failures, not rounded to whole ones.
        let needed = |margin: f64, rho: f64| {
            let enough = |n: &f64| {
                let theta = attribution(margin, rho);
                let terms = BETTER.map(|g: f64| n * rho * g.ln() - n * (theta * (g - 1.0)).ln_1p());
                logspace::sum(terms.into_iter()) - 6f64.ln() >= 20f64.ln()
            };
            (1..).map(f64::from).find(enough).unwrap()
        };
        assert_eq!([0.05, 0.1, 0.5].map(|rho| needed(1.5, rho)), [968.0, 520.0, 213.0]);
        assert_eq!([0.05, 0.1, 0.5].map(|rho| needed(2.0, rho)), [303.0, 165.0, 74.0]);
        assert_eq!([0.05, 0.1, 0.5].map(|rho| needed(3.0, rho)), [104.0, 59.0, 31.0]);
    }

    #[test]
    fn gateways_may_be_summed_and_failures_come_in_any_order() {
        let test = Comparison { null_ratio: 2.0 };
        let whole = test.log_ratios(0.07, 12, 90);
        let mut parts = [0.0; 8];
        for (canary, primary) in [(0, 31), (11, 0), (1, 59)] {
            let part = test.log_ratios(0.07, canary, primary);
            parts.iter_mut().zip(part).for_each(|(sum, ratio)| *sum += ratio);
        }
        assert!(whole.iter().zip(parts).all(|(one, other)| (one - other).abs() < 1e-9));
    }

    #[test]
    fn a_burst_of_one_client_on_the_canary_alarms_and_on_the_primary_does_not() {
        // The stated limit of the method (§2, trap a): with sticky routing one draw decides for the whole burst, so this
        // would happen with probability ρ. Hence only independent draws are compared.
        assert!(e(0.05, 5, 0) > 400.0 && e(0.05, 0, 5) < 1.0);
    }

    #[test]
    fn no_comparison_without_two_arms() {
        for rho in [0.0, 1.0, -0.1, 1.1, f64::NAN] {
            assert_eq!(Comparison::EQUAL.log_ratios(rho, 7, 7), [0.0; 8]);
        }
    }

    #[test]
    fn the_largest_counts_and_ratios_stay_finite() {
        for (rho, canary, primary) in [(1e-300, u64::MAX, 0), (0.5, 0, u64::MAX), (1.0 - 1e-16, u64::MAX, u64::MAX)] {
            for null_ratio in [1e-300, 1.0, 1e300] {
                let log_e = Comparison { null_ratio }.log_e(&[stretch(rho, canary, primary)]);
                assert!(log_e.is_finite(), "{rho} {canary} {primary} {null_ratio}");
            }
        }
    }

    #[test]
    fn each_factor_of_a_failure_is_fair_on_the_null_and_unfavourable_below_it() {
        for rho in [0.0001, 0.05, 0.5, 0.999] {
            for null_ratio in [0.5, 1.0, 2.0] {
                let test = Comparison { null_ratio };
                let (hit, miss) = (test.log_ratios(rho, 1, 0), test.log_ratios(rho, 0, 1));
                for k in 0..WORSE.len() {
                    let mean = |theta: f64| theta * hit[k].exp() + (1.0 - theta) * miss[k].exp();
                    assert!((mean(attribution(null_ratio, rho)) - 1.0).abs() < 1e-12);
                    assert!(mean(attribution(null_ratio / 2.0, rho)) < 1.0);
                }
            }
        }
    }
}
