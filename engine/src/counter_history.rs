//! Keeps each gateway's counters by epoch, whatever happens to the gateway.
//!
//! Gateways count per slot (`epoch % 8`) since their process began. The counters turns that into requests per epoch: it
//! remembers what each slot read last and gives every increase to the epoch that owned the slot at that time. What a gateway
//! had counted stays when it vanishes; another `boot` number says that its counters began at 0 again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weir_wire::SLOTS;

use super::counts::{Counts, Scrape, is_zero};
use super::time::Timestamp;

/// What the gateways have counted for one Canary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CounterHistory {
    gateways: BTreeMap<String, Account>,
}

/// What is taken out of the books: by epoch and gateway.
pub type Retired = BTreeMap<u64, BTreeMap<String, Counts>>;

/// One gateway's part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Account {
    boot: u64,
    begun: Timestamp,
    last: BTreeMap<u64, Counts>,
    refused: u64,
    #[serde(skip_serializing_if = "is_zero")]
    routed: u64,
    epochs: BTreeMap<u64, Counts>,
}

impl CounterHistory {
    /// Takes in a scrape made while `epoch` was the newest epoch asked for.
    ///
    /// The first gateway ever seen may have counted for an earlier Weir, whose numbers nobody can place: it starts from what
    /// it reads now. A gateway that appears later has counted for this Canary only.
    pub fn absorb(&mut self, scrape: &Scrape, epoch: u64) {
        let first_ever = self.gateways.is_empty();
        let known = self.gateways.get(&scrape.gateway).is_some_and(|account| account.boot == scrape.boot);
        let account = self.gateways.entry(scrape.gateway.clone()).or_default();
        if known && scrape.begun < account.begun {
            return;
        }
        if !known {
            // What the former process had under way nobody will ever hear of.
            account.epochs.values_mut().for_each(Counts::settle);
            account.boot = scrape.boot;
            account.last.clear();
            (account.refused, account.routed) = (0, 0);
        }
        account.begun = scrape.begun;
        for (slot, counts) in (0..SLOTS).zip(&scrape.slots) {
            let owner = owner(slot, epoch);
            let last = account.last.entry(slot).or_default();
            if known || !first_ever {
                let delta = counts.since(last);
                if let Some(owner) = owner.filter(|_| delta != Counts::default()) {
                    account.epochs.entry(owner).or_default().add(&delta);
                }
            }
            last.clone_from(counts);
        }
        // Refusals are not counted by slot; they happen in a run's first moments, so the newest epoch is theirs. What the gateway
        // counts itself knows no slots either.
        let refused = scrape.refused.saturating_sub(account.refused);
        let routed = scrape.routed.saturating_sub(account.routed);
        (account.refused, account.routed) = (scrape.refused, scrape.routed);
        if (refused > 0 || routed > 0) && (known || !first_ever) {
            let newest = account.epochs.entry(epoch).or_default();
            newest.refused = newest.refused.saturating_add(refused);
            newest.routed = newest.routed.saturating_add(routed);
        }
        account.last.retain(|_, counts| *counts != Counts::default());
    }

    /// Takes out everything counted before `epoch`. No stream can change it any more once the epoch asked for is eight
    /// further.
    pub fn retire(&mut self, epoch: u64) -> Retired {
        let mut retired = Retired::new();
        for (name, account) in &mut self.gateways {
            let open = account.epochs.split_off(&epoch);
            for (epoch, counts) in std::mem::replace(&mut account.epochs, open) {
                retired.entry(epoch).or_default().insert(name.clone(), counts);
            }
        }
        retired
    }

    /// Forgets gateways that are not in `alive` and have nothing left to say.
    pub fn forget(&mut self, alive: impl Fn(&str) -> bool) {
        self.gateways.retain(|name, account| alive(name) || !account.epochs.is_empty());
    }

    /// Returns what all gateways counted in the epochs from `first` on.
    #[must_use]
    pub fn since(&self, first: u64) -> Counts {
        let mut sum = Counts::default();
        self.gateways.values().flat_map(|account| account.epochs.range(first..)).for_each(|(_, c)| sum.add(c));
        sum
    }

    /// Returns what all gateways counted in one epoch.
    #[must_use]
    pub fn epoch(&self, epoch: u64) -> Counts {
        let mut sum = Counts::default();
        self.gateways.values().filter_map(|account| account.epochs.get(&epoch)).for_each(|c| sum.add(c));
        sum
    }

    /// Returns what one gateway counted in one epoch.
    #[must_use]
    pub fn of(&self, gateway: &str, epoch: u64) -> Option<&Counts> {
        self.gateways.get(gateway)?.epochs.get(&epoch)
    }

    /// Returns what each gateway counted in one epoch, and when its newest scrape began.
    pub fn pods(&self, epoch: u64) -> impl Iterator<Item = (&Counts, Timestamp)> {
        self.gateways.values().filter_map(move |account| Some((account.epochs.get(&epoch)?, account.begun)))
    }

    /// Returns the gateways that have counted anything, gone ones included.
    pub fn gateways(&self) -> impl Iterator<Item = &str> {
        self.gateways.keys().map(String::as_str)
    }

    /// Returns when a gateway's newest scrape began.
    #[must_use]
    pub fn scraped(&self, gateway: &str) -> Option<Timestamp> {
        self.gateways.get(gateway).map(|account| account.begun)
    }
}

/// Returns the epoch that owns a slot while `newest` is the newest epoch; nothing for slots that were never used.
fn owner(slot: u64, newest: u64) -> Option<u64> {
    let age = (newest % SLOTS + SLOTS - slot) % SLOTS;
    newest.checked_sub(age)
}
