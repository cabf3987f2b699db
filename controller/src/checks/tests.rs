//! Webhooks and metrics against servers that speak HTTP, with and without TLS.

use super::*;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use weir_engine::{Ended, Outcome, Phase, Revision, Run, Severity, WebhookKind};

/// A server that answers with each of these in turn, the last one for ever.
async fn server(answers: &'static [&'static str]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for answer in answers.iter().chain(std::iter::repeat(answers.last().unwrap())) {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(response(answer).as_bytes()).await;
        }
    });
    format!("http://{address}/gate")
}

/// As [`server`], behind a certificate that nobody knows.
async fn tls_server(answer: &'static str) -> String {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(response(answer).as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    format!("https://localhost:{port}/gate")
}

fn response(answer: &str) -> String {
    let (head, body) = answer.split_once('|').unwrap_or((answer, ""));
    format!("HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn checks(analysis: &str) -> CheckRunner {
    let mut checks = CheckRunner::new(Arc::default(), Outbound::new(None));
    let spec = format!(
        r#"{{"apiVersion": "weir.dev/v1beta1", "kind": "Canary", "metadata": {{"name": "a"}}, "spec": {{
            "targetRef": {{"kind": "Process", "name": "a"}}, "analysis": {analysis}}}}}"#
    );
    let state = State { applied: Some(Revision("5c6b".into())), ..State::default() };
    checks.update(&serde_json::from_str(&spec).unwrap(), &state, Span(10));
    checks
}

