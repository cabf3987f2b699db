//! Istio as a router: a `VirtualService` with the routes, `Gateway`s that requests come through, and a `DestinationRule` for
//! each arm.

mod callers;
mod earlier;
mod export;
mod host_owner;
mod one_place;
mod others;
mod policy;
mod redirection;
mod request_match;
mod sidecars;
mod within;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use weir_wire::TOKEN_HEADER;

use super::apex::restore_of;
use super::earlier::Earlier;
use super::origin::{Origin, controlled_since, origin, refuse_controlled, spec_before};
use crate::api::service::Free;
use crate::api::{CanarySpec, canary_token};
use crate::kubernetes::api_server::apply::{ActError, take_out};
use crate::kubernetes::executor::{Executor, foreign, owned_by_other};
use crate::kubernetes::kinds::canary::Fault;
use crate::kubernetes::kinds::{Labels, VirtualServiceView, gateway_name};
use crate::kubernetes::render::{self, Arms, Names, Ownership};
use crate::kubernetes::stores::Stores;
use crate::kubernetes::target::flagger::Around;

pub(crate) use callers::Callers;
pub(super) use callers::{callers, callers_without_sidecar, headless_arms, is_of_arms, refused_callers, unread_port};
pub(super) use export::narrowed_by;
pub(crate) use host_owner::{Served, TakenHost};
pub(super) use host_owner::{served_elsewhere, taken_hosts};
pub(super) use policy::policies_of_gateways;
pub(super) use request_match::request_match;
pub(super) use sidecars::hiding;
pub(super) use within::{hosts_behind, routes_beside, shared_host};

/// Returns why the VirtualService can be neither made nor adopted: one word, and a sentence.
pub(super) fn routes_conflict(stores: &Stores, names: &Names, spec: &CanarySpec) -> Option<Fault> {
    let apex = &names.apex;
    let routes = stores.virtual_services.get(&names.namespace, apex);
    if let Some(problem) = owned_by_other(stores, routes.as_deref(), names) {
        return Some(("NameTaken", problem));
    }
    if let Some(fault) = refuse_controlled(routes.as_deref(), names) {
        return Some(fault);
    }
    let routes = routes?;
    let delegated = spec.service.delegation == Some(true);
    let live = match origin(Some(&routes), names) {
        Origin::Foreign | Origin::Claimed => routes.body()["spec"].take(),
        // It was adopted with hosts, and the Canary wants none of them any more.
        Origin::Adopted(_) if delegated && !routes.fields.spec.hosts.is_empty() => {
            let before = spec_before(&routes, names);
            json!({"hosts": before["hosts"], "gateways": before["gateways"]})
        }
        Origin::Adopted(_) | Origin::Made | Origin::Missing => return None,
    };
    let foreign_destinations = render::foreign_destinations(&live, names);
    if foreign_destinations.is_empty() {
        let settings = render::settings(&live);
        let mut wanted = render::virtual_service(names, spec, Arms::Both, Ownership::Adopted, false, &settings);
        if delegated {
            let (hosts, gateways) = of_roots(stores, names);
            wanted["spec"]["hosts"] = hosts.into();
            wanted["spec"]["gateways"] = gateways.into();
        }
        let lost = render::lost(&live, &wanted["spec"], names, spec.service.port);
        return (!lost.is_empty()).then(|| {
            let say = if delegated { "the VirtualService that delegates to it" } else { "spec.service of the Canary" };
            let problem = format!(
                "VirtualService {apex} would lose {}: say the same in {say}, or move it to a VirtualService of another name",
                lost.join(", ")
            );
            ("RoutesLost", problem)
        });
    }
    Some({
        let problem = format!(
            "VirtualService {apex} also leads to {}, and all of its routes would be replaced: move those to a VirtualService \
             of another name, or have it delegate (service.delegation), or give the Canary another service.name",
            foreign_destinations.join(", ")
        );
        ("RoutesElsewhere", problem)
    })
}

/// Returns hosts and gateways of the VirtualServices that delegate to a Canary's.
fn of_roots(stores: &Stores, names: &Names) -> (Vec<String>, Vec<String>) {
    let index = stores.host_index();
    let roots = index.roots().iter().filter(|root| root.delegates_to(&names.namespace, &names.apex).next().is_some());
    let (mut hosts, mut gateways) = (Vec::new(), Vec::new());
    for root in roots {
        hosts.extend(root.fields.spec.hosts.iter().cloned());
        let whole = |gateway: &String| match gateway.as_str() {
            "mesh" => gateway.clone(),
            _ => {
                let (namespace, name) = gateway_name(gateway, root.namespace());
                format!("{namespace}/{name}")
            }
        };
        gateways.extend(root.fields.spec.gateways.iter().map(whole));
    }
    (hosts, gateways)
}

