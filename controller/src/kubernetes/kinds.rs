//! The kinds of object that Weir watches, each with the fields that it looks at.
//!
//! Every field has a default: an object that one day lacks a field, or has one more, must not stop the watch of its kind.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::object::{Kept, View};

/// Some lists are served as `null` when they are empty.
fn or_empty<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn as_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<str>, D::Error> {
    Ok(Value::deserialize(deserializer)?.to_string().into())
}

/// Labels or a selector of labels.
pub(crate) type Labels = BTreeMap<String, String>;

macro_rules! kind {
    ($(#[$doc:meta])* $name:ident, $view:ident, $group:literal, $version:literal, $plural:literal, $whole:literal) => {
        $(#[$doc])*
        #[allow(dead_code, reason = "some kinds are only ever named by what is looked at in them")]
        pub(crate) type $name = Kept<$view>;
        impl View for $view {
            const GROUP: &'static str = $group;
            const VERSION: &'static str = $version;
            const KIND: &'static str = stringify!($name);
            const PLURAL: &'static str = $plural;
            const WHOLE: bool = $whole;
        }
    };
}

kind!(
    /// A workload that can be released.
    Deployment, DeploymentView, "apps", "v1", "deployments", true
);
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
    /// A service.
    Service, ServiceView, "", "v1", "services", true
);
kind!(
    /// Addresses behind a service.
    EndpointSlice, EndpointSliceView, "discovery.k8s.io", "v1", "endpointslices", false
);
kind!(
    /// Istio's gateway: which pods serve which hosts.
    Gateway, GatewayView, "networking.istio.io", "v1", "gateways", false
);
kind!(
    /// Istio's routes.
    VirtualService, VirtualServiceView, "networking.istio.io", "v1", "virtualservices", true
);
kind!(
    /// Istio's policy for a destination.
    DestinationRule, DestinationRuleView, "networking.istio.io", "v1", "destinationrules", true
);
kind!(
    /// Istio's way to give an Envoy what its own objects cannot say.
    EnvoyFilter, EnvoyFilterView, "networking.istio.io", "v1alpha3", "envoyfilters", true
);

/// How many pods a workload gets, by what they are busy with.
pub(crate) type HorizontalPodAutoscaler = Kept<ScalerView>;

/// See [`HorizontalPodAutoscaler`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ScalerView {
    /// What is asked for, as text with sorted keys.
    #[serde(deserialize_with = "as_text")]
    pub(crate) spec: Box<str>,
}

impl View for ScalerView {
    const GROUP: &'static str = "autoscaling";
    const VERSION: &'static str = "v2";
    const KIND: &'static str = "HorizontalPodAutoscaler";
    const PLURAL: &'static str = "horizontalpodautoscalers";
    const WHOLE: bool = false;

    fn is_news(&self, older: &Self) -> bool {
        // Each tells every 15 s what it measured.
        self.spec != older.spec
    }
}

/// See [`Deployment`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DeploymentView {
    /// What is asked for.
    pub(crate) spec: DeploymentSpec,
    /// What became of it.
    pub(crate) status: DeploymentStatus,
}

/// What is asked of a Deployment.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct DeploymentSpec {
    /// Number of pods; 1 if absent.
    pub(crate) replicas: Option<i64>,
    /// Which pods are its own.
    pub(crate) selector: Selector,
    /// The pods' labels and annotations.
    pub(crate) template: Template,
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

/// What became of a Deployment.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct DeploymentStatus {
    /// The generation of the spec that the numbers are of.
    pub(crate) observed_generation: i64,
    /// Pods.
    pub(crate) replicas: i64,
    /// Pods of the newest template.
    pub(crate) updated_replicas: i64,
    /// Pods that have been ready for long enough.
    pub(crate) available_replicas: i64,
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
    /// What became of it.
    pub(crate) status: PodStatus,
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
    pub(crate) conditions: Vec<PodCondition>,
    /// How its containers are.
    #[serde(deserialize_with = "or_empty")]
    pub(crate) container_statuses: Vec<ContainerStatus>,
    /// How its init containers are.
    #[serde(deserialize_with = "or_empty")]
    pub(crate) init_container_statuses: Vec<ContainerStatus>,
}

/// A condition of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PodCondition {
    /// Which one.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// `True`, `False` or `Unknown`.
    pub(crate) status: String,
}

/// How a container is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ContainerStatus {
    /// The container.
    pub(crate) name: String,
    /// Its state.
    pub(crate) state: ContainerState,
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

/// See [`Gateway`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct GatewayView {
    /// What is asked for.
    pub(crate) spec: GatewayBody,
}

/// What is asked of a gateway.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct GatewayBody {
    /// Labels of its pods, in any namespace.
    pub(crate) selector: Labels,
}

/// See [`VirtualService`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct VirtualServiceView {
    /// What is asked for.
    pub(crate) spec: VirtualServiceBody,
}

/// What is asked of a VirtualService.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct VirtualServiceBody {
    /// Hosts of its requests.
    #[serde(deserialize_with = "or_empty")]
    pub(crate) hosts: Vec<String>,
    /// Gateways that it is bound to; `mesh` if there are none.
    #[serde(deserialize_with = "or_empty")]
    pub(crate) gateways: Vec<String>,
    /// Its routes.
    #[serde(deserialize_with = "or_empty")]
    pub(crate) http: Vec<HttpRoute>,
}

/// A route of a VirtualService.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct HttpRoute {
    /// The route's name.
    pub(crate) name: String,
    /// The VirtualService that has the rest of it.
    pub(crate) delegate: Option<Delegate>,
}

/// Names a VirtualService that is delegated to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Delegate {
    /// Its name.
    pub(crate) name: String,
    /// Its namespace; that of the delegating one if absent.
    pub(crate) namespace: String,
}

/// See [`DestinationRule`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DestinationRuleView {}

/// See [`EnvoyFilter`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct EnvoyFilterView {}

impl PodView {
    /// Returns whether the pod gets requests now, or may still be answering some.
    #[must_use]
    pub(crate) fn ready(&self) -> bool {
        self.status.conditions.iter().any(|condition| condition.kind == "Ready" && condition.status == "True")
    }
}

impl EndpointSliceView {
    /// Returns whether any address takes requests.
    #[must_use]
    pub(crate) fn any_ready(&self) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.conditions.ready.unwrap_or(true))
    }
}
