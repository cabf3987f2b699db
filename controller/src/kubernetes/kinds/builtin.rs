//! The kinds that Kubernetes brings, each with the fields that Weir looks at.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{Labels, kind, or_empty};
use crate::kubernetes::api_server::object::{AGENT_PORTS, Cached, Projection};

fn as_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<str>, D::Error> {
    Ok(Value::deserialize(deserializer)?.to_string().into())
}

kind!(
    /// One version of a Deployment.
    ReplicaSet, ReplicaSetView, "apps", "v1", "replicasets", false
);
kind!(
    /// A pod template that a rollout analyses, kept for its promotion.
    ControllerRevision, RevisionView, "apps", "v1", "controllerrevisions", true
);
kind!(
    /// A pod.
    Pod, PodView, "", "v1", "pods", false
);
kind!(
    /// A namespace; its labels say whether its pods may be gateways.
    Namespace, NamespaceView, "", "v1", "namespaces", false
);
kind!(
    /// A service.
    Service, ServiceView, "", "v1", "services", true
);
kind!(
    /// Addresses behind a service.
    EndpointSlice, EndpointSliceView, "discovery.k8s.io", "v1", "endpointslices", false
);
/// How many pods a workload gets, by what they are busy with.
pub(crate) type HorizontalPodAutoscaler = Cached<ScalerView>;

/// See [`HorizontalPodAutoscaler`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ScalerView {
    /// What is asked for, as text with sorted keys.
    #[serde(deserialize_with = "as_text")]
    pub(crate) spec: Box<str>,
}

impl Projection for ScalerView {
    const GROUP: &'static str = "autoscaling";
    const VERSION: &'static str = "v2";
    const KIND: &'static str = "HorizontalPodAutoscaler";
    const PLURAL: &'static str = "horizontalpodautoscalers";
    const KEEP_RAW: bool = false;

    fn is_changed(&self, older: &Self) -> bool {
        // Each tells every 15 s what it measured.
        self.spec != older.spec
    }
}

/// A selector by labels alone.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Selector {
    /// Labels that a pod must have.
    pub(crate) match_labels: Labels,
}

/// What of a pod template is looked at.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Template {
    /// Labels and annotations.
    pub(crate) metadata: TemplateMetadata,
}

/// Labels and annotations of a pod template.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct TemplateMetadata {
    /// Labels.
    pub(crate) labels: Labels,
    /// Annotations.
    pub(crate) annotations: Labels,
}

/// See [`ReplicaSet`]; its metadata says it all.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ReplicaSetView {}

/// See [`ControllerRevision`]; what was kept is in its text.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RevisionView {}

impl ControllerRevision {
    /// Returns what was kept.
    #[must_use]
    pub(crate) fn data(&self) -> Value {
        self.body()["data"].take()
    }
}

/// See [`Pod`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PodView {
    /// What it runs of Istio's proxy.
    #[serde(rename = "spec", deserialize_with = "proxy_of")]
    pub(crate) proxy: Proxy,
    /// What became of it.
    pub(crate) status: PodStatus,
}

/// See [`Namespace`]; its metadata says it all.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NamespaceView {}

/// What a pod runs of Istio's proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Proxy {
    /// Nothing.
    #[default]
    None,
    /// A gateway's.
    Router {
        /// Which Istio it is of, by its image's tag: the first two numbers, where it has such.
        istio: Option<(u32, u32)>,
    },
    /// A sidecar, which all of the pod's requests pass.
    Sidecar,
    /// A waypoint's, which routes for others.
    Waypoint,
    /// Nothing, and no sidecar can be: the pod has its machine's network.
    HostNetwork,
}

impl Proxy {
    /// Returns whether it is a gateway's.
    pub(crate) fn is_router(self) -> bool {
        matches!(self, Self::Router { .. })
    }

    /// Returns which Istio a gateway's is of, where its image says so.
    pub(crate) fn istio(self) -> Option<(u32, u32)> {
        match self {
            Self::Router { istio } => istio,
            Self::None | Self::Sidecar | Self::Waypoint | Self::HostNetwork => None,
        }
    }
}

/// What a pod runs, as far as it tells gateways and callers from others.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodSpec {
    #[serde(deserialize_with = "or_empty")]
    containers: Vec<Container>,
    /// A sidecar is one that goes on, beside the pod's containers, or else one of those.
    #[serde(deserialize_with = "or_empty")]
    init_containers: Vec<Container>,
    host_network: bool,
}

/// The container of Istio's proxy.
const PROXY: &str = "istio-proxy";

/// A container of a pod.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Container {
    #[serde(deserialize_with = "or_empty")]
    args: Vec<String>,
    image: String,
}

fn proxy_of<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Proxy, D::Error> {
    let PodSpec { containers, init_containers, host_network } = PodSpec::deserialize(deserializer)?;
    let runs = |container: &&Container, kind: &str| container.args.starts_with(&["proxy".to_owned(), kind.to_owned()]);
    if let Some(router) = containers.iter().find(|it| runs(it, "router")) {
        return Ok(Proxy::Router { istio: version(&router.image) });
    }
    let any = |kind: &str| containers.iter().chain(&init_containers).any(|it| runs(&it, kind));
    Ok(match host_network {
        _ if any("sidecar") => Proxy::Sidecar,
        _ if any("waypoint") => Proxy::Waypoint,
        true => Proxy::HostNetwork,
        false => Proxy::None,
    })
}

