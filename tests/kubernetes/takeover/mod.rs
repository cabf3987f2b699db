//! A running Flagger, the real one, is taken over under load: no request fails, and no pod of a primary is replaced.
//!
//! Needs `FLAGGER_IMAGE` and `FLAGGER_CHART` beside what the suite needs. Flagger's definition is called as Weir's, so these tests
//! say whose Canary they mean, and run without the others.

mod kinds;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::task::JoinSet;

use super::kubectl::{apply, kubectl, object, run, until};
use super::stage::{Stage, install_with, split, variable};
use super::{OBJECTS, deployment_for_flagger};

static FLAGGER: OnceCell<()> = OnceCell::const_new();

/// Flagger looks at a Canary every ten seconds, and no sooner.
const ANALYSIS: &str = "{interval: 10s, threshold: 2, stepWeights: [20, 50]}";
/// A release of Flagger's from a push to its end takes about so many seconds.
const ROLLOUT: u64 = 70;
/// Takeovers at random moments, and how many of them at a time.
const ROUNDS: [usize; 2] = [20, 5];

async fn flagger() {
    FLAGGER
        .get_or_init(|| async {
            let (repository, tag) = split(&variable("FLAGGER_IMAGE"));
            let chart = variable("FLAGGER_CHART");
            let mut arguments = vec!["upgrade", "--install", "flagger", &chart, "--namespace", "flagger-system"];
            arguments.extend(["--create-namespace", "--wait", "--timeout", "3m", "--set", "meshProvider=istio"]);
            arguments.extend(["--set", &repository, "--set-string", &tag]);
            run("helm", &arguments, "").unwrap_or_else(|error| panic!("helm: {error}"));
            install_with(&["--set", "takeOver.flagger=true"]);
        })
        .await;
}

/// Returns the Canary of one of the two, as a manifest.
fn canary(stage: &Stage, group: &str, annotations: &str) -> String {
    let service = format!("{{port: 80, targetPort: 8080, gateways: [public], hosts: [{}]}}", stage.host());
    canary_of(stage, group, annotations, "progressDeadlineSeconds: 120", &service, ANALYSIS)
}

/// As [`canary`], with one more line of its spec, and a service and an analysis of its own.
fn canary_of(stage: &Stage, group: &str, annotations: &str, line: &str, service: &str, analysis: &str) -> String {
    let namespace = &stage.namespace;
    format!(
        r#"
apiVersion: {group}/v1beta1
kind: Canary
metadata: {{name: shop, namespace: {namespace}, annotations: {{{annotations}}}}}
spec:
  targetRef: {{apiVersion: apps/v1, kind: Deployment, name: shop}}
  {line}
  service: {service}
  analysis: {analysis}
"#
    )
}

/// Makes a service that Flagger releases.
async fn released_by_flagger(name: &str) -> Stage {
    let stage = declared(name).await;
    apply(&canary(&stage, "flagger.app", ""));
    is_in_phase(&stage, "Initialized").await;
    stage.reachable().await;
    stage
}

/// Makes a Deployment that nobody releases yet, beside a running Flagger.
async fn declared(name: &str) -> Stage {
    let stage = Stage::bare(name).await;
    flagger().await;
    apply(&format!(
        "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: settings, namespace: {}}}, data: {{a: b}}}}",
        stage.namespace
    ));
    push(&stage, "v1");
    stage
}

async fn is_in_phase(stage: &Stage, wanted: &str) {
    until(&format!("Flagger says {wanted}"), || (phase(stage) == wanted).then_some(())).await;
}

/// Waits until the objects of a stage have changed hands.
async fn is_taken_over(stage: &Stage) {
    until("the objects have changed hands", || {
        let status = stage.status();
        let ready = status["conditions"].as_array()?.iter().any(|it| it["type"] == "Ready" && it["status"] == "True");
        (ready && !status["takenOver"].is_null()).then_some(())
    })
    .await;
}

/// Waits until a revision is in production.
async fn is_promoted(stage: &Stage, version: &str) {
    until(&format!("{version} is in production"), || {
        let primary = object(&stage.namespace, "deployment", "shop-primary")?;
        let status = stage.status();
        let is_over = ["Initialized", "Succeeded"].iter().any(|phase| status["phase"] == *phase);
        (is_over && primary.to_string().contains(&format!("\"{version}\""))).then_some(())
    })
    .await;
    stage.rested().await;
}

/// Pushes a revision that reads a ConfigMap.
fn push(stage: &Stage, version: &str) {
    apply(&deployment_for_flagger(&stage.namespace, version, "envFrom: [{configMapRef: {name: settings}}]"));
}

fn phase(stage: &Stage) -> String {
    let canary = object(&stage.namespace, "flagger's canary", "shop").unwrap_or_default();
    canary["status"]["phase"].as_str().unwrap_or_default().to_owned()
}

/// What must be the same object before and after: its uid, and of pods all of them.
fn identity(stage: &Stage) -> Value {
    let namespace = &stage.namespace;
    let names = OBJECTS.into_iter().chain([("configmap", "settings-primary"), ("hpa", "shop-primary")]);
    let uid = |(kind, name): (&str, &str)| object(namespace, kind, name).unwrap_or_default()["metadata"]["uid"].clone();
    let template = object(namespace, "deployment", "shop-primary").unwrap_or_default()["spec"]["template"].clone();
    let pods = ["-n", namespace, "get", "pods", "-l", "app=shop-primary", "-o", "jsonpath={.items[*].metadata.uid}"];
    json!([names.map(uid).collect::<Vec<_>>(), template, kubectl(&pods)])
}

