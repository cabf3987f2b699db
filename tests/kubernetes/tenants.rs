//! Gateways that are found otherwise than by a selector in an allowed namespace, hosts of other tenants, and hands on Weir's filter.

use serde_json::Value;

use super::STEPS;
use super::kubectl::{apply, kubectl, run, until};
use super::stage::{Release, Stage};

/// What the condition `GatewayBound` of the Canary says.
fn bound(stage: &Stage) -> (String, String) {
    stage.condition("GatewayBound")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_without_a_selector_is_released_through_every_gateway() {
    let stage = Stage::set_alone("everygateway", STEPS).await;
    let patch = r#"[{"op": "remove", "path": "/spec/selector"}]"#;
    kubectl(&["-n", &stage.namespace, "patch", "gateway", "public", "--type", "json", "-p", patch]);
    let traffic = stage.traffic(40.0);
    stage.release(&Release::good("v2"));
    let status = stage.phase("Succeeded").await;
    let tally = traffic.finish().await;
    assert_eq!(tally.totals().1, 0, "{:?}", tally.summary());
    assert!(status["evidence"]["canaryRequests"].as_u64().unwrap_or_default() > 0, "{status}");
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_with_a_gateways_labels_in_a_tenants_namespace_is_named_and_holds_nobody() {
    let stage = Stage::set_alone("faker", STEPS).await;
    let tenant = format!("{}-tenant", stage.namespace);
    let _ = run("kubectl", &["delete", "namespace", &tenant, "--ignore-not-found", "--wait"], "");
    kubectl(&["create", "namespace", &tenant]);
    until("it has its account", || run("kubectl", &["-n", &tenant, "get", "serviceaccount", "default"], "").ok()).await;
    let image = super::stage::variable("WEIR_DEMO_IMAGE");
    apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata:
  name: fake
  namespace: {tenant}
  labels: {{istio: ingressgateway, sidecar.istio.io/inject: "false"}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{{name: c, image: {image}, imagePullPolicy: IfNotPresent, args: [serve, --address, 0.0.0.0, --port, "15020"]}}]
"#
    ));
    kubectl(&["-n", &tenant, "wait", "pod/fake", "--for=condition=Ready", "--timeout=180s"]);
    let fake = format!("{tenant}/fake");
    until("the pod is named with what to do", || {
        let (reason, message) = bound(&stage);
        (reason == "PodsElsewhere" && message.contains(&fake) && message.contains("weir.dev/gateways=allowed"))
            .then_some(())
    })
    .await;
    let traffic = stage.traffic(40.0);
    stage.release(&Release::good("v2"));
    stage.phase("Succeeded").await;
    assert_eq!(traffic.finish().await.totals().1, 0);
    assert_eq!(kubectl(&["-n", &tenant, "get", "envoyfilters", "-o", "name"]), "", "nothing is written there");
    kubectl(&["delete", "namespace", &tenant, "--wait=false"]);
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_adds_to_weirs_filter_by_hand_is_taken_out_again() {
    let stage = Stage::set_alone("hands", STEPS).await;
    let traffic = stage.traffic(40.0);
    stage.release(&Release::good("v2"));
    let of_weir =
        ["-n", "istio-ingress", "get", "envoyfilters", "-l", "app.kubernetes.io/managed-by=weir", "-o", "json"];
    let filters = || -> Value { serde_json::from_str(&kubectl(&of_weir)).unwrap() };
    let by_hand = |filter: &Value| filter.to_string().contains("by-hand");
    for filter in filters()["items"].as_array().unwrap() {
        let name = filter["metadata"]["name"].as_str().unwrap();
        let patch = r#"[{"op": "add", "path": "/spec/configPatches/0/patch/value/by-hand", "value": true},
                        {"op": "add", "path": "/metadata/labels/team", "value": "edge"}]"#;
        kubectl(&["-n", "istio-ingress", "patch", "envoyfilter", name, "--type", "json", "-p", patch]);
    }
    until("both objects are as they were, with the labels of others", || {
        let filters = filters();
        let items = filters["items"].as_array().unwrap();
        let so = |filter: &Value| !by_hand(filter) && filter["metadata"]["labels"]["team"] == "edge";
        (!items.is_empty() && items.iter().all(so)).then_some(())
    })
    .await;
    stage.phase("Succeeded").await;
    assert_eq!(traffic.finish().await.totals().1, 0);
    stage.strike();
}
