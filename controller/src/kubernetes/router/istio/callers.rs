//! Who calls a Canary from inside of the mesh: the pods whose sidecars route its requests.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::super::speech::main_port;
use super::gateways;
use super::redirection::bypass;
use crate::api::CanarySpec;
use crate::api::service::{Callers as Group, is_opaque, on_mesh};
use crate::kubernetes::kinds::canary::Fault;
use crate::kubernetes::kinds::{Labels, Pod, Proxy, Target, selects};
use crate::kubernetes::render::{FilterNames, Names, Proxies};
use crate::kubernetes::stores::Stores;

/// Who calls a Canary from inside of the mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Callers {
    /// Namespaces and labels of those that may take part.
    pub(crate) taking_part: BTreeSet<FilterNames>,
    /// Namespaces and labels of those that may not.
    pub(crate) refused: BTreeSet<FilterNames>,
    /// Namespaces that do not exist.
    pub(crate) missing: BTreeSet<String>,
    /// Whether the spec names none of them, so that they are those that an admin names for all.
    pub(crate) by_default: bool,
    /// Whether none of its requests comes through a gateway.
    pub(crate) alone: bool,
    /// The port that they call.
    pub(crate) port: i64,
}

impl Callers {
    /// Returns the namespaces that may have no callers.
    pub(crate) fn refused_namespaces(&self) -> BTreeSet<&str> {
        self.refused.iter().map(|of| of.namespace.as_str()).collect()
    }
}

/// Returns who calls a Canary from inside of the mesh, if it is called from there at all.
pub(in super::super) fn callers(stores: &Stores, names: &Names, spec: &CanarySpec) -> Option<Callers> {
    if !is_on_mesh(stores, names, spec) {
        return None;
    }
    let default = stores.settings.default_callers.iter();
    let default = default.map(|namespace| Group { namespace: Some(namespace.clone()), ..Group::default() });
    let default: Vec<Group> = std::iter::once(Group::default()).chain(default).collect();
    let by_default = spec.service.callers.is_empty();
    let groups = if by_default { &default } else { &spec.service.callers };
    let known = |namespace: &str| stores.namespaces.get("", namespace).is_some();
    let goes = |namespace: &str| stores.namespaces.get("", namespace).is_some_and(|it| it.deleted());
    let (alone, port) = (gateways(stores, names, spec).is_empty(), spec.service.port.unwrap_or_default());
    let mut callers = Callers { alone, by_default, port, ..Callers::default() };
    for Group { namespace, labels } in groups {
        let own = names.namespace.as_str();
        let all = namespace.as_deref() == Some("*");
        let mut namespaces = BTreeSet::from([namespace.as_deref().filter(|_| !all).unwrap_or(own).to_owned()]);
        if all {
            namespaces.extend(stores.known_namespaces());
            namespaces.retain(|namespace| stores.may_call(own, namespace));
        }
        // Who calls from a namespace that goes is about to end, and nothing new can be written there.
        for namespace in namespaces.into_iter().filter(|namespace| !goes(namespace)) {
            // Rights in some namespaces do not show which others there are.
            let exists = namespace == own || stores.settings.is_restricted() || known(&namespace);
            if !exists {
                callers.missing.insert(namespace);
                continue;
            }
            let group = if stores.may_call(own, &namespace) { &mut callers.taking_part } else { &mut callers.refused };
            group.insert(FilterNames { namespace, selector: labels.clone(), proxies: Proxies::Sidecars });
        }
    }
    Some(callers)
}

/// Returns the addresses of the Service that callers use, which a headless one has none of.
fn addresses(stores: &Stores, names: &Names) -> Vec<IpAddr> {
    let service = stores.services.get(&names.namespace, &names.apex);
    let body = service.map(|service| service.body()["spec"].take()).unwrap_or_default();
    let addresses = body["clusterIPs"].as_array().into_iter().flatten().chain([&body["clusterIP"]]);
    addresses.filter_map(|address| address.as_str()?.parse().ok()).collect()
}

/// Returns whether a pod is one of a Canary's own, by its labels: these are called, and whether they call is nobody's to know.
pub(in super::super) fn is_of_arms(stores: &Stores, names: &Names) -> impl Fn(&Pod) -> bool + use<> {
    let arms = [names.target.clone(), names.primary()];
    let arms = arms.iter().filter_map(|arm| stores.target(names.kind, &names.namespace, arm));
    let arms: Vec<Labels> = arms.map(|arm| arm.selector().clone()).filter(|selector| !selector.is_empty()).collect();
    let namespace = names.namespace.clone();
    move |pod| pod.namespace() == namespace && arms.iter().any(|arm| selects(arm, pod.metadata.labels.as_ref()))
}

