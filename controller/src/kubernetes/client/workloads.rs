//! What runs of a Canary, read with the rights of whoever asks: ReplicaSets and pods, by who owns them.

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use kube::{Api, Client};
use weir_engine::Timestamp;

use crate::view::tree::{PodView, ReplicaSetView, Workloads};

/// Returns what runs of a target and of its primary.
pub(super) async fn workloads(client: &Client, namespace: &str, target: &str) -> Result<Workloads, kube::Error> {
    // From the API server's cache: a person looks again and again.
    let params = ListParams::default().match_any();
    let sets = Api::<ReplicaSet>::namespaced(client.clone(), namespace).list(&params).await?.items;
    let pods = Api::<Pod>::namespaced(client.clone(), namespace).list(&params).await?.items;
    let of = |workload: &str| arm(&sets, &pods, workload);
    Ok(Workloads { primary: of(&format!("{target}-primary")), canary: of(target), unknown: None })
}

/// Returns the ReplicaSets of a workload that have pods, or else the newest one, newest first.
fn arm(sets: &[ReplicaSet], pods: &[Pod], workload: &str) -> Vec<ReplicaSetView> {
    let owned = sets.iter().filter(|set| owner(&set.metadata) == Some(workload));
    let mut found: Vec<ReplicaSetView> = owned.map(|set| replica_set(set, pods)).collect();
    found.sort_by(|one, other| (other.made, &other.name).cmp(&(one.made, &one.name)));
    let mut newest = true;
    found.retain(|set| std::mem::take(&mut newest) || set.desired > 0 || !set.pods.is_empty());
    found
}

fn replica_set(set: &ReplicaSet, pods: &[Pod]) -> ReplicaSetView {
    let name = set.metadata.name.clone().unwrap_or_default();
    let owned = pods.iter().filter(|pod| owner(&pod.metadata) == Some(&name));
    let mut pods: Vec<PodView> = owned.map(pod_view).collect();
    pods.sort_by(|one, other| one.name.cmp(&other.name));
    ReplicaSetView {
        made: made(&set.metadata),
        desired: set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or_default(),
        ready: set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or_default(),
        available: set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or_default(),
        images: images(set).unwrap_or_default(),
        name,
        pods,
    }
}

fn images(set: &ReplicaSet) -> Option<Vec<String>> {
    let containers = &set.spec.as_ref()?.template.as_ref()?.spec.as_ref()?.containers;
    Some(containers.iter().filter_map(|container| container.image.clone()).collect())
}

fn pod_view(pod: &Pod) -> PodView {
    let status = pod.status.clone().unwrap_or_default();
    let containers = status.container_statuses.unwrap_or_default();
    let inits = status.init_container_statuses.unwrap_or_default();
    let declared = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    // A sidecar, Istio's for one, is an init container that goes on.
    let goes_on =
        |name: &str| declared.iter().any(|init| init.name == name && init.restart_policy.as_deref() == Some("Always"));
    let begins = inits.iter().enumerate().find_map(|(i, init)| {
        let begun = goes_on(&init.name) && init.started == Some(true);
        let word = troubled(init).filter(|word| word != "Completed" && word != "PodInitializing");
        let is_over =
            init.state.as_ref().and_then(|state| state.terminated.as_ref()).is_some_and(|it| it.exit_code == 0);
        (!begun && !is_over).then(|| format!("Init:{}", word.unwrap_or_else(|| format!("{i}/{}", declared.len()))))
    });
    let waiting = begins.or_else(|| containers.iter().find_map(troubled)).or(status.reason);
    let status = match (&pod.metadata.deletion_timestamp, waiting) {
        (Some(_), _) => "Terminating".to_owned(),
        (None, Some(reason)) => reason,
        (None, None) => status.phase.unwrap_or_default(),
    };
    let sidecars = inits.iter().filter(|init| goes_on(&init.name));
    let counted: Vec<&ContainerStatus> = containers.iter().chain(sidecars).collect();
    // What begins is started again by itself; afterwards only what goes on counts.
    let started_again = if status.starts_with("Init:") { inits.iter().collect() } else { counted.clone() };
    PodView {
        name: pod.metadata.name.clone().unwrap_or_default(),
        made: made(&pod.metadata),
        status,
        ready: [counted.iter().filter(|container| container.ready).count(), counted.len()],
        restarts: started_again.iter().map(|container| container.restart_count).sum(),
    }
}

/// Returns what a container waits for, or why it has ended.
fn troubled(container: &ContainerStatus) -> Option<String> {
    let state = container.state.as_ref()?;
    let waiting = state.waiting.as_ref().and_then(|waiting| waiting.reason.clone());
    waiting.or_else(|| state.terminated.as_ref().and_then(|ended| ended.reason.clone()))
}

fn owner(metadata: &ObjectMeta) -> Option<&str> {
    let owners = metadata.owner_references.as_deref().unwrap_or_default();
    owners.iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.name.as_str())
}

