//! The evidence of one run: which requests belong to which block, and what they prove so far.
//!
//! A block is an epoch. What is kept is integers by epoch, and for epochs that no stream can change any more the
//! masses of the tests; so a restart, another order of scrapes or another cadence changes nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weir_wire::names::{Arm, Cohort};
use weir_wire::{Limits, Weight};

use super::counter_history::{CounterHistory, Retired};
use super::counts::{Cell, Counts};
use super::evidence::{
    Absolute, Assessment, Block as Judged, Comparison, Interval, Onset, Pair, Terms, Test, Tests, budget, ceiling,
    guard, ratio_interval,
};
use super::plan::Plan;
use super::state::Traffic;
use super::time::{Span, Timestamp};

/// Failures and requests of the primary before a run count for at most so many requests: what it did long ago says little.
const HISTORY: u64 = 10_000;

/// A request without an end is slow for sure only this long after its epoch ended, or the user's bound where that is longer: the
/// wait of a check.
const OVERDUE: Span = Span::seconds(30);

/// A failure rate that is this many times the one which a block was opened with opens another.
const OUTGROWN: f64 = 1.25;

/// The evidence of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunEvidence {
    /// First epoch of the run.
    pub first: u64,
    /// Most processes that the run has had.
    gateways: u32,
    /// Whether a single one had all requests when the first of them went to the canary: then its guard has most of the budget.
    began_alone: bool,
    /// Requests of the primary that ended before the run, and those that failed.
    history: [u64; 2],
    /// Epochs of the run with requests to the canary.
    blocks: BTreeMap<u64, Block>,
    /// What the closed epochs prove.
    tests: Tests,
    /// What the guards' tables of the next epoch go on from, but for the blocks that are still open.
    guards: Guards,
    /// Requests of epochs that are closed.
    retired: Counts,
}

/// One epoch with requests to the canary.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Block {
    weight: Weight,
    p0: f64,
    /// Whether its latency is judged: not while the canary is cold.
    warm: bool,
    /// Whether `p0` is a bound of the user's.
    #[serde(default)]
    bound: bool,
    /// When every gateway was seen to use a newer epoch: no request was assigned in this one after that.
    #[serde(default)]
    ended: Option<Timestamp>,
}

/// The masses of the guards' two tests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Guards {
    comparison: Onset,
    absolute: Onset,
}

impl Default for Guards {
    fn default() -> Self {
        Self { comparison: Onset::new(Comparison::WEIGHTS.len()), absolute: Onset::new(Absolute::WEIGHTS.len()) }
    }
}

impl RunEvidence {
    /// Returns the evidence of a run that begins with an epoch: none. `before` is how many requests of the primary ended until
    /// then, and how many of them failed.
    #[must_use]
    pub fn new(plan: &Plan, first: u64, before: [u64; 2], gateways: usize) -> Self {
        let history = before.map(|n| (n as f64 * (HISTORY as f64 / before[0].max(HISTORY) as f64)).round() as u64);
        let draws = plan.steps.iter().any(|step| comparable(step.weight));
        let terms = Terms::new(draws, plan.latency_edge().map(|_| plan.latency_ratio));
        let gateways = u32::try_from(gateways).unwrap_or(u32::MAX);
        Self { first, gateways, history, tests: Tests::new(terms), ..Self::default() }
    }

    /// Returns everything counted in the run.
    #[must_use]
    pub fn total(&self, counters: &CounterHistory) -> Counts {
        let mut total = counters.since(self.first);
        total.add(&self.retired);
        total
    }

    /// Returns the canary requests of the run that failed or were abandoned.
    #[must_use]
    pub fn canary_failures(&self, counters: &CounterHistory) -> u64 {
        let canary = self.total(counters).arm(Arm::Canary);
        canary.failure + canary.abandoned
    }

    /// Returns the weight of an epoch that is still open.
    #[must_use]
    pub fn weight(&self, epoch: u64) -> Option<Weight> {
        self.blocks.get(&epoch).map(|block| block.weight)
    }

    /// Returns whether the primary was counted to fail so much more than was known when the newest epoch began, that what
    /// was fine then says too little now.
    #[must_use]
    pub fn outgrown(&self, counters: &CounterHistory, plan: &Plan) -> bool {
        let newest = self.blocks.last_key_value().map(|(_, block)| block.p0);
        newest.is_some_and(|p0| self.ceiling(counters, plan) > p0 * OUTGROWN)
    }

