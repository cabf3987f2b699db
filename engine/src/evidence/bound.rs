//! Is a bound that the user declared broken? Wald's likelihood ratios (1945) for eight failure rates above it, mixed over them and,
//! by [`super::Onset`], over the moment from which on it is broken.
//!
//! A plain comparison of a rate with its bound takes a rate of a few requests for the revision's: with 0.5 % failures and a bound
//! of 1 % it takes back every third good release. Here inside, outside and *not known* are three answers, and a bound is broken
//! only where that is shown. The grid is finer than [`super::Absolute`]'s, since a declared bound is met closely: a canary at 1.25
//! times the bound is to be found, and not only one at twice of it.

use super::absolute::{CAP, FLOOR, llr};

/// How many times the bound the alternatives are.
const WORSE: [f64; 8] = [1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0];

/// The share of requests that may be slower than a bound on the 99th percentile.
pub const SLOW: f64 = 0.01;

/// The test whether more than a share p of the requests break a bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    p: f64,
}

impl Bound {
    /// The weights of the alternatives, all equal.
    pub const WEIGHTS: [f64; WORSE.len()] = [1.0 / WORSE.len() as f64; WORSE.len()];

    /// Returns the test against this share, moved into what can be tested: from one in a million to 99 %, at which it is silent.
    #[must_use]
    pub fn at(p: f64) -> Self {
        Self { p: if p.is_nan() { CAP } else { p.clamp(FLOOR, CAP) } }
    }

    /// Returns the log likelihood ratios of so many requests that break the bound and so many others, one for each alternative.
    #[must_use]
    pub fn log_ratios(&self, broken: u64, others: u64) -> [f64; WORSE.len()] {
        WORSE.map(|factor| {
            let (one, other) = llr(self.p, (self.p * factor).min(CAP));
            broken as f64 * one + others as f64 * other
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Onset;

    #[test]
    fn each_factor_of_a_request_is_fair_on_the_bound_and_unfavourable_inside() {
        for p in [FLOOR, 0.001, 0.01, 0.05, 0.1, 0.4, 0.98, CAP] {
            let test = Bound::at(p);
            for (one, other) in test.log_ratios(1, 0).into_iter().zip(test.log_ratios(0, 1)) {
                let mean = |p: f64| p * one.exp() + (1.0 - p) * other.exp();
                assert!((mean(p) - 1.0).abs() < 1e-9 && mean(p / 2.0) <= 1.0 && mean(0.0) <= 1.0, "{p}");
            }
        }
    }

    #[test]
    fn evidence_of_requests_has_a_mean_of_one_on_the_bound_whatever_was_seen_before() {
        // Exact: the mean of E over the outcomes of the next block, binomial, from three different pasts.
        let (p, n) = (0.01f64, 40u64);
        for (broken, others) in [(0, 0), (5, 200), (0, 3000)] {
            let mut onset = Onset::new(8);
            onset.begin_block(&Bound::WEIGHTS);
            onset.absorb(&Bound::at(p).log_ratios(broken, others));
            let before = onset.log_e().exp();
            onset.begin_block(&Bound::WEIGHTS);
            let mut probability = (1.0 - p).powi(40);
            let mut mean = 0.0;
            for k in 0..=n {
                mean += probability * onset.log_e_after(&Bound::at(p).log_ratios(k, n - k)).exp();
                probability *= (n - k) as f64 / (k + 1) as f64 * p / (1.0 - p);
            }
            assert!((mean / before - 1.0).abs() < 1e-9, "{mean} after {before}");
        }
    }

    #[test]
    fn bounds_at_the_ends_still_make_a_test() {
        assert_eq!(Bound::at(1.0).log_ratios(1000, 3), [0.0; 8]);
        assert_eq!(Bound::at(f64::NAN).log_ratios(1000, 3), [0.0; 8]);
        let mut onset = Onset::new(8);
        onset.begin_block(&Bound::WEIGHTS);
        // A bound of 100 %: one in a million, of which two are a verdict.
        assert!(onset.log_e_after(&Bound::at(0.0).log_ratios(1, 50)).exp() < 400.0);
        assert!(onset.log_e_after(&Bound::at(0.0).log_ratios(2, 50)).exp() > 400.0);
    }
}