fn made(metadata: &ObjectMeta) -> Timestamp {
    let made = metadata.creation_timestamp.as_ref().map(|time| time.0.as_millisecond());
    Timestamp(made.and_then(|ms| u64::try_from(ms).ok()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    fn set(name: &str, of: &str, made: &str, desired: i32) -> ReplicaSet {
        from_value(json!({
            "metadata": {"name": name, "creationTimestamp": made, "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "x", "name": of, "uid": "u", "controller": true}
            ]},
            "spec": {"replicas": desired, "selector": {}, "template": {"spec": {"containers": [{"name": "app", "image": "shop:v2"}]}}},
            "status": {"replicas": desired, "readyReplicas": 1, "availableReplicas": 1},
        }))
        .unwrap()
    }

    fn pod(name: &str, of: &str, state: serde_json::Value) -> Pod {
        from_value(json!({
            "metadata": {"name": name, "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": of, "uid": "u", "controller": true}
            ]},
            "status": {"phase": "Running", "containerStatuses": [
                {"name": "app", "image": "", "imageID": "", "ready": true, "restartCount": 0},
                {"name": "side", "image": "", "imageID": "", "ready": false, "restartCount": 3, "state": state},
            ]},
        }))
        .unwrap()
    }

    #[test]
    fn init_containers_sidecars_and_evictions_are_told_as_kubectl_tells_them() {
        let container = |name: &str, ready: bool, restarts: i32, state: serde_json::Value| {
            json!({"name": name, "image": "", "imageID": "", "ready": ready, "started": ready, "restartCount": restarts,
                "state": state})
        };
        let seen = |status: serde_json::Value| {
            let spec = json!({
                "initContainers": [{"name": "istio-proxy", "restartPolicy": "Always"}, {"name": "migrate"}],
                "containers": [{"name": "app"}],
            });
            let pod: Pod = from_value(json!({"metadata": {"name": "p"}, "spec": spec, "status": status})).unwrap();
            let view = pod_view(&pod);
            (view.status, view.ready, view.restarts)
        };
        let proxy = container("istio-proxy", true, 1, json!({"running": {}}));
        let crashing = container("migrate", false, 4, json!({"waiting": {"reason": "CrashLoopBackOff"}}));
        let waits = container("app", false, 0, json!({"waiting": {"reason": "PodInitializing"}}));
        let begins =
            json!({"phase": "Pending", "initContainerStatuses": [proxy, crashing], "containerStatuses": [waits]});
        assert_eq!(seen(begins), ("Init:CrashLoopBackOff".into(), [1, 2], 5));
        let runs = container("migrate", false, 0, json!({"running": {}}));
        let begins = json!({"phase": "Pending", "initContainerStatuses": [proxy, runs], "containerStatuses": [waits]});
        assert_eq!(seen(begins), ("Init:1/2".into(), [1, 2], 1));
        let done = container("migrate", false, 4, json!({"terminated": {"exitCode": 0, "reason": "Completed"}}));
        let app = container("app", true, 2, json!({"running": {}}));
        let serves = json!({"phase": "Running", "initContainerStatuses": [proxy, done], "containerStatuses": [app]});
        assert_eq!(seen(serves), ("Running".into(), [2, 2], 3));
        assert_eq!(seen(json!({"phase": "Failed", "reason": "Evicted"})).0, "Evicted");
    }

    #[test]
    fn an_arm_has_its_replica_sets_with_pods_and_else_the_newest_one() {
        let sets = [
            set("shop-1", "shop", "2026-01-01T00:00:00Z", 0),
            set("shop-2", "shop", "2026-01-02T00:00:00Z", 2),
            set("shop-primary-1", "shop-primary", "2026-01-01T00:00:00Z", 0),
            set("shop-primary-2", "shop-primary", "2026-01-03T00:00:00Z", 0),
        ];
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        let pods =
            [pod("shop-2-b", "shop-2", waiting), pod("shop-2-a", "shop-2", json!({})), pod("other", "x", json!({}))];
        let [canary] = &arm(&sets, &pods, "shop")[..] else { panic!() };
        assert_eq!((canary.name.as_str(), canary.desired, canary.ready, canary.available), ("shop-2", 2, 1, 1));
        assert_eq!(canary.images, ["shop:v2"]);
        let seen: Vec<_> =
            canary.pods.iter().map(|pod| (pod.name.as_str(), pod.status.as_str(), pod.restarts)).collect();
        assert_eq!(seen, [("shop-2-a", "Running", 3), ("shop-2-b", "CrashLoopBackOff", 3)]);
        assert_eq!(canary.pods[0].ready, [1, 2]);
        let [primary] = &arm(&sets, &pods, "shop-primary")[..] else { panic!() };
        assert_eq!(primary.name, "shop-primary-2");
    }
}
