//! The filter's metrics as the controller sees them, read from Envoy's `/stats/prometheus`.

use std::collections::BTreeMap;

use weir_wire::names::{Arm, Cohort, Kind, Metric};
use weir_wire::{SLOTS, names};

use super::config::ID;

/// One scrape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics(pub BTreeMap<String, u64>);

impl Metrics {
    /// Reads the exposition format.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| line.starts_with(names::PREFIX));
        let pairs = lines.filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.split('{').next()?.to_owned(), value.parse::<f64>().ok()? as u64))
        });
        Self(pairs.collect())
    }

    /// Returns one metric, 0 if there is none.
    pub fn get(&self, metric: Metric<'_>) -> u64 {
        self.0.get(&metric.to_string()).copied().unwrap_or(0)
    }

    /// Returns a counter of the test's canary in one slot.
    pub fn slot(&self, slot: u8, arm: Arm, cohort: Cohort, kind: Kind) -> u64 {
        self.get(Metric::Requests { id: ID, slot, arm, cohort, kind })
    }

    /// Returns a counter of the test's canary, over all slots.
    pub fn sum(&self, arm: Arm, cohort: Cohort, kind: Kind) -> u64 {
        (0..SLOTS as u8).map(|slot| self.slot(slot, arm, cohort, kind)).sum()
    }

    /// Returns how many requests of an arm were assigned, succeeded, failed and were abandoned, over slots and cohorts.
    pub fn arm(&self, arm: Arm) -> [u64; 4] {
        [Kind::Assigned, Kind::Success, Kind::Failure, Kind::Abandoned]
            .map(|kind| Cohort::ALL.into_iter().map(|cohort| self.sum(arm, cohort, kind)).sum())
    }

    /// Returns how many requests of an arm were of another kind, over slots and cohorts.
    pub fn kind(&self, arm: Arm, kind: Kind) -> u64 {
        Cohort::ALL.into_iter().map(|cohort| self.sum(arm, cohort, kind)).sum()
    }

    /// Returns how many requests of an arm are under way.
    pub fn under_way(&self, arm: Arm) -> u64 {
        let [assigned, ended @ ..] = self.arm(arm);
        assigned - ended.iter().sum::<u64>() - self.kind(arm, Kind::Unjudged)
    }

    /// Returns the latency buckets of an arm's draws.
    pub fn latency(&self, arm: Arm) -> [u64; 3] {
        [0, 1, 2].map(|bucket| self.sum(arm, Cohort::Draw, Kind::Latency(bucket)))
    }

    /// Returns how many streams of the test's canary outlived their slot.
    pub fn late(&self) -> u64 {
        self.get(Metric::Late(ID))
    }

    /// Returns how many requests of the test's canary admission refused.
    pub fn refused(&self) -> u64 {
        self.get(Metric::Refused(ID))
    }

    /// Returns the epoch in which the guard of the test's canary tripped, and by which test; zeros if it did not.
    pub fn trip(&self) -> [u64; 2] {
        [self.get(Metric::Tripped(ID)), self.get(Metric::TripTest(ID))]
    }

    /// Returns how many VMs run a generation.
    pub fn vms(&self, generation: u64) -> u64 {
        let slot = (generation % SLOTS) as u8;
        if self.get(Metric::Generation(slot)) == generation { self.get(Metric::Vms(slot)) } else { 0 }
    }
}
