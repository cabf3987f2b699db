//! Whose a host is: which hosts of a Canary its Gateways admit, and which are another namespace's.
//!
//! Whoever may make Canaries makes VirtualServices by them. So a host that another namespace has a route for is that namespace's,
//! unless an admin has bound it to both in a Gateway, or this namespace had a route for it before, in the same place: one in the mesh, or
//! on another gateway, takes nobody's requests there, and whoever has it may have it nowhere else.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::export::is_for_its_namespace;
use super::gateways;
use super::one_place::one_place;
use crate::api::CanarySpec;
use crate::api::service::on_mesh;
use crate::kubernetes::api_server::lists::{EVERYWHERE, Listable, Listed};
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
    let taken = spec.service.hosts.iter().enumerate().filter_map(|(i, host)| {
        let problem = problem(stores, names, spec, &host.to_ascii_lowercase())?;
        Some(TakenHost { host: host.clone(), problem: format!("spec.service.hosts[{i}]: {problem}") })
    });
    taken.collect()
}

fn problem(stores: &Stores, names: &Names, spec: &CanarySpec, host: &str) -> Option<String> {
    let (namespace, index) = (&names.namespace, stores.host_index());
    let through = gateways(stores, names, spec);
    let had = Had { stores, names, host };
    let mesh = on_mesh(&spec.service.gateways);
    if mesh
        && let Some((service, of)) = host.split_once('.')
        && of != namespace
        && stores.services.get(of, service).is_some()
        && !had.in_mesh(&through)
    {
        return Some(format!("{host} is Service {service} of namespace {of}: remove it, or release it there"));
    }
    let others = |on_gateway: bool| {
        let others: Vec<Arc<VirtualService>> = index.of_host(host, on_gateway).to_vec();
        others.into_iter().filter(|other| other.namespace() != namespace)
    };
    if mesh
        && let Some(other) = others(false).next()
        && !had.in_mesh(&through)
    {
        let (of, name) = (other.namespace(), other.name());
        return Some(format!(
            "{host} is a host of VirtualService {of}/{name} in the mesh, and of no route of namespace {namespace}: give another host"
        ));
    }
    let taken = |whose: &str, (of, name): (&str, &str), gateways: &[String]| {
        let theirs = gateways.iter().filter(|gateway| *gateway != "mesh").map(|gateway| gateway_name(gateway, of));
        let pairs = theirs.flat_map(|theirs| through.iter().map(move |ours| (ours, theirs.clone())));
        let (ours, theirs) = pairs.into_iter().find(|(ours, theirs)| {
            let both = [(*ours, namespace.as_str()), (theirs, of)];
            one_place(stores, ours, theirs) && !are_bound(stores, both, host) && !had.on(ours)
        })?;
        let place = match *ours == theirs {
            true => String::new(),
            false => format!(", whose requests Gateway {}/{} has too", ours.0, ours.1),
        };
        Some(format!(
            "{host} is a host of {whose} {of}/{name} on Gateway {}/{}{place}, and of no route of namespace {namespace}: give \
             another host, or have an admin bind it to both namespaces in the Gateway's servers (hosts: [\"{of}/{host}\", \
             \"{namespace}/{host}\"])",
            theirs.0, theirs.1
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

/// Kinds that istiod makes routes of besides its own, for whole clusters at a time.
const SERVING: [Listable; 4] = [
    Listable { group: "networking.k8s.io", version: "v1", kind: "Ingress", plural: "ingresses" },
    Listable { group: GATEWAY_API, version: "v1", kind: "HTTPRoute", plural: "httproutes" },
    Listable { group: GATEWAY_API, version: "v1", kind: "GRPCRoute", plural: "grpcroutes" },
    Listable { group: GATEWAY_API, version: "v1", kind: "TLSRoute", plural: "tlsroutes" },
];
const GATEWAY_API: &str = "gateway.networking.k8s.io";
/// Age of what was listed of them: a list of a whole cluster is no small thing, and a Canary that cannot begin asks for it again and again.
const FRESH: Duration = Duration::from_secs(60);

/// What is known of the hosts of a Canary that an Ingress or a route of the Gateway API may have in another namespace.
pub(crate) enum Served {
    /// Those that another namespace has.
    Known(Vec<TakenHost>),
    /// Nothing yet.
    Asking,
    /// Nothing, as the cluster does not say it: those that somebody may have.
    Unlisted(Vec<TakenHost>),
}

/// Returns which hosts of a Canary an Ingress or a route of the Gateway API has in another namespace. The cluster is asked while a host is
/// new on one of the Canary's gateways, and at rest for nothing.
#[must_use]
pub(in crate::kubernetes::router) fn served_elsewhere(stores: &Stores, names: &Names, spec: &CanarySpec) -> Served {
    let namespace = &names.namespace;
    // With rights in some namespaces nobody knows what the others have.
    let known = spec.service.delegation != Some(true) && !stores.settings.is_restricted();
    let through = if known { gateways(stores, names, spec) } else { BTreeSet::new() };
    let new_on = |host: &str| {
        let had = Had { stores, names, host };
        through.iter().find(|gateway| !had.on(gateway) && !are_bound(stores, [(gateway, namespace)], host))
    };
    let hosts = spec.service.hosts.iter().enumerate().map(|(i, host)| (i, host, host.to_ascii_lowercase()));
    let new: Vec<_> = hosts.filter_map(|(i, host, lower)| Some((i, host, new_on(&lower)?, lower))).collect();
    if new.is_empty() {
        return Served::Known(Vec::new());
    }
    let wake = stores.waker(&(namespace.clone(), names.canary.clone()));
    let Some(listed) = stores.api.lists.of(&stores.api.client, EVERYWHERE, &SERVING, FRESH, move || wake.notify_one())
    else {
        return Served::Asking;
    };
    let unlisted = listed.problem();
    let taken = new.into_iter().filter_map(|(i, host, (of, gateway), lower)| {
        let bind = format!("have an admin bind it to this namespace in the Gateway's servers (hosts: [\"{namespace}/{lower}\"])");
        let has = |it: &&Listed| it.spec["hosts"].as_array().is_some_and(|hosts| hosts.iter().any(|own| *own == *lower));
        let problem = match listed.items.iter().filter(|it| *it.namespace != **namespace).find(has) {
            Some(other) => format!(
                "spec.service.hosts[{i}]: {lower} is a host of {} {}/{}, and of no route of namespace {namespace} on Gateway \
                 {of}/{gateway}: give another host, or {bind}",
                other.kind, other.namespace, other.name
            ),
            None if listed.cut => format!(
                "spec.service.hosts[{i}]: the cluster has more Ingresses and routes than are looked at, so {lower} may be one of \
                 theirs on Gateway {of}/{gateway}: {bind}"
            ),
            None => {
                let why = unlisted.as_ref()?;
                format!(
                    "spec.service.hosts[{i}]: whose {lower} is on Gateway {of}/{gateway} is not known, as {why}: mend that, or {bind}"
                )
            }
        };
        Some(TakenHost { host: host.clone(), problem })
    });
    let taken: Vec<TakenHost> = taken.collect();
    if unlisted.is_some() { Served::Unlisted(taken) } else { Served::Known(taken) }
}

/// The routes that a namespace has for a host already; Weir's own are among them, as they are and not as the spec would have them.
struct Had<'a> {
    stores: &'a Stores,
    names: &'a Names,
    host: &'a str,
}

impl Had<'_> {
    /// The Canary's own come first: as a rule they have it, and a namespace may have thousands of others.
    fn routes(&self) -> impl Iterator<Item = Arc<VirtualService>> {
        let (all, Names { namespace, apex, .. }) = (&self.stores.virtual_services, self.names);
        let others = std::iter::once_with(|| all.of(namespace)).flatten();
        let routes = all.get(namespace, apex).into_iter().chain(others);
        routes.filter(|routes| routes.fields.spec.hosts.iter().any(|own| own.eq_ignore_ascii_case(self.host)))
    }

    /// Returns whether one of them has requests that come through a Gateway.
    fn on(&self, gateway: &(String, String)) -> bool {
        self.routes().any(|routes| {
            let gateways = routes.fields.spec.gateways.iter().filter(|gateway| *gateway != "mesh");
            let gateways: Vec<_> = gateways.map(|own| gateway_name(own, &self.names.namespace)).collect();
            gateways.contains(gateway) || gateways.iter().any(|own| one_place(self.stores, own, gateway))
        })
    }

    /// Returns whether one of them has requests of the mesh: of all of it, or on all of the gateways that are asked for too, so that no
    /// more than that is asked for.
    fn in_mesh(&self, through: &BTreeSet<(String, String)>) -> bool {
        self.routes().any(|routes| {
            let gateways = &routes.fields.spec.gateways;
            let own: BTreeSet<_> = gateways.iter().map(|own| gateway_name(own, &self.names.namespace)).collect();
            on_mesh(gateways) && (!is_for_its_namespace(&routes) || through.is_subset(&own))
        })
    }
}

/// Returns whether an admin has bound a host to namespaces, each in the Gateway that it uses.
fn are_bound<const N: usize>(stores: &Stores, all: [(&(String, String), &str); N], host: &str) -> bool {
    all.into_iter().all(|((of, name), namespace)| {
        stores.gateways.get(of, name).is_some_and(|gateway| {
            bindings(&gateway).any(|binding| binding.namespace == Some(namespace) && covers(&binding.host, host))
        })
    })
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
