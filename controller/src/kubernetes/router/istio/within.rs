//! Which hosts of a Canary inside of the mesh another Canary of its own namespace has: a sidecar follows the older routes alone.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::export::is_for_its_namespace;
use super::host_owner::is_stalled;
use super::one_place::one_place;
use super::{Callers, gateways};
use crate::api::CanarySpec;
use crate::api::service::on_mesh;
use crate::kubernetes::kinds::canary::{Canary, Fault};
use crate::kubernetes::kinds::{VirtualService, gateway_name};
use crate::kubernetes::render::{CANARY_LABEL, Names};
use crate::kubernetes::stores::Stores;

/// Returns which host of a Canary is another one's of its namespace: the word for it, and a sentence. The name of a Service is its own
/// Canary's; any other host the older one's. Two that have conditions for their requests (`match`) are told apart by those.
pub(in super::super) fn shared_host(stores: &Stores, names: &Names, spec: &CanarySpec) -> Option<Fault> {
    let service = &spec.service;
    if !service.is_on_mesh() || service.hosts.is_empty() {
        return None;
    }
    let (namespace, domain) = (&names.namespace, &stores.settings.cluster_domain);
    let whole = |host: &str| match host.contains('.') || host == "*" {
        true => host.to_ascii_lowercase(),
        false => format!("{}.{namespace}.svc.{domain}", host.to_ascii_lowercase()),
    };
    let age = |canary: &Canary| (Reverse(canary.made_at()), Reverse(canary.name().to_owned()));
    let own = age(&*stores.canaries.get(namespace, &names.canary)?);
    let mut others = stores.canaries.of(namespace);
    others.retain(|other| other.name() != names.canary && !other.deleted() && !is_stalled(other));
    let hosts = service.hosts.iter().enumerate().filter(|(_, host)| whole(host) != whole(&names.apex));
    hosts.into_iter().find_map(|(i, host)| {
        let full = whole(host);
        let other = others.iter().find(|other| {
            let Ok(theirs) = &other.fields.spec else { return false };
            let on_mesh = theirs.service.is_on_mesh();
            let apart = !service.r#match.is_empty() && !theirs.service.r#match.is_empty();
            let listed = || theirs.service.hosts.iter().any(|theirs| whole(theirs) == full);
            on_mesh && !apart && (whole(theirs.apex()) == full || listed() && age(other) > own)
        })?;
        let problem = format!(
            "spec.service.hosts[{i}]: {host} is a host of Canary {} too, and inside of the mesh the requests follow the routes of one: \
             remove it from one of the two",
            other.name()
        );
        Some(("HostTaken", problem))
    })
}

/// Returns which host of a Canary on its gateways an older Canary of its namespace has, a sentence each: of two whose requests have no
/// conditions (`match`) a gateway follows the older routes alone.
pub(in super::super) fn hosts_behind(stores: &Stores, names: &Names, spec: &CanarySpec) -> Vec<String> {
    let (namespace, service) = (&names.namespace, &spec.service);
    if service.delegation == Some(true) || !service.r#match.is_empty() {
        return Vec::new();
    }
    let through = gateways(stores, names, spec);
    let Some(own) = stores.canaries.get(namespace, &names.canary) else { return Vec::new() };
    let age = |canary: &Canary| (canary.made_at(), canary.name().to_owned());
    let on_one = |theirs: &String| {
        let theirs = gateway_name(theirs, namespace);
        through.iter().any(|ours| one_place(stores, ours, &theirs))
    };
    let sentence = |host: &String| {
        let others = stores.canaries_of_host(&host.to_ascii_lowercase());
        let other = others.iter().find(|other| {
            let Ok(theirs) = &other.fields.spec else { return false };
            let theirs = &theirs.service;
            let is_older = other.namespace() == namespace && !other.deleted() && age(other) < age(&own);
            let all = theirs.delegation != Some(true) && theirs.r#match.is_empty();
            is_older && all && !is_stalled(other) && theirs.gateways.iter().any(on_one)
        })?;
        Some(format!(
            "{host} is a host of Canary {} too, and its gateway follows the older routes alone: none of these requests reaches {}; remove \
             it from one of the two, or give each conditions (spec.service.match)",
            other.name(),
            names.canary
        ))
    };
    service.hosts.iter().filter_map(sentence).collect()
}

/// Returns the users' own routes of the mesh for the service that a Canary's callers ask for, a sentence each: a sidecar follows those of
/// one VirtualService, and of these the older one's.
pub(in super::super) fn routes_beside(stores: &Stores, names: &Names, callers: &Callers) -> Vec<String> {
    let Names { namespace, apex, canary, .. } = names;
    let domain = &stores.settings.cluster_domain;
    let short = format!("{apex}.{namespace}");
    let own = [apex.clone(), short.clone(), format!("{short}.svc"), format!("{short}.svc.{domain}")];
    let host_of = |routes: &VirtualService| {
        let mut hosts = routes.fields.spec.hosts.iter();
        let own = if routes.namespace() == namespace { &own[..] } else { &own[1..] };
        hosts.find(|host| own.iter().any(|own| own.eq_ignore_ascii_case(host))).cloned()
    };
    let calls: BTreeSet<&str> = callers.taking_part.iter().map(|of| of.namespace.as_str()).collect();
    let index = stores.host_index();
    let elsewhere = own[1..].iter().flat_map(|host| index.of_host(&host.to_ascii_lowercase(), false).iter().cloned());
    let elsewhere = elsewhere.filter(|routes| calls.contains(routes.namespace()) || !is_for_its_namespace(routes));
    let all = stores.virtual_services.of(namespace).into_iter().chain(elsewhere);
    let is_own = |routes: &VirtualService| {
        routes.namespace() == namespace && (routes.name() == apex || routes.label(CANARY_LABEL) == Some(canary))
    };
    let beside = all.filter(|routes| !is_own(routes) && on_mesh(&routes.fields.spec.gateways));
    let sentence = |routes: Arc<VirtualService>| {
        let (of, name) = (routes.namespace(), routes.name());
        // A Canary's is told by its own fault.
        let host = host_of(&routes).filter(|_| of != namespace || routes.label(CANARY_LABEL).is_none())?;
        Some(format!(
            "VirtualService {of}/{name} has routes for {host} in the mesh too, and a sidecar follows those of the older one alone: say in \
             spec.service what it says, and delete it, or have it delegate (spec.service.delegation)"
        ))
    };
    let said: BTreeSet<String> = beside.filter_map(sentence).collect();
    said.into_iter().collect()
}
