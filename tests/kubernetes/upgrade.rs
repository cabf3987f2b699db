//! An older Weir's objects, and today's Weir over them, under load: no pod of a primary is restarted, no Canary that worked is
//! stalled, and no request is lost.
//!
//! The objects are as the Weir of f19ce8d wrote them: primaries without a note of their rendering, whose affinity speaks of the
//! target, filters that are on for every request, and statuses without what is younger.

use serde_json::{Value, json};

use super::kubectl::{kubectl, object, run, until};
use super::stage::{Release, SYSTEM, Stage, install};
use super::{ONE_STEP, STEPS};

/// No controller for as long as this value lives; the newest one afterwards, for the next test.
struct Away;

impl Away {
    async fn now() -> Self {
        kubectl(&["-n", SYSTEM, "scale", "deployment", "weir", "--replicas=0"]);
        let pods = ["-n", SYSTEM, "get", "pods", "-l", "app.kubernetes.io/name=weir", "-o", "name"];
        until("the controller is gone", || kubectl(&pods).is_empty().then_some(())).await;
        Self
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        install();
        kubectl(&["-n", SYSTEM, "scale", "deployment", "weir", "--replicas=1"]);
        kubectl(&["-n", SYSTEM, "rollout", "status", "deployment/weir", "--timeout=360s"]);
    }
}

/// Has the target's pods be together with each other, where they can.
fn together(namespace: &str) {
    let affinity = json!({"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
        "weight": 1, "podAffinityTerm": {"labelSelector": {"matchLabels": {"app": "shop"}}, "topologyKey": "kubernetes.io/hostname"},
    }]}});
    let patch = json!({"spec": {"template": {"spec": {"affinity": affinity}}}}).to_string();
    kubectl(&["-n", namespace, "patch", "deployment", "shop", "--type=merge", "-p", &patch]);
}

/// Writes a primary as the older Weir did, and waits until its pods are those of that.
async fn older_primary(namespace: &str) {
    let live = object(namespace, "deployment", "shop-primary").unwrap();
    let target = object(namespace, "deployment", "shop").unwrap();
    let mut spec = live["spec"].clone();
    spec["template"]["spec"]["affinity"] = target["spec"]["template"]["spec"]["affinity"].clone();
    let metadata = json!({
        "name": "shop-primary", "namespace": namespace, "labels": live["metadata"]["labels"],
        "ownerReferences": live["metadata"]["ownerReferences"],
    });
    let wanted = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec});
    let apply = ["apply", "--server-side", "--force-conflicts", "--field-manager=weir", "-f", "-"];
    run("kubectl", &apply, &format!("---\n{wanted}")).unwrap_or_else(|error| panic!("{error}"));
    kubectl(&["-n", namespace, "rollout", "status", "deployment/shop-primary", "--timeout=360s"]);
    let pods = ["-n", namespace, "get", "pods", "-l", "app=shop-primary", "-o", "name"];
    until("its former pods are gone", || (kubectl(&pods).lines().count() == 1).then_some(())).await;
}

