//! A namespace with a service behind the ingress gateway, released by a Canary, under real traffic.

use std::path::PathBuf;
use std::sync::LazyLock;

use serde_json::Value;
use tokio::sync::OnceCell;
use weir_demo::load::{Load, Running};

use super::bounds::HARM;
use super::kubectl::{PATIENCE, apply, kubectl, object, run, until};
use super::turn::Turn;

/// Namespace of Weir.
pub(crate) const SYSTEM: &str = "weir-system";

static INSTALLED: OnceCell<()> = OnceCell::const_new();

/// Where clients run: apart from tests, which block their threads with what they run.
static CLIENTS: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| tokio::runtime::Runtime::new().unwrap());

/// Returns an environment variable that these tests cannot do without.
pub(crate) fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; CONTRIBUTING.md says what these tests need"))
}

/// Returns the address of the ingress gateway.
pub(crate) fn gateway() -> String {
    std::env::var("GATEWAY").unwrap_or_else(|_| {
        kubectl(&["-n", "istio-ingress", "get", "svc", "istio-ingressgateway", "-o", "jsonpath={.spec.clusterIP}"])
    })
}

/// Installs Weir by its chart, as the README says.
pub(crate) fn install() {
    install_with(&[]);
}

/// Installs Weir by its chart, with other values; those of the last time are forgotten.
pub(crate) fn install_with(values: &[&str]) {
    let chart = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../manifests/chart");
    let (repository, tag) = split(&variable("WEIR_IMAGE"));
    // A chart's definitions are installed by helm, and never upgraded.
    let definitions = chart.join("../crds");
    kubectl(&["apply", "--server-side", "--force-conflicts", "-f", definitions.to_str().unwrap()]);
    let mut arguments = vec!["upgrade", "--install", "weir", chart.to_str().unwrap()];
    arguments.extend(["--namespace", SYSTEM, "--create-namespace", "--wait", "--timeout", "6m"]);
    arguments.extend(["--set", &repository, "--set-string", &tag, "--set", "page.enabled=true"]);
    arguments.extend(values);
    run("helm", &arguments, "").unwrap_or_else(|error| panic!("helm: {error}"));
}

/// Returns an image as two values of the chart.
pub(crate) fn split(image: &str) -> (String, String) {
    let (repository, tag) = image.rsplit_once(':').unwrap();
    (format!("image.repository={repository}"), format!("image.tag={tag}"))
}

/// Installs Weir once for all tests.
pub(crate) async fn installed() {
    INSTALLED.get_or_init(|| async { install() }).await;
}

/// Makes a namespace anew, and has the ingress gateway serve a host, or many, for it.
pub(crate) fn ground(namespace: &str, host: &str) {
    let _ = run("kubectl", &["delete", "namespace", namespace, "--ignore-not-found", "--wait"], "");
    apply(&format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}}}}}"));
    open(namespace, "public", "{istio: ingressgateway}", host);
}

/// Has the gateways that a selector finds serve a host, or many.
pub(crate) fn open(namespace: &str, name: &str, selector: &str, host: &str) {
    apply(&format!(
        r#"
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  selector: {selector}
  servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ["{host}"]}}]
"#
    ));
}

/// Returns the Canary of the Deployment of its name, with one more line of its spec.
pub(crate) fn canary(namespace: &str, name: &str, line: &str, service: &str, analysis: &str) -> String {
    format!(
        r#"
---
apiVersion: weir.dev/v1beta1
kind: Canary
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  targetRef: {{kind: Deployment, name: {name}}}
  {line}
  service: {service}
  analysis: {analysis}
"#
    )
}

/// Returns traffic through the gateway at an address that nobody has started yet.
pub(crate) fn load(gateway: &str, path: &str, rate: f64, headers: &[(&str, &str)]) -> Load {
    let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
    Load {
        url: format!("http://{gateway}{path}").parse().unwrap(),
        rate,
        headers: headers.collect(),
        // An answer that comes late is no failure of anybody's.
        timeout_ms: 60_000,
        ..Load::default()
    }
}

/// A service under release.
pub(crate) struct Stage {
    /// Its namespace.
    pub(crate) namespace: String,
    host: String,
    _turn: Turn,
}

/// How a revision behaves.
#[derive(Clone, Copy)]
pub(crate) struct Release<'a> {
    /// Its name.
    pub(crate) version: &'a str,
    /// Further arguments of the service.
    pub(crate) arguments: &'a [&'a str],
    /// Another image than the service's.
    pub(crate) image: Option<&'a str>,
}

impl Release<'_> {
    /// A revision without faults.
    pub(crate) const fn good(version: &str) -> Release<'_> {
        Release { version, arguments: &[], image: None }
    }
}

impl Stage {
    /// Makes a namespace with a Gateway, a first revision and a Canary, and waits for it to be initialized. Other tests run
    /// meanwhile: this one must leave everything outside of its namespace alone.
    pub(crate) async fn set(name: &str, analysis: &str) -> Self {
        Self::bare(name).await.initialized(analysis).await
    }

