//! What the API server refuses, does not answer, or answers differently than expected.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::server::{Answer, ApiServer};
use super::stage::{Stage, canary, deployment, edit_state, object};
use crate::kubernetes::api_server::object::Cached;
use crate::kubernetes::reconcile::supervise::{reconciler_of, supervise};
use crate::kubernetes::run::inherit;
use crate::status_store::StatusStore;

const SENTENCE: &str = "admission webhook \"policy.example.com\" denied the request: Services need an owner";

fn prepared() -> ApiServer {
    let server = ApiServer::default();
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
    server.apply("flux", &canary("shop", json!({})));
    server
}

#[tokio::test(start_paused = true)]
async fn a_refused_write_is_told_in_the_status_and_one_event_and_clears_by_itself() {
    let server = prepared();
    server.script(|write| {
        (write.kind == "Service" && write.name == "shop-canary").then_some(Answer::Refused(403, "Forbidden", SENTENCE))
    });
    let stage = Stage::start(&server);
    stage.reason("shop", "WriteRefused").await;
    let told = format!("apply Service shop-canary: {SENTENCE}");
    assert_eq!(stage.said("shop").1, told);
    stage.rest().await;
    assert_eq!((stage.said("shop").1, stage.is("shop", "Stalled")), (told.clone(), true));
    assert_eq!(stage.events().get(&told), Some(&1), "{:?}", stage.events());
    server.behave();
    stage.phase("shop", "Initialized").await;
    stage.rest().await;
    assert_eq!((stage.said("shop").0.as_str(), stage.is("shop", "Stalled")), ("UpToDate", false));
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_write_that_is_refused_is_told() {
    for kind in ["Service", "DestinationRule", "Deployment", "VirtualService", "ControllerRevision"] {
        let server = prepared();
        server.script(move |write| (write.kind == kind).then_some(Answer::Refused(422, "Invalid", "no")));
        let stage = Stage::start(&server);
        stage.reason("shop", "WriteRefused").await;
        assert!(stage.said("shop").1.contains(kind), "{:?}", stage.said("shop"));
        server.behave();
        stage.phase("shop", "Initialized").await;
    }
}

#[tokio::test(start_paused = true)]
async fn refused_writes_are_tried_again_later_and_later() {
    let server = prepared();
    server
        .script(|write| (write.kind == "Service").then_some(Answer::Refused(500, "InternalError", "webhook is down")));
    let stage = Stage::start(&server);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let tries = |stage: &Stage| stage.server.writes().iter().filter(|write| write.kind == "Service").count();
    let (first, mut last) = (tries(&stage), 0);
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(60)).await;
        last = tries(&stage);
    }
    assert!((4..=12).contains(&first) && (1..=4).contains(&last), "{first} in the first minute, {last} in the sixth");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_never_answered_is_given_up_and_told() {
    let server = prepared();
    server.script(|write| (write.kind == "DestinationRule").then_some(Answer::Hang));
    let stage = Stage::start(&server);
    stage.reason("shop", "NoAnswer").await;
    assert_eq!(stage.said("shop").1, "apply DestinationRule shop-primary: no answer within 10 s");
    server.behave();
    stage.phase("shop", "Initialized").await;
}

#[tokio::test(start_paused = true)]
async fn a_conflict_is_tried_again_and_told_to_nobody() {
    let server = prepared();
    let conflicts = AtomicUsize::new(0);
    server.script(move |write| {
        let first = write.kind == "Service" && conflicts.fetch_add(1, Ordering::Relaxed) < 2;
        first.then_some(Answer::Refused(409, "Conflict", "try again"))
    });
    let stage = Stage::start(&server);
    stage.phase("shop", "Initialized").await;
    assert!(!stage.events().keys().any(|text| text.contains("try again")), "{:?}", stage.events());
}

