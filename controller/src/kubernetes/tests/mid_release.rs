//! Callers that come and go, in mid-release and at rest: who is waited for, and how often a status is written of it.

use std::sync::Arc;

use serde_json::{Value, json};
use weir_engine::{FilterMode, Timestamp};
use weir_wire::{Canary, Weight};

use super::callers::{bound, minutes, namespace, prepared, running, silent};
use super::stage::{NAMESPACE, Stage, deployment, of_kind};
use crate::api::canary_id;
use crate::gateway_config::RouteNames;
use crate::kubernetes::gateway::GatewayWorkload;
use crate::publisher::Desired;

/// The workload of callers of a namespace.
fn workload(stage: &Stage, namespace: &str) -> Arc<GatewayWorkload> {
    stage.registry.all().into_iter().find(|workload| workload.names.namespace == namespace).unwrap()
}

/// Has the sidecars of a namespace split the requests to `shop`, as in mid-release.
fn split(stage: &Stage, namespace: &str) {
    let id = canary_id(NAMESPACE, "shop");
    let canary = Canary { id, name: "shop/shop".into(), token: "t".into(), weight: Weight::FULL, ..Canary::default() };
    let routes = RouteNames { primary: vec!["shop/shop".into()], ..RouteNames::default() };
    workload(stage, namespace).set_desired(Desired { canary, filter: FilterMode::On, routes, since: Timestamp(0) });
}

#[tokio::test(start_paused = true)]
async fn callers_that_leave_in_mid_release_are_waited_for_until_they_split_no_more_ten_minutes_at_most() {
    type Leave = fn(&Stage);
    let ways: [(&str, Leave); 3] = [
        ("callers", |stage| {
            stage.edit("canaries", "shop", |canary| canary["spec"]["service"]["callers"] = json!([{}]))
        }),
        ("label", |stage| stage.server.apply("admin", &namespace("web", false))),
        ("mesh", |stage| {
            stage.edit("canaries", "shop", |canary| {
                canary["spec"]["service"] = json!({"port": 80, "gateways": ["public"], "hosts": ["shop.example.com"]});
            })
        }),
    ];
    for (way, leave) in ways {
        let server = prepared(json!({"callers": [{}, {"namespace": "web"}]}));
        server.apply("admin", &namespace("web", true));
        ["web", NAMESPACE].iter().for_each(|name| running(&server, name, "client", true));
        let stage = Stage::start(&server);
        stage.reason("shop", "NotAcknowledged").await;
        // Where the pass after this one leaves nobody out, it asks for no requests itself.
        split(&stage, "web");
        leave(&stage);
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        let id = canary_id(NAMESPACE, "shop");
        let leaving = |stage: &Stage| {
            let leaving = stage.registry.leaving(&id, &[]);
            leaving.iter().map(|workload| workload.names.namespace.clone()).collect::<Vec<_>>()
        };
        assert_eq!(leaving(&stage), ["web"], "{way}");
        let (gateways, _) = workload(&stage, "web").seen_leaving(&stage.stores, &id);
        assert!(gateways.len() == 1 && gateways[0].filtering && gateways[0].acknowledged.is_none(), "{way}");
        minutes(11).await;
        assert_eq!(leaving(&stage), [""; 0], "{way}");
    }
}

#[tokio::test(start_paused = true)]
async fn callers_that_come_and_go_at_rest_are_written_of_a_few_times_and_then_every_five_minutes() {
    let server = prepared(json!({}));
    let stage = Stage::initialized_of(&server).await;
    running(&server, NAMESPACE, "first", false);
    minutes(1).await;
    assert!(bound(&stage)[2].contains("1 pods there have no sidecar (shop/first)"), "{}", bound(&stage)[2]);
    server.writes();
    for minute in 0..40 {
        let name = format!("job-{minute}");
        running(&server, NAMESPACE, &name, minute % 2 == 0);
        minutes(1).await;
        if minute > 0 {
            server.delete("pods", NAMESPACE, &format!("job-{}", minute - 1));
        }
    }
    let written = of_kind(&server.writes(), "Canary").len();
    assert!((2..=20).contains(&written), "{written}");
    assert!(bound(&stage)[2].contains("shop/first"), "{}", bound(&stage)[2]);
    // A release is written of at once.
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v2"));
    stage.phase("shop", "Progressing").await;
    assert_ne!(stage.get("canaries", "shop")["status"]["state"], Value::Null);
}

#[tokio::test(start_paused = true)]
async fn where_no_caller_answers_none_is_called_split_and_the_first_setup_ends_after_ten_minutes() {
    let server = prepared(json!({}));
    ["client", "own"].iter().for_each(|name| silent(&server, NAMESPACE, name));
    server.edit("pods", NAMESPACE, "own", |pod| pod["metadata"]["labels"] = json!({"app": "shop"}));
    let stage = Stage::start(&server);
    stage.reason("shop", "NotAcknowledged").await;
    minutes(2).await;
    let [_, reason, message] = bound(&stage);
    assert!(reason == "PodsSilent" && message.contains("shop/client (its metrics cannot be read"), "{message}");
    assert!(message.contains("no request of the 2 callers with a sidecar in shop is split"), "{message}");
    assert!(!message.contains("shop/own"), "the target's own pod is called: {message}");
    server.delete("pods", NAMESPACE, "own");
    minutes(1).await;
    let [_, _, message] = bound(&stage);
    assert!(message.contains("no request of the 1 callers with a sidecar in shop is split"), "{message}");
    stage.phase("shop", "Initialized").await;
    assert!(
        stage
            .events()
            .keys()
            .any(|event| event.contains("shop/client") && event.contains("the primary serves all the same"))
    );
}
