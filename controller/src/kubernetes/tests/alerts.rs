//! Who is told what of a release, and by which replica.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::server::ApiServer;
use super::stage::{Stage, canary, deployment, object};
use crate::alerts::tests::{Recorder, Sent};

fn provider(namespace: &str, kind: &str) -> Value {
    let spec = json!({"type": kind, "channel": "releases", "secretRef": {"name": "chat"}});
    let mut provider = object("weir.dev/v1beta1", "AlertProvider", "chat", spec);
    provider["metadata"]["namespace"] = namespace.into();
    provider
}

/// A Secret with the key `token`, and `address` where it is given one.
fn secret(namespace: &str, address: Option<&str>) -> Value {
    // "xoxb-1" and "http://chat/".
    let mut data = json!({"token": "eG94Yi0x"});
    if address.is_some() {
        data["address"] = "aHR0cDovL2NoYXQv".into();
    }
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "chat", "namespace": namespace}, "data": data})
}

/// A server with a Deployment, and a Canary whose alerts go to a provider of this namespace.
fn told_in(namespace: &str, kind: &str) -> ApiServer {
    let server = ApiServer::default();
    server.apply("flux", &secret(namespace, (kind != "slack").then_some("http://chat/")));
    server.apply("flux", &provider(namespace, kind));
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
    let mut canary = canary("shop", json!({}));
    canary["spec"]["analysis"]["alerts"] =
        json!([{"name": "chat", "severity": "info", "providerRef": {"name": "chat", "namespace": namespace}}]);
    server.apply("flux", &canary);
    server
}

async fn initialized(server: &ApiServer, recorder: &Arc<Recorder>) -> Stage {
    let stage = Stage::start_with(server, recorder.clone());
    stage.phase("shop", "Initialized").await;
    stage.rest().await;
    stage
}

fn titles(sent: &[Sent]) -> Vec<String> {
    sent.iter().map(|sent| sent.body["metadata"]["title"].as_str().unwrap_or_default().to_owned()).collect()
}