    /// Returns the failure rate that is fine for any canary, by all that is known now.
    fn ceiling(&self, counters: &CounterHistory, plan: &Plan) -> f64 {
        let primary = self.total(counters).arm(Arm::Primary);
        let bound = plan.allowed_failures().map(|allowed| 1.0 - allowed);
        ceiling(bound, self.history[1] + primary.failure, self.history[0] + primary.ended())
    }

    /// Returns whether the run has had no more than one process.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.gateways <= 1
    }

    /// Returns the share of the primary's requests that failed, before the run and in it.
    #[must_use]
    pub fn primary_failures(&self, counters: &CounterHistory) -> f64 {
        let primary = self.total(counters).arm(Arm::Primary);
        let ended = self.history[0].saturating_add(primary.ended());
        self.history[1].saturating_add(primary.failure) as f64 / ended.max(1) as f64
    }

    /// Returns the evidence at which the controller takes a canary back.
    fn threshold(&self, plan: &Plan) -> f64 {
        budget(plan.alpha, if self.began_alone { 1 } else { self.gateways }).controller
    }

    /// Begins an epoch with requests to the canary, on so many processes of which some judge by tables; returns the tables for it,
    /// where there are some.
    pub fn open(
        &mut self,
        counters: &CounterHistory,
        plan: &Plan,
        traffic: &Traffic,
        warm: bool,
        [processes, judging]: [usize; 2],
    ) -> Option<Limits> {
        let [processes, judging] = [processes, judging].map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        self.gateways = self.gateways.max(processes);
        self.began_alone |= self.is_alone() && self.blocks.is_empty() && self.guards == Guards::default();
        let p0 = self.ceiling(counters, plan);
        let mut start = self.guards.clone();
        for (epoch, block) in &self.blocks {
            start.absorb(*block, &counters.epoch(*epoch));
        }
        let bound = plan.allowed_failures().is_some();
        let block = Block { weight: traffic.weight, p0, warm, bound, ended: None };
        self.blocks.insert(traffic.epoch, block);
        start.begin(block);
        if judging == 0 {
            return None;
        }
        let thresholds = budget(plan.alpha, if self.is_alone() { 1 } else { judging.max(2) });
        let comparison = guard::comparison(
            &Comparison::EQUAL,
            &start.comparison,
            block.weight.fraction(),
            thresholds.comparison_guard,
            guard::ROWS,
        );
        let absolute = guard::absolute(&Absolute::at(p0), &start.absolute, thresholds.absolute_guard, guard::ROWS);
        Some(Limits {
            epoch: traffic.epoch,
            end: [comparison.end, absolute.end],
            beyond: [comparison.beyond, absolute.beyond],
            comparison: comparison.rows,
            absolute: absolute.rows,
        })
    }

    /// Notes that no gateway uses an epoch before `epoch` any more.
    pub fn end_before(&mut self, epoch: u64, now: Timestamp) {
        self.blocks.range_mut(..epoch).for_each(|(_, block)| _ = block.ended.get_or_insert(now));
    }

    /// Closes the epochs before `epoch`: nothing can be counted in them any more.
    pub fn close(&mut self, plan: &Plan, epoch: u64, retired: &Retired, counters: &CounterHistory) {
        for (_, counts) in retired.range(self.first..) {
            self.retired.add(counts);
        }
        let open = self.blocks.split_off(&epoch);
        for (epoch, block) in std::mem::replace(&mut self.blocks, open) {
            let counts = retired.get(&epoch).cloned().unwrap_or_default();
            self.guards.absorb(block, &counts);
            self.tests.fold(&judged(plan, block, &counts, overdue(plan, block, epoch, counters)));
        }
    }
}

impl RunEvidence {
    /// Returns what the run's requests prove so far.
    #[must_use]
    pub fn assess(&self, counters: &CounterHistory, plan: &Plan) -> Assessment {
        self.tests.assess(&self.open_blocks(counters, plan), self.threshold(plan))
    }

    /// Returns how many times as often as the primary the canary has failed; nothing while no drawn request has.
    #[must_use]
    pub fn ratio(&self, counters: &CounterHistory, plan: &Plan) -> Option<Interval> {
        ratio_interval(&self.tests.stretches(&self.open_blocks(counters, plan)))
    }