    /// As [`Stage::set`], while no other test runs: for those that take parts of the cluster away.
    pub(crate) async fn set_alone(name: &str, analysis: &str) -> Self {
        Self::alone(name).await.initialized(analysis).await
    }

    /// Makes a namespace with a Gateway and nothing else, while no other test runs.
    pub(crate) async fn alone(name: &str) -> Self {
        Self::build(name, Turn::alone().await).await
    }

    /// Makes a namespace with a Gateway and nothing else, beside other tests.
    pub(crate) async fn bare(name: &str) -> Self {
        Self::build(name, Turn::beside().await).await
    }

    /// As [`Stage::bare`], for a service that pods with sidecars call.
    pub(crate) async fn with_sidecars(name: &str) -> Self {
        Self::build(name, Turn::with_sidecars().await).await
    }

    /// As [`Stage::bare`], while no other test runs.
    pub(crate) async fn bare_alone(name: &str) -> Self {
        Self::build(name, Turn::alone().await).await
    }

    async fn initialized(self, analysis: &str) -> Self {
        self.initialize(analysis).await;
        self
    }

    /// Adds a first revision and a Canary, and waits for it to be initialized.
    pub(crate) async fn initialize(&self, analysis: &str) {
        self.release(&Release::good("v1"));
        self.canary(analysis);
        self.phase("Initialized").await;
    }

    async fn build(name: &str, turn: Turn) -> Self {
        installed().await;
        let stage = Self { namespace: format!("weir-test-{name}"), host: format!("{name}.example.com"), _turn: turn };
        ground(&stage.namespace, &stage.host);
        stage
    }

    /// Returns the host of its requests.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Waits until requests are answered.
    pub(crate) async fn reachable(&self) {
        until("requests are answered", || {
            let load = self.traffic(5.0);
            std::thread::sleep(std::time::Duration::from_secs(1));
            (load.tally().revisions.values().map(|counts| counts.ok).sum::<u64>() > 3).then_some(())
        })
        .await;
    }

    /// Writes the Canary.
    pub(crate) fn canary(&self, analysis: &str) {
        self.canary_with("progressDeadlineSeconds: 120", analysis);
    }

    /// Writes the Canary, with one more line of its spec.
    pub(crate) fn canary_with(&self, line: &str, analysis: &str) {
        let service = format!("{{port: 80, targetPort: 8080, gateways: [public], hosts: [{}]}}", self.host);
        self.canary_of(&service, line, analysis);
    }

    /// Writes the Canary, with a service of its own.
    pub(crate) fn canary_of(&self, service: &str, line: &str, analysis: &str) {
        apply(&canary(&self.namespace, "shop", line, service, analysis));
    }

    /// Pushes a revision.
    pub(crate) fn release(&self, release: &Release<'_>) {
        self.deploy("shop", release);
    }

    /// Writes a Deployment that runs a revision.
    pub(crate) fn deploy(&self, name: &str, release: &Release<'_>) {
        let namespace = &self.namespace;
        let image = release.image.map_or_else(|| variable("WEIR_DEMO_IMAGE"), str::to_owned);
        let mut arguments = vec!["serve", "--address", "0.0.0.0", "--port", "8080", "--version", release.version];
        arguments.extend(["--switch-file", "/switches/file.json"]);
        arguments.extend(release.arguments);
        let arguments = serde_json::to_string(&arguments).unwrap();
        apply(&format!(
            r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 20
      containers:
      - name: shop
        image: {image}
        imagePullPolicy: IfNotPresent
        args: {arguments}
        # Endpoints are let go of before the process is.
        lifecycle: {{preStop: {{sleep: {{seconds: 8}}}}}}
        readinessProbe: {{httpGet: {{path: /healthz, port: 8080}}, periodSeconds: 1, timeoutSeconds: 10}}
        resources: {{requests: {{cpu: 1m, memory: 8Mi}}}}
        # A process that is ill is as ill when it is started again.
        volumeMounts: [{{name: switches, mountPath: /switches}}]
      volumes: [{{name: switches, emptyDir: {{}}}}]
"#
        ));
    }

    /// Pushes a revision and waits until every gateway sends it requests at its first weight; returns the status that says so.
    pub(crate) async fn release_into_traffic(&self, release: &Release<'_>) -> Value {
        self.release(release);
        until(&format!("{} has requests", release.version), || {
            let status = self.status();
            let (serving, acknowledged) = (&status["gateways"]["serving"], &status["gateways"]["acknowledged"]);
            let weighs = status["canaryWeight"].as_f64() > Some(0.0) && status["phase"] == "Progressing";
            (weighs && serving == acknowledged).then(|| status.clone())
        })
        .await
    }

    /// Changes how the canary's pods behave while they run.
    pub(crate) async fn switch(&self, change: &str) {
        until("the pods hear it", || self.try_switch("shop", change).ok()).await;
    }

