//! Deployments: what is read of them, how far one is, and what only they say.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::Progress;
use crate::api::TargetKind;
use crate::kubernetes::api_server::object::{Cached, DEPLOYMENT_REVISION, Projection};
use crate::kubernetes::kinds::{Pod, ReplicaSet, Selector, Template, WorkloadCondition, or_empty};

/// Parts of the spec that say how it is rolled out.
pub(super) const ROLLOUT_FIELDS: [&str; 4] =
    ["strategy", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"];
/// Label of a ReplicaSet and of its pods.
const HASH: &str = "pod-template-hash";
/// Of a rolling update that says nothing; the API's own default.
const DEFAULT_PERCENT: u32 = 25;

/// A workload of pods that are all alike.
pub(crate) type Deployment = Cached<DeploymentView>;

impl Projection for DeploymentView {
    const GROUP: &'static str = TargetKind::Deployment.group();
    const VERSION: &'static str = TargetKind::Deployment.version();
    const KIND: &'static str = TargetKind::Deployment.word();
    const PLURAL: &'static str = TargetKind::Deployment.plural();
    const KEEP_RAW: bool = true;
    const HAS_PODS: bool = true;
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
    /// `ReplicaFailure` and others.
    #[serde(deserialize_with = "or_empty")]
    pub(crate) conditions: Vec<WorkloadCondition>,
}

impl Deployment {
    /// Returns how far its controller is.
    pub(super) fn progress(&self) -> Progress<'_> {
        let status = &self.fields.status;
        let refused = status.conditions.iter().find(|it| it.kind == "ReplicaFailure" && it.status == "True");
        Progress {
            observed: status.observed_generation >= self.metadata.generation.unwrap_or_default(),
            wanted: self.fields.spec.replicas.unwrap_or(1),
            pods: status.replicas,
            updated: status.updated_replicas,
            available: status.available_replicas,
            refused: refused.map(|it| &*it.message),
        }
    }

    /// Returns the pods of its newest ReplicaSet.
    pub(super) fn newest_pods(&self, mut pods: Vec<Arc<Pod>>, sets: &[Arc<ReplicaSet>]) -> Vec<Arc<Pod>> {
        let (Some(uid), Some(newest)) = (self.metadata.uid.as_deref(), self.annotation(DEPLOYMENT_REVISION)) else {
            return Vec::new();
        };
        let owned = |set: &&Arc<ReplicaSet>| {
            let mut owners = set.metadata.owner_references.iter().flatten();
            owners.any(|owner| owner.uid == uid) && set.annotation(DEPLOYMENT_REVISION) == Some(newest)
        };
        let Some(hash) = sets.iter().find(owned).and_then(|set| set.label(HASH)) else { return Vec::new() };
        let selector = &self.fields.spec.selector.match_labels;
        pods.retain(|pod| {
            let own = selector.iter().all(|(key, value)| pod.label(key) == Some(value));
            own && !pod.deleted() && pod.label(HASH) == Some(hash)
        });
        pods
    }

    /// Returns whether an update may leave so many replicas without any pod that serves.
    pub(super) fn update_stops(&self, replicas: u32) -> bool {
        update_stops(&self.body()["spec"]["strategy"], replicas)
    }
}

/// Returns whether an update by this `strategy` may leave so many replicas without any pod that serves.
fn update_stops(strategy: &Value, replicas: u32) -> bool {
    if strategy["type"] == "Recreate" {
        return true;
    }
    let rolling = &strategy["rollingUpdate"];
    // The Deployment's controller rounds the surge up and what may be missing down, and of two zeros makes one missing.
    let surge = pods(&rolling["maxSurge"], |percent| replicas.saturating_mul(percent).div_ceil(100));
    let missing = pods(&rolling["maxUnavailable"], |percent| replicas.saturating_mul(percent) / 100);
    let missing = if surge == 0 { missing.max(1) } else { missing };
    replicas > 0 && missing >= replicas
}

/// Reads a number of pods, or a percentage.
fn pods(value: &Value, percent: impl Fn(u32) -> u32) -> u32 {
    if let Some(number) = value.as_u64() {
        return u32::try_from(number).unwrap_or(u32::MAX);
    }
    let text = value.as_str().and_then(|text| text.trim_end_matches('%').parse().ok());
    percent(text.unwrap_or(DEFAULT_PERCENT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_update_that_may_take_the_last_pod_is_known_by_its_strategy() {
        let rolling =
            |surge: Value, missing: Value| json!({"rollingUpdate": {"maxSurge": surge, "maxUnavailable": missing}});
        for (strategy, replicas, stops) in [
            (json!({"type": "Recreate"}), 3, true),
            (Value::Null, 1, false),
            (json!({"type": "RollingUpdate"}), 1, false),
            (rolling(json!(0), json!(1)), 1, true),
            (rolling(json!(0), json!(1)), 2, false),
            (rolling(json!("0%"), json!("50%")), 1, true),
            (rolling(json!("0%"), json!("50%")), 2, false),
            (rolling(json!(1), json!("100%")), 4, true),
            (rolling(json!(1), json!(1)), 1, true),
            (rolling(json!("100%"), json!(0)), 1, false),
            (rolling(json!(0), json!(5)), 3, true),
            (rolling(json!("4000000000%"), json!(0)), 3, false),
        ] {
            assert_eq!(update_stops(&strategy, replicas), stops, "{strategy} with {replicas}");
        }
    }
}
