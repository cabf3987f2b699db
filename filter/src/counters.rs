//! Counts requests in the VM's memory and hands the sums to the proxy in batches.
//!
//! A metric becomes known at its first use, so an idle canary costs the proxy nothing. `assigned` is handed over first: a
//! scrape between two calls may see a request without its outcome, never an outcome without its request.
//!
//! The proxy forgets a counter and its value with the last VM that knows it. When another module replaces this one, new VMs
//! come before the old ones go, so they must make the same counters known at once and not at their first use: a shared cell
//! for each canary says which.

use weir_wire::SLOTS;
use weir_wire::config::MAX_LATENCY_EDGES;
use weir_wire::names::{Arm, Cohort, Kind, Metric};

use crate::host::{Host, MetricKind};
use crate::shared;

/// Cohorts that the first module had, each on both arms.
const FIRST_COHORTS: [Cohort; 3] = [Cohort::Draw, Cohort::Match, Cohort::Sticky];
/// Arms by cohorts.
const GROUPS: usize = Arm::ALL.len() * FIRST_COHORTS.len();
/// Kinds of [`Kind`] that the first module had: four, and a bucket for each latency edge and the rest.
const KINDS: usize = 4 + MAX_LATENCY_EDGES + 1;
/// Kinds that came later: their cells stand behind all others, so that modules of different ages agree on a cell's bit.
const LATER: [Kind; 2] = [Kind::Unjudged, Kind::ClientError];
const FIRST_CELLS: usize = GROUPS * KINDS;
const LATER_CELLS: usize = GROUPS * LATER.len();
/// The cohort that came later has one arm, and all kinds: its cells stand behind those.
const DIRECT_CELLS: usize = KINDS + LATER.len();
const OLD_CELLS: usize = FIRST_CELLS + LATER_CELLS;
const CELLS: usize = OLD_CELLS + DIRECT_CELLS;
/// A bit for each place.
const KNOWN: usize = (SLOTS as usize * CELLS + 2).div_ceil(8);

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
        let index = match cohort {
            Cohort::Direct => direct_index(kind),
            cohort => cell_index(arm as usize * FIRST_COHORTS.len() + cohort as usize, kind),
        };
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
        let mut news = false;
        for place in &places {
            let Some(cell) = self.cell(*place) else { continue };
            if cell.metric.is_none() {
                cell.metric = host.define(MetricKind::Counter, &place.metric(id).to_string());
                news |= cell.metric.is_some();
            }
            match cell.metric {
                Some(metric) => host.increment(metric, std::mem::take(&mut cell.pending)),
                None => self.dirty.push(*place),
            }
        }
        if news {
            self.share(host, id, &places);
        }
        if self.dirty.is_empty() {
            // Keeps the memory: the next batch is as large as this one.
            places.clear();
            self.dirty = places;
        }
    }
}

impl Counters {
    /// Makes known what other VMs of the process have made known.
    pub fn adopt<H: Host>(&mut self, host: &mut H, id: &str) {
        let Some(known) = shared::read::<H, KNOWN>(host, &cell_key(id)) else { return };
        for bit in (0..KNOWN * 8).filter(|bit| known.get(bit / 8).is_some_and(|byte| byte >> (bit % 8) & 1 == 1)) {
            let Some(place) = Place::of_bit(bit) else { continue };
            if let Some(cell) = self.cell(place)
                && cell.metric.is_none()
            {
                cell.metric = host.define(MetricKind::Counter, &place.metric(id).to_string());
            }
        }
    }

    /// Tells other VMs what this one has made known.
    fn share<H: Host>(&self, host: &mut H, id: &str, places: &[Place]) {
        shared::update(host, &cell_key(id), |old: Option<[u8; KNOWN]>| {
            let mut known = old.unwrap_or([0; KNOWN]);
            for bit in places.iter().map(|place| place.bit()) {
                if let Some(byte) = known.get_mut(bit / 8) {
                    *byte |= 1 << (bit % 8);
                }
            }
            (old != Some(known)).then_some(known)
        });
    }
}

fn cell_key(id: &str) -> String {
    format!("counters/{id}")
}

impl Place {
    /// Its place among all, for the cell that VMs share. A newer module may only add at the end.
    fn bit(self) -> usize {
        match self {
            Self::Late => 0,
            Self::Refused => 1,
            Self::Cell { slot, index } => {
                let (slot, index) = (usize::from(slot), usize::from(index));
                match (index.checked_sub(FIRST_CELLS), index.checked_sub(OLD_CELLS)) {
                    (_, Some(direct)) => 2 + SLOTS as usize * OLD_CELLS + slot * DIRECT_CELLS + direct,
                    (Some(later), _) => 2 + SLOTS as usize * FIRST_CELLS + slot * LATER_CELLS + later,
                    _ => 2 + slot * FIRST_CELLS + index,
                }
            }
        }
    }

    fn of_bit(bit: usize) -> Option<Self> {
        let Some(cell) = bit.checked_sub(2) else {
            return Some(if bit == 0 { Self::Late } else { Self::Refused });
        };
        let beyond = |cells: usize| cell.checked_sub(SLOTS as usize * cells);
        let (slot, index) = match (beyond(FIRST_CELLS), beyond(OLD_CELLS)) {
            (_, Some(direct)) => (direct / DIRECT_CELLS, OLD_CELLS + direct % DIRECT_CELLS),
            (Some(later), _) => (later / LATER_CELLS, FIRST_CELLS + later % LATER_CELLS),
            _ => (cell / FIRST_CELLS, cell % FIRST_CELLS),
        };
        // Both fit, or the bit is one of the last byte's that mean nothing.
        (slot < SLOTS as usize).then_some(Self::Cell { slot: slot as u8, index: index as u16 })
    }

