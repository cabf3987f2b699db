//! What a publisher knows, for whoever asks.

use std::collections::{BTreeMap, HashSet};

use weir_engine::{FilterMode, Timestamp};
use weir_wire::{Canary, Config};

use super::content::LeftOut;
use super::{ACK_GRACE, Publisher};
use crate::gateway_config::RouteNames;

impl Publisher {
    /// Returns what a canary should have.
    pub fn desired(&self, id: &str) -> Option<&Canary> {
        self.desired.get(id).map(|desired| &desired.canary)
    }

    /// Returns the generation that every gateway runs where none knows a canary that is off: no push is to come for it.
    #[must_use]
    pub fn generation_without(&self, id: &str) -> Option<u64> {
        self.last_pushed.as_ref().filter(|_| !self.last.names(id)).map(|last| last.generation)
    }

    /// Returns the generation that a gateway runs which has no filter, where the last push had time to arrive and names no canary:
    /// what it says is that nothing is split.
    #[must_use]
    pub fn generation_of_none(&self, asked_at: Timestamp) -> Option<u64> {
        self.arrived(asked_at).filter(|_| self.last_pushed.as_ref().is_some_and(|last| last.canaries.is_empty()))
    }

    /// Returns the generation of the last push, where it had time to arrive by then.
    #[must_use]
    pub fn arrived(&self, asked_at: Timestamp) -> Option<u64> {
        let last = self.last_pushed.as_ref()?;
        (asked_at >= self.pushed_at + ACK_GRACE).then_some(last.generation)
    }

    /// Returns the canaries whose routes are switched on in what was pushed last, with the generation that did it.
    pub fn switched(&self) -> impl Iterator<Item = (&str, u64)> {
        self.last.switched()
    }

    /// Returns the routes that are switched on in what was pushed last.
    pub fn last_switched(&self) -> &BTreeMap<String, RouteNames> {
        self.last.routes()
    }

    /// Returns whether the filter should be on for some routes where it is not yet.
    #[must_use]
    pub fn is_switching(&self) -> bool {
        let mut on = self.desired.iter().filter(|(_, desired)| desired.filter == FilterMode::On);
        on.any(|(id, _)| !self.last.routes().contains_key(id))
    }

    /// Returns whether every gateway that answers runs a generation, but for those that have never acknowledged anything.
    #[must_use]
    pub fn is_acknowledged(&self, generation: u64) -> bool {
        self.gateways.run(generation)
    }

    /// Returns whether gateways may run a generation: it was handed out.
    #[must_use]
    pub fn is_handed_out(&self, generation: u64) -> bool {
        self.gateways.is_handed_out(generation)
    }

    /// Returns whether a gateway process has acknowledged anything since it is known.
    #[must_use]
    pub fn is_heard(&self, gateway: &str) -> bool {
        self.gateways.is_heard(gateway)
    }

    /// Returns the canaries that gateways may say something of.
    #[must_use]
    pub fn known(&self) -> HashSet<String> {
        let pushed = self.last_pushed.iter().flat_map(|last| &last.canaries).map(|canary| &canary.id);
        self.desired.keys().chain(pushed).cloned().collect()
    }

    /// Returns what has no place in the configuration, by id, with the reason.
    pub fn left_out(&self) -> &BTreeMap<String, LeftOut> {
        &self.left_out
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
    pub fn last_pushed(&self) -> Option<&Config> {
        self.last_pushed.as_ref()
    }

    /// Returns the newest generation.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns when the last push was made.
    pub fn pushed_at(&self) -> Timestamp {
        self.pushed_at
    }
}

#[cfg(test)]
mod tests {
    use weir_engine::Span;
    use weir_wire::Weight;

    use crate::publisher::{Desired, Next, Publisher};

    use super::*;

    #[test]
    fn a_canary_that_leaves_a_gateway_waits_for_no_other_push_where_it_gets_requests() {
        for (weight, waits) in [(Weight::FULL, false), (Weight::ZERO, true)] {
            let now = Timestamp(1_795_395_000_000);
            let mut publisher = Publisher::new(Span(500));
            for id in ["a3f09c11d2e4b877", "b3f09c11d2e4b877"] {
                let canary =
                    Canary { id: id.into(), token: "t".into(), hosts: vec![id.into()], weight, ..Canary::default() };
                let routes = RouteNames::default();
                publisher.set_desired(Desired { canary, filter: FilterMode::Named, routes, since: Timestamp(0) });
            }
            let Next::Push(push) = publisher.next(now) else { panic!() };
            publisher.pushed(push, now);
            publisher.remove("a3f09c11d2e4b877");
            let next = publisher.next(now + Span(1));
            assert_eq!(matches!(next, Next::Wait(_)), waits, "{next:?}");
        }
    }
}
