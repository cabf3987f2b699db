//! The whole of Weir in a real cluster, beside a real Istio, under real traffic through the real ingress gateway.
//!
//! Needs `KUBECONFIG`, `kubectl`, `helm`, Istio with an ingress gateway, and three images that the cluster has:
//! `WEIR_IMAGE` (`/weir`, `/weir-filter.wasm`), `WEIR_NEXT_IMAGE` (with another module) and `WEIR_DEMO_IMAGE` (`weir-demo`). `GATEWAY` is the gateway's address, `host:port`, where
//! its Service's cluster address cannot be reached. Tests wait for conditions; a time is only a sign that something is broken.

#[path = "kubernetes/adoption.rs"]
mod adoption;
#[path = "kubernetes/alerts.rs"]
mod alerts;
mod bounds;
#[path = "kubernetes/callers.rs"]
mod callers;
#[path = "kubernetes/configs.rs"]
mod configs;
#[path = "kubernetes/delivery.rs"]
mod delivery;
#[path = "kubernetes/faults.rs"]
mod faults;
#[cfg(feature = "kubernetes-full")]
#[path = "kubernetes/fleet.rs"]
mod fleet;
#[cfg(feature = "kubernetes-flux")]
#[path = "kubernetes/flux/mod.rs"]
mod flux;
#[cfg(feature = "kubernetes-full")]
#[path = "kubernetes/former.rs"]
mod former;
#[path = "kubernetes/fronts.rs"]
mod fronts;
#[path = "kubernetes/hazards.rs"]
mod hazards;
#[path = "kubernetes/hidden.rs"]
mod hidden;
#[path = "kubernetes/hostility.rs"]
mod hostility;
#[path = "kubernetes/installing.rs"]
mod installing;
#[path = "kubernetes/kubectl.rs"]
mod kubectl;
#[cfg(feature = "kubernetes-full")]
#[path = "kubernetes/leaving.rs"]
mod leaving;
#[path = "kubernetes/linting.rs"]
mod linting;
#[cfg(feature = "kubernetes-full")]
#[path = "kubernetes/many.rs"]
mod many;
#[path = "kubernetes/mesh.rs"]
mod mesh;
#[path = "kubernetes/metrics.rs"]
mod metrics;
#[path = "kubernetes/observing.rs"]
mod observing;
#[path = "kubernetes/outages.rs"]
mod outages;
#[path = "kubernetes/page.rs"]
mod page;
#[path = "kubernetes/people.rs"]
mod people;
#[cfg(feature = "kubernetes-full")]
#[path = "kubernetes/phases.rs"]
mod phases;
#[path = "kubernetes/rendering.rs"]
mod rendering;
#[path = "kubernetes/resting.rs"]
mod resting;
#[path = "kubernetes/routes.rs"]
mod routes;
#[path = "kubernetes/scaling.rs"]
mod scaling;
#[path = "kubernetes/stage.rs"]
mod stage;
#[path = "kubernetes/synthetic.rs"]
mod synthetic;
#[cfg(feature = "kubernetes-full")]
#[path = "kubernetes/takeover/mod.rs"]
mod takeover;
#[path = "kubernetes/tenants.rs"]
mod tenants;
#[path = "kubernetes/turn.rs"]
mod turn;
#[path = "kubernetes/upgrade.rs"]
mod upgrade;

use bounds::HARM;
use kubectl::{kubectl, object, run, until};
use stage::{Release, Stage, install};

/// Three steps, two seconds each.
pub(crate) const STEPS: &str = "{interval: 2s, threshold: 2, stepWeights: [10, 30, 50], metrics: [{name: request-success-rate, thresholdRange: {min: 99}}]}";

/// One step that something fits into which a test does, or has to see, where a machine stands still for a while.
pub(crate) const ONE_STEP: &str = "{interval: 15s, threshold: 2, stepWeights: [30], metrics: [{name: request-success-rate, thresholdRange: {min: 99}}]}";

/// What there is for a Canary of the Deployment `shop` behind a gateway, once it is initialized.
pub(crate) const OBJECTS: [(&str, &str); 7] = [
    ("deployment", "shop-primary"),
    ("service", "shop"),
    ("service", "shop-primary"),
    ("service", "shop-canary"),
    ("destinationrule", "shop-primary"),
    ("destinationrule", "shop-canary"),
    ("virtualservice", "shop"),
];

