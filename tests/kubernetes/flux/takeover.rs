//! A service that Flagger releases and that Flux applies: `docs/migrate.md`, "By Git", typed as it stands there, and back again.
//!
//! In a cluster with Istio. Needs `FLAGGER_IMAGE` and `FLAGGER_CHART` beside what the others need.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::deployment_for_flagger;
use super::super::kubectl::{apply, kubectl, object, run, until};
use super::super::stage::{gateway, load, open, split, variable};
use super::{Fork, root};

const HOST: &str = "shop.example.com";

/// What is typed under a heading of the page.
fn typed(heading: &str) -> Vec<String> {
    let page = std::fs::read_to_string(root().join("docs/migrate.md")).unwrap();
    let section = page.split(&format!("\n{heading}\n")).nth(1).unwrap().split("\n## ").next().unwrap();
    let (mut inside, mut found) = (false, Vec::<String>::new());
    for line in section.lines().map(str::trim) {
        match line {
            "```" => inside = !inside,
            line if inside => match found.last_mut() {
                Some(last) if last.ends_with(['\\', '|']) => *last += &format!("\n{line}"),
                _ => found.push(line.to_owned()),
            },
            _ => {}
        }
    }
    found
}

fn follow(heading: &str, commands: usize, clone: &Fork) {
    let typed = typed(heading);
    assert_eq!(typed.len(), commands, "{typed:#?}");
    for command in typed {
        println!("$ {command}\n{}", clone.shell(&command));
    }
}

/// A repository as somebody has it who uses Flagger: Weir beside it, and an app.
fn repository() -> Fork {
    let clone = Fork::of("shop");
    clone.copy("manifests/chart", "manifests");
    let image = variable("WEIR_IMAGE");
    let (repository, tag) = image.rsplit_once(':').unwrap();
    let write = |path: &str, content: String| {
        let path = clone.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    };
    let kustomization = |files: &str| {
        format!(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n- {}\n",
            files.replace(' ', "\n- ")
        )
    };
    write("weir/kustomization.yaml", kustomization("namespace.yaml release.yaml"));
    write("weir/namespace.yaml", "{apiVersion: v1, kind: Namespace, metadata: {name: weir-system}}\n".into());
    write(
        "weir/release.yaml",
        format!(
            r#"apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {{name: weir, namespace: weir-system}}
spec:
  interval: 1h
  chart:
    spec:
      chart: ./manifests/chart
      reconcileStrategy: Revision
      sourceRef: {{kind: GitRepository, name: flux-system, namespace: flux-system}}
  install: {{crds: Create}}
  upgrade: {{crds: CreateReplace}}
  values:
    image: {{repository: {repository}, tag: "{tag}"}}
"#
        ),
    );
    write("apps/kustomization.yaml", kustomization("shop"));
    write("apps/shop/kustomization.yaml", kustomization("namespace.yaml deployment.yaml canary.yaml"));
    write("apps/shop/namespace.yaml", "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}\n".into());
    write("apps/shop/deployment.yaml", deployment("v1"));
    write(
        "apps/shop/canary.yaml",
        format!(
            r#"# Flagger's, as it has been for years.
apiVersion: flagger.app/v1beta1
kind: Canary
metadata:
  name: shop
  namespace: shop
spec:
  targetRef: {{apiVersion: apps/v1, kind: Deployment, name: shop}}
  progressDeadlineSeconds: 120
  service: {{port: 80, targetPort: 8080, gateways: [public], hosts: [{HOST}]}}
  analysis: {{interval: 10s, threshold: 2, stepWeights: [20, 50]}} # two steps
"#
        ),
    );
    clone
}

fn deployment(version: &str) -> String {
    deployment_for_flagger("shop", version, "")
}

fn flux_applies(name: &str, path: &str) {
    apply(&format!(
        "{{apiVersion: kustomize.toolkit.fluxcd.io/v1, kind: Kustomization, metadata: {{name: {name}, namespace: flux-system}}, spec: {{interval: \
         10m, retryInterval: 5s, path: {path}, prune: true, wait: true, timeout: 5m, sourceRef: {{kind: GitRepository, name: flux-system}}}}}}"
    ));
}

/// The objects that serve, by their uid, and the pods of the primary.
fn identity() -> Value {
    let objects = super::super::OBJECTS;
    let uid = |(kind, name): (&str, &str)| object("shop", kind, name).unwrap_or_default()["metadata"]["uid"].clone();
    let pods =
        kubectl(&["-n", "shop", "get", "pods", "-l", "app=shop-primary", "-o", "jsonpath={.items[*].metadata.uid}"]);
    json!([objects.map(uid), pods])
}

async fn says(kind: &str, phase: &str) {
    until(&format!("{kind} says {phase}"), || {
        (object("shop", kind, "shop")?["status"]["phase"] == phase).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flux_hands_a_service_from_flagger_to_weir_and_back_as_the_page_says_and_no_request_fails() {
    let (repository_value, tag) = split(&variable("FLAGGER_IMAGE"));
    let chart = variable("FLAGGER_CHART");
    let mut arguments = vec!["upgrade", "--install", "flagger", &chart, "--namespace", "flagger-system"];
    arguments.extend(["--create-namespace", "--wait", "--timeout", "3m", "--set", "meshProvider=istio"]);
    arguments.extend(["--set", &repository_value, "--set-string", &tag]);
    run("helm", &arguments, "").unwrap_or_else(|error| panic!("helm: {error}"));
    let clone = repository();
    clone.push("A shop");
    clone.read_by_flux("flux-system", None);
    flux_applies("weir", "./weir");
    flux_applies("apps", "./apps");
    until("the namespace is there", || run("kubectl", &["get", "namespace", "shop"], "").ok()).await;
    open("shop", "public", "{istio: ingressgateway}", HOST);
    says("flagger's canary", "Initialized").await;
    until("Weir is there", || {
        run("kubectl", &["-n", "weir-system", "rollout", "status", "deployment/weir", "--timeout=60s"], "").ok()
    })
    .await;
    let address = gateway();
    let users = || load(&address, "/", 50.0, &[("host", HOST)]).start();
    until("requests are answered", || {
        let load = load(&address, "/", 5.0, &[("host", HOST)]).start();
        std::thread::sleep(Duration::from_secs(1));
        (load.tally().revisions.values().map(|counts| counts.ok).sum::<u64>() > 3).then_some(())
    })
    .await;

    let before = identity();
    let traffic = users();
    follow("## By Git", 12, &clone);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(identity(), before, "Flux has pruned something, or a pod was replaced");
    let tally = traffic.finish().await;
    println!("there: {}", serde_json::to_string(&tally.summary()).unwrap());
    assert_eq!((tally.totals().1, tally.unsent), (0, 0), "{:?}", tally.summary());
    let comment = std::fs::read_to_string(clone.path().join("apps/shop/weir-canary.yaml")).unwrap();
    assert!(comment.contains("# two steps"), "{comment}");

    // A release by Weir, which Git begins.
    let traffic = users();
    std::fs::write(clone.path().join("apps/shop/deployment.yaml"), deployment("v2")).unwrap();
    clone.push("shop v2");
    says("canary", "Succeeded").await;
    follow("### Back by Git", 14, &clone);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let tally = traffic.finish().await;
    println!("released, and back: {}", serde_json::to_string(&tally.summary()).unwrap());
    assert_eq!((tally.totals().1, tally.unsent), (0, 0), "{:?}", tally.summary());
    assert!(tally.of("v1").ok > 0 && tally.of("v2").ok > 0, "{:?}", tally.summary());
}
