//! `gitops/`, the repository to fork: everything in it is delivered, in an order that exists, and its Canaries can work.

#[cfg(target_os = "linux")]
#[path = "gitops/typed.rs"]
mod typed;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use weir_controller::api::{Known, Parsed, plan, read};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../gitops").canonicalize().unwrap()
}

/// Every document of every file with a name that ends in `.yaml`, by its path from the root.
fn documents(folder: &Path) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            let text = fs::read_to_string(&path).unwrap();
            let read = serde_saphyr::from_multiple::<Value>(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            found.extend(read.into_iter().map(|document| (name.clone(), document)));
        }
    }
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    found
}

/// What Flux is told, from the folder of the cluster.
fn kustomizations() -> Vec<Value> {
    let documents = documents(&root().join("clusters/production")).into_iter().map(|(_, document)| document);
    documents.filter(|document| document["apiVersion"] == "kustomize.toolkit.fluxcd.io/v1").collect()
}

fn texts(list: &Value, of: impl Fn(&Value) -> &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|item| of(item).as_str().map(str::to_owned)).collect()
}

#[test]
fn flux_applies_every_folder_after_what_it_needs() {
    let all = kustomizations();
    let names: BTreeSet<&str> = all.iter().map(|it| it["metadata"]["name"].as_str().unwrap()).collect();
    let mut delivered = BTreeSet::from(["clusters".to_owned()]);
    for it in &all {
        let name = &it["metadata"]["name"];
        let path = it["spec"]["path"].as_str().unwrap().trim_start_matches("./");
        assert!(root().join(path).join("kustomization.yaml").is_file(), "{name}: {path} has no kustomization.yaml");
        delivered.insert(path.split('/').next().unwrap().to_owned());
        for needed in texts(&it["spec"]["dependsOn"], |item| &item["name"]) {
            assert!(names.contains(needed.as_str()), "{name} depends on {needed}, which nobody applies");
        }
        // Without it a failure is tried again after the interval only.
        assert!(it["spec"]["retryInterval"].is_string(), "{name} has no retryInterval");
    }
    let apps = all.iter().find(|it| it["metadata"]["name"] == "apps").unwrap();
    assert_eq!(texts(&apps["spec"]["dependsOn"], |item| &item["name"]), ["istio-gateway", "weir"]);
    // One whose board cannot be had releases all the same.
    let needs = |name: &str| {
        let it = all.iter().find(|it| it["metadata"]["name"] == name).unwrap();
        texts(&it["spec"]["dependsOn"], |item| &item["name"])
    };
    let mut open = vec!["apps".to_owned()];
    for _ in 0..all.len() * all.len() {
        open = open.iter().flat_map(|name| needs(name)).collect();
        assert!(!open.contains(&"monitoring".to_owned()), "apps wait for Grafana");
    }
    assert!(open.is_empty(), "each waits for another one: {open:?}");
    // Its rights in the gateway's namespace need that.
    assert!(needs("weir").contains(&"istio-gateway".to_owned()));
    let folders = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap()).filter(|entry| entry.path().is_dir());
    let folders: BTreeSet<String> = folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert_eq!(&folders - &BTreeSet::from([".github".to_owned()]), delivered);
}

#[test]
fn weir_is_taken_away_while_its_controller_is_there_to_give_the_traffic_back() {
    let of = |folder: &str, kind: &str, name: &str| {
        let all = documents(&root().join(folder)).into_iter().map(|(_, it)| it);
        all.into_iter().find(|it| it["kind"] == kind && it["metadata"]["name"] == name).unwrap()
    };
    let release = of("weir", "HelmRelease", "weir");
    let namespace = of("weir", "Namespace", release["metadata"]["namespace"].as_str().unwrap());
    assert_eq!(namespace["metadata"]["annotations"]["kustomize.toolkit.fluxcd.io/prune"], "disabled");
    let weir = of("clusters/production", "Kustomization", "weir");
    assert_eq!((&weir["spec"]["prune"], &weir["spec"]["deletionPolicy"]), (&true.into(), &"WaitForTermination".into()));
    // What is typed names the files that there are.
    let page = fs::read_to_string(root().join("../docs/flux.md")).unwrap();
    let (_, section) = page.split_once("\n## Take Weir away\n").unwrap();
    assert!(section.contains("git rm --quiet clusters/production/weir.yaml"));
    assert!(root().join("clusters/production/weir.yaml").is_file());
    let apps = fs::read_to_string(root().join("clusters/production/apps.yaml")).unwrap();
    assert!(apps.lines().any(|line| line == "  - name: weir"), "sed finds no line in apps.yaml");
    for app in ["backend", "frontend"] {
        let list = fs::read_to_string(root().join(format!("apps/{app}/kustomization.yaml"))).unwrap();
        assert!(list.lines().any(|line| line == "- canary.yaml"), "sed finds no line of {app}");
    }
}