/// The Deployment `shop` as Flagger releases it, with `more` of its container, a line of YAML or nothing. Flagger's types know no
/// `preStop.sleep`, so the pods wait by a program of their own until their endpoints are let go of.
#[cfg(any(feature = "kubernetes-full", feature = "kubernetes-flux"))]
pub(crate) fn deployment_for_flagger(namespace: &str, version: &str, more: &str) -> String {
    let image = stage::variable("WEIR_DEMO_IMAGE");
    format!(
        r#"apiVersion: apps/v1
kind: Deployment
metadata: {{name: shop, namespace: {namespace}}}
spec:
  selector: {{matchLabels: {{app: shop}}}}
  template:
    metadata: {{labels: {{app: shop}}}}
    spec:
      terminationGracePeriodSeconds: 20
      containers:
      - name: shop
        image: {image}
        imagePullPolicy: IfNotPresent
        args: [serve, --address, 0.0.0.0, --port, "8080", --version, {version}]
        lifecycle: {{preStop: {{exec: {{command: [/weir-demo, load, --url, "http://127.0.0.1:8080/healthz", --rate, "1", --seconds, "3"]}}}}}}
        readinessProbe: {{httpGet: {{path: /healthz, port: 8080}}, periodSeconds: 1}}
        resources: {{requests: {{cpu: 1m, memory: 8Mi}}}}
        {more}
"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_initialized_canary_has_every_object_that_was_promised() {
    let stage = Stage::set("objects", STEPS).await;
    let namespace = &stage.namespace;
    for (kind, name) in OBJECTS {
        assert!(object(namespace, kind, name).is_some(), "{kind} {name} is missing");
    }
    stage.rested().await;
    kubectl(&["-n", namespace, "wait", "canary/shop", "--for=condition=promoted", "--timeout=180s"]);
    kubectl(&["-n", namespace, "wait", "canary/shop", "--for=condition=ready", "--timeout=180s"]);
    let status = stage.status();
    assert_eq!(status["observedGeneration"], object(namespace, "canary", "shop").unwrap()["metadata"]["generation"]);
    assert!(stage.events().iter().any(|text| text.starts_with("Initialization done!")));
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_release_is_promoted_and_no_user_sees_an_error() {
    let stage = Stage::set("good", STEPS).await;
    let traffic = stage.traffic(50.0);
    stage.release(&Release::good("v2"));
    stage.phase("Succeeded").await;
    stage.rested().await;
    let tally = traffic.finish().await;
    println!("good release: {}", serde_json::to_string(&tally.summary()).unwrap());
    let (requests, failed) = tally.totals();
    assert_eq!((failed, tally.unsent), (0, 0), "of {requests}: {:?}", tally.summary());
    assert!(tally.of("v1").ok > 0 && tally.of("v2").ok > 0);
    assert!(stage.events().iter().any(|text| text.starts_with("Promotion completed!")), "{:?}", stage.events());
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_fails_everything_costs_a_handful_of_requests() {
    let stage = Stage::set("bad", STEPS).await;
    let traffic = stage.traffic(100.0);
    stage.release(&Release { arguments: &["--failure-ratio", "1"], ..Release::good("v2") });
    let status = stage.phase("Failed").await;
    stage.rested().await;
    let tally = traffic.finish().await;
    println!("bad release: {} ({})", serde_json::to_string(&tally.summary()).unwrap(), status["message"]);
    let (_, failed) = tally.totals();
    assert!(HARM.contains(&failed), "{failed} failed: {:?}", tally.summary());
    let promoted = status["conditions"].as_array().unwrap().iter().find(|it| it["type"] == "Promoted").unwrap();
    assert_eq!(promoted["status"], "False");
    // The user's object is not to blame for the workload: Flux goes on.
    kubectl(&["-n", &stage.namespace, "wait", "canary/shop", "--for=condition=ready", "--timeout=180s"]);
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_does_not_exist_is_taken_back_without_waiting_for_the_deadline() {
    let stage = Stage::set("image", STEPS).await;
    let traffic = stage.traffic(20.0);
    stage.release(&Release { image: Some("weir.test/no-such-image:1"), ..Release::good("v2") });
    let status = stage.phase("Failed").await;
    assert!(status["reason"].is_string());
    stage.rested().await;
    let tally = traffic.finish().await;
    assert_eq!(tally.totals().1, 0, "{:?}", tally.summary());
    let text = stage.events().join("\n");
    assert!(text.contains("will not come up"), "{text}");
    // The fix is analysed, not swallowed.
    let traffic = stage.traffic(50.0);
    stage.release(&Release::good("v3"));
    stage.phase("Succeeded").await;
    assert_eq!(traffic.finish().await.totals().1, 0);
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn installing_twice_changes_nothing_and_uninstalling_from_zero_replicas_leaves_no_trace() {
    let stage = Stage::set_alone("leaving", STEPS).await;
    install();
    let traffic = stage.traffic(20.0);
    stage.release(&Release::good("v2"));
    stage.phase("Succeeded").await;
    stage.rested().await;
    let (_, failed) = traffic.finish().await.totals();
    assert_eq!(failed, 0);
    // For maintenance: nobody is there who would give the traffic back.
    kubectl(&["-n", stage::SYSTEM, "scale", "deployment", "weir", "--replicas=0"]);
    kubectl(&[
        "-n",
        stage::SYSTEM,
        "wait",
        "pods",
        "-l",
        "app.kubernetes.io/name=weir",
        "--for=delete",
        "--timeout=60s",
    ]);
    run("helm", &["uninstall", "weir", "--namespace", stage::SYSTEM, "--wait", "--timeout", "5m"], "").unwrap();
    let serving = object(&stage.namespace, "deployment", "shop").unwrap();
    assert!(serving["status"]["availableReplicas"].as_i64() > Some(0), "the target does not serve: {serving}");
    let left = ["canaries", "envoyfilters", "virtualservices", "destinationrules"];
    let own = ["-l", "app.kubernetes.io/managed-by=weir", "-A", "-o", "name"];
    for kind in left {
        let arguments: Vec<&str> = ["get", kind].into_iter().chain(own).collect();
        until(&format!("no {kind} of Weir is left"), || kubectl(&arguments).is_empty().then_some(())).await;
    }
    kubectl(&["delete", "namespace", &stage.namespace, "--wait=false"]);
    install();
}
