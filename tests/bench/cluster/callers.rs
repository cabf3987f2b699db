//! Callers inside of the mesh: pods with a sidecar whose own program waits, and clients in their networks, which send what it would.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::api::Api;
use crate::gateways::{Pod, pods_in};
use crate::kubectl::{apply, kubectl};
use crate::process::Process;
use crate::stage::variable;

/// A pod that calls.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) pod: Pod,
    pub(crate) envoy: Process,
}

impl Caller {
    /// Starts so many in a namespace.
    pub(crate) fn start(api: &Api, namespace: &str, number: usize) -> Vec<Self> {
        let image = variable("WEIR_DEMO_IMAGE");
        // What runs as the proxy's own user passes no sidecar.
        apply(&format!(
            r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: callers, namespace: {namespace}}}
spec:
  replicas: {number}
  selector: {{matchLabels: {{app: callers}}}}
  template:
    metadata:
      labels: {{app: callers, sidecar.istio.io/inject: "true"}}
      annotations: {{proxy.istio.io/config: "concurrency: 1"}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: caller
        image: {image}
        imagePullPolicy: IfNotPresent
        args: [serve, --address, 0.0.0.0, --port, "8080"]
        securityContext: {{runAsUser: 1000}}
        resources: {{requests: {{cpu: 1m, memory: 8Mi}}}}
"#
        ));
        kubectl(&["-n", namespace, "rollout", "status", "deployment", "callers", "--timeout=5m"]);
        let pods = pods_in(api, namespace, "app=callers");
        assert_eq!(pods.len(), number, "callers of {namespace}");
        let envoy = |pod: &Pod| Process::find("envoy", Some(&pod.uid)).expect("its Envoy runs here");
        pods.into_iter().map(|pod| Self { envoy: envoy(&pod), pod: Pod { port: 15090, ..pod } }).collect()
    }

    /// Has it call a service so many times a second, until told to end.
    pub(crate) fn call(&self, namespace: &str, service: &str, rate: f64) -> Client {
        let address = kubectl(&["-n", namespace, "get", "service", service, "-o", "jsonpath={.spec.clusterIP}"]);
        let program = std::env::current_exe().unwrap().with_file_name("weir-demo");
        let client = Command::new("nsenter")
            .args(["--net", "--target", &self.envoy.id().to_string(), "--"])
            .arg(program)
            .args(["load", "--url", &format!("http://{address}/"), "--rate", &rate.to_string()])
            .args(["--header", &format!("host: {service}.{namespace}.svc.cluster.local")])
            .stdout(Stdio::piped())
            .spawn();
        Client(client.expect("nsenter and weir-demo are here"))
    }
}

/// A client that runs until it is told to end.
pub(crate) struct Client(Child);

impl Client {
    /// Ends it; returns how many requests it has sent, and how many of them failed.
    pub(crate) fn finish(mut self) -> (u64, u64) {
        Command::new("kill").arg(self.0.id().to_string()).status().unwrap();
        let mut text = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        self.0.wait().unwrap();
        let report: Value = serde_json::from_str(text.trim()).unwrap_or_else(|error| panic!("{error}: {text}"));
        let revisions = report["revisions"].as_object().unwrap().values();
        let count = |it: &Value, field: &str| it[field].as_u64().unwrap_or_default();
        if report["failures"].as_array().is_some_and(|failures| !failures.is_empty()) {
            eprintln!("{}", report["failures"]);
        }
        revisions.fold((0, 0), |(all, failed), it| {
            (all + count(it, "ok") + count(it, "failed"), failed + count(it, "failed"))
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}
