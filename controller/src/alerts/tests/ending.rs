//! How what is told ends: a rollout that another one replaced, a program that stops, and what nobody wants to hear.

use super::*;
use crate::status_store::AlertResult;

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_gone_or_of_another_kind_fails_no_more() {
    let refused = Answer { status: 404, retry_after: None, body: "no such hook".into() };
    let recorder = Recorder::with(move |_, _| Some(Ok(refused.clone())));
    let failing = async |then: &dyn Fn(Told)| {
        let mut told = Told::new(&slack(), &json!({"token": "x"}), "info", recorder.clone());
        told.tell(Severity::Warning, "Paused", "r1");
        minutes(2).await;
        let statuses = told.statuses.clone();
        assert!(told.counted().3, "refused");
        then(told);
        statuses.alerts().into_values().any(|counts| counts.failing)
    };
    let gone = |told: Told| drop(told.alerts.problems("shop", &told.analysis, |_, _| Provider::Missing));
    assert!(!failing(&gone).await, "the provider is gone");
    let unknown = |told: Told| {
        drop(told.alerts.problems("shop", &told.analysis, |_, _| Provider::NotKnownYet));
        assert!(told.counted().3, "a cache that fills says nothing of it");
    };
    assert!(!failing(&unknown).await, "the Canary is gone");
    let moved = |told: Told| {
        let receiver = told.statuses.alerts().into_keys().next().unwrap();
        told.statuses.count_alert((receiver.0, "msteams".into()), AlertResult::Sent);
    };
    assert!(!failing(&moved).await, "what is of another kind now has arrived");
}

#[tokio::test(start_paused = true)]
async fn a_webhook_that_is_muted_causes_no_alert() {
    let recorder = Recorder::with(|_, _| Some(Ok(ok(&json!("ok")))));
    let spec = json!({"type": "webhook", "address": "http://w/"});
    let mut told = Told::new(&spec, &json!({}), "info", recorder.clone());
    told.analysis.webhooks = serde_json::from_value(json!([
        {"name": "gate", "url": "http://g/", "muteAlert": true}, {"name": "other", "url": "http://g/"},
    ]))
    .unwrap();
    for webhook in [Some("gate"), Some("other"), None] {
        let event = Event::new(Severity::Warning, "WaitingForGate", "Halt cart.shop advancement");
        told.event(&Event { webhook: webhook.map(str::to_owned), ..event }, "r1", Phase::Waiting);
    }
    minutes(1).await;
    assert_eq!(recorder.sent().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_message_of_a_rollout_that_a_newer_one_replaced_says_so_and_is_edited_no_more() {
    let recorder = Recorder::slack();
    let mut told = Told::new(&slack(), &json!({"token": "x"}), "info", recorder.clone());
    told.tell(Severity::Info, "NewRevision", "r1");
    minutes(1).await;
    let ended = EndedView {
        run: "r1".into(),
        revision: "0ld".into(),
        result: weir_engine::Outcome::Superseded,
        reason: "NewRevision".into(),
        weight: 30.0,
        ..EndedView::default()
    };
    let event = Event::new(Severity::Info, "NewRevision", "New revision detected! Restarting analysis for cart.shop");
    told.event_after(&event, "r2", Phase::Progressing, Some(ended.clone()));
    minutes(1).await;
    let calls: Vec<_> = recorder.sent().iter().map(|s| s.url.rsplit('/').next().unwrap().to_owned()).collect();
    assert_eq!(calls, ["chat.postMessage", "chat.update", "chat.postMessage", "chat.postMessage"]);
    let edit = &recorder.sent()[1].body;
    assert_eq!(edit["ts"], "170.1");
    assert!(edit["text"].as_str().unwrap().contains("shop/cart: revision 0ld was replaced by "), "{edit:#}");
    assert!(recorder.sent()[2].body["text"].as_str().unwrap().contains("while 0ld had 30 %"));
    assert_eq!(told.alerts.deliveries().threads()[0].run, "r2");
    // The third one's beginning is the second one's end, and says nothing of the first any more.
    told.event_after(&event, "r3", Phase::Progressing, Some(EndedView { reason: "Promoted".into(), ..ended }));
    minutes(1).await;
    assert_eq!(recorder.sent().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn who_keeps_no_message_is_told_of_the_newer_rollout_alone() {
    for (spec, secret) in
        [(json!({"type": "webhook", "address": "http://w/"}), json!({})), (slack(), json!({"token": "x"}))]
    {
        let recorder = Recorder::slack();
        let mut told = Told::new(&spec, &secret, "info", recorder.clone());
        let result = weir_engine::Outcome::Superseded;
        let ended = EndedView { run: "r1".into(), result, reason: "NewRevision".into(), ..EndedView::default() };
        let event = Event::new(Severity::Info, "NewRevision", "New revision detected!");
        told.event_after(&event, "r2", Phase::Progressing, Some(ended));
        minutes(1).await;
        assert_eq!(recorder.sent().len(), 1, "{spec}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_tells_a_lot_to_a_shared_provider_silences_no_other_namespace() {
    let recorder = Recorder::with(|_, _| Some(Ok(ok(&json!("ok")))));
    let spec = json!({"type": "discord", "address": "http://d/1"});
    let told = Told::new(&spec, &json!({}), "info", recorder.clone());
    let send = |namespace: &str, text: &str| {
        let situation = Situation::unknown(namespace, "cart");
        let event = Event::new(Severity::Error, "EvidenceBad", text.to_owned());
        let message = Arc::new(Message::of(&event, &situation, None, Timestamp(0)).unwrap());
        let deliveries = Deliveries::new(Arc::new(Notify::new()), told.statuses.clone());
        told.alerts.alerts.send("ops/chat".into(), told.spec.clone(), Severity::Info, &message, &deliveries);
        deliveries
    };
    let loud: Vec<_> = (0..200).map(|number| send("evil", &format!("number {number}"))).collect();
    let quiet = send("bank", "of the bank");
    assert_eq!(quiet.failures().len(), 0);
    assert!(loud.last().unwrap().failures()["ops/chat"].contains("left out"), "who loses one is told so");
    minutes(3).await;
    let arrived = |text: &str| recorder.sent().iter().filter(|sent| sent.body.to_string().contains(text)).count();
    assert_eq!((arrived("of the bank"), arrived("number ")), (1, 24));
}

#[tokio::test(start_paused = true)]
async fn alerts_on_their_way_arrive_before_the_program_ends_and_one_that_hangs_does_not_keep_it() {
    let recorder = Recorder::with(|_, _| Some(Ok(ok(&json!("ok")))));
    let mut told =
        Told::new(&json!({"type": "discord", "address": "http://d/1"}), &json!({}), "info", recorder.clone());
    for run in ["r1", "r2", "r3"] {
        told.tell(Severity::Error, "EvidenceBad", run);
    }
    told.alerts.alerts.clone().finish().await;
    assert_eq!((recorder.sent().len(), told.counted().0), (3, 3));
    assert!(told.alerts.alerts.pending.lock().is_empty());

    let hanging = Recorder::with(|_, _| None);
    let mut told = Told::new(&json!({"type": "discord", "address": "http://d/1"}), &json!({}), "info", hanging);
    told.tell(Severity::Error, "EvidenceBad", "r1");
    let begun = Instant::now();
    told.alerts.alerts.clone().finish().await;
    assert_eq!(
        told.alerts.alerts.pending.lock().get(&("shop/chat".into(), "shop".into())),
        Some(&1),
        "lost, and said so"
    );
    assert!(begun.elapsed() < Duration::from_secs(20), "Kubernetes kills it then");
}
