//! Reads what a gateway process says of itself: Envoy's `/stats/prometheus`, of which only the filter's metrics (and the number
//! of workers) matter here.
//!
//! A text that was cut off must not pass for small counters: a rollback could wait for failures that were already there. So a
//! report counts as whole only if it ends with a line's end and holds what the filter writes last. Envoy sorts counters
//! before gauges and each by name; `weir_boot` is a gauge, so every counter stands before it, and `weir_vms_<slot>` comes
//! after the `weir_generation_<slot>` that promises it.
//!
//! A report is believed for what its process can know, and no further: canaries that its configuration names, generations and epochs
//! that were handed out, and no more requests than one process can have served. It is read as it comes in, so that however much
//! somebody sends, no more is kept than of the canaries that are known.

mod reader;

use std::collections::HashMap;

use weir_engine::{Counts, Scrape, Span, Timestamp};
use weir_wire::SLOTS;
use weir_wire::names::{Arm, PREFIX};

pub use reader::Reader;

/// What one gateway process said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Random number of the process, never 0.
    pub boot: u64,
    /// Whether the dead man's switch keeps the process on the primary.
    pub disarmed: bool,
    /// Which additions to the configuration its module knows ([`weir_wire::names::LEVEL`]).
    pub level: u64,
    /// Worker threads, if Envoy said so.
    pub workers: Option<u64>,
    /// By slot, the generation and the VMs that run it.
    generations: [Option<(u64, u64)>; SLOTS as usize],
    /// The canaries, by id, whose routes have the filter on, and how many requests the gateway counts on those to the primary.
    filtering: HashMap<String, u64>,
    canaries: Vec<Counters>,
    /// Place in the list by id.
    places: HashMap<String, usize>,
}

/// What the process said of one canary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Counters {
    id: String,
    slots: [Counts; SLOTS as usize],
    late: u64,
    refused: u64,
    tripped: u64,
    trip_test: u64,
    held: u64,
}

/// Requests of one canary that a gateway process can have counted in a second: many times what one has been seen to serve.
const MOST_REQUESTS: u64 = 200_000;
/// As [`MOST_REQUESTS`], beside the seconds: counters are handed over in bursts.
const BURST: u64 = 1_000_000;

/// A text that is not a whole report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScrapeError {
    /// It ends too early.
    #[error("the gateway's metrics are cut off: {0}")]
    Truncated(String),
    /// There is no metric of the filter in it.
    #[error("the gateway's metrics hold none of the filter's: the filter does not run there, or has not ticked yet")]
    NoFilter,
    /// A line is longer than any that Envoy writes.
    #[error("the gateway's metrics have a line of more than {} bytes", reader::LINE)]
    Line,
    /// A metric of the filter has a value that is no number.
    #[error("the gateway's metrics do not parse: {0}")]
    Value(String),
}

impl Report {
    /// Reads a text. Lines that are not the filter's are passed over.
    ///
    /// # Errors
    /// When the text is cut off, or the filter does not run there.
    pub fn parse(text: &str) -> Result<Self, ScrapeError> {
        let mut reader = Reader::of(None);
        reader.read(text.as_bytes())?;
        reader.finish()
    }

    /// Joins generations and VMs, and refuses a text without its end.
    fn check(mut self, promised: [Option<u64>; SLOTS as usize]) -> Result<Self, ScrapeError> {
        let nothing = self.boot == 0 && self.canaries.is_empty() && promised.iter().all(Option::is_none);
        if nothing {
            return Err(ScrapeError::NoFilter);
        }
        let missing = |what: &str| Err(ScrapeError::Truncated(format!("{what} is missing")));
        if self.boot == 0 {
            return missing(weir_wire::names::BOOT);
        }
        if promised.iter().all(Option::is_none) {
            return missing(&format!("{PREFIX}generation_<slot>"));
        }
        for (slot, (generation, vms)) in promised.into_iter().zip(&mut self.generations).enumerate() {
            match (generation, vms) {
                (Some(generation), Some(vms)) => vms.0 = generation,
                (Some(_), None) => return missing(&format!("{PREFIX}vms_{slot}")),
                // VMs of an unnamed generation: nothing can be said of them.
                (None, vms) => *vms = None,
            }
        }
        Ok(self)
    }

