//! The policy for connections to the service that users call, which must go on to hold for both arms.
//!
//! Requests go to `S-primary` and `S-canary`. A user's DestinationRule for `S` says nothing of those; without its policy a sticky
//! cookie or TLS to the pods would be gone. And each arm's own rule hides one for a wildcard, since Istio takes the most
//! specific host only.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::kubernetes::kinds::DestinationRule;
use crate::kubernetes::render::{CANARY_LABEL, Names};
use crate::kubernetes::stores::Stores;

/// Returns the policy of the user's rule that holds for the service that users have `called` so, if there is one. Of several for one host istiod makes
/// one rule, with the policy of the oldest that has any.
#[must_use]
pub(super) fn of_user(stores: &Stores, names: &Names, called: &str) -> Option<Value> {
    let domain = &stores.settings.cluster_domain;
    let service = format!("{called}.{}.svc.{domain}", names.namespace);
    let of = |namespace: &str| {
        let rules =
            stores.destination_rules.of(namespace).into_iter().filter(|rule| rule.label(CANARY_LABEL).is_none());
        let found = rules.filter_map(|rule| {
            let spec = rule.body()["spec"].take();
            // One for some clients only is no policy of the gateway's.
            let for_all = spec.get("workloadSelector").is_none();
            let rank = specificity(&spec, &rule, &service, domain).filter(|_| for_all)?;
            Some((rank, rule, spec))
        });
        let mut found: Vec<_> = found.collect();
        let most = found.iter().map(|(rank, ..)| *rank).max()?;
        found.retain(|(rank, ..)| *rank == most);
        found.sort_by_key(|(_, rule, _)| (rule.metadata.creation_timestamp.clone(), rule.name().to_owned()));
        // A rule without a policy hides those of the root namespace too.
        Some(found.into_iter().find_map(|(.., spec)| spec.get("trafficPolicy").filter(|it| !it.is_null()).cloned()))
    };
    [names.namespace.as_str(), stores.settings.root_namespace.as_str()].into_iter().find_map(of).flatten()
}

/// Returns the rules for the service that users call which stand beside its gateways: istiod looks there first. Nothing of one for exactly
/// that service holds for the arms'.
pub(in super::super) fn policies_of_gateways(stores: &Stores, names: &Names) -> Vec<String> {
    let beside = stores.settings.gateway_namespaces.iter().map(String::as_str);
    let root = stores.settings.root_namespace.as_str();
    policies_beside(stores, names, beside.filter(|of| *of != names.namespace && *of != root))
}

/// Returns the rules for the service that stand in these namespaces, of whose proxies the same holds.
pub(super) fn policies_beside<'a>(
    stores: &Stores,
    names: &Names,
    beside: impl Iterator<Item = &'a str>,
) -> Vec<String> {
    let Names { namespace, apex, .. } = names;
    let service = format!("{apex}.{namespace}.svc.{}", stores.settings.cluster_domain);
    let rules = beside.flat_map(|of| stores.destination_rules.of(of));
    let about = rules
        .filter(|rule| rule.body()["spec"]["host"].as_str().is_some_and(|host| host.eq_ignore_ascii_case(&service)));
    let sentence = |rule: Arc<DestinationRule>| {
        format!(
            "DestinationRule {}/{} is for Service {apex}, and requests go to {} and {}: add one like it for each",
            rule.namespace(),
            rule.name(),
            names.primary_service(),
            names.canary_service()
        )
    };
    about.map(sentence).collect()
}

/// What of a policy says how a connection is opened: pods that speak otherwise refuse it. All else may change while they run.
const OPENING: [&[&str]; 6] = [
    &["tls"],
    &["proxyProtocol"],
    &["tunnel"],
    &["connectionPool", "http", "h2UpgradePolicy"],
    &["connectionPool", "http", "useClientProtocol"],
    &["portLevelSettings"],
];

/// Returns what of a rule's policy says how connections are opened, by the fields' paths; nothing where nothing does.
pub(super) fn opening(spec: &Value) -> Value {
    let found = OPENING.iter().filter_map(|path| {
        let value = path.iter().try_fold(spec.get("trafficPolicy")?, |at, field| at.get(field))?;
        Some((path.join("."), value.clone()))
    });
    let found: Map<String, Value> = found.collect();
    if found.is_empty() { Value::Null } else { found.into() }
}

