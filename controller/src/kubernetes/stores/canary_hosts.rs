//! Which Canaries have which hosts, kept up to date as they change: somebody's routes wake those that share a host with them, and not
//! each of thousands to see whether it does.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Key;
use super::host_index::{covers, hosts, suffixes};
use crate::kubernetes::kinds::VirtualServiceBody;
use crate::kubernetes::kinds::canary::Canary;

/// Which Canaries have which hosts.
#[derive(Debug, Default)]
pub(super) struct CanaryHosts {
    known: HashMap<Key, Known>,
    by_host: BTreeMap<String, BTreeSet<Key>>,
    /// By namespace and the name of the service that users call.
    by_apex: HashMap<Key, BTreeSet<Key>>,
}

#[derive(Debug)]
struct Known {
    hosts: Vec<String>,
    apex: Key,
}

impl CanaryHosts {
    /// Takes in a Canary as it is now, or that there is none of this name.
    pub(super) fn update(&mut self, key: &Key, now: Option<&Canary>, domain: &str) {
        if let Some(Known { hosts, apex }) = self.known.remove(key) {
            hosts.iter().for_each(|host| leave(&mut self.by_host, host, key));
            if let Some(of_apex) = self.by_apex.get_mut(&apex) {
                of_apex.remove(key);
                if of_apex.is_empty() {
                    self.by_apex.remove(&apex);
                }
            }
        }
        let Some(Ok(spec)) = now.map(|canary| &canary.fields.spec) else { return };
        let known = Known { hosts: hosts(&key.0, spec, domain), apex: (key.0.clone(), spec.apex().to_owned()) };
        for host in &known.hosts {
            self.by_host.entry(host.clone()).or_default().insert(key.clone());
        }
        self.by_apex.entry(known.apex.clone()).or_default().insert(key.clone());
        self.known.insert(key.clone(), known);
    }

    /// Returns the Canaries that have exactly this host, in lower case.
    pub(super) fn of_host(&self, host: &str) -> impl Iterator<Item = &Key> {
        self.by_host.get(host).into_iter().flatten()
    }

    /// Returns whose requests are found otherwise because of routes in the namespace `of`: they share a host, or it is delegated to.
    pub(super) fn affected(&self, of: &str, routes: &VirtualServiceBody) -> BTreeSet<Key> {
        let mut found = BTreeSet::new();
        for theirs in routes.claimed_hosts(of) {
            found.extend(suffixes(&theirs).filter_map(|ours| self.by_host.get(&ours)).flatten().cloned());
            if theirs.contains('*') {
                // Of other namespaces, a wildcard that covers ours matters too.
                let covered = self.by_host.iter().filter(|(ours, _)| covers(&theirs, ours)).flat_map(|(_, keys)| keys);
                found.extend(covered.filter(|(namespace, _)| namespace != of).cloned());
            }
        }
        let delegates = routes.http.iter().filter_map(|route| route.delegate.as_ref());
        for delegate in delegates {
            let namespace = if delegate.namespace.is_empty() { of } else { &delegate.namespace };
            found.extend(
                self.by_apex.get(&(namespace.to_owned(), delegate.name.clone())).into_iter().flatten().cloned(),
            );
        }
        found
    }
}

fn leave(by_host: &mut BTreeMap<String, BTreeSet<Key>>, host: &str, key: &Key) {
    if let Some(of_host) = by_host.get_mut(host) {
        of_host.remove(key);
        if of_host.is_empty() {
            by_host.remove(host);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn canary(hosts: &[&str]) -> Canary {
        let object = json!({
            "apiVersion": "weir.dev/v1beta1", "kind": "Canary", "metadata": {"name": "cart", "namespace": "shop"},
            "spec": {"targetRef": {"kind": "Deployment", "name": "cart"}, "service": {"port": 80, "hosts": hosts}, "analysis": {}},
        });
        Canary::new(serde_json::from_value(object).unwrap()).unwrap()
    }

    #[test]
    fn routes_concern_whoever_they_share_a_host_with_or_delegate_to() {
        // Namespace and spec of the routes, a host of the Canary, and whether that is concerned.
        let rows = [
            ("shop", r#"{"hosts": ["Shop.example.com"], "gateways": ["public"]}"#, "shop.example.com", true),
            ("shop", r#"{"hosts": ["cart.shop.svc.cluster.local"], "gateways": ["public"]}"#, "shop.example.com", true),
            ("shop", r#"{"hosts": ["other.example.com"], "gateways": ["public"]}"#, "shop.example.com", false),
            ("shop", r#"{"hosts": ["shop.example.com"]}"#, "shop.example.com", false),
            ("shop", r#"{"hosts": ["a.b.example.com"], "gateways": ["public"]}"#, "*.example.com", true),
            ("shop", r#"{"hosts": ["*.example.com"], "gateways": ["public"]}"#, "shop.example.com", false),
            ("bank", r#"{"hosts": ["*.example.com"], "gateways": ["public"]}"#, "shop.example.com", true),
            ("bank", r#"{"hosts": ["*"], "gateways": ["public"]}"#, "shop.example.com", true),
            ("bank", r#"{"hosts": ["shop.example.com"], "gateways": ["public"]}"#, "*", true),
            (
                "shop",
                r#"{"hosts": ["x"], "gateways": ["public"], "http": [{"delegate": {"name": "cart"}}]}"#,
                "shop.example.com",
                true,
            ),
            (
                "shop",
                r#"{"hosts": ["x"], "gateways": ["public"], "http": [{"delegate": {"name": "cart", "namespace": "b"}}]}"#,
                "shop.example.com",
                false,
            ),
        ];
        let key: Key = ("shop".into(), "cart".into());
        for (of, spec, host, expected) in rows {
            let routes: VirtualServiceBody = serde_json::from_str(spec).unwrap();
            let mut index = CanaryHosts::default();
            index.update(&key, Some(&canary(&["before.example.com"])), "cluster.local");
            index.update(&key, Some(&canary(&[host])), "cluster.local");
            assert_eq!(index.affected(of, &routes).contains(&key), expected, "{of} {spec} {host}");
            index.update(&key, None, "cluster.local");
            assert!(index.affected(of, &routes).is_empty() && index.by_host.is_empty() && index.by_apex.is_empty());
        }
    }
}
