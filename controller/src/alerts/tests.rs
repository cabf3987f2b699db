//! Deliveries: with a transport that writes down in paused time, and to a real HTTP server.

mod ending;
mod loopback;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, pending, ready};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;
use weir_engine::{Phase, Run, State};

use super::notifiers::{Answer, Outgoing};
use super::*;
use crate::api::AlertProviderSpec;
use crate::outbound::Secrets;
use crate::status_store::StatusStore;
use crate::view::{CanaryView, EndedView};

/// One request, as it was sent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sent {
    pub(crate) url: String,
    pub(crate) token: Option<String>,
    pub(crate) proxy: Option<String>,
    pub(crate) body: Value,
    pub(crate) at: Instant,
}

/// What is answered to a request; nothing: no answer, ever.
type Script = Box<dyn Fn(usize, &Sent) -> Option<Result<Answer, String>> + Send + Sync>;

/// Writes down what is sent, and answers as it is told to.
pub(crate) struct Recorder {
    pub(crate) sent: Mutex<Vec<Sent>>,
    script: Mutex<Script>,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Recorder")
    }
}

impl Recorder {
    /// Returns one that answers as Slack does.
    pub(crate) fn slack() -> Arc<Self> {
        Self::with(|number, _| Some(Ok(ok(&json!({"ok": true, "channel": "C1", "ts": format!("17{number}.1")})))))
    }

    pub(crate) fn with(
        script: impl Fn(usize, &Sent) -> Option<Result<Answer, String>> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { sent: Mutex::default(), script: Mutex::new(Box::new(script)) })
    }

    pub(crate) fn sent(&self) -> Vec<Sent> {
        self.sent.lock().clone()
    }
}

impl Transport for Recorder {
    fn send(
        &self,
        _: &str,
        outgoing: &Outgoing,
        token: Option<&str>,
        proxy: Option<&str>,
    ) -> BoxFuture<'static, Result<Answer, String>> {
        let (url, body) = (outgoing.url.clone(), outgoing.body.clone());
        let (token, proxy) = (token.map(str::to_owned), proxy.map(str::to_owned));
        let sent = Sent { url, token, proxy, body, at: Instant::now() };
        let answer = (self.script.lock())(self.sent.lock().len(), &sent);
        self.sent.lock().push(sent);
        answer.map_or_else(|| pending().boxed(), |answer| ready(answer).boxed())
    }
}

fn ok(body: &Value) -> Answer {
    Answer { status: 200, retry_after: None, body: body.to_string() }
}

/// One Secret, or none.
#[derive(Debug)]
struct OneSecret(BTreeMap<String, String>);

impl Secrets for OneSecret {
    fn read(&self, _: &str, name: &str) -> BoxFuture<'static, Result<BTreeMap<String, String>, String>> {
        let found = (name == "chat").then(|| self.0.clone());
        ready(found.ok_or_else(|| "it does not exist; create it".to_owned())).boxed()
    }
}

/// One Canary that tells of its rollouts.
struct Told {
    alerts: CanaryAlerts,
    statuses: Arc<StatusStore>,
    spec: AlertProviderSpec,
    analysis: AnalysisSpec,
}

impl Told {
    fn new(spec: &Value, secret: &Value, severity: &str, transport: Arc<dyn Transport>) -> Self {
        let (statuses, _) = StatusStore::new();
        let deliveries = Deliveries::new(Arc::new(Notify::new()), statuses.clone());
        let secret = Arc::new(OneSecret(serde_json::from_value(secret.clone()).unwrap()));
        let settings = AlertSettings { cluster: Some("eu-1".into()), ..AlertSettings::default() };
        let alerts = CanaryAlerts::new(Alerts::new(settings, secret, transport), deliveries);
        let analysis = json!({"alerts": [{"name": "a", "severity": severity, "providerRef": {"name": "chat"}}]});
        let (spec, analysis) =
            (serde_json::from_value(spec.clone()).unwrap(), serde_json::from_value(analysis).unwrap());
        Self { alerts, statuses, spec, analysis }
    }

    fn event(&mut self, event: &Event, run: &str, phase: Phase) {
        self.event_after(event, run, phase, None);
    }

