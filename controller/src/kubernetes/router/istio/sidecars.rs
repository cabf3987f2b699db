//! What stands beside a Canary's callers: `Sidecar`s that hide its Services from them, as a proxy has no route to a host that its egress
//! does not name, so that what it sends goes past the split, to the primary; and policies of their own for the service.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::Callers;
use super::policy::policies_beside;
use super::within::routes_beside;
use crate::kubernetes::api_server::lists::{Listable, Listed};
use crate::kubernetes::kinds::selects;
use crate::kubernetes::kinds::{Labels, Proxy};
use crate::kubernetes::render::Names;
use crate::kubernetes::stores::{Key, Stores};

const SIDECARS: [Listable; 1] =
    [Listable { group: "networking.istio.io", version: "v1", kind: "Sidecar", plural: "sidecars" }];
/// Sentences of one Canary.
const MOST: usize = 5;

/// Returns what of its callers' namespaces keeps requests from a Canary's arms, or their settings from them, a sentence each; nothing as
/// long as it is not known. What is known is at most as old as `fresh`.
pub(in super::super) fn hiding(
    stores: &Arc<Stores>,
    names: &Names,
    callers: &Callers,
    fresh: Duration,
) -> Option<Vec<String>> {
    let key: Key = (names.namespace.clone(), names.canary.clone());
    let namespaces: BTreeSet<&str> = callers.taking_part.iter().map(|of| of.namespace.as_str()).collect();
    let root = stores.settings.root_namespace.as_str();
    // All are asked for before one is waited for.
    let listed: Vec<_> = namespaces
        .iter()
        .chain([&root])
        .map(|namespace| {
            let (waking, key) = (stores.clone(), key.clone());
            stores.api.lists.of(&stores.api.client, namespace, &SIDECARS, fresh, move || waking.wake(&key))
        })
        .collect();
    let sidecars: Vec<Listed> =
        listed.into_iter().collect::<Option<Vec<_>>>()?.iter().flat_map(|it| it.items.clone()).collect();
    let domain = &stores.settings.cluster_domain;
    let host = |service: &str| format!("{service}.{}.svc.{domain}", names.namespace);
    let (apex, canary) = (host(&names.apex), host(&names.canary_service()));
    let tested = is_load_tested(stores, &key);
    let mut said = BTreeSet::new();
    for of in &callers.taking_part {
        let pods = stores.pods.of(&of.namespace);
        let selected = pods.iter().filter(|pod| pod.fields.proxy == Proxy::Sidecar && of.selects(pod));
        let mut labels: BTreeSet<&Labels> = selected.filter_map(|pod| pod.metadata.labels.as_ref()).collect();
        if labels.is_empty() {
            labels.insert(&of.selector);
        }
        for sidecar in labels.into_iter().filter_map(|labels| holding(&sidecars, [&of.namespace, root], labels)) {
            let shows = |host| shows(&sidecar.spec, [&of.namespace, &names.namespace], host, callers.port);
            // Whoever is shown the service has its routes, and istiod adds whatever those lead to.
            let (hidden, what) = match (shows(&apex), shows(&canary)) {
                (false, _) if sidecar.spec["outboundTrafficPolicy"]["mode"] == "REGISTRY_ONLY" => {
                    (&apex, "what these send is refused by their sidecars (REGISTRY_ONLY)")
                }
                (false, _) => (&apex, "what these send goes to the primary, and is not counted"),
                (true, false) if tested => (&canary, "a load test that these make by its name is not counted"),
                (true, _) => continue,
            };
            said.insert(format!(
                "Sidecar {}/{} hides {hidden} from pods of {}: {what}. Add {}/* to its egress",
                sidecar.namespace, sidecar.name, of.namespace, names.namespace
            ));
        }
    }
    let known = |of: &&str| *of != names.namespace && !stores.settings.gateway_namespaces.iter().any(|it| it == of);
    said.extend(policies_beside(stores, names, namespaces.iter().copied().filter(known)));
    let beside = routes_beside(stores, names, callers);
    Some(beside.into_iter().chain(said).take(MOST).collect())
}

/// Returns the `Sidecar` that holds for a pod: one that selects it, or its namespace's, or the mesh's in the `root` namespace.
fn holding<'a>(sidecars: &'a [Listed], [namespace, root]: [&str; 2], pod: &Labels) -> Option<&'a Listed> {
    let selector = |sidecar: &Listed| -> Labels {
        serde_json::from_value(sidecar.spec["workloadSelector"]["labels"].clone()).unwrap_or_default()
    };
    let is_of = |sidecar: &&Listed, namespace: &str| *sidecar.namespace == *namespace;
    let own = sidecars.iter().filter(|it| is_of(it, namespace)).find(|it| {
        let selector = selector(it);
        !selector.is_empty() && selects(&selector, Some(pod))
    });
    let default = |namespace: &str| sidecars.iter().find(|it| is_of(it, namespace) && selector(it).is_empty());
    own.or_else(|| default(namespace)).or_else(|| default(root))
}

