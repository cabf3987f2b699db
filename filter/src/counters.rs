//! Counts requests in the VM's memory and hands the sums to the proxy in batches.
//!
//! A metric becomes known at its first use, so an idle canary costs the proxy nothing. `assigned` is handed over first: a
//! scrape between two calls may see a request without its outcome, never an outcome without its request.

use weir_wire::SLOTS;
use weir_wire::config::MAX_LATENCY_EDGES;
use weir_wire::names::{Arm, Cohort, Kind, Metric};

use crate::host::{Host, MetricKind};

/// Kinds of [`Kind`]: four, and a bucket for each latency edge and the rest.
const KINDS: usize = 4 + MAX_LATENCY_EDGES + 1;
const CELLS: usize = Arm::ALL.len() * Cohort::ALL.len() * KINDS;

/// One counter: what was not handed over yet, and the number that the proxy knows it by.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    pending: u64,
    metric: Option<u32>,
}

/// A counter's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Late,
    Refused,
    Cell { slot: u8, index: u16 },
}

/// The counters of one canary.
#[derive(Debug, Default)]
pub struct Counters {
    slots: [Option<Box<[Cell; CELLS]>>; SLOTS as usize],
    late: Cell,
    refused: Cell,
    dirty: Vec<Place>,
}

impl Counters {
    /// Counts one request of an epoch.
    pub fn count(&mut self, epoch: u64, arm: Arm, cohort: Cohort, kind: Kind) {
        let index = (arm as usize * Cohort::ALL.len() + cohort as usize) * KINDS + kind_index(kind);
        // Both fit: there are 8 slots and a few hundred cells.
        self.add(Place::Cell { slot: (epoch % SLOTS) as u8, index: index as u16 });
    }

    /// Counts a stream that outlived its slot.
    pub fn late(&mut self) {
        self.add(Place::Late);
    }

    /// Counts a request that admission refused.
    pub fn refused(&mut self) {
        self.add(Place::Refused);
    }

    /// Returns whether everything was handed over.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.dirty.is_empty()
    }

    fn add(&mut self, place: Place) {
        if let Some(cell) = self.cell(place) {
            let first = cell.pending == 0;
            cell.pending += 1;
            if first {
                self.dirty.push(place);
            }
        }
    }

    fn cell(&mut self, place: Place) -> Option<&mut Cell> {
        match place {
            Place::Late => Some(&mut self.late),
            Place::Refused => Some(&mut self.refused),
            Place::Cell { slot, index } => self
                .slots
                .get_mut(usize::from(slot))?
                .get_or_insert_with(|| Box::new([Cell::default(); CELLS]))
                .get_mut(usize::from(index)),
        }
    }

    /// Hands everything over to the proxy. What it does not take is kept for the next time.
    pub fn flush<H: Host>(&mut self, host: &mut H, id: &str) {
        let mut places = std::mem::take(&mut self.dirty);
        // Stable: `assigned` to the front, the rest in the order of counting.
        places.sort_by_key(|place| !place.is_assigned());
        for place in &places {
            let Some(cell) = self.cell(*place) else { continue };
            if cell.metric.is_none() {
                cell.metric = host.define(MetricKind::Counter, &place.metric(id).to_string());
            }
            match cell.metric {
                Some(metric) => host.increment(metric, std::mem::take(&mut cell.pending)),
                None => self.dirty.push(*place),
            }
        }
        if self.dirty.is_empty() {
            // Keeps the memory: the next batch is as large as this one.
            places.clear();
            self.dirty = places;
        }
    }
}

impl Place {
    fn is_assigned(self) -> bool {
        matches!(self, Self::Cell { index, .. } if usize::from(index) % KINDS == kind_index(Kind::Assigned))
    }

    fn metric(self, id: &str) -> Metric<'_> {
        match self {
            Self::Late => Metric::Late(id),
            Self::Refused => Metric::Refused(id),
            Self::Cell { slot, index } => {
                let index = usize::from(index);
                let (group, kind) = (index / KINDS, index % KINDS);
                let arm = if group / Cohort::ALL.len() == Arm::Primary as usize { Arm::Primary } else { Arm::Canary };
                let cohort = match group % Cohort::ALL.len() {
                    0 => Cohort::Draw,
                    1 => Cohort::Match,
                    _ => Cohort::Sticky,
                };
                let kind = match kind {
                    0 => Kind::Assigned,
                    1 => Kind::Success,
                    2 => Kind::Failure,
                    3 => Kind::Abandoned,
                    // At most 30, by the number of edges.
                    bucket => Kind::Latency((bucket - 4) as u8),
                };
                Metric::Requests { id, slot, arm, cohort, kind }
            }
        }
    }
}

fn kind_index(kind: Kind) -> usize {
    match kind {
        Kind::Assigned => 0,
        Kind::Success => 1,
        Kind::Failure => 2,
        Kind::Abandoned => 3,
        Kind::Latency(bucket) => 4 + usize::from(bucket).min(MAX_LATENCY_EDGES),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated::SimulatedHost;

    const ID: &str = "a3f09c11d2e4b877";

    #[test]
    fn every_counter_has_its_own_name() {
        let mut names = std::collections::BTreeSet::new();
        for arm in Arm::ALL {
            for cohort in Cohort::ALL {
                let kinds = [Kind::Assigned, Kind::Success, Kind::Failure, Kind::Abandoned];
                for kind in kinds.into_iter().chain((0..=30).map(Kind::Latency)) {
                    let mut counters = Counters::default();
                    counters.count(13, arm, cohort, kind);
                    let mut host = SimulatedHost::default();
                    counters.flush(&mut host, ID);
                    let name = Metric::Requests { id: ID, slot: 5, arm, cohort, kind }.to_string();
                    assert_eq!(host.metrics(), [(name.clone(), 1)].into());
                    names.insert(name);
                }
            }
        }
        assert_eq!(names.len(), CELLS);
    }

    #[test]
    fn assigned_is_handed_over_first() {
        let mut counters = Counters::default();
        for _ in 0..3 {
            counters.count(0, Arm::Canary, Cohort::Draw, Kind::Failure);
            counters.late();
            counters.count(0, Arm::Canary, Cohort::Draw, Kind::Assigned);
            counters.count(0, Arm::Primary, Cohort::Draw, Kind::Assigned);
        }
        let mut host = SimulatedHost::default();
        counters.flush(&mut host, ID);
        let order: Vec<_> = host.increments().into_iter().map(|(name, by)| (name.replace(ID, "id"), by)).collect();
        let expected = [
            ("weir_id_0_canary_draw_assigned", 3),
            ("weir_id_0_primary_draw_assigned", 3),
            ("weir_id_0_canary_draw_failure", 3),
            ("weir_id_late", 3),
        ];
        assert_eq!(order, expected.map(|(name, by)| (name.to_string(), by)));
    }

    #[test]
    fn nothing_is_handed_over_twice_and_nothing_is_lost_when_the_proxy_refuses() {
        let mut counters = Counters::default();
        let mut host = SimulatedHost::default();
        host.refuse_metrics = true;
        counters.refused();
        counters.flush(&mut host, ID);
        assert!(!counters.is_clean() && host.metrics().is_empty());
        host.refuse_metrics = false;
        counters.flush(&mut host, ID);
        counters.flush(&mut host, ID);
        counters.refused();
        counters.flush(&mut host, ID);
        assert!(counters.is_clean());
        assert_eq!(host.metrics(), [(format!("weir_{ID}_refused"), 2)].into());
    }
}