/// Returns the first two numbers of an image's tag: of `registry:5000/proxyv2:1.22.3-distroless@sha256:…` 1 and 22.
fn version(image: &str) -> Option<(u32, u32)> {
    let name = image.split('@').next()?.rsplit('/').next()?;
    let (_, tag) = name.split_once(':')?;
    let mut numbers = tag.trim_start_matches('v').split(['.', '-']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// What became of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct PodStatus {
    /// `Pending`, `Running`, …
    pub(crate) phase: String,
    /// Its address.
    #[serde(rename = "podIP")]
    pub(crate) pod_ip: Option<String>,
    /// `Ready` and others.
    #[serde(deserialize_with = "or_empty")]
    pub(crate) conditions: Vec<WorkloadCondition>,
    /// How its containers are.
    #[serde(deserialize_with = "or_empty")]
    pub(crate) container_statuses: Vec<ContainerStatus>,
    /// How its init containers are.
    #[serde(deserialize_with = "or_empty")]
    pub(crate) init_container_statuses: Vec<ContainerStatus>,
}

/// A condition of a Deployment or of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct WorkloadCondition {
    /// Which one.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// `True`, `False` or `Unknown`.
    pub(crate) status: String,
    /// Why, in words.
    pub(crate) message: Box<str>,
}

/// How a container is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ContainerStatus {
    /// The container.
    pub(crate) name: String,
    /// Its state.
    pub(crate) state: ContainerState,
    /// Whether it has started, as its probe says.
    pub(crate) started: Option<bool>,
}

/// A container's state, where it waits.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ContainerState {
    /// Why it waits.
    pub(crate) waiting: Option<Waiting>,
}

/// Why a container waits.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Waiting {
    /// One word.
    pub(crate) reason: String,
    /// A sentence.
    pub(crate) message: String,
}

/// See [`Service`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ServiceView {
    /// What is asked for.
    pub(crate) spec: ServiceBody,
}

/// What is asked of a service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ServiceBody {
    /// Which pods it leads to.
    pub(crate) selector: Labels,
    /// Its ports.
    #[serde(deserialize_with = "or_empty")]
    pub(crate) ports: Vec<ServicePort>,
}

/// A port of a service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ServicePort {
    /// Name of the port.
    pub(crate) name: Option<String>,
    /// Number of the port.
    pub(crate) port: i32,
    /// The pods' port.
    pub(crate) target_port: Option<IntOrString>,
}

/// See [`EndpointSlice`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct EndpointSliceView {
    /// The addresses.
    #[serde(deserialize_with = "or_empty")]
    pub(crate) endpoints: Vec<Endpoint>,
}

/// Addresses of one pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Endpoint {
    /// How it is.
    pub(crate) conditions: EndpointConditions,
}

/// How a pod's addresses are.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct EndpointConditions {
    /// Whether requests should go there; unknown counts as yes, as for everybody who reads it.
    pub(crate) ready: Option<bool>,
}

impl Pod {
    /// Returns the port at which Istio's agent in the pod answers: the `statusPort` that it was injected with.
    #[must_use]
    pub(crate) fn agent_port(&self) -> u16 {
        let port = |key: &str| self.annotation(key)?.parse().ok();
        AGENT_PORTS.iter().find_map(|key| port(key)).unwrap_or(15020)
    }
}

impl PodView {
    /// Returns whether the pod gets requests now, or may still be answering some.
    #[must_use]
    pub(crate) fn ready(&self) -> bool {
        self.status.conditions.iter().any(|condition| condition.kind == "Ready" && condition.status == "True")
    }

    /// Returns whether the pod is about to start, and its proxy, which is one of its init containers, has started.
    #[must_use]
    pub(crate) fn starts_with_proxy(&self) -> bool {
        let proxy = self.status.init_container_statuses.iter().find(|container| container.name == PROXY);
        self.status.phase == "Pending" && proxy.is_some_and(|proxy| proxy.started == Some(true))
    }
}

impl EndpointSliceView {
    /// Returns whether any address takes requests.
    #[must_use]
    pub(crate) fn any_ready(&self) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.conditions.ready.unwrap_or(true))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_is_a_gateway_or_a_caller_by_what_it_runs_of_istios_proxy() {
        let proxy = |kind: &str| json!({"name": "istio-proxy", "args": ["proxy", kind, "--domain", "x"]});
        let of = |image: &str| json!({"image": image, "args": ["proxy", "router"]});
        let app = json!({"name": "app", "args": ["serve"]});
        let rows = [
            (json!({"containers": [proxy("router")]}), Proxy::Router { istio: None }),
            (
                json!({"containers": [of("registry:5000/proxyv2:1.22.3-distroless")]}),
                Proxy::Router { istio: Some((1, 22)) },
            ),
            (json!({"containers": [app, proxy("sidecar")]}), Proxy::Sidecar),
            (
                json!({"containers": [app], "initContainers": [{"name": "istio-init"}, proxy("sidecar")]}),
                Proxy::Sidecar,
            ),
            (json!({"containers": [app], "initContainers": null}), Proxy::None),
            (json!({"containers": [{"name": "istio-proxy", "args": ["proxy"]}]}), Proxy::None),
        ];
        for (spec, expected) in rows {
            let pod: PodView = serde_json::from_value(json!({"spec": spec})).unwrap();
            assert_eq!(pod.proxy, expected, "{spec}");
        }
    }

    #[test]
    fn a_proxys_release_is_read_from_its_images_tag() {
        for (image, expected) in [
            ("docker.io/istio/proxyv2:1.21.6", Some((1, 21))),
            ("registry:5000/istio/proxyv2:v1.22.0-distroless@sha256:00ff", Some((1, 22))),
            ("registry:5000/proxyv2", None),
            ("proxyv2:latest", None),
            ("proxyv2@sha256:00ff", None),
            ("", None),
        ] {
            assert_eq!(version(image), expected, "{image}");
        }
    }
}