    fn event_after(&mut self, event: &Event, run: &str, phase: Phase, ended: Option<EndedView>) {
        let state = State { run: Some(Run { id: run.into(), ..Run::default() }), ..State::default() };
        let view = CanaryView {
            namespace: "shop".into(),
            name: "cart".into(),
            run: run.into(),
            phase,
            weight: 10.0,
            ended,
            ..CanaryView::default()
        };
        let spec = self.spec.clone();
        let provider = move |_: &str, name: &str| match name {
            "chat" => Provider::Found(spec.clone()),
            _ => Provider::Missing,
        };
        self.alerts.tell(
            event,
            &Situation::of(view, &state, Vec::new()),
            Timestamp(1_700_000_000_000),
            &self.analysis,
            provider,
        );
    }

    fn tell(&mut self, severity: Severity, reason: &'static str, run: &str) {
        self.event(&Event::new(severity, reason, format!("{reason} of <{run}>")), run, Phase::Progressing);
    }

    fn counted(&self) -> (u64, u64, u64, bool) {
        let counts = self.statuses.alerts().into_values().next().unwrap_or_default();
        (counts.sent, counts.failed, counts.dropped, counts.failing)
    }
}

fn slack() -> Value {
    json!({"type": "slack", "channel": "releases", "secretRef": {"name": "chat"}})
}

async fn minutes(minutes: u64) {
    tokio::time::sleep(Duration::from_secs(60 * minutes)).await;
}

/// Returns everything that a provider is sent of one release: where, as whom, and what.
pub(crate) fn sent(spec: &AlertProviderSpec) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let recorder = Recorder::slack();
        let mut told = Told::new(&json!(spec), &json!({"token": "xoxb"}), "info", recorder.clone());
        told.tell(Severity::Error, "EvidenceBad", "r1");
        minutes(1).await;
        let all =
            recorder.sent().into_iter().map(|sent| format!("{sent:?}").split(", at: ").next().unwrap().to_owned());
        all.collect::<Vec<_>>().join("\n")
    })
}

#[tokio::test(start_paused = true)]
async fn a_bot_keeps_one_message_for_each_rollout_and_an_entry_for_each_step() {
    let recorder = Recorder::slack();
    let mut told = Told::new(&slack(), &json!({"token": "xoxb-1"}), "info", recorder.clone());
    for (reason, run) in [("NewRevision", "r1"), ("Advanced", "r1"), ("Promoted", "r1"), ("NewRevision", "r2")] {
        told.tell(Severity::Info, reason, run);
        minutes(1).await;
    }
    let sent = recorder.sent();
    let calls: Vec<&str> = sent.iter().map(|sent| sent.url.rsplit('/').next().unwrap()).collect();
    let post = "chat.postMessage";
    assert_eq!(calls, [post, "chat.update", post, "chat.update", post, post]);
    assert!(sent.iter().all(|sent| sent.token.as_deref() == Some("xoxb-1")));
    assert_eq!((&sent[0].body["channel"], &sent[1].body["channel"]), (&json!("releases"), &json!("C1")));
    // The first message is edited; the entries stand in its thread.
    let names = ["ts", "thread_ts", "ts", "thread_ts"].into_iter().zip(&sent[1..5]);
    assert!(names.into_iter().all(|(field, sent)| sent.body[field] == "170.1"), "{sent:#?}");
    assert_eq!(sent[5].body.get("thread_ts"), None, "the next rollout has a message of its own");
    // What others wrote calls nobody.
    assert!(sent[2].body["text"].as_str().unwrap().ends_with("Advanced of &lt;r1&gt;"), "{}", sent[2].body);
    let threads = told.alerts.deliveries().threads();
    assert_eq!((threads.len(), threads[0].run.as_str(), threads[0].timestamp.as_str()), (1, "r2", "175.1"));
}

