//! When a gateway gets a new configuration, and why: the same policy for a gateway in a cluster and for the one of this machine.
//!
//! ```text
//!  set_desired, remove ──> desired ─┐
//!  acknowledged ─────> gateways ────┼─ next(now) ─> Push | Remove | Wait
//!  pushed, failed, resync ──────────┘
//! ```
//!
//! Pure: time is an argument, and the caller writes. Changes of many Canaries are gathered into one push, because every push
//! makes istiod send to every gateway. A change that takes requests away from a canary is pushed at once, with all that waits.

mod epochs;

use std::collections::BTreeMap;

use weir_wire::{Canary, Config, ConfigError, Weight};

use crate::gateway_config::{config, next_generation};
use crate::rollout::{Span, Timestamp};

pub use epochs::Epochs;

/// A gateway process that starts this long after the last push sends nothing to a canary.
const ARMED_FOR: Span = Span::seconds(60);
/// A push is renewed when this much of [`ARMED_FOR`] is left: time enough for two more tries, and for another controller to
/// take over.
const RENEW_BEFORE: Span = Span::seconds(30);
/// A push that a gateway has not acknowledged by then is made again: pilot-agent does not repeat a failed fetch of the module.
pub const ACK_TIMEOUT: Span = Span::seconds(2);
/// An Envoy that was just started compiles the module first, which takes its time on a busy machine.
const STARTUP_ACK_TIMEOUT: Span = Span::seconds(10);
/// Longest time between two pushes of the same, while a canary has requests and while none has.
const MAX_ACK_BACKOFF: [Span; 2] = [Span::seconds(30), Span::seconds(300)];
/// What a gateway said earlier than this after a push may have been gathered before the push arrived.
const ACK_GRACE: Span = Span(500);
/// Time to the next try after a write that failed.
const RETRY: Span = Span(200);
/// A push without Canaries stands at least this long before the filter goes: gateways that do not answer get it too.
const DRAIN: Span = Span::seconds(2);
/// A gateway that has not acknowledged the push without Canaries by then loses its filter all the same.
const REMOVAL_TIMEOUT: Span = Span::seconds(30);
/// Where nothing is due, the caller asks again after this.
const IDLE: Span = Span::seconds(10);

/// The desired configuration of one gateway, and how far its pushes have got.
#[derive(Debug)]
pub struct Publisher {
    /// Time between two ordinary pushes.
    debounce: Span,
    /// What each canary should have, by id.
    desired: BTreeMap<String, Canary>,
    /// Whether `desired` may differ from what was pushed.
    changed: bool,
    /// Whether the difference takes requests away from a canary.
    urgent: bool,
    /// Whether what gateways can read is not what was pushed.
    drifted: bool,
    /// What was pushed last.
    last_pushed: Option<Config>,
    /// What that was made of: it may hold Canaries that were left out.
    last_desired: BTreeMap<String, Canary>,
    /// The newest generation ever pushed, also where nothing is left of it.
    generation: u64,
    pushed_at: Timestamp,
    tried_at: Timestamp,
    failed: bool,
    /// How long acknowledgements of the last push are waited for.
    ack_timeout: Span,
    /// By gateway process, when it was asked, and which generation all of its VMs run.
    gateways: BTreeMap<String, (Timestamp, Option<u64>)>,
    /// When the filter was taken out, while its configuration is still there.
    filter_removed_at: Option<Timestamp>,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a push that nobody writes is lost"]
pub enum Next {
    /// Write this configuration, then say [`Publisher::pushed`], [`Publisher::failed`] or [`Publisher::resync`].
    Push(Push),
    /// Take the filter out of the gateway: it has no Canary any more. Then say [`Publisher::filter_removed`].
    RemoveFilter,
    /// Take its configuration away. Then say [`Publisher::config_removed`].
    RemoveConfig,
    /// Nothing until then, unless something is said.
    Wait(Timestamp),
}

/// A configuration to write.
#[derive(Clone, Debug, PartialEq)]
pub struct Push {
    /// The configuration, which the filter accepts.
    pub config: Config,
    /// Why it is written.
    pub reason: PushReason,
    /// Whether it takes requests away from a canary.
    pub urgent: bool,
    /// Canaries that were left out, with the reason: one Canary's fault must not keep all others from being told anything.
    pub left_out: Vec<String>,
    made_of: BTreeMap<String, Canary>,
}

/// Why a configuration is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushReason {
    /// Nothing was pushed yet.
    First,
    /// Something is desired that was not pushed.
    Changed,
    /// Gateway processes that start from now on would soon no longer trust the last push.
    Renewal,
    /// Somebody else changed or deleted what was pushed, or it is of another module.
    Drifted,
    /// A gateway that answers does not run the last push.
    NotAcknowledged,
    /// An Envoy is about to start.
    Startup,
}

