//! Weir's chart as a HelmRelease, on a cluster that has never seen Weir.

use super::super::kubectl::{apply, kubectl, run, until};
use super::{Fork, knows_callers, release_is_ready, without_callers};

/// As docs/flux.md has it, with this cluster's image.
fn release() -> String {
    let page = std::fs::read_to_string(super::root().join("docs/flux.md")).unwrap();
    let block = page.split("```yaml\n").find(|block| block.contains("kind: HelmRelease")).unwrap();
    let (repository, tag) =
        super::variable("WEIR_IMAGE").rsplit_once(':').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let yaml = block.split("```").next().unwrap();
    format!("{yaml}  values: {{image: {{repository: {repository}, tag: \"{tag}\"}}}}\n")
}

/// Has the cluster serve Istio's kinds as an Istio before 1.22 does.
fn only_v1beta1() {
    for kind in [
        "gateways",
        "virtualservices",
        "destinationrules",
        "sidecars",
        "serviceentries",
        "workloadentries",
        "workloadgroups",
    ] {
        let definition = format!("{kind}.networking.istio.io");
        let text = kubectl(&["get", "crd", &definition, "-o", "json"]);
        let text: serde_json::Value = serde_json::from_str(&text).unwrap();
        let versions = text["spec"]["versions"].as_array().unwrap();
        let at = versions.iter().position(|it| it["name"] == "v1").unwrap();
        let patch = format!(r#"[{{"op": "replace", "path": "/spec/versions/{at}/served", "value": false}}]"#);
        kubectl(&["patch", "crd", &definition, "--type=json", "-p", &patch]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn helm_controller_installs_weir_from_git_and_replaces_an_older_definition() {
    assert!(run("kubectl", &["get", "crd", "canaries.weir.dev"], "").is_err(), "this cluster has seen Weir");
    // Weir watches Istio's kinds.
    let istio = format!("{}/istio/base/files/crd-all.gen.yaml", std::env::var("WEIR_CLUSTER_CACHE").unwrap());
    kubectl(&["apply", "--server-side", "-f", &istio]);
    only_v1beta1();
    let clone = Fork::of("weir");
    clone.copy("manifests/chart", "manifests");
    // A link is left out of the artifact, and harms nobody.
    clone.shell("ln -s chart/Chart.yaml manifests/link");
    without_callers(&clone.path().join("manifests/chart"));
    clone.push("An older Weir");
    clone.read_by_flux("weir", None);
    apply("{apiVersion: v1, kind: Namespace, metadata: {name: weir-system}}");
    apply(&release());
    let first = release_is_ready("weir-system", "weir").await;
    kubectl(&["-n", "weir-system", "rollout", "status", "deployment/weir", "--timeout=60s"]);
    assert!(!knows_callers(), "the older definition has no such field");
    // A Canary of the older definition, at rest while the definition is replaced.
    let image = super::variable("WEIR_DEMO_IMAGE");
    kubectl(&[
        "create",
        "deployment",
        "shop",
        "--image",
        &image,
        "--",
        "/weir-demo",
        "serve",
        "--address",
        "0.0.0.0",
        "--port",
        "8080",
    ]);
    apply(
        "{apiVersion: weir.dev/v1beta1, kind: Canary, metadata: {name: shop, namespace: default}, spec: {targetRef: {kind: Deployment, name: shop}, \
         service: {port: 8080}, analysis: {stepWeight: 10}}}",
    );
    kubectl(&["wait", "canary.weir.dev/shop", "--for=condition=promoted", "--timeout=90s"]);
    let routes = kubectl(&["get", "virtualservices.v1beta1.networking.istio.io", "shop", "-o", "name"]);
    assert_eq!(routes, "virtualservice.networking.istio.io/shop");
    let uid = || kubectl(&["get", "canary.weir.dev", "shop", "-o", "jsonpath={.metadata.uid}"]);
    let before = uid();
    clone.copy("manifests/chart", "manifests");
    clone.push("Today's Weir");
    until("the definition is today's", || knows_callers().then_some(())).await;
    let upgraded = release_is_ready("weir-system", "weir").await;
    let history = |release: &serde_json::Value| release["status"]["history"][0]["version"].as_u64();
    assert_eq!((history(&first), history(&upgraded)), (Some(1), Some(2)), "{:#}", upgraded["status"]["history"]);
    assert_eq!(uid(), before, "a replaced definition keeps its objects");
    kubectl(&["-n", "weir-system", "rollout", "status", "deployment/weir", "--timeout=60s"]);
    kubectl(&["delete", "canary.weir.dev", "shop", "--wait"]);
}
