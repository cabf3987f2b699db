//! Ways to install: by kustomize, and with other values of the chart.

use std::path::{Path, PathBuf};

use super::STEPS;
use super::kubectl::{kubectl, run, until};
use super::stage::{Release, SYSTEM, Stage, install, install_with, variable};

pub(super) fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests").canonicalize().unwrap()
}

/// The chart's installation, back again when this value goes.
struct Chart;

impl Drop for Chart {
    fn drop(&mut self) {
        let own = manifests().join("install/weir.yaml");
        kubectl(&["delete", "--ignore-not-found", "--wait", "-f", own.to_str().unwrap()]);
        install();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kustomize_installs_a_weir_that_works() {
    let stage = Stage::alone("kustomized").await;
    run("helm", &["uninstall", "weir", "--namespace", SYSTEM, "--wait", "--timeout", "5m"], "").unwrap();
    let _chart = Chart;
    // As the file says: a kustomization of one's own that has this folder as its resource, for another image.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).canonicalize().unwrap().join("kustomized");
    std::fs::create_dir_all(&folder).unwrap();
    let up = "../".repeat(folder.components().count() - 1);
    let (manifests, image) = (manifests(), variable("WEIR_IMAGE"));
    let resource = format!("{up}{}", manifests.strip_prefix("/").unwrap().display());
    let (name, tag) = image.rsplit_once(':').unwrap();
    let text = format!(
        "resources: [{resource}]\nimages: [{{name: ghcr.io/weir-dev/weir, newName: {name}, newTag: \"{tag}\"}}]\n"
    );
    std::fs::write(folder.join("kustomization.yaml"), text).unwrap();
    kubectl(&["apply", "-k", folder.to_str().unwrap(), "--server-side", "--force-conflicts"]);
    kubectl(&["-n", SYSTEM, "rollout", "status", "deployment/weir", "--timeout=120s"]);
    stage.initialize(STEPS).await;
    let traffic = stage.traffic(50.0);
    stage.release(&Release::good("v2"));
    stage.phase("Succeeded").await;
    stage.rested().await;
    let tally = traffic.finish().await;
    assert_eq!((tally.totals().1, tally.unsent), (0, 0), "{:?}", tally.summary());
    assert!(tally.of("v2").ok > 0);
    // Before the controller goes: nobody else gives its traffic back.
    stage.strike();
}

/// Renders the chart with some values.
pub(super) fn rendered(values: &[&str]) -> Result<String, String> {
    let chart = manifests().join("chart");
    let mut arguments = vec!["template", "weir", chart.to_str().unwrap(), "--namespace", SYSTEM];
    arguments.extend(["--kube-version", "1.36.0"]);
    arguments.extend(values);
    run("helm", &arguments, "")
}

#[test]
fn every_value_of_the_chart_does_what_it_says() {
    let plain = rendered(&[]).unwrap();
    let absent = ["kind: PodDisruptionBudget", "kind: ServiceMonitor", "kind: PodMonitor", "AdmissionPolicy", "Egress"];
    for what in absent.iter().chain(&["WEIR_MODULE_SHA256", "kind: Secret"]) {
        assert!(!plain.contains(what), "{what} unasked for");
    }
    assert!(plain.contains("http://weir.weir-system.svc.cluster.local:8080{path}"), "{plain}");
    // The controller, and what waits for the filter to go from there.
    let callers = rendered(&["--set", "watchNamespaces={shop},callerNamespaces={web}"]).unwrap();
    assert_eq!(callers.matches("WEIR_CALLER_NAMESPACES, value: \"web\"").count(), 2, "{callers}");
    assert!(callers.contains("name: weir-watch-callers\n  namespace: web"), "{callers}");
    let root = rendered(&["--set", "watchNamespaces={shop},rootNamespace=mesh-root"]).unwrap();
    assert!(root.contains("WEIR_ROOT_NAMESPACE, value: \"mesh-root\""), "{root}");
    assert!(root.contains("name: weir-watch-mesh\n  namespace: mesh-root"), "{root}");
    let oci = ["--set", "module.url=oci://registry.test/weir-filter:1", "--set-string", "module.sha256=00ff"];
    let digest = format!("image.digest=sha256:{}", "a".repeat(64));
    let pinned = format!("image: ghcr.io/weir-dev/weir:0.1.0@sha256:{}", "a".repeat(64));
    let rows: [(&[&str], &[&str]); 21] = [
        (
            &["--set", "gatewayNamespaces={a,b}"],
            &["WEIR_GATEWAY_NAMESPACES, value: \"a,b\"", "resources: [namespaces]"],
        ),
        (
            &["--set", "watchNamespaces={shop,cart}"],
            &[
                "WEIR_WATCH_NAMESPACES, value: \"shop,cart\"",
                "kind: RoleBinding",
                "name: weir-watch-gateways",
                "namespace: cart",
            ],
        ),
        // Helm asks a cluster which of the default are there; what it renders without one has both.
        (&["--set", "watchNamespaces={shop}"], &["namespace: istio-ingress", "namespace: istio-system"]),
        (
            &[
                "--set-json",
                r#"topologySpreadConstraints=[{"maxSkew":1,"topologyKey":"zone","whenUnsatisfiable":"DoNotSchedule"}]"#,
            ],
            &["topologySpreadConstraints:", "maxSkew: 1", "labelSelector:"],
        ),
        (
            &["--set", "replicas=0"],
            &["replicas: 0", "WEIR_CONTROLLER, value: \"weir-system/weir\"", "[deployments/scale]"],
        ),
        (&["--set", "observeAtRest=true"], &["WEIR_OBSERVE_AT_REST, value: \"true\""]),
        (&["--set", "replicas=2"], &["replicas: 2", "kind: PodDisruptionBudget", "maxUnavailable: 1"]),
        (&["--set", "module.url=file:///etc/weir/filter.wasm"], &["value: \"file:///etc/weir/filter.wasm\""]),
        (&oci, &["value: \"oci://registry.test/weir-filter:1\"", "WEIR_MODULE_SHA256, value: \"00ff\""]),
        // A Canary's own namespace must not become `exported_namespace`.
        (&["--set", "serviceMonitor.enabled=true"], &["kind: ServiceMonitor", "interval: 15s, honorLabels: true"]),
        (
            &["--set", "podMonitor.enabled=true,podMonitor.labels.release=prometheus"],
            &["kind: PodMonitor", "podMetricsEndpoints", "interval: 15s, honorLabels: true", "    release: prometheus"],
        ),
        (
            &["--set", "prometheusRule.enabled=true"],
            &["runbook_url: https://github.com/weir-dev/weir/blob/v0.1.0/docs/monitoring.md#weirstalled"],
        ),
        (
            &["--set", "prometheusRule.enabled=true,prometheusRule.docs=https://wiki.test/docs/"],
            // Prometheus's own braces stay; runbooks lead to the address that was given.
            &[
                "kind: PrometheusRule",
                "  groups:",
                "{{ $labels.canary }}",
                "https://wiki.test/docs/monitoring.md#weirabsent",
                "https://wiki.test/docs/reasons.md#{{ $labels.reason",
            ],
        ),
        (
            &["--set", "dashboards.enabled=true,dashboards.folder=Releases"],
            &[
                "weir-dashboard-release",
                "weir-dashboard-fleet",
                "grafana_dashboard: \"1\"",
                "grafana_folder: \"Releases\"",
            ],
        ),
        (
            &["--set", "networkPolicy.restrictEgress=true"],
            &["kind: NetworkPolicy", "policyTypes: [Ingress, Egress]", "port: 15090", "port: 15020", "port: 53"],
        ),
        (
            &["--set", "networkPolicy.egress[0].ports[0].port=9090"],
            &["policyTypes: [Ingress, Egress]", "port: 9090", "port: 53"],
        ),
        (
            &["--set", "calls.allowedAddresses={169.254.20.10,fd00::/8},calls.sharedNamespaces={monitoring}"],
            &[
                "WEIR_ALLOWED_ADDRESSES, value: \"169.254.20.10,fd00::/8\"",
                "WEIR_SHARED_NAMESPACES, value: \"monitoring\"",
            ],
        ),
        (
            &["--set", "admissionPolicy.enabled=true,serviceAccount.name=releaser"],
            &["kind: ValidatingAdmissionPolicyBinding", "system:serviceaccount:weir-system:releaser"],
        ),
        (&["--set", &digest], &[&pinned, "app.kubernetes.io/version: \"0.1.0-sha256-aaaa"]),
        (
            &["--set", "image.tag=1.2@sha256:ab"],
            &["image: ghcr.io/weir-dev/weir:1.2@sha256:ab", "app.kubernetes.io/version: \"1.2-sha256-ab\""],
        ),
        (&["--set", "clusterDomain=corp.test"], &["svc.corp.test:8080", "WEIR_CLUSTER_DOMAIN, value: \"corp.test\""]),
    ];
    for (values, wanted) in rows {
        let text = rendered(values).unwrap_or_else(|error| panic!("{values:?}: {error}"));
        for part in wanted {
            assert!(text.contains(part), "{values:?} without {part}:\n{text}");
        }
    }
    for wrong in [
        "replcias=2",
        "image.pullPolicy=Never2",
        "module.url=weir.test/filter.wasm",
        "uninstall.timeout=soon",
        "commonLabels.app\\.kubernetes\\.io/name=x",
    ] {
        let refused = rendered(&["--set", wrong]).unwrap_err();
        assert!(refused.contains("values don't meet the specifications of the schema"), "{wrong}: {refused}");
    }
    let some = rendered(&["--set", "watchNamespaces={shop}"]).unwrap();
    assert!(!some.contains("kind: ClusterRole"), "rights in some namespaces, and none in the cluster:\n{some}");
    let none = rendered(&["--set", "replicas=2,podDisruptionBudget.enabled=false"]).unwrap();
    assert!(!none.contains("PodDisruptionBudget"));
}

/// What Flux makes of it is in `flux`, which is not part of every run.
#[tokio::test(flavor = "multi_thread")]
async fn the_repository_to_fork_is_rendered_and_the_api_server_takes_its_apps() {
    let stage = Stage::bare("forked").await;
    let gitops = manifests().join("../gitops");
    let render = |folder: &str| kubectl(&["kustomize", gitops.join(folder).to_str().unwrap()]);
    let istio = render("clusters/production/istio");
    assert_eq!(istio.matches("substitute:\n      version: 1.").count(), 2, "{istio}");
    for folder in ["istio/system", "istio/gateway", "monitoring"] {
        assert!(render(folder).contains("kind: HelmRelease"), "{folder}");
    }
    // Weir's values are those of the chart.
    let release = render("weir");
    let (_, values) = release.split_once("\n  values:\n").unwrap();
    let values = values.split("\n---").next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("values.yaml");
    std::fs::write(
        &file,
        values.lines().map(|line| format!("{}\n", line.strip_prefix("    ").unwrap_or(line))).collect::<String>(),
    )
    .unwrap();
    let text = rendered(&["--values", file.to_str().unwrap()]).unwrap();
    assert!(text.contains("replicas: 2") && text.contains("kind: PodDisruptionBudget"), "{text}");
    let apps = render("apps").replace("namespace: prod", &format!("namespace: {}", stage.namespace));
    let taken = run("kubectl", &["apply", "--dry-run=server", "-f", "-"], &apps).unwrap();
    assert_eq!(taken.matches("canary.weir.dev/").count(), 2, "{taken}");
    stage.strike();
}

#[test]
fn what_the_chart_and_the_folder_for_kustomize_install_is_the_same() {
    // Written by manifests/generate; here because this level has helm.
    let text = rendered(&["--set", "uninstall.deleteCanaries=false"]).unwrap();
    let kept = std::fs::read_to_string(manifests().join("install/weir.yaml")).unwrap();
    let kept = kept.split_once('\n').unwrap().1.trim();
    assert_eq!(kept, text.trim(), "manifests/generate writes it anew");
}

/// Weir as it is installed without other values, back again when this value goes.
struct Policy;

impl Drop for Policy {
    fn drop(&mut self) {
        install();
    }
}

/// Asks the API server as Weir's own account; returns what it refuses with.
fn refused(arguments: &[&str], input: &str) -> String {
    let own = ["--as", "system:serviceaccount:weir-system:weir"];
    run("kubectl", &[&own[..], arguments].concat(), &document(input)).expect_err("the policy lets it pass")
}

#[tokio::test(flavor = "multi_thread")]
async fn weirs_account_is_held_to_what_weir_does_and_weir_works_all_the_same() {
    let stage = Stage::alone("held").await;
    let _policy = Policy;
    install_with(&["--set", "admissionPolicy.enabled=true"]);
    stage.initialize(STEPS).await;
    let traffic = stage.traffic(50.0);
    stage.release(&Release::good("v2"));
    stage.phase("Succeeded").await;
    stage.rested().await;
    assert_eq!(traffic.finish().await.totals().1, 0);
    let namespace = stage.namespace.as_str();
    let token = format!(
        "{{apiVersion: v1, kind: Secret, type: kubernetes.io/service-account-token, metadata: {{name: token, namespace: \
         {namespace}, labels: {{app.kubernetes.io/managed-by: weir}}, annotations: {{kubernetes.io/service-account.name: default}}}}}}"
    );
    // The API server makes policies known within seconds.
    until("the policy holds", || refused_with(&["create", "-f", "-"], &token, "tokens least of all")).await;
    let plain = format!("{{apiVersion: v1, kind: Secret, metadata: {{name: plain, namespace: {namespace}}}}}");
    assert!(refused(&["create", "-f", "-"], &plain).contains("labelled app.kubernetes.io/managed-by=weir"));
    let image = r#"[{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "evil"}]"#;
    let patch = ["-n", namespace, "patch", "deployment", "shop", "--type=json", "-p", image];
    assert!(refused(&patch, "").contains("no Deployment but its primaries"));
    let filter = format!(
        "{{apiVersion: networking.istio.io/v1alpha3, kind: EnvoyFilter, metadata: {{name: evil, namespace: {namespace}}}, spec: {{configPatches: []}}}}"
    );
    assert!(refused(&["create", "-f", "-"], &filter).contains("no EnvoyFilters but"));
    let external = r#"{"spec": {"externalIPs": ["192.0.2.1"]}}"#;
    let patch = ["-n", namespace, "patch", "service", "shop", "--type=merge", "-p", external];
    assert!(refused(&patch, "").contains("no Service external addresses"));
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_in_some_namespaces_suffice_for_the_canaries_there() {
    let stage = Stage::alone("roles").await;
    let _cluster_wide = Policy;
    let web = "weir-test-roles-web";
    let _ = run("kubectl", &["delete", "namespace", web, "--ignore-not-found", "--wait"], "");
    kubectl(&["create", "namespace", web]);
    let (watched, callers) =
        (format!("watchNamespaces={{{}}}", stage.namespace), format!("callerNamespaces={{{web}}}"));
    install_with(&["--set", &watched, "--set", &callers]);
    run("kubectl", &["get", "clusterrole", "weir"], "").expect_err("Weir has rights in the whole cluster");
    stage.initialize(STEPS).await;
    let service = format!(
        "{{port: 80, targetPort: 8080, gateways: [public, mesh], hosts: [{}], callers: [{{namespace: {web}}}]}}",
        stage.host()
    );
    stage.canary_of(&service, "progressDeadlineSeconds: 120", STEPS);
    let caller = super::mesh::Caller::start_in(web, &stage, "caller", 50, true, &[]);
    let traffic = stage.traffic(50.0);
    let status = stage.release_into_traffic(&Release::good("v2")).await;
    assert!(status["gateways"]["serving"].as_u64() >= Some(2), "{}", status["gateways"]);
    stage.phase("Succeeded").await;
    assert_eq!(caller.finish().failed(), 0);
    assert_eq!(traffic.finish().await.totals().1, 0);
    stage.rested().await;
    stage.stops_a_bad_release("v3").await;
    stage.strike();
    kubectl(&["delete", "namespace", web, "--wait=false"]);
}

/// Without its first line kubectl takes what begins with a brace for JSON.
fn document(object: &str) -> String {
    format!("---\n{object}")
}

fn refused_with(arguments: &[&str], input: &str, why: &str) -> Option<()> {
    let own = ["--as", "system:serviceaccount:weir-system:weir", "--dry-run=server"];
    let refused = run("kubectl", &[arguments, &own[..]].concat(), &document(input)).err()?;
    refused.contains(why).then_some(())
}
