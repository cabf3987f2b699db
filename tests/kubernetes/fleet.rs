//! Many Canaries in one namespace, rolled out at once: good ones, and bad ones among them.

use serde_json::Value;
use weir_demo::load::Load;

use super::kubectl::{apply, kubectl, until};
use super::stage::{canary, gateway, ground, installed, load, variable};
use super::turn::Turn;

/// Every so many is bad.
const BAD: usize = 5;

/// One of the Canaries.
pub(crate) struct Member {
    /// Its name, and its target's.
    pub(crate) name: String,
    /// Whether its release fails every request.
    pub(crate) bad: bool,
}

/// All of them.
pub(crate) struct Fleet {
    /// Their namespace.
    pub(crate) namespace: String,
    size: usize,
    _turn: Turn,
}

impl Fleet {
    /// Makes so many Canaries and waits until all are initialized.
    pub(crate) async fn set(name: &str, size: usize, analysis: &str) -> Self {
        installed().await;
        let fleet = Self { namespace: format!("weir-test-{name}"), size, _turn: Turn::alone().await };
        ground(&fleet.namespace, &format!("*.{}.example.com", fleet.namespace));
        let mut manifest = String::new();
        for member in fleet.members() {
            manifest += &fleet.deployment(&member, "v1", &[]);
            manifest += &fleet.canary(&member, analysis);
        }
        apply(&manifest);
        fleet.all("are initialized", |_, canary| canary["status"]["phase"] == "Initialized").await;
        fleet
    }

    /// Returns the Canaries.
    pub(crate) fn members(&self) -> impl Iterator<Item = Member> {
        (0..self.size).map(|number| Member { name: format!("s{number}"), bad: number % BAD == BAD - 1 })
    }

    /// Returns traffic to one Canary's service that nobody has started yet.
    pub(crate) fn load(&self, member: &Member, rate: f64) -> Load {
        load(&gateway(), "/", rate, &[("host", &self.host(member))])
    }

    /// Pushes a revision of every service at once.
    pub(crate) fn release(&self) {
        let deployment = |member: Member| {
            let arguments: &[&str] = if member.bad { &["--failure-ratio", "1"] } else { &[] };
            self.deployment(&member, "v2", arguments)
        };
        apply(&self.members().map(deployment).collect::<String>());
    }

    /// Waits until every release has ended as it should.
    pub(crate) async fn ended(&self) {
        let phase = |member: &Member| if member.bad { "Failed" } else { "Succeeded" };
        self.all("have ended as they should", |member, canary| canary["status"]["phase"] == phase(member)).await;
    }

    /// Waits until every target is scaled to zero.
    pub(crate) async fn rested(&self) {
        let targets = || {
            let list = kubectl(&["-n", &self.namespace, "get", "deployments", "-l", "fleet=target", "-o", "json"]);
            let list: Value = serde_json::from_str(&list).unwrap();
            list["items"].as_array().unwrap().iter().all(|it| it["spec"]["replicas"] == 0).then_some(())
        };
        until("every target is scaled to zero", targets).await;
    }

    /// Takes everything down.
    pub(crate) fn strike(&self) {
        kubectl(&["-n", &self.namespace, "delete", "canaries", "--all", "--wait"]);
        kubectl(&["delete", "namespace", &self.namespace, "--wait=false"]);
    }

    async fn all(&self, what: &str, so: impl Fn(&Member, &Value) -> bool) {
        until(&format!("all Canaries of {} {what}", self.namespace), || {
            let list = kubectl(&["-n", &self.namespace, "get", "canaries", "-o", "json"]);
            let list: Value = serde_json::from_str(&list).unwrap();
            let canaries = list["items"].as_array().unwrap();
            let found = |member: &Member| canaries.iter().find(|canary| canary["metadata"]["name"] == *member.name);
            self.members().all(|member| found(&member).is_some_and(|canary| so(&member, canary))).then_some(())
        })
        .await;
    }

    fn host(&self, member: &Member) -> String {
        format!("{}.{}.example.com", member.name, self.namespace)
    }

    fn canary(&self, member: &Member, analysis: &str) -> String {
        let service = format!("{{port: 80, targetPort: 8080, gateways: [public], hosts: [{}]}}", self.host(member));
        canary(&self.namespace, &member.name, "progressDeadlineSeconds: 600", &service, analysis)
    }

    fn deployment(&self, member: &Member, version: &str, arguments: &[&str]) -> String {
        let (namespace, name, image) = (&self.namespace, &member.name, variable("WEIR_DEMO_IMAGE"));
        let service = ["serve", "--address", "0.0.0.0", "--port", "8080", "--version", version];
        let arguments = serde_json::to_string(&[&service[..], arguments].concat()).unwrap();
        format!(
            r#"
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}, labels: {{fleet: target}}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 20
      containers:
      - name: shop
        image: {image}
        imagePullPolicy: IfNotPresent
        args: {arguments}
        lifecycle: {{preStop: {{sleep: {{seconds: 8}}}}}}
        readinessProbe: {{httpGet: {{path: /healthz, port: 8080}}, periodSeconds: 2, timeoutSeconds: 10}}
        resources: {{requests: {{cpu: 1m, memory: 8Mi}}}}
"#
        )
    }
}
