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
//!
//! The filter is off but on the routes of Canaries that need it ([`FilterMode`]). A Canary's routes are switched on once every
//! gateway acknowledged a configuration that names the Canary, and the name goes once every gateway acknowledged the routes
//! without the switch: a filter never meets requests that its configuration does not know.

mod content;
mod epochs;
mod gateways;
mod known;
mod push;

use std::collections::BTreeMap;

use weir_engine::{FilterMode, Span, Timestamp};
use weir_wire::{Canary, Config};

use crate::gateway_config::{RouteNames, config, next_generation};

use content::{Content, Last};
pub use content::{Desired, LeftOut};
pub use epochs::Epochs;
use gateways::Gateways;
pub use push::{Next, Push, PushReason};

/// A gateway process that starts this long after the last push sends nothing to a canary.
const ARMED_FOR: Span = Span::seconds(60);
/// A push is renewed when this much of [`ARMED_FOR`] is left: time enough for two more tries, and for another controller to
/// take over.
const RENEW_BEFORE: Span = Span::seconds(30);
/// A push that a gateway has not acknowledged by then is made again: pilot-agent does not repeat a failed fetch of the module.
pub const ACK_TIMEOUT: Span = Span::seconds(2);
/// An Envoy that was just started compiles the module first, which takes its time on a busy machine.
const STARTUP_ACK_TIMEOUT: Span = Span::seconds(10);
/// Longest time between two such pushes, while a canary has requests and while none has.
const MAX_ACK_BACKOFF: [Span; 2] = [Span::seconds(30), Span::seconds(300)];
/// What a gateway said sooner after a push may be older than its arrival.
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
    desired: BTreeMap<String, Desired>,
    /// Whether `desired` may differ from what was pushed.
    changed: bool,
    /// Whether the difference takes requests away from a canary.
    urgent: bool,
    /// Whether what gateways can read is not what was pushed.
    drifted: bool,
    /// Whether the filter is on for all requests of the gateway.
    by_route: bool,
    /// What was pushed last.
    last_pushed: Option<Config>,
    /// What that was made of.
    last: Last,
    /// By id, what of `desired` has no place in it, with the reason.
    left_out: BTreeMap<String, LeftOut>,
    /// The newest generation ever pushed, also where nothing is left of it.
    generation: u64,
    pushed_at: Timestamp,
    tried_at: Timestamp,
    failed: bool,
    /// Until then an Envoy that was started may be compiling the module.
    compiling_until: Timestamp,
    /// How long acknowledgements of the last push are waited for.
    ack_timeout: Span,
    gateways: Gateways,
    /// When the filter was taken out, while its configuration is still there.
    filter_removed_at: Option<Timestamp>,
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
            by_route: false,
            last_pushed: None,
            last: Last::default(),
            generation: 0,
            pushed_at: Timestamp(0),
            tried_at: Timestamp(0),
            failed: false,
            compiling_until: Timestamp(0),
            ack_timeout: ACK_TIMEOUT,
            left_out: BTreeMap::new(),
            gateways: Gateways::default(),
            filter_removed_at: None,
        }
    }

    /// Has a gateway that does not take over what it is told waited for so long, and no longer.
    #[must_use]
    pub fn with_patience(mut self, patience: Span) -> Self {
        self.gateways.set_patience(patience);
        self
    }

    /// Returns a publisher that goes on with what an earlier controller pushed, without the Canaries that are gone.
    #[must_use]
    pub fn resume(
        debounce: Span,
        pushed: Config,
        switched: BTreeMap<String, RouteNames>,
        is_alive: impl Fn(&Canary) -> bool,
    ) -> Self {
        let mut publisher = Self::new(debounce);
        for canary in pushed.canaries.iter().filter(|canary| is_alive(canary)) {
            let routes = switched.get(&canary.id).cloned();
            let filter = if routes.is_some() { FilterMode::On } else { FilterMode::Named };
            let routes = routes.unwrap_or_default();
            let desired = Desired { canary: canary.clone(), filter, routes, since: Timestamp::default() };
            publisher.desired.insert(canary.id.clone(), desired);
        }
        publisher.resync(Some(pushed), switched, Timestamp(0));
        publisher
    }

    /// Says what a canary should have from the next push on. Returns whether that is new.
    pub fn set_desired(&mut self, desired: Desired) -> bool {
        let id = &desired.canary.id;
        let old = self.desired.get(id);
        if old == Some(&desired) {
            return false;
        }
        self.urgent |= old.is_some_and(|old| desired.canary.takes_from(&old.canary));
        // Of thousands at rest, which no configuration names, each tells of itself now and then.
        let is_off = |of: &Desired| of.filter == FilterMode::Off;
        self.changed |= self.last.names(id) || !is_off(&desired) || !old.is_none_or(is_off);
        self.desired.insert(id.clone(), desired);
        true
    }

    /// Says that a canary is no more. Returns whether there was one.
    pub fn remove(&mut self, id: &str) -> bool {
        let known = self.desired.remove(id);
        self.urgent |= known.as_ref().is_some_and(|known| known.canary.reaches_canary());
        self.changed |= self.last.names(id) || known.as_ref().is_some_and(|known| known.filter != FilterMode::Off);
        known.is_some()
    }

    /// Removes the canaries that are not to be kept.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        let gone: Vec<String> = self.desired.keys().filter(|id| !keep(id)).cloned().collect();
        for id in gone {
            self.remove(&id);
        }
    }

    /// Takes note of what a gateway process said when it was asked: the newest generation that all of its VMs run, nothing
    /// where the filter does not run.
    pub fn acknowledged(&mut self, gateway: &str, asked_at: Timestamp, generation: Option<u64>) {
        // It may be what a switch has waited for.
        self.changed |= self.gateways.acknowledged(gateway, asked_at, generation, self.generation);
    }

    /// Forgets gateway processes that are gone.
    pub fn retain_gateways(&mut self, keep: impl Fn(&str) -> bool) {
        self.changed |= self.gateways.retain(keep);
    }

    /// Returns the gateway processes that answered after the last push had time to arrive, and do not run it. One that does
    /// not answer would not by another push either.
    pub fn outdated(&self) -> impl Iterator<Item = &str> {
        self.gateways.outdated(self.pushed_at + ACK_GRACE, self.generation)
    }

    /// Says whether the filter is on for all requests of the gateway. Then a host does not tell whose they are: an Ingress or an
    /// HTTPRoute, which nobody watches here, may have a part of them.
    pub fn find_by_route(&mut self, by_route: bool) {
        self.changed |= self.by_route != by_route;
        self.by_route = by_route;
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
        self.compiling_until = now + STARTUP_ACK_TIMEOUT;
        self.push(PushReason::Startup, now)
    }

    /// Takes note that a push was written.
    pub fn pushed(&mut self, push: Push, now: Timestamp) {
        self.ack_timeout = match push.reason {
            PushReason::NotAcknowledged => {
                let reaches = push.config.canaries.iter().any(Canary::reaches_canary);
                Span(self.ack_timeout.0 * 2).min(MAX_ACK_BACKOFF[usize::from(!reaches)])
            }
            _ if now < self.compiling_until => STARTUP_ACK_TIMEOUT,
            _ => ACK_TIMEOUT,
        };
        self.failed = false;
        self.drifted = false;
        self.pushed_at = now;
        self.generation = push.config.generation;
        let canaries = push.config.canaries.iter().map(by_id).collect();
        self.last.replace(Content { canaries, switched: push.switched }, self.generation);
        self.last_pushed = Some(push.config);
        // What was said while the push was written waits for the next one.
        self.changed = true;
        self.urgent &= !self.last.is(&self.content().0);
    }

    /// Takes note that a push, or a removal, could not be written.
    pub fn failed(&mut self, now: Timestamp) {
        self.failed = true;
        self.tried_at = now;
    }

    /// Goes on from what gateways can read now, which somebody else wrote.
    pub fn resync(&mut self, live: Option<Config>, switched: BTreeMap<String, RouteNames>, now: Timestamp) {
        self.changed = true;
        self.failed = false;
        self.pushed_at = now;
        self.generation = live.as_ref().map_or(self.generation, |live| live.generation);
        self.gateways.hand_out(self.generation);
        let canaries = live.iter().flat_map(|live| &live.canaries).map(by_id).collect();
        self.last.replace(Content { canaries, switched }, self.generation);
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
        self.last.replace(Content::default(), self.generation);
    }

    fn push_reason(&mut self, now: Timestamp) -> Option<PushReason> {
        let Some(last) = &self.last_pushed else { return Some(PushReason::First) };
        if self.changed {
            let (content, left_out) = self.content();
            self.left_out = left_out;
            if !self.last.is(&content) {
                return Some(PushReason::Changed);
            }
        }
        self.changed = false;
        self.urgent = false;
        let renew_at = armed_until(last) - RENEW_BEFORE;
        if now >= renew_at && self.last.canaries().any(Canary::reaches_canary) {
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

    fn content(&self) -> (Content, BTreeMap<String, LeftOut>) {
        let mut next = self.last.towards(&self.desired, |generation| self.is_acknowledged(generation));
        if self.by_route {
            next.find_by_route();
        }
        next.fitted(&self.desired, &self.last)
    }

    fn push(&mut self, reason: PushReason, now: Timestamp) -> Push {
        self.tried_at = now;
        let (Content { canaries, switched }, left_out) = self.content();
        let canaries: Vec<Canary> = canaries.into_values().collect();
        let armed_until = if canaries.iter().any(Canary::reaches_canary) { now + ARMED_FOR } else { now };
        let generation = next_generation(self.generation, now);
        // Whether or not the answer to the write is heard.
        self.gateways.hand_out(generation);
        self.left_out = left_out;
        Push { config: config(generation, armed_until, canaries), switched, reason, urgent: self.urgent }
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

fn armed_until(config: &Config) -> Timestamp {
    Timestamp(config.armed_until.saturating_mul(1000))
}

fn by_id(canary: &Canary) -> (String, Canary) {
    (canary.id.clone(), canary.clone())
}

#[cfg(test)]
mod tests;
