//! Weir's chart as a HelmRelease, on a cluster that has never seen Weir.

use super::super::kubectl::{apply, kubectl, object, run, until};
use super::{Fork, WORLD, condition, knows_callers, release_is_ready, without_callers};

/// As docs/flux.md has it, from a repository of this cluster's: the chart's own image, which it was given under that name.
fn release() -> String {
    let page = std::fs::read_to_string(super::root().join("docs/flux.md")).unwrap();
    let block = page.split("```yaml\n").find(|block| block.contains("kind: HelmRelease")).unwrap();
    let (page, here) = (
        "url: https://github.com/weir-dev/weir\n  ref: {semver: 0.x}",
        format!("url: http://{WORLD}/git/weir.git\n  ref: {{branch: main}}"),
    );
    assert!(block.contains(page), "{block}");
    block.split("```").next().unwrap().replace(page, &here)
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

/// Of the two this cluster has one, as one in which the gateway is beside istiod.
fn a_default_namespace_of_gateways_that_the_cluster_lacks_is_left_out() {
    apply("{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}");
    let chart = super::root().join("manifests/chart");
    let install = |values: &str| {
        let arguments =
            ["install", "some", chart.to_str().unwrap(), "--namespace", "default", "--skip-crds", "--set", values];
        run("helm", &arguments, "")
    };
    install("watchNamespaces={default}").unwrap();
    for part in ["manifest", "hooks"] {
        let text = run("helm", &["get", part, "some", "--namespace", "default"], "").unwrap();
        assert!(text.contains("namespace: istio-system") && !text.contains("istio-ingress"), "{part}: {text}");
    }
    run("helm", &["uninstall", "some", "--namespace", "default", "--no-hooks", "--wait"], "").unwrap();
    // What is named is meant.
    let said = install("watchNamespaces={default},gatewayNamespaces={istio-ingress}").unwrap_err();
    assert!(said.contains("istio-ingress"), "{said}");
    run("helm", &["uninstall", "some", "--namespace", "default", "--no-hooks", "--wait"], "").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn helm_controller_installs_weir_from_git_and_replaces_an_older_definition() {
    assert!(run("kubectl", &["get", "crd", "canaries.weir.dev"], "").is_err(), "this cluster has seen Weir");
    // Weir watches Istio's kinds.
    let istio = format!("{}/istio/base/files/crd-all.gen.yaml", std::env::var("WEIR_CLUSTER_CACHE").unwrap());
    kubectl(&["apply", "--server-side", "-f", &istio]);
    only_v1beta1();
    a_default_namespace_of_gateways_that_the_cluster_lacks_is_left_out();
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
    flux_waits_for_releases(&clone, &image).await;
}

/// The Kustomization of docs/flux.md that waits for a release: at every look Flux says of a push what Weir says of the revision.
async fn flux_waits_for_releases(clone: &Fork, image: &str) {
    let page = std::fs::read_to_string(super::root().join("docs/flux.md")).unwrap();
    let block = page.split("```yaml\n").find(|block| block.contains("healthCheckExprs")).unwrap();
    let kustomization = block.split("```").next().unwrap().replace("name: flux-system}", "name: weir}");
    let push = |image: &str, version: &str| {
        let folder = clone.path().join("apps");
        std::fs::create_dir_all(&folder).unwrap();
        let deployment = format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: cart, namespace: default}}\nspec:\n  selector: {{matchLabels: {{app: \
             cart}}}}\n  template:\n    metadata: {{labels: {{app: cart}}}}\n    spec: {{containers: [{{name: cart, image: '{image}', \
             imagePullPolicy: IfNotPresent, args: [serve, --address, 0.0.0.0, --port, '8080', --version, {version}]}}]}}\n"
        );
        std::fs::write(folder.join("deployment.yaml"), deployment).unwrap();
        let canary = "apiVersion: weir.dev/v1beta1\nkind: Canary\nmetadata: {name: cart, namespace: default}\nspec: {targetRef: {kind: Deployment, \
                      name: cart}, service: {port: 8080}, skipAnalysis: true, progressDeadlineSeconds: 30, analysis: {stepWeight: 10}}\n";
        std::fs::write(folder.join("canary.yaml"), canary).unwrap();
        clone.push(version)
    };
    let mut revision = push(image, "v1");
    apply(&kustomization);
    for (version, ends) in [("v1", "True"), ("v2", "True"), ("v3", "True"), ("v4", "False"), ("v5", "True")] {
        if version != "v1" {
            // One of them is a revision whose image does not exist.
            let image = if ends == "True" { image } else { "weir.test/no-such-image:1" };
            revision = push(image, version);
        }
        let (said, message) = until(&format!("Flux has an opinion of {version}"), || {
            let of = object("flux-system", "kustomization", "apps")?;
            let seen = of["status"]["lastAttemptedRevision"] == revision.as_str();
            let (ready, message) = condition(&of, "Ready");
            // What failed is tried again.
            let over = ready == "False" || ready == "True" && condition(&of, "Reconciling").0 != "True";
            (seen && over).then_some((ready, message))
        })
        .await;
        let canary = object("default", "canary", "cart").unwrap_or_else(|| panic!("Flux of {version}: {message}"));
        let primary = object("default", "deployment", "cart-primary").unwrap()["spec"]["template"].to_string();
        assert_eq!(
            (said.as_str(), condition(&canary, "Promoted").0.as_str()),
            (ends, ends),
            "{version}: {message}: {:#}",
            canary["status"]
        );
        assert_eq!(primary.contains(version), ends == "True", "{version}: {primary}");
    }
    kubectl(&["-n", "flux-system", "delete", "kustomization.kustomize.toolkit.fluxcd.io", "apps", "--wait"]);
    until("its Canary is gone", || object("default", "canary", "cart").is_none().then_some(())).await;
}