fn strike(stage: &Stage) {
    for kind in ["canaries.weir.dev", "canaries.flagger.app"] {
        kubectl(&["-n", &stage.namespace, "delete", kind, "shop", "--ignore-not-found", "--wait"]);
    }
    kubectl(&["delete", "namespace", &stage.namespace, "--wait=false"]);
}

/// Returns the commands of a section of the page, for this stage's namespace and files.
fn commands(stage: &Stage, heading: &str, folder: &str) -> Vec<String> {
    let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/migrate.md");
    let page = std::fs::read_to_string(page).unwrap();
    let section = page.split(&format!("\n## {heading}\n")).nth(1).unwrap().split("\n##").next().unwrap();
    let lines = section.lines().map(str::trim).filter(|line| line.starts_with("kubectl "));
    let here = |line: &str| {
        let line = line.replace("-n shop ", &format!("-n {} ", stage.namespace));
        line.replace("-f ", &format!("-f {folder}/"))
    };
    lines.map(here).collect()
}

fn follow(commands: &[String]) {
    for command in commands {
        println!("$ {command}");
        run("bash", &["-c", command], "").unwrap_or_else(|error| panic!("{command}: {error}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_followed_word_by_word_there_and_back_and_no_request_fails() {
    let stage = released_by_flagger("takeover").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    std::fs::write(folder.path().join("canary.yaml"), canary(&stage, "flagger.app", "")).unwrap();
    std::fs::write(folder.path().join("weir-canary.yaml"), canary(&stage, "weir.dev", "")).unwrap();
    let before = identity(&stage);
    let traffic = stage.traffic(50.0);
    let there = commands(&stage, "By kubectl", path);
    assert_eq!(there.len(), 5, "{there:?}");
    follow(&there);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(identity(&stage), before);
    let tally = traffic.finish().await;
    println!("there: {}", serde_json::to_string(&tally.summary()).unwrap());
    assert_eq!((tally.totals().1, tally.unsent), (0, 0), "{:?}", tally.summary());
    // Weir releases, and takes back.
    let traffic = stage.traffic(50.0);
    push(&stage, "v2");
    stage.phase("Succeeded").await;
    stage.rested().await;
    let tally = traffic.finish().await;
    println!("released: {}", serde_json::to_string(&tally.summary()).unwrap());
    assert_eq!((tally.totals().1, tally.unsent), (0, 0), "{:?}", tally.summary());
    assert!(tally.of("v2").ok > 0);
    let traffic = stage.traffic(50.0);
    let back = commands(&stage, "Back to Flagger", path);
    assert_eq!(back.len(), 5, "{back:?}");
    follow(&back);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let tally = traffic.finish().await;
    println!("back: {}", serde_json::to_string(&tally.summary()).unwrap());
    assert_eq!((tally.totals().1, tally.unsent), (0, 0), "{:?}", tally.summary());
    strike(&stage);
}

/// One takeover at some moment of a release of Flagger's: so many seconds after the push, or with none.
async fn at_a_moment(number: usize, moment: Option<u64>) {
    let stage = released_by_flagger(&format!("moment-{number}")).await;
    let traffic = stage.traffic(20.0);
    if let Some(seconds) = moment {
        push(&stage, "v2");
        tokio::time::sleep(Duration::from_millis(seconds)).await;
    }
    let at = phase(&stage);
    // As Flux applies it: with the annotation from the beginning.
    apply(&canary(&stage, "weir.dev", "weir.dev/take-over: flagger"));
    is_taken_over(&stage).await;
    let before = identity(&stage);
    kubectl(&["-n", &stage.namespace, "delete", "canaries.flagger.app", "shop"]);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(identity(&stage)[0], before[0], "{number}");
    // What Flagger had not dealt with is released.
    if moment.is_some() {
        is_promoted(&stage, "v2").await;
    } else {
        assert_eq!(identity(&stage), before, "{number}");
    }
    let tally = traffic.finish().await;
    println!(
        "takeover {number}, {moment:?} ms after a push, in phase {at}: {}",
        serde_json::to_string(&tally.summary()).unwrap()
    );
    assert_eq!((tally.totals().1, tally.unsent), (0, 0), "{number}: {:?}", tally.summary());
    strike(&stage);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_taken_over_at_twenty_random_moments_and_no_request_fails() {
    let [all, beside] = ROUNDS;
    let mut random = std::process::id() as u64 ^ 0x9e37_79b9;
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        random >> 33
    };
    let moments: Vec<Option<u64>> = (0..all).map(|i| (i % 5 > 0).then(|| next() % (ROLLOUT * 1000))).collect();
    println!("moments: {moments:?}");
    for (round, moments) in moments.chunks(beside).enumerate() {
        let mut open = JoinSet::new();
        for (i, moment) in moments.iter().copied().enumerate() {
            open.spawn(at_a_moment(round * beside + i, moment));
        }
        while let Some(done) = open.join_next().await {
            done.unwrap();
        }
    }
}