    /// Returns how many more requests of the newest epoch would, by breaking the user's bound, be a verdict of this test alone;
    /// nothing for a test of no bound, or where no number of them would.
    #[must_use]
    pub fn missing(&self, counters: &CounterHistory, plan: &Plan, test: Test) -> Option<u32> {
        self.tests.missing(&self.open_blocks(counters, plan), self.threshold(plan), test)
    }

    /// Returns the epochs from `first` on that are open and in which the canary was warm.
    pub fn warm(&self, first: u64) -> impl Iterator<Item = u64> {
        self.blocks.range(first..).filter(|(_, block)| block.warm).map(|(epoch, _)| *epoch)
    }

    fn open_blocks(&self, counters: &CounterHistory, plan: &Plan) -> Vec<Judged> {
        let block = |(epoch, block): (&u64, &Block)| {
            judged(plan, *block, &counters.epoch(*epoch), overdue(plan, *block, *epoch, counters))
        };
        self.blocks.iter().map(block).collect()
    }
}

/// Returns what the tests judge of an epoch; `overdue` is how many canary requests of it have no end and are slow for sure.
fn judged(plan: &Plan, block: Block, counts: &Counts, overdue: u64) -> Judged {
    let draws = |arm| counts.cell(arm, Cohort::Draw);
    let pair = |of: &dyn Fn(&Cell) -> u64| Pair { canary: of(draws(Arm::Canary)), primary: of(draws(Arm::Primary)) };
    let edge = plan.slow_from().filter(|_| block.warm);
    let canary = counts.arm(Arm::Canary);
    // Draws that were kept from the canary are in no arm: what is left of such an epoch was not split as asked, and rightly so.
    let assigned = if counts.refused == 0 { pair(&|cell| cell.assigned) } else { Pair::default() };
    Judged {
        rho: block.weight.fraction(),
        assigned,
        failures: pair(&|cell| cell.failure),
        abandoned: pair(&|cell| cell.abandoned),
        slow: edge.map(|edge| pair(&|cell| cell.slow(edge))),
        client_errors: pair(&|cell| cell.client_error),
        canary_failures: canary.failure,
        canary_completed: if block.bound { canary.answered() } else { canary.ended() },
        p0: Some(block.p0),
        bound: block.bound,
        canary_slow: edge
            .map(|edge| [canary.slow(edge).saturating_add(overdue), canary.timed().saturating_add(overdue)]),
    }
}

/// Returns the canary requests of an epoch that have no end and are slower than the user's bound for sure. Leaving the younger ones
/// out only lowers the evidence.
fn overdue(plan: &Plan, block: Block, epoch: u64, counters: &CounterHistory) -> u64 {
    let (Some(ended), Some(bound)) = (block.ended, plan.latency_edge()) else { return 0 };
    // A gateway that is gone, or does not answer, leaves requests behind that nobody hears of.
    counters.unended(epoch, ended + OVERDUE.max(Span(bound as u64)))
}

impl Guards {
    fn begin(&mut self, block: Block) {
        if comparable(block.weight) {
            self.comparison.begin_block(&Comparison::WEIGHTS);
        }
        self.absolute.begin_block(&Absolute::WEIGHTS);
    }

    /// Goes on to the end of a block, with what all processes have counted. A guard that sees a part of the requests goes on from what
    /// all of them prove: of requests that others served, evidence has a mean of at most 1 too.
    fn absorb(&mut self, block: Block, counts: &Counts) {
        self.begin(block);
        self.comparison.absorb(&failures(block, counts));
        self.absolute.absorb(&absolutes_of(block, counts));
    }
}

fn comparable(weight: Weight) -> bool {
    Weight::ZERO < weight && weight < Weight::FULL
}

fn failures(block: Block, counts: &Counts) -> [f64; Comparison::WEIGHTS.len()] {
    let failed = |arm| counts.cell(arm, Cohort::Draw).failure;
    Comparison::EQUAL.log_ratios(block.weight.fraction(), failed(Arm::Canary), failed(Arm::Primary))
}

fn absolutes_of(block: Block, counts: &Counts) -> [f64; Absolute::WEIGHTS.len()] {
    let canary = counts.arm(Arm::Canary);
    Absolute::at(block.p0).log_ratios(canary.failure, canary.ended() - canary.failure)
}
