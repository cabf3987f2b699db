//! The HTTP interface and the command line against each other, over a real socket on loopback.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

use std::net::TcpListener;
use std::process::Output;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::mpsc;
use weir_controller::http;
use weir_controller::status_store::{Call, Name, StatusStore};
use weir_controller::view::{CanaryView, EndedView};
use weir_engine::{Event, Outcome, Phase, Severity, Timestamp, Verb};

struct Served {
    statuses: Arc<StatusStore>,
    calls: mpsc::Receiver<Call>,
    url: String,
}

async fn serve() -> Served {
    let (statuses, calls) = StatusStore::new();
    statuses.set_acting();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(http::serve(listener, Arc::clone(&statuses), std::future::pending()));
    Served { statuses, calls, url }
}

fn name(namespace: &str) -> Name {
    Name { namespace: namespace.into(), name: "cart".into() }
}

fn view(namespace: &str, phase: Phase) -> CanaryView {
    CanaryView { namespace: namespace.into(), name: "cart".into(), phase, ..CanaryView::default() }
}

async fn weir(url: &str, args: &[&str]) -> Output {
    let weir = Command::new(env!("CARGO_BIN_EXE_weir")).args(args).args(["--server", url]).kill_on_drop(true).output();
    weir.await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Sends a request as it stands; returns the status and the whole answer.
async fn raw(url: &str, request: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(url.strip_prefix("http://").unwrap()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn get(url: &str, path: &str) -> String {
    raw(url, &format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")).await
}

#[tokio::test]
async fn why_exits_by_how_the_rollout_stands() {
    let served = serve().await;
    let ended = EndedView { result: Outcome::RolledBack, reason: "GuardTripped".into(), ..EndedView::default() };
    for (phase, code, said) in [
        (Phase::Succeeded, 0, "nothing to do"),
        (Phase::Failed, 1, "GuardTripped"),
        (Phase::Progressing, 2, "is being released"),
    ] {
        served.statuses.set(CanaryView { ended: Some(ended.clone()), ..view("shop", phase) }, &[]);
        let output = weir(&served.url, &["why", "cart"]).await;
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        assert!(text(&output.stdout).contains(said), "{}", text(&output.stdout));
    }
    let output = weir(&served.url, &["why", "card"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output.stderr), "weir: no Canary card is known there; see `weir get canaries`\n");
}

#[tokio::test]
async fn the_namespace_can_be_left_out_where_it_is_clear() {
    let served = serve().await;
    served.statuses.set(view("shop", Phase::Succeeded), &[]);
    assert_eq!(weir(&served.url, &["why", "cart"]).await.status.code(), Some(0));
    served.statuses.set(view("store", Phase::Failed), &[]);
    let output = weir(&served.url, &["why", "cart"]).await;
    assert_eq!(text(&output.stderr), "weir: several namespaces have a Canary cart: name one with -n\n");
    assert_eq!(weir(&served.url, &["why", "cart", "-n", "store"]).await.status.code(), Some(1));
}

#[tokio::test]
async fn get_and_describe_show_what_the_board_holds() {
    let served = serve().await;
    assert_eq!(text(&weir(&served.url, &["get", "canaries"]).await.stdout), "no Canaries yet\n");
    served.statuses.set(view("shop", Phase::Initialized), &[]);
    let event = Event::new(Severity::Info, "Initialized", "Initialization done! cart.shop");
    served.statuses.record(&name("shop"), Timestamp(0), &[event]);
    let table = text(&weir(&served.url, &["get", "canaries"]).await.stdout);
    assert!(table.contains("shop       cart  Initialized"), "{table}");
    let json = text(&weir(&served.url, &["get", "canaries", "-o", "json"]).await.stdout);
    assert_eq!(serde_json::from_str::<weir_controller::view::CanaryList>(&json).unwrap(), served.statuses.list());
    let story = text(&weir(&served.url, &["describe", "canary", "cart"]).await.stdout);
    assert!(story.contains("Initialization done! cart.shop (Initialized)"), "{story}");
}

#[tokio::test]
async fn a_terminal_is_told_nothing_by_the_words_of_others() {
    let served = serve().await;
    let hostile = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\u{202e}";
    served.statuses.set(CanaryView { message: format!("gate: {hostile}"), ..view("shop", Phase::Failed) }, &[]);
    let event = Event::new(Severity::Warning, "HookFailed", format!("said {hostile}"));
    served.statuses.record(&name("shop"), Timestamp(0), &[event]);
    for args in
        [&["get", "canaries"][..], &["describe", "canary", "cart"], &["why", "cart"], &["why", "cart", "-o", "json"]]
    {
        let said = text(&weir(&served.url, args).await.stdout);
        assert!(!said.contains(['\u{1b}', '\u{7}', '\u{9b}', '\u{202e}']), "{said:?}");
    }
    let said = text(&weir(&served.url, &["describe", "canary", "cart"]).await.stdout);
    assert!(said.contains("owned"), "{said}");
}

#[tokio::test]
async fn a_verb_reaches_the_platform_once() {
    let mut served = serve().await;
    served.statuses.set(view("shop", Phase::Progressing), &[]);
    for (word, verb) in [
        ("pause", Verb::Pause),
        ("resume", Verb::Resume),
        ("promote", Verb::Promote),
        ("abort", Verb::Abort),
        ("retry", Verb::Retry),
    ] {
        let output = weir(&served.url, &[word, "cart"]).await;
        assert!(output.status.success(), "{}", text(&output.stderr));
        let call = served.calls.try_recv().unwrap();
        assert_eq!((call.name, call.verb), (name("shop"), verb));
        assert!(served.calls.try_recv().is_err());
    }
}

#[tokio::test]
async fn a_web_page_cannot_send_a_verb() {
    let mut served = serve().await;
    served.statuses.set(view("shop", Phase::Progressing), &[]);
    let post = "POST /api/v1/canaries/shop/cart/promote HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n";
    for kind in ["", "content-type: text/plain\r\n", "content-type: application/x-www-form-urlencoded\r\n"] {
        let answer = raw(&served.url, &format!("{post}{kind}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 415"), "{answer}");
    }
    assert!(served.calls.try_recv().is_err());
}

#[tokio::test]
async fn a_web_page_whose_name_leads_here_reads_nothing_and_asks_for_nothing() {
    let mut served = serve().await;
    served.statuses.set(view("shop", Phase::Progressing), &[]);
    for request in ["GET /api/v1/canaries", "GET /api/v1/canaries/shop/cart", "POST /api/v1/canaries/shop/cart/promote"]
    {
        let head =
            "host: evil.example:8090\r\ncontent-type: application/json\r\ncontent-length: 0\r\nconnection: close";
        let answer = raw(&served.url, &format!("{request} HTTP/1.1\r\n{head}\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("by an address, or by localhost"), "{answer}");
    }
    assert!(served.calls.try_recv().is_err());
}

#[tokio::test]
async fn refusals_say_what_is_wrong() {
    let served = serve().await;
    served.statuses.set(view("shop", Phase::Progressing), &[]);
    for (path, status, said) in
        [("/api/v1/canaries/shop/card", 404, "no Canary shop/card is known here"), ("/api/v2", 404, "no such path")]
    {
        let answer = get(&served.url, path).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(said), "{answer}");
    }
    let answer = raw(
        &served.url,
        "POST /api/v1/canaries/shop/cart/dance HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("dance is not a verb"), "{answer}");
}

#[tokio::test]
async fn ready_is_when_every_part_works_and_alive_is_always() {
    let served = serve().await;
    let ready = async |status: u16, said: &str| {
        let answer = get(&served.url, "/readyz").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.ends_with(said), "{answer}");
    };
    ready(503, "still starting\n").await;
    served.statuses.set_health("envoy", Some("does not answer".into()));
    served.statuses.set_health("objects", None);
    ready(503, "\r\n\r\nenvoy: does not answer\n").await;
    served.statuses.set_health("envoy", None);
    ready(200, "ok\n").await;
    assert!(get(&served.url, "/healthz").await.starts_with("HTTP/1.1 200"));
    let metrics = get(&served.url, "/metrics").await;
    assert!(metrics.contains("weir_ready 1") && metrics.contains("text/plain; version=0.0.4"), "{metrics}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_with_what_to_do() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let output = weir(&url, &["get", "canaries"]).await;
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.starts_with(&format!("weir: {url} cannot be reached (Connection refused")), "{said}");
    assert!(
        said.contains("is `weir standalone` running? Name the address that its --http says with --server"),
        "{said}"
    );
    let said = text(&weir("ftp://127.0.0.1:1", &["get", "canaries"]).await.stderr);
    assert!(said.contains("begin with http://"), "{said}");
}

/// Starts a watch of all Canaries whose output is a pipe; it ends with the child.
fn watch(url: &str) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["get", "canaries", "-w", "--server", url])
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

#[tokio::test]
async fn watching_through_a_pipe_tells_each_change_in_a_line() {
    let served = serve().await;
    served.statuses.set(view("shop", Phase::Initialized), &[]);
    let (_child, mut lines) = watch(&served.url);
    let first = lines.next_line().await.unwrap().unwrap();
    assert!(first.contains("shop/cart Initialized weight=0"), "{first}");
    served.statuses.set(CanaryView { weight: 5.0, ..view("shop", Phase::Progressing) }, &[]);
    let second = lines.next_line().await.unwrap().unwrap();
    assert!(second.contains("shop/cart Progressing weight=5"), "{second}");
}

#[tokio::test]
async fn status_waits_for_the_end_and_its_exit_status_says_how() {
    let served = serve().await;
    served.statuses.set(view("shop", Phase::Progressing), &[]);
    let output = weir(&served.url, &["status", "cart"]).await;
    assert_eq!(output.status.code(), Some(2), "under way: {}", text(&output.stdout));
    for (phase, code) in [(Phase::Succeeded, 0), (Phase::Failed, 1)] {
        served.statuses.set(view("shop", Phase::Progressing), &[]);
        let waiting = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["status", "cart", "--timeout", "60s", "--server", &served.url])
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        served.statuses.set(view("shop", phase), &[]);
        let output = waiting.wait_with_output().await.unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stdout));
    }
}

#[tokio::test]
async fn status_and_why_do_not_take_a_canary_that_cannot_work_or_a_revision_that_waits_for_a_success() {
    let served = serve().await;
    let ended = Some(EndedView { result: Outcome::Promoted, ..EndedView::default() });
    let at_rest = |reason: &str, message: &str| CanaryView {
        reason: reason.into(),
        message: message.into(),
        ended: ended.clone(),
        ..view("shop", Phase::Succeeded)
    };
    let stalled = CanaryView { stalled: true, ..at_rest("InvalidSpec", "interval: \"soon\"") };
    served.statuses.set(stalled, &[]);
    // A long wait would not help: it ends at once.
    for args in [&["status", "cart", "--timeout", "10h"][..], &["why", "cart"]] {
        let output = weir(&served.url, args).await;
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.starts_with("✖ shop/cart: cannot work: InvalidSpec: interval: \"soon\"\n"), "{said}");
        assert!(!said.contains("nothing to do"), "{said}");
    }
    served.statuses.set(CanaryView { waiting: true, ..at_rest("TargetMissing", "no Deployment") }, &[]);
    let output = weir(&served.url, &["status", "cart"]).await;
    let said = text(&output.stdout);
    assert_eq!((output.status.code(), said.contains("Succeeded, and waits: TargetMissing")), (Some(2), true), "{said}");
    for reason in ["Suspended", "Paused"] {
        for (waiting, code) in [(false, 0), (true, 2)] {
            served.statuses.set(CanaryView { waiting, ..at_rest(reason, "by a person") }, &[]);
            let output = weir(&served.url, &["status", "cart"]).await;
            let said = text(&output.stdout);
            assert_eq!(output.status.code(), Some(code), "{reason}: {said}");
            let told = said.contains(&format!("a new revision waits: {reason}: by a person"));
            assert_eq!(told, waiting, "{said}");
        }
    }
}

