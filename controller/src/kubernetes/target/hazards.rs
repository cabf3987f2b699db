//! What of the users' own finds the target's pods by their labels, and will not find the primary's: from the first release on these
//! serve, under another value of one label. A policy that stops applying opens a door, or closes one, so each is named before.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::affinity::beside;
use super::selector::{finds, leaves_out};
use crate::kubernetes::api_server::lists::{EVERYWHERE, Listable, Listed, OF_NAMESPACE};
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
const POLICIES: [Listable; 16] = [
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
    listable("networking.istio.io", "v1", "ServiceEntry", "serviceentries"),
    listable("networking.istio.io", "v1beta1", "ProxyConfig", "proxyconfigs"),
];
/// Kinds that select pods of every namespace, where they stand in the mesh's own.
const MESH_POLICIES: [Listable; 6] = [POLICIES[2], POLICIES[3], POLICIES[4], POLICIES[6], POLICIES[7], POLICIES[8]];
/// What in other namespaces lets pods in by their labels.
const ELSEWHERE: [Listable; 2] = [POLICIES[0], POLICIES[11]];
/// Kinds without a namespace that select pods of every one.
const CLUSTER_WIDE: [Listable; 2] = [
    listable("cilium.io", "v2", "CiliumClusterwideNetworkPolicy", "ciliumclusterwidenetworkpolicies"),
    listable("cilium.io", "v2", "CiliumEgressGatewayPolicy", "ciliumegressgatewaypolicies"),
];
/// Kinds by which a pod that they find is closed to whom they do not name.
const CLOSING: [&str; 3] = ["NetworkPolicy", "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"];
/// Hazards that are told of one Canary.
const MOST: usize = 20;

/// Both arms, by what selectors see of them.
struct Arms<'a> {
    names: &'a Names,
    target: Labels,
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
    let [elsewhere, cluster_wide] = [&ELSEWHERE, &CLUSTER_WIDE].map(|kinds| match stores.settings.is_restricted() {
        true => Some(Arc::default()),
        false => listed(EVERYWHERE, kinds),
    });
    let (own, of_mesh, elsewhere, cluster_wide) = (own?, of_mesh?, elsewhere?, cluster_wide?);
    let unlisted: BTreeSet<String> =
        [&own, &of_mesh, &elsewhere, &cluster_wide].into_iter().filter_map(|answer| answer.problem()).collect();
    let live = stores.target(names.kind, &names.namespace, &names.primary());
    let Some(arms) = Arms::of(stores, names, target, live.as_ref()) else { return Some(Vec::new()) };
    let of_mesh = of_mesh.items.iter().filter(|_| names.namespace != stores.settings.root_namespace);
    let elsewhere = elsewhere.items.iter().filter(|policy| *policy.namespace != *names.namespace);
    let found = own.items.iter().chain(of_mesh).chain(&cluster_wide.items);
    let mut found: Vec<String> = found.filter_map(|policy| arms.hazard(stores, policy)).collect();
    found.extend(elsewhere.filter_map(|policy| arms.peer(policy)));
    found.extend(arms.services(stores));
    found.extend(arms.scalers(stores, &own.items));
    found.extend(beside(stores, names, [&arms.target, &arms.primary]));
    found.extend(policies_of_gateways(stores, names));
    found.extend(host_ports(target));
    found.sort();
    found.dedup();
    found.truncate(MOST);
    let (target, primary) = (&names.target, names.primary());
    let unknown = |why| format!("what finds the pods of {target} and not those of {primary} is not fully known: {why}");
    found.extend(unlisted.into_iter().map(unknown));
    Some(found)
}

