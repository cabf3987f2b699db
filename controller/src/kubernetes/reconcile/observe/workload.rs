//! How far a Deployment is: from its own numbers, its pods' troubles and the addresses behind its service.

use std::sync::Arc;

use weir_engine::{Readiness, Timestamp};

use crate::kubernetes::api_server::object::DEPLOYMENT_REVISION;
use crate::kubernetes::kinds::{Deployment, Pod, ReplicaSet};
use crate::kubernetes::stores::Stores;

/// Why a container waits, where waiting will not help.
const STUCK_REASONS: [&str; 4] = ["CrashLoopBackOff", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"];
/// Label of a version and of its pods.
const HASH: &str = "pod-template-hash";

/// Since when a service has had an address that takes requests.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    /// Nothing while it has none.
    pub(crate) since: Option<Timestamp>,
}

impl Endpoints {
    /// Takes note of what is seen now.
    pub(crate) fn record(&mut self, available: bool, now: Timestamp) {
        self.since = if available { self.since.or(Some(now)) } else { None };
    }
}

/// Returns whether a service has an address that takes requests.
#[must_use]
pub(crate) fn any_endpoint(stores: &Stores, namespace: &str, service: &str) -> bool {
    let slices = stores.slices.of(namespace);
    slices
        .iter()
        .filter(|slice| slice.label("kubernetes.io/service-name") == Some(service))
        .any(|slice| slice.fields.any_ready())
}

/// Returns how far a Deployment is. `threshold` is the percentage of its pods that must be available.
#[must_use]
pub(crate) fn readiness(stores: &Stores, deployment: &Deployment, threshold: i64, endpoint: bool) -> Readiness {
    let (spec, status) = (&deployment.fields.spec, &deployment.fields.status);
    let replicas = spec.replicas.unwrap_or(1);
    if replicas == 0 {
        return Readiness::Absent;
    }
    let unready = |what: String| {
        let why = held_up(stores, deployment).map(|why| format!(": {why}")).unwrap_or_default();
        Readiness::Unready(format!("waiting for rollout to finish: {what}{why}"))
    };
    if status.observed_generation < deployment.metadata.generation.unwrap_or_default() {
        return unready("observed deployment generation less than desired generation".into());
    }
    if let Some(stuck_pod) = stuck_pod(stores, deployment) {
        return Readiness::Broken(stuck_pod);
    }
    let (updated, available) = (status.updated_replicas, status.available_replicas);
    if updated < replicas {
        return unready(format!("{updated} out of {replicas} new replicas have been updated"));
    }
    if status.replicas > updated {
        return unready(format!("{} old replicas are pending termination", status.replicas - updated));
    }
    if available * 100 < updated * threshold || available == 0 {
        return unready(format!(
            "{available} of {updated} (readyThreshold {threshold}%) updated replicas are available"
        ));
    }
    if !endpoint {
        return Readiness::Unready("none of its addresses is behind its service yet".into());
    }
    Readiness::Ready
}

/// Returns why pods of the newest version are not made, or find no place, in the words of Kubernetes: a quota, no node.
fn held_up(stores: &Stores, deployment: &Deployment) -> Option<String> {
    let refused =
        deployment.fields.status.conditions.iter().find(|it| it.kind == "ReplicaFailure" && it.status == "True");
    if let Some(refused) = refused {
        return Some(refused.message.to_string());
    }
    newest(stores, deployment).iter().find_map(|pod| {
        let mut conditions = pod.fields.status.conditions.iter();
        let unplaced = conditions.find(|it| it.kind == "PodScheduled" && it.status == "False")?;
        Some(format!("pod {}: {}", pod.name(), unplaced.message))
    })
}

/// Returns why a pod of the newest version will not come up, if one will not.
fn stuck_pod(stores: &Stores, deployment: &Deployment) -> Option<String> {
    newest(stores, deployment).iter().find_map(|pod| stuck_container(pod))
}

/// Returns the pods of the newest version.
fn newest(stores: &Stores, deployment: &Deployment) -> Vec<Arc<Pod>> {
    let namespace = deployment.namespace();
    let (Some(uid), Some(newest)) = (deployment.metadata.uid.as_deref(), deployment.annotation(DEPLOYMENT_REVISION))
    else {
        return Vec::new();
    };
    let owned = |set: &Arc<ReplicaSet>| {
        let mut owners = set.metadata.owner_references.iter().flatten();
        owners.any(|owner| owner.uid == uid) && set.annotation(DEPLOYMENT_REVISION) == Some(newest)
    };
    let set = stores.replica_sets.of(namespace).into_iter().find(owned);
    let Some(hash) = set.as_ref().and_then(|set| set.label(HASH)) else { return Vec::new() };
    let selector = &deployment.fields.spec.selector.match_labels;
    let mut pods = stores.pods.of(namespace);
    pods.retain(|pod| {
        let own = selector.iter().all(|(key, value)| pod.label(key) == Some(value));
        own && !pod.deleted() && pod.label(HASH) == Some(hash)
    });
    pods
}

fn stuck_container(pod: &Pod) -> Option<String> {
    let status = &pod.fields.status;
    status.init_container_statuses.iter().chain(&status.container_statuses).find_map(|container| {
        let waiting =
            container.state.waiting.as_ref().filter(|waiting| STUCK_REASONS.contains(&waiting.reason.as_str()))?;
        let message = waiting.message.split_whitespace().collect::<Vec<_>>().join(" ");
        Some(format!("container {} of pod {}: {} {message}", container.name, pod.name(), waiting.reason))
    })
}
