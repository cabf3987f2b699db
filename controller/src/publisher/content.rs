//! What a push says, on the way from the last one to what is desired: a Canary's name and the switch on its routes never go
//! both in one push.

use std::collections::BTreeMap;

use weir_engine::{FilterMode, Plan, Timestamp, Traffic};
use weir_wire::{Canary, Config, ConfigError, Lookup};

use crate::gateway_budget::{Claim, Size, fit, sizes};
use crate::gateway_config::{RequestMatch, RouteNames, entry};

/// What one canary should have.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// Its entry in the configuration.
    pub canary: Canary,
    /// Whether it is in the configuration, and its requests pass the filter.
    pub filter: FilterMode,
    /// Its routes.
    pub routes: RouteNames,
    /// When it was made: of two that want the same host or route the older one has it.
    pub since: Timestamp,
}

/// Why a Canary has no place in a configuration: one word, and a sentence for its author.
pub type LeftOut = (&'static str, String);

impl Desired {
    /// Returns what a Canary should have by what was decided.
    #[must_use]
    pub fn of(request_match: &RequestMatch, plan: &Plan, traffic: &Traffic) -> Self {
        let canary = entry(request_match, plan, traffic);
        let RequestMatch { routes, since, .. } = request_match;
        Self { canary, filter: traffic.filter, routes: routes.clone(), since: *since }
    }
}

/// What a push says, but for its generation.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Content {
    /// By id, what the configuration names.
    pub(super) canaries: BTreeMap<String, Canary>,
    /// By id, the routes on which the filter is on.
    pub(super) switched: BTreeMap<String, RouteNames>,
}

impl Content {
    /// Has requests found by the names of their routes, which are the canaries' own.
    pub(super) fn find_by_route(&mut self) {
        for canary in self.canaries.values_mut().filter(|canary| !canary.routes.is_empty()) {
            canary.lookup = Lookup::Route;
        }
    }

    /// Returns what fits into the gateway's object and is taken by its filter, and why the rest is left out: one Canary must
    /// not keep all others from being told anything.
    pub(super) fn fitted(
        mut self,
        desired: &BTreeMap<String, Desired>,
        last: &Last,
    ) -> (Self, BTreeMap<String, LeftOut>) {
        let of = |id: &str| desired.get(id);
        let claim = |canary: Canary| {
            let routes = of(&canary.id).map(|desired| desired.routes.clone()).unwrap_or_default();
            Claim { canary, routes }
        };
        let fitted = fit(self.canaries.into_values().map(claim).collect(), &last.sizes);
        let mut canaries = fitted.canaries;
        let since = |canary: &Canary| of(&canary.id).map(|desired| desired.since).unwrap_or_default();
        canaries.sort_by(|one, other| (since(one), &one.id).cmp(&(since(other), &other.id)));
        let full = fitted.left_out.into_iter().map(|(id, text)| (id, ("GatewayFull", text)));
        let mut left_out: BTreeMap<String, LeftOut> = full.collect();
        left_out.extend(refused(&mut canaries));
        self.canaries = canaries.into_iter().map(|canary| (canary.id.clone(), canary)).collect();
        self.switched.retain(|id, _| self.canaries.contains_key(id));
        (self, left_out)
    }
}

/// Takes out what the filter would refuse; of two that want the same the later one.
fn refused(canaries: &mut Vec<Canary>) -> Vec<(String, LeftOut)> {
    let mut refused = Vec::new();
    let mut config =
        Config { version: weir_wire::config::VERSION, canaries: std::mem::take(canaries), ..Config::default() };
    while let Err(error) = config.check() {
        match error {
            ConfigError::Field { index, field, problem, .. } if index < config.canaries.len() => {
                let text = format!("its gateway's filter would refuse its entry: {field}: {problem}");
                refused.push((config.canaries.remove(index).id, ("EntryRefused", text)));
            }
            _ => break,
        }
    }
    *canaries = config.canaries;
    refused
}

/// What the last push said, and since when.
#[derive(Debug, Default)]
pub(super) struct Last {
    content: Content,
    /// By canary, how large its entry is.
    sizes: BTreeMap<String, Size>,
    /// By canary, the generation that first named it.
    named_since: BTreeMap<String, u64>,
    /// By canary, the generation that switched its routes on, or off.
    switched_since: BTreeMap<String, u64>,
}

