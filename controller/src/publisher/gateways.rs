//! What gateway processes have acknowledged, and what of it is believed: generations that were handed out, and no others.

use std::collections::{BTreeMap, BTreeSet};

use weir_engine::Timestamp;

/// Generations remembered. Whoever runs an older one runs none that matters.
const REMEMBERED: usize = 512;

/// All processes that have answered.
#[derive(Debug, Default)]
pub(super) struct Gateways {
    processes: BTreeMap<String, Process>,
    handed_out: BTreeSet<u64>,
}

/// One process.
#[derive(Debug)]
struct Process {
    asked_at: Timestamp,
    /// What all of its VMs run.
    runs: Option<u64>,
    /// Whether it has acknowledged anything since it is known.
    heard: bool,
}

impl Gateways {
    /// Takes note of a generation that gateways may run from now on.
    pub(super) fn hand_out(&mut self, generation: u64) {
        self.handed_out.insert(generation);
        while self.handed_out.len() > REMEMBERED {
            self.handed_out.pop_first();
        }
    }

    /// Returns whether gateways may run a generation.
    pub(super) fn is_handed_out(&self, generation: u64) -> bool {
        self.handed_out.contains(&generation)
    }

    /// Takes note of what a process said; returns whether that is new.
    pub(super) fn acknowledged(&mut self, name: &str, asked_at: Timestamp, said: Option<u64>) -> bool {
        let runs = said.filter(|generation| self.is_handed_out(*generation));
        let old = self.processes.get(name);
        let heard = runs.is_some() || old.is_some_and(|old| old.heard);
        let changed = old.and_then(|old| old.runs) != runs;
        self.processes.insert(name.to_owned(), Process { asked_at, runs, heard });
        changed
    }

    /// Returns whether a process has acknowledged anything.
    pub(super) fn is_heard(&self, name: &str) -> bool {
        self.processes.get(name).is_some_and(|process| process.heard)
    }

    /// Forgets processes; returns whether there were such.
    pub(super) fn retain(&mut self, keep: impl Fn(&str) -> bool) -> bool {
        let before = self.processes.len();
        self.processes.retain(|name, _| keep(name));
        self.processes.len() < before
    }

    /// Forgets all processes.
    pub(super) fn clear(&mut self) {
        self.processes.clear();
    }

    /// Returns whether every process that answers runs a generation. One that has never acknowledged anything is not waited
    /// for, unless none has.
    pub(super) fn run(&self, generation: u64) -> bool {
        let any = self.processes.values().any(|process| process.heard);
        let mut waited_for = self.processes.values().filter(|process| process.heard || !any);
        waited_for.all(|process| process.runs >= Some(generation))
    }

    /// Returns the processes that were asked since, and do not run a generation.
    pub(super) fn outdated(&self, since: Timestamp, generation: u64) -> impl Iterator<Item = &str> {
        let outdated = self
            .processes
            .iter()
            .filter(move |(_, process)| process.asked_at >= since && process.runs < Some(generation));
        outdated.map(|(name, _)| name.as_str())
    }
}