    /// Believes no generation but those that were handed out, and no trip of a guard but of epochs that were.
    pub fn believe(&mut self, generation: impl Fn(u64) -> bool, epoch: impl Fn(&str, u64) -> bool) {
        for slot in &mut self.generations {
            *slot = slot.filter(|(known, _)| generation(*known));
        }
        for counters in self.canaries.iter_mut().filter(|counters| counters.tripped > 0) {
            if !epoch(&counters.id, counters.tripped) {
                (counters.tripped, counters.trip_test) = (0, 0);
            }
        }
    }

    /// Returns the canary of which this report counts more than one process can have served since an older one, if there is one.
    #[must_use]
    pub fn implausible(&self, older: &Self, since: Span) -> Option<&str> {
        let most = BURST + MOST_REQUESTS.saturating_mul(since.0 / 1000 + 1);
        let total = |of: &Counters| {
            let arms = of.slots.iter().flat_map(|slot| [slot.arm(Arm::Primary), slot.arm(Arm::Canary)]);
            arms.fold(0u64, |sum, cell| sum.saturating_add(cell.assigned.max(cell.ended())))
        };
        let before = |id: &str| older.places.get(id).and_then(|place| older.canaries.get(*place)).map_or(0, total);
        let mut more =
            self.canaries.iter().filter(|counters| total(counters).saturating_sub(before(&counters.id)) > most);
        more.next().filter(|_| self.boot == older.boot).map(|counters| counters.id.as_str())
    }

    /// Returns whether the process has routes of a canary on which the filter is on: Envoy shows their counters before any
    /// request.
    #[must_use]
    pub fn is_filtering(&self, id: &str) -> bool {
        self.filtering.contains_key(id)
    }

    /// Returns how many requests of a canary the process has given an arm.
    #[must_use]
    pub fn assigned(&self, id: &str) -> u64 {
        let Some(known) = self.places.get(id).and_then(|place| self.canaries.get(*place)) else { return 0 };
        let cells = known.slots.iter().flat_map(|slot| [slot.arm(Arm::Primary), slot.arm(Arm::Canary)]);
        cells.fold(0, |sum, cell| sum.saturating_add(cell.assigned))
    }

    /// Returns how many VMs run `generation`.
    #[must_use]
    pub fn vms(&self, generation: u64) -> u64 {
        let slot = usize::try_from(generation % SLOTS).unwrap_or_default();
        self.generations[slot].filter(|(of, _)| *of == generation).map_or(0, |(_, vms)| vms)
    }

    /// Returns whether every VM of the process (one per worker, and the main thread's) runs `generation`.
    #[must_use]
    pub fn runs(&self, generation: u64) -> bool {
        self.workers.is_some_and(|workers| self.vms(generation) > workers)
    }

    /// Returns the newest generation that every VM runs.
    #[must_use]
    pub fn generation(&self) -> Option<u64> {
        self.generations.iter().flatten().map(|(generation, _)| *generation).filter(|g| self.runs(*g)).max()
    }

    /// Returns a number that is another one once more of a canary's requests ended badly, or its guard tripped.
    #[must_use]
    pub fn trouble(&self, id: &str) -> u64 {
        let Some(known) = self.places.get(id).and_then(|place| self.canaries.get(*place)) else { return 0 };
        let cells = known.slots.iter().map(|slot| slot.arm(Arm::Canary));
        // What a pod says may be anything.
        cells.fold(known.tripped, |sum, cell| sum.saturating_add(cell.failure).saturating_add(cell.abandoned))
    }

    /// Returns what the process counted for one canary; zeros for one that it has not met yet.
    #[must_use]
    pub fn scrape(&self, id: &str, gateway: &str, begun: Timestamp) -> Scrape {
        let known = self.places.get(id).and_then(|place| self.canaries.get(*place));
        let Counters { slots, late, refused, tripped, trip_test, held, .. } = known.cloned().unwrap_or_default();
        let routed = self.filtering.get(id).copied().unwrap_or_default();
        let (gateway, boot) = (gateway.to_owned(), self.boot);
        Scrape { gateway, boot, begun, slots, late, refused, routed, tripped, trip_test, held }
    }
}

/// Returns the `stat_prefix` of a canary's routes: the switch that puts the filter on them sets it, and so their counters
/// prove the switch.
#[must_use]
pub fn stat_prefix(id: &str, arm: Arm) -> String {
    format!("{PREFIX}{id}_{}", arm.word())
}

#[cfg(test)]
mod tests;
