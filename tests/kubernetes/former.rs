//! The Weir of an older commit, built from this repository's history, and today's chart over it, under load: what rests goes on
//! resting, what is in mid-rollout goes on there, no pod is restarted, nothing is stalled, and no request is lost.

use serde_json::Value;

use super::STEPS;
use super::kubectl::{apply, kubectl, object, run, until};
use super::stage::{Release, SYSTEM, Stage, canary, install, open, split, variable};
use super::upgrade::is_off_by_itself;

/// The older Weir in place of today's; the newest one again afterwards, for the next test.
struct Former;

impl Former {
    fn install() -> Self {
        let _ = run("helm", &["uninstall", "weir", "--namespace", SYSTEM, "--wait", "--timeout", "5m"], "");
        // Its own definitions, as they were: there is no Canary now.
        let definitions = ["canaries.weir.dev", "metrictemplates.weir.dev", "alertproviders.weir.dev"];
        kubectl(&[&["delete", "crd", "--ignore-not-found", "--wait"][..], &definitions].concat());
        let (repository, tag) = split(&variable("WEIR_FORMER_IMAGE"));
        let chart = variable("WEIR_FORMER_CHART");
        let arguments =
            ["install", "weir", &chart, "--namespace", SYSTEM, "--create-namespace", "--wait", "--timeout", "3m"];
        let arguments = [&arguments[..], &["--set", &repository, "--set-string", &tag]].concat();
        run("helm", &arguments, "").unwrap_or_else(|error| panic!("helm: {error}"));
        Self
    }
}

impl Drop for Former {
    fn drop(&mut self) {
        install();
    }
}

fn status(namespace: &str, name: &str) -> Value {
    object(namespace, "canary", name).map(|canary| canary["status"].clone()).unwrap_or_default()
}

async fn phase(namespace: &str, name: &str, wanted: &str) {
    until(&format!("{name} is {wanted}"), || (status(namespace, name)["phase"] == wanted).then_some(())).await;
}

/// Returns the names of the primary's ReplicaSets and pods, and how often its containers were started.
fn primary(namespace: &str, name: &str) -> Vec<String> {
    let label = format!("app={name}-primary");
    let own = ["-n", namespace, "get", "replicasets,pods", "-l", &label, "-o", "json"];
    let list: Value = serde_json::from_str(&kubectl(&own)).unwrap();
    let restarts = |it: &Value| it["status"]["containerStatuses"][0]["restartCount"].to_string();
    let mut all: Vec<String> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| format!("{} {} {}", it["kind"], it["metadata"]["name"], restarts(it)))
        .collect();
    all.sort();
    all
}

fn run_of(namespace: &str, name: &str) -> Value {
    let state = status(namespace, name)["state"].as_str().map(serde_json::from_str::<Value>);
    state.and_then(Result::ok).map(|state| state["run"]["id"].clone()).unwrap_or_default()
}

fn stalled(namespace: &str, name: &str) -> bool {
    let conditions = status(namespace, name)["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == "Stalled" && condition["status"] == "True")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_of_an_older_commit_under_load_restarts_no_pod_stalls_nothing_and_loses_no_request() {
    let stage = Stage::bare_alone("former").await;
    let namespace = stage.namespace.clone();
    let former = Former::install();
    let host = "cart.former.example.com";
    open(&namespace, "cart", "{istio: ingressgateway}", host);
    for name in ["shop", "cart"] {
        stage.deploy(name, &Release::good("v1"));
    }
    stage.canary(STEPS);
    let service = format!("{{port: 80, targetPort: 8080, gateways: [cart], hosts: [{host}]}}");
    let slow = "{interval: 30s, threshold: 2, stepWeights: [20, 50]}";
    apply(&canary(&namespace, "cart", "progressDeadlineSeconds: 120", &service, slow));
    for name in ["shop", "cart"] {
        phase(&namespace, name, "Initialized").await;
    }
    stage.rested().await;
    stage.reachable().await;
    let (resting, moving) = (stage.traffic(50.0), stage.traffic_to("/", 50.0, &[("host", host)]));
    stage.deploy("cart", &Release::good("v2"));
    until("the older Weir sends requests to the canary", || {
        let status = status(&namespace, "cart");
        (status["phase"] == "Progressing" && status["canaryWeight"].as_f64() == Some(20.0)).then_some(())
    })
    .await;
    until("they arrive", || (moving.tally().revisions.get("v2")?.ok > 3).then_some(())).await;
    let before = ["shop", "cart"].map(|name| primary(&namespace, name));
    let began = run_of(&namespace, "cart");
    // Today's definitions and chart over it.
    drop(former);
    until("the new Weir has written", is_off_by_itself).await;
    for name in ["shop", "cart"] {
        assert!(!stalled(&namespace, name), "{:#}", status(&namespace, name));
    }
    assert_eq!(run_of(&namespace, "cart"), began, "{:#}", status(&namespace, "cart"));
    let now = status(&namespace, "cart");
    assert!(now["phase"] == "Progressing" && now["canaryWeight"].as_f64() >= Some(20.0), "{now:#}");
    assert_eq!(["shop", "cart"].map(|name| primary(&namespace, name)), before, "pods were replaced by the upgrade");
    phase(&namespace, "cart", "Succeeded").await;
    // Its first release of what rested.
    stage.release_into_traffic(&Release::good("v2")).await;
    assert_eq!(primary(&namespace, "shop"), before[0]);
    phase(&namespace, "shop", "Succeeded").await;
    stage.rested().await;
    for (name, traffic) in [("shop", resting), ("cart", moving)] {
        let tally = traffic.finish().await;
        println!("{name}: {}", serde_json::to_string(&tally.summary()).unwrap());
        assert_eq!((tally.totals().1, tally.unsent), (0, 0), "{name}: {:?}", tally.summary());
        assert!(tally.of("v1").ok > 0 && tally.of("v2").ok > 0, "{name}: {:?}", tally.summary());
    }
    kubectl(&["-n", &namespace, "delete", "canary", "cart", "--wait"]);
    stage.strike();
}
