//! Stops a bad canary without the controller.
//!
//! Failures and completed canary requests of an epoch are added up across the workers of the process in a shared cell, and
//! each canary failure is judged by the integer tables of the epoch that the request was assigned in. A trip is one more
//! cell, latched for the run; every choice for the canary reads it.
//!
//! An abandoned canary request is completed and not failed: the tables are stated for failures, and how many clients may
//! leave is judged by the controller, which knows how many leave the primary.

use weir_wire::{Limits, SLOTS};

use crate::host::Host;
use crate::shared;

/// Which table tripped; the numbers are the contract's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// Failed draws of the canary against those of the primary.
    Comparison = 1,
    /// Failed canary requests against completed ones.
    Absolute = 2,
}

/// What one request adds to the counts of its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A draw of the primary failed.
    PrimaryFailure,
    /// A canary request ended.
    Canary {
        /// It was an independent draw.
        draw: bool,
        /// It failed.
        failed: bool,
    },
}

/// What was counted in an epoch, over all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Failed draws of the canary.
    pub canary_failures: u32,
    /// Failed draws of the primary.
    pub primary_failures: u32,
    /// Completed canary requests of every cohort.
    pub completed: u32,
    /// Failed canary requests of every cohort.
    pub failed: u32,
}

impl Counts {
    fn add(&mut self, event: Event) {
        let one_if = |number: &mut u32, yes: bool| *number = number.saturating_add(u32::from(yes));
        match event {
            Event::PrimaryFailure => one_if(&mut self.primary_failures, true),
            Event::Canary { draw, failed } => {
                one_if(&mut self.canary_failures, draw && failed);
                one_if(&mut self.completed, true);
                one_if(&mut self.failed, failed);
            }
        }
    }

    /// Returns the test that these counts fail.
    #[must_use]
    pub fn judge(&self, limits: &Limits) -> Option<Test> {
        let reached = |limit: Option<u32>, count| limit.is_some_and(|limit| count >= limit);
        if reached(limits.comparison_limit(self.primary_failures), self.canary_failures) {
            return Some(Test::Comparison);
        }
        reached(limits.absolute_limit(self.completed), self.failed).then_some(Test::Absolute)
    }
}

/// A trip: of which run, in which epoch, by which test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trip {
    /// Hash of the run.
    pub run: u64,
    /// The epoch whose table tripped.
    pub epoch: u64,
    /// Number of the [`Test`].
    pub test: u64,
}

/// The shared cells of one canary.
#[derive(Debug)]
pub struct Guard {
    trip: Box<str>,
    /// One per slot, because streams of several epochs end side by side.
    counts: [Box<str>; SLOTS as usize],
}

impl Guard {
    /// Returns the guard of the canary with this id.
    #[must_use]
    pub fn new(id: &str) -> Self {
        Self {
            trip: format!("trip/{id}").into(),
            counts: std::array::from_fn(|slot| format!("counts/{id}/{slot}").into()),
        }
    }

    /// Adds one request to the counts of its epoch and returns them. Nothing if a newer epoch owns the cell.
    pub fn add<H: Host>(&self, host: &mut H, epoch: u64, event: Event) -> Option<Counts> {
        let key = self.counts.get((epoch % SLOTS) as usize)?;
        let mut counts = Counts::default();
        shared::update(host, key, |old: Option<[u8; 24]>| {
            let (of, mut sum) = old.map_or((epoch, Counts::default()), unpack);
            match of.cmp(&epoch) {
                std::cmp::Ordering::Less => sum = Counts::default(),
                std::cmp::Ordering::Equal => {}
                std::cmp::Ordering::Greater => return None,
            }
            sum.add(event);
            counts = sum;
            Some(pack(epoch, sum))
        })
        .map(|_| counts)
    }

    /// Latches a trip. One of a newer epoch, or the first one of the same run, stays.
    pub fn latch<H: Host>(&self, host: &mut H, trip: Trip) {
        shared::update(host, &self.trip, |old: Option<[u8; 24]>| {
            let old = old.map(Trip::unpack);
            let stays = old.is_some_and(|old| old.run == trip.run || old.epoch > trip.epoch);
            (!stays).then(|| shared::pack([trip.run, trip.epoch, trip.test]))
        });
    }

    /// Returns the trip of a run. A run without a name (its hash is 0) is none.
    pub fn trip<H: Host>(&self, host: &mut H, run: u64) -> Option<Trip> {
        shared::read(host, &self.trip).map(Trip::unpack).filter(|trip| run != 0 && trip.run == run)
    }
}

impl Trip {
    fn unpack(bytes: [u8; 24]) -> Self {
        let [run, epoch, test] = shared::unpack(bytes);
        Self { run, epoch, test }
    }
}

fn pack(epoch: u64, counts: Counts) -> [u8; 24] {
    let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    shared::pack([epoch, pair(counts.canary_failures, counts.primary_failures), pair(counts.completed, counts.failed)])
}

