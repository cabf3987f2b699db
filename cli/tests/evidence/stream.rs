//! Simulated requests, and what a number of false alarms says about their probability.

use rand::Rng;
use rand::rngs::StdRng;
use rand_distr::{Binomial, Distribution};
use weir_engine::evidence::Pair;

/// How both kinds of requests end.
#[derive(Clone, Copy)]
pub(crate) struct Rates {
    pub(crate) failed: f64,
    pub(crate) abandoned: f64,
    pub(crate) slow: f64,
}

/// One gateway's requests of a while.
#[derive(Clone, Default)]
pub(crate) struct Counted {
    pub(crate) assigned: Pair,
    /// When the failures came, as a share of the while, in order.
    pub(crate) canary_failures: Vec<f64>,
    pub(crate) primary_failures: Vec<f64>,
    pub(crate) abandoned: Pair,
    pub(crate) slow: Pair,
}

impl Counted {
    /// Draws `requests` at weight `rho`; the arms' requests end by their own rates.
    pub(crate) fn draw(rng: &mut StdRng, requests: u64, rho: f64, canary: Rates, primary: Rates) -> Self {
        let to_canary = binomial(rng, requests, rho);
        let assigned = Pair { canary: to_canary, primary: requests - to_canary };
        let mut pair = |on_canary: f64, on_primary: f64| Pair {
            canary: binomial(rng, assigned.canary, on_canary),
            primary: binomial(rng, assigned.primary, on_primary),
        };
        let failed = pair(canary.failed, primary.failed);
        let abandoned = pair(canary.abandoned, primary.abandoned);
        let slow = pair(canary.slow, primary.slow);
        let mut times = |count: u64| {
            let mut times: Vec<f64> = (0..count).map(|_| rng.random()).collect();
            times.sort_by(f64::total_cmp);
            times
        };
        Self {
            assigned,
            canary_failures: times(failed.canary),
            primary_failures: times(failed.primary),
            abandoned,
            slow,
        }
    }
}

pub(crate) fn binomial(rng: &mut StdRng, n: u64, p: f64) -> u64 {
    Binomial::new(n, p).unwrap().sample(rng)
}

/// Asserts that `seen` of `runs` goes with a probability of at most `alpha`.
///
/// Fails when the one-sided 99 % lower bound (Clopper & Pearson) exceeds alpha, which an honest test does in one seed of a
/// hundred at worst, and when the upper bound exceeds alpha by more than one percent, which too few runs would.
pub(crate) fn assert_at_most(alpha: f64, seen: u64, runs: u64, what: &str) {
    let at_least = |p: f64| 1.0 - (0..seen).map(|k| probability(runs, k, p)).sum::<f64>();
    let at_most = |p: f64| (0..=seen).map(|k| probability(runs, k, p)).sum::<f64>();
    assert!(at_least(alpha) > 0.01, "{what}: {seen} of {runs} is more than {alpha}");
    assert!(at_most(alpha + 0.01) < 0.01, "{what}: {seen} of {runs} does not show less than {}", alpha + 0.01);
}

/// Of exactly k of n.
fn probability(n: u64, k: u64, p: f64) -> f64 {
    let choose: f64 = (0..k).map(|i| ((n - i) as f64 / (i + 1) as f64).ln()).sum();
    (choose + k as f64 * p.ln() + (n - k) as f64 * (-p).ln_1p()).exp()
}