fn condition(stage: &Stage) -> Option<Value> {
    let conditions = stage.status("shop")["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|condition| condition["type"] == "AlertsFailing")
}

#[tokio::test(start_paused = true)]
async fn a_release_is_told_with_its_images_and_how_it_ended() {
    let recorder = Recorder::slack();
    let server = told_in("shop", "webhook");
    let stage = initialized(&server, &recorder).await;
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v2"));
    stage.phase("shop", "Progressing").await;
    stage.rest().await;
    stage.edit("canaries", "shop", |canary| canary["metadata"]["annotations"]["weir.dev/verb"] = "abort 1".into());
    stage.phase("shop", "Failed").await;
    stage.rest().await;
    let sent = recorder.sent();
    let revision = stage.status("shop")["lastAppliedSpec"].as_str().unwrap()[..8].to_owned();
    let titles = titles(&sent);
    assert!(titles[0].starts_with("shop/shop: set up, the primary serves revision "), "{titles:?}");
    assert_eq!(titles[1], format!("shop/shop: revision {revision} is being released"));
    assert_eq!(titles.last().unwrap(), &format!("shop/shop: revision {revision} was taken back"));
    let last = &sent.last().unwrap().body;
    assert_eq!((&last["phase"], &last["metadata"]["severity"]), (&json!("Failed"), &json!("warn")), "{last:#}");
    assert_eq!(sent[1].body["metadata"]["images"], "c: shop v1 → v2");
    assert!(sent.iter().all(|sent| sent.url == "http://chat/" && sent.token.as_deref() == Some("xoxb-1")));
    assert_eq!(condition(&stage), None);
}

#[tokio::test(start_paused = true)]
async fn the_replica_that_leads_next_edits_the_message_of_the_one_before() {
    let recorder = Recorder::slack();
    let server = told_in("shop", "slack");
    let stage = initialized(&server, &recorder).await;
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v2"));
    stage.phase("shop", "Progressing").await;
    stage.rest().await;
    let posts = |sent: &[Sent]| -> Vec<String> {
        let top = |sent: &&Sent| sent.url.ends_with("chat.postMessage") && sent.body.get("thread_ts").is_none();
        sent.iter().filter(top).map(|sent| sent.body["text"].as_str().unwrap().to_owned()).collect()
    };
    let before = posts(&recorder.sent());
    let thread = stage.status("shop")["alerts"][0].clone();
    assert_eq!((&thread["provider"], &thread["channel"]), (&json!("shop/chat"), &json!("C1")), "{thread}");
    let next = Stage::start_with(&stage.kill(), recorder.clone());
    next.edit("canaries", "shop", |canary| canary["metadata"]["annotations"]["weir.dev/verb"] = "abort 1".into());
    next.phase("shop", "Failed").await;
    next.rest().await;
    let sent = recorder.sent();
    assert_eq!(posts(&sent), before, "one message for each rollout");
    let edited = sent.iter().rev().find(|sent| sent.url.ends_with("chat.update")).unwrap();
    assert_eq!(edited.body["ts"], thread["timestamp"]);
    assert!(edited.body["text"].as_str().unwrap().ends_with("was taken back"), "{}", edited.body);
}

#[tokio::test(start_paused = true)]
async fn a_provider_of_another_namespace_is_refused_by_name_unless_it_is_shared() {
    let recorder = Recorder::slack();
    let server = told_in("ops", "webhook");
    let stage = initialized(&server, &recorder).await;
    let message = condition(&stage).unwrap()["message"].as_str().unwrap().to_owned();
    let why = "spec.analysis.alerts[0] (chat): AlertProvider ops/chat: it is of another namespace and not shared: give it \
               the annotation weir.dev/shared: \"true\", or name one of shop";
    assert_eq!((message.as_str(), recorder.sent().len()), (why, 0));
    assert_eq!(stage.status("shop")["phase"], "Initialized", "no release waits for it");
    let told = stage.events().into_iter().find(|(text, _)| text.contains("not shared")).unwrap();
    assert_eq!(told.1, 1, "{told:?}");
    server.edit("alertproviders", "ops", "chat", |it| it["metadata"]["annotations"]["weir.dev/shared"] = "true".into());
    stage.rest().await;
    assert_eq!(condition(&stage), None);
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v2"));
    stage.phase("shop", "Progressing").await;
    stage.rest().await;
    assert!(!recorder.sent().is_empty());
}

#[tokio::test(start_paused = true)]
async fn providers_of_weirs_own_namespace_are_everybodys() {
    let recorder = Recorder::slack();
    let server = told_in("weir-system", "webhook");
    let stage = initialized(&server, &recorder).await;
    assert_eq!((condition(&stage), recorder.sent().len()), (None, 1));
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_cannot_work_is_told_once_and_again_for_another_reason() {
    let recorder = Recorder::slack();
    let server = told_in("shop", "webhook");
    let stage = initialized(&server, &recorder).await;
    let before = recorder.sent().len();
    stage.edit("canaries", "shop", |canary| canary["spec"]["analysis"]["interval"] = "1ms".into());
    stage.rest().await;
    stage.rest().await;
    let sent = recorder.sent();
    assert_eq!(sent.len(), before + 1, "{sent:#?}");
    let metadata = &sent.last().unwrap().body["metadata"];
    assert_eq!((&metadata["severity"], &metadata["reason"]), (&json!("error"), &json!("InvalidSpec")));
    assert!(metadata["eventMessage"].as_str().unwrap().contains("spec.analysis.interval"), "{metadata}");
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_hangs_delays_no_decision() {
    let seconds = async |recorder: Arc<Recorder>| {
        let server = told_in("shop", "webhook");
        let stage = Stage::start_with(&server, recorder);
        let begun = tokio::time::Instant::now();
        stage.phase("shop", "Initialized").await;
        server.apply("flux", &deployment("shop", &[("app", "shop")], "v2"));
        stage.phase("shop", "Progressing").await;
        stage.edit("canaries", "shop", |canary| canary["metadata"]["annotations"]["weir.dev/verb"] = "abort 1".into());
        stage.phase("shop", "Failed").await;
        begun.elapsed().as_secs()
    };
    let (prompt, hanging) = (seconds(Recorder::slack()).await, seconds(Recorder::with(|_, _| None)).await);
    assert_eq!(hanging, prompt);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_arrive_is_told_in_the_status_until_something_does() {
    let broken = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let is_broken = broken.clone();
    let recorder = Recorder::with(move |_, _| {
        let status = if is_broken.load(std::sync::atomic::Ordering::Relaxed) { 403 } else { 200 };
        Some(Ok(crate::alerts::notifiers::Answer { status, retry_after: None, body: "no such hook".into() }))
    });
    let server = told_in("shop", "webhook");
    let stage = initialized(&server, &recorder).await;
    assert_eq!(condition(&stage).unwrap()["message"], "AlertProvider shop/chat: 403 no such hook");
    assert!(
        stage.events().keys().any(|text| text == "alerts are not delivered: AlertProvider shop/chat: 403 no such hook")
    );
    let told = recorder.sent().len();
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(recorder.sent().len(), told, "that alerts fail is no alert");
    broken.store(false, std::sync::atomic::Ordering::Relaxed);
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v2"));
    stage.phase("shop", "Progressing").await;
    stage.rest().await;
    assert_eq!(condition(&stage), None);
}
