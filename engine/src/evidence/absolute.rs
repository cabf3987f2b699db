//! Does the canary fail more often than anything should? The absolute test (statistics.md §12, likelihood ratios of §4).
//!
//! Comparison is silent when it has nothing to compare with: no draws (A/B, blue/green), a weight near 1. This test needs
//! only the canary: failures against completed requests of every cohort, null p ≤ p0. Wald's likelihood ratio (1945) for
//! five alternatives above p0, mixed over them and over the onset ([`super::Onset`]). It assumes that a failure rate does
//! not drift above p0 by itself, hence p0 is generous ([`ceiling`]) and follows the primary: an outage of both arms raises
//! p0 with the next block.
//!
//! Where the user declared a bound, the controller judges by [`super::Bound`], whose grid is finer; the guards' tables are made of
//! this one everywhere.

/// How many times p0 the alternatives are.
const WORSE: [f64; 5] = [2.0, 5.0, 10.0, 30.0, 100.0];

/// The largest failure rate that an alternative may claim, so that one success never disproves all of them. A p0 of as
/// much leaves no alternative: the test is silent.
pub(super) const CAP: f64 = 0.99;

/// The least p0: a success-rate bound of 100 % cannot mean "no failure ever" to a test, so it means one in a million; two
/// failures are then a verdict, one is not.
pub(super) const FLOOR: f64 = 1e-6;

/// p0 without a bound of the user's and with a good primary: below 5 % failures nobody is paged before the comparison,
/// which is the sharper test, has spoken.
const DEFAULT_CEILING: f64 = 0.05;

/// How much worse than the primary's upper confidence bound p0 is.
const MARGIN: f64 = 3.0;

/// Requests that a primary is taken to have served where fewer were counted, the others without a failure. So p0 is below 15 %
/// for a primary that nobody has seen, and four failures without a success are a verdict of the one gateway pod's guard (five
/// for up to ten pods), instead of none ever. The price is said in [`ceiling`].
const PRIOR: u64 = 52;

/// Normal quantile of the one-sided 95 % bound on the primary's rate. [`MARGIN`] does the rest: p0 is below the primary's true
/// rate with probability below 0.001, at any number of requests from [`PRIOR`] on, and from the first one on where that rate is
/// below 14 % (a test computes it exactly).
const Z: f64 = 1.6448536269514722;

/// The test of `p ≤ p0`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Absolute {
    p0: f64,
}

impl Absolute {
    /// The weights of the alternatives, all equal.
    pub const WEIGHTS: [f64; WORSE.len()] = [1.0 / WORSE.len() as f64; WORSE.len()];

    /// Returns the test against this failure rate, moved into what can be tested: from one in a million to 99 %.
    #[must_use]
    pub fn at(p0: f64) -> Self {
        // Not a number means that nothing is known: the silent end.
        Self { p0: if p0.is_nan() { CAP } else { p0.clamp(FLOOR, CAP) } }
    }

    /// Returns the failure rate that is still fine.
    #[must_use]
    pub fn p0(&self) -> f64 {
        self.p0
    }

    /// Returns the log likelihood ratios of so many failed and so many other completed requests, one for each alternative.
    #[must_use]
    pub fn log_ratios(&self, failures: u64, others: u64) -> [f64; WORSE.len()] {
        WORSE.map(|factor| {
            let (failure, other) = llr(self.p0, (self.p0 * factor).min(CAP));
            failures as f64 * failure + others as f64 * other
        })
    }
}

/// Returns Wald's log likelihood ratios of p1 against p0: of one failure, of one success (statistics.md §4).
pub(super) fn llr(p0: f64, p1: f64) -> (f64, f64) {
    ((p1 / p0).ln(), (-(p1 - p0) / (1.0 - p0)).ln_1p())
}

/// Returns p0 for the next block: `1 - bound` for a user's bound on the success rate (a fraction), otherwise the larger of
/// 5 % and 3 times the upper confidence bound of the primary's failure rate so far.
///
/// The bound is Wilson's score bound (1927), one-sided 95 %, of the counted requests, or of 52 where there are fewer: nothing
/// is counted at rest, and a table made of nothing must not be silent. So α is kept from the first request on for every
/// primary that fails less than 14 % of its requests, and for worse ones once 52 of theirs were counted; what is seen of them
/// before opens new blocks.
#[must_use]
pub fn ceiling(success_rate: Option<f64>, primary_failures: u64, primary_completed: u64) -> f64 {
    let p0 = match success_rate {
        Some(bound) => 1.0 - bound,
        None => DEFAULT_CEILING.max(MARGIN * upper_bound(primary_failures, primary_completed)),
    };
    Absolute::at(p0).p0
}

