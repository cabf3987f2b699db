//! What of the users' own finds the target's pods by their labels, and will not find the primary's: from the first release on these
//! serve, under another value of one label. A policy that stops applying opens a door, or closes one, so each is named before.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::kubernetes::api_server::lists::{EVERYWHERE, Listable, Listed};
use crate::kubernetes::kinds::selects;
use crate::kubernetes::kinds::{Labels, Target};
use crate::kubernetes::render::{ArmLabels, CANARY_LABEL, Names};
use crate::kubernetes::router::policies_of_gateways;
use crate::kubernetes::stores::{Key, Stores};
use crate::kubernetes::target::scaler::sizes;

const fn listable(group: &'static str, version: &'static str, kind: &'static str, plural: &'static str) -> Listable {
    Listable { group, version, kind, plural }
}

/// Kinds that select pods of their own namespace.
const POLICIES: [Listable; 14] = [
    listable("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
    listable("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    listable("security.istio.io", "v1", "AuthorizationPolicy", "authorizationpolicies"),
    listable("security.istio.io", "v1", "PeerAuthentication", "peerauthentications"),
    listable("security.istio.io", "v1", "RequestAuthentication", "requestauthentications"),
    listable("networking.istio.io", "v1", "Sidecar", "sidecars"),
    listable("networking.istio.io", "v1alpha3", "EnvoyFilter", "envoyfilters"),
    listable("telemetry.istio.io", "v1", "Telemetry", "telemetries"),
    listable("extensions.istio.io", "v1alpha1", "WasmPlugin", "wasmplugins"),
    listable("monitoring.coreos.com", "v1", "ServiceMonitor", "servicemonitors"),
    listable("monitoring.coreos.com", "v1", "PodMonitor", "podmonitors"),
    listable("cilium.io", "v2", "CiliumNetworkPolicy", "ciliumnetworkpolicies"),
    listable("autoscaling.k8s.io", "v1", "VerticalPodAutoscaler", "verticalpodautoscalers"),
    listable("keda.sh", "v1alpha1", "ScaledObject", "scaledobjects"),
];
/// Kinds that select pods of every namespace, where they stand in the mesh's own.
const MESH_POLICIES: [Listable; 6] = [POLICIES[2], POLICIES[3], POLICIES[4], POLICIES[6], POLICIES[7], POLICIES[8]];
/// What in other namespaces lets pods in by their labels.
const ELSEWHERE: [Listable; 1] = [POLICIES[0]];
/// Hazards that are told of one Canary.
const MOST: usize = 20;

/// Both arms, by what selectors see of them.
struct Arms<'a> {
    names: &'a Names,
    target: &'a Labels,
    primary: Labels,
    /// The labels of their namespace.
    namespace: Labels,
    /// The label that differs, with the value of either arm.
    label: Option<(String, String, String)>,
}

/// Returns what will not find the primary's pods any more, a sentence each; nothing as long as it is not known. What is known is at
/// most as old as `fresh`.
pub(crate) fn hazards(
    stores: &Arc<Stores>,
    names: &Names,
    target: &Target,
    key: &Key,
    fresh: Duration,
) -> Option<Vec<String>> {
    let listed = |namespace: &str, kinds: &'static [Listable]| {
        let (waking, key) = (stores.clone(), key.clone());
        stores.api.lists.of(&stores.api.client, namespace, kinds, fresh, move || waking.wake(&key))
    };
    let own = listed(&names.namespace, &POLICIES);
    let of_mesh = listed(&stores.settings.root_namespace, &MESH_POLICIES);
    // With rights in some namespaces those of others are not to be seen.
    let elsewhere = match stores.settings.is_restricted() {
        true => Some(Arc::default()),
        false => listed(EVERYWHERE, &ELSEWHERE),
    };
    let (own, of_mesh, elsewhere) = (own?, of_mesh?, elsewhere?);
    let live = stores.target(names.kind, &names.namespace, &names.primary());
    let Some(arms) = Arms::of(stores, names, target, live.as_ref()) else { return Some(Vec::new()) };
    let of_mesh = of_mesh.iter().filter(|_| names.namespace != stores.settings.root_namespace);
    let elsewhere = elsewhere.iter().filter(|policy| *policy.namespace != *names.namespace);
    let mut found: Vec<String> = own.iter().chain(of_mesh).filter_map(|policy| arms.hazard(stores, policy)).collect();
    found.extend(elsewhere.filter_map(|policy| arms.peer(policy)));
    found.extend(arms.services(stores));
    found.extend(arms.scalers(stores, &own));
    found.extend(policies_of_gateways(stores, names));
    found.extend(host_ports(target));
    found.sort();
    found.dedup();
    found.truncate(MOST);
    Some(found)
}

