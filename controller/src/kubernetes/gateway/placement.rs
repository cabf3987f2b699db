//! How a Canary's requests are told from others on a gateway.
//!
//! By host, which is cheap, where the VirtualServices show that nobody else has a route on any of the Canary's hosts; by the
//! name of the route otherwise.

use weir_wire::Lookup;

use super::fleet::{delegates, resolve};
use crate::api::CanarySpec;
use crate::gateway_config::Placement;
use crate::kubernetes::kinds::VirtualService;
use crate::kubernetes::render::{Names, home_route};
use crate::kubernetes::world::World;

/// Returns how the requests of a Canary are found.
#[must_use]
pub(crate) fn placement(world: &World, names: &Names, spec: &CanarySpec) -> Placement {
    let mut hosts: Vec<String> = spec.service.hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
    if !hosts.iter().any(|host| host == "*") {
        hosts.push(format!("{}.{}.svc.{}", names.apex, names.namespace, world.settings.cluster_domain));
    }
    let others = world.virtual_services.all();
    let others: Vec<_> =
        others.iter().filter(|other| (other.namespace(), other.name()) != (&*names.namespace, &*names.apex)).collect();
    let delegated = spec.service.delegation == Some(true);
    let alone = !delegated && spec.service.r#match.is_empty() && !others.iter().any(|other| shares(other, &hosts));
    let own = home_route(names, spec);
    let mut routes = own.clone();
    for root in others.iter().flat_map(|other| delegates(other, names)).filter(|root| !root.name.is_empty()) {
        // istiod joins both names.
        routes.extend(own.iter().map(|route| format!("{}-{route}", root.name)));
    }
    routes.sort();
    routes.dedup();
    Placement {
        namespace: names.namespace.clone(),
        name: names.canary.clone(),
        // With the names of routes the hosts only save a look at those of others; who delegates knows its hosts better.
        hosts: if delegated { Vec::new() } else { hosts },
        routes,
        lookup: if alone { Lookup::Host } else { Lookup::Route },
    }
}

/// Returns whether another VirtualService of some gateway may have routes for requests to any of the hosts.
fn shares(other: &VirtualService, hosts: &[String]) -> bool {
    let on_gateway = other.view.spec.gateways.iter().any(|name| resolve(name, other.namespace()).1 != "mesh");
    on_gateway
        && other.view.spec.hosts.iter().any(|theirs| {
            let theirs = theirs.to_ascii_lowercase();
            hosts.iter().any(|ours| ours_covers(ours, &theirs))
        })
}

/// Envoy takes the most specific host: another one's wildcard takes nothing from an exact host of ours, but another one's
/// exact host takes requests from a wildcard of ours.
fn ours_covers(ours: &str, theirs: &str) -> bool {
    ours == theirs
        || ours == "*"
        || ours.strip_prefix('*').is_some_and(|suffix| theirs.strip_prefix('*').unwrap_or(theirs).ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_shared_where_another_one_may_take_its_requests() {
        let rows = [
            ("shop.example.com", "shop.example.com", true),
            ("shop.example.com", "*.example.com", false),
            ("shop.example.com", "*", false),
            ("*.example.com", "shop.example.com", true),
            ("*.example.com", "*.eu.example.com", true),
            ("*.example.com", "*.com", false),
            ("*.example.com", "example.com", false),
            ("*", "anything", true),
        ];
        for (ours, theirs, expected) in rows {
            assert_eq!(ours_covers(ours, theirs), expected, "{ours} {theirs}");
        }
    }
}