#[tokio::test(start_paused = true)]
async fn a_conflict_or_a_server_that_is_busy_is_told_where_it_lasts() {
    let codes = [(409, "conflict"), (422, "not so"), (429, "too many"), (503, "unavailable"), (504, "too late")];
    let kinds = ["Service", "Deployment", "HorizontalPodAutoscaler", "Canary"];
    let all = kinds.into_iter().flat_map(|kind| codes.map(|(code, said)| (kind, code, said)));
    // A conflict of the finalizer is that of a Canary that is gone.
    for (kind, code, said) in all.filter(|(kind, code, _)| (*kind, *code) != ("Canary", 409)) {
        let server = prepared();
        let scaler = json!({"scaleTargetRef": {"kind": "Deployment", "name": "shop"}, "maxReplicas": 3});
        server.apply("flux", &object("autoscaling/v2", "HorizontalPodAutoscaler", "shop", scaler));
        server.edit("canaries", "shop", "shop", |canary| {
            canary["spec"]["autoscalerRef"] = json!({"kind": "HorizontalPodAutoscaler", "name": "shop"});
        });
        server
            .script(move |write| (write.kind == kind && !write.status).then_some(Answer::Refused(code, "Busy", said)));
        let stage = Stage::start(&server);
        stage.reason("shop", "WriteRefused").await;
        assert!(stage.said("shop").1.ends_with(said), "{kind}: {:?}", stage.said("shop"));
        server.behave();
        stage.phase("shop", "Initialized").await;
        assert!(!stage.is("shop", "Stalled"), "{kind}: {:?}", stage.said("shop"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_that_cannot_be_stored_keeps_everything_else_from_being_written() {
    let server = prepared();
    let stage = Stage::start(&server);
    stage.phase("shop", "Initialized").await;
    stage.rest().await;
    server.script(|write| write.status.then_some(Answer::Refused(500, "InternalError", "etcd is full")));
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v2"));
    let changed = stage.changed().await;
    assert!(!changed.iter().any(|write| write == "apply Deployment shop"), "{changed:?}");
    server.behave();
    stage.phase("shop", "Progressing").await;
}

#[tokio::test(start_paused = true)]
async fn the_loop_of_a_canary_that_panics_is_started_again_and_says_so() {
    let server = prepared();
    server.apply("flux", &deployment("cart", &[("app", "cart")], "v1"));
    server.apply("flux", &canary("cart", json!({})));
    let stage = Stage::idle(&server).await;
    let keep = reconciler_of(stage.stores.clone(), stage.registry.clone(), StatusStore::new().0);
    let starts = Arc::new(AtomicUsize::new(0));
    let counted = starts.clone();
    let supervisor = tokio::spawn(supervise(stage.stores.clone(), Vec::new(), move |key| {
        match key.1 == "shop" && counted.fetch_add(1, Ordering::Relaxed) < 3 {
            true => Box::pin(async { panic!("index out of bounds") }),
            false => keep(key),
        }
    }));
    stage.phase("cart", "Initialized").await;
    stage.phase("shop", "Initialized").await;
    assert_eq!(starts.load(Ordering::Relaxed), 4);
    let told = stage.events().into_keys().filter(|text| text.contains("index out of bounds")).count();
    assert!(told >= 1, "{:?}", stage.events());
    supervisor.abort();
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_goes_before_its_loop_begins_is_shown_no_more() {
    let server = prepared();
    let stage = Stage::idle(&server).await;
    let statuses = StatusStore::new().0;
    let gone = Cached::new(serde_json::from_value(canary("gone", json!({}))).unwrap()).unwrap();
    let known = [stage.stores.canaries.all(), vec![Arc::new(gone)]].concat();
    inherit(&known, &statuses);
    let shown = || statuses.list().items.into_iter().map(|view| view.name).collect::<Vec<_>>();
    assert_eq!(shown(), ["gone", "shop"]);
    let start = reconciler_of(stage.stores.clone(), stage.registry.clone(), statuses.clone());
    let supervisor = tokio::spawn(supervise(stage.stores.clone(), known, start));
    stage.phase("shop", "Initialized").await;
    assert_eq!(shown(), ["shop"]);
    supervisor.abort();
}

#[tokio::test(start_paused = true)]
async fn routes_lead_to_a_canary_that_stands_in_for_its_primary_until_that_serves_again() {
    let to = |stage: &Stage| {
        let routes = stage.get("virtualservices", "shop")["spec"]["http"].clone();
        let to = |route: &Value| route["route"][0]["destination"]["host"].as_str().unwrap().to_owned();
        routes.as_array().unwrap().iter().map(to).collect::<Vec<_>>()
    };
    let stage = Stage::initialized().await;
    stage.server.apply("flux", &deployment("shop", &[("app", "shop")], "v2"));
    stage.phase("shop", "Progressing").await;
    stage.rest().await;
    assert_eq!(to(&stage), ["shop-canary", "shop-primary"]);
    let server = stage.kill();
    // A promotion failed: nothing but the canary serves.
    server.stick("shop-primary", true);
    server.edit("canaries", "shop", "shop", |canary| {
        edit_state(canary, |state| {
            state["canary_is_home"] = true.into();
            state["traffic"]["weight"] = 10_000.into();
            state["traffic"]["fallback"] = true.into();
        });
    });
    // Nor can anything be written of the primary, to which the failed promotion has left its template.
    server.edit("deployments", "shop", "shop-primary", |primary| {
        primary["spec"]["template"]["spec"]["containers"][0]["image"] = "shop:v2".into();
    });
    server.script(|write| {
        (write.name == "shop-primary" && write.kind == "Deployment").then_some(Answer::Refused(
            403,
            "Forbidden",
            SENTENCE,
        ))
    });
    let stage = Stage::start(&server);
    stage.rest().await;
    assert_eq!(stage.said("shop"), ("WriteRefused".into(), format!("apply Deployment shop-primary: {SENTENCE}")));
    // A gateway that starts without Weir, and so without its filter, sends everything to the canary.
    assert_eq!(to(&stage), ["shop-canary", "shop-canary"], "{:#}", stage.status("shop"));
    server.stick("shop-primary", false);
    server.behave();
    stage.rest().await;
    assert_eq!(to(&stage), ["shop-canary", "shop-primary"], "{:#}", stage.status("shop"));
}
