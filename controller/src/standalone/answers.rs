//! Asks other programs on the engine's behalf: webhooks, with Flagger's body.
//!
//! A call never holds anything up: it runs beside the engine, and its answer is one more thing to see when it is there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::api::{CanarySpec, Object, parse_duration};
use crate::rollout::{Answer, Ask, Span, State};

/// Time for one try where the webhook gives none; Flagger's.
const TIMEOUT: Span = Span::seconds(10);
/// Of an answer's body so much is shown to people.
const SHOWN: usize = 300;

/// One webhook, as it is called.
#[derive(Clone, Debug)]
struct Call {
    url: String,
    timeout: Duration,
    tries: u32,
    body: String,
    /// Time between two calls of a gate.
    interval: Duration,
}

/// What is asked, and what was answered.
#[derive(Debug)]
pub(crate) struct Answers {
    calls: BTreeMap<String, Call>,
    known: Arc<Mutex<BTreeMap<String, Answer>>>,
    asking: BTreeMap<String, AbortHandle>,
    client: Client<HttpConnector, Full<Bytes>>,
    wake: Arc<Notify>,
}

impl Answers {
    /// Returns a place where nothing was asked yet; `wake` is notified of answers.
    pub(crate) fn new(wake: Arc<Notify>) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { calls: BTreeMap::new(), known: Arc::default(), asking: BTreeMap::new(), client, wake }
    }

    /// Takes in the webhooks of a Canary, and what to tell them.
    pub(crate) fn update(&mut self, canary: &Object<CanarySpec>, state: &State, interval: Span) {
        let duration = |span: Span| Duration::from_millis(span.0);
        let call = |webhook: &crate::api::analysis::WebhookSpec| Call {
            url: webhook.url.clone(),
            timeout: duration(webhook.timeout.as_deref().and_then(|text| parse_duration(text).ok()).unwrap_or(TIMEOUT)),
            tries: 1 + u32::try_from(webhook.retries.unwrap_or_default()).unwrap_or_default(),
            body: json!({
                "name": canary.metadata.name,
                "namespace": canary.metadata.namespace,
                "phase": format!("{:?}", state.phase),
                "checksum": state.applied,
                "metadata": webhook.metadata,
            })
            .to_string(),
            interval: duration(interval),
        };
        self.calls = canary.spec.analysis.webhooks.iter().map(|hook| (hook.name.clone(), call(hook))).collect();
    }

    /// Returns every answer to what is asked.
    pub(crate) fn known(&self) -> BTreeMap<String, Answer> {
        lock(&self.known).clone()
    }

    /// Asks these things until they are answered (gates: again and again), and forgets all others.
    pub(crate) fn ask(&mut self, asks: &[Ask]) {
        let wanted = |key: &str| asks.iter().any(|ask| ask.key == key);
        self.asking.retain(|key, task| {
            wanted(key) || {
                task.abort();
                false
            }
        });
        for ask in asks {
            if self.asking.contains_key(&ask.key) {
                continue;
            }
            if ask.webhook.is_none() {
                self.decline(&ask.key);
                continue;
            }
            let Some(call) = self.calls.get(&ask.name).cloned() else { continue };
            let task = put(call, ask.clone(), self.client.clone(), self.known.clone(), self.wake.clone());
            self.asking.insert(ask.key.clone(), tokio::spawn(task).abort_handle());
        }
    }

    /// Answers for a metric server: a check that nobody makes must not hold a rollout without a word.
    fn decline(&self, key: &str) {
        let why = "Weir asks no metrics server; use a built-in metric, or a webhook that asks it";
        lock(&self.known).insert(key.to_owned(), Answer::NoValue(why.into()));
        self.wake.notify_one();
    }

    /// Forgets the answers that no later decision looks up: those of other runs.
    pub(crate) fn forget(&mut self, keep: impl Fn(&str) -> bool) {
        lock(&self.known).retain(|key, _| keep(key));
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.asking.values().for_each(AbortHandle::abort);
    }
}

async fn put(
    call: Call,
    ask: Ask,
    client: Client<HttpConnector, Full<Bytes>>,
    known: Arc<Mutex<BTreeMap<String, Answer>>>,
    wake: Arc<Notify>,
) {
    loop {
        let mut answer = try_once(&call, &client).await;
        for _ in 1..call.tries {
            if answer == Answer::Passed {
                break;
            }
            answer = try_once(&call, &client).await;
        }
        lock(&known).insert(ask.key.clone(), answer);
        wake.notify_one();
        if !ask.repeat {
            return;
        }
        tokio::time::sleep(call.interval).await;
    }
}

