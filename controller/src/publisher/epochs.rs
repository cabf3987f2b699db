//! Which epoch of a canary a gateway uses, from the generation that it runs.

use std::collections::HashMap;

use weir_wire::{Config, SLOTS};

/// For each canary, the generations that first carried one of its epochs.
#[derive(Clone, Debug, Default)]
pub struct Epochs {
    /// By id, generation and epoch, oldest first.
    firsts: HashMap<String, Vec<(u64, u64)>>,
}

/// Epochs remembered of one canary. A gateway counts its VMs for as many generations, and a push brings a canary at most one
/// new epoch; so no gateway is known to run anything older.
const REMEMBERED: usize = SLOTS as usize;

impl Epochs {
    /// Takes note of a push.
    pub fn record(&mut self, config: &Config) {
        for canary in &config.canaries {
            self.insert(&canary.id, canary.epoch, config.generation);
        }
    }

    fn insert(&mut self, id: &str, epoch: u64, generation: u64) -> bool {
        let firsts = self.firsts.entry(id.to_owned()).or_default();
        if firsts.last().is_none_or(|(_, last)| *last != epoch) {
            firsts.push((generation, epoch));
            let surplus = firsts.len().saturating_sub(REMEMBERED);
            firsts.drain(..surplus);
            return true;
        }
        false
    }

    /// Takes note that a canary is off: a gateway that runs `generation`, which does not name it, sends nothing to it, as its
    /// epoch says. Returns whether that is new.
    pub fn record_off(&mut self, id: &str, epoch: u64, generation: u64) -> bool {
        self.insert(id, epoch, generation)
    }

    /// Returns the epoch of a canary that a gateway uses whose VMs all run `generation`.
    #[must_use]
    pub fn acknowledged(&self, id: &str, generation: u64) -> Option<u64> {
        let firsts = self.firsts.get(id)?;
        firsts.iter().rev().find(|(first, _)| *first <= generation).map(|(_, epoch)| *epoch)
    }

    /// Returns whether an epoch of a canary may have been handed out: gateways know none that is newer.
    #[must_use]
    pub fn is_handed_out(&self, id: &str, epoch: u64) -> bool {
        self.firsts.get(id).and_then(|firsts| firsts.last()).is_some_and(|(_, newest)| epoch <= *newest)
    }

    /// Forgets a canary that is no more.
    pub fn forget(&mut self, id: &str) {
        self.firsts.remove(id);
    }
}