#[tokio::test]
async fn status_looks_again_when_a_look_fails() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut child = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["status", "cart", "-n", "shop", "--timeout", "10h", "--server", &url])
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
    // It hangs up, as one that is replaced does.
    let hang_up = async {
        loop {
            drop(listener.accept().await.unwrap());
        }
    };
    let said = tokio::select! {
        line = errors.next_line() => line.unwrap().unwrap(),
        () = hang_up => unreachable!(),
    };
    assert!(said.contains("cannot be reached") && said.ends_with("; looks again"), "{said}");
    let (statuses, _calls) = StatusStore::new();
    statuses.set_acting();
    statuses.set(view("shop", Phase::Failed), &[]);
    tokio::spawn(http::serve(listener, statuses, std::future::pending()));
    assert_eq!(child.wait().await.unwrap().code(), Some(1));
}

#[tokio::test]
async fn a_watch_tells_a_pipe_of_a_canary_that_is_gone() {
    let served = serve().await;
    served.statuses.set(view("shop", Phase::Failed), &[]);
    let (_child, mut lines) = watch(&served.url);
    assert!(lines.next_line().await.unwrap().unwrap().contains(" shop/cart Failed weight=0 "));
    served.statuses.forget(&name("shop"));
    assert!(lines.next_line().await.unwrap().unwrap().ends_with(" shop/cart Gone: the Canary was deleted"));
}

