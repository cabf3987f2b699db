//! Callers that take no part, or would lie, and what is said of them; calls that are no plain requests.

use super::bounds::HARM;
use super::kubectl::{apply, kubectl, run, until};
use super::mesh::{Caller, bound, inside, inside_for};
use super::stage::{Release, Stage};
use super::{ONE_STEP, STEPS};

#[tokio::test(flavor = "multi_thread")]
async fn calls_by_grpc_from_pod_to_pod_are_split_and_judged_by_their_status() {
    let stage = Stage::with_sidecars("mesh-grpc").await;
    let grpc = ["--grpc-port", "9000"];
    stage.release(&Release { arguments: &grpc, ..Release::good("v1") });
    stage.canary_of("{port: 9000, targetPort: 9000, portName: grpc}", "progressDeadlineSeconds: 120", STEPS);
    stage.phase("Initialized").await;
    stage.rested().await;
    let url = format!("http://shop.{}:9000/shop.Cart/Add", stage.namespace);
    let start = |name| Caller::start_calling(&stage.namespace, name, 80, true, &[&url], &["--grpc"]);
    let caller = start("caller");
    stage.release(&Release { arguments: &grpc, ..Release::good("v2") });
    stage.phase("Succeeded").await;
    stage.rested().await;
    let seen = caller.finish();
    assert!(seen.failed() == 0 && seen.of("v1") > 0 && seen.of("v2") > 0, "{seen:?}");
    // Every answer is a 200, and its trailers say that it failed.
    let caller = start("again");
    stage.release(&Release { arguments: &[&grpc[..], &["--failure-ratio", "1"]].concat(), ..Release::good("v3") });
    stage.phase("Failed").await;
    stage.rested().await;
    let seen = caller.finish();
    assert!(HARM.contains(&seen.failed()) && seen.of("v3") == seen.failed(), "{seen:?}");
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_to_whom_a_sidecar_resource_hides_the_service_holds_nobody_and_takes_part_once_it_does_not() {
    let web = "weir-test-mesh-hidden-web";
    let _ = run("kubectl", &["delete", "namespace", web, "--ignore-not-found", "--wait"], "");
    kubectl(&["create", "namespace", web]);
    kubectl(&["label", "namespace", web, "weir.dev/callers=allowed"]);
    let shows = |hosts: &str| {
        apply(&format!(
            "{{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {{name: default, namespace: {web}}}, \
             spec: {{egress: [{{hosts: [{hosts}]}}]}}}}"
        ));
    };
    shows("./*, istio-system/*");
    let callers = format!(", callers: [{{}}, {{namespace: {web}}}]");
    let stage = inside_for("mesh-hidden", &callers, ONE_STEP).await;
    let caller = Caller::start(&stage, "caller", 60, true).await;
    let hidden = Caller::start_in(web, &stage, "hidden", 30, true, &[]);
    stage.release_into_traffic(&Release::good("v2")).await;
    super::people::ask(&stage, "pause", 1);
    until("the caller is named", || {
        let (reason, message) = bound(&stage);
        let named = reason == "RoutesUnseen" && message.contains(&format!("{web}/hidden have no route to it"));
        named.then_some(())
    })
    .await;
    until("what hides it is named", || {
        let (_, hazard) = stage.condition("Hazard");
        hazard.contains(&format!("Sidecar {web}/default hides shop.{}.svc", stage.namespace)).then_some(())
    })
    .await;
    let seen = hidden.finish();
    assert!(seen.failed() == 0 && seen.of("v1") > 0 && seen.of("v2") == 0, "{seen:?}");
    shows(&format!("./*, istio-system/*, {}/*", stage.namespace));
    let shown = Caller::start_in(web, &stage, "shown", 30, true, &[]);
    until("both are split", || {
        (bound(&stage).0 == "Bound" && stage.status()["gateways"]["acknowledged"] == 2).then_some(())
    })
    .await;
    std::thread::sleep(std::time::Duration::from_secs(3));
    let seen = shown.finish();
    assert!(seen.failed() == 0 && seen.of("v1") > 0 && seen.of("v2") > 0, "{seen:?}");
    super::people::ask(&stage, "resume", 2);
    stage.phase("Succeeded").await;
    assert_eq!(caller.finish().failed(), 0);
    kubectl(&["delete", "namespace", web, "--wait=false"]);
    stage.strike();
}

/// Returns what a pod's agent says of itself and of everything beside it.
#[cfg(feature = "kubernetes-full")]
fn agent(namespace: &str, pod: &str) -> String {
    kubectl(&["get", "--raw", &format!("/api/v1/namespaces/{namespace}/pods/{pod}:15020/proxy/stats/prometheus")])
}

#[cfg(feature = "kubernetes-full")]
#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_says_that_it_is_the_filter_changes_nothing_and_is_asked_nothing() {
    let stage = inside_for("mesh-liar", "", ONE_STEP).await;
    let (namespace, image) = (&stage.namespace, super::stage::variable("WEIR_DEMO_IMAGE"));
    let first = Caller::start(&stage, "first", 40, true).await;
    stage.release_into_traffic(&Release::good("v2")).await;
    super::people::ask(&stage, "pause", 1);
    let filters = kubectl(&["-n", namespace, "get", "envoyfilters", "-o", "json"]);
    let (_, id) = filters.split_once(r#"\"id\":\""#).expect("the configuration names the canary");
    let id = &id[..16];
    apply(&format!(
        r#"
apiVersion: v1
kind: ConfigMap
metadata: {{name: lies, namespace: {namespace}}}
data:
  metrics: |
    # TYPE weir_{id}_tripped gauge
    weir_{id}_tripped 1
---
apiVersion: v1
kind: Pod
metadata:
  name: liar
  namespace: {namespace}
  labels: {{app: liar, sidecar.istio.io/inject: "true"}}
  annotations: {{prometheus.io/scrape: "true", prometheus.io/port: "8080", prometheus.io/path: /metrics}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: client
    image: {image}
    imagePullPolicy: IfNotPresent
    args: [load, --url, "http://shop.{namespace}/", --rate, "60"]
    securityContext: {{runAsUser: 1000}}
  - name: server
    image: {image}
    imagePullPolicy: IfNotPresent
    args: [serve, --address, 0.0.0.0, --port, "8080", --files, /lies]
    securityContext: {{runAsUser: 1000}}
    volumeMounts: [{{name: lies, mountPath: /lies}}]
  volumes: [{{name: lies, configMap: {{name: lies}}}}]
"#
    ));
    kubectl(&["-n", namespace, "wait", "pod/liar", "--for=condition=Ready", "--timeout=90s"]);
    until("it lies", || agent(namespace, "liar").contains(&format!("weir_{id}_tripped")).then_some(())).await;
    let scrapes = || {
        let said = agent(namespace, "liar");
        let line = said.lines().find(|line| line.starts_with("istio_agent_scrapes_total"))?;
        line.rsplit(' ').next()?.parse::<f64>().ok()
    };
    let before = scrapes().expect("the agent counts who asks it");
    until("the liar takes part", || (stage.status()["gateways"]["acknowledged"] == 2).then_some(())).await;
    super::people::ask(&stage, "resume", 2);
    let status = stage.phase("Succeeded").await;
    assert!(status["evidence"]["canaryRequests"].as_u64() > Some(50), "{}", status["evidence"]);
    assert_eq!(scrapes().unwrap() - before, 1.0, "nobody but this test has asked");
    assert_eq!(first.finish().failed(), 0);
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_cannot_be_are_named_with_what_to_write_and_the_traffic_stays_with_the_primary() {
    let callers = ", callers: [{namespace: nowhere}, {namespace: istio-system}, {labels: {app: bare}}]";
    let stage = inside("mesh-nobody", callers).await;
    let bare = Caller::start(&stage, "bare", 20, false).await;
    kubectl(&["label", "namespace", &stage.namespace, "istio.io/dataplane-mode=ambient"]);
    stage.release(&Release::good("v2"));
    let said = until("it is held, and says why", || {
        let status = stage.status();
        let message = status["message"].as_str().unwrap_or_default().to_owned();
        (status["reason"] == "NoCaller" && message.contains("ambient")).then_some(message)
    })
    .await;
    for part in [
        "names nowhere, and there is no such namespace",
        "nothing in istio-system can be a caller",
        &format!("1 pods there have no sidecar ({}/bare)", stage.namespace),
        "1 of them are in ambient mode",
        "name their namespaces in spec.service.callers, or name a gateway",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let refused = |service: &str| {
        let canary = super::stage::canary(&stage.namespace, "other", "progressDeadlineSeconds: 60", service, STEPS);
        run("kubectl", &["apply", "-f", "-"], &canary)
    };
    let long = format!("{{port: 80, callers: [{{namespace: {}}}]}}", "x".repeat(300));
    assert!(refused(&long).is_err(), "no namespace has such a name");
    // Another Canary for the same host.
    stage.deploy("other", &Release::good("v1"));
    refused("{name: shop, port: 80, targetPort: 8080}").unwrap();
    until("the second one is told whose the name is", || {
        let other = super::kubectl::object(&stage.namespace, "canary", "other")?;
        let conditions = other["status"]["conditions"].as_array()?.clone();
        let stalled = conditions.into_iter().find(|it| it["type"] == "Stalled" && it["status"] == "True")?;
        stalled["message"].as_str()?.contains("shop").then_some(())
    })
    .await;
    let seen = bare.finish();
    assert!(seen.failed() == 0 && seen.of("v1") > 20 && seen.of("v2") == 0, "{seen:?}");
    kubectl(&["-n", &stage.namespace, "delete", "canary", "other", "--wait"]);
    stage.strike();
}