async fn try_once(call: &Call, client: &Client<HttpConnector, Full<Bytes>>) -> Answer {
    let failed = |why: String| Answer::Failed(format!("{}: {why}", call.url));
    let Ok(uri) = call.url.parse::<Uri>() else { return failed("not an address".into()) };
    if uri.scheme_str() != Some("http") {
        return failed("webhooks are called by http only".into());
    }
    let request = Request::builder()
        .method(Method::POST)
        .uri(uri)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(call.body.clone())));
    let Ok(request) = request else { return failed("not an address".into()) };
    let answer = async {
        let response = client.request(request).await.map_err(|error| crate::telemetry::Chain(&error).to_string())?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let body = Limited::new(response.into_body(), 64 << 10).collect().await;
        let body = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned()).unwrap_or_default();
        let shown: String = body.trim().chars().take(SHOWN).collect();
        Err(format!("{status} {shown}").trim().to_owned())
    };
    match tokio::time::timeout(call.timeout, answer).await {
        Ok(Ok(())) => Answer::Passed,
        Ok(Err(why)) => failed(why),
        Err(_) => failed(format!("no answer within {:?}", call.timeout)),
    }
}

fn lock(known: &Mutex<BTreeMap<String, Answer>>) -> MutexGuard<'_, BTreeMap<String, Answer>> {
    // Every change is one insert or one retain: a panic in between leaves a whole map.
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::{Revision, WebhookKind};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A webhook that answers with each of these in turn.
    async fn webhook(answers: &'static [&'static str]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            // The last answer is given for ever.
            for answer in answers.iter().chain(std::iter::repeat(answers.last().unwrap())) {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(format!("HTTP/1.1 {answer}\r\nconnection: close\r\n\r\n").as_bytes()).await;
            }
        });
        format!("http://{address}/gate")
    }

    fn answers(url: &str) -> Answers {
        let mut answers = Answers::new(Arc::default());
        let spec = format!(
            r#"{{"apiVersion": "weir.dev/v1beta1", "kind": "Canary", "metadata": {{"name": "a"}}, "spec": {{
                "targetRef": {{"kind": "Process", "name": "a"}}, "analysis": {{"webhooks": [{{"name": "gate", "url": "{url}"}}]}}}}}}"#
        );
        let state = State { applied: Some(Revision("5c6b".into())), ..State::default() };
        answers.update(&serde_json::from_str(&spec).unwrap(), &state, Span(10));
        answers
    }

    fn ask(repeat: bool) -> Ask {
        Ask { key: "k".into(), name: "gate".into(), webhook: Some(WebhookKind::Rollout), repeat }
    }

    async fn until(answers: &Answers, wanted: impl Fn(&Answer) -> bool) {
        while !answers.known().get("k").is_some_and(&wanted) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn a_gate_is_asked_again_until_it_opens() {
        let url = webhook(&["403 Forbidden", "403 Forbidden", "200 OK"]).await;
        let mut answers = answers(&url);
        answers.ask(&[ask(true)]);
        until(&answers, |answer| matches!(answer, Answer::Failed(why) if why.contains("403"))).await;
        until(&answers, |answer| *answer == Answer::Passed).await;
    }

    #[tokio::test]
    async fn a_webhook_is_told_which_revision_it_is_asked_about() {
        let answers = answers("http://127.0.0.1:9/gate");
        let body: serde_json::Value = serde_json::from_str(&answers.calls["gate"].body).unwrap();
        assert_eq!(body["checksum"], "5c6b", "{body}");
    }

    #[tokio::test]
    async fn a_metric_of_another_system_has_no_value_and_says_why() {
        let mut answers = answers("http://127.0.0.1:9/gate");
        answers.ask(&[Ask { webhook: None, ..ask(false) }]);
        until(&answers, |answer| matches!(answer, Answer::NoValue(why) if why.contains("built-in metric"))).await;
    }

    #[tokio::test]
    async fn what_cannot_be_reached_has_failed() {
        let mut answers = answers("http://127.0.0.1:9/gate");
        answers.ask(&[ask(false)]);
        until(&answers, |answer| matches!(answer, Answer::Failed(why) if why.contains("refused"))).await;
    }
}
