//! How often an equally good canary is taken back: at most once in 1/α rollouts, guards and controller together.
//!
//! Both arms end their requests by the same rates, whatever the weight; every look at the evidence that Weir takes is taken
//! here: the guards' at each failure, the controller's at each scrape.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use weir_engine::evidence::{
    Absolute, Block, Comparison, Onset, Pair, Terms, Tests, Thresholds, Verdict, attribution, budget, ceiling,
};

use super::stream::{Counted, Rates, assert_at_most};

const RUNS: u64 = 2000;
const ALPHA: f64 = 0.01;

/// Scrapes in a block of 30 s.
const SCRAPES: usize = 5;

/// A release that walks up and is set back on the way: two blocks at each weight.
const WEIGHTS: [f64; 18] =
    [0.01, 0.01, 0.05, 0.05, 0.1, 0.1, 0.02, 0.02, 0.2, 0.2, 0.3, 0.3, 0.5, 0.5, 0.1, 0.1, 0.6, 0.6];

/// What a guard knows in the current block.
struct Guard {
    seen: Pair,
    completed: u64,
    comparison: Onset,
    absolute: Onset,
}

struct Rollout {
    rates: Rates,
    requests: u64,
    guards: Vec<Guard>,
    comparison: Onset,
    absolute: Onset,
    tests: Tests,
    primary_failures: u64,
    primary_completed: u64,
    /// Failures of the last scrape that end with the next one, in the block that they were assigned in.
    late: Pair,
}

impl Rollout {
    fn new(rates: Rates, gateways: usize, requests: u64) -> Self {
        let guard =
            || Guard { seen: Pair::default(), completed: 0, comparison: Onset::new(8), absolute: Onset::new(5) };
        Self {
            rates,
            requests: requests / (gateways * SCRAPES) as u64,
            guards: std::iter::repeat_with(guard).take(gateways).collect(),
            comparison: Onset::new(8),
            absolute: Onset::new(5),
            tests: Tests::new(Terms::new(true, Some(2.0))),
            // An hour before the run, at one request a second.
            primary_failures: (3600.0 * rates.failed) as u64,
            primary_completed: 3600,
            late: Pair::default(),
        }
    }

    /// Plays the run; returns who ended it.
    fn play(mut self, rng: &mut StdRng, limits: Thresholds) -> Option<String> {
        let mut before = None::<Block>;
        for rho in WEIGHTS {
            let p0 = ceiling(None, self.primary_failures, self.primary_completed);
            let mut block = Block { rho, p0: Some(p0), slow: Some(Pair::default()), ..Block::default() };
            self.begin();
            for _ in 0..SCRAPES {
                let late = std::mem::take(&mut self.late);
                let target = before.as_mut().filter(|_| block.assigned == Pair::default()).unwrap_or(&mut block);
                add(&mut target.failures, late);
                target.canary_failures += late.canary;
                if self.scrape(rng, &mut block, limits) {
                    return Some("guard".to_owned());
                }
                let open: Vec<Block> = before.into_iter().chain([block]).collect();
                if let Verdict::Bad { test } = self.tests.assess(&open, limits.controller).verdict {
                    return Some(test.word().to_owned());
                }
            }
            self.end(&block);
            if let Some(closed) = before.replace(block) {
                self.tests.fold(&closed);
            }
        }
        None
    }

    fn begin(&mut self) {
        self.comparison.begin_block(&Comparison::WEIGHTS);
        self.absolute.begin_block(&Absolute::WEIGHTS);
        for guard in &mut self.guards {
            (guard.seen, guard.completed) = (Pair::default(), 0);
            (guard.comparison, guard.absolute) = (self.comparison.clone(), self.absolute.clone());
        }
    }

    /// The guards' next block continues from what all of them have seen.
    fn end(&mut self, block: &Block) {
        let test = Absolute::at(block.p0.unwrap());
        let sum = |of: fn(&Guard) -> u64| self.guards.iter().map(of).sum::<u64>();
        let (canary, primary) = (sum(|guard| guard.seen.canary), sum(|guard| guard.seen.primary));
        let completed = sum(|guard| guard.completed);
        self.comparison.absorb(&Comparison::EQUAL.log_ratios(block.rho, canary, primary));
        self.absolute.absorb(&test.log_ratios(canary, completed - canary));
    }

    /// Returns whether a guard tripped.
    fn scrape(&mut self, rng: &mut StdRng, block: &mut Block, limits: Thresholds) -> bool {
        for index in 0..self.guards.len() {
            let seen = Counted::draw(rng, self.requests, block.rho, self.rates, self.rates);
            if self.guards[index].trips(block, &seen, limits) {
                return true;
            }
            let failed =
                Pair { canary: seen.canary_failures.len() as u64, primary: seen.primary_failures.len() as u64 };
            let mut in_time = failed;
            if rng.random_bool(0.3) {
                // Slow to fail on both arms alike.
                in_time = Pair { canary: failed.canary / 2, primary: failed.primary / 2 };
            }
            add(
                &mut self.late,
                Pair { canary: failed.canary - in_time.canary, primary: failed.primary - in_time.primary },
            );
            add(&mut block.failures, in_time);
            add(&mut block.assigned, seen.assigned);
            add(&mut block.abandoned, seen.abandoned);
            add(block.slow.as_mut().unwrap(), seen.slow);
            block.canary_failures += in_time.canary;
            block.canary_completed += seen.assigned.canary;
            self.primary_failures += failed.primary;
            self.primary_completed += seen.assigned.primary;
        }
        false
    }
}