impl<'a> Arms<'a> {
    fn of(stores: &Stores, names: &'a Names, target: &'a Target, live: Option<&Target>) -> Option<Self> {
        let pods = target.pod_labels();
        let primary = match live {
            Some(live) => live.pod_labels().clone(),
            None => ArmLabels::new(names, Some(target), None, pods).ok()?.of_primary(pods),
        };
        let label = pods.iter().find_map(|(key, value)| {
            let own = primary.get(key).filter(|own| *own != value)?;
            Some((key.clone(), value.clone(), own.clone()))
        });
        let of_namespace = stores.namespaces.get("", &names.namespace);
        let mut namespace = of_namespace.and_then(|it| it.metadata.labels.clone()).unwrap_or_default();
        namespace.insert("kubernetes.io/metadata.name".into(), names.namespace.clone());
        Some(Self { names, target: pods, primary, namespace, label })
    }

    /// Returns whether a selector finds the target's pods and not the primary's.
    fn misses(&self, selector: &Value) -> bool {
        finds(selector, self.target) && !finds(selector, &self.primary)
    }

    fn hazard(&self, stores: &Stores, policy: &Listed) -> Option<String> {
        let Listed { kind, spec, .. } = policy;
        let selector = match *kind {
            "NetworkPolicy" => &spec["podSelector"],
            "Sidecar" | "EnvoyFilter" => &spec["workloadSelector"],
            "ServiceMonitor" => return self.monitor(stores, policy),
            "VerticalPodAutoscaler" | "ScaledObject" => return None,
            "CiliumNetworkPolicy" => &spec["endpointSelector"],
            _ => &spec["selector"],
        };
        if self.misses(selector) {
            let by_labels_alone =
                !["NetworkPolicy", "PodDisruptionBudget", "PodMonitor", "CiliumNetworkPolicy"].contains(kind);
            let remedy = match &self.label {
                Some((key, _, own)) if by_labels_alone => format!("add one like it that selects {key}: {own}"),
                Some(label) => format!("let it select both by {}", expression(label)),
                None => "let it select both".to_owned(),
            };
            return Some(self.sentence(policy, "selects", &remedy));
        }
        self.peer(policy)
    }

    /// What of a policy, of any namespace, is for the target's pods as peers.
    fn peer(&self, policy: &Listed) -> Option<String> {
        let spec = &policy.spec;
        let peers = ["ingress", "egress"].into_iter().flat_map(|side| spec[side].as_array().into_iter().flatten());
        let peers = peers.flat_map(|rule| [&rule["from"], &rule["to"], &rule["fromEndpoints"], &rule["toEndpoints"]]);
        let peers = peers.filter_map(Value::as_array).flatten();
        // Without a selector of namespaces it is about pods of its own.
        let is_here = |peer: &&Value| match peer.get("namespaceSelector").filter(|selector| !selector.is_null()) {
            Some(selector) => finds(selector, &self.namespace),
            None => *policy.namespace == *self.names.namespace,
        };
        let selector_of =
            |peer: &'_ Value| peer.get("podSelector").or_else(|| peer.get("matchLabels").map(|_| peer)).cloned();
        let mut selectors = peers.filter(is_here).filter_map(selector_of).filter(|selector| self.misses(selector));
        selectors.next().map(|_| {
            let remedy = self.label.as_ref().map_or_else(
                || "let the rule name both".to_owned(),
                |label| format!("let the rule name both by podSelector: {{{}}}", expression(label)),
            );
            self.sentence(policy, "has a rule for", &remedy)
        })
    }