/// Has connections by a rule be opened so, and changes nothing else of its policy.
pub(super) fn open_by(spec: &mut Value, opening: &Value) {
    for path in OPENING {
        let path: Vec<&str> = std::iter::once("trafficPolicy").chain(path.iter().copied()).collect();
        put(spec, &path, opening.get(path[1..].join(".")));
    }
}

/// Sets a field, or takes it out, with what becomes empty by that.
fn put(at: &mut Value, path: &[&str], value: Option<&Value>) {
    let [field, rest @ ..] = path else { return };
    if value.is_some() && !at.is_object() {
        *at = Map::new().into();
    }
    let Some(fields) = at.as_object_mut() else { return };
    match (rest.is_empty(), value) {
        (true, Some(value)) => drop(fields.insert((*field).to_owned(), value.clone())),
        (true, None) => drop(fields.remove(*field)),
        (false, Some(_)) => put(fields.entry(*field).or_insert(Value::Null), rest, value),
        (false, None) => {
            let Some(inner) = fields.get_mut(*field) else { return };
            let had_some = inner.as_object().is_some_and(|inner| !inner.is_empty());
            put(inner, rest, None);
            if had_some && inner.as_object().is_some_and(Map::is_empty) {
                fields.remove(*field);
            }
        }
    }
}

/// Returns how exactly a rule's host says a service, if it does.
fn specificity(spec: &Value, rule: &DestinationRule, service: &str, domain: &str) -> Option<usize> {
    let host = spec["host"].as_str()?.to_ascii_lowercase();
    match host.strip_prefix('*') {
        Some(suffix) => service.ends_with(suffix).then_some(suffix.len()),
        // As istiod reads them: a name without a dot is in the rule's own namespace, and one with a dot is whole. `shop.ns` is a
        // host of its own to it, though DNS would find the service by it.
        None if host.contains('.') => (host == service).then_some(usize::MAX),
        None => (format!("{host}.{}.svc.{domain}", rule.namespace()) == service).then_some(usize::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn connections_are_opened_as_what_runs_wants_and_all_else_is_as_the_spec_says() {
        let spec = |policy: &Value| json!({"host": "a", "trafficPolicy": policy});
        let plain = json!({"connectionPool": {"http": {"http2MaxRequests": 7}}});
        let tls = json!({"tls": {"mode": "SIMPLE"}, "connectionPool": {"http": {"http2MaxRequests": 9, "h2UpgradePolicy": "UPGRADE"}}});
        let mut opened = spec(&tls);
        open_by(&mut opened, &opening(&spec(&plain)));
        assert_eq!(opened, spec(&json!({"connectionPool": {"http": {"http2MaxRequests": 9}}})));
        let mut opened = spec(&plain);
        open_by(&mut opened, &opening(&spec(&tls)));
        let expected = json!({"tls": {"mode": "SIMPLE"}, "connectionPool": {"http": {"http2MaxRequests": 7, "h2UpgradePolicy": "UPGRADE"}}});
        assert_eq!(opened, spec(&expected));
        // Back to none, from one that says nothing else; and a form that nobody expects.
        let mut opened = spec(&json!({"tls": {"mode": "SIMPLE"}}));
        open_by(&mut opened, &Value::Null);
        assert_eq!(opened, json!({"host": "a"}));
        let mut opened = spec(&json!({"connectionPool": "none"}));
        open_by(&mut opened, &json!({"connectionPool.http.h2UpgradePolicy": "UPGRADE"}));
        assert_eq!(opening(&opened), json!({"connectionPool.http.h2UpgradePolicy": "UPGRADE"}));
    }

    #[test]
    fn a_rule_is_the_services_where_istiod_reads_its_host_so() {
        let service = "cart.shop.svc.cluster.local";
        let rows = [
            ("cart", true),
            ("Cart", true),
            ("cart.shop.svc.cluster.local", true),
            ("*.shop.svc.cluster.local", true),
            ("*", true),
            ("cart.shop", false),
            ("cart.shop.svc", false),
            ("cart.other.svc.cluster.local", false),
            ("shop", false),
        ];
        for (host, expected) in rows {
            let object = json!({
                "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
                "metadata": {"name": "user", "namespace": "shop"}, "spec": {"host": host},
            });
            let spec = object["spec"].clone();
            let rule = DestinationRule::new(serde_json::from_value(object).unwrap()).unwrap();
            assert_eq!(specificity(&spec, &rule, service, "cluster.local").is_some(), expected, "{host}");
        }
    }
}
