//! What was counted for one Canary, exactly: no count is lost or made twice, whoever restarts.
//!
//! A proxy counts per slot (epoch mod 8) and never starts again while it runs. This keeps what each process's slots read last and
//! gives every increase to the epoch that owned the slot at that time. The sum over all processes is all that anybody asks for, so it
//! stays when a process goes; another `boot` number is another process, whose counters began at 0.
//!
//! There may be a thousand callers, so of a process as little as possible is stored: see [`stored`].

mod stored;

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use weir_wire::SLOTS;
use weir_wire::names::Arm;

use super::counts::{Cell, Counts, Scrape};
use super::time::{Span, Timestamp};

/// A process that is not among those that serve for so long is gone: a look at the cluster that was a moment old made it none.
const GONE: Span = Span::seconds(30);
/// Processes that are gone and still known, so that one that comes back is not counted twice.
const REMEMBERED: usize = 4096;

/// What was counted for one Canary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "stored::Stored", from = "stored::Form")]
pub struct CounterHistory {
    /// The newest epoch that any slot may have been used for.
    newest: u64,
    /// Requests by epoch, of all processes together.
    epochs: BTreeMap<u64, Counts>,
    processes: BTreeMap<Identity, Process>,
    /// Processes that are no more, oldest first.
    gone: VecDeque<Identity>,
    /// Whether more processes were known when this was stored than it has room for: one that is not known may have been counted.
    crowded: bool,
}

/// What is taken out of the books, by epoch.
pub type Retired = BTreeMap<u64, Counts>;

/// Which process: a hash of its name and its `boot` number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Identity(u64);

impl Identity {
    fn of(scrape: &Scrape) -> Self {
        // FNV-1a, and a mixer, since the numbers of two boots may differ in a few bits.
        let bytes = scrape.gateway.bytes().chain(scrape.boot.to_le_bytes());
        let hash =
            bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        Self(mixed ^ (mixed >> 33))
    }
}

/// One process's part.
#[derive(Clone, Debug, Default, PartialEq)]
struct Process {
    /// Its name; none since it was stored with many others, as long as it was not heard of.
    name: String,
    /// When its newest scrape began.
    begun: Timestamp,
    /// Since when it is not among those that serve.
    missing: Option<Timestamp>,
    /// The newest epoch that it is known to use: no request of it is assigned in an older one.
    uses: u64,
    /// What each slot read last. Nothing: what it reads next is where it starts from.
    last: [Option<Counts>; SLOTS as usize],
    /// Whether the latencies of those are not known: they start from what is read next.
    untimed: bool,
    refused: Option<u64>,
    routed: Option<u64>,
    /// Requests without an end, by epoch and [`Counts::cells`].
    open: BTreeMap<u64, [u64; CELLS]>,
}

const CELLS: usize = Counts::CELLS;

impl Process {
    /// Returns one that has counted for this Canary only, from 0 on.
    fn new() -> Self {
        let last = std::array::from_fn(|_| Some(Counts::default()));
        Self { last, refused: Some(0), routed: Some(0), ..Self::default() }
    }

    /// Notes which requests of an epoch began and ended.
    fn note(&mut self, epoch: u64, delta: &Counts) {
        let open = self.open.entry(epoch).or_default();
        for (open, cell) in open.iter_mut().zip(delta.cells()) {
            *open = open.saturating_add(cell.assigned).saturating_sub(cell.ended().saturating_add(cell.unjudged));
        }
        if open.iter().all(|count| *count == 0) {
            self.open.remove(&epoch);
        }
    }
}

impl CounterHistory {
    /// Takes in a scrape made while `epoch` was the newest epoch asked for.
    ///
    /// The first process ever seen may have counted for an earlier Weir, whose numbers nobody can place: it starts from what it reads
    /// now, as does one that was gone. Any other has counted for this Canary only.
    pub fn absorb(&mut self, scrape: &Scrape, epoch: u64) {
        self.newest = self.newest.max(epoch);
        let identity = Identity::of(scrape);
        if !self.processes.contains_key(&identity) {
            let first_ever = self.processes.is_empty() && self.gone.is_empty() && self.epochs.is_empty();
            let known = first_ever || self.crowded || self.gone.contains(&identity);
            self.gone.retain(|gone| *gone != identity);
            // What the former process of that name had under way nobody will ever hear of.
            let former = self.processes.iter().find(|(_, process)| process.name == scrape.gateway);
            if let Some(former) = former.map(|(former, _)| *former) {
                self.bury(former);
            }
            self.processes.insert(identity, if known { Process::default() } else { Process::new() });
        }
        let Some(process) = self.processes.get_mut(&identity) else { return };
        if scrape.begun < process.begun {
            return;
        }
        process.name.clone_from(&scrape.gateway);
        (process.begun, process.missing) = (scrape.begun, None);
        for (slot, counts) in (0..SLOTS).zip(&scrape.slots) {
            let Some(last) = process.last.get_mut(slot as usize) else { continue };
            if let Some(last) = last.as_mut().filter(|_| process.untimed) {
                last.take_latencies(counts);
            }
            let delta = last.as_ref().filter(|last| *last != counts).map(|last| counts.since(last));
            if delta.is_some() || last.is_none() {
                *last = Some(counts.clone());
            }
            if let (Some(owner), Some(delta)) = (owner(slot, epoch), delta.filter(|delta| *delta != Counts::default()))
            {
                self.epochs.entry(owner).or_default().add(&delta);
                process.note(owner, &delta);
            }
        }
        process.untimed = false;
        // Refusals are not counted by slot; they happen in a run's first moments, so the newest epoch is theirs. What the gateway
        // counts itself knows no slots either.
        let more = |last: &mut Option<u64>, now: u64| now.saturating_sub(last.replace(now).unwrap_or(now));
        let (refused, routed) = (more(&mut process.refused, scrape.refused), more(&mut process.routed, scrape.routed));
        if refused > 0 || routed > 0 {
            let newest = self.epochs.entry(epoch).or_default();
            newest.refused = newest.refused.saturating_add(refused);
            newest.routed = newest.routed.saturating_add(routed);
        }
    }

