//! What gateways have counted, for the metrics.

use std::collections::BTreeMap;

use weir_engine::{Counts, Scrape};
use weir_wire::names::Arm;

/// What gateways have counted of one Canary, as sums that never go down while Weir runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    /// Of processes that are no more.
    gone: Counts,
    /// By gateway: the process's random number, and what it reads now.
    pub(super) live: BTreeMap<String, (u64, Counts)>,
    /// By arm, latencies that were counted between other edges.
    between_others: [Vec<u64>; Arm::ALL.len()],
}

impl Totals {
    pub(super) fn absorb(&mut self, scrape: &Scrape) {
        let mut sum = Counts::default();
        scrape.slots.iter().for_each(|slot| sum.add(slot));
        let (boot, last) = self.live.entry(scrape.gateway.clone()).or_default();
        if *boot != scrape.boot {
            self.gone.add(last);
        }
        (*boot, *last) = (scrape.boot, sum);
    }

    pub(super) fn forget(&mut self, is_there: impl Fn(&str) -> bool) {
        let Self { gone, live, .. } = self;
        live.iter().filter(|(gateway, _)| !is_there(gateway)).for_each(|(_, (_, counts))| gone.add(counts));
        live.retain(|gateway, _| is_there(gateway));
    }

    /// Begins the latencies anew: what was counted between other edges is counted between none of the new ones.
    pub(super) fn change_edges(&mut self) {
        let sum = self.sum();
        self.between_others = Arm::ALL.map(|arm| sum.arm(arm).latency);
    }

    /// Returns an arm's latencies between today's edges.
    pub(crate) fn latency(&self, arm: Arm) -> Vec<u64> {
        let mut latency = self.sum().arm(arm).latency;
        latency
            .iter_mut()
            .zip(&self.between_others[arm as usize])
            .for_each(|(n, others)| *n = n.saturating_sub(*others));
        latency
    }

    pub(crate) fn sum(&self) -> Counts {
        let mut sum = self.gone.clone();
        self.live.values().for_each(|(_, counts)| sum.add(counts));
        sum
    }
}
