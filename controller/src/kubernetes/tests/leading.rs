//! Several replicas, and one that dies on any line.

use std::time::Duration;

use serde_json::{Value, json};

use super::server::{Answer, ApiServer};
use super::stage::{NAMESPACE, Stage, canary, deployment, object};

#[tokio::test(start_paused = true)]
async fn of_two_replicas_one_acts() {
    let server = ApiServer::default();
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
    server.apply("flux", &canary("shop", json!({})));
    let first = Stage::start_as(&server, "weir-0", true);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let second = Stage::start_as(&server, "weir-1", true);
    first.phase("shop", "Initialized").await;
    first.rest().await;
    drop(first.kill());
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v2"));
    second.phase("shop", "Progressing").await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_loses_its_lease_writes_nothing_more() {
    let server = ApiServer::default();
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
    server.apply("flux", &canary("shop", json!({})));
    let stage = Stage::start_as(&server, "weir-0", true);
    stage.phase("shop", "Initialized").await;
    stage.rest().await;
    server.edit("leases", "weir-system", "weir-leader", |lease| lease["spec"]["holderIdentity"] = "weir-1".into());
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(stage.stopped());
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v2"));
    assert_eq!(stage.written().await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_its_lease_stops_before_another_may_take_it() {
    let server = ApiServer::default();
    let stage = Stage::start_as(&server, "weir-0", true);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(!stage.stopped());
    server.script(|write| (write.kind == "Lease").then_some(Answer::Hang));
    tokio::time::sleep(Duration::from_millis(14_900)).await;
    assert!(stage.stopped(), "a lease lasts 15 s");
}

/// A canary with half of the traffic, as its status says it; nobody looks after it at the moment.
async fn in_mid_rollout() -> ApiServer {
    let server = Stage::initialized().await.kill();
    let gateway = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "gateway-1", "namespace": "istio-ingress", "labels": {"istio": "ingressgateway"}}});
    server.apply("kubelet", &gateway);
    server.edit("pods", "istio-ingress", "gateway-1", |pod| {
        pod["status"] = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
    });
    let selector = json!({"selector": {"istio": "ingressgateway"}, "servers": []});
    server.apply("flux", &object("networking.istio.io/v1", "Gateway", "public", selector));
    server.edit("canaries", NAMESPACE, "shop", |canary| {
        canary["spec"]["service"]["gateways"] = json!(["public"]);
        canary["spec"]["service"]["hosts"] = json!(["shop.example.com"]);
    });
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v2"));
    let stage = Stage::start(&server);
    stage.phase("shop", "Progressing").await;
    stage.rest().await;
    let server = stage.kill();
    server.edit("canaries", NAMESPACE, "shop", |canary| {
        let mut state: Value = serde_json::from_str(canary["status"]["state"].as_str().unwrap()).unwrap();
        state["run"]["stage"] = "Analysing".into();
        state["run"]["step"] = 1.into();
        state["traffic"]["weight"] = 5000.into();
        let epoch = state["traffic"]["epoch"].as_u64().unwrap() + 1;
        state["traffic"]["epoch"] = epoch.into();
        canary["status"]["state"] = state.to_string().into();
    });
    server
}

/// Returns the weight that a write gives the gateways, if it gives any.
fn weight(write: &super::server::Write) -> Option<u64> {
    let text = write.body.to_string();
    let (_, rest) = text.split_once("\\\"weight\\\":").or_else(|| text.split_once("\"weight\":"))?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[tokio::test(start_paused = true)]
async fn a_rollback_writes_weight_0_before_any_other_object() {
    let server = in_mid_rollout().await;
    let stage = Stage::start(&server);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let given = server.writes().iter().filter(|write| write.kind == "EnvoyFilter").filter_map(weight).next_back();
    assert_eq!(given, Some(5000));
    stage.edit("canaries", "shop", |canary| canary["metadata"]["annotations"]["weir.dev/verb"] = "abort 1".into());
    stage.phase("shop", "Failed").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let writes = server.writes();
    let zero = writes.iter().position(|write| weight(write) == Some(0)).expect("weight 0");
    let before: Vec<String> = writes[..zero].iter().filter(|write| !write.status).map(ToString::to_string).collect();
    assert_eq!(before, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_rollback_needs_nothing_but_the_gateways_own_object() {
    let server = in_mid_rollout().await;
    let stage = Stage::start(&server);
    tokio::time::sleep(Duration::from_secs(5)).await;
    server.writes();
    server.script(|write| (write.kind != "EnvoyFilter").then_some(Answer::Hang));
    stage.edit("canaries", "shop", |canary| canary["metadata"]["annotations"]["weir.dev/verb"] = "abort 1".into());
    tokio::time::sleep(Duration::from_secs(30)).await;
    let given = server.writes().iter().filter(|write| write.kind == "EnvoyFilter").filter_map(weight).next_back();
    assert_eq!(given, Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_conflict_on_the_configuration_is_written_again_on_top_of_what_is_there() {
    let server = in_mid_rollout().await;
    let stage = Stage::start(&server);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let config =
        server.all("envoyfilters").into_iter().find(|filter| filter.to_string().contains("generation")).unwrap();
    let name = config["metadata"]["name"].as_str().unwrap().to_owned();
    // Another controller, which thinks that it leads.
    server.edit("envoyfilters", "istio-ingress", &name, |filter| filter["metadata"]["labels"]["by"] = "another".into());
    stage.edit("canaries", "shop", |canary| canary["metadata"]["annotations"]["weir.dev/verb"] = "abort 1".into());
    stage.phase("shop", "Failed").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let written: Vec<_> = server.writes().into_iter().filter(|write| write.kind == "EnvoyFilter").collect();
    assert_eq!(written.iter().rev().find(|write| write.code == 200).and_then(weight), Some(0), "{written:?}");
}