    /// Notes that an epoch begins: its slot is used anew.
    pub fn begin(&mut self, epoch: u64) {
        self.newest = self.newest.max(epoch);
    }

    /// Takes note of which processes serve, by name, and which epoch each is known to use. Those that are not among them for a while
    /// are gone: what they counted stays in the sum.
    pub fn keep(&mut self, serving: &BTreeMap<&str, Option<u64>>, now: Timestamp) {
        let mut heard = 0;
        let mut gone = Vec::new();
        for (identity, process) in self.processes.iter_mut().filter(|(_, process)| !process.name.is_empty()) {
            match serving.get(process.name.as_str()) {
                Some(uses) => {
                    heard += 1;
                    process.missing = None;
                    process.uses = process.uses.max(uses.unwrap_or_default());
                }
                None if now.since(*process.missing.get_or_insert(now)) >= GONE => gone.push(*identity),
                None => {}
            }
        }
        // Once all that serve were heard of, one that was stored and is not among them has gone while nobody looked.
        if heard >= serving.len() {
            let unheard = self.processes.iter().filter(|(_, process)| process.name.is_empty());
            gone.extend(unheard.map(|(identity, _)| *identity));
        }
        gone.into_iter().for_each(|identity| self.bury(identity));
    }

    /// Keeps of a process that is gone only that there was one. What it had under way said nothing.
    fn bury(&mut self, identity: Identity) {
        let Some(process) = self.processes.remove(&identity) else { return };
        for (epoch, open) in process.open {
            if let Some(sum) = self.epochs.get_mut(&epoch) {
                sum.settle(&open);
            }
        }
        self.gone.push_back(identity);
        let surplus = self.gone.len().saturating_sub(REMEMBERED);
        self.gone.drain(..surplus);
    }

    /// Takes out everything counted before `epoch`. No stream can change it any more once the epoch asked for is eight
    /// further.
    pub fn retire(&mut self, epoch: u64) -> Retired {
        let open = self.epochs.split_off(&epoch);
        std::mem::replace(&mut self.epochs, open)
    }

    /// Forgets which requests of epochs before `epoch` have no end.
    pub fn close(&mut self, epoch: u64) {
        for process in self.processes.values_mut() {
            process.open = process.open.split_off(&epoch);
        }
    }

    /// Returns what was counted in the epochs from `first` on.
    #[must_use]
    pub fn since(&self, first: u64) -> Counts {
        let mut sum = Counts::default();
        self.epochs.range(first..).for_each(|(_, counts)| sum.add(counts));
        sum
    }

    /// Returns what was counted in one epoch.
    #[must_use]
    pub fn epoch(&self, epoch: u64) -> Counts {
        self.epochs.get(&epoch).cloned().unwrap_or_default()
    }

    /// Returns the canary requests of an epoch that had no end in a scrape which began at `from` or later.
    #[must_use]
    pub fn unended(&self, epoch: u64, from: Timestamp) -> u64 {
        let looked = self.processes.values().filter(|process| process.begun >= from);
        let open = looked.filter_map(|process| process.open.get(&epoch));
        open.flat_map(|open| Counts::of_arm(open, Arm::Canary)).fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Returns, by its name, when each process's newest scrape began.
    #[must_use]
    pub fn scraped(&self) -> BTreeMap<&str, Timestamp> {
        self.processes.values().map(|process| (process.name.as_str(), process.begun)).collect()
    }
}

/// Returns the epoch that owns a slot while `newest` is the newest epoch; nothing for slots that were never used.
fn owner(slot: u64, newest: u64) -> Option<u64> {
    let age = (newest % SLOTS + SLOTS - slot) % SLOTS;
    newest.checked_sub(age)
}

impl Cell {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests;
