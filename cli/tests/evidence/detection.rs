//! How soon a canary that turns bad is noticed: the numbers of statistics.md §12.

use rand::SeedableRng;
use rand::rngs::StdRng;
use weir_engine::evidence::{Comparison, Onset};

use super::stream::{Counted, Rates};

/// 30 s at 100 requests/s.
const REQUESTS_IN_A_BLOCK: u64 = 3000;

/// Returns the canary's failures at the verdict when it fails every request at 30 %, after five healthy steps of 60 s.
fn failures_to_a_verdict(rng: &mut StdRng, rate: f64) -> u64 {
    let test = Comparison::EQUAL;
    let healthy = Rates { failed: rate, abandoned: 0.0, slow: 0.0 };
    let broken = Rates { failed: 1.0, ..healthy };
    let mut onset = Onset::new(8);
    for rho in [0.05, 0.05, 0.1, 0.1, 0.15, 0.15, 0.2, 0.2, 0.25, 0.25] {
        onset.begin_block(&Comparison::WEIGHTS);
        let seen = Counted::draw(rng, REQUESTS_IN_A_BLOCK, rho, healthy, healthy);
        let (canary, primary) = (seen.canary_failures.len() as u64, seen.primary_failures.len() as u64);
        onset.absorb(&test.log_ratios(rho, canary, primary));
    }
    let seen = Counted::draw(rng, REQUESTS_IN_A_BLOCK, 0.3, broken, healthy);
    onset.begin_block(&Comparison::WEIGHTS);
    let verdict = (1u64..).zip(&seen.canary_failures).find(|(canary, at)| {
        let primary = seen.primary_failures.partition_point(|other| other < at) as u64;
        onset.log_e_after(&test.log_ratios(0.3, *canary, primary)) >= 200f64.ln()
    });
    verdict.unwrap().0
}

#[test]
fn a_canary_that_turns_bad_after_healthy_steps_is_noticed_as_soon_as_statistics_12_says() {
    let mut rng = StdRng::seed_from_u64(12);
    for (rate, median, p90) in [(0.0, 6, 6), (0.001, 11, 11), (0.005, 11, 11), (0.01, 11, 13)] {
        let mut needed: Vec<u64> = (0..300).map(|_| failures_to_a_verdict(&mut rng, rate)).collect();
        needed.sort_unstable();
        assert_eq!(needed[150], median, "median at {rate}");
        assert!(needed[270].abs_diff(p90) <= 1, "p90 at {rate}: {}", needed[270]);
    }
}
