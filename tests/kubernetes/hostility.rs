//! Tenants that share a gateway, each with a namespace and a Canary, and one among them who is hostile in every way that the rights
//! of a tenant allow: the others release, are taken back and are deleted as if he were not there.

use std::time::Duration;

use serde_json::Value;
use weir_demo::load::Running;
use weir_demo::tally::GATEWAY;

use super::kubectl::{apply, kubectl, object, run, until, until_within};
use super::stage::{canary, gateway, installed, load, variable};
use super::turn::Turn;

/// Steps that few requests can pass: the machine has two processors for everything.
const QUICK: &str = "{interval: 2s, threshold: 2, minRequests: 2, stepWeights: [50], metrics: [{name: request-success-rate, thresholdRange: {min: 99}}]}";
/// Every so many tenants release what fails.
const BAD: usize = 5;
/// Canaries of the hostile one that are as large as may be.
const LARGE: usize = 6;

struct Tenants {
    name: &'static str,
    size: usize,
    _turn: Turn,
}

impl Tenants {
    /// Makes so many tenants on one gateway, and waits until the Canaries of all but the hostile one are initialized.
    async fn set(name: &'static str, size: usize) -> Self {
        installed().await;
        let tenants = Self { name, size, _turn: Turn::alone().await };
        tenants.clear("true");
        let gateway = format!(
            "{{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {{name: {name}, namespace: istio-ingress}}, spec: \
             {{selector: {{istio: ingressgateway}}, servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: \
             [\"*.{name}.example.com\"]}}]}}}}\n"
        );
        let namespaces = tenants.namespaces().chain([tenants.hostile()]);
        let namespaces =
            namespaces.map(|of| format!("---\n{{apiVersion: v1, kind: Namespace, metadata: {{name: {of}}}}}\n"));
        apply(&(gateway + &namespaces.collect::<String>()));
        let each = |number: usize| {
            let of = tenants.namespace(number);
            deployment(&of, "shop", "v1", &[]) + &tenants.canary(&of, "shop", &[tenants.host(number)], QUICK)
        };
        apply(&(0..size).map(each).collect::<String>());
        tenants.all("is initialized", |_, status| status["phase"] == "Initialized").await;
        tenants
    }

    fn namespace(&self, number: usize) -> String {
        format!("weir-test-{}-{number}", self.name)
    }

    fn namespaces(&self) -> impl Iterator<Item = String> {
        (0..self.size).map(|number| self.namespace(number))
    }

    fn hostile(&self) -> String {
        format!("weir-test-{}-hostile", self.name)
    }

    fn host(&self, number: usize) -> String {
        format!("t{number}.{}.example.com", self.name)
    }

    fn is_bad(number: usize) -> bool {
        number % BAD == BAD - 1
    }

    fn canary(&self, namespace: &str, name: &str, hosts: &[String], analysis: &str) -> String {
        let service =
            format!("{{port: 80, targetPort: 8080, gateways: [istio-ingress/{}], hosts: {hosts:?}}}", self.name);
        canary(namespace, name, "progressDeadlineSeconds: 600", &service, analysis)
    }

    async fn all(&self, what: &str, so: impl Fn(usize, &Value) -> bool) {
        let patience = Duration::from_secs(180 + 15 * self.size as u64);
        for number in 0..self.size {
            until_within(patience, &format!("tenant {number} of {} {what}", self.name), || {
                let status = object(&self.namespace(number), "canary", "shop")?["status"].clone();
                so(number, &status).then_some(())
            })
            .await;
        }
    }

