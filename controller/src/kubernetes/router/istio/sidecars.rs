//! `Sidecar`s that hide a Canary's Services from its callers: a proxy has no route to a host that its egress does not name, so that
//! what it sends goes past the split, to the primary.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::Callers;
use crate::kubernetes::api_server::lists::{Listable, Listed};
use crate::kubernetes::gateway::selects;
use crate::kubernetes::kinds::Labels;
use crate::kubernetes::render::Names;
use crate::kubernetes::stores::{Key, Stores};

const SIDECARS: [Listable; 1] =
    [Listable { group: "networking.istio.io", version: "v1", kind: "Sidecar", plural: "sidecars" }];
/// Sentences of one Canary.
const MOST: usize = 5;

/// Returns which `Sidecar`s of its callers hide one of a Canary's Services, a sentence each; nothing as long as it is not known. What is
/// known is at most as old as `fresh`.
pub(in super::super) fn hiding(
    stores: &Arc<Stores>,
    names: &Names,
    callers: &Callers,
    fresh: Duration,
) -> Option<Vec<String>> {
    let key: Key = (names.namespace.clone(), names.canary.clone());
    let namespaces: BTreeSet<&str> = callers.taking_part.iter().map(|of| of.namespace.as_str()).collect();
    // All are asked for before one is waited for.
    let listed: Vec<_> = namespaces
        .iter()
        .map(|namespace| {
            let (waking, key) = (stores.clone(), key.clone());
            stores.api.lists.of(&stores.api.client, namespace, &SIDECARS, fresh, move || waking.wake(&key))
        })
        .collect();
    let sidecars: Vec<Listed> =
        listed.into_iter().collect::<Option<Vec<_>>>()?.iter().flat_map(|it| it.to_vec()).collect();
    let domain = &stores.settings.cluster_domain;
    let host = |service: &str| format!("{service}.{}.svc.{domain}", names.namespace);
    let services = [names.apex.clone(), names.primary_service(), names.canary_service()].map(|service| host(&service));
    let of_callers = |sidecar: &&Listed| {
        let labels = &sidecar.spec["workloadSelector"]["labels"];
        let labels: Labels = serde_json::from_value(labels.clone()).unwrap_or_default();
        let mut groups = callers.taking_part.iter().filter(|of| of.namespace == *sidecar.namespace);
        // Who selects all pods of a namespace selects some of the others'.
        groups.any(|of| of.selector.is_empty() || selects(&labels, Some(&of.selector)))
    };
    let sentence = |sidecar: &Listed| {
        let hidden = services.iter().find(|host| !shows(&sidecar.spec, &sidecar.namespace, &names.namespace, host))?;
        Some(format!(
            "Sidecar {}/{} hides {hidden} from its pods: what these send goes to the primary, and is not counted. Add {}/* to its egress",
            sidecar.namespace, sidecar.name, names.namespace
        ))
    };
    Some(sidecars.iter().filter(of_callers).filter_map(sentence).take(MOST).collect())
}

/// Returns whether a `Sidecar` in a namespace has a route to a host of another one. Without egress it has what its namespace has.
fn shows(spec: &Value, own: &str, namespace: &str, host: &str) -> bool {
    let egress = spec["egress"].as_array().map(Vec::as_slice).unwrap_or_default();
    let hosts = egress.iter().flat_map(|listener| listener["hosts"].as_array().into_iter().flatten());
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
            assert_eq!(shows(&json!({"egress": [{"hosts": hosts}]}), own, "shop", host), shown, "{hosts} in {own}");
        }
        assert!(shows(&json!({"outboundTrafficPolicy": {}}), "web", "shop", host));
    }
}
