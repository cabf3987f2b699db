//! Several replicas, and one that dies on any line.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::server::{Answer, ApiServer};
use super::stage::{NAMESPACE, Stage, canary, deployment, edit_state, object, of_kind};

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

#[tokio::test(start_paused = true)]
async fn a_former_leader_s_late_status_is_refused() {
    let server = ApiServer::default();
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
    server.apply("flux", &canary("shop", json!({})));
    let first = Stage::start_as(&server, "weir-0", true);
    first.phase("shop", "Initialized").await;
    first.rest().await;
    let second = Stage::start_as(&server, "weir-1", true);
    let late: Arc<Mutex<Option<String>>> = Arc::default();
    let (seen, follows) = (late.clone(), AtomicBool::new(false));
    server.script(move |write| {
        // The first leader is cut off: its lease is renewed no more, its first status is long on its way, and others never arrive.
        if write.kind == "Lease" {
            let is_first = write.body["spec"]["holderIdentity"] == "weir-0";
            follows.fetch_or(!is_first, Ordering::SeqCst);
            return is_first.then_some(Answer::Hang);
        }
        if !write.status || follows.load(Ordering::SeqCst) {
            return None;
        }
        let mut late = seen.lock().unwrap();
        if late.is_some() {
            return Some(Answer::Hang);
        }
        *late = write.body["status"]["state"].as_str().map(str::to_owned);
        Some(Answer::Late(Duration::from_secs(60)))
    });
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v2"));
    second.phase("shop", "Progressing").await;
    assert!(first.stopped() && !second.stopped());
    let stored = second.status("shop")["state"].clone();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let late = late.lock().unwrap().clone().unwrap();
    assert_ne!(stored, json!(late), "the new leader has decided by itself");
    let writes = server.writes();
    let arrived = writes.iter().find(|write| write.body["status"]["state"] == json!(late)).unwrap();
    assert_eq!(arrived.to_string(), "apply Canary shop status 409");
    assert_ne!(second.status("shop")["state"], json!(late));
}

#[tokio::test(start_paused = true)]
async fn a_status_that_somebody_else_wrote_is_decided_from_anew() {
    let stage = Stage::initialized().await;
    let state =
        |canary: &Value| -> Value { serde_json::from_str(canary["status"]["state"].as_str().unwrap()).unwrap() };
    let epoch = state(&stage.get("canaries", "shop"))["traffic"]["epoch"].as_u64().unwrap() + 7;
    stage.edit("canaries", "shop", |canary| {
        let mut state = state(canary);
        state["traffic"]["epoch"] = epoch.into();
        canary["status"]["state"] = state.to_string().into();
    });
    stage.server.apply("flux", &deployment("shop", &[("app", "shop")], "v2"));
    stage.phase("shop", "Progressing").await;
    assert!(state(&stage.get("canaries", "shop"))["traffic"]["epoch"].as_u64().unwrap() >= epoch);
}

#[tokio::test(start_paused = true)]
async fn an_erased_status_is_written_again_as_it_was() {
    let stage = Stage::initialized().await;
    let before = stage.status("shop");
    stage.edit("canaries", "shop", |canary| canary["status"] = json!({}));
    assert_eq!(stage.written().await, ["apply Canary shop status"]);
    assert_eq!(stage.status("shop"), before);
}

#[tokio::test(start_paused = true)]
async fn an_edit_during_a_pass_costs_its_status_one_more_write() {
    let stage = Stage::initialized().await;
    let conflicts = AtomicUsize::new(0);
    stage.server.script(move |write| {
        let is_first = write.kind == "Canary" && write.status && conflicts.fetch_add(1, Ordering::SeqCst) == 0;
        is_first.then_some(Answer::Refused(409, "Conflict", "the object has been modified"))
    });
    stage.server.apply("flux", &deployment("shop", &[("app", "shop")], "v2"));
    // Less than a failed pass waits.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let writes = of_kind(&stage.server.writes(), "Canary");
    assert_eq!(writes[..2], ["apply Canary shop status 409", "apply Canary shop status"]);
    assert_eq!(stage.status("shop")["phase"], "Progressing");
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
        edit_state(canary, |state| {
            state["run"]["stage"] = "Analysing".into();
            state["run"]["step"] = 1.into();
            state["traffic"]["weight"] = 5000.into();
            let epoch = state["traffic"]["epoch"].as_u64().unwrap() + 1;
            state["traffic"]["epoch"] = epoch.into();
        });
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
async fn a_status_that_always_conflicts_holds_up_no_rollback() {
    let server = in_mid_rollout().await;
    let stage = Stage::start(&server);
    tokio::time::sleep(Duration::from_secs(5)).await;
    server.writes();
    let conflict = Answer::Refused(409, "Conflict", "the object has been modified");
    server.script(move |write| (write.kind == "Canary" && write.status).then_some(conflict));
    stage.edit("canaries", "shop", |canary| canary["metadata"]["annotations"]["weir.dev/verb"] = "abort 1".into());
    tokio::time::sleep(Duration::from_secs(5)).await;
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
