//! Autoscalers. No metrics are served in these tests: an autoscaler then keeps its workload within its bounds, which is enough
//! to see who sizes what.

use serde_json::{Value, json};

use super::STEPS;
use super::kubectl::{apply, kubectl, object, until};
use super::stage::{Release, Stage};

fn scaler(namespace: &str, most: u32) {
    apply(&format!(
        r#"
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {{name: shop, namespace: {namespace}}}
spec:
  scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: shop}}
  minReplicas: 2
  maxReplicas: {most}
  metrics: [{{type: Resource, resource: {{name: cpu, target: {{type: Utilization, averageUtilization: 80}}}}}}]
"#
    ));
}

fn replicas(namespace: &str, name: &str) -> Value {
    object(namespace, "deployment", name).unwrap()["spec"]["replicas"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_primary_is_sized_by_its_own_autoscaler_and_by_no_promotion() {
    let stage = Stage::set("scaling", &STEPS.replace("interval: 2s", "interval: 8s")).await;
    let namespace = &stage.namespace;
    let twin = || object(namespace, "hpa", "shop-primary");
    let most = || twin().map(|twin| twin["spec"]["maxReplicas"].clone());
    scaler(namespace, 4);
    let reference = r#"{"spec": {"autoscalerRef": {"kind": "HorizontalPodAutoscaler", "name": "shop"}}}"#;
    kubectl(&["-n", namespace, "patch", "canary", "shop", "--type=merge", "-p", reference]);
    let made = until("the primary's autoscaler", &twin).await;
    assert_eq!(made["spec"]["scaleTargetRef"]["name"], "shop-primary");
    assert_eq!(made["spec"]["maxReplicas"], 4);
    assert_eq!(made["metadata"]["ownerReferences"][0]["kind"], "Canary");
    until("the primary is given its least", || (replicas(namespace, "shop-primary") == 2).then_some(())).await;
    scaler(namespace, 5);
    until("at rest the twin follows", || (most() == Some(json!(5))).then_some(())).await;

    let traffic = stage.traffic(50.0);
    stage.release(&Release::good("v2"));
    until("the canary gets the least of its autoscaler", || (replicas(namespace, "shop") == 2).then_some(())).await;
    scaler(namespace, 6);
    let during = until("analysis is under way", || {
        // Read before the status that says that it was of the analysis.
        let most = most();
        let status = stage.status();
        (status["phase"] == "Progressing" && status["canaryWeight"].as_f64() > Some(10.0)).then_some(most)
    })
    .await;
    assert_eq!(during, Some(json!(5)), "the twin changed during the analysis");
    stage.phase("Succeeded").await;
    stage.rested().await;
    let tally = traffic.finish().await;
    assert_eq!(tally.totals().1, 0, "{:?}", tally.summary());
    assert_eq!(most(), Some(json!(6)));
    assert_eq!(replicas(namespace, "shop-primary"), 2);
    let fields = ["-n", namespace, "get", "deployment", "shop-primary", "-o", "json", "--show-managed-fields"];
    let primary: Value = serde_json::from_str(&kubectl(&fields)).unwrap();
    let owners = primary["metadata"]["managedFields"].as_array().unwrap().iter();
    let owners: Vec<_> = owners.filter(|it| it["fieldsV1"]["f:spec"]["f:replicas"].is_object()).collect();
    assert!(owners.iter().all(|owner| owner["manager"] != "weir"), "{owners:?}");

    let none = r#"{"spec": {"autoscalerRef": null}}"#;
    kubectl(&["-n", namespace, "patch", "canary", "shop", "--type=merge", "-p", none]);
    until("the twin goes with the reference", || twin().is_none().then_some(())).await;
    assert_eq!(replicas(namespace, "shop-primary"), 2);
    stage.strike();
}