    /// Changes how the pods of a workload behave while they run, or says which of them does not listen.
    pub(crate) fn try_switch(&self, app: &str, change: &str) -> Result<(), String> {
        let pods = kubectl(&["-n", &self.namespace, "get", "pods", "-l", &format!("app={app}"), "-o", "json"]);
        let pods: Value = serde_json::from_str(&pods).unwrap();
        // Those of the revision before may still be on their way out.
        let serves =
            |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null() && pod["status"]["phase"] == "Running";
        let names = pods["items"].as_array().unwrap().iter().filter(serves).map(|pod| pod["metadata"]["name"].as_str());
        let names: Vec<&str> = names.map(Option::unwrap).collect();
        if names.is_empty() {
            return Err(format!("no pod of {app} runs"));
        }
        for pod in names {
            let path = format!("/api/v1/namespaces/{}/pods/{pod}:8080/proxy/switch", self.namespace);
            run("kubectl", &["create", "--raw", &path, "-f", "-"], change)?;
        }
        Ok(())
    }

    /// Starts traffic through the real gateway.
    pub(crate) fn traffic(&self, rate: f64) -> Running {
        self.traffic_to("/", rate, &[])
    }

    /// Starts traffic to a path through the real gateway, with more headers.
    pub(crate) fn traffic_to(&self, path: &str, rate: f64, headers: &[(&str, &str)]) -> Running {
        let _clients = CLIENTS.enter();
        self.load(path, rate, headers).start()
    }

    /// Returns traffic to a path through the real gateway, with more headers, that nobody has started yet.
    pub(crate) fn load(&self, path: &str, rate: f64, headers: &[(&str, &str)]) -> Load {
        self.load_through(&gateway(), path, rate, headers)
    }

    /// Starts traffic through the gateway at an address.
    pub(crate) fn traffic_through(&self, gateway: &str, path: &str, rate: f64, headers: &[(&str, &str)]) -> Running {
        let _clients = CLIENTS.enter();
        self.load_through(gateway, path, rate, headers).start()
    }

    fn load_through(&self, gateway: &str, path: &str, rate: f64, headers: &[(&str, &str)]) -> Load {
        let host = ("host", self.host.as_str());
        let host = (!headers.iter().any(|(name, _)| *name == "host")).then_some(host);
        load(gateway, path, rate, &headers.iter().copied().chain(host).collect::<Vec<_>>())
    }

    /// Returns the Canary's status.
    pub(crate) fn status(&self) -> Value {
        object(&self.namespace, "canary", "shop").map(|canary| canary["status"].clone()).unwrap_or_default()
    }

    /// Returns reason and message of a condition of the Canary, empty where it has none such.
    pub(crate) fn condition(&self, kind: &str) -> (String, String) {
        let conditions = self.status()["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.into_iter().find(|condition| condition["type"] == kind).unwrap_or_default();
        let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
        (text("reason"), text("message"))
    }

    /// Waits for a phase; returns the status.
    pub(crate) async fn phase(&self, wanted: &str) -> Value {
        let mut last = Value::Null;
        let began = std::time::Instant::now();
        while began.elapsed() < PATIENCE {
            last = self.status();
            if last["phase"] == wanted {
                return last;
            }
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        let events = self.events().join("\n");
        panic!("{} never became {wanted}: {} {}\n{events}", self.namespace, last["phase"], last["message"]);
    }

    /// Waits until the canary of a rollout that has ended is gone.
    pub(crate) async fn rested(&self) {
        until("the target is scaled to zero", || {
            (object(&self.namespace, "deployment", "shop")?["spec"]["replicas"] == 0).then_some(())
        })
        .await;
    }

    /// Releases a revision that fails everything, which must be taken back within a handful of requests.
    pub(crate) async fn stops_a_bad_release(&self, version: &str) {
        let traffic = self.traffic(100.0);
        self.release(&Release { arguments: &["--failure-ratio", "1"], ..Release::good(version) });
        self.phase("Failed").await;
        self.rested().await;
        let tally = traffic.finish().await;
        assert!(HARM.contains(&tally.totals().1), "{:?}", tally.summary());
    }

    /// Returns the texts of the Canary's events, oldest first.
    pub(crate) fn events(&self) -> Vec<String> {
        let sorted =
            ["get", "events", "--sort-by=.metadata.name", "-o", "jsonpath={range .items[*]}{.message}{\"\\n\"}{end}"];
        let mut arguments = vec!["-n", &self.namespace, "--field-selector", "involvedObject.kind=Canary"];
        arguments.splice(0..0, sorted);
        kubectl(&arguments).lines().map(str::to_owned).collect()
    }

    /// Takes everything down.
    pub(crate) fn strike(&self) {
        kubectl(&["-n", &self.namespace, "delete", "canary", "shop", "--ignore-not-found", "--wait"]);
        kubectl(&["delete", "namespace", &self.namespace, "--wait=false"]);
    }
}
