//! Was the split what was asked for? (statistics.md §3)
//!
//! Requests are counted at the choice of their arm, so with weight ρ in force each is the canary's with probability ρ, and
//! nothing else. An alarm means a gateway that runs another weight, or requests that went around the draw. Two-sided,
//! conjugate form of Lindon & Malek (NeurIPS 2022, arXiv 2011.03567): for x of x + y requests
//!
//! ```text
//! E = B(a + x, b + y) / B(a, b) / (ρ^x (1-ρ)^y),   a = ρ, b = 1 - ρ
//! ```
//!
//! The Beta belongs to one ρ. Blocks that follow each other with the same weight are one stretch with one Beta, however
//! many there are, so that a small deviation adds up; a new weight begins a new Beta, whose factors depend on the past
//! through nothing but ρ, so the product stays an e-process. Stretches are the blocks of an [`Onset`]: a gateway that goes
//! astray late is not hidden by the good splits before. Within a stretch the order of requests does not matter, so counts
//! that a scrape brings late find their place.

use serde::{Deserialize, Serialize};

use super::{Onset, beta};

/// The test's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Split {
    /// The evidence of the stretches before, this one's share of the prior included.
    before: Onset,
    /// The stretch under way.
    rho: f64,
    canary: u64,
    primary: u64,
}

impl Default for Split {
    fn default() -> Self {
        Self { before: Onset::new(1), rho: 0.0, canary: 0, primary: 0 }
    }
}

impl Split {
    /// Takes in the draws of one block. Blocks come in their order. No evidence unless 0 < ρ < 1.
    pub fn absorb(&mut self, rho: f64, canary: u64, primary: u64) {
        if !(rho > 0.0 && rho < 1.0) {
            return;
        }
        // Equal weights are the same number, not only close to each other: both come from one integer.
        #[expect(clippy::float_cmp)]
        if rho != self.rho {
            self.before.absorb(&[self.log_factor()]);
            self.before.begin_block(&[1.0]);
            (self.rho, self.canary, self.primary) = (rho, 0, 0);
        }
        self.canary = self.canary.saturating_add(canary);
        self.primary = self.primary.saturating_add(primary);
    }

    /// Returns the logarithm of the evidence that some requests were not split as asked.
    #[must_use]
    pub fn log_e(&self) -> f64 {
        self.before.log_e_after(&[self.log_factor()])
    }

    fn log_factor(&self) -> f64 {
        log_e_split(self.rho, self.canary, self.primary)
    }
}

/// Returns `ln E` of the conjugate form for one weight; 0 unless 0 < ρ < 1.
fn log_e_split(rho: f64, canary: u64, primary: u64) -> f64 {
    if !(rho > 0.0 && rho < 1.0) || (canary, primary) == (0, 0) {
        return 0.0;
    }
    beta::log_bayes_factor((rho, 1.0 - rho), (canary as f64, primary as f64), rho)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use rand_distr::{Binomial, Distribution};

    use super::*;

    #[test]
    fn evidence_has_the_values_of_statistics_2_for_the_conjugate_form() {
        assert_eq!(format!("{:.1}", log_e_split(0.05, 3, 0).exp()), "143.5");
        assert_eq!(format!("{:.4}", log_e_split(0.5, 60, 40).exp()), "0.5961");
    }

    #[test]
    fn blocks_of_one_weight_are_one_stretch_however_they_are_cut() {
        let mut whole = Split::default();
        whole.absorb(0.05, 130, 2000);
        let mut cut = Split::default();
        for (canary, primary) in [(30, 500), (0, 0), (100, 1500)] {
            cut.absorb(0.05, canary, primary);
        }
        assert_eq!(whole, cut);
        let json = serde_json::to_string(&cut).unwrap();
        assert_eq!(serde_json::from_str::<Split>(&json).unwrap(), cut);
    }

    #[test]
    fn a_weight_that_is_no_split_is_no_evidence() {
        let mut split = Split::default();
        split.absorb(0.0, 0, 1000);
        split.absorb(1.0, 1000, 0);
        assert_eq!(split, Split::default());
        assert_eq!(split.log_e(), 0.0);
    }

    #[test]
    fn a_gateway_that_never_took_the_new_weight_raises_the_alarm_after_good_splits() {
        // One of three gateways stays at 5 % while the others go to 10 %: 8.33 % of all.
        let mut rng = StdRng::seed_from_u64(3);
        let mut draws = |split: &mut Split, rho, truth| {
            let canary = Binomial::new(3000, truth).unwrap().sample(&mut rng);
            split.absorb(rho, canary, 3000 - canary);
        };
        let mut split = Split::default();
        for rho in [0.01, 0.02, 0.05] {
            (0..10).for_each(|_| draws(&mut split, rho, rho));
        }
        assert!(split.log_e() < 0.1, "good splits: {}", split.log_e());
        (0..10).for_each(|_| draws(&mut split, 0.1, (0.1 + 0.1 + 0.05) / 3.0));
        assert!(split.log_e() > 4000f64.ln(), "{}", split.log_e());
    }

    #[test]
    fn the_largest_counts_stay_finite() {
        for (rho, canary, primary) in [(0.0001, u64::MAX, 0), (0.5, u64::MAX, u64::MAX), (1.0 - 1e-16, 0, u64::MAX)] {
            assert!(log_e_split(rho, canary, primary).is_finite());
        }
    }
}
