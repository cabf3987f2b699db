//! Whose a host is: which hosts of a Canary its Gateways admit, and which are another namespace's.
//!
//! Whoever may make Canaries makes VirtualServices by them. So a host that another namespace has a route for is that namespace's,
//! unless an admin has bound it to both in a Gateway, or this namespace had a route for it before.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::gateways;
use crate::api::CanarySpec;
use crate::kubernetes::kinds::canary::Canary;
use crate::kubernetes::kinds::{Gateway, VirtualService, gateway_name};
use crate::kubernetes::render::Names;
use crate::kubernetes::stores::{Stores, covers, suffixes};

/// A host that is another namespace's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TakenHost {
    /// The host as it stands in the spec.
    pub(crate) host: String,
    /// Whose it is, and what to do.
    pub(crate) problem: String,
}

/// A host of a Gateway's server, and the namespace whose routes it is for; all if there is none.
struct Binding<'a> {
    namespace: Option<&'a str>,
    host: String,
}

/// Returns what a Gateway's servers are bound to.
fn bindings(gateway: &Gateway) -> impl Iterator<Item = Binding<'_>> {
    gateway.fields.spec.servers.iter().flat_map(|server| &server.hosts).map(|text| {
        let (namespace, host) = text.split_once('/').unwrap_or(("*", text));
        let namespace = match namespace {
            "*" => None,
            "." => Some(gateway.namespace()),
            other => Some(other),
        };
        Binding { namespace, host: host.to_ascii_lowercase() }
    })
}

/// Returns which requests to a host a Gateway lets a namespace's routes have: the host, or the parts of it that are bound.
fn admitted(gateway: &Gateway, namespace: &str, host: &str) -> BTreeSet<String> {
    let bound = bindings(gateway).filter(|binding| binding.namespace.is_none_or(|of| of == namespace));
    let common = |binding: Binding<'_>| match (covers(&binding.host, host), covers(host, &binding.host)) {
        (true, _) => Some(host.to_owned()),
        (false, true) => Some(binding.host),
        (false, false) => None,
    };
    bound.filter_map(common).collect()
}

/// Returns which of a Canary's hosts, in lower case, all of its Gateways admit for its namespace; nothing where they differ.
pub(super) fn admitted_hosts(
    stores: &Stores,
    names: &Names,
    spec: &CanarySpec,
    hosts: &[String],
) -> Option<Vec<String>> {
    let gateways = gateways(stores, names, spec);
    let of_gateway = |(namespace, name): &(String, String)| {
        let gateway = stores.gateways.get(namespace, name)?;
        Some(hosts.iter().flat_map(|host| admitted(&gateway, &names.namespace, host)).collect::<BTreeSet<String>>())
    };
    let mut each = gateways.iter().filter_map(of_gateway);
    let first = each.next()?;
    (each.all(|other| other == first) && !first.is_empty()).then(|| first.into_iter().collect())
}

/// Returns the hosts of a Canary that are another namespace's.
#[must_use]
pub(in crate::kubernetes::router) fn taken_hosts(stores: &Stores, names: &Names, spec: &CanarySpec) -> Vec<TakenHost> {
    if spec.service.delegation == Some(true) || spec.service.hosts.is_empty() {
        return Vec::new();
    }
    let own = |host: &str| {
        let own = stores.virtual_services.of(&names.namespace);
        own.iter().any(|routes| routes.fields.spec.hosts.iter().any(|other| other.eq_ignore_ascii_case(host)))
    };
    let taken = spec.service.hosts.iter().enumerate().filter_map(|(i, host)| {
        let problem = problem(stores, names, spec, &host.to_ascii_lowercase()).filter(|_| !own(host))?;
        Some(TakenHost { host: host.clone(), problem: format!("spec.service.hosts[{i}]: {problem}") })
    });
    taken.collect()
}