impl Publisher {
    /// Returns a publisher that has pushed nothing.
    #[must_use]
    pub fn new(debounce: Span) -> Self {
        Self {
            debounce,
            desired: BTreeMap::new(),
            changed: false,
            urgent: false,
            drifted: false,
            last_pushed: None,
            last_desired: BTreeMap::new(),
            generation: 0,
            pushed_at: Timestamp(0),
            tried_at: Timestamp(0),
            failed: false,
            ack_timeout: ACK_TIMEOUT,
            gateways: BTreeMap::new(),
            filter_removed_at: None,
        }
    }

    /// Returns a publisher that goes on with what an earlier controller pushed, without the Canaries that are gone.
    #[must_use]
    pub fn resume(debounce: Span, pushed: Config, is_alive: impl Fn(&Canary) -> bool) -> Self {
        let mut publisher = Self::new(debounce);
        publisher.desired = pushed.canaries.iter().filter(|canary| is_alive(canary)).map(by_id).collect();
        publisher.resync(Some(pushed), Timestamp(0));
        publisher
    }

    /// Says what a canary should have from the next push on. Returns whether that is new.
    pub fn set_desired(&mut self, canary: Canary) -> bool {
        let old = self.desired.get(&canary.id);
        if old == Some(&canary) {
            return false;
        }
        let (weight, matching) = old.map_or((Weight::ZERO, false), |old| (old.weight, !old.conditions.is_empty()));
        self.urgent |= canary.weight < weight || (matching && canary.conditions.is_empty());
        self.changed = true;
        self.desired.insert(canary.id.clone(), canary);
        true
    }

    /// Says that a canary is no more. Returns whether there was one.
    pub fn remove(&mut self, id: &str) -> bool {
        let known = self.desired.remove(id).is_some();
        self.changed |= known;
        known
    }

