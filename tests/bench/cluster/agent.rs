//! A node that is none: it says of every pod bound to it that it runs and is ready. Everything else about those pods is real:
//! Deployments, their versions, EndpointSlices, and whoever watches them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::api::Api;
use crate::kubectl::{kubectl, run};

/// The node's name.
pub(crate) const NODE: &str = "weir-bench";
/// Time between two looks for new pods.
const LOOK: Duration = Duration::from_millis(200);
/// A node that says nothing for 40 s counts as lost.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Pods that are told of at a time, and how many at once.
const AT_A_TIME: usize = 400;
const SIDE_BY_SIDE: usize = 4;
/// The network that is set aside for benchmarks: nothing answers there.
const NETWORK: u32 = u32::from_be_bytes([198, 18, 0, 0]);

/// The agent; the node goes with this value.
pub(crate) struct Agent {
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Agent {
    /// Makes the node, and tells of its pods until this is dropped.
    pub(crate) fn start() -> Self {
        let api = Api::open();
        let node =
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}, "spec": {"unschedulable": true}});
        // One that a killed run has left will do.
        let _ = api.post("/api/v1/nodes", &node);
        let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": NODE}});
        let _ = api.post("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", &lease);
        let stopped = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stopped = stopped.clone();
            move || serve(&api, &stopped)
        });
        Self { stopped, thread: Some(thread) }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
        let _ = run("kubectl", &["delete", "node", NODE, "--wait=false"], "");
    }
}

fn serve(api: &Api, stopped: &AtomicBool) {
    let next = AtomicU32::new(1);
    let mut beat = SystemTime::UNIX_EPOCH;
    while !stopped.load(Ordering::Relaxed) {
        if beat.elapsed().is_ok_and(|age| age >= HEARTBEAT) {
            heartbeat(api);
            beat = SystemTime::now();
        }
        let pending =
            format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{NODE},status.phase%3DPending&limit={AT_A_TIME}");
        let list = api.get(&pending);
        let pods = list["items"].as_array().unwrap();
        if pods.is_empty() {
            std::thread::sleep(LOOK);
            continue;
        }
        std::thread::scope(|scope| {
            for pods in pods.chunks(pods.len().div_ceil(SIDE_BY_SIDE)) {
                let next = &next;
                scope.spawn(move || {
                    for pod in pods {
                        let address = NETWORK + next.fetch_add(1, Ordering::Relaxed);
                        let path = format!(
                            "/api/v1/namespaces/{}/pods/{}/status",
                            pod["metadata"]["namespace"].as_str().unwrap(),
                            pod["metadata"]["name"].as_str().unwrap()
                        );
                        // One that is gone meanwhile is none of ours.
                        let _ = api.patch(&path, &json!({"status": running(pod, address)}));
                    }
                });
            }
        });
    }
}

fn heartbeat(api: &Api) {
    let now = now();
    let renewed = json!({"spec": {"holderIdentity": NODE, "leaseDurationSeconds": 40, "renewTime": now.replace('Z', ".000000Z")}});
    let _ = api.patch(&format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{NODE}"), &renewed);
    let ready = json!({"type": "Ready", "status": "True", "reason": "Agent", "lastHeartbeatTime": now, "lastTransitionTime": now});
    let _ = api.patch(&format!("/api/v1/nodes/{NODE}/status"), &json!({"status": {"conditions": [ready]}}));
}

fn running(pod: &Value, address: u32) -> Value {
    let (now, address) = (now(), std::net::Ipv4Addr::from(address).to_string());
    let conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"]
        .map(|kind| json!({"type": kind, "status": "True", "lastTransitionTime": now}));
    let containers = pod["spec"]["containers"].as_array().unwrap().iter().map(|container| {
        json!({
            "name": container["name"], "image": container["image"], "imageID": "", "ready": true, "started": true,
            "restartCount": 0, "state": {"running": {"startedAt": now}},
        })
    });
    json!({
        "phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "startTime": now, "conditions": conditions,
        "containerStatuses": containers.collect::<Vec<_>>(),
    })
}

/// Returns the time as the API writes it, by the program that every machine has for it.
fn now() -> String {
    run("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"], "").unwrap()
}

/// Counts the requests of Weir's own account by what they are, as the API server does: by rules of fairness that are made for it.
pub(crate) struct Census(Api);

/// What is counted apart: watches, the lease, other reads, other writes.
pub(crate) const KINDS: [&str; 4] = ["watches", "leases", "reads", "writes"];

impl Census {
    /// Makes the rules, which send the requests where they go anyway.
    pub(crate) fn start() -> Self {
        let account = r#"{kind: ServiceAccount, serviceAccount: {name: weir, namespace: weir-system}}"#;
        let rule = |kind: &str, number: usize, verbs: &str, groups: &str, resources: &str| {
            format!(
                r#"
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: FlowSchema
metadata: {{name: weir-bench-{kind}}}
spec:
  priorityLevelConfiguration: {{name: workload-low}}
  matchingPrecedence: {}
  rules:
  - subjects: [{account}]
    resourceRules: [{{verbs: {verbs}, apiGroups: {groups}, resources: {resources}, namespaces: ["*"], clusterScope: true}}]
---"#,
                300 + number
            )
        };
        let any = r#"["*"]"#;
        let rules = [
            rule(KINDS[0], 0, "[watch]", any, any),
            rule(KINDS[1], 1, any, "[coordination.k8s.io]", "[leases]"),
            rule(KINDS[2], 2, "[get, list]", any, any),
            rule(KINDS[3], 3, any, any, any),
        ];
        crate::kubectl::apply(&rules.concat());
        Self(Api::open())
    }

    /// Returns the requests so far, by kind.
    pub(crate) fn count(&self) -> [f64; 4] {
        let metrics = self.0.text("/metrics");
        KINDS.map(|kind| {
            let name = format!("flow_schema=\"weir-bench-{kind}\"");
            let counted = metrics.lines().filter(|line| {
                line.starts_with("apiserver_flowcontrol_dispatched_requests_total{") && line.contains(&name)
            });
            counted.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
        })
    }
}

impl Drop for Census {
    fn drop(&mut self) {
        for kind in KINDS {
            kubectl(&["delete", "flowschema", &format!("weir-bench-{kind}"), "--ignore-not-found"]);
        }
    }
}
