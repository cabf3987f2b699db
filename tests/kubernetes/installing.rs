//! Ways to install: by kustomize, and with other values of the chart.

use std::path::{Path, PathBuf};

use super::STEPS;
use super::kubectl::{kubectl, run};
use super::stage::{Release, SYSTEM, Stage, install, variable};

fn manifests() -> PathBuf {
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
    let text = format!("resources: [{resource}]\nimages: [{{name: weir, newName: {name}, newTag: \"{tag}\"}}]\n");
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
fn rendered(values: &[&str]) -> Result<String, String> {
    let chart = manifests().join("chart");
    let mut arguments = vec!["template", "weir", chart.to_str().unwrap(), "--namespace", SYSTEM];
    arguments.extend(["--kube-version", "1.36.0"]);
    arguments.extend(values);
    run("helm", &arguments, "")
}

#[test]
fn every_value_of_the_chart_does_what_it_says() {
    let plain = rendered(&[]).unwrap();
    let absent = ["kind: PodDisruptionBudget", "kind: NetworkPolicy", "kind: ServiceMonitor", "kind: PodMonitor"];
    for what in absent.iter().chain(&["WEIR_MODULE_SHA256", "kind: Secret"]) {
        assert!(!plain.contains(what), "{what} unasked for");
    }
    assert!(plain.contains("http://weir.weir-system.svc.cluster.local:8080{path}"), "{plain}");
    let oci = ["--set", "module.url=oci://registry.test/weir-filter:1", "--set-string", "module.sha256=00ff"];
    let rows: [(&[&str], &[&str]); 11] = [
        (&["--set", "observeAtRest=true"], &["WEIR_OBSERVE_AT_REST, value: \"true\""]),
        (&["--set", "replicas=2"], &["replicas: 2", "kind: PodDisruptionBudget", "maxUnavailable: 1"]),
        (&["--set", "module.url=file:///etc/weir/filter.wasm"], &["value: \"file:///etc/weir/filter.wasm\""]),
        (&oci, &["value: \"oci://registry.test/weir-filter:1\"", "WEIR_MODULE_SHA256, value: \"00ff\""]),
        (&["--set", "serviceMonitor.enabled=true"], &["kind: ServiceMonitor", "interval: 15s"]),
        (
            &["--set", "podMonitor.enabled=true,podMonitor.labels.release=prometheus"],
            &["kind: PodMonitor", "podMetricsEndpoints", "interval: 15s", "    release: prometheus"],
        ),
        (
            &["--set", "prometheusRule.enabled=true,prometheusRule.docs=https://wiki.test/docs/"],
            // Prometheus's own braces stay; runbooks lead to the address that was given.
            &[
                "kind: PrometheusRule",
                "  groups:",
                "{{ $labels.canary }}",
                "https://wiki.test/docs/monitoring.md#weirabsent",
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
            &["--set", "networkPolicy.enabled=true"],
            &["kind: NetworkPolicy", "policyTypes: [Ingress, Egress]", "port: 15020", "port: 53"],
        ),
        (
            &["--set", "image.tag=1.2@sha256:ab"],
            &["image: weir:1.2@sha256:ab", "app.kubernetes.io/version: \"1.2-sha256-ab\""],
        ),
        (&["--set", "clusterDomain=corp.test"], &["svc.corp.test:8080", "WEIR_CLUSTER_DOMAIN, value: \"corp.test\""]),
    ];
    for (values, wanted) in rows {
        let text = rendered(values).unwrap_or_else(|error| panic!("{values:?}: {error}"));
        for part in wanted {
            assert!(text.contains(part), "{values:?} without {part}:\n{text}");
        }
    }
    for wrong in ["replcias=2", "image.pullPolicy=Never2", "module.url=weir.test/filter.wasm", "uninstall.timeout=soon"]
    {
        let refused = rendered(&["--set", wrong]).unwrap_err();
        assert!(refused.contains("values don't meet the specifications of the schema"), "{wrong}: {refused}");
    }
    let none = rendered(&["--set", "replicas=2,podDisruptionBudget.enabled=false"]).unwrap();
    assert!(!none.contains("PodDisruptionBudget"));
}

#[test]
fn what_the_chart_and_the_folder_for_kustomize_install_is_the_same() {
    // Written by manifests/generate; here because this level has helm.
    let text = rendered(&["--set", "uninstall.deleteCanaries=false"]).unwrap();
    let kept = std::fs::read_to_string(manifests().join("install/weir.yaml")).unwrap();
    let kept = kept.split_once('\n').unwrap().1.trim();
    assert_eq!(kept, text.trim(), "manifests/generate writes it anew");
}
