//! Services that already serve when their Canary comes, and go on serving when it goes.

use serde_json::{Value, json};

use super::STEPS;
use super::kubectl::{apply, kubectl, object, run, until};
use super::stage::{Release, Stage};

/// What a user has in Git: both objects as they were before Weir.
fn before(stage: &Stage) -> [Value; 2] {
    let Stage { namespace, .. } = stage;
    let host = stage.host();
    apply(&format!(
        r#"
apiVersion: v1
kind: Service
metadata: {{name: shop, namespace: {namespace}, labels: {{team: checkout}}}}
spec: {{selector: {{app: shop}}, ports: [{{name: web, port: 80, targetPort: 8080}}]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: shop, namespace: {namespace}, labels: {{app.kubernetes.io/managed-by: Helm}}}}
spec:
  hosts: [{host}]
  gateways: [public]
  http: [{{name: mine, timeout: 20s, route: [{{destination: {{host: shop}}}}]}}]
"#
    ));
    both(stage)
}

fn both(stage: &Stage) -> [Value; 2] {
    ["service", "virtualservice"].map(|kind| object(&stage.namespace, kind, "shop").unwrap_or_default())
}

/// What of the two objects a user would compare with Git.
fn gist([service, routes]: &[Value; 2]) -> Value {
    let metadata = |object: &Value| {
        let of = &object["metadata"];
        let mut annotations = of["annotations"].as_object().cloned().unwrap_or_default();
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        json!({"labels": of["labels"], "annotations": annotations, "owners": of["ownerReferences"]})
    };
    json!([metadata(service), service["spec"]["selector"], service["spec"]["ports"], metadata(routes), routes["spec"],])
}

/// Starts a service that is released by nobody yet, and waits until requests reach it.
async fn serving(name: &str) -> (Stage, Value) {
    let stage = Stage::bare(name).await;
    stage.release(&Release::good("v1"));
    let before = gist(&before(&stage));
    kubectl(&["-n", &stage.namespace, "rollout", "status", "deployment/shop", "--timeout=360s"]);
    stage.reachable().await;
    (stage, before)
}

async fn gone(stage: &Stage) {
    until("the Canary is gone", || object(&stage.namespace, "canary", "shop").is_none().then_some(())).await;
    until("the primary is gone", || {
        let pods = ["-n", &stage.namespace, "get", "pods", "-l", "app=shop-primary", "-o", "name"];
        let deployment = object(&stage.namespace, "deployment", "shop-primary");
        (deployment.is_none() && kubectl(&pods).is_empty()).then_some(())
    })
    .await;
}