/// Returns the VirtualService that another controller may undo.
pub(super) fn controlled_routes(stores: &Stores, names: &Names) -> Option<String> {
    controlled_since(stores.virtual_services.get(&names.namespace, &names.apex).as_deref(), names)
}

/// Takes over what a VirtualService that was there before its Canary says of hosts, of gateways and of the conditions that every request
/// must meet, where the Canary says nothing of them.
pub(super) fn keep_of_before(stores: &Stores, names: &Names, spec: &mut CanarySpec) {
    let service = &mut spec.service;
    let bound = service.delegation == Some(true) || !(service.hosts.is_empty() || service.gateways.is_empty());
    if bound && !service.r#match.is_empty() {
        return;
    }
    let Some(live) = stores.virtual_services.get(&names.namespace, &names.apex) else { return };
    if service.r#match.is_empty() {
        let conditions = match origin(Some(&live), names) {
            Origin::Foreign | Origin::Claimed => render::union_of_conditions(&live.body()["spec"]),
            Origin::Adopted(Some(original)) => render::kept_conditions(&original),
            Origin::Adopted(None) | Origin::Made | Origin::Missing => Vec::new(),
        };
        service.r#match = conditions.into_iter().filter_map(|it| it.as_object().cloned().map(Free)).collect();
    }
    if bound {
        return;
    }
    let before = spec_before(&live, names);
    for (field, own) in [("hosts", &mut service.hosts), ("gateways", &mut service.gateways)] {
        if own.is_empty() {
            let theirs = before[field].as_array().into_iter().flatten();
            own.extend(theirs.filter_map(Value::as_str).map(str::to_owned));
        }
    }
}

/// Returns the token of a Canary's routes while a rollout is under way: routes and filter change it at two moments, and what the
/// filter gives the canary in between would go to the primary. So one that an earlier Weir made of the names stays until its end.
pub(super) fn token_under_way(stores: &Stores, names: &Names) -> String {
    let earlier = canary_token(&names.namespace, &names.canary, "");
    let live = stores.virtual_services.get(&names.namespace, &names.apex);
    let body = live.map(|live| live.body()["spec"].take()).unwrap_or_default();
    let of = |value: &Value, field: &str| value[field].as_array().cloned().unwrap_or_default();
    let matches = of(&body, "http").into_iter().flat_map(|route| of(&route, "match"));
    let mut tokens = matches.map(|found| found["headers"][TOKEN_HEADER]["exact"].clone());
    if tokens.any(|token| token == earlier.as_str()) { earlier } else { names.token.clone() }
}

/// Returns whether the routes lead to the canary by themselves, without the filter.
pub(super) fn leads_to_canary(stores: &Stores, names: &Names) -> bool {
    let live = stores.virtual_services.get(&names.namespace, &names.apex);
    live.is_some_and(|live| {
        let body = live.body();
        let ours = |route: &&Value| route["name"] == names.primary_route().as_str();
        let route = body["spec"]["http"].as_array().into_iter().flatten().find(ours);
        let host = route.and_then(|route| route.pointer("/route/0/destination/host"));
        host.is_some_and(|host| *host == names.canary_service().as_str())
    })
}

/// Returns the VirtualService and the DestinationRules around a Canary, whosever they are.
pub(super) fn around(stores: &Stores, names: &Names) -> Vec<Around> {
    let namespace = &names.namespace;
    let rules = [names.primary_service(), names.canary_service()];
    let rules = rules.iter().filter_map(|name| Around::of(&stores.destination_rules, namespace, name));
    rules.chain(Around::of(&stores.virtual_services, namespace, &names.apex)).collect()
}

/// Returns the VirtualServices and DestinationRules of a Canary's namespace.
pub(super) fn all_around(stores: &Stores, names: &Names) -> Vec<Around> {
    let routes = Around::all(&stores.virtual_services, &names.namespace);
    routes.into_iter().chain(Around::all(&stores.destination_rules, &names.namespace)).collect()
}

/// Returns whether the routes, whoever made them, give the canary's Service a share by themselves.
pub(super) fn shares_with_canary(stores: &Stores, names: &Names) -> bool {
    leads(stores, names, |to| {
        to["destination"]["host"] == names.canary_service().as_str() && to["weight"] != 0 && !to["weight"].is_null()
    })
}

/// Returns by what else a Canary of Flagger's with this spec routes.
pub(super) fn routes_by_others(stores: &Stores, names: &Names, spec: &Value) -> Option<String> {
    let leads_to_primary = leads(stores, names, |to| to["destination"]["host"] == names.primary_service().as_str());
    others::routes_by_others(spec, names, leads_to_primary)
}