fn unpack(bytes: [u8; 24]) -> (u64, Counts) {
    let [epoch, draws, all] = shared::unpack(bytes);
    let (low, high) = (|word: u64| word as u32, |word: u64| (word >> 32) as u32);
    let counts =
        Counts { canary_failures: low(draws), primary_failures: high(draws), completed: low(all), failed: high(all) };
    (epoch, counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated::SimulatedHost;

    const FAILED_DRAW: Event = Event::Canary { draw: true, failed: true };

    fn limits() -> Limits {
        Limits {
            epoch: 9,
            comparison: vec![[0, 3], [1, 4], [3, 5]],
            absolute: vec![[3, 3], [4, 4], [7, 5]],
            end: [4, 9],
            beyond: [vec![], vec![]],
        }
    }

    #[test]
    fn failures_add_up_across_workers_and_within_an_epoch_only() {
        let guard = Guard::new("a");
        let mut hosts = [SimulatedHost::default()].to_vec();
        hosts.push(hosts[0].another_vm());
        for round in 1..=5 {
            for (vm, host) in hosts.iter_mut().enumerate() {
                let counts = guard.add(host, 9, FAILED_DRAW).unwrap();
                assert_eq!(counts.failed as usize, round * 2 - 1 + vm);
            }
        }
        let newer = guard.add(&mut hosts[0], 17, Event::PrimaryFailure).unwrap();
        assert_eq!(newer, Counts { primary_failures: 1, ..Counts::default() });
        assert_eq!(guard.add(&mut hosts[1], 9, FAILED_DRAW), None, "the slot belongs to epoch 17 now");
    }

    #[test]
    fn the_comparison_trips_at_the_limit_for_the_primarys_failures() {
        let comparison = Limits { absolute: vec![], ..limits() };
        let trips = |x, y| Counts { canary_failures: x, primary_failures: y, ..Counts::default() }.judge(&comparison);
        for (x, y, expected) in [
            (2, 0, None),
            (3, 0, Some(Test::Comparison)),
            (3, 1, None),
            (4, 2, Some(Test::Comparison)),
            (4, 3, None),
            (5, 4, Some(Test::Comparison)),
            (99, 5, None),
        ] {
            assert_eq!(trips(x, y), expected, "{x} of the canary, {y} of the primary");
        }
    }

    #[test]
    fn the_absolute_test_trips_at_the_limit_for_the_completed_requests() {
        let absolute = Limits { comparison: vec![], ..limits() };
        let trips = |failed, completed| Counts { failed, completed, ..Counts::default() }.judge(&absolute);
        for (failed, completed, expected) in
            [(2, 2, None), (3, 3, Some(Test::Absolute)), (3, 4, None), (5, 9, Some(Test::Absolute)), (10, 10, None)]
        {
            assert_eq!(trips(failed, completed), expected, "{failed} of {completed}");
        }
    }

    #[test]
    fn beyond_its_end_a_table_goes_on_as_a_line_and_an_older_controllers_ends() {
        // One more failure for every four requests of the primary that fail, and for every two hundred of the canary's.
        let line = weir_wire::config::LINE;
        let limits = Limits { beyond: [vec![[6, line / 4]], vec![[6, line / 200], [99, 0]]], ..limits() };
        let comparison = |x, y| Counts { canary_failures: x, primary_failures: y, ..Counts::default() }.judge(&limits);
        let absolute = |failed, completed| Counts { failed, completed, ..Counts::default() }.judge(&limits);
        for (x, y, trips) in [(6, 5, false), (7, 5, true), (7, 8, true), (7, 9, false), (1_006, 4_004, true)] {
            assert_eq!(comparison(x, y), trips.then_some(Test::Comparison), "{x} of the canary, {y} of the primary");
        }
        for (failed, completed, trips) in [(6, 10, false), (7, 10, true), (55, 10_009, false), (56, 10_009, true)] {
            assert_eq!(absolute(failed, completed), trips.then_some(Test::Absolute), "{failed} of {completed}");
        }
        assert_eq!(
            absolute(99, u32::MAX),
            Some(Test::Absolute),
            "the lowest line is the limit, and the largest counts fit"
        );
        let older = Limits { beyond: [vec![], vec![]], ..limits.clone() };
        assert_eq!(Counts { failed: 9_000, completed: 10_000, ..Counts::default() }.judge(&older), None);
    }

    #[test]
    fn a_trip_is_latched_for_its_run() {
        let guard = Guard::new("a");
        let mut host = SimulatedHost::default();
        let first = Trip { run: 5, epoch: 9, test: Test::Comparison as u64 };
        guard.latch(&mut host, first);
        guard.latch(&mut host, Trip { epoch: 12, ..first });
        assert_eq!(guard.trip(&mut host.another_vm(), 5), Some(first));
        assert_eq!(guard.trip(&mut host, 6), None);
        assert_eq!(guard.trip(&mut host, 0), None);
        let next = Trip { run: 6, epoch: 20, test: Test::Absolute as u64 };
        guard.latch(&mut host, next);
        assert_eq!((guard.trip(&mut host, 5), guard.trip(&mut host, 6)), (None, Some(next)));
        guard.latch(&mut host, Trip { run: 5, epoch: 10, test: 1 });
        assert_eq!(guard.trip(&mut host, 6), Some(next), "a worker that is behind cannot clear the newer run's trip");
    }
}