impl Last {
    /// Returns whether the configuration names a canary.
    pub(super) fn names(&self, id: &str) -> bool {
        self.content.canaries.contains_key(id)
    }

    /// Returns the entries of the configuration.
    pub(super) fn canaries(&self) -> impl Iterator<Item = &Canary> {
        self.content.canaries.values()
    }

    /// Returns the canaries whose routes are switched on, with the generation that did it.
    pub(super) fn switched(&self) -> impl Iterator<Item = (&str, u64)> {
        let since = |id: &String| self.switched_since.get(id).copied().unwrap_or_default();
        self.content.switched.keys().map(move |id| (id.as_str(), since(id)))
    }

    /// Returns the routes that are switched on.
    pub(super) fn routes(&self) -> &BTreeMap<String, RouteNames> {
        &self.content.switched
    }

    /// Returns whether it says this.
    pub(super) fn is(&self, content: &Content) -> bool {
        self.content == *content
    }

    /// Takes over what a push of a generation says.
    pub(super) fn replace(&mut self, content: Content, generation: u64) {
        self.sizes = sizes(content.canaries.values());
        let last = std::mem::replace(&mut self.content, content);
        let Content { canaries, switched } = &self.content;
        self.named_since.retain(|id, _| canaries.contains_key(id));
        self.switched_since.retain(|id, _| canaries.contains_key(id));
        for id in canaries.keys() {
            self.named_since.entry(id.clone()).or_insert(generation);
            if switched.contains_key(id) != last.switched.contains_key(id) {
                self.switched_since.insert(id.clone(), generation);
            }
        }
    }

    /// Returns what to say next. Routes are switched on once every gateway knows the canary by name, and the name goes once
    /// every gateway has the routes without the switch: `is_acknowledged` says so of a generation.
    pub(super) fn towards(
        &self,
        desired: &BTreeMap<String, Desired>,
        is_acknowledged: impl Fn(u64) -> bool,
    ) -> Content {
        let acknowledged = |since: Option<&u64>| since.is_none_or(|generation| is_acknowledged(*generation));
        let mut next = Content::default();
        for (id, desired) in desired {
            let (named, switched) = (self.names(id), self.content.switched.contains_key(id));
            let known = named && acknowledged(self.named_since.get(id));
            let lingers = named && (switched || !acknowledged(self.switched_since.get(id)));
            if desired.filter != FilterMode::Off || lingers {
                next.canaries.insert(id.clone(), desired.canary.clone());
            }
            if desired.filter == FilterMode::On && (switched || known) {
                next.switched.insert(id.clone(), desired.routes.clone());
            }
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use weir_engine::Span;

    use super::*;
    use crate::publisher::{Next, Publisher};

    #[test]
    fn requests_are_found_by_their_routes_where_the_filter_is_on_for_all() {
        let name = |name: &str| vec![name.to_owned()];
        let canary =
            Canary { id: "a3f09c11d2e4b877".into(), hosts: name("shop"), token: "t".into(), ..Canary::default() };
        let canary = Canary { routes: name("shop/cart"), ..canary };
        let desired = Desired { canary, filter: FilterMode::On, routes: RouteNames::default(), since: Timestamp(0) };
        let mut publisher = Publisher::new(Span(0));
        publisher.set_desired(desired);
        let mut now = Timestamp(1_795_395_000_000);
        let mut lookup = |publisher: &mut Publisher, everywhere: bool| {
            publisher.find_by_route(everywhere);
            for _ in 0..5 {
                publisher.acknowledged("pod", now, Some(publisher.generation()));
                if let Next::Push(push) = publisher.next(now) {
                    publisher.pushed(push, now);
                }
                now = now + Span::seconds(1);
            }
            publisher.last_pushed().unwrap().canaries[0].lookup
        };
        assert_eq!(lookup(&mut publisher, false), Lookup::Host);
        assert_eq!(lookup(&mut publisher, true), Lookup::Route);
        assert_eq!(lookup(&mut publisher, false), Lookup::Host);
    }
}
