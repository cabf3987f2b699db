//! Which VirtualServices of gateways claim which hosts: made once after each change of any of them, so that a Canary among
//! thousands need not look at all the others on every pass.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::api::CanarySpec;
use crate::kubernetes::kinds::{VirtualService, VirtualServiceBody};

/// Who claims which hosts.
#[derive(Debug, Default)]
pub(crate) struct HostIndex {
    /// By host in lower case, those that are bound to some gateway.
    by_host: BTreeMap<String, Vec<Arc<VirtualService>>>,
    /// The same of those in the mesh.
    in_mesh: BTreeMap<String, Vec<Arc<VirtualService>>>,
    /// Those that delegate routes.
    roots: Vec<Arc<VirtualService>>,
}

impl HostIndex {
    /// Sorts all VirtualServices by what they claim.
    #[must_use]
    pub(crate) fn of(all: Vec<Arc<VirtualService>>) -> Self {
        let mut index = Self::default();
        for routes in all {
            for host in routes.claimed_hosts() {
                index.by_host.entry(host).or_default().push(routes.clone());
            }
            let gateways = &routes.fields.spec.gateways;
            if gateways.is_empty() || gateways.iter().any(|gateway| gateway == "mesh") {
                // A name without a dot is in the VirtualService's own namespace.
                for host in routes.fields.spec.hosts.iter().filter(|host| host.contains('.')) {
                    index.in_mesh.entry(host.to_ascii_lowercase()).or_default().push(routes.clone());
                }
            }
            if routes.fields.spec.http.iter().any(|route| route.delegate.is_some()) {
                index.roots.push(routes);
            }
        }
        index
    }

    /// Returns whether somebody else than `own`, by namespace and name, may have routes for requests to any of the hosts.
    #[must_use]
    pub(crate) fn shared(&self, own: (&str, &str), hosts: &[String]) -> bool {
        let other = |index: &Vec<Arc<VirtualService>>| index.iter().any(|it| (it.namespace(), it.name()) != own);
        hosts.iter().any(|ours| match ours.contains('*') {
            false => self.by_host.get(ours).is_some_and(other),
            true => self.by_host.iter().any(|(theirs, index)| covers(ours, theirs) && other(index)),
        })
    }

    /// Returns those of exactly this host, in lower case, that are bound to gateways or to the mesh.
    #[must_use]
    pub(crate) fn of_host(&self, host: &str, on_gateway: bool) -> &[Arc<VirtualService>] {
        let index = if on_gateway { &self.by_host } else { &self.in_mesh };
        index.get(host).map_or(&[], Vec::as_slice)
    }

    /// Returns those on gateways whose hosts a wildcard covers.
    pub(crate) fn narrower(&self, host: &str) -> impl Iterator<Item = &[Arc<VirtualService>]> {
        let all = host.contains('*').then_some(&self.by_host).into_iter().flatten();
        all.filter(move |(theirs, _)| covers(host, theirs)).map(|(_, routes)| routes.as_slice())
    }

    /// Returns those that delegate routes.
    pub(crate) fn roots(&self) -> &[Arc<VirtualService>] {
        &self.roots
    }
}

/// Returns the hosts of a Canary's requests, in lower case.
#[must_use]
pub(crate) fn hosts(namespace: &str, spec: &CanarySpec, domain: &str) -> Vec<String> {
    let mut hosts: Vec<String> = spec.service.hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
    if !hosts.iter().any(|host| host == "*") {
        hosts.push(format!("{}.{namespace}.svc.{domain}", spec.apex()));
    }
    hosts
}

/// Returns whether routes in the namespace `of` may change how the requests of a Canary are found: they share a host with it, or
/// delegate to it.
#[must_use]
pub(super) fn affects(of: &str, routes: &VirtualServiceBody, namespace: &str, spec: &CanarySpec, domain: &str) -> bool {
    let (ours, theirs) = (hosts(namespace, spec, domain), routes.claimed_hosts(of));
    // Of other namespaces, a wildcard that covers ours matters too.
    let share = |ours: &String, theirs: &String| covers(ours, theirs) || (of != namespace && covers(theirs, ours));
    let shares = theirs.iter().any(|theirs| ours.iter().any(|ours| share(ours, theirs)));
    shares || routes.delegates_to(of, namespace, spec.apex()).next().is_some()
}

/// Envoy takes the most specific host: another one's wildcard takes nothing from an exact host of ours, but another one's
/// exact host takes requests from a wildcard of ours.
#[must_use]
pub(crate) fn covers(ours: &str, theirs: &str) -> bool {
    ours == theirs
        || ours == "*"
        || ours.strip_prefix('*').is_some_and(|suffix| theirs.strip_prefix('*').unwrap_or(theirs).ends_with(suffix))
}

/// Returns a host and every wildcard that covers it, in lower case as it is.
pub(crate) fn suffixes(host: &str) -> impl Iterator<Item = String> {
    let mut rest = host.strip_prefix("*.").unwrap_or(host);
    let own = (host != "*").then(|| host.to_owned());
    let wider = std::iter::from_fn(move || {
        let (_, parent) = rest.split_once('.')?;
        rest = parent;
        Some(format!("*.{parent}"))
    });
    own.into_iter().chain(wider).chain(std::iter::once("*".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::api_server::object::Cached;

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
            assert_eq!(covers(ours, theirs), expected, "{ours} {theirs}");
            let hosts = [ours.to_owned()];
            let index = HostIndex::of(vec![routes("other", theirs, "public"), routes("own", ours, "public")]);
            assert_eq!(index.shared(("shop", "own"), &hosts), expected, "{ours} {theirs}");
            let mesh = HostIndex::of(vec![routes("other", theirs, "mesh")]);
            assert!(!mesh.shared(("shop", "own"), &hosts), "{ours} {theirs}: nothing of the mesh passes a gateway");
        }
    }

    #[test]
    fn a_host_has_every_wildcard_that_covers_it() {
        let of = |host: &str| suffixes(host).collect::<Vec<_>>();
        assert_eq!(of("a.b.c"), ["a.b.c", "*.b.c", "*.c", "*"]);
        assert_eq!(of("*.b.c"), ["*.b.c", "*.c", "*"]);
        assert_eq!(of("*"), ["*"]);
    }

    fn routes(name: &str, host: &str, gateway: &str) -> Arc<VirtualService> {
        let object = serde_json::json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"hosts": [host.to_uppercase()], "gateways": [gateway], "http": []},
        });
        Arc::new(Cached::new(serde_json::from_value(object).unwrap()).unwrap())
    }

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