    /// Does everything at once that a tenant may do. What the API server refuses harms nobody either.
    fn attack(&self) {
        let of = self.hostile();
        let image = variable("WEIR_DEMO_IMAGE");
        let mut attempts = Vec::new();
        // A pod that says it is a gateway, at both ports where gateways are read.
        for port in ["15020", "15090"] {
            attempts.push(format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: fake-{port}, namespace: {of}, labels: {{istio: ingressgateway, \
                 sidecar.istio.io/inject: \"false\"}}}}, spec: {{terminationGracePeriodSeconds: 1, containers: [{{name: c, image: {image}, \
                 imagePullPolicy: IfNotPresent, args: [serve, --address, 0.0.0.0, --port, \"{port}\"]}}]}}}}"
            ));
        }
        // Canaries with as much text and as large expressions as may be, all under way at once.
        for number in 0..LARGE {
            let name = format!("large{number}");
            let hosts: Vec<String> =
                (0..60).map(|i| format!("{}.h{number}-{i}.{}.example.com", "h".repeat(60), self.name)).collect();
            let patterns: Vec<String> =
                (0..16).map(|i| format!("{{headers: {{x-a: {{regex: \"(?:a*){{200}}{number}{i}\"}}}}}}")).collect();
            let analysis =
                format!("{{interval: 10s, iterations: 1000, threshold: 2, match: [{}]}}", patterns.join(", "));
            attempts.push(deployment(&of, &name, "v1", &[]));
            attempts.push(self.canary(&of, &name, &hosts, &analysis));
        }
        // A pattern that would stop a worker, a neighbour's host, the mesh's, and an object of Weir's own words.
        let worst =
            "{interval: 10s, iterations: 10, threshold: 2, match: [{headers: {x-a: {regex: \"(?:a*){20000}\"}}}]}";
        attempts.push(self.canary(&of, "worst", &["worst.example.com".into()], worst));
        attempts.push(self.canary(&of, "thief", &[self.host(0)], QUICK));
        let mesh = format!("{{port: 80, hosts: [shop.{}.svc.cluster.local, \"*.example.com\"]}}", self.namespace(0));
        attempts.push(canary(&of, "mesh", "progressDeadlineSeconds: 600", &mesh, QUICK));
        let forged = "{port: 80, name: forged, apex: {annotations: {weir.dev/original: '{\"spec\":{\"externalIPs\":[\"8.8.8.8\"]}}'}}}";
        attempts.push(canary(&of, "forged", "progressDeadlineSeconds: 600", forged, QUICK));
        // Calls that hang, at addresses that nobody should call, as many as there may be.
        let hooks: Vec<String> = (0..16)
            .map(|i| {
                let address =
                    ["http://169.254.169.254/latest", "http://127.0.0.1:8090/", "http://10.255.255.1:81/"][i % 3];
                format!("{{name: h{i}, type: rollback, url: \"{address}\", timeout: 60s}}")
            })
            .collect();
        let analysis =
            format!("{{interval: 1s, threshold: 1000, stepWeights: [50], webhooks: [{}]}}", hooks.join(", "));
        attempts.push(deployment(&of, "caller", "v1", &[]));
        attempts.push(self.canary(&of, "caller", &[format!("caller.{}.example.com", self.name)], &analysis));
        // Names that somebody else has or will have.
        attempts.push(deployment(&of, "large0-primary", "v1", &[]));
        for attempt in attempts {
            let _ = run("kubectl", &["apply", "-f", "-"], &attempt);
        }
        let again: String = (0..LARGE).map(|number| deployment(&of, &format!("large{number}"), "v2", &[])).collect();
        let _ = run("kubectl", &["apply", "-f", "-"], &again);
        let _ = run("kubectl", &["apply", "-f", "-"], &deployment(&of, "caller", "v2", &["--failure-ratio", "1"]));
    }

    fn traffic(&self) -> Vec<Running> {
        (0..self.size).map(|number| load(&gateway(), "/", 2.0, &[("host", &self.host(number))]).start()).collect()
    }

    /// Asks for the hosts of everybody with what the hostile tenant's expressions are slow at.
    fn flood(&self) -> Running {
        let value = format!("{}b", "a".repeat(8_000));
        let host = format!("{}.h0-0.{}.example.com", "h".repeat(60), self.name);
        load(&gateway(), "/", 20.0, &[("host", &host), ("x-a", &value)]).start()
    }

    fn clear(&self, wait: &str) {
        let all: Vec<String> = self.namespaces().chain([self.hostile()]).collect();
        for namespace in &all {
            let canaries = ["-n", namespace, "delete", "canaries", "--all", "--wait=false", "--ignore-not-found"];
            let _ = run("kubectl", &canaries, "");
        }
        let wait = format!("--wait={wait}");
        let mut arguments = vec!["delete", "namespace", "--ignore-not-found", &wait];
        arguments.extend(all.iter().map(String::as_str));
        let _ = run("kubectl", &arguments, "");
        let _ = run("kubectl", &["-n", "istio-ingress", "delete", "gateway", self.name, "--ignore-not-found"], "");
    }
}

fn deployment(namespace: &str, name: &str, version: &str, arguments: &[&str]) -> String {
    let service = ["serve", "--address", "0.0.0.0", "--port", "8080", "--version", version];
    let arguments = serde_json::to_string(&[&service[..], arguments].concat()).unwrap();
    let image = variable("WEIR_DEMO_IMAGE");
    format!(
        r#"
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}}}
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

/// Plays it: all but the hostile one release under traffic while he does what he can, and are deleted while he still does.
async fn others_go_on(name: &'static str, size: usize) {
    let tenants = Tenants::set(name, size).await;
    tenants.attack();
    let (traffic, flood) = (tenants.traffic(), tenants.flood());
    let release = |number: usize| {
        let arguments: &[&str] = if Tenants::is_bad(number) { &["--failure-ratio", "1"] } else { &[] };
        deployment(&tenants.namespace(number), "shop", "v2", arguments)
    };
    apply(&(0..size).map(release).collect::<String>());
    let phase = |number| if Tenants::is_bad(number) { "Failed" } else { "Succeeded" };
    tenants.all("has ended as it should", |number, status| status["phase"] == phase(number)).await;
    let (mut requests, mut unavailable) = (0, 0);
    for (number, traffic) in traffic.into_iter().enumerate() {
        let tally = traffic.finish().await;
        requests += tally.totals().0;
        unavailable += tally.of(GATEWAY).failed;
        let errors = tally.of("v1").failed + if Tenants::is_bad(number) { 0 } else { tally.of("v2").failed };
        assert!(tally.of("v1").ok > 0 && errors == 0, "tenant {number}: {:?}", tally.summary());
    }
    // Two processors that start the pods of all: as many as `many::fifty_canaries_roll_out_at_once` allows.
    assert!(unavailable * 100 <= requests.max(1_000), "the gateway had no answer for {unavailable} of {requests}");
    flood.finish().await;
    let fakes = kubectl(&["-n", &tenants.hostile(), "get", "envoyfilters", "-o", "name"]);
    assert_eq!(fakes, "", "nothing is written for a pod that says it is a gateway");
    let stolen = object(&tenants.hostile(), "canary", "thief").unwrap_or_default();
    assert_eq!(stolen["status"]["reason"], "HostTaken", "{stolen:#}");
    for number in 0..size {
        let namespace = tenants.namespace(number);
        kubectl(&["-n", &namespace, "delete", "canary", "shop", "--wait=false"]);
    }
    for number in 0..size {
        until("a deleted Canary is gone", || {
            object(&tenants.namespace(number), "canary", "shop").is_none().then_some(())
        })
        .await;
    }
    tenants.clear("false");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_tenant_changes_nothing_for_three_others() {
    others_go_on("neighbours", 3).await;
}

#[cfg(feature = "kubernetes-full")]
#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_tenant_changes_nothing_for_forty_nine_others() {
    others_go_on("tenancy", 49).await;
}