fn upper_bound(failures: u64, completed: u64) -> f64 {
    let n = completed.max(PRIOR) as f64;
    let p = (failures as f64 / n).min(1.0);
    let spread = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    (p + Z * Z / (2.0 * n) + spread) / (1.0 + Z * Z / n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Onset;

    fn first_block(p0: f64, failures: u64, others: u64) -> f64 {
        let mut onset = Onset::new(5);
        onset.begin_block(&Absolute::WEIGHTS);
        onset.log_e_after(&Absolute::at(p0).log_ratios(failures, others)).exp()
    }

    #[test]
    fn likelihood_ratios_and_sample_numbers_are_those_of_statistics_4() {
        // (p0, p1, ratio of a failure, of a success, mean requests to a decision if good, if bad), α 1 %, β 5 %.
        let (alpha, beta) = (0.01f64, 0.05f64);
        let (abort, accept) = (((1.0 - beta) / alpha).ln(), (beta / (1.0 - alpha)).ln());
        assert_eq!((format!("{abort:.4}"), format!("{accept:.4}")), ("4.5539".into(), "-2.9857".into()));
        for (p0, p1, failure, success, good, bad) in [
            (0.001, 0.01, "2.3026", -0.00905, 432.0, 297.0),
            (0.001, 0.005, "1.6094", -0.004012, 1213.0, 1030.0),
            (0.01, 0.05, "1.6094", -0.041243, 118.0, 101.0),
            (0.01, 0.02, "0.6931", -0.010152, 933.0, 1067.0),
        ] {
            let (u, d) = llr(p0, p1);
            assert_eq!(format!("{u:.4}"), failure);
            assert!((d - success).abs() < 1e-6, "{p0} {p1}: {d}");
            let if_bad = ((1.0 - beta) * abort + beta * accept) / (p1 * u + (1.0 - p1) * d);
            let if_good = ((1.0 - alpha) * accept + alpha * abort) / (p0 * u + (1.0 - p0) * d);
            assert_eq!((if_good.round(), if_bad.round()), (good, bad), "{p0} {p1}");
        }
        let (u, d) = llr(0.001, 0.01);
        assert!(u < abort && 2.0 * u >= abort, "two failures at the start abort");
        assert!(329.0 * d > accept && 330.0 * d <= accept, "330 clean requests accept");
    }

    #[test]
    fn three_failures_are_a_verdict_when_every_request_fails() {
        for threshold in [100.0, 200.0, 400.0] {
            assert!(first_block(0.05, 2, 0) < threshold && first_block(0.05, 3, 0) >= threshold);
        }
    }

    #[test]
    fn each_factor_of_a_request_is_fair_on_the_null_and_unfavourable_below_it() {
        for p0 in [FLOOR, 0.001, 0.05, 0.4, 0.98, CAP] {
            let test = Absolute::at(p0);
            for (failure, other) in test.log_ratios(1, 0).into_iter().zip(test.log_ratios(0, 1)) {
                let mean = |p: f64| p * failure.exp() + (1.0 - p) * other.exp();
                assert!((mean(p0) - 1.0).abs() < 1e-9 && mean(p0 / 2.0) <= 1.0, "{p0}");
            }
        }
    }

    #[test]
    fn bounds_at_the_ends_still_make_a_test() {
        assert_eq!(ceiling(Some(0.99), 0, 0), 1.0 - 0.99);
        // 100 %: one failure is no verdict, two are.
        assert_eq!(ceiling(Some(1.0), 0, 0), FLOOR);
        assert!(first_block(FLOOR, 1, 0) < 100.0 && first_block(FLOOR, 2, 0) >= 400.0);
        // 0 %, and a primary that fails most requests: silent.
        for p0 in [ceiling(Some(0.0), 0, 0), ceiling(None, 70, 100), f64::NAN, 2.0] {
            assert_eq!(Absolute::at(p0).log_ratios(1000, 3), [0.0; 5]);
        }
    }

    #[test]
    fn ceiling_follows_a_failing_primary_and_rests_at_five_percent_on_a_good_one() {
        assert_eq!(ceiling(None, 0, 1000), 0.05);
        assert_eq!(ceiling(None, 50, 100_000), 0.05);
        let failing = ceiling(None, 1000, 10_000);
        assert!(failing > 0.3 && failing < 0.32, "{failing}");
        assert!(ceiling(None, 2, 10) > 0.3, "ten requests prove little");
    }

    #[test]
    fn a_primary_that_nobody_has_seen_leaves_no_guard_silent() {
        let p0 = ceiling(None, 0, 0);
        assert!((0.14..0.15).contains(&p0), "{p0}");
        // One pod's guard at 4/α, those of more at 4 N/α, the controller at 4/α or 2/α.
        for (threshold, all_fail) in [(200.0, 4), (400.0, 4), (1200.0, 5), (4000.0, 5)] {
            assert!(first_block(p0, all_fail, 0) >= threshold, "{threshold}");
        }
    }

    #[test]
    fn a_primary_that_nobody_has_seen_costs_no_false_verdict_below_its_prior() {
        // Exact: the probability that a canary as good as its primary ever meets the guard within 60 requests.
        for p in [0.01f64, 0.05, 0.1, 0.14] {
            let (mut alive, mut tripped) = (vec![1.0], 0.0);
            for n in 1..=60u64 {
                let mut next = vec![0.0; alive.len() + 1];
                for (k, probability) in alive.iter().enumerate() {
                    next[k] += probability * (1.0 - p);
                    next[k + 1] += probability * p;
                }
                for (k, probability) in next.iter_mut().enumerate() {
                    if first_block(ceiling(None, 0, 0), k as u64, n - k as u64) >= 400.0 {
                        tripped += std::mem::take(probability);
                    }
                }
                alive = next;
            }
            assert!(tripped <= 1.0 / 400.0, "{p}: {tripped}");
        }
    }

    #[test]
    fn ceiling_is_almost_never_below_the_primarys_true_rate() {
        for p in [0.055f64, 0.08, 0.14, 0.3, 0.6, 0.9] {
            let counted = if p < 0.145 { 0 } else { 52 };
            for n in (counted..400).chain((400..4000).step_by(200)) {
                // Binomial probabilities by their recurrence, as long as the ceiling stays below p.
                let (mut probability, mut below) = ((1.0 - p).powi(n), 0.0);
                for k in 0..=n {
                    if ceiling(None, k.unsigned_abs().into(), n.unsigned_abs().into()) >= p {
                        break;
                    }
                    below += probability;
                    probability *= f64::from(n - k) / f64::from(k + 1) * p / (1.0 - p);
                }
                assert!(below < 0.001, "p {p} n {n}: {below}");
            }
        }
    }
}
