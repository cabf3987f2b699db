//! What a Canary refers to and others make: it may come later, be gone for a while, or never come.

use std::time::Duration;

use serde_json::{Value, json};

use super::server::ApiServer;
use super::stage::{Stage, canary, deployment, object};

/// Returns a condition of the Canary: its status and its reason.
fn condition(stage: &Stage, kind: &str) -> (String, String) {
    let [status, reason, _] = stage.condition("shop", kind);
    (status, reason)
}

fn is(found: (String, String), status: &str, reason: &str) -> bool {
    found == (status.to_owned(), reason.to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_applied_after_its_canary_is_waited_for_and_never_stalled() {
    let server = ApiServer::default();
    server.apply("flux", &canary("shop", json!({})));
    let stage = Stage::start(&server);
    stage.reason("shop", "TargetMissing").await;
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(is(condition(&stage, "Ready"), "Unknown", "TargetMissing"), "in progress: {}", stage.status("shop"));
        assert!(!stage.is("shop", "Stalled"));
    }
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
    stage.phase("shop", "Initialized").await;
    assert!(stage.is("shop", "Ready") && !stage.is("shop", "Stalled"));
}

#[tokio::test(start_paused = true)]
async fn a_target_that_does_not_come_within_a_minute_is_stalled_and_stays_so_for_the_next_controller() {
    let server = ApiServer::default();
    server.apply("flux", &canary("shop", json!({})));
    let stage = Stage::start(&server);
    stage.reason("shop", "TargetMissing").await;
    tokio::time::sleep(Duration::from_secs(70)).await;
    assert!(is(condition(&stage, "Stalled"), "True", "TargetMissing"), "{}", stage.status("shop"));
    let server = stage.kill();
    let stage = Stage::start(&server);
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(stage.is("shop", "Stalled"), "{}", stage.status("shop"));
    }
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
    stage.phase("shop", "Initialized").await;
    assert!(!stage.is("shop", "Stalled"));
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_was_ready_stays_so_with_the_reason_while_something_is_missing() {
    let stage = Stage::initialized().await;
    assert!(stage.is("shop", "Ready"));
    stage.edit("deployments", "shop", |target| {
        let from = json!([{"configMapRef": {"name": "settings"}}]);
        target["spec"]["template"]["spec"]["containers"][0]["envFrom"] = from;
    });
    stage.reason("shop", "ConfigMissing").await;
    assert!(is(condition(&stage, "Ready"), "True", "ConfigMissing"), "{}", stage.status("shop"));
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert!(stage.is("shop", "Ready") && !stage.is("shop", "Stalled"), "{}", stage.status("shop"));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(is(condition(&stage, "Stalled"), "True", "ConfigMissing"), "{}", stage.status("shop"));
    let mut settings = object("v1", "ConfigMap", "settings", Value::Null);
    settings["data"] = json!({"level": "1"});
    stage.server.apply("flux", &settings);
    stage.until_not_stalled("shop").await;
    assert!(stage.is("shop", "Ready"));
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_is_told_after_a_minute_however_often_the_controller_is_killed() {
    let server = ApiServer::default();
    server.apply("flux", &canary("shop", json!({})));
    let mut stage = Stage::start(&server);
    stage.reason("shop", "TargetMissing").await;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(25)).await;
        let server = stage.kill();
        stage = Stage::start(&server);
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(is(condition(&stage, "Stalled"), "True", "TargetMissing"), "{}", stage.status("shop"));
    assert!(is(condition(&stage, "ReferencesResolved"), "False", "TargetMissing"), "{}", stage.status("shop"));
    stage.server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
    stage.phase("shop", "Initialized").await;
    assert_eq!(condition(&stage, "ReferencesResolved"), (String::new(), String::new()));
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_is_not_there_or_finds_no_pod_is_not_bound() {
    let server = ApiServer::default();
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
    server.apply("flux", &canary("shop", json!({"gateways": ["public"], "hosts": ["shop.example.com"]})));
    let stage = Stage::start(&server);
    stage.phase("shop", "Initialized").await;
    assert!(is(condition(&stage, "GatewayBound"), "False", "GatewayMissing"), "{}", stage.status("shop"));
    let servers = json!([{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}]);
    let gateway = json!({"selector": {"istio": "public"}, "servers": servers});
    server.apply("flux", &object("networking.istio.io/v1", "Gateway", "public", gateway));
    stage.rest().await;
    assert!(is(condition(&stage, "GatewayBound"), "False", "NoGateway"), "{}", stage.status("shop"));
}