/// Returns the callers whose requests pass no sidecar, without the Canary's own pods; of those that have one, with the annotation that
/// leads them past it.
pub(in super::super) fn callers_without_sidecar(
    stores: &Stores,
    names: &Names,
    callers: &Callers,
) -> Vec<(Arc<Pod>, Option<&'static str>)> {
    let addresses = addresses(stores, names);
    let pods = running(stores, names, &callers.taking_part);
    let passing_none = |pod: Arc<Pod>| match pod.fields.proxy {
        Proxy::None | Proxy::HostNetwork => Some((pod, None)),
        Proxy::Sidecar => bypass(&pod, callers.port, &addresses).map(|key| (pod, Some(key))),
        Proxy::Router { .. } | Proxy::Waypoint => None,
    };
    pods.filter_map(passing_none).collect()
}

/// Returns the callers in namespaces that may have none, whose sidecars get no filter, without the Canary's own pods.
pub(in super::super) fn refused_callers(
    stores: &Stores,
    names: &Names,
    callers: &Callers,
) -> impl Iterator<Item = Arc<Pod>> + use<> {
    let routes = |pod: &Arc<Pod>| matches!(pod.fields.proxy, Proxy::Router { .. } | Proxy::Waypoint);
    running(stores, names, &callers.refused).filter(move |pod| !routes(pod))
}

fn running(stores: &Stores, names: &Names, groups: &BTreeSet<FilterNames>) -> impl Iterator<Item = Arc<Pod>> + use<> {
    let is_own = is_of_arms(stores, names);
    let mut found = BTreeMap::new();
    for of in groups {
        for pod in stores.pods.of(&of.namespace) {
            let selected = of.selector.is_empty() || selects(&of.selector, pod.metadata.labels.as_ref());
            let runs = pod.fields.status.phase == "Running" && !pod.deleted();
            if selected && runs && !is_own(&pod) {
                found.insert((pod.namespace().to_owned(), pod.name().to_owned()), pod);
            }
        }
    }
    found.into_values()
}

/// Returns why the sidecars of callers see none of a Canary's requests, where that is for what its Service was before Weir: the spec's own
/// words are refused with it.
pub(in super::super) fn unread_port(
    stores: &Stores,
    names: &Names,
    spec: &CanarySpec,
    target: &Target,
) -> Option<Fault> {
    let said = |text: &Option<String>| text.is_some();
    if said(&spec.service.app_protocol) || said(&spec.service.port_name) || !is_on_mesh(stores, names, spec) {
        return None;
    }
    let port = main_port(stores, names, spec, &target.template());
    is_opaque(port.protocol.as_deref(), &port.name).then(|| {
        let what = match &port.protocol {
            Some(protocol) => format!("has appProtocol {protocol}"),
            None => format!("is called {}", port.name),
        };
        let problem = format!(
            "port {} of Service {} {what}, so its bytes are passed on unread, and inside of the mesh only HTTP requests can be split \
             and counted: give spec.service.appProtocol http, http2 or grpc, or gateways",
            spec.service.port.unwrap_or_default(),
            names.apex
        );
        ("PortUnread", problem)
    })
}

pub(super) fn is_on_mesh(stores: &Stores, names: &Names, spec: &CanarySpec) -> bool {
    if spec.service.delegation != Some(true) {
        return spec.service.is_on_mesh();
    }
    let index = stores.host_index();
    let mut roots =
        index.roots().iter().filter(|root| root.delegates_to(&names.namespace, &names.apex).next().is_some());
    roots.any(|root| on_mesh(&root.fields.spec.gateways))
}

/// Returns why sidecars cannot choose between the arms. What is for a headless Service they send to the address that the program has
/// looked up, a pod of the primary, and its answers would count as the canary's. `clusterIP` of a Service cannot be changed.
pub(in super::super) fn headless_arms(stores: &Stores, names: &Names, spec: &CanarySpec) -> Option<Fault> {
    callers(stores, names, spec)?;
    let services = [names.primary_service(), names.canary_service()];
    let mut arms = services.iter().filter_map(|name| stores.services.get(&names.namespace, name));
    let headless = arms.find(|arm| arm.body()["spec"]["clusterIP"] == "None")?;
    let [primary, canary] = &services;
    let problem = format!(
        "Service {} is headless, so the sidecars of its callers cannot choose between the arms: kubectl delete service -n {} {primary} \
         {canary}, and Weir makes both anew with an address of their own; spec.service.headless holds for {} alone then",
        headless.name(),
        names.namespace,
        names.apex
    );
    Some(("HeadlessArms", problem))
}