fn gate(url: &str) -> CheckRunner {
    checks(&format!(r#"{{"webhooks": [{{"name": "gate", "url": "{url}"}}]}}"#))
}

fn ask(repeat: bool) -> CheckRequest {
    CheckRequest { key: "k".into(), name: "gate".into(), webhook: Some(WebhookKind::Rollout), repeat }
}

fn ask_metric() -> CheckRequest {
    CheckRequest { key: "k".into(), name: "errors".into(), webhook: None, repeat: false }
}

fn no_template(_: &str, _: &str) -> Template {
    Template::Missing
}

async fn until(checks: &CheckRunner, wanted: impl Fn(&CheckResult) -> bool) {
    while !checks.results().get("k").is_some_and(&wanted) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_gate_is_asked_again_until_it_opens() {
    let mut checks = gate(&server(&["403 Forbidden|closed", "403 Forbidden", "200 OK"]).await);
    checks.request(&[ask(true)], no_template);
    until(&checks, |answer| matches!(answer, CheckResult::Failed(why) if why.contains("403 Forbidden closed"))).await;
    until(&checks, |answer| *answer == CheckResult::Passed).await;
}

#[tokio::test]
async fn of_a_webhooks_answer_people_are_shown_one_short_line() {
    let address = server(&["403 Forbidden|\u{1b}[31mclosed\r\n\u{7}until Monday, and then the rest of it ………………………………………………………………………………………………………………………"]).await;
    let mut checks = gate(&address.replace("http://", "http://me:secret@").replace("/gate", "/gate?token=secret"));
    checks.request(&[ask(false)], no_template);
    until(&checks, |answer| match answer {
        CheckResult::Failed(why) => {
            assert!(why.starts_with(&format!("{address}: 403 Forbidden [31mclosed until Monday, and")), "{why:?}");
            assert!(why.chars().count() < 180 && !why.contains(char::is_control) && !why.contains("secret"), "{why:?}");
            true
        }
        _ => false,
    })
    .await;
}

#[tokio::test]
async fn a_webhook_that_passes_may_say_as_much_as_it_likes() {
    static LONG: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| format!("200 OK|{}", "a".repeat(1 << 20)));
    static ANSWERS: std::sync::LazyLock<[&str; 1]> = std::sync::LazyLock::new(|| [LONG.as_str()]);
    let mut checks = gate(&server(&*ANSWERS).await);
    checks.request(&[ask(false)], no_template);
    until(&checks, |answer| *answer == CheckResult::Passed).await;
}

#[tokio::test]
async fn a_metric_with_a_longer_answer_than_is_read_has_no_value() {
    static LONG: std::sync::LazyLock<String> =
        std::sync::LazyLock::new(|| format!("200 OK|{}", " ".repeat(16 * 1024 + 1)));
    static ANSWERS: std::sync::LazyLock<[&str; 1]> = std::sync::LazyLock::new(|| [LONG.as_str()]);
    let address = server(&*ANSWERS).await;
    let spec = format!(r#"{{"provider": {{"type": "prometheus", "address": "{address}"}}, "query": "up"}}"#);
    let mut checks = checks(r#"{"metrics": [{"name": "errors", "templateRef": {"name": "rate"}}]}"#);
    checks.request(&[ask_metric()], |_, _| Template::Found(serde_json::from_str(&spec).unwrap()));
    let long = "the answer is longer than 16 KiB, which is all that is read: aggregate the query to one result (up)";
    until(&checks, |answer| matches!(answer, CheckResult::NoValue(why) if why.contains(long))).await;
}

#[tokio::test]
async fn a_webhook_is_told_which_revision_it_is_asked_about() {
    let checks = gate("http://127.0.0.1:9/gate");
    let body: serde_json::Value = serde_json::from_str(&checks.webhooks["gate"].body).unwrap();
    assert_eq!(body["checksum"], "5c6b", "{body}");
}

#[tokio::test]
async fn what_cannot_be_reached_has_failed() {
    let mut checks = gate("http://127.0.0.1:9/gate");
    checks.request(&[ask(false)], no_template);
    until(&checks, |answer| matches!(answer, CheckResult::Failed(why) if why.contains("refused"))).await;
}

#[tokio::test]
async fn a_webhook_behind_an_unknown_certificate_passes_only_where_tls_is_not_checked() {
    let url = tls_server("200 OK").await;
    let mut checked = gate(&url);
    checked.request(&[ask(false)], no_template);
    until(&checked, |answer| matches!(answer, CheckResult::Failed(why) if why.contains("certificate"))).await;
    let mut unchecked = checks(&format!(r#"{{"webhooks": [{{"name": "gate", "url": "{url}", "disableTLS": true}}]}}"#));
    unchecked.request(&[ask(false)], no_template);
    until(&unchecked, |answer| *answer == CheckResult::Passed).await;
}

#[tokio::test]
async fn a_metric_is_asked_where_its_template_says() {
    const ANSWER: &str = r#"200 OK|{"status": "success", "data": {"resultType": "scalar", "result": [1, "31"]}}"#;
    let address = server(&[ANSWER]).await;
    let mut checks = checks(r#"{"metrics": [{"name": "errors", "templateRef": {"name": "rate"}}]}"#);
    let template = |_: &str, name: &str| {
        let spec = format!(r#"{{"provider": {{"type": "prometheus", "address": "{address}"}}, "query": "up"}}"#);
        if name == "rate" { Template::Found(serde_json::from_str(&spec).unwrap()) } else { Template::Missing }
    };
    // Nobody has looked yet which templates there are.
    checks.request(&[ask_metric()], |_, _| Template::NotKnownYet);
    assert_eq!(checks.results().len(), 0);
    checks.request(&[ask_metric()], template);
    until(&checks, |answer| *answer == CheckResult::Value(31.0)).await;
}

/// One Secret, and no other.
#[derive(Debug)]
struct OneSecret;

impl crate::outbound::Secrets for OneSecret {
    fn read(
        &self,
        namespace: &str,
        name: &str,
    ) -> futures::future::BoxFuture<'static, Result<BTreeMap<String, String>, String>> {
        let found = match (namespace, name) {
            ("lib", "login") => Ok([("token".to_owned(), "abc".to_owned())].into()),
            _ => Err("it does not exist: create it".to_owned()),
        };
        Box::pin(async { found })
    }
}

#[tokio::test]
async fn a_metric_is_asked_with_the_credentials_of_the_templates_own_namespace() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let metric = r#"{"metrics": [{"name": "errors", "templateRef": {"name": "rate", "namespace": "lib"}}]}"#;
    let template = move |secret: &str| {
        let provider =
            format!(r#"{{"type": "prometheus", "address": "http://{address}", "secretRef": {{"name": "{secret}"}}}}"#);
        serde_json::from_str(&format!(r#"{{"provider": {provider}, "query": "up"}}"#)).unwrap()
    };
    let mut known = checks(metric);
    known.outbound = Outbound::with_secrets(None, Arc::new(OneSecret));
    known.request(&[ask_metric()], |_, _| Template::Found(template("login")));
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut request = vec![0; 4096];
    let read = stream.read(&mut request).await.unwrap();
    let request = String::from_utf8_lossy(&request[..read]).into_owned();
    assert!(request.contains("authorization: Bearer abc\r\n"), "{request}");
    let mut unknown = checks(metric);
    unknown.outbound = known.outbound.clone();
    unknown.request(&[ask_metric()], |_, _| Template::Found(template("other")));
    let missing = "Secret lib/other: it does not exist";
    until(&unknown, |answer| matches!(answer, CheckResult::NoValue(why) if why.contains(missing))).await;
}

#[tokio::test]
async fn a_metric_that_nobody_can_answer_has_no_value_and_says_why() {
    let mut checks = checks(r#"{"metrics": [{"name": "errors", "templateRef": {"name": "rate"}}]}"#);
    checks.request(&[ask_metric()], no_template);
    until(
        &checks,
        |answer| matches!(answer, CheckResult::NoValue(why) if why.contains("no MetricTemplate default/rate")),
    )
    .await;
    let mut inline = self::checks(r#"{"metrics": [{"name": "errors", "query": "up"}]}"#);
    inline.request(&[ask_metric()], no_template);
    until(&inline, |answer| matches!(answer, CheckResult::NoValue(why) if why.contains("metricsServer"))).await;
}

/// A webhook that was called, and has not answered.
async fn called(repeat: bool) -> (CheckRunner, tokio::net::TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut checks = gate(&format!("http://{}/", listener.local_addr().unwrap()));
    checks.request(&[ask(repeat)], no_template);
    let (stream, _) = listener.accept().await.unwrap();
    (checks, stream)
}

#[tokio::test]
async fn a_call_that_takes_long_is_let_finish_by_a_pass_that_asks_nothing() {
    let (mut checks, mut stream) = called(false).await;
    checks.request(&[], no_template);
    let _ = stream.read(&mut [0; 4096]).await;
    stream.write_all(response("200 OK").as_bytes()).await.unwrap();
    until(&checks, |answer| *answer == CheckResult::Passed).await;
}

#[tokio::test]
async fn a_gate_that_nobody_waits_for_is_left_alone() {
    let (mut checks, mut stream) = called(true).await;
    checks.request(&[], no_template);
    // The call is given up, and none follows.
    let mut request = Vec::new();
    stream.read_to_end(&mut request).await.unwrap();
    assert!(checks.asking.is_empty() && checks.results().is_empty());
}

#[tokio::test]
async fn answers_of_other_runs_and_of_earlier_checks_are_forgotten() {
    let mut checks = gate("http://127.0.0.1:9/gate");
    let keys =
        ["a/Rollout/1/gate", "a/Rollout/2/gate", "a/metric/3/errors", "a/ConfirmPromotion/0/gate", "b/Rollout/2/gate"];
    for key in keys {
        put(&checks.known, &checks.wake, key, CheckResult::Passed);
    }
    let run = Run { id: "a".into(), checks: 2, ..Run::default() };
    checks.forget(&State { run: Some(run), ..State::default() });
    let kept: Vec<String> = checks.results().into_keys().collect();
    assert_eq!(kept, ["a/ConfirmPromotion/0/gate", "a/Rollout/2/gate", "a/metric/3/errors"]);
    checks.forget(&State::default());
    assert!(checks.results().is_empty());
}

#[test]
fn a_metric_that_nobody_can_answer_is_known_before_a_release() {
    let object = |metric: &str| {
        let spec = format!(
            r#"{{"targetRef": {{"kind": "Process", "name": "a"}}, "analysis": {{"metrics": [{{"name": "request-success-rate"}}, {metric}]}}}}"#
        );
        let text = format!(
            r#"{{"apiVersion": "weir.dev/v1beta1", "kind": "Canary", "metadata": {{"name": "a"}}, "spec": {spec}}}"#
        );
        serde_json::from_str::<Object<CanarySpec>>(&text).unwrap()
    };
    let named = object(r#"{"name": "errors", "templateRef": {"name": "rate"}}"#);
    let problem = CheckRunner::validate(&named, no_template).unwrap();
    assert!(problem.starts_with("spec.analysis.metrics[1]: there is no MetricTemplate default/rate"), "{problem}");
    assert_eq!(CheckRunner::validate(&named, |_, _| Template::NotKnownYet), None);
    let inline = CheckRunner::validate(&object(r#"{"name": "errors", "query": "up"}"#), no_template).unwrap();
    assert!(inline.contains("metricsServer"), "{inline}");
}

/// A server that writes down the bodies that it is sent, and answers with each of these in turn, the last one for ever.
async fn listener(answers: &'static [&'static str]) -> (String, Arc<Mutex<Vec<serde_json::Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heard: Arc<Mutex<Vec<serde_json::Value>>> = Arc::default();
    let log = heard.clone();
    let answer = move |body: axum::body::Bytes| async move {
        let number = log.lock().len();
        log.lock().push(serde_json::from_slice(&body).unwrap());
        let status: u16 = answers[number.min(answers.len() - 1)].parse().unwrap();
        axum::http::StatusCode::from_u16(status).unwrap()
    };
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(answer)).await });
    (format!("http://{address}/hook"), heard)
}

#[tokio::test]
async fn an_event_webhook_is_told_everything_in_order_and_the_default_only_where_there_is_none() {
    let (own, heard) = listener(&["200"]).await;
    let (default, unheard) = listener(&["200"]).await;
    let spec = format!(
        r#"{{"webhooks": [{{"name": "bot", "type": "event", "url": "{own}", "metadata": {{"team": "cart", "eventType": "mine"}}}}]}}"#
    );
    for (analysis, heard) in [(spec.as_str(), &heard), ("{}", &unheard)] {
        let mut checks = checks("{}").with_event_webhook(Some(default.clone()));
        let object = format!(
            r#"{{"apiVersion": "weir.dev/v1beta1", "kind": "Canary", "metadata": {{"name": "a"}}, "spec": {{
                "targetRef": {{"kind": "Process", "name": "a"}}, "analysis": {analysis}}}}}"#
        );
        checks.update(&serde_json::from_str(&object).unwrap(), &State::default(), Span(10));
        for text in ["one", "two"] {
            let event = Event::new(Severity::Warning, "Halted", text);
            checks.tell(&event, "Progressing", "5c6b", Timestamp(1_700_000_000_000));
        }
        while checks.outcomes().is_empty() || heard.lock().len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let (heard, unheard) = (heard.lock().clone(), unheard.lock().clone());
    let texts: Vec<_> = heard.iter().map(|body| body["metadata"]["eventMessage"].clone()).collect();
    assert_eq!(texts, ["one", "two"]);
    let body = serde_json::json!({
        "name": "a", "namespace": "default", "phase": "Progressing", "checksum": "5c6b",
        "metadata": {"eventMessage": "one", "eventType": "Warning", "timestamp": "1700000000000", "team": "cart"},
    });
    assert_eq!(heard[0], body);
    assert_eq!((unheard.len(), unheard[0]["metadata"].as_object().unwrap().len()), (2, 3));
}

#[tokio::test]
async fn a_webhook_is_called_again_after_a_servers_trouble_and_not_after_its_no() {
    for (answers, calls, passed) in [(&["503", "200"][..], 2, true), (&["403", "200"][..], 1, false)] {
        let answers: &'static [&'static str] = answers;
        let (url, heard) = listener(answers).await;
        let hook = format!(r#"{{"webhooks": [{{"name": "gate", "url": "{url}", "retries": 3}}]}}"#);
        let mut checks = checks(&hook);
        checks.request(&[ask(false)], no_template);
        until(&checks, |answer| (*answer == CheckResult::Passed) == passed).await;
        assert_eq!(heard.lock().len(), calls, "{answers:?}");
        let (kind, said) = checks.outcomes()["gate"].clone();
        assert_eq!((kind.as_str(), said == CheckResult::Passed), ("rollout", passed));
    }
}

#[test]
fn a_post_rollout_webhook_is_told_how_the_rollout_ended_whatever_runs_now() {
    for (result, phase) in
        [(Outcome::Promoted, "Succeeded"), (Outcome::RolledBack, "Failed"), (Outcome::PromotionFailed, "Failed")]
    {
        let ended = Ended {
            run: "r1".into(),
            revision: Revision("v2".into()),
            result,
            post_rollout_pending: true,
            ..Ended::default()
        };
        let run = Run { id: "r2".into(), revision: Revision("v3".into()), ..Run::default() };
        let applied = Some(Revision("v3".into()));
        let state =
            State { phase: Phase::Progressing, ended: Some(ended), run: Some(run), applied, ..State::default() };
        let mut checks = checks("{}");
        let text = r#"{"apiVersion": "weir.dev/v1beta1", "kind": "Canary", "metadata": {"name": "a"}, "spec": {
            "targetRef": {"kind": "Process", "name": "a"},
            "analysis": {"webhooks": [{"name": "mail", "type": "post-rollout", "url": "http://m/"}]}}}"#;
        checks.update(&serde_json::from_str(text).unwrap(), &state, Span(10));
        let body: serde_json::Value = serde_json::from_str(&checks.webhooks["mail"].body).unwrap();
        assert_eq!((&body["phase"], &body["checksum"]), (&phase.into(), &"v2".into()));
        put(&checks.known, &checks.wake, "r1/PostRollout/0/mail", CheckResult::Passed);
        checks.forget(&state);
        assert_eq!(checks.results().len(), 1, "its answer is still to be seen");
    }
}