fn problem(stores: &Stores, names: &Names, spec: &CanarySpec, host: &str) -> Option<String> {
    let (namespace, index) = (&names.namespace, stores.host_index());
    let through = gateways(stores, names, spec);
    let mesh = spec.service.gateways.is_empty() || spec.service.gateways.iter().any(|gateway| gateway == "mesh");
    if mesh
        && let Some((service, of)) = host.split_once('.')
        && of != namespace
        && stores.services.get(of, service).is_some()
    {
        return Some(format!("{host} is Service {service} of namespace {of}: remove it, or release it there"));
    }
    let others = |on_gateway: bool| {
        let others: Vec<Arc<VirtualService>> = index.of_host(host, on_gateway).to_vec();
        others.into_iter().filter(|other| other.namespace() != namespace)
    };
    if mesh && let Some(other) = others(false).next() {
        let (of, name) = (other.namespace(), other.name());
        return Some(format!(
            "{host} is a host of VirtualService {of}/{name} in the mesh, and of no route of namespace {namespace}: give another host"
        ));
    }
    let taken = |whose: &str, (of, name): (&str, &str), gateways: &[String]| {
        let shared = gateways
            .iter()
            .map(|gateway| gateway_name(gateway, of))
            .find(|gateway| through.contains(gateway) && !bound_to_both(stores, gateway, (namespace, of), host))?;
        Some(format!(
            "{host} is a host of {whose} {of}/{name} on Gateway {}/{}, and of no route of namespace {namespace}: give another \
             host, or have an admin bind it to both namespaces in the Gateway's servers (hosts: [\"{of}/{host}\", \
             \"{namespace}/{host}\"])",
            shared.0, shared.1
        ))
    };
    let by_routes = others(true)
        .find_map(|other| taken("VirtualService", (other.namespace(), other.name()), &other.fields.spec.gateways));
    by_routes.or_else(|| {
        // Of two that come at once, neither of which has routes yet, the older one has it.
        let before = earlier(stores, names, host);
        before.iter().find_map(|other| {
            let gateways = &other.fields.spec.as_ref().ok()?.service.gateways;
            taken("Canary", (other.namespace(), other.name()), gateways)
        })
    })
}

/// Returns the Canaries of other namespaces that have a host and are older, but for those that make nothing of it.
fn earlier(stores: &Stores, names: &Names, host: &str) -> Vec<Arc<Canary>> {
    let rank = |canary: &Canary| (canary.made_at(), canary.namespace().to_owned(), canary.name().to_owned());
    let Some(own) = stores.canaries.get(&names.namespace, &names.canary).map(|own| rank(&own)) else {
        return Vec::new();
    };
    let mut others = stores.canaries_of_host(host);
    others.retain(|other| {
        other.namespace() != names.namespace && !other.deleted() && !is_stalled(other) && rank(other) < own
    });
    others
}

/// Returns whether a Canary makes nothing of what it says.
pub(super) fn is_stalled(canary: &Canary) -> bool {
    let mut conditions = canary.fields.status.conditions.iter();
    conditions.any(|condition| condition.kind == "Stalled" && condition.status == "True")
}

fn bound_to_both(stores: &Stores, (of, name): &(String, String), both: (&str, &str), host: &str) -> bool {
    let Some(gateway) = stores.gateways.get(of, name) else { return false };
    let bound = |namespace: &str| {
        bindings(&gateway).any(|binding| binding.namespace == Some(namespace) && covers(&binding.host, host))
    };
    bound(both.0) && bound(both.1)
}

/// Returns whether a VirtualService of another namespace may have requests to some of these hosts: they are its own, or covered by
/// one of its own, or the other way round.
pub(super) fn overlaps_elsewhere(stores: &Stores, namespace: &str, hosts: &[String]) -> bool {
    let index = stores.host_index();
    let elsewhere = |claims: &[Arc<VirtualService>]| claims.iter().any(|it| it.namespace() != namespace);
    let wider = |host: &str| suffixes(host).any(|pattern| elsewhere(index.of_host(&pattern, true)));
    hosts.iter().any(|host| wider(host) || index.narrower(host).any(elsewhere))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::api_server::object::Cached;
    use serde_json::json;

    fn gateway(hosts: &[&str]) -> Gateway {
        let object = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
            "metadata": {"name": "public", "namespace": "istio-ingress"},
            "spec": {"selector": {"istio": "ingressgateway"}, "servers": [{"hosts": hosts}]},
        });
        Cached::new(serde_json::from_value(object).unwrap()).unwrap()
    }

    #[test]
    fn a_gateway_admits_what_its_servers_are_bound_to_for_the_namespace() {
        let rows: [(&[&str], &str, &[&str]); 10] = [
            (&["pay.example.com"], "pay.example.com", &["pay.example.com"]),
            (&["*"], "pay.example.com", &["pay.example.com"]),
            (&["*/*.example.com"], "pay.example.com", &["pay.example.com"]),
            (&["bank/pay.example.com"], "pay.example.com", &["pay.example.com"]),
            (&["evil/*", "bank/*.Example.com"], "pay.example.com", &["pay.example.com"]),
            (&["evil/pay.example.com"], "pay.example.com", &[]),
            (&["./*"], "pay.example.com", &[]),
            (&["example.com"], "pay.example.com", &[]),
            (&["bank/a.example.com", "evil/b.example.com"], "*.example.com", &["a.example.com"]),
            (&["bank/a.example.com", "*/c.example.com"], "*", &["a.example.com", "c.example.com"]),
        ];
        for (hosts, host, expected) in rows {
            let found: Vec<String> = admitted(&gateway(hosts), "bank", host).into_iter().collect();
            assert_eq!(found, expected, "{hosts:?} {host}");
        }
        assert_eq!(admitted(&gateway(&["./*"]), "istio-ingress", "a.b").len(), 1);
    }
}
