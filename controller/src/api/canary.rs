//! `Canary`: a workload, the service in front of it, and how its revisions are released.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::analysis::AnalysisSpec;
use super::object::Object;
use super::service::ServiceSpec;

/// How revisions of one workload are released. Compatible with Flagger's `flagger.app/v1beta1` Canary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
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
    /// The kind of traffic provider. Only `istio` is known, which is also the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Address of the Prometheus server that metrics with a `query` are asked from. The built-in metrics need none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics_server: Option<String>,
}

/// The workload whose revisions are released.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetRef {
    /// API version of the workload, for instance `apps/v1`. Default: the usual one of its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// `Deployment`, `DaemonSet` or `Service` in a cluster, `Process` with `weir standalone`.
    pub kind: String,
    /// Name of the workload, in the namespace of this object.
    pub name: String,
}

/// The autoscaler of the workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AutoscalerRef {
    /// API version of the autoscaler. Not looked at: the served version is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// `HorizontalPodAutoscaler` or `ScaledObject`.
    pub kind: String,
    /// Name of the autoscaler, in the namespace of this object.
    pub name: String,
    /// For a `ScaledObject`: the primary's query for each trigger, by the trigger's name. Default: the workload's own query
    /// with the primary's name in it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
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