#[test]
fn istio_is_not_proposed_in_an_earlier_version_than_the_one_in_use() {
    let text = fs::read_to_string(root().join(".github/workflows/update-istio.yaml")).unwrap();
    let workflow: Value = serde_saphyr::from_str(&text).unwrap();
    let steps = workflow["jobs"]["propose"]["steps"].as_array().unwrap();
    let look = steps.iter().find(|step| step["id"] == "newest").unwrap()["run"].as_str().unwrap();
    let proposes = |newest: &str, current: &str| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("version.yaml");
        fs::write(&file, format!("data:\n  version: {current}\n")).unwrap();
        let output = folder.path().join("output");
        let script = format!("gh() {{ echo {newest}; }}\n{look}");
        let mut bash = std::process::Command::new("bash");
        let run = bash.args(["-ec", &script]).env("FILE", &file).env("GITHUB_OUTPUT", &output).output().unwrap();
        assert!(run.status.success(), "{run:?}");
        let said = fs::read_to_string(output).unwrap();
        let of = |key: &str| said.lines().find_map(|line| line.strip_prefix(key)).unwrap().to_owned();
        (of("newest=") != of("current=")).then(|| of("newest="))
    };
    assert_eq!(proposes("1.27.10", "1.27.9"), Some("1.27.10".into()));
    assert_eq!(proposes("1.26.8", "1.27.1"), None);
    assert_eq!(proposes("1.27.1", "1.27.1"), None);
}

#[test]
fn every_file_of_a_folder_is_in_its_kustomization() {
    let mut open: Vec<PathBuf> = kustomizations()
        .iter()
        .map(|it| root().join(it["spec"]["path"].as_str().unwrap().trim_start_matches("./")))
        .chain([root().join("clusters/production/istio")])
        .collect();
    while let Some(folder) = open.pop() {
        let text = fs::read_to_string(folder.join("kustomization.yaml")).unwrap();
        let listed = texts(&serde_saphyr::from_str::<Value>(&text).unwrap()["resources"], |item| item);
        let listed: BTreeSet<String> = listed.into_iter().collect();
        let there = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let there: BTreeSet<String> = there.filter(|name| name != "kustomization.yaml").collect();
        assert_eq!(listed, there, "{}", folder.display());
        open.extend(listed.iter().map(|name| folder.join(name)).filter(|path| path.is_dir()));
    }
}

#[test]
fn canaries_of_the_repository_can_work_and_use_every_field_that_they_have() {
    let all = documents(&root().join("apps"));
    let of = |kind: &str| -> BTreeSet<&str> {
        let objects = all.iter().filter(|(_, object)| object["kind"] == kind);
        objects.map(|(_, object)| object["metadata"]["name"].as_str().unwrap()).collect()
    };
    let (deployments, autoscalers) = (of("Deployment"), of("HorizontalPodAutoscaler"));
    let providers = of("AlertProvider");
    let mut found = 0;
    for (path, _) in all.iter().filter(|(_, object)| object["kind"] == "Canary") {
        let Parsed { object, warnings, .. } =
            read(&fs::read_to_string(root().join(path)).unwrap(), path).remove(0).unwrap();
        let Known::Canary(canary) = object else { panic!("{path}: {object:?}") };
        assert_eq!(warnings, [], "{path}");
        plan(&canary).unwrap_or_else(|problems| panic!("{path}: {problems:?}"));
        assert!(
            deployments.contains(canary.spec.target_ref.name.as_str()),
            "{path}: no Deployment of its target's name"
        );
        let scaler = canary.spec.autoscaler_ref.as_ref().unwrap();
        assert!(autoscalers.contains(scaler.name.as_str()), "{path}: no autoscaler {}", scaler.name);
        let told = &canary.spec.analysis.alerts;
        assert!(!told.is_empty(), "{path} tells nobody");
        assert!(told.iter().all(|alert| providers.contains(alert.provider_ref.name.as_str())), "{path}: {told:?}");
        found += 1;
    }
    assert_eq!(found, 2);
}

