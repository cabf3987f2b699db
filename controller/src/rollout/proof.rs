//! The evidence of one run: which requests belong to which block, and what they prove so far.
//!
//! A block is an epoch. What is kept is integers by epoch and gateway, and for epochs that no stream can change any more the
//! masses of the tests; so a restart, another order of scrapes or another cadence changes nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weir_wire::names::{Arm, Cohort};
use weir_wire::{Limits, Weight};

use super::counts::Counts;
use super::evidence::{Absolute, Comparison, Onset, budget, ceiling, guard};
use super::ledger::{Ledger, Retired};
use super::plan::Plan;
use super::state::Traffic;

/// Failures and requests of the primary before a run count for at most so many requests: what it did long ago says little.
const HISTORY: u64 = 10_000;

/// The evidence of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Proof {
    /// First epoch of the run.
    pub first: u64,
    /// Most gateways that the run has had: the budget is divided among their guards.
    gateways: u32,
    /// Requests of the primary that ended before the run, and those that failed.
    history: [u64; 2],
    /// Epochs of the run with requests to the canary.
    blocks: BTreeMap<u64, Block>,
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

impl Proof {
    /// Returns the evidence of a run that begins with an epoch: none. `before` is what was counted until then.
    #[must_use]
    pub fn new(first: u64, before: &Counts, gateways: usize) -> Self {
        let primary = before.arm(Arm::Primary);
        let scale = |n: u64| (n as f64 * (HISTORY as f64 / primary.ended().max(HISTORY) as f64)).round() as u64;
        let history = [scale(primary.ended()), scale(primary.failure)];
        Self { first, gateways: u32::try_from(gateways).unwrap_or(u32::MAX), history, ..Self::default() }
    }

    /// Returns everything counted in the run.
    #[must_use]
    pub fn total(&self, ledger: &Ledger) -> Counts {
        let mut total = ledger.since(self.first);
        total.add(&self.retired);
        total
    }

    /// Returns the canary requests of the run that failed or were abandoned.
    #[must_use]
    pub fn canary_failures(&self, ledger: &Ledger) -> u64 {
        let canary = self.total(ledger).arm(Arm::Canary);
        canary.failure + canary.abandoned
    }

    /// Returns the weight of an epoch that is still open.
    #[must_use]
    pub fn weight(&self, epoch: u64) -> Option<Weight> {
        self.blocks.get(&epoch).map(|block| block.weight)
    }

    /// Begins an epoch with requests to the canary; returns the guard's tables for it.
    pub fn open(&mut self, ledger: &Ledger, plan: &Plan, traffic: &Traffic, warm: bool, gateways: usize) -> Limits {
        self.gateways = self.gateways.max(u32::try_from(gateways).unwrap_or(u32::MAX));
        let primary = self.total(ledger).arm(Arm::Primary);
        let bound = plan.allowed_failures().map(|allowed| 1.0 - allowed);
        let p0 = ceiling(bound, self.history[1] + primary.failure, self.history[0] + primary.ended());
        let mut start = self.guards.clone();
        for (epoch, block) in &self.blocks {
            let pods = ledger.gateways().map(|gateway| ledger.of(gateway, *epoch));
            start.absorb(*block, pods);
        }
        let block = Block { weight: traffic.weight, p0, warm };
        self.blocks.insert(traffic.epoch, block);
        start.begin(block);
        let thresholds = budget(plan.alpha, self.gateways);
        let comparison = guard::comparison(
            &Comparison::EQUAL,
            &start.comparison,
            block.weight.fraction(),
            thresholds.comparison_guard,
            guard::ROWS,
        );
        let absolute = guard::absolute(&Absolute::at(p0), &start.absolute, thresholds.absolute_guard, guard::ROWS);
        Limits {
            epoch: traffic.epoch,
            end: [comparison.end, absolute.end],
            comparison: comparison.rows,
            absolute: absolute.rows,
        }
    }

    /// Closes the epochs before `epoch`: nothing can be counted in them any more.
    pub fn close(&mut self, epoch: u64, retired: &Retired, gateways: &[String]) {
        for (_, counts) in retired.range(self.first..).flat_map(|(_, pods)| pods) {
            self.retired.add(counts);
        }
        let open = self.blocks.split_off(&epoch);
        for (epoch, block) in std::mem::replace(&mut self.blocks, open) {
            let pods = gateways.iter().map(|gateway| retired.get(&epoch)?.get(gateway));
            self.guards.absorb(block, pods);
        }
    }
}

impl Guards {
    fn begin(&mut self, block: Block) {
        if comparable(block.weight) {
            self.comparison.begin_block(&Comparison::WEIGHTS);
        }
        self.absolute.begin_block(&Absolute::WEIGHTS);
    }

    /// Goes on to the end of a block: with the mean of what its pods' guards have seen.
    fn absorb<'a>(&mut self, block: Block, pods: impl Iterator<Item = Option<&'a Counts>>) {
        self.begin(block);
        let none = Counts::default();
        let (mut comparisons, mut absolutes) = (Vec::new(), Vec::new());
        for counts in pods.map(|counts| counts.unwrap_or(&none)) {
            let (mut comparison, mut absolute) = (self.comparison.clone(), self.absolute.clone());
            comparison.absorb(&failures(block, counts));
            absolute.absorb(&absolutes_of(block, counts));
            comparisons.push(comparison);
            absolutes.push(absolute);
        }
        if let (Some(comparison), Some(absolute)) = (Onset::mean(&comparisons), Onset::mean(&absolutes)) {
            (self.comparison, self.absolute) = (comparison, absolute);
        }
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

/// A verdict of the controller's tests.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The test that says most.
    pub test: &'static str,
    /// The evidence, as a logarithm.
    pub log_e: f64,
    /// The evidence that is a verdict.
    pub threshold: f64,
}

impl Verdict {
    /// Returns the evidence in few digits.
    #[must_use]
    pub fn evidence(&self) -> String {
        match self.log_e {
            log if log < 20.0 => format!("{:.0}", log.exp()),
            log => format!("1e{:.0}", log / std::f64::consts::LN_10),
        }
    }
}

impl Proof {
    /// Returns the verdict.
    #[must_use]
    pub fn verdict(&self, _ledger: &Ledger, _plan: &Plan) -> Option<Verdict> {
        None
    }
}
