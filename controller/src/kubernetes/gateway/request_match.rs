//! How a Canary's requests are told from others on a gateway.
//!
//! By host, which is cheap, where the VirtualServices show that nobody else has a route on any of the Canary's hosts; by the
//! name of the route otherwise.

use weir_wire::Lookup;

use super::host_index;
use super::registry::delegates;
use crate::api::CanarySpec;
use crate::gateway_config::RequestMatch;
use crate::kubernetes::kinds::VirtualServiceBody;
use crate::kubernetes::render::{Names, route_names};
use crate::kubernetes::stores::Stores;

/// Returns how the requests of a Canary are found.
#[must_use]
pub(crate) fn request_match(stores: &Stores, names: &Names, spec: &CanarySpec) -> RequestMatch {
    let hosts = hosts(&names.namespace, spec, &stores.settings.cluster_domain);
    let index = stores.host_index();
    let delegated = spec.service.delegation == Some(true);
    let shared = || index.shared((&names.namespace, &names.apex), &hosts);
    let alone = !delegated && spec.service.r#match.is_empty() && !shared();
    let mut routes = route_names(names, spec);
    let roots = index
        .roots()
        .iter()
        .flat_map(|root| delegates(root.namespace(), &root.fields.spec, &names.namespace, &names.apex));
    let roots: Vec<&str> = roots.map(|root| root.name.as_str()).filter(|root| !root.is_empty()).collect();
    for arm in [&mut routes.primary, &mut routes.canary] {
        // istiod joins both names.
        let joined: Vec<String> =
            roots.iter().flat_map(|root| arm.iter().map(move |route| format!("{root}-{route}"))).collect();
        arm.extend(joined);
        arm.sort();
        arm.dedup();
    }
    RequestMatch {
        namespace: names.namespace.clone(),
        name: names.canary.clone(),
        // Hosts only narrow down which Canaries are tried. Of a delegated VirtualService they are the delegating one's: left out.
        hosts: if delegated { Vec::new() } else { hosts },
        routes,
        lookup: if alone { Lookup::Host } else { Lookup::Route },
    }
}

/// Returns whether routes in the namespace `of` may change how the requests of a Canary are found: they share a host with it, or delegate to it.
#[must_use]
pub(crate) fn affects(of: &str, routes: &VirtualServiceBody, namespace: &str, spec: &CanarySpec, domain: &str) -> bool {
    let (ours, theirs) = (hosts(namespace, spec, domain), host_index::hosts(of, routes));
    let shares = theirs.iter().any(|theirs| ours.iter().any(|ours| host_index::covers(ours, theirs)));
    shares || delegates(of, routes, namespace, spec.apex()).next().is_some()
}

/// Returns the hosts of a Canary's requests, in lower case.
fn hosts(namespace: &str, spec: &CanarySpec, domain: &str) -> Vec<String> {
    let mut hosts: Vec<String> = spec.service.hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
    if !hosts.iter().any(|host| host == "*") {
        hosts.push(format!("{}.{namespace}.svc.{domain}", spec.apex()));
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_concern_whoever_they_share_a_host_with_or_delegate_to() {
        let rows = [
            (r#"{"hosts": ["Shop.example.com"], "gateways": ["public"]}"#, true),
            (r#"{"hosts": ["cart.shop.svc.cluster.local"], "gateways": ["public"]}"#, true),
            (r#"{"hosts": ["other.example.com"], "gateways": ["public"]}"#, false),
            (r#"{"hosts": ["shop.example.com"]}"#, false),
            (r#"{"hosts": ["x"], "gateways": ["public"], "http": [{"delegate": {"name": "cart"}}]}"#, true),
            (
                r#"{"hosts": ["x"], "gateways": ["public"], "http": [{"delegate": {"name": "cart", "namespace": "b"}}]}"#,
                false,
            ),
        ];
        let canary = r#"{"targetRef": {"kind": "Deployment", "name": "cart"}, "service": {"port": 80, "hosts": ["shop.example.com"]}, "analysis": {}}"#;
        let canary: CanarySpec = serde_json::from_str(canary).unwrap();
        for (spec, expected) in rows {
            let routes: VirtualServiceBody = serde_json::from_str(spec).unwrap();
            assert_eq!(affects("shop", &routes, "shop", &canary, "cluster.local"), expected, "{spec}");
        }
    }
}