/// Returns whether one of the destinations of the routes is so.
fn leads(stores: &Stores, names: &Names, is_so: impl Fn(&Value) -> bool) -> bool {
    let Some(live) = stores.virtual_services.get(&names.namespace, &names.apex) else { return false };
    let body = live.body();
    let routes = body["spec"]["http"].as_array().into_iter().flatten();
    routes.flat_map(|route| route["route"].as_array().into_iter().flatten()).any(is_so)
}

/// Returns the VirtualServices that Weir made for a Canary under another name than the one that its spec has.
pub(super) fn routes_left_behind(stores: &Stores, names: &Names) -> Vec<Earlier> {
    earlier::virtual_services(stores, names).iter().map(|live| Earlier::of(live, names)).collect()
}

/// Returns whose a DestinationRule is that must be the Canary's own alone, where it is not.
pub(super) fn foreign_policy(stores: &Stores, names: &Names) -> Option<String> {
    let rule = |name: String| foreign(stores.destination_rules.get(&names.namespace, &name).as_deref(), names);
    [names.primary_service(), names.canary_service()].into_iter().find_map(rule)
}

/// Returns the selectors of the gateways that a Canary's requests come through.
pub(super) fn gateway_selectors(stores: &Stores, names: &Names, spec: &CanarySpec) -> BTreeSet<Labels> {
    let gateways = gateways(stores, names, spec).into_iter();
    let gateways = gateways.filter_map(|(namespace, name)| stores.gateways.get(&namespace, &name));
    gateways.map(|gateway| gateway.fields.spec.selector.clone()).collect()
}

/// Returns the selectors of all gateways; an empty one is for all gateways' pods.
pub(super) fn all_gateway_selectors(stores: &Stores) -> BTreeSet<Labels> {
    let selectors = stores.gateways.all().into_iter().map(|gateway| gateway.fields.spec.selector.clone());
    selectors.collect()
}

/// Returns the gateways that a Canary's requests come through, by namespace and name. The mesh is none. A Canary that is
/// delegated to has those of whoever delegates.
fn gateways(stores: &Stores, names: &Names, spec: &CanarySpec) -> BTreeSet<(String, String)> {
    let own = |gateways: &[String], namespace: &str| {
        let gateways = gateways.iter().filter(|name| *name != "mesh");
        gateways.map(|name| gateway_name(name, namespace)).collect::<Vec<_>>()
    };
    if spec.service.delegation != Some(true) {
        return own(&spec.service.gateways, &names.namespace).into_iter().collect();
    }
    let index = stores.host_index();
    let roots = index.roots().iter().filter(|root| root.delegates_to(&names.namespace, &names.apex).next().is_some());
    roots.flat_map(|root| own(&root.fields.spec.gateways, root.namespace())).collect()
}

/// Returns why none of a Canary's requests passes one of the gateways that it names, if that is so: the word for it, and a sentence.
pub(super) fn unbound(stores: &Stores, names: &Names, spec: &CanarySpec, has_pod: bool) -> Option<Fault> {
    let named = gateways(stores, names, spec);
    let missing = named.iter().find(|(namespace, name)| stores.gateways.get(namespace, name).is_none());
    let (word, why) = match (missing, named.first()) {
        (_, None) if spec.service.delegation == Some(true) && callers(stores, names, spec).is_none() => (
            "NotDelegated",
            "spec.service.delegation: no VirtualService delegates to it, so none of its requests passes the filter"
                .to_owned(),
        ),
        (_, None) => return None,
        _ if has_pod => return None,
        (Some((namespace, name)), _) => (
            "GatewayMissing",
            format!("Gateway {namespace}/{name} does not exist: none of its requests passes the filter"),
        ),
        (None, Some((namespace, name))) => (
            "NoGateway",
            format!("the selector of Gateway {namespace}/{name} finds no pod: none of its requests passes the filter"),
        ),
    };
    Some((word, why))
}

/// Gives back the VirtualServices that a Canary has adopted.
pub(super) async fn restore_routes(stores: &Stores, namespace: &str, canary: &str) -> Result<(), ActError> {
    restore_of(stores, &stores.virtual_services, namespace, canary).await
}