#[tokio::test(start_paused = true)]
async fn another_replica_edits_the_message_that_the_first_one_posted() {
    let recorder = Recorder::slack();
    let mut first = Told::new(&slack(), &json!({"token": "x"}), "info", recorder.clone());
    first.tell(Severity::Info, "NewRevision", "r1");
    minutes(1).await;
    let stored = first.alerts.deliveries().threads();
    let mut second = Told::new(&slack(), &json!({"token": "x"}), "info", recorder.clone());
    second.alerts.deliveries().restore(&stored);
    second.tell(Severity::Error, "EvidenceBad", "r1");
    minutes(1).await;
    let sent = recorder.sent();
    assert_eq!((sent[1].url.as_str(), &sent[1].body["ts"]), ("https://slack.com/api/chat.update", &json!("170.1")));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_somebody_deleted_is_posted_anew() {
    let recorder = Recorder::with(|number, sent| {
        let gone = sent.url.ends_with("update");
        let ts = format!("17{number}.1");
        Some(Ok(ok(&if gone {
            json!({"ok": false, "error": "message_not_found"})
        } else {
            json!({"ok": true, "channel": "C1", "ts": ts})
        })))
    });
    let mut told = Told::new(&slack(), &json!({"token": "x"}), "info", recorder.clone());
    told.tell(Severity::Info, "NewRevision", "r1");
    told.tell(Severity::Info, "Promoted", "r1");
    minutes(1).await;
    let sent = recorder.sent();
    assert_eq!(sent.last().unwrap().body.get("thread_ts"), None, "{sent:#?}");
    assert_eq!(told.alerts.deliveries().threads()[0].timestamp, format!("17{}.1", sent.len() - 1));
    assert_eq!(told.counted(), (2, 0, 0, false));
}

#[tokio::test(start_paused = true)]
async fn below_its_severity_a_bot_edits_and_posts_nothing() {
    let recorder = Recorder::slack();
    let mut told = Told::new(&slack(), &json!({"token": "x"}), "warn", recorder.clone());
    told.tell(Severity::Info, "NewRevision", "r1");
    told.tell(Severity::Info, "Advanced", "r1");
    minutes(1).await;
    assert_eq!(recorder.sent(), []);
    told.tell(Severity::Warning, "WaitingForGate", "r1");
    minutes(1).await;
    told.tell(Severity::Info, "Promoted", "r1");
    minutes(1).await;
    // Who was told that something waits sees that it does no more.
    let calls: Vec<String> = recorder.sent().iter().map(|s| s.url.rsplit('/').next().unwrap().to_owned()).collect();
    assert_eq!(calls, ["chat.postMessage", "chat.update"]);
}

#[tokio::test(start_paused = true)]
async fn severities_are_least_ones_and_steps_go_to_nobody_who_cannot_edit() {
    let all = [(Severity::Info, "Promoted"), (Severity::Warning, "Paused"), (Severity::Error, "EvidenceBad")];
    for (severity, expected) in [("info", 3), ("", 3), ("warn", 2), ("error", 1)] {
        let recorder = Recorder::with(|_, _| Some(Ok(ok(&json!("ok")))));
        let spec = json!({"type": "msteams", "address": "http://teams/hook"});
        let mut told = Told::new(&spec, &json!({}), severity, recorder.clone());
        for (severity, reason) in all {
            told.tell(severity, reason, "r1");
        }
        told.tell(Severity::Info, "Advanced", "r1");
        minutes(1).await;
        assert_eq!(recorder.sent().len(), expected, "{severity}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_is_sent_one_request_a_second_and_edits_that_are_old_are_left_out() {
    let recorder = Recorder::slack();
    let mut told = Told::new(&slack(), &json!({"token": "x"}), "info", recorder.clone());
    told.tell(Severity::Info, "NewRevision", "r1");
    for _ in 0..5 {
        told.tell(Severity::Info, "Advanced", "r1");
    }
    minutes(1).await;
    let sent = recorder.sent();
    let apart = sent.windows(2).map(|pair| pair[1].at - pair[0].at);
    assert!(apart.min().unwrap() >= Duration::from_secs(1), "{sent:#?}");
    let edits = sent.iter().filter(|sent| sent.url.ends_with("update")).count();
    assert_eq!((edits, sent.len()), (1, 1 + 5 + 1), "one edit says what five would have");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_says_when_it_wants_to_be_asked_again_is_asked_then() {
    let later = Answer { status: 429, retry_after: Some(Duration::from_secs(42)), body: "slow down".into() };
    let recorder =
        Recorder::with(move |number, _| Some(Ok(if number == 0 { later.clone() } else { ok(&json!("ok")) })));
    let mut told =
        Told::new(&json!({"type": "discord", "address": "http://d/1"}), &json!({}), "info", recorder.clone());
    told.tell(Severity::Error, "EvidenceBad", "r1");
    told.tell(Severity::Info, "NewRevision", "r2");
    minutes(2).await;
    let sent = recorder.sent();
    let waited: Vec<u64> = sent.windows(2).map(|pair| (pair[1].at - pair[0].at).as_secs()).collect();
    assert_eq!(waited, [42, 1]);
    assert_eq!(told.counted(), (2, 0, 0, false));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_fails_is_tried_a_few_times_and_what_it_said_is_told() {
    let broken = Answer { status: 503, retry_after: None, body: "no".into() };
    let recorder = Recorder::with(move |_, _| Some(Ok(broken.clone())));
    let mut told = Told::new(&json!({"type": "rocket", "address": "http://r/"}), &json!({}), "info", recorder.clone());
    told.tell(Severity::Error, "EvidenceBad", "r1");
    minutes(2).await;
    assert_eq!((recorder.sent().len(), told.counted()), (5, (0, 1, 0, true)));
    let spec = told.spec.clone();
    let problems = told.alerts.problems("shop", &told.analysis, |_, _| Provider::Found(spec.clone()));
    assert_eq!(problems, ["AlertProvider shop/chat: 503 no"]);
    let refused = Answer { status: 404, retry_after: None, body: "no such hook".into() };
    let recorder = Recorder::with(move |_, _| Some(Ok(refused.clone())));
    let mut told = Told::new(&json!({"type": "gchat", "address": "http://g/"}), &json!({}), "info", recorder.clone());
    told.tell(Severity::Error, "EvidenceBad", "r1");
    minutes(2).await;
    assert_eq!((recorder.sent().len(), told.counted()), (1, (0, 1, 0, true)), "what is refused is not tried again");
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_hangs_holds_up_nobody_and_nothing_grows_without_end() {
    let recorder = Recorder::with(|_, _| None);
    let mut told = Told::new(&slack(), &json!({"token": "x"}), "info", recorder.clone());
    let begun = Instant::now();
    for _ in 0..500 {
        told.tell(Severity::Info, "Advanced", "r1");
    }
    for _ in 0..500 {
        told.tell(Severity::Warning, "Paused", "r1");
    }
    assert_eq!(begun.elapsed(), Duration::ZERO, "to tell is to put into a queue");
    let (_, _, dropped, failing) = told.counted();
    assert!((900..1000).contains(&dropped) && failing, "{dropped}");
    minutes(2).await;
    assert!(told.counted().1 > 0, "given up after its tries");
}

#[tokio::test(start_paused = true)]
async fn the_first_failed_check_of_a_rollout_is_news_and_the_second_event_of_an_end_is_none() {
    let recorder = Recorder::with(|_, _| Some(Ok(ok(&json!("ok")))));
    let spec = json!({"type": "webhook", "address": "http://w/"});
    let mut told = Told::new(&spec, &json!({}), "info", recorder.clone());
    for run in ["r1", "r2"] {
        told.tell(Severity::Warning, "Halted", run);
        told.tell(Severity::Warning, "Halted", run);
        told.tell(Severity::Error, "ChecksFailed", run);
        told.tell(Severity::Error, "ChecksFailed", run);
    }
    minutes(1).await;
    let reasons: Vec<Value> = recorder.sent().iter().map(|sent| sent.body["metadata"]["reason"].clone()).collect();
    assert_eq!(reasons, ["Halted", "ChecksFailed", "Halted", "ChecksFailed"]);
}

#[tokio::test(start_paused = true)]
async fn who_cannot_be_told_is_named_with_what_to_do() {
    let recorder = Recorder::slack();
    let mut told = Told::new(&json!({"type": "pager", "address": "http://p/"}), &json!({}), "info", recorder.clone());
    told.tell(Severity::Error, "EvidenceBad", "r1");
    let problem = |provider: Provider| {
        told.alerts.problems("shop", &told.analysis, |_, _| provider.clone()).pop().unwrap_or_default()
    };
    let spec = |spec: Value| Provider::Found(serde_json::from_value(spec).unwrap());
    let at = "spec.analysis.alerts[0] (a): AlertProvider shop/chat: ";
    assert!(
        problem(spec(json!({"type": "pager", "address": "x"})))
            .starts_with(&format!("{at}spec.type: \"pager\" is not known"))
    );
    assert!(problem(spec(json!({"type": "slack"}))).contains("neither an address nor a secretRef"));
    assert_eq!(problem(Provider::Missing), format!("{at}there is none; add it, or correct providerRef"));
    assert_eq!(problem(Provider::Unusable("it is not shared".into())), format!("{at}it is not shared"));
    assert_eq!(problem(Provider::NotKnownYet), "");
    assert_eq!(recorder.sent(), []);
    // What its Secret lacks is known when it is needed.
    let mut told = Told::new(&slack(), &json!({"key": "x"}), "info", recorder.clone());
    told.tell(Severity::Error, "EvidenceBad", "r1");
    minutes(1).await;
    let failures = told.alerts.deliveries().failures();
    assert_eq!(failures["shop/chat"], "Secret chat has neither the key address nor the key token");
}
