//! How a Canary's requests are told from others on a gateway.
//!
//! By host, which is cheap, where the VirtualServices show that nobody else has a route on any of the Canary's hosts; by the
//! name of the route otherwise.

use weir_engine::Timestamp;
use weir_wire::Lookup;

use super::callers::is_on_mesh;
use super::host_owner::{admitted_hosts, overlaps_elsewhere};
use crate::api::{CanarySpec, direct_names, own_names};
use crate::gateway_config::{OwnService, RequestMatch};
use crate::kubernetes::render::{Names, route_names};
use crate::kubernetes::stores::{Stores, hosts};

/// Returns how the requests of a Canary are found.
#[must_use]
pub(in super::super) fn request_match(
    stores: &Stores,
    names: &Names,
    spec: &CanarySpec,
    since: Timestamp,
) -> RequestMatch {
    let hosts = hosts(&names.namespace, spec, &stores.settings.cluster_domain);
    let index = stores.host_index();
    let delegated = spec.service.delegation == Some(true);
    let shared = || index.shared((&names.namespace, &names.apex), &hosts);
    // A host that a Gateway admits for others only, or that another namespace's routes may have, tells nothing: the name of the
    // route does, which is the Canary's own.
    let admitted = if delegated { None } else { admitted_hosts(stores, names, spec, &hosts) };
    let elsewhere = |hosts: &[String]| overlaps_elsewhere(stores, &names.namespace, hosts);
    // Where not everybody's routes are known, any host may be another's too.
    let alone = spec.service.r#match.is_empty() && !stores.settings.is_restricted() && !shared();
    let alone = alone && admitted.as_ref().is_some_and(|admitted| !elsewhere(admitted));
    let hosts = if delegated { Vec::new() } else { admitted.unwrap_or(hosts) };
    let mut routes = route_names(names, spec);
    let roots = index.roots().iter().flat_map(|root| root.delegates_to(&names.namespace, &names.apex));
    let roots: Vec<&str> = roots.map(|root| root.name.as_str()).filter(|root| !root.is_empty()).collect();
    for arm in [&mut routes.primary, &mut routes.canary] {
        // istiod joins both names.
        let joined: Vec<String> =
            roots.iter().flat_map(|root| arm.iter().map(move |route| format!("{root}-{route}"))).collect();
        arm.extend(joined);
        arm.sort();
        arm.dedup();
    }
    let direct = direct_names(&names.namespace, spec, &stores.settings.cluster_domain);
    RequestMatch {
        namespace: names.namespace.clone(),
        name: names.canary.clone(),
        // Hosts only narrow down which Canaries are tried. Of a delegated VirtualService they are the delegating one's: left out.
        hosts,
        routes,
        token: names.token.clone(),
        since,
        own_service: own_service(stores, names, spec, &direct),
        direct: Some(direct),
        lookup: if alone { Lookup::Host } else { Lookup::Route },
    }
}

/// Returns what sidecars call the canary's own Service, where the Canary's requests come from inside of the mesh. `direct` are the names
/// of it that the Canary's hosts cover: with the whole one among them istiod gives all of them the Canary's routes, and with another one
/// that name alone.
fn own_service(stores: &Stores, names: &Names, spec: &CanarySpec, direct: &[String]) -> Option<OwnService> {
    let domain = &stores.settings.cluster_domain;
    let names = is_on_mesh(stores, names, spec).then(|| own_names(&names.namespace, spec, domain))?;
    let whole = names.last()?;
    let virtual_host = format!("{whole}:{}", spec.service.port?);
    let virtual_hosts = if direct.contains(whole) { Vec::new() } else { vec![virtual_host] };
    Some(OwnService { names, virtual_hosts })
}