impl Executor<'_> {
    /// Returns the ports of the Service that users call, beside its own, which callers inside of the mesh may use.
    fn other_ports(&self, ports: &[Value]) -> BTreeSet<i64> {
        if !callers::is_on_mesh(self.stores, self.names, self.spec) {
            return BTreeSet::new();
        }
        let live = self.stores.services.get(&self.names.namespace, &self.names.apex);
        let live = live.and_then(|live| live.body()["spec"]["ports"].as_array().cloned()).unwrap_or_default();
        let spoken = ports.iter().chain(&live).filter(|port| port["protocol"] != "UDP");
        let numbers = spoken.filter_map(|port| port["port"].as_i64());
        numbers.filter(|number| Some(*number) != self.spec.service.port).collect()
    }

    pub(super) async fn make_virtual_service(&self, ports: &[Value]) -> Result<(), ActError> {
        let multiport = ports.len() > 1;
        let before = self.stores.virtual_services.get(&self.names.namespace, &self.names.apex);
        let narrow = !export::narrowed_by(self.stores, self.names, self.spec, before.as_deref()).is_empty();
        let settings = before.map(|live| render::settings(&spec_before(&live, self.names))).unwrap_or_default();
        if let Some((_, problem)) = routes_conflict(self.stores, self.names, self.spec) {
            return Err(ActError::Precondition(problem));
        }
        let routes = |ownership| self.routes(self.spec, ownership, multiport, &settings);
        let mut wanted = self.held(&self.stores.virtual_services, routes)?;
        if let Some(http) = wanted["spec"]["http"].as_array_mut() {
            http.splice(..0, render::routes_of_other_ports(self.names, &self.other_ports(ports)));
        }
        // An adopted one says it itself, and one that is delegated to must be known where the other one is.
        if wanted["metadata"].get("ownerReferences").is_some() && self.spec.service.delegation != Some(true) {
            self.export(&mut wanted);
            if narrow {
                wanted["spec"]["exportTo"] = json!(["."]);
            }
        }
        self.ensure(&self.stores.virtual_services, &wanted).await?;
        self.take_hosts_out().await
    }

    /// Renders the routes to the arms.
    fn routes(&self, spec: &CanarySpec, ownership: Ownership, multiport: bool, settings: &Map<String, Value>) -> Value {
        let mut routes = render::virtual_service(self.names, spec, Arms::Both, ownership, multiport, settings);
        if self.stands_in {
            // A gateway that starts without Weir has no filter, and would send everything to a primary that cannot serve.
            let to_canary = routes["spec"]["http"][0]["route"].clone();
            let all = routes["spec"]["http"].as_array_mut().into_iter().flatten();
            all.for_each(|route| route["route"] = to_canary.clone());
        }
        routes
    }

    /// Takes the hosts out of an adopted VirtualService that is delegated to: istiod takes one that has any for no delegate. Those that
    /// delegate to it have them.
    async fn take_hosts_out(&self) -> Result<(), ActError> {
        let Names { namespace, apex, .. } = self.names;
        let cache = &self.stores.virtual_services;
        let Some(live) = cache.get(namespace, apex).filter(|_| self.spec.service.delegation == Some(true)) else {
            return Ok(());
        };
        let body = &live.fields.spec;
        if !(body.hosts.is_empty() && body.gateways.is_empty()) && self.written.may_clean::<VirtualServiceView>(apex) {
            take_out(&self.stores.api, cache, &live, json!({"spec": {"hosts": null, "gateways": null}})).await?;
            self.written.record_cleaned::<VirtualServiceView>(apex);
        }
        Ok(())
    }

    pub(super) async fn give_back_virtual_service(&self, multiport: bool) -> Result<(), ActError> {
        let none = Map::new();
        let routes =
            |ownership| render::virtual_service(self.names, self.spec, Arms::Apex, ownership, multiport, &none);
        self.give_back_earlier_virtual_services(routes).await?;
        let Some(live) = self.stores.virtual_services.get(&self.names.namespace, &self.names.apex) else {
            return Ok(());
        };
        self.give_back(&self.stores.virtual_services, &live, routes).await
    }

    pub(super) async fn make_destination_rules(&self, opening: &Value) -> Result<(), ActError> {
        let mut of_primary = self.destination_rule(&self.names.primary_service());
        policy::open_by(&mut of_primary["spec"], opening);
        for mut rule in [of_primary, self.destination_rule(&self.names.canary_service())] {
            self.export(&mut rule);
            self.ensure(&self.stores.destination_rules, &rule).await?;
        }
        Ok(())
    }

    fn destination_rule(&self, service: &str) -> Value {
        let mut policy = policy::of_user(self.stores, self.names, &self.names.apex);
        if self.renamed && policy.is_none() {
            // Its pods are spoken to as they were.
            let earlier = super::earlier::called(self.stores, self.names);
            policy = earlier.iter().find_map(|live| policy::of_user(self.stores, self.names, live.name()));
        }
        render::destination_rule(self.names, self.spec, policy.as_ref(), service)
    }

    pub(super) fn opening_of_rule(&self) -> Value {
        policy::opening(&self.destination_rule(&self.names.canary_service())["spec"])
    }

    pub(super) fn opening_of_live_rule(&self) -> Option<Value> {
        let live = self.stores.destination_rules.get(&self.names.namespace, &self.names.primary_service())?;
        live.owners().filter(|owners| !owners.others_wrote("trafficPolicy"))?;
        Some(policy::opening(&live.body()["spec"]))
    }
}
