//! What would not find the primary's pods, and a volume for a single writer, with the rights that the chart gives.

use super::STEPS;
use super::kubectl::{apply, kubectl, until};
use super::stage::{Release, Stage};

fn condition(stage: &Stage, kind: &str) -> String {
    stage.condition(kind).1
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_that_would_lose_the_primary_are_named_before_the_first_release() {
    let stage = Stage::bare("policies").await;
    let namespace = &stage.namespace;
    let metadata = format!("metadata: {{name: of-shop, namespace: {namespace}}}");
    let selector = "{matchLabels: {app: shop}}";
    apply(&format!(
        r#"
{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, {metadata}, spec: {{podSelector: {selector}, ingress: [{{}}], policyTypes: [Ingress]}}}}
---
{{apiVersion: policy/v1, kind: PodDisruptionBudget, {metadata}, spec: {{maxUnavailable: 1, selector: {selector}}}}}
---
{{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, {metadata}, spec: {{selector: {selector}, action: ALLOW, rules: [{{}}]}}}}
---
{{apiVersion: security.istio.io/v1, kind: PeerAuthentication, {metadata}, spec: {{selector: {selector}, mtls: {{mode: PERMISSIVE}}}}}}
---
{{apiVersion: networking.istio.io/v1, kind: Sidecar, {metadata}, spec: {{workloadSelector: {{labels: {{app: shop}}}}, egress: [{{hosts: ["*/*"]}}]}}}}
"#
    ));
    stage.initialize(STEPS).await;
    let kinds = ["NetworkPolicy", "PodDisruptionBudget", "AuthorizationPolicy", "PeerAuthentication", "Sidecar"];
    until("all of them are named", || {
        let message = condition(&stage, "Hazard");
        kinds.iter().all(|kind| message.contains(&format!("{kind} of-shop"))).then_some(())
    })
    .await;
    kubectl(&["-n", namespace, "wait", "canary/shop", "--for=condition=ready", "--timeout=180s"]);
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_for_a_single_writer_is_refused_until_somebody_accepts_it() {
    let stage = Stage::bare("volumes").await;
    let namespace = &stage.namespace;
    apply(&format!(
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: data, namespace: {namespace}}}\n\
         spec: {{storageClassName: none, accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Mi}}}}}}\n"
    ));
    stage.release(&Release::good("v1"));
    let volume = r#"[{"op": "add", "path": "/spec/template/spec/volumes/-", "value": {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}}]"#;
    kubectl(&["-n", namespace, "patch", "deployment", "shop", "--type=json", "-p", volume]);
    stage.canary(STEPS);
    until("it is refused", || (stage.status()["reason"] == "VolumeShared").then_some(())).await;
    assert!(condition(&stage, "Stalled").contains("PersistentVolumeClaim data"));
    assert!(super::object(namespace, "deployment", "shop-primary").is_none());
    kubectl(&["-n", namespace, "annotate", "canary", "shop", "weir.dev/shared-volumes=true"]);
    until("the primary is made", || super::object(namespace, "deployment", "shop-primary")).await;
    kubectl(&["delete", "namespace", namespace, "--wait=false"]);
}