impl<'a> Arms<'a> {
    fn of(stores: &Stores, names: &'a Names, target: &'a Target, live: Option<&Target>) -> Option<Self> {
        let pods = target.pod_labels();
        let mut primary = match live {
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
        let mut target = pods.clone();
        for labels in [&mut target, &mut primary] {
            labels.insert(OF_NAMESPACE.into(), names.namespace.clone());
        }
        Some(Self { names, target, primary, namespace, label })
    }

    /// Returns whether a selector finds the target's pods and not the primary's.
    fn misses(&self, selector: &Value) -> bool {
        finds(selector, &self.target) && !finds(selector, &self.primary)
    }

    /// Returns whether a selector finds the primary's pods because they are not called as the target's: nobody who wrote it thought of them.
    /// One that names them means them.
    fn strays(&self, selector: &Value) -> bool {
        finds(selector, &self.primary) && leaves_out(selector, &self.target)
    }

    /// Returns how a selector is to name both arms where it leaves out the target's.
    fn exclusion(&self) -> String {
        self.label.as_ref().map_or_else(
            || "let it leave out both".to_owned(),
            |(key, value, own)| {
                format!("let it leave out both: matchExpressions: [{{key: {key}, operator: NotIn, values: [{value}, {own}]}}]")
            },
        )
    }

    fn hazard(&self, stores: &Stores, policy: &Listed) -> Option<String> {
        let Listed { kind, spec, .. } = policy;
        let selector = match *kind {
            "NetworkPolicy" => &spec["podSelector"],
            "Sidecar" | "EnvoyFilter" | "ServiceEntry" => &spec["workloadSelector"],
            "ServiceMonitor" => return self.monitor(stores, policy),
            "VerticalPodAutoscaler" | "ScaledObject" => return None,
            "CiliumNetworkPolicy" | "CiliumClusterwideNetworkPolicy" => &spec["endpointSelector"],
            "CiliumEgressGatewayPolicy" => {
                let selectors = spec["selectors"].as_array().into_iter().flatten();
                let mut selectors = selectors.map(|it| &it["podSelector"]).filter(|selector| !selector.is_null());
                let all = selectors.clone().any(|selector| finds(selector, &self.primary));
                selectors.find(|selector| !all && self.misses(selector))?
            }
            _ => &spec["selector"],
        };
        if CLOSING.contains(kind) && self.strays(selector) {
            return Some(format!(
                "{} selects the pods of {}, which serve, and not those of {}: {}",
                self.name_of(policy),
                self.names.primary(),
                self.names.target,
                self.exclusion()
            ));
        }
        if self.misses(selector) {
            let by_labels_alone = !["PodDisruptionBudget", "PodMonitor", "CiliumEgressGatewayPolicy"].contains(kind)
                && !CLOSING.contains(kind);
            let remedy = match &self.label {
                // Two of one host are not told apart by whom they lead to.
                Some(_) if *kind == "ServiceEntry" => "let it select both by a label that both have".to_owned(),
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
        let sides = ["ingress", "egress", "ingressDeny", "egressDeny"];
        let peers = sides.into_iter().flat_map(|side| spec[side].as_array().into_iter().flatten());
        let peers = peers.flat_map(|rule| [&rule["from"], &rule["to"], &rule["fromEndpoints"], &rule["toEndpoints"]]);
        let peers = peers.filter_map(Value::as_array).flatten();
        // Without a selector of namespaces it is about pods of its own.
        let is_own = policy.namespace.is_empty() || *policy.namespace == *self.names.namespace;
        let is_here = |peer: &&Value| match peer.get("namespaceSelector").filter(|selector| !selector.is_null()) {
            Some(selector) => finds(selector, &self.namespace),
            // Cilium's say it by a label, which both arms have.
            None => is_own || peer.to_string().contains(OF_NAMESPACE),
        };
        let is_selector = |peer: &&Value| ["matchLabels", "matchExpressions"].iter().any(|it| peer.get(it).is_some());
        let selector_of = |peer: &'_ Value| peer.get("podSelector").or(Some(peer).filter(is_selector)).cloned();
        let selectors: Vec<Value> = peers.filter(is_here).filter_map(selector_of).collect();
        if selectors.iter().any(|selector| self.strays(selector)) {
            let (target, primary) = (&self.names.target, self.names.primary());
            return Some(format!(
                "{} has a rule for the pods of {primary}, which serve, and not those of {target}: {}",
                self.name_of(policy),
                self.exclusion()
            ));
        }
        selectors.iter().find(|selector| self.misses(selector)).map(|_| {
            let remedy = self.label.as_ref().map_or_else(
                || "let the rule name both".to_owned(),
                |label| format!("let the rule name both by podSelector: {{{}}}", expression(label)),
            );
            self.sentence(policy, "has a rule for", &remedy)
        })
    }

    fn sentence(&self, policy: &Listed, does: &str, remedy: &str) -> String {
        let (target, primary) = (&self.names.target, self.names.primary());
        let of = self.name_of(policy);
        format!("{of} {does} the pods of {target} and not those of {primary}, which serve: {remedy}")
    }

    /// Returns what a policy is called from the Canary's namespace.
    fn name_of(&self, Listed { kind, namespace, name, .. }: &Listed) -> String {
        let is_near = namespace.is_empty() || **namespace == *self.names.namespace;
        let place = if is_near { String::new() } else { format!("{namespace}/") };
        format!("{kind} {place}{name}")
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
        let finds_target = found.any(|service| leads(&self.target, &service.fields.spec.selector));
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
            let misses = selects(selector, Some(&self.target)) && !selects(selector, Some(&self.primary));
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