impl Guard {
    fn trips(&mut self, block: &Block, seen: &Counted, limits: Thresholds) -> bool {
        let test = Absolute::at(block.p0.unwrap());
        let primary_before = self.seen.primary;
        for at in &seen.canary_failures {
            self.seen.canary += 1;
            self.seen.primary = primary_before + seen.primary_failures.partition_point(|other| other < at) as u64;
            let completed = self.completed + (at * seen.assigned.canary as f64) as u64;
            let ratios = Comparison::EQUAL.log_ratios(block.rho, self.seen.canary, self.seen.primary);
            let absolute = test.log_ratios(self.seen.canary, completed.saturating_sub(self.seen.canary));
            if self.comparison.log_e_after(&ratios) >= limits.comparison_guard.ln()
                || self.absolute.log_e_after(&absolute) >= limits.absolute_guard.ln()
            {
                return true;
            }
        }
        self.seen.primary = primary_before + seen.primary_failures.len() as u64;
        self.completed += seen.assigned.canary;
        false
    }
}

fn add(sum: &mut Pair, more: Pair) {
    sum.canary += more.canary;
    sum.primary += more.primary;
}

/// Plays rollouts of an equally good canary and checks their false rollbacks against α.
fn assert_equal_canaries_stay(seed: u64, failed: f64, gateways: usize, requests: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let rates = Rates { failed, abandoned: 0.003, slow: 0.02 };
    let limits = budget(ALPHA, u32::try_from(gateways).unwrap());
    let ended: Vec<String> =
        (0..RUNS).filter_map(|_| Rollout::new(rates, gateways, requests).play(&mut rng, limits)).collect();
    assert_at_most(ALPHA, ended.len() as u64, RUNS, &format!("{failed} with {gateways} gateways: {ended:?}"));
}

#[test]
fn equal_canaries_stay_with_one_gateway() {
    assert_equal_canaries_stay(1, 0.005, 1, 3000);
}

#[test]
fn equal_canaries_stay_with_three_gateways() {
    assert_equal_canaries_stay(2, 0.005, 3, 3000);
}

#[test]
fn equal_canaries_stay_where_every_fifth_request_fails() {
    assert_equal_canaries_stay(3, 0.2, 1, 600);
}

#[test]
fn equal_canaries_stay_where_hardly_anything_fails() {
    assert_equal_canaries_stay(4, 0.0005, 3, 3000);
}

#[test]
fn comparison_of_statistics_2_keeps_alpha_while_weights_change() {
    let mut rng = StdRng::seed_from_u64(7);
    for alpha in [0.05, 0.01] {
        let alarms = (0..RUNS).filter(|_| {
            let mut log_masses = [0.0; 8];
            (0..400).any(|failure| {
                // The weight follows the past, as it does in a rollout.
                let rho = WEIGHTS[failure / 25 % WEIGHTS.len()];
                let canary = rng.random_bool(attribution(1.0, rho));
                let ratios = Comparison::EQUAL.log_ratios(rho, canary.into(), (!canary).into());
                log_masses.iter_mut().zip(ratios).for_each(|(mass, ratio)| *mass += ratio);
                log_masses.iter().map(|mass: &f64| mass.exp()).sum::<f64>() / 8.0 >= 1.0 / alpha
            })
        });
        assert_at_most(alpha, alarms.count() as u64, RUNS, "comparison without onset");
    }
}

#[test]
fn comparison_with_onset_keeps_its_share_of_alpha_over_ten_steps() {
    // statistics.md §12: ten steps of 60 s, 0.5 % failures, threshold 200: 0.001 of 2,000.
    let mut rng = StdRng::seed_from_u64(10);
    let rates = Rates { failed: 0.005, abandoned: 0.0, slow: 0.0 };
    let alarms = (0..RUNS).filter(|_| {
        let mut onset = Onset::new(8);
        (0..20).any(|block| {
            let rho = 0.05 * f64::from(block / 2 + 1);
            onset.begin_block(&Comparison::WEIGHTS);
            let seen = Counted::draw(&mut rng, 3000, rho, rates, rates);
            let at_each = (1u64..).zip(&seen.canary_failures).any(|(canary, at)| {
                let primary = seen.primary_failures.partition_point(|other| other < at) as u64;
                onset.log_e_after(&Comparison::EQUAL.log_ratios(rho, canary, primary)) >= 200f64.ln()
            });
            let (canary, primary) = (seen.canary_failures.len() as u64, seen.primary_failures.len() as u64);
            onset.absorb(&Comparison::EQUAL.log_ratios(rho, canary, primary));
            at_each
        })
    });
    let alarms = alarms.count() as u64;
    assert_at_most(1.0 / 200.0, alarms, RUNS, "comparison with onset");
    assert!(alarms <= 6, "{alarms} of {RUNS}, published 2");
}