    fn sentence(&self, Listed { kind, namespace, name, .. }: &Listed, does: &str, remedy: &str) -> String {
        let (target, primary) = (&self.names.target, self.names.primary());
        let place = if **namespace == *self.names.namespace { String::new() } else { format!("{namespace}/") };
        format!("{kind} {place}{name} {does} the pods of {target} and not those of {primary}, which serve: {remedy}")
    }

    /// What sizes the target by its name, and nothing sizes the primary.
    fn scalers(&self, stores: &Stores, listed: &[Listed]) -> Vec<String> {
        let of_listed = listed.iter().filter_map(|it| match it.kind {
            "VerticalPodAutoscaler" => Some((it.kind, it.name.to_string(), it.spec["targetRef"].clone())),
            "ScaledObject" => Some((it.kind, it.name.to_string(), it.spec["scaleTargetRef"].clone())),
            _ => None,
        });
        let hpas = stores.scalers.of(&self.names.namespace);
        let of_hpas = hpas
            .iter()
            .map(|it| ("HorizontalPodAutoscaler", it.name().to_owned(), it.fields.spec()["scaleTargetRef"].clone()));
        let all: Vec<(&str, String, Value)> = of_listed.chain(of_hpas).collect();
        let (word, target, primary) = (self.names.kind.word(), &self.names.target, self.names.primary());
        let missing = all.iter().filter(|(kind, name, reference)| {
            let named = self.names.scaler.as_ref() == Some(name) && *kind == "HorizontalPodAutoscaler";
            let of_primary = all.iter().any(|(other, _, reference)| other == kind && sizes(reference, word, &primary));
            !named && !of_primary && sizes(reference, word, target)
        });
        let sentence = |(kind, name, _): &(&str, String, Value)| {
            let remedy = match *kind {
                "HorizontalPodAutoscaler" => "name it in spec.autoscalerRef".to_owned(),
                _ => format!("let it, or one like it, name {primary}"),
            };
            format!("{kind} {name} sizes {target} and not {primary}, which serves: {remedy}")
        };
        missing.map(sentence).collect()
    }

    /// One that finds a Service by which the primary's pods are found misses nothing.
    fn monitor(&self, stores: &Stores, monitor: &Listed) -> Option<String> {
        let selector = &monitor.spec["selector"];
        let own = [self.names.apex.clone(), self.names.primary_service()];
        let services = stores.services.of(&self.names.namespace);
        let none = Labels::new();
        let mut found =
            services.iter().filter(|service| finds(selector, service.metadata.labels.as_ref().unwrap_or(&none)));
        let leads = |to: &Labels, selector: &Labels| !selector.is_empty() && selects(selector, Some(to));
        let serves = found.clone().any(|service| {
            own.iter().any(|own| own == service.name()) || leads(&self.primary, &service.fields.spec.selector)
        });
        let finds_target = found.any(|service| leads(self.target, &service.fields.spec.selector));
        let remedy = format!("give Service {} a label that it selects, by spec.service.primary.labels", own[1]);
        (!serves && (finds_target || self.misses(selector))).then(|| self.sentence(monitor, "finds", &remedy))
    }