/// Returns whether a Canary has webhooks that may make load tests.
fn is_load_tested(stores: &Stores, (namespace, name): &Key) -> bool {
    let canary = stores.canaries.get(namespace, name);
    let Some(Ok(spec)) = canary.as_ref().map(|canary| &canary.fields.spec) else { return false };
    let kinds = spec.analysis.webhooks.iter().map(|webhook| webhook.kind.as_deref().unwrap_or_default());
    kinds.into_iter().any(|kind| ["", "rollout", "pre-rollout"].contains(&kind))
}

/// Returns whether a `Sidecar` in a namespace has a route to a port of a host of another one. Without egress it has what its namespace
/// has. Of several listeners one is for a port: the first that names it, or none.
fn shows(spec: &Value, [own, namespace]: [&str; 2], host: &str, port: i64) -> bool {
    let egress = spec["egress"].as_array().map(Vec::as_slice).unwrap_or_default();
    let listener = egress.iter().find(|listener| listener["port"].is_null() || listener["port"]["number"] == port);
    let hosts = listener.into_iter().flat_map(|listener| listener["hosts"].as_array().into_iter().flatten());
    let mut named = hosts.filter_map(|found| found.as_str()?.split_once('/'));
    egress.is_empty()
        || named.any(|(of, name)| {
            let place = of == "*" || of == namespace || (of == "." && own == namespace);
            place && name.strip_prefix('*').map_or(name == host, |suffix| host.ends_with(suffix))
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_sidecar_that_selects_a_pod_holds_for_it_then_its_namespaces_then_the_meshs() {
        let sidecar = |namespace: &str, name: &str, labels: Value| Listed {
            kind: "Sidecar",
            namespace: namespace.into(),
            name: name.into(),
            spec: json!({"workloadSelector": {"labels": labels}}),
        };
        let all = [
            sidecar("istio-system", "mesh", json!({})),
            sidecar("web", "default", json!({})),
            sidecar("web", "frontend", json!({"app": "frontend"})),
        ];
        let name = |namespace: &str, app: &str| {
            holding(
                &all,
                [namespace, "istio-system"],
                &Labels::from([("app".into(), app.into()), ("tier".into(), "web".into())]),
            )
            .unwrap()
            .name
            .to_string()
        };
        assert_eq!(
            [name("web", "frontend"), name("web", "other"), name("shop", "frontend")],
            ["frontend", "default", "mesh"]
        );
    }

    #[test]
    fn a_sidecar_shows_what_its_egress_names() {
        let host = "shop-canary.shop.svc.cluster.local";
        for (hosts, own, shown) in [
            (json!(["*/*"]), "web", true),
            (json!(["./*"]), "web", false),
            (json!(["./*"]), "shop", true),
            (json!(["istio-system/*", "shop/*"]), "web", true),
            (json!(["shop/*.shop.svc.cluster.local"]), "web", true),
            (json!(["shop/shop.shop.svc.cluster.local"]), "web", false),
            (json!(["~/*"]), "shop", false),
        ] {
            assert_eq!(
                shows(&json!({"egress": [{"hosts": hosts}]}), [own, "shop"], host, 80),
                shown,
                "{hosts} in {own}"
            );
        }
        assert!(shows(&json!({"outboundTrafficPolicy": {}}), ["web", "shop"], host, 80));
    }

    #[test]
    fn a_listener_of_a_sidecars_egress_is_for_its_port_alone() {
        let host = "shop.shop.svc.cluster.local";
        let on = |port: i64, hosts: &str| json!({"port": {"number": port, "protocol": "HTTP"}, "hosts": [hosts]});
        let (all, none) = (json!({"hosts": ["*/*"]}), json!({"hosts": ["~/*"]}));
        for (egress, shown) in [
            (json!([on(80, "shop/*"), none]), true),
            (json!([on(9080, "shop/*"), none]), false),
            (json!([on(9080, "shop/*")]), false),
            (json!([on(80, "web/*"), all]), false),
            (json!([on(9080, "web/*"), all]), true),
        ] {
            assert_eq!(shows(&json!({"egress": egress}), ["web", "shop"], host, 80), shown, "{egress}");
        }
    }
}