fn delete(stage: &Stage) {
    kubectl(&["-n", &stage.namespace, "delete", "canary", "shop", "--wait=false"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_serves_is_adopted_released_and_given_back_without_a_lost_request() {
    let (stage, before) = serving("adopted").await;
    let traffic = stage.traffic(50.0);
    stage.canary_with("revertOnDeletion: true", STEPS);
    stage.phase("Initialized").await;
    stage.rested().await;
    let [service, routes] = both(&stage);
    for object in [&service, &routes] {
        let metadata = &object["metadata"];
        assert!(metadata["ownerReferences"].is_null(), "would be deleted with its Canary: {metadata}");
        assert_eq!(metadata["annotations"]["kustomize.toolkit.fluxcd.io/reconcile"], "disabled");
        assert_eq!(metadata["annotations"]["helm.toolkit.fluxcd.io/driftDetection"], "disabled");
        assert!(metadata["annotations"]["weir.dev/original"].is_string());
    }
    assert_eq!(service["spec"]["selector"], json!({"app": "shop-primary"}));
    stage.release(&Release::good("v2"));
    stage.phase("Succeeded").await;
    stage.rested().await;
    let tally = traffic.finish().await;
    println!("adopted and released: {}", serde_json::to_string(&tally.summary()).unwrap());
    assert_eq!((tally.totals().1, tally.unsent), (0, 0), "{:?}", tally.summary());
    assert!(tally.of("v1").ok > 0 && tally.of("v2").ok > 0);
    let traffic = stage.traffic(50.0);
    delete(&stage);
    gone(&stage).await;
    let tally = traffic.finish().await;
    println!("given back: {}", serde_json::to_string(&tally.summary()).unwrap());
    assert_eq!((tally.totals().1, tally.unsent), (0, 0), "{:?}", tally.summary());
    assert_eq!(gist(&both(&stage)), before);
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_adopted_outlives_a_canary_that_is_deleted_in_mid_rollout() {
    let (stage, before) = serving("cut").await;
    stage.canary(STEPS);
    stage.phase("Initialized").await;
    stage.rested().await;
    let traffic = stage.traffic(50.0);
    stage.release(&Release::good("v2"));
    until("the canary has requests", || (stage.status()["canaryWeight"].as_f64() >= Some(30.0)).then_some(())).await;
    delete(&stage);
    gone(&stage).await;
    let tally = traffic.finish().await;
    println!("deleted at weight 30: {}", serde_json::to_string(&tally.summary()).unwrap());
    assert_eq!((tally.totals().1, tally.unsent), (0, 0), "{:?}", tally.summary());
    assert_eq!(gist(&both(&stage)), before);
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_reverts_leaves_routes_to_the_target_where_weir_made_them() {
    let stage = Stage::set("reverted", STEPS).await;
    stage.canary_with("revertOnDeletion: true", STEPS);
    let traffic = stage.traffic(50.0);
    stage.release(&Release::good("v2"));
    until("the canary has requests", || (stage.status()["canaryWeight"].as_f64() >= Some(10.0)).then_some(())).await;
    delete(&stage);
    gone(&stage).await;
    let [service, routes] = both(&stage);
    for object in [&service, &routes] {
        assert!(object["metadata"]["ownerReferences"].is_null(), "{}", object["metadata"]);
        assert!(object["metadata"]["labels"].is_null(), "{}", object["metadata"]);
    }
    assert_eq!(service["spec"]["selector"], json!({"app": "shop"}));
    assert_eq!(routes["spec"]["http"][0]["route"][0]["destination"]["host"], "shop");
    for kind in ["services", "destinationrules"] {
        let left = kubectl(&["-n", &stage.namespace, "get", kind, "-o", "name", "-l", "weir.dev/canary=shop"]);
        assert_eq!(left, "", "{kind}");
    }
    let tally = traffic.finish().await;
    println!("reverted: {}", serde_json::to_string(&tally.summary()).unwrap());
    assert_eq!((tally.totals().1, tally.unsent), (0, 0), "{:?}", tally.summary());
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_does_not_revert_takes_away_what_weir_made_and_nothing_else() {
    let stage = Stage::set("owned", STEPS).await;
    delete(&stage);
    gone(&stage).await;
    for kind in ["service", "virtualservice"] {
        until(&format!("the {kind} is gone"), || object(&stage.namespace, kind, "shop").is_none().then_some(())).await;
    }
    let target = object(&stage.namespace, "deployment", "shop").unwrap();
    assert!(target["status"]["availableReplicas"].as_i64() > Some(0), "{}", target["status"]);
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_adopted_is_given_back_though_the_target_is_gone() {
    let (stage, before) = serving("orphan").await;
    stage.canary(STEPS);
    stage.phase("Initialized").await;
    stage.rested().await;
    kubectl(&["-n", &stage.namespace, "delete", "deployment", "shop", "--wait"]);
    run("kubectl", &["-n", &stage.namespace, "delete", "canary", "shop", "--wait", "--timeout=180s"], "").unwrap();
    assert_eq!(gist(&both(&stage)), before);
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_that_also_lead_elsewhere_are_not_adopted_and_the_status_says_what_to_do() {
    let stage = Stage::bare("elsewhere").await;
    let Stage { namespace, .. } = &stage;
    stage.release(&Release::good("v1"));
    before(&stage);
    let more = r#"[{"op": "add", "path": "/spec/http/0", "value":
        {"match": [{"uri": {"prefix": "/other"}}], "route": [{"destination": {"host": "other.else.svc.cluster.local"}}]}}]"#;
    kubectl(&["-n", namespace, "patch", "virtualservice", "shop", "--type", "json", "-p", more]);
    let untouched = gist(&both(&stage));
    stage.canary(STEPS);
    let stalled = until("the status says that it cannot be", || {
        let status = stage.status();
        status["conditions"].as_array()?.iter().find(|it| it["type"] == "Stalled").cloned()
    })
    .await;
    assert_eq!(stalled["reason"], "RoutesElsewhere", "{stalled}");
    let message = stalled["message"].as_str().unwrap();
    assert!(message.contains("other.else") && message.contains("service.delegation"), "{message}");
    assert!(object(namespace, "deployment", "shop-primary").is_none(), "something was made");
    assert_eq!(gist(&both(&stage)), untouched);
    // Done as it says.
    let less = r#"[{"op": "remove", "path": "/spec/http/0"}]"#;
    kubectl(&["-n", namespace, "patch", "virtualservice", "shop", "--type", "json", "-p", less]);
    stage.phase("Initialized").await;
    stage.strike();
}
