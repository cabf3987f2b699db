//! Where gateways may get the module from, other than from Weir.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use sha2::{Digest, Sha256};

use super::STEPS;
use super::kubectl::{apply, kubectl, until};
use super::outages::Installed;
use super::stage::{Release, Stage, variable};

/// Returns the module that the images were made with.
fn module() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/weir-filter.wasm")
}

fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Releases a good and a bad revision: both only end so if the module runs, splits and counts.
async fn splits_and_counts(stage: &Stage) {
    let traffic = stage.traffic(50.0);
    stage.release(&Release::good("v2"));
    stage.phase("Succeeded").await;
    stage.rested().await;
    let tally = traffic.finish().await;
    assert_eq!(tally.totals().1, 0, "{:?}", tally.summary());
    stage.stops_a_bad_release("v3").await;
}

/// Serves an image that is nothing but the module, as registries do; returns its address and its manifest's checksum.
async fn registry(stage: &Stage) -> (String, String) {
    let (namespace, image) = (&stage.namespace, variable("WEIR_DEMO_IMAGE"));
    let module = fs::read(module()).unwrap();
    let described = |kind: &str, content: &[u8]| json!({"mediaType": kind, "digest": format!("sha256:{}", sha256(content)), "size": content.len()});
    let config = b"{}";
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": described("application/vnd.oci.image.config.v1+json", config),
        "layers": [
            described("application/vnd.module.wasm.content.layer.v1+wasm", &module),
            described("application/vnd.module.wasm.config.v1+json", config),
        ],
    });
    let manifest = manifest.to_string();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        fs::write(folder.path().join(name), content).unwrap();
        format!("--from-file={name}={}", folder.path().join(name).display())
    };
    let files = [file("manifest", manifest.as_bytes()), file("module", &module), file("config", config)];
    let [manifest_file, module_file, config_file] = files.each_ref().map(String::as_str);
    kubectl(&["-n", namespace, "create", "configmap", "registry", manifest_file, module_file, config_file]);
    let (blob, config) = (sha256(&module), sha256(config));
    apply(&format!(
        r#"
apiVersion: v1
kind: Service
metadata: {{name: registry, namespace: {namespace}}}
spec: {{selector: {{app: registry}}, ports: [{{port: 5000}}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: registry, namespace: {namespace}}}
spec:
  selector: {{matchLabels: {{app: registry}}}}
  template:
    metadata: {{labels: {{app: registry}}}}
    spec:
      containers:
      - name: registry
        image: {image}
        imagePullPolicy: IfNotPresent
        args: [serve, --address, 0.0.0.0, --port, "5000", --files, /files]
        readinessProbe: {{httpGet: {{path: /healthz, port: 5000}}, periodSeconds: 1, timeoutSeconds: 10}}
        resources: {{requests: {{cpu: 1m, memory: 8Mi}}}}
        volumeMounts: [{{name: files, mountPath: /files}}]
      volumes:
      - name: files
        configMap:
          name: registry
          items:
          - {{key: manifest, path: v2/weir/filter/manifests/next}}
          - {{key: module, path: "v2/weir/filter/blobs/sha256:{blob}"}}
          - {{key: config, path: "v2/weir/filter/blobs/sha256:{config}"}}
"#
    ));
    kubectl(&["-n", namespace, "rollout", "status", "deployment", "registry", "--timeout=2m"]);
    (format!("oci://registry.{namespace}.svc.cluster.local:5000/weir/filter:next"), sha256(manifest.as_bytes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_of_a_registry_is_pinned_by_its_manifest_and_splits_and_counts() {
    let stage = Stage::set_alone("registry", STEPS).await;
    let (url, checksum) = registry(&stage).await;
    let (url, checksum) = (format!("module.url={url}"), format!("module.sha256={checksum}"));
    let other = Installed::with(&["--set", &url, "--set-string", &checksum]);
    until("the gateways are told of the registry", || filters().contains("oci://registry.").then_some(())).await;
    splits_and_counts(&stage).await;
    drop(other);
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_in_a_file_of_the_gateways_pods_splits_and_counts() {
    let stage = Stage::set_alone("file", STEPS).await;
    let mounted = Mounted::at("/etc/weir");
    let other = Installed::with(&["--set", "module.url=file:///etc/weir/filter.wasm"]);
    until("the gateways are told of the file", || filters().contains("/etc/weir/filter.wasm").then_some(())).await;
    splits_and_counts(&stage).await;
    drop(other);
    until("the gateways get it from Weir again", || (!filters().contains("/etc/weir/")).then_some(())).await;
    drop(mounted);
    stage.strike();
}

fn filters() -> String {
    kubectl(&["-n", GATEWAY.0, "get", "envoyfilters", "-o", "json"])
}

/// Namespace and Deployment of the ingress gateway.
const GATEWAY: (&str, &str) = ("istio-ingress", "istio-ingressgateway");

/// The module in the pods of the ingress gateway, until this is dropped.
struct Mounted;

impl Mounted {
    fn at(folder: &str) -> Self {
        let file = format!("--from-file=filter.wasm={}", module().display());
        kubectl(&["-n", GATEWAY.0, "create", "configmap", "weir-filter", &file]);
        let patch = json!({"spec": {"template": {"spec": {
            "volumes": [{"name": "weir", "configMap": {"name": "weir-filter"}}],
            "containers": [{"name": "istio-proxy", "volumeMounts": [{"name": "weir", "mountPath": folder}]}],
        }}}});
        kubectl(&["-n", GATEWAY.0, "patch", "deployment", GATEWAY.1, "--patch", &patch.to_string()]);
        settled();
        Self
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        kubectl(&["-n", GATEWAY.0, "rollout", "undo", &format!("deployment/{}", GATEWAY.1)]);
        settled();
        kubectl(&["-n", GATEWAY.0, "delete", "configmap", "weir-filter"]);
    }
}

fn settled() {
    kubectl(&["-n", GATEWAY.0, "rollout", "status", "deployment", GATEWAY.1, "--timeout=3m"]);
}