    fn is_assigned(self) -> bool {
        matches!(self, Self::Cell { index, .. } if meaning(index.into()).2 == Kind::Assigned)
    }

    fn metric(self, id: &str) -> Metric<'_> {
        match self {
            Self::Late => Metric::Late(id),
            Self::Refused => Metric::Refused(id),
            Self::Cell { slot, index } => {
                let (arm, cohort, kind) = meaning(index.into());
                Metric::Requests { id, slot, arm, cohort, kind }
            }
        }
    }
}

fn cell_index(group: usize, kind: Kind) -> usize {
    let first = |kind: usize| group * KINDS + kind;
    let later = |kind: usize| FIRST_CELLS + group * LATER.len() + kind;
    match kind {
        Kind::Assigned => first(0),
        Kind::Success => first(1),
        Kind::Failure => first(2),
        Kind::Abandoned => first(3),
        Kind::Latency(bucket) => first(4 + usize::from(bucket).min(MAX_LATENCY_EDGES)),
        Kind::Unjudged => later(0),
        Kind::ClientError => later(1),
    }
}

/// Returns the cell of a request that called the canary by its name: as in the first group's, the later kinds behind.
fn direct_index(kind: Kind) -> usize {
    let first = cell_index(0, kind);
    OLD_CELLS + first.checked_sub(FIRST_CELLS).map_or(first, |later| KINDS + later)
}

/// Returns what a cell counts: what its index was made from.
fn meaning(index: usize) -> (Arm, Cohort, Kind) {
    if let Some(direct) = index.checked_sub(OLD_CELLS) {
        let kind = direct.checked_sub(KINDS).map_or_else(|| first_kind(direct), later_kind);
        return (Arm::Canary, Cohort::Direct, kind);
    }
    let (group, kind) = match index.checked_sub(FIRST_CELLS) {
        Some(later) => (later / LATER.len(), later_kind(later)),
        None => (index / KINDS, first_kind(index)),
    };
    let arm = if group / FIRST_COHORTS.len() == Arm::Primary as usize { Arm::Primary } else { Arm::Canary };
    let cohort = FIRST_COHORTS.get(group % FIRST_COHORTS.len()).copied();
    (arm, cohort.unwrap_or(Cohort::Draw), kind)
}

fn later_kind(index: usize) -> Kind {
    LATER.get(index % LATER.len()).copied().unwrap_or(Kind::Unjudged)
}

fn first_kind(index: usize) -> Kind {
    match index % KINDS {
        0 => Kind::Assigned,
        1 => Kind::Success,
        2 => Kind::Failure,
        3 => Kind::Abandoned,
        // At most 30, by the number of edges.
        bucket => Kind::Latency((bucket - 4) as u8),
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
        for cohort in Cohort::ALL {
            let arms = if cohort == Cohort::Direct { &Arm::ALL[1..] } else { &Arm::ALL };
            for arm in arms.iter().copied() {
                let kinds = [Kind::Assigned, Kind::Success, Kind::Failure, Kind::Abandoned];
                for kind in kinds.into_iter().chain(LATER).chain((0..=30).map(Kind::Latency)) {
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
    fn a_vm_adopts_the_counters_that_others_have_made_known() {
        let mut host = SimulatedHost::default();
        let mut counters = Counters::default();
        counters.count(3, Arm::Canary, Cohort::Sticky, Kind::Latency(30));
        counters.late();
        counters.flush(&mut host, ID);
        counters.count(15, Arm::Primary, Cohort::Draw, Kind::Assigned);
        counters.flush(&mut host, ID);
        let mut adopted = Counters::default();
        host.defined.clear();
        adopted.adopt(&mut host, ID);
        let mut names = host.defined.clone();
        names.sort();
        let expected =
            ["7_primary_draw_assigned", "3_canary_sticky_le_30", "late"].map(|name| format!("weir_{ID}_{name}"));
        assert_eq!(names, std::collections::BTreeSet::from(expected).into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn every_place_has_a_bit_of_its_own() {
        let places = (0..KNOWN * 8).filter_map(Place::of_bit);
        assert_eq!(places.clone().count(), SLOTS as usize * CELLS + 2);
        assert!(places.enumerate().all(|(bit, place)| place.bit() == bit));
    }

    #[test]
    fn a_place_has_the_bit_that_the_first_module_gave_it_and_its_shorter_cell_is_read() {
        assert_eq!(Place::Cell { slot: 3, index: 209 }.bit(), 2 + 3 * 210 + 209);
        let mut host = SimulatedHost::default();
        let mut first = [0; 211];
        first[0] = 0b101;
        shared::update(&mut host, &cell_key(ID), |_: Option<[u8; 211]>| Some(first));
        let mut counters = Counters::default();
        counters.count(0, Arm::Canary, Cohort::Draw, Kind::Unjudged);
        counters.flush(&mut host, ID);
        host.defined.clear();
        Counters::default().adopt(&mut host, ID);
        let expected = ["late", "0_primary_draw_assigned", "0_canary_draw_unjudged"];
        assert_eq!(host.defined, expected.map(|name| format!("weir_{ID}_{name}")));
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
