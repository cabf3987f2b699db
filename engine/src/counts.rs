//! Counts of requests, and one gateway's scrape of them.

use serde::{Deserialize, Serialize};
use weir_wire::SLOTS;
use weir_wire::names::{Arm, Cohort, Kind};

use super::time::Timestamp;

/// Requests of one arm and cohort.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cell {
    /// Given this arm.
    #[serde(skip_serializing_if = "is_zero")]
    pub assigned: u64,
    /// Ended well.
    #[serde(skip_serializing_if = "is_zero")]
    pub success: u64,
    /// Ended badly.
    #[serde(skip_serializing_if = "is_zero")]
    pub failure: u64,
    /// The client left before the response was complete.
    #[serde(skip_serializing_if = "is_zero")]
    pub abandoned: u64,
    /// Ended, and said nothing of the arm.
    #[serde(skip_serializing_if = "is_zero")]
    pub unjudged: u64,
    /// Successes whose answer a client can cause (4xx).
    #[serde(skip_serializing_if = "is_zero")]
    pub client_error: u64,
    /// Ended requests by latency edge, not cumulative; the last is the rest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub latency: Vec<u64>,
}

/// Requests by arm and cohort.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    cells: [[Cell; 3]; 2],
    /// Requests to the canary's own Service. Beside the others, so that what an earlier or a later Weir has stored is read.
    #[serde(skip_serializing_if = "is_empty")]
    direct: [Cell; 2],
    /// Requests that were kept from the canary, by admission or because nobody served it; they are in no cell.
    #[serde(skip_serializing_if = "is_zero")]
    pub refused: u64,
    /// Requests on the routes to the primary, by the gateway's own count. Where there are some and none in a cell, the filter does
    /// not take them for the Canary's.
    #[serde(skip_serializing_if = "is_zero")]
    pub routed: u64,
}

/// What one gateway process said of one canary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrape {
    /// The gateway process (pod name, or `envoy`).
    pub gateway: String,
    /// Random number of the process: another one means that every counter began at 0 again.
    pub boot: u64,
    /// When the scrape was begun: everything counted before it, but for one tick, is in it.
    pub begun: Timestamp,
    /// Counters by slot, since the process began.
    pub slots: [Counts; SLOTS as usize],
    /// Streams that outlived their slot.
    pub late: u64,
    /// Requests that were kept from the canary.
    pub refused: u64,
    /// Requests that the gateway has served on the canary's routes to the primary, by its own count, since those have the filter.
    pub routed: u64,
    /// The epoch whose table tripped the guard, 0 while it has not.
    pub tripped: u64,
    /// Which table tripped: 1 comparison, 2 absolute.
    pub trip_test: u64,
    /// Failed canary requests of the run that it waits with until the controller has seen them, 0 while it does not.
    pub held: u64,
}

pub(super) fn is_zero(value: &u64) -> bool {
    *value == 0
}

fn is_empty(cells: &[Cell; 2]) -> bool {
    *cells == <[Cell; 2]>::default()
}

impl Cell {
    /// Returns the requests that are under way.
    #[must_use]
    pub fn unended(&self) -> u64 {
        self.assigned.saturating_sub(self.ended().saturating_add(self.unjudged))
    }

    /// Returns the requests whose end was judged.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.success.saturating_add(self.failure).saturating_add(self.abandoned)
    }

    /// Returns the requests that were answered, well or badly: what a success rate is a rate of.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.success.saturating_add(self.failure)
    }

    /// Returns the requests whose duration is known.
    #[must_use]
    pub fn timed(&self) -> u64 {
        self.latency.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Returns those of them that are in this bucket or in a later one.
    #[must_use]
    pub fn slow(&self, bucket: usize) -> u64 {
        self.latency.iter().skip(bucket).fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Adds `other` to this. What a gateway reports is whatever it says: sums stop at the largest number.
    pub fn add(&mut self, other: &Self) {
        self.merge(other, u64::saturating_add);
    }

    /// Returns what this counts more than `earlier`. A counter never goes back; one that seems to counts as unchanged.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut delta = self.clone();
        delta.merge(earlier, u64::saturating_sub);
        delta
    }

    /// Adds `n` to one of the counters.
    pub fn count(&mut self, kind: Kind, n: u64) {
        let counter = match kind {
            Kind::Assigned => &mut self.assigned,
            Kind::Success => &mut self.success,
            Kind::Failure => &mut self.failure,
            Kind::Abandoned => &mut self.abandoned,
            Kind::Unjudged => &mut self.unjudged,
            Kind::ClientError => &mut self.client_error,
            Kind::Latency(index) => {
                let index = usize::from(index);
                if self.latency.len() <= index {
                    self.latency.resize(index + 1, 0);
                }
                &mut self.latency[index]
            }
        };
        *counter = counter.saturating_add(n);
    }

    fn merge(&mut self, other: &Self, op: impl Fn(u64, u64) -> u64) {
        self.assigned = op(self.assigned, other.assigned);
        self.success = op(self.success, other.success);
        self.failure = op(self.failure, other.failure);
        self.abandoned = op(self.abandoned, other.abandoned);
        self.unjudged = op(self.unjudged, other.unjudged);
        self.client_error = op(self.client_error, other.client_error);
        if self.latency.len() < other.latency.len() {
            self.latency.resize(other.latency.len(), 0);
        }
        for (a, b) in self.latency.iter_mut().zip(&other.latency) {
            *a = op(*a, *b);
        }
    }
}

