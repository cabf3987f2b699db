//! Which VirtualServices of gateways claim which hosts: made once after each change of any of them, so that a Canary among
//! thousands need not look at all the others on every pass.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::registry::resolve;
use crate::kubernetes::kinds::{VirtualService, VirtualServiceBody};

/// Who claims which hosts.
#[derive(Debug, Default)]
pub(crate) struct HostIndex {
    /// By host in lower case, those that are bound to some gateway.
    by_host: BTreeMap<String, Vec<Arc<VirtualService>>>,
    /// Those that delegate routes.
    roots: Vec<Arc<VirtualService>>,
}

impl HostIndex {
    /// Sorts all VirtualServices by what they claim.
    #[must_use]
    pub(crate) fn of(all: Vec<Arc<VirtualService>>) -> Self {
        let mut index = Self::default();
        for routes in all {
            for host in hosts(routes.namespace(), &routes.fields.spec) {
                index.by_host.entry(host).or_default().push(routes.clone());
            }
            if routes.fields.spec.http.iter().any(|route| route.delegate.is_some()) {
                index.roots.push(routes);
            }
        }
        index
    }

    /// Returns whether somebody else than `own`, by namespace and name, may have routes for requests to any of the hosts.
    #[must_use]
    pub(super) fn shared(&self, own: (&str, &str), hosts: &[String]) -> bool {
        let other = |index: &Vec<Arc<VirtualService>>| index.iter().any(|it| (it.namespace(), it.name()) != own);
        hosts.iter().any(|ours| match ours.contains('*') {
            false => self.by_host.get(ours).is_some_and(other),
            true => self.by_host.iter().any(|(theirs, index)| covers(ours, theirs) && other(index)),
        })
    }

    /// Returns those that delegate routes.
    pub(crate) fn roots(&self) -> &[Arc<VirtualService>] {
        &self.roots
    }
}

/// Returns the hosts that a VirtualService in `namespace` claims on gateways, in lower case.
pub(super) fn hosts(namespace: &str, routes: &VirtualServiceBody) -> Vec<String> {
    let on_gateway = routes.gateways.iter().any(|name| resolve(name, namespace).1 != "mesh");
    let lower = |host: &String| host.to_ascii_lowercase();
    if on_gateway { routes.hosts.iter().map(lower).collect() } else { Vec::new() }
}

/// Envoy takes the most specific host: another one's wildcard takes nothing from an exact host of ours, but another one's
/// exact host takes requests from a wildcard of ours.
pub(super) fn covers(ours: &str, theirs: &str) -> bool {
    ours == theirs
        || ours == "*"
        || ours.strip_prefix('*').is_some_and(|suffix| theirs.strip_prefix('*').unwrap_or(theirs).ends_with(suffix))
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

    fn routes(name: &str, host: &str, gateway: &str) -> Arc<VirtualService> {
        let object = serde_json::json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"hosts": [host.to_uppercase()], "gateways": [gateway], "http": []},
        });
        Arc::new(Cached::new(serde_json::from_value(object).unwrap()).unwrap())
    }
}
