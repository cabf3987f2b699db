//! Evidence against a canary that may turn bad at any moment (statistics.md §12, "Onset mixture").
//!
//! A likelihood ratio over the whole run goes blind: after healthy steps a canary that breaks must first earn back what
//! its good past cost. So the evidence is a mixture over the moment of onset. Blocks are counted j = 1, 2, …; the prior
//! that the canary turns bad at the start of block j is π_1 = 1/2, π_j = 1/(2 j (j-1)); what is not yet spent after j
//! blocks is 1/(2j). With `A_k` the mass on alternative k and `w_k` its weight:
//!
//! ```text
//! at the start of block j:   A_k += π_j w_k
//! per observation in it:     A_k *= likelihood ratio of alternative k
//! E = Σ_k A_k + 1/(2j)
//! ```
//!
//! Each start is a fixed time, so each term is an e-process and so is the mixture: under the null E exceeds 1/α at any
//! moment, ever, with probability at most α (Ville). The masses are capital: betting them on other alternatives from some
//! block on (a controller with another grid takes over) changes the power, never the guarantee.

use serde::{Deserialize, Serialize};

use super::logspace;

/// The masses of one test's alternatives, and how many blocks they have been through.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Onset {
    blocks: u32,
    /// `ln A_k`; negative infinity before the first block.
    #[serde(with = "logspace::json")]
    log_mass: Vec<f64>,
}

impl Onset {
    /// Returns the state before the first block, for so many alternatives. Its evidence is 1.
    #[must_use]
    pub fn new(alternatives: usize) -> Self {
        Self { blocks: 0, log_mass: vec![f64::NEG_INFINITY; alternatives] }
    }

    /// Returns how many blocks have begun.
    #[must_use]
    pub fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Begins a block: adds its share of the prior to the masses, by the alternatives' weights, which sum to 1.
    ///
    /// To be called before the block's first observation can have been made.
    pub fn begin_block(&mut self, weights: &[f64]) {
        self.blocks = self.blocks.saturating_add(1);
        if self.log_mass.len() < weights.len() {
            self.log_mass.resize(weights.len(), f64::NEG_INFINITY);
        }
        let log_prior = log_prior(self.blocks);
        for (mass, weight) in self.log_mass.iter_mut().zip(weights) {
            *mass = logspace::sum([*mass, log_prior + weight.ln()].into_iter());
        }
    }

    /// Multiplies the masses by the likelihood ratios of observations in the current block, one for each alternative.
    pub fn absorb(&mut self, log_ratios: &[f64]) {
        for (mass, ratio) in self.log_mass.iter_mut().zip(log_ratios) {
            *mass += ratio;
        }
    }

    /// Returns the logarithm of the evidence.
    #[must_use]
    pub fn log_e(&self) -> f64 {
        self.log_e_after(&[])
    }

    /// Returns the logarithm of the evidence as it would be after [`Onset::absorb`] of these ratios.
    #[must_use]
    pub fn log_e_after(&self, log_ratios: &[f64]) -> f64 {
        let ratios = log_ratios.iter().copied().chain(std::iter::repeat(0.0));
        let masses = self.log_mass.iter().zip(ratios).map(|(mass, ratio)| mass + ratio);
        logspace::sum(masses.chain(std::iter::once(self.log_unspent())))
    }

    /// Returns the logarithms of the alternatives' masses.
    pub fn log_masses(&self) -> impl Iterator<Item = f64> {
        self.log_mass.iter().copied()
    }

    /// The prior of onsets that are still to come: 1 - Σ π_i = 1/(2j).
    fn log_unspent(&self) -> f64 {
        match self.blocks {
            0 => 0.0,
            begun => -(2.0 * f64::from(begun)).ln(),
        }
    }
}

/// `ln π_j`.
fn log_prior(block: u32) -> f64 {
    match f64::from(block) {
        first if first <= 1.0 => 0.5f64.ln(),
        j => -(2.0 * j * (j - 1.0)).ln(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prior_and_unspent_prior_sum_to_one_after_any_number_of_blocks() {
        let mut onset = Onset::new(2);
        assert_eq!(onset.log_e(), 0.0);
        for _ in 0..10_000 {
            onset.begin_block(&[0.25, 0.75]);
            assert!(onset.log_e().abs() < 1e-9, "{onset:?}");
        }
    }

    #[test]
    fn only_onsets_up_to_a_block_are_judged_by_it() {
        let mut onset = Onset::new(1);
        onset.begin_block(&[1.0]);
        onset.absorb(&[3f64.ln()]);
        onset.begin_block(&[1.0]);
        onset.absorb(&[5f64.ln()]);
        // Onset at block 1: 1/2 * 3 * 5; at block 2: 1/4 * 5; later: 1/4.
        assert!((onset.log_e().exp() - (7.5 + 1.25 + 0.25)).abs() < 1e-12);
    }

    #[test]
    fn evidence_after_ratios_is_what_absorbing_them_gives() {
        let mut onset = Onset::new(2);
        onset.begin_block(&[0.5, 0.5]);
        let ahead = onset.log_e_after(&[2.0, -900.0]);
        onset.absorb(&[2.0, -900.0]);
        assert_eq!(onset.log_e(), ahead);
    }

    #[test]
    fn state_survives_json_bit_by_bit_before_and_after_its_first_block() {
        let mut onset = Onset::new(3);
        let through = |state: &Onset| serde_json::from_str::<Onset>(&serde_json::to_string(state).unwrap()).unwrap();
        assert_eq!(serde_json::to_string(&onset).unwrap(), r#"{"blocks":0,"logMass":[null,null,null]}"#);
        assert_eq!(through(&onset), onset);
        for block in 0..50 {
            onset.begin_block(&[1.0 / 3.0; 3]);
            onset.absorb(&[0.1, -0.3 / f64::from(block + 7), -700.7]);
            assert_eq!(through(&onset), onset);
        }
    }

    #[test]
    fn a_larger_grid_takes_over_from_a_smaller_one() {
        let mut onset = Onset::new(1);
        onset.begin_block(&[1.0]);
        onset.absorb(&[2f64.ln()]);
        onset.begin_block(&[0.5, 0.5]);
        assert!((onset.log_e().exp() - (1.0 + 0.125 + 0.125 + 0.25)).abs() < 1e-12);
    }
}
