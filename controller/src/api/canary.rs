//! `Canary`: a workload, the service in front of it, and how its revisions are released.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::analysis::AnalysisSpec;
use super::limits;
use super::object::Object;
use super::rules::{self, rules};
use super::service::{Free, ServiceSpec};

/// How revisions of one workload are released. Takes every field of Flagger's `flagger.app/v1beta1` Canary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules(&[
    ("has(self.service) && has(self.service.port)", "service.port is missing: give the port that the service listens on"),
    ("(has(self.service) && has(self.service.name)) || self.targetRef.name.matches('^[a-z]([-a-z0-9]{0,53}[a-z0-9])?$')",
     "targetRef.name is the name of the service too, and no name for one: give service.name, at most 55 characters (-primary is \
      added): lower-case letters, digits and -, beginning with a letter"),
    (&rules::provider().0, &rules::provider().1),
    ("!has(self.ingressRef)",
     "ingressRef is for NGINX and Skipper, and Weir releases through Istio: remove it, and give service.gateways and service.hosts"),
    ("!has(self.routeRef)",
     "routeRef is for APISIX, and Weir releases through Istio: remove it, and give service.gateways and service.hosts"),
    ("!has(self.upstreamRef)",
     "upstreamRef is for Gloo, and Weir releases through Istio: remove it, and give service.gateways and service.hosts"),
])))]
pub struct CanarySpec {
    /// The workload whose revisions are released.
    pub target_ref: TargetRef,
    /// The autoscaler of the workload; the primary gets one like it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaler_ref: Option<AutoscalerRef>,
    /// How requests reach the workload.
    #[serde(default)]
    pub service: ServiceSpec,
    /// How a new revision is tested.
    pub analysis: AnalysisSpec,
    /// Time in seconds that the canary, and at promotion the primary, may take to become ready; then the rollout is taken
    /// back. At least 1. Default: 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub progress_deadline_seconds: Option<i64>,
    /// Promote a new revision as soon as it is ready, without analysis. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip_analysis: Option<bool>,
    /// When this object is deleted, give the traffic back to the workload itself, as before Weir. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revert_on_deletion: Option<bool>,
    /// Start nothing and advance nothing. A rollback still happens. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// Judge a new revision with the requests of its first step, and tell what would be done, and leave it to people: nothing is taken
    /// back, and nothing advances beyond that step by itself. The verbs `promote` and `abort` do it. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observe_only: Option<bool>,
    /// Let requests pass the gateway's filter, and count them, between rollouts too. Each of them then costs what one costs
    /// during a rollout. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observe_at_rest: Option<bool>,
    /// The kind of traffic provider. Only `istio` is known, which is also the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub provider: Option<String>,
    /// Address of the Prometheus server that metrics with a `query` are asked from. Has no effect on other metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::ADDRESS))]
    pub metrics_server: Option<String>,
    /// Refused: for Flagger with NGINX or Skipper. Weir releases through Istio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_ref: Option<Free>,
    /// Refused: for Flagger with APISIX. Weir releases through Istio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_ref: Option<Free>,
    /// Refused: for Flagger with Gloo. Weir releases through Istio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_ref: Option<Free>,
}

/// The workload whose revisions are released.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetRef {
    /// API version of the workload. Any other than `apps/v1` has no effect: that one is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::NAME))]
    pub api_version: Option<String>,
    /// `Deployment` in a cluster, `Process` with `weir standalone`.
    #[schemars(length(max = 64), extend("x-kubernetes-validations" = rules::target()))]
    pub kind: String,
    /// Name of the workload, in the namespace of this object.
    #[schemars(length(max = limits::NAME))]
    pub name: String,
}

/// The autoscaler of the workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AutoscalerRef {
    /// API version of the autoscaler. Any other than `autoscaling/v2` has no effect: that one is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::NAME))]
    pub api_version: Option<String>,
    /// `HorizontalPodAutoscaler`.
    #[schemars(length(max = 64), extend("x-kubernetes-validations" = rules::autoscaler()))]
    pub kind: String,
    /// Name of the autoscaler, in the namespace of this object.
    #[schemars(length(max = limits::NAME))]
    pub name: String,
    /// Has no effect: for Flagger's `ScaledObject`, which is not supported.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = limits::ENTRIES))]
    pub primary_scaler_queries: BTreeMap<String, String>,
    /// Bounds of the primary's number of replicas. Default: those of the workload's autoscaler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary_scaler_replicas: Option<ScalerReplicas>,
}

/// Bounds of a number of replicas.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScalerReplicas {
    /// Least number of replicas. At least 1. Default: that of the workload's autoscaler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub min_replicas: Option<i64>,
    /// Greatest number of replicas. At least 1. Default: that of the workload's autoscaler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_replicas: Option<i64>,
}

impl CanarySpec {
    /// Returns the name of the service that users call: `service.name`, or else the target's.
    #[must_use]
    pub fn apex(&self) -> &str {
        self.service.name.as_deref().unwrap_or(&self.target_ref.name)
    }

    /// Returns the name of the canary's own Service.
    #[must_use]
    pub fn canary_service(&self) -> String {
        format!("{}-canary", self.apex())
    }
}

/// Returns the hosts whose requests are split: those of the service, and its name unless `*` is among them.
#[must_use]
pub fn hosts(canary: &Object<CanarySpec>) -> Vec<String> {
    let mut hosts: Vec<String> = canary.spec.service.hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
    let apex = canary.spec.apex();
    if !hosts.iter().any(|host| host == "*" || host == apex) {
        hosts.push(apex.to_owned());
    }
    hosts
}