    /// Removes the canaries that are not to be kept.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        let before = self.desired.len();
        self.desired.retain(|id, _| keep(id));
        self.changed |= self.desired.len() < before;
    }

    /// Returns what a canary should have.
    #[must_use]
    pub fn desired(&self, id: &str) -> Option<&Canary> {
        self.desired.get(id)
    }

    /// Returns whether any canary should have anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.desired.is_empty()
    }

    /// Returns whether something desired takes requests away from a canary, and is not pushed yet.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.urgent
    }

    /// Returns what was pushed last.
    #[must_use]
    pub fn last_pushed(&self) -> Option<&Config> {
        self.last_pushed.as_ref()
    }

    /// Returns the newest generation.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns when the last push was made.
    #[must_use]
    pub fn pushed_at(&self) -> Timestamp {
        self.pushed_at
    }

    /// Takes note of what a gateway process said when it was asked: the newest generation that all of its VMs run, nothing
    /// where the filter does not run.
    pub fn acknowledged(&mut self, gateway: &str, asked_at: Timestamp, generation: Option<u64>) {
        match self.gateways.get_mut(gateway) {
            Some(known) => *known = (asked_at, generation),
            None => drop(self.gateways.insert(gateway.to_owned(), (asked_at, generation))),
        }
    }

    /// Forgets gateway processes that are gone.
    pub fn retain_gateways(&mut self, keep: impl Fn(&str) -> bool) {
        self.gateways.retain(|name, _| keep(name));
    }

    /// Returns the gateway processes that answered after the last push had time to arrive, and do not run it. One that does
    /// not answer would not by another push either.
    pub fn outdated(&self) -> impl Iterator<Item = &str> {
        let since = self.pushed_at + ACK_GRACE;
        let outdated =
            move |(asked_at, runs): &(Timestamp, Option<u64>)| *asked_at >= since && *runs < Some(self.generation);
        self.gateways.iter().filter(move |(_, said)| outdated(said)).map(|(name, _)| name.as_str())
    }

    /// Says that what gateways can read is not what was pushed.
    pub fn mark_drifted(&mut self) {
        self.drifted = true;
    }

    /// Returns what to do now.
    pub fn next(&mut self, now: Timestamp) -> Next {
        if self.desired.is_empty() && self.last_pushed.as_ref().is_none_or(|last| last.canaries.is_empty()) {
            return self.removal(now);
        }
        self.filter_removed_at = None;
        let Some(reason) = self.push_reason(now) else { return Next::Wait(self.next_look(now)) };
        let not_before = match (self.failed, self.urgent) {
            (true, _) => self.tried_at + RETRY,
            (false, true) => now,
            (false, false) => self.tried_at + self.debounce,
        };
        if now < not_before {
            return Next::Wait(not_before);
        }
        Next::Push(self.push(reason, now))
    }

    /// Returns a push for an Envoy that is about to start: it trusts only a fresh one.
    #[must_use = "a push that nobody writes is lost"]
    pub fn startup(&mut self, now: Timestamp) -> Push {
        self.gateways.clear();
        self.push(PushReason::Startup, now)
    }

    /// Takes note that a push was written.
    pub fn pushed(&mut self, push: Push, now: Timestamp) {
        self.ack_timeout = match push.reason {
            PushReason::NotAcknowledged => {
                let reaches = push.config.canaries.iter().any(Canary::reaches_canary);
                Span(self.ack_timeout.0 * 2).min(MAX_ACK_BACKOFF[usize::from(!reaches)])
            }
            PushReason::Startup => STARTUP_ACK_TIMEOUT,
            _ => ACK_TIMEOUT,
        };
        // What was said while the push was written waits for the next one.
        self.changed = self.desired != push.made_of;
        self.urgent &= self.changed;
        self.failed = false;
        self.drifted = false;
        self.pushed_at = now;
        self.generation = push.config.generation;
        self.last_desired = push.made_of;
        self.last_pushed = Some(push.config);
    }

    /// Takes note that a push, or a removal, could not be written.
    pub fn failed(&mut self, now: Timestamp) {
        self.failed = true;
        self.tried_at = now;
    }

    /// Goes on from what gateways can read now, which somebody else wrote.
    pub fn resync(&mut self, live: Option<Config>, now: Timestamp) {
        self.changed = true;
        self.failed = false;
        self.pushed_at = now;
        self.generation = live.as_ref().map_or(self.generation, |live| live.generation);
        self.last_desired = live.iter().flat_map(|live| &live.canaries).map(by_id).collect();
        self.last_pushed = live;
    }

    /// Takes note that the filter was taken out.
    pub fn filter_removed(&mut self, now: Timestamp) {
        self.failed = false;
        self.filter_removed_at = Some(now);
    }

    /// Takes note that the configuration was taken away.
    pub fn config_removed(&mut self) {
        self.failed = false;
        self.filter_removed_at = None;
        self.last_pushed = None;
        self.last_desired.clear();
    }

    fn push_reason(&mut self, now: Timestamp) -> Option<PushReason> {
        let Some(last) = &self.last_pushed else { return Some(PushReason::First) };
        if self.changed && self.desired != self.last_desired {
            return Some(PushReason::Changed);
        }
        self.changed = false;
        self.urgent = false;
        let renew_at = armed_until(last) - RENEW_BEFORE;
        if now >= renew_at && self.desired.values().any(Canary::reaches_canary) {
            return Some(PushReason::Renewal);
        }
        if self.drifted {
            return Some(PushReason::Drifted);
        }
        if now.since(self.pushed_at) < self.ack_timeout {
            return None;
        }
        if self.outdated().next().is_some() {
            return Some(PushReason::NotAcknowledged);
        }
        self.ack_timeout = ACK_TIMEOUT;
        None
    }

    fn push(&mut self, reason: PushReason, now: Timestamp) -> Push {
        self.tried_at = now;
        let made_of = self.desired.clone();
        let canaries: Vec<Canary> = made_of.values().cloned().collect();
        let armed_until = if canaries.iter().any(Canary::reaches_canary) { now + ARMED_FOR } else { now };
        let generation = next_generation(self.generation, now);
        let (config, left_out) = acceptable(config(generation, armed_until, canaries));
        Push { config, reason, urgent: self.urgent, left_out, made_of }
    }

    /// First a configuration without Canaries, then the filter, last the configuration: a running Envoy keeps the last
    /// extension configuration that it was sent, so the last one must be harmless.
    fn removal(&self, now: Timestamp) -> Next {
        if self.last_pushed.is_none() {
            return Next::Wait(now + IDLE);
        }
        let not_before = if self.failed { self.tried_at + RETRY } else { Timestamp(0) };
        let due = match self.filter_removed_at {
            Some(at) => at + DRAIN,
            None if self.outdated().next().is_some() => self.pushed_at + REMOVAL_TIMEOUT,
            None => self.pushed_at + DRAIN,
        };
        match due.max(not_before) {
            due if now < due => Next::Wait(due.min(now + DRAIN)),
            _ if self.filter_removed_at.is_some() => Next::RemoveConfig,
            _ => Next::RemoveFilter,
        }
    }

    /// Returns when something is due without being said.
    fn next_look(&self, now: Timestamp) -> Timestamp {
        let renewal = self.last_pushed.as_ref().map(|last| armed_until(last) - RENEW_BEFORE);
        let dues = [Some(self.pushed_at + self.ack_timeout), renewal];
        let next = dues.into_iter().flatten().filter(|due| *due > now).min();
        next.unwrap_or(now + IDLE).min(now + IDLE)
    }
}

impl PushReason {
    /// Returns the word for logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Changed => "changed",
            Self::Renewal => "renewal",
            Self::Drifted => "drifted",
            Self::NotAcknowledged => "not acknowledged",
            Self::Startup => "startup",
        }
    }
}

/// Leaves out what the filter would refuse.
fn acceptable(mut config: Config) -> (Config, Vec<String>) {
    let mut left_out = Vec::new();
    while let Err(error) = config.check() {
        left_out.push(error.to_string());
        match error {
            ConfigError::Field { index, .. } if index < config.canaries.len() => drop(config.canaries.remove(index)),
            _ => break,
        }
    }
    (config, left_out)
}

fn armed_until(config: &Config) -> Timestamp {
    Timestamp(config.armed_until.saturating_mul(1000))
}

fn by_id(canary: &Canary) -> (String, Canary) {
    (canary.id.clone(), canary.clone())
}

#[cfg(test)]
mod tests;