impl Counts {
    /// Returns the requests of one arm and cohort.
    #[must_use]
    pub fn cell(&self, arm: Arm, cohort: Cohort) -> &Cell {
        match cohort {
            Cohort::Draw => &self.cells[arm as usize][0],
            Cohort::Match => &self.cells[arm as usize][1],
            Cohort::Sticky => &self.cells[arm as usize][2],
            Cohort::Direct => &self.direct[arm as usize],
        }
    }

    /// Returns the requests of one arm and cohort, to be changed.
    pub fn cell_mut(&mut self, arm: Arm, cohort: Cohort) -> &mut Cell {
        match cohort {
            Cohort::Draw => &mut self.cells[arm as usize][0],
            Cohort::Match => &mut self.cells[arm as usize][1],
            Cohort::Sticky => &mut self.cells[arm as usize][2],
            Cohort::Direct => &mut self.direct[arm as usize],
        }
    }

    /// How many cells there are.
    pub(crate) const CELLS: usize = 8;

    /// Returns of something that is known of every cell, in the order of [`Counts::cells`], what belongs to an arm.
    pub(crate) fn of_arm<T>(all: &[T; Self::CELLS], arm: Arm) -> impl Iterator<Item = &T> {
        let own = [arm as usize * 3, arm as usize * 3 + 1, arm as usize * 3 + 2, 6 + arm as usize];
        own.into_iter().filter_map(|place| all.get(place))
    }

    /// Returns every cell, to be changed.
    pub(crate) fn cells_mut(&mut self) -> impl Iterator<Item = &mut Cell> {
        self.cells.iter_mut().flatten().chain(&mut self.direct)
    }

    /// Returns every cell.
    pub(crate) fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.cells.iter().flatten().chain(&self.direct)
    }

    /// Returns the requests of one arm, all cohorts together.
    #[must_use]
    pub fn arm(&self, arm: Arm) -> Cell {
        let mut sum = Cell::default();
        self.cells[arm as usize].iter().chain([&self.direct[arm as usize]]).for_each(|cell| sum.add(cell));
        sum
    }

    /// Adds `other` to this.
    pub fn add(&mut self, other: &Self) {
        for (a, b) in self.cells_mut().zip(other.cells()) {
            a.add(b);
        }
        self.refused = self.refused.saturating_add(other.refused);
        self.routed = self.routed.saturating_add(other.routed);
    }

    /// Takes so many requests of each cell that are under way for ones that said nothing: their end will not be heard of.
    pub(crate) fn settle(&mut self, unended: &[u64; Self::CELLS]) {
        for (cell, unended) in self.cells_mut().zip(unended) {
            cell.unjudged = cell.unjudged.saturating_add(*unended);
        }
    }

    /// Takes over the latencies of `other`.
    pub(crate) fn take_latencies(&mut self, other: &Self) {
        for (cell, other) in self.cells_mut().zip(other.cells()) {
            cell.latency.clone_from(&other.latency);
        }
    }

    /// Returns what this counts more than `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut delta = self.clone();
        for (a, b) in delta.cells_mut().zip(earlier.cells()) {
            *a = a.since(b);
        }
        delta.refused = delta.refused.saturating_sub(earlier.refused);
        delta.routed = delta.routed.saturating_sub(earlier.routed);
        delta
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stored_before_the_canarys_own_name_was_counted_is_read() {
        let mut counts = Counts::default();
        counts.cell_mut(Arm::Canary, Cohort::Sticky).count(Kind::Success, 3);
        let stored = serde_json::to_string(&counts).unwrap();
        assert!(!stored.contains("direct"), "an earlier Weir reads it too: {stored}");
        assert_eq!(serde_json::from_str::<Counts>(&stored).unwrap(), counts);
        counts.cell_mut(Arm::Canary, Cohort::Direct).count(Kind::Success, 2);
        let read: Counts = serde_json::from_str(&serde_json::to_string(&counts).unwrap()).unwrap();
        assert_eq!((read.arm(Arm::Canary).success, read.cell(Arm::Canary, Cohort::Draw).success), (5, 0));
    }
}
