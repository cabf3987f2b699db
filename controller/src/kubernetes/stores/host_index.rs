//! Which VirtualServices of gateways claim which hosts, kept up to date as they change: a Canary among thousands need not look at
//! all the others on every pass.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Key;
use crate::api::CanarySpec;
use crate::kubernetes::kinds::{VirtualService, VirtualServiceBody};

/// By host in lower case, who claims it, by namespace and name.
type ByHost = BTreeMap<String, Vec<Arc<VirtualService>>>;

/// Who claims which hosts.
#[derive(Debug, Default)]
pub(crate) struct HostIndex {
    /// What is sorted here.
    known: HashMap<Key, Arc<VirtualService>>,
    /// Those that are bound to some gateway.
    by_host: ByHost,
    /// The same of those in the mesh.
    in_mesh: ByHost,
    /// Those that delegate routes, by namespace and name.
    roots: Vec<Arc<VirtualService>>,
}

fn key(routes: &VirtualService) -> (&str, &str) {
    (routes.namespace(), routes.name())
}

fn insert(into: &mut Vec<Arc<VirtualService>>, routes: &Arc<VirtualService>) {
    if let Err(at) = into.binary_search_by(|other| key(other).cmp(&key(routes))) {
        into.insert(at, routes.clone());
    }
}

fn remove(from: &mut Vec<Arc<VirtualService>>, routes: &VirtualService) {
    if let Ok(at) = from.binary_search_by(|other| key(other).cmp(&key(routes))) {
        from.remove(at);
    }
}

/// Returns the hosts that a VirtualService claims in the mesh, in lower case. A name without a dot is in its own namespace.
fn mesh_hosts(routes: &VirtualService) -> Vec<String> {
    let VirtualServiceBody { hosts, gateways, .. } = &routes.fields.spec;
    let on_mesh = gateways.is_empty() || gateways.iter().any(|gateway| gateway == "mesh");
    let dotted = hosts.iter().filter(|host| on_mesh && host.contains('.'));
    dotted.map(|host| host.to_ascii_lowercase()).collect()
}

impl HostIndex {
    /// Takes in a VirtualService as it is now, or that there is none of this name.
    pub(super) fn update(&mut self, name: Key, now: Option<Arc<VirtualService>>) {
        let before = match &now {
            Some(now) => self.known.insert(name, now.clone()),
            None => self.known.remove(&name),
        };
        if let Some(before) = before {
            for (claims, hosts) in
                [(&mut self.by_host, before.claimed_hosts()), (&mut self.in_mesh, mesh_hosts(&before))]
            {
                for host in hosts {
                    let Some(of_host) = claims.get_mut(&host) else { continue };
                    remove(of_host, &before);
                    if of_host.is_empty() {
                        claims.remove(&host);
                    }
                }
            }
            remove(&mut self.roots, &before);
        }
        let Some(now) = now else { return };
        for (claims, hosts) in [(&mut self.by_host, now.claimed_hosts()), (&mut self.in_mesh, mesh_hosts(&now))] {
            hosts.into_iter().for_each(|host| insert(claims.entry(host).or_default(), &now));
        }
        if now.fields.spec.http.iter().any(|route| route.delegate.is_some()) {
            insert(&mut self.roots, &now);
        }
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
            let mut index = index_of([routes("other", theirs, "public"), routes("own", ours, "public")]);
            assert_eq!(index.shared(("shop", "own"), &hosts), expected, "{ours} {theirs}");
            index.update(("shop".into(), "other".into()), Some(routes("other", "elsewhere.org", "public")));
            assert_eq!(index.shared(("shop", "own"), &hosts), ours == "*", "{ours} {theirs}: as it is now");
            index.update(("shop".into(), "other".into()), None);
            assert!(!index.shared(("shop", "own"), &hosts) && index.by_host.len() == 1, "{ours} {theirs}: gone");
            let mesh = index_of([routes("other", theirs, "mesh")]);
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

    fn index_of(all: impl IntoIterator<Item = Arc<VirtualService>>) -> HostIndex {
        let mut index = HostIndex::default();
        for routes in all {
            let name = (routes.namespace().to_owned(), routes.name().to_owned());
            index.update(name, Some(routes));
        }
        index
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
