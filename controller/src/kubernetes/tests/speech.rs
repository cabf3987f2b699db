//! A revision that speaks otherwise than the one in production, and the spec that says so.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::server::ApiServer;
use super::stage::{Stage, deployment};

/// What a spec says of a revision that speaks gRPC by TLS.
fn speak_grpc(canary: &mut Value) {
    canary["spec"]["service"]["appProtocol"] = "grpc".into();
    canary["spec"]["service"]["portName"] = "grpc".into();
    canary["spec"]["service"]["trafficPolicy"] =
        json!({"tls": {"mode": "SIMPLE"}, "connectionPool": {"http": {"http2MaxRequests": 7}}});
}

/// How an arm is spoken to: the port's name, its application protocol, and the mode of TLS.
fn spoken(stage: &Stage, arm: &str) -> [Value; 3] {
    let port = stage.get("services", &format!("shop-{arm}"))["spec"]["ports"][0].clone();
    let policy = stage.get("destinationrules", &format!("shop-{arm}"))["spec"]["trafficPolicy"].clone();
    [port["name"].clone(), port["appProtocol"].clone(), policy["tls"]["mode"].clone()]
}

fn http() -> [Value; 3] {
    ["http".into(), Value::Null, Value::Null]
}

fn grpc() -> [Value; 3] {
    ["grpc".into(), "grpc".into(), "SIMPLE".into()]
}

fn target(version: &str) -> Value {
    deployment("shop", &[("app", "shop")], version)
}

/// Notes every write of the primary's Service and policy, and of the Service that users call.
fn watch(server: &ApiServer) -> Arc<Mutex<Vec<String>>> {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let noting = seen.clone();
    server.script(move |write| {
        let of_primary = ["shop-primary", "shop"].contains(&write.name.as_str());
        if of_primary && ["Service", "DestinationRule"].contains(&write.kind.as_str()) {
            noting.lock().unwrap().push(write.body["spec"].to_string());
        }
        None
    });
    seen
}

#[tokio::test(start_paused = true)]
async fn the_primary_is_spoken_to_as_its_revision_was_promoted() {
    for (canary_first, seconds) in [(true, 0), (true, 4), (false, 0), (false, 4)] {
        let stage = Stage::initialized().await;
        let seen = watch(&stage.server);
        let apply = |of_canary: bool| match of_canary {
            true => stage.edit("canaries", "shop", speak_grpc),
            false => stage.server.apply("flux", &target("v2")),
        };
        apply(canary_first);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        apply(!canary_first);
        stage.phase("shop", "Progressing").await;
        stage.rest().await;
        assert_eq!((spoken(&stage, "primary"), spoken(&stage, "canary")), (http(), grpc()), "{canary_first} {seconds}");
        let port = stage.get("services", "shop")["spec"]["ports"][0].clone();
        assert_eq!(
            (&port["name"], &port["appProtocol"]),
            (&json!("http"), &Value::Null),
            "it leads to the primary too"
        );
        let written = seen.lock().unwrap().join("\n");
        assert!(!written.contains("grpc") && !written.contains("SIMPLE"), "{written}");
        // What does not say how pods are spoken to holds for both at once.
        let pool = stage.get("destinationrules", "shop-primary")["spec"]["trafficPolicy"]["connectionPool"].clone();
        assert_eq!(pool["http"]["http2MaxRequests"], 7);
        // It comes with the promotion.
        stage.edit("canaries", "shop", |canary| canary["spec"]["skipAnalysis"] = true.into());
        stage.server.apply("flux", &target("v3"));
        stage.phase("shop", "Succeeded").await;
        stage.rest().await;
        assert_eq!((spoken(&stage, "primary"), spoken(&stage, "canary")), (grpc(), grpc()));
        let annotations = stage.get("services", "shop-primary")["metadata"]["annotations"].clone();
        assert!(annotations["weir.dev/speech"].is_null(), "{annotations}");
        assert_eq!(stage.changed().await, [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_promotion_that_is_undone_has_the_primary_spoken_to_as_its_former_revision_was() {
    let stage = Stage::initialized().await;
    stage.edit("canaries", "shop", |canary| {
        speak_grpc(canary);
        canary["spec"]["skipAnalysis"] = true.into();
        canary["spec"]["progressDeadlineSeconds"] = 120.into();
    });
    stage.server.stick("shop-primary", true);
    stage.server.apply("flux", &target("v2"));
    stage.phase("shop", "Promoting").await;
    stage.phase("shop", "Failed").await;
    stage.rest().await;
    assert_eq!(spoken(&stage, "primary"), http());
    stage.server.stick("shop-primary", false);
    stage.rest().await;
    assert_eq!((spoken(&stage, "primary"), spoken(&stage, "canary")), (http(), grpc()));
    // Nor does it change while nothing is released, or where the target and the spec are taken back one after the other.
    stage.server.apply("flux", &target("v1"));
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(spoken(&stage, "primary"), http());
    stage.edit("canaries", "shop", |canary| {
        let service = canary["spec"]["service"].as_object_mut().unwrap();
        ["appProtocol", "portName", "trafficPolicy"].iter().for_each(|field| drop(service.remove(*field)));
    });
    stage.rest().await;
    assert_eq!(spoken(&stage, "primary")[1..], http()[1..]);
}

#[tokio::test(start_paused = true)]
async fn a_spec_that_changes_alone_holds_for_what_runs_too() {
    let stage = Stage::initialized().await;
    stage.edit("canaries", "shop", speak_grpc);
    stage.rest().await;
    assert_eq!((spoken(&stage, "primary"), spoken(&stage, "canary")), (grpc(), grpc()));
}