    /// Other Services for the target's pods, which lead nowhere once these are gone.
    fn services(&self, stores: &Stores) -> Vec<String> {
        let Names { namespace, target, apex, .. } = self.names;
        let own = [apex.clone(), self.names.primary_service(), self.names.canary_service()];
        let others = stores.services.of(namespace).into_iter().filter(|service| {
            let selector = &service.fields.spec.selector;
            let foreign = service.label(CANARY_LABEL).is_none() && !own.iter().any(|own| own == service.name());
            let misses = selects(selector, Some(self.target)) && !selects(selector, Some(&self.primary));
            foreign && !selector.is_empty() && misses
        });
        let label = self.label.as_ref().map(|(key, _, own)| format!(" by {key}: {own}")).unwrap_or_default();
        let sentence = |name: &str| {
            format!(
                "Service {name} leads to the pods of {target} and not to those of {}, which serve: let it select these{label}, \
                 or let its callers use Service {apex}",
                self.names.primary()
            )
        };
        others.map(|service| sentence(service.name())).collect()
    }
}

/// Returns what selects both arms by the label that differs.
fn expression((key, value, own): &(String, String, String)) -> String {
    format!("matchExpressions: [{{key: {key}, operator: In, values: [{value}, {own}]}}]")
}

/// Two pods that take the same port of their machine cannot be on one.
fn host_ports(target: &Target) -> Option<String> {
    if !target.mentions("hostPort") && !target.mentions("hostNetwork") {
        return None;
    }
    let template = target.template();
    let own_network = template["spec"]["hostNetwork"] == true;
    let containers = template["spec"]["containers"].as_array().cloned().unwrap_or_default();
    let ports = containers.iter().flat_map(|container| container["ports"].as_array().into_iter().flatten());
    let of_host = |port: &Value| {
        let given = port["hostPort"].as_i64().filter(|port| *port > 0);
        given.or(port["containerPort"].as_i64().filter(|_| own_network))
    };
    let mut ports: Vec<String> = ports.filter_map(of_host).map(|port| port.to_string()).collect();
    ports.dedup();
    (!ports.is_empty()).then(|| {
        format!(
            "each pod of {} takes port {} of its machine, so a pod of the primary and one of the canary need two machines: \
             remove hostPort or hostNetwork, or see that there are enough",
            target.name(),
            ports.join(", ")
        )
    })
}

/// Returns whether a selector, of Kubernetes' form or Istio's, finds something with these labels.
fn finds(selector: &Value, labels: &Labels) -> bool {
    let mut equal = ["matchLabels", "labels"].into_iter().filter_map(|field| selector[field].as_object()).flatten();
    let mut expressions = selector["matchExpressions"].as_array().into_iter().flatten();
    // Cilium says where a label is from.
    let label = |key: &str| labels.get(key.strip_prefix("k8s:").or_else(|| key.strip_prefix("any:")).unwrap_or(key));
    equal.all(|(key, value)| label(key).map(String::as_str) == value.as_str())
        && expressions.all(|expression| {
            let value = expression["key"].as_str().and_then(label);
            let mut values = expression["values"].as_array().into_iter().flatten();
            let listed = value.is_some_and(|value| values.any(|known| known == value));
            match expression["operator"].as_str() {
                Some("In") => listed,
                Some("NotIn") => !listed,
                Some("Exists") => value.is_some(),
                Some("DoesNotExist") => value.is_none(),
                _ => true,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_of_both_forms_are_read() {
        let labels: Labels = [("app".to_owned(), "shop".to_owned()), ("tier".to_owned(), "web".to_owned())].into();
        let expression = |key: &str, operator: &str, values: Value| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        for (selector, expected) in [
            (Value::Null, true),
            (json!({}), true),
            (json!({"matchLabels": {"app": "shop"}}), true),
            (json!({"matchLabels": {"app": "shop", "tier": "db"}}), false),
            (json!({"labels": {"app": "other"}}), false),
            (expression("app", "In", json!(["shop", "cart"])), true),
            (expression("app", "In", json!(["cart"])), false),
            (expression("app", "NotIn", json!(["cart"])), true),
            (expression("none", "NotIn", json!(["cart"])), true),
            (expression("tier", "Exists", Value::Null), true),
            (expression("tier", "DoesNotExist", Value::Null), false),
        ] {
            assert_eq!(finds(&selector, &labels), expected, "{selector}");
        }
    }
}