#[cfg(unix)]
#[tokio::test]
async fn a_watch_ends_by_an_interrupt_that_comes_while_it_looks() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut child = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["get", "canaries", "-w", "--server", &url])
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut request = [0; 4096];
    assert!(stream.read(&mut request).await.unwrap() > 0);
    let body = r#"{"items": [], "problems": []}"#;
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(answer.as_bytes()).await.unwrap();
    // The second look has no answer, ever.
    assert!(stream.read(&mut request).await.unwrap() > 0);
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
    let ended = tokio::time::timeout(std::time::Duration::from_secs(120), child.wait()).await;
    assert_eq!(ended.unwrap().unwrap().code(), Some(0));
}

#[tokio::test]
async fn nothing_is_told_of_canaries_before_all_of_them_were_looked_at() {
    let (statuses, _calls) = StatusStore::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(http::serve(listener, statuses.clone(), std::future::pending()));
    for path in ["/api/v1/canaries", "/api/v1/summaries", "/api/v1/canaries/shop/cart"] {
        let answer = get(&url, path).await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("has just begun"), "{answer}");
    }
    statuses.set_acting();
    assert!(get(&url, "/api/v1/canaries").await.contains("\"items\":[]"));
    assert!(get(&url, "/api/v1/canaries/shop/cart").await.starts_with("HTTP/1.1 404"));
}