fn filter() -> Value {
    let own = ["-n", "istio-ingress", "get", "envoyfilters", "-l", "app.kubernetes.io/managed-by=weir", "-o", "json"];
    let list: Value = serde_json::from_str(&kubectl(&own)).unwrap();
    let mut all = list["items"].as_array().cloned().unwrap_or_default().into_iter();
    let inserts = |it: &Value| it["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("weir-filter-"));
    all.find(inserts).unwrap_or_default()
}

/// Returns whether the filter of the ingress gateway is off but where routes switch it on, as no older Weir has it.
pub(crate) fn is_off_by_itself() -> Option<()> {
    (filter()["spec"]["configPatches"][0]["patch"]["value"]["disabled"] == true).then_some(())
}

/// Has the filter on for every request, as the older Weir had.
fn older_filter() {
    let name = filter()["metadata"]["name"].as_str().unwrap().to_owned();
    let remove = r#"[{"op": "remove", "path": "/spec/configPatches/0/patch/value/disabled"}]"#;
    kubectl(&["-n", "istio-ingress", "patch", "envoyfilter", &name, "--type=json", "-p", remove]);
}

/// Takes out of the Canary's status what the older Weir did not know.
fn older_status(namespace: &str) {
    let canary = object(namespace, "canary", "shop").unwrap();
    let mut state: Value = serde_json::from_str(canary["status"]["state"].as_str().unwrap()).unwrap();
    for (of, fields) in [
        ("/run", &["window_retired_warm", "window_kept", "undecided"][..]),
        ("/traffic", &["only_matched", "fallback", "filter"]),
    ] {
        if let Some(map) = state.pointer_mut(of).and_then(Value::as_object_mut) {
            fields.iter().for_each(|field| drop(map.remove(*field)));
        }
    }
    let patch = json!({"status": {"state": state.to_string()}}).to_string();
    kubectl(&["-n", namespace, "patch", "canary", "shop", "--subresource=status", "--type=merge", "-p", &patch]);
}

/// Returns the versions of the primary's Deployment, and its pods.
fn primary(namespace: &str) -> Vec<String> {
    let own = ["-n", namespace, "get", "replicasets,pods", "-l", "app=shop-primary", "-o", "name"];
    let mut names: Vec<String> = kubectl(&own).lines().map(str::to_owned).collect();
    names.sort();
    names
}

fn stalled(stage: &Stage) -> bool {
    let conditions = stage.status()["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == "Stalled" && condition["status"] == "True")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_over_a_canary_at_rest_restarts_no_pod_stalls_nothing_and_loses_no_request() {
    let stage = Stage::bare_alone("upgraded").await;
    let namespace = stage.namespace.clone();
    stage.release(&Release::good("v1"));
    together(&namespace);
    stage.canary(ONE_STEP);
    stage.phase("Initialized").await;
    stage.rested().await;
    let away = Away::now().await;
    older_primary(&namespace).await;
    older_filter();
    older_status(&namespace);
    stage.reachable().await;
    let before = primary(&namespace);
    let traffic = stage.traffic(50.0);
    drop(away);
    until("the new Weir has written", is_off_by_itself).await;
    // Its first release begins: whatever it does to a Canary at rest it has done.
    stage.release_into_traffic(&Release::good("v2")).await;
    assert!(!stalled(&stage), "{:#}", stage.status());
    assert_eq!(primary(&namespace), before, "its pods were replaced by the upgrade");
    stage.phase("Succeeded").await;
    stage.rested().await;
    let tally = traffic.finish().await;
    assert_eq!((tally.totals().1, tally.unsent), (0, 0), "{:?}", tally.summary());
    assert_ne!(primary(&namespace), before);
    // What is rendered otherwise has come with the promotion.
    let live = object(&namespace, "deployment", "shop-primary").unwrap();
    assert!(live["metadata"]["annotations"]["weir.dev/rendering"].is_string(), "{:#}", live["metadata"]);
    assert!(live["spec"]["template"]["spec"]["affinity"].to_string().contains("shop-primary"));
    stage.strike();
}

#[cfg(feature = "kubernetes-full")]
#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_in_mid_rollout_goes_on_where_it_stood() {
    let stage = Stage::bare_alone("midway").await;
    let namespace = stage.namespace.clone();
    stage.release(&Release::good("v1"));
    together(&namespace);
    stage.canary("{interval: 20s, threshold: 2, stepWeights: [20, 50]}");
    stage.phase("Initialized").await;
    stage.rested().await;
    let traffic = stage.traffic(50.0);
    stage.release_into_traffic(&Release::good("v2")).await;
    let away = Away::now().await;
    older_primary(&namespace).await;
    older_filter();
    older_status(&namespace);
    let before = primary(&namespace);
    let run = |stage: &Stage| {
        let state: Value = serde_json::from_str(stage.status()["state"].as_str().unwrap()).unwrap();
        state["run"]["id"].clone()
    };
    let began = run(&stage);
    drop(away);
    until("the new Weir has written", is_off_by_itself).await;
    until("it goes on", || {
        let status = stage.status();
        assert_ne!(status["phase"], "Failed", "{status:#}");
        (status["canaryWeight"].as_f64() == Some(50.0)).then_some(())
    })
    .await;
    assert!(!stalled(&stage), "{:#}", stage.status());
    assert_eq!((run(&stage), primary(&namespace)), (began, before));
    stage.phase("Succeeded").await;
    stage.rested().await;
    let tally = traffic.finish().await;
    assert_eq!((tally.totals().1, tally.unsent), (0, 0), "{:?}", tally.summary());
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_that_serves_at_another_port_is_promoted_without_a_lost_request() {
    let stage = Stage::set("moved", STEPS).await;
    let namespace = stage.namespace.clone();
    let traffic = stage.traffic(50.0);
    let port = r#"{"spec": {"service": {"targetPort": 9090}}}"#;
    kubectl(&["-n", &namespace, "patch", "canary", "shop", "--type=merge", "-p", port]);
    let target = object(&namespace, "deployment", "shop").unwrap();
    let container = &target["spec"]["template"]["spec"]["containers"][0];
    let arguments: Vec<String> = container["args"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap().replace("8080", "9090").replace("v1", "v2"))
        .collect();
    let patch = json!([
        {"op": "replace", "path": "/spec/template/spec/containers/0/args", "value": arguments},
        {"op": "replace", "path": "/spec/template/spec/containers/0/readinessProbe/httpGet/port", "value": 9090},
    ]);
    kubectl(&["-n", &namespace, "patch", "deployment", "shop", "--type=json", "-p", &patch.to_string()]);
    stage.phase("Succeeded").await;
    stage.rested().await;
    let tally = traffic.finish().await;
    assert_eq!((tally.totals().1, tally.unsent), (0, 0), "{:?}", tally.summary());
    assert!(tally.of("v2").ok > 0);
    for service in ["shop", "shop-primary", "shop-canary"] {
        let live = object(&namespace, "service", service).unwrap();
        assert_eq!(live["spec"]["ports"][0]["targetPort"], 9090, "{service}");
    }
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_cannot_keep_a_pod_is_promoted_without_a_lost_request() {
    let stage = Stage::set("recreated", STEPS).await;
    let namespace = stage.namespace.clone();
    let traffic = stage.traffic(50.0);
    let patch = |plural: &str, patch: &str| {
        kubectl(&["-n", &namespace, "patch", plural, "shop", "--type=merge", "-p", patch]);
    };
    patch("deployment", r#"{"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}}"#);
    for (version, skips) in [("v2", false), ("v3", true)] {
        patch("canary", &format!(r#"{{"spec": {{"skipAnalysis": {skips}}}}}"#));
        stage.release(&Release::good(version));
        until(&format!("{version} is in production"), || {
            let primary = object(&namespace, "deployment", "shop-primary")?;
            let runs = primary["spec"]["template"]["spec"]["containers"][0]["args"].to_string().contains(version);
            assert!(!runs || primary["spec"]["strategy"]["type"] == "Recreate", "{primary:#}");
            (runs && stage.status()["phase"] == "Succeeded").then_some(())
        })
        .await;
        stage.rested().await;
    }
    let tally = traffic.finish().await;
    assert_eq!((tally.totals().1, tally.unsent), (0, 0), "{:?}", tally.summary());
    assert!(["v2", "v3"].iter().all(|version| tally.of(version).ok > 0), "{:?}", tally.summary());
    stage.strike();
}
