//! What gateway processes have acknowledged, and what of it is believed: generations that were handed out, and no others.

use std::collections::{BTreeMap, BTreeSet};

use weir_engine::{Span, Timestamp};

/// Generations remembered. Whoever runs an older one runs none that matters.
const REMEMBERED: usize = 512;

/// All processes that have answered.
#[derive(Debug, Default)]
pub(super) struct Gateways {
    processes: BTreeMap<String, Process>,
    handed_out: BTreeSet<u64>,
    /// How long one is waited for that answers and does not take over what it is told; for ever if absent.
    patience: Option<Span>,
}

/// One process.
#[derive(Debug)]
struct Process {
    asked_at: Timestamp,
    /// What all of its VMs run.
    runs: Option<u64>,
    /// Whether it has acknowledged anything since it is known.
    heard: bool,
    /// When it ran the newest generation last, or took over a newer one.
    current_at: Timestamp,
    /// Whether that is too long ago for it to be waited for.
    late: bool,
}

impl Process {
    fn is_waited_for(&self) -> bool {
        self.heard && !self.late
    }
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

    /// Has one that does not take over what it is told waited for so long.
    pub(super) fn set_patience(&mut self, patience: Span) {
        self.patience = Some(patience);
    }

    /// Takes note of what a process said, where `newest` was pushed last; returns whether that is new.
    pub(super) fn acknowledged(&mut self, name: &str, asked_at: Timestamp, said: Option<u64>, newest: u64) -> bool {
        let runs = said.filter(|generation| self.is_handed_out(*generation));
        let old = self.processes.get(name);
        let heard = runs.is_some() || old.is_some_and(|old| old.heard);
        let is_current = runs >= Some(newest) || old.is_none_or(|old| runs > old.runs);
        let current_at = old.filter(|_| !is_current).map_or(asked_at, |old| old.current_at);
        let late = self.patience.is_some_and(|patience| asked_at.since(current_at) >= patience);
        let changed = old.and_then(|old| old.runs) != runs || old.is_some_and(|old| old.late != late);
        self.processes.insert(name.to_owned(), Process { asked_at, runs, heard, current_at, late });
        changed
    }

    /// Returns whether a process has acknowledged anything, and is waited for.
    pub(super) fn is_heard(&self, name: &str) -> bool {
        self.processes.get(name).is_some_and(Process::is_waited_for)
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
        let any = self.processes.values().any(Process::is_waited_for);
        let mut waited_for = self.processes.values().filter(|process| process.is_waited_for() || !any);
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

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_395_000_000);

    /// Has two callers asked each second: one takes over every generation, the other none after the first.
    fn heard(patience: Option<Span>, seconds: u64) -> Gateways {
        let mut gateways = Gateways { patience, ..Gateways::default() };
        for second in 0..=seconds {
            let newest = second / 10 + 1;
            gateways.hand_out(newest);
            gateways.acknowledged("good", NOW + Span::seconds(second), Some(newest), newest);
            gateways.acknowledged("stuck", NOW + Span::seconds(second), Some(1), newest);
        }
        gateways
    }

    #[test]
    fn one_that_does_not_take_over_what_it_is_told_is_waited_for_as_long_as_there_is_patience() {
        let patience = Some(Span::seconds(30));
        // It ran the newest generation in the tenth second last.
        let rows = [(None, 1000, false), (patience, 38, false), (patience, 39, true), (patience, 1000, true)];
        for (patience, seconds, goes_on) in rows {
            let gateways = heard(patience, seconds);
            let newest = seconds / 10 + 1;
            assert_eq!(gateways.run(newest), goes_on, "{patience:?} {seconds}");
            assert_eq!(gateways.is_heard("stuck"), !goes_on, "{patience:?} {seconds}");
        }
    }

    #[test]
    fn one_that_catches_up_is_waited_for_again_and_all_are_where_none_does_as_it_is_told() {
        let mut gateways = heard(Some(Span::seconds(30)), 60);
        assert!(gateways.run(7));
        gateways.acknowledged("stuck", NOW + Span::seconds(61), Some(5), 7);
        assert!(!gateways.run(7), "it moves");
        gateways.acknowledged("stuck", NOW + Span::seconds(62), Some(7), 7);
        assert!(gateways.run(7));
        let mut alone = heard(Some(Span::seconds(30)), 60);
        alone.retain(|name| name == "stuck");
        assert!(!alone.run(7));
    }
}
