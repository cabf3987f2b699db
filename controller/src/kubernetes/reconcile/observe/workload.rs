//! How far a workload is: from its own numbers, its pods' troubles and the addresses behind its service.

use std::sync::Arc;

use weir_engine::{Readiness, Timestamp};

use crate::kubernetes::kinds::{Pod, Target};
use crate::kubernetes::stores::Stores;

/// Why a container waits, where waiting will not help.
const STUCK_REASONS: [&str; 4] = ["CrashLoopBackOff", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"];

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

/// Returns how far a workload is. `threshold` is the percentage of its pods that must be available.
#[must_use]
pub(crate) fn readiness(stores: &Stores, workload: &Target, threshold: i64, endpoint: bool) -> Readiness {
    let progress = workload.progress();
    let (updated, available, wanted) = (progress.updated, progress.available, progress.wanted);
    if wanted == 0 {
        return Readiness::Absent;
    }
    let unready = |what: String| {
        let why = held_up(stores, workload).map(|why| format!(": {why}")).unwrap_or_default();
        Readiness::Unready(format!("waiting for rollout to finish: {what}{why}"))
    };
    if !progress.observed {
        let kind = workload.kind().word().to_lowercase();
        return unready(format!("observed {kind} generation less than desired generation"));
    }
    if let Some(stuck) = stuck_pod(stores, workload) {
        return Readiness::Broken(stuck);
    }
    if updated < wanted {
        return unready(format!("{updated} out of {wanted} new replicas have been updated"));
    }
    if progress.pods > updated {
        return unready(format!("{} old replicas are pending termination", progress.pods - updated));
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
fn held_up(stores: &Stores, workload: &Target) -> Option<String> {
    if let Some(refused) = workload.progress().refused {
        return Some(refused.to_owned());
    }
    newest_pods(stores, workload).iter().find_map(|pod| {
        let mut conditions = pod.fields.status.conditions.iter();
        let unplaced = conditions.find(|it| it.kind == "PodScheduled" && it.status == "False")?;
        Some(format!("pod {}: {}", pod.name(), unplaced.message))
    })
}

/// Returns why a pod of the newest version will not come up, if one will not.
fn stuck_pod(stores: &Stores, workload: &Target) -> Option<String> {
    newest_pods(stores, workload).iter().find_map(|pod| stuck_container(pod))
}

fn newest_pods(stores: &Stores, workload: &Target) -> Vec<Arc<Pod>> {
    let namespace = workload.namespace();
    workload.newest_pods(stores.pods.of(namespace), &stores.replica_sets.of(namespace))
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