#[test]
fn a_pull_request_is_tried_from_a_fork_too() {
    let text = fs::read_to_string(root().join(".github/workflows/e2e.yaml")).unwrap();
    let workflow: Value = serde_saphyr::from_str(&text).unwrap();
    let steps = workflow["jobs"]["kind"]["steps"].as_array().unwrap();
    let source = steps.iter().find(|step| step["run"].as_str().is_some_and(|it| it.contains("flux create source git")));
    let source = source.unwrap();
    // A fork has its branch, and this repository has the ref of the pull request.
    assert_eq!(source["env"]["REF"], "${{ github.ref }}");
    assert_eq!(source["env"]["REPOSITORY"], "${{ github.server_url }}/${{ github.repository }}");
    let run = source["run"].as_str().unwrap();
    assert!(run.contains("--ref-name \"$REF\" --username git --password \"$TOKEN\""));
    // `flux bootstrap` writes there that the branch main is the source.
    assert!(run.contains("--ignore-paths clusters/production/flux-system/"));
}

#[test]
fn grafana_and_its_prometheus_find_what_weirs_chart_makes() {
    let all: Vec<Value> =
        ["weir", "monitoring"].iter().flat_map(|it| documents(&root().join(it))).map(|(_, it)| it).collect();
    let of = |kind: &str, name: &str| {
        all.iter()
            .find(|it| it["kind"] == kind && it["metadata"]["name"] == name)
            .unwrap_or_else(|| panic!("{kind} {name}"))
    };
    let (weir, grafana) = (of("HelmRelease", "weir"), of("HelmRelease", "grafana"));
    let chart = root().join("../manifests/chart");
    let defaults: Value = serde_saphyr::from_str(&fs::read_to_string(chart.join("values.yaml")).unwrap()).unwrap();
    let (made, sidecar) = (&defaults["dashboards"], &grafana["spec"]["values"]["sidecar"]["dashboards"]);
    assert_eq!(weir["spec"]["values"]["dashboards"], serde_json::json!({"enabled": true}));
    assert_eq!((&sidecar["label"], &sidecar["folderAnnotation"]), (&made["label"], &made["folderAnnotation"]));
    let namespace = &weir["metadata"]["namespace"];
    assert_eq!(sidecar["searchNamespace"], *namespace);
    // It reads them and no Secret, wherever.
    assert_eq!(grafana["spec"]["values"]["rbac"]["create"], false);
    let (role, binding) = (of("Role", "grafana"), of("RoleBinding", "grafana"));
    assert_eq!((&role["metadata"]["namespace"], &binding["metadata"]["namespace"]), (namespace, namespace));
    let rules =
        serde_json::json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]}]);
    assert_eq!(role["rules"], rules);
    let account = serde_json::json!([{"kind": "ServiceAccount", "name": "grafana", "namespace": grafana["metadata"]["namespace"]}]);
    assert_eq!(binding["subjects"], account);
    let source = &grafana["spec"]["values"]["datasources"]["datasources.yaml"]["datasources"][0];
    let prometheus = of("HelmRelease", "prometheus");
    let address = format!(
        "http://{}-server.{}",
        prometheus["spec"]["releaseName"].as_str().unwrap(),
        prometheus["metadata"]["namespace"].as_str().unwrap()
    );
    assert_eq!((&source["url"], &source["isDefault"]), (&address.into(), &true.into()));
    // A Prometheus by this chart scrapes pods that say so.
    let scraped = &weir["spec"]["values"]["podAnnotations"];
    assert_eq!(scraped["prometheus.io/scrape"], "true");
    let controller = fs::read_to_string(chart.join("templates/controller.yaml")).unwrap();
    let port = scraped["prometheus.io/port"].as_str().unwrap();
    assert!(controller.contains(&format!("{{name: http, containerPort: {port}}}")), "{port}");
}
