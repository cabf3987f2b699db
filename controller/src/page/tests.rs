//! The page over a real socket: who is let in, what is told, and that nothing of it comes from elsewhere.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use weir_engine::{Phase, Verb};

use super::{Hosts, Refused, Seen, Source, is_same_secret, serve};
use crate::status_store::{Name, StatusStore};
use crate::view::{CanaryDetail, CanaryView, Changes};

/// A store behind a token.
struct Store {
    statuses: Arc<StatusStore>,
    asked: Mutex<Vec<Verb>>,
    broken: Mutex<Option<String>>,
}

impl Source for Store {
    type Viewer = ();

    fn title(&self) -> String {
        "a store".into()
    }

    async fn viewer(&self, token: Option<&str>) -> Result<(), Refused> {
        let known = token.is_some_and(|token| is_same_secret(token, "secret"));
        known.then_some(()).ok_or_else(|| Refused { status: StatusCode::UNAUTHORIZED, text: "who are you?".into() })
    }

    fn news(&self) -> watch::Receiver<u64> {
        self.statuses.news()
    }

    async fn changes(&self, (): &(), cursor: &str) -> Result<Seen<Changes>, String> {
        let broken = self.broken.lock().clone();
        broken.map_or_else(|| Ok(Seen { value: self.statuses.changes(cursor), partial: None }), Err)
    }

    async fn detail(&self, (): &(), namespace: &str, name: &str) -> Result<Seen<Option<CanaryDetail>>, String> {
        let name = Name { namespace: namespace.into(), name: name.into() };
        Ok(Seen { value: self.statuses.detail(&name), partial: None })
    }

    async fn ask(&self, (): &(), _: &str, _: &str, verb: Verb) -> Result<(), Refused> {
        self.asked.lock().push(verb);
        Ok(())
    }
}

fn view(name: &str, weight: f64) -> CanaryView {
    let phase = if weight > 0.0 { Phase::Progressing } else { Phase::Succeeded };
    CanaryView { namespace: "shop".into(), name: name.into(), phase, weight, ..CanaryView::default() }
}

async fn page() -> (Arc<Store>, String) {
    page_by(|host| Hosts::These(vec![host])).await
}

async fn page_by(hosts: impl Fn(String) -> Hosts) -> (Arc<Store>, String) {
    let (statuses, _calls) = StatusStore::new();
    let store = Arc::new(Store { statuses, asked: Mutex::default(), broken: Mutex::default() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    tokio::spawn(serve(listener, store.clone(), hosts(host.clone()), std::future::pending()));
    (store, host)
}

async fn connect(host: &str, head: &str, headers: &str) -> TcpStream {
    let mut stream = TcpStream::connect(host).await.unwrap();
    stream.write_all(format!("{head} HTTP/1.1\r\n{headers}\r\n").as_bytes()).await.unwrap();
    stream
}

async fn ask(host: &str, head: &str, headers: &str) -> String {
    let mut answer = String::new();
    let headers = format!("{headers}connection: close\r\ncontent-length: 0\r\n");
    connect(host, head, &headers).await.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Reads lines of a stream.
struct Lines(BufReader<TcpStream>);

impl Lines {
    async fn open(host: &str, query: &str) -> Self {
        let headers = format!("host: {host}\r\nauthorization: Bearer secret\r\n");
        Self(BufReader::new(connect(host, &format!("GET /page/stream{query}"), &headers).await))
    }

    async fn next(&mut self) -> serde_json::Value {
        let mut line = String::new();
        let read = async {
            while !line.starts_with('{') {
                line.clear();
                assert!(self.0.read_line(&mut line).await.unwrap() > 0, "the stream ended");
            }
        };
        tokio::time::timeout(Duration::from_secs(60), read).await.unwrap();
        serde_json::from_str(&line).unwrap()
    }

    async fn until(&mut self, kind: &str) -> serde_json::Value {
        loop {
            let line = self.next().await;
            if line["kind"] == kind {
                return line;
            }
        }
    }
}

#[tokio::test]
async fn who_brings_no_token_or_another_one_is_told_nothing_and_asks_for_nothing() {
    let (store, host) = page().await;
    store.statuses.set(view("cart", 0.0), &[]);
    for token in ["", "authorization: Bearer wrong\r\n", "authorization: Basic secret\r\n"] {
        for head in ["GET /page/stream", "POST /page/canaries/shop/cart/promote"] {
            let answer = ask(&host, head, &format!("host: {host}\r\n{token}")).await;
            assert!(answer.starts_with("HTTP/1.1 401") && !answer.contains("cart"), "{answer}");
        }
    }
    assert!(store.asked.lock().is_empty());
}

#[tokio::test]
async fn another_page_and_a_foreign_name_are_refused_even_with_the_token() {
    let (store, host) = page().await;
    let foreign = [
        "host: evil.example\r\n".to_owned(),
        String::new(),
        format!("host: {host}\r\norigin: http://evil.example\r\n"),
        format!("host: {host}\r\norigin: null\r\n"),
        format!("host: {host}\r\norigin: http://{host}.evil.example\r\n"),
    ];
    for headers in foreign {
        for head in ["GET /", "GET /page/stream", "POST /page/canaries/shop/cart/promote"] {
            let answer = ask(&host, head, &format!("{headers}authorization: Bearer secret\r\n")).await;
            // A request without a name is none.
            let refused = answer.starts_with("HTTP/1.1 403") || answer.starts_with("HTTP/1.1 400");
            assert!(refused, "{head} {headers} {answer}");
        }
    }
    assert!(store.asked.lock().is_empty());
    let own = format!("host: {host}\r\norigin: http://{host}\r\nauthorization: Bearer secret\r\n");
    let answer = ask(&host, "POST /page/canaries/shop/cart/pause", &own).await;
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    assert_eq!(*store.asked.lock(), [Verb::Pause]);
    let answer = ask(&host, "POST /page/canaries/shop/cart/dance", &own).await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("dance is not a verb"), "{answer}");
}

#[tokio::test]
async fn behind_a_proxy_the_page_is_asked_for_by_the_name_that_the_proxy_has() {
    let (_, host) = page_by(|_| Hosts::Any).await;
    for (headers, status) in [
        ("origin: https://weir.example\r\nx-forwarded-host: weir.example\r\n", "200"),
        ("origin: https://evil.example\r\nx-forwarded-host: weir.example\r\n", "403"),
        ("origin: https://weir.example\r\n", "403"),
    ] {
        let answer = ask(&host, "GET /page.mjs", &format!("host: weir.weir-system\r\n{headers}")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{headers} {answer}");
    }
    let (_, host) = page().await;
    let lying = format!("host: {host}\r\norigin: https://evil.example\r\nx-forwarded-host: evil.example\r\n");
    assert!(ask(&host, "GET /page.mjs", &lying).await.starts_with("HTTP/1.1 403"));
}

#[tokio::test]
async fn every_answer_forbids_what_a_page_does_not_need() {
    let (_, host) = page().await;
    for (path, packed) in ["/", "/page.mjs", "/page/stream", "/nothing"]
        .into_iter()
        .flat_map(|path| [(path, ""), (path, "accept-encoding: gzip\r\n")])
    {
        let mut answer = Vec::new();
        let headers = format!("host: {host}\r\nconnection: close\r\n{packed}");
        connect(&host, &format!("GET {path}"), &headers).await.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer).to_lowercase();
        for header in [
            "content-security-policy: default-src 'none'; script-src 'self';",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "cache-control: no-store",
        ] {
            assert!(answer.contains(header), "{path}: {header}\n{answer}");
        }
    }
}

#[tokio::test]
async fn a_page_is_told_what_is_there_and_then_what_changes() {
    let (store, host) = page().await;
    for n in 0..450 {
        store.statuses.set(view(&format!("n{n:03}"), 0.0), &[]);
    }
    store.statuses.set(view("zebra", 10.0), &[]);
    let mut lines = Lines::open(&host, "").await;
    assert_eq!(lines.until("hello").await["title"], "a store");
    let first = lines.until("list").await;
    assert_eq!((&first["whole"], &first["cursor"]), (&true.into(), &"".into()));
    assert_eq!(first["items"][0]["name"], "zebra", "what moves comes before what rests");
    let mut rest = lines.until("list").await;
    while rest["cursor"] == "" {
        rest = lines.until("list").await;
    }
    let cursor = rest["cursor"].as_str().unwrap().to_owned();
    store.statuses.set(view("zebra", 20.0), &[]);
    let changed = lines.until("list").await;
    assert_eq!((&changed["whole"], &changed["items"][0]["weight"]), (&false.into(), &20.0.into()));
    assert_eq!(changed["items"].as_array().unwrap().len(), 1);
    let mut again = Lines::open(&host, &format!("?since={cursor}")).await;
    assert_eq!(again.until("list").await["items"].as_array().unwrap().len(), 1, "who was here goes on from there");
}

#[tokio::test]
async fn one_canary_is_told_in_full_until_it_is_gone() {
    let (store, host) = page().await;
    store.statuses.set(view("cart", 10.0), &[]);
    let mut lines = Lines::open(&host, "?namespace=shop&name=cart").await;
    assert_eq!(lines.until("detail").await["detail"]["weight"], 10.0);
    store.statuses.forget(&Name { namespace: "shop".into(), name: "cart".into() });
    assert_eq!(lines.until("detail").await["detail"], serde_json::Value::Null);
}

#[tokio::test]
async fn a_page_is_told_that_nobody_tells_any_more_and_when_somebody_does_again() {
    let (store, host) = page().await;
    let mut lines = Lines::open(&host, "").await;
    lines.until("list").await;
    *store.broken.lock() = Some("the API server is away".into());
    assert_eq!(lines.until("lost").await["error"], "the API server is away");
    *store.broken.lock() = None;
    lines.until("alive").await;
}

/// An answer that goes on and is packed, and what has come of it.
struct Packed {
    stream: TcpStream,
    said: Vec<u8>,
}

impl Packed {
    /// Reads until what has come can be unpacked to something that has this.
    async fn until(&mut self, wanted: &str) {
        let mut part = [0; 4096];
        while !self.unpacked().contains(wanted) {
            let read = tokio::time::timeout(Duration::from_secs(60), self.stream.read(&mut part)).await;
            let read = read.unwrap().unwrap();
            assert!(read > 0, "the answer ended");
            self.said.extend_from_slice(&part[..read]);
        }
    }

    fn unpacked(&self) -> String {
        let head = self.said.windows(4).position(|end| end == b"\r\n\r\n");
        let mut chunks = head.map(|head| &self.said[head + 4..]).unwrap_or_default();
        let mut body = Vec::new();
        while let Some(line) = chunks.windows(2).position(|end| end == b"\r\n") {
            let length = usize::from_str_radix(std::str::from_utf8(&chunks[..line]).unwrap(), 16).unwrap();
            let Some(chunk) = chunks.get(line + 2..line + 2 + length) else { break };
            body.extend_from_slice(chunk);
            chunks = chunks.get(line + 4 + length..).unwrap_or_default();
        }
        let mut text = Vec::new();
        // What has come yet is no whole file.
        let _ = std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&body[..]), &mut text);
        String::from_utf8_lossy(&text).into_owned()
    }
}

#[tokio::test]
async fn what_is_sent_is_packed_and_each_line_can_be_read_as_soon_as_it_has_come() {
    let (store, host) = page().await;
    let asks = format!("host: {host}\r\nauthorization: Bearer secret\r\naccept-encoding: gzip, br\r\n");
    store.statuses.set(view("cart", 10.0), &[]);
    let stream = connect(&host, "GET /page/stream", &asks).await;
    let mut packed = Packed { stream, said: Vec::new() };
    packed.until("\"cart\"").await;
    store.statuses.set(view("cart", 20.0), &[]);
    packed.until("\"weight\":20.0").await;
    let head = String::from_utf8_lossy(&packed.said).into_owned();
    assert!(head.contains("content-encoding: gzip") && head.contains("vary: accept-encoding"), "{head}");
    let plain = ask(&host, "GET /page.mjs", &format!("host: {host}\r\n")).await;
    assert!(!plain.contains("content-encoding") && plain.contains("import"), "{plain}");
}

#[tokio::test]
async fn so_many_pages_are_told_at_a_time_and_a_place_is_free_again_when_one_is_closed() {
    let (store, host) = page().await;
    store.statuses.set(view("cart", 10.0), &[]);
    let mut open = Vec::new();
    for _ in 0..super::READERS {
        let mut lines = Lines::open(&host, "").await;
        lines.until("list").await;
        open.push(lines);
    }
    let headers = format!("host: {host}\r\nauthorization: Bearer secret\r\n");
    let refused = ask(&host, "GET /page/stream", &headers).await;
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("pages are open"), "{refused}");
    drop(open.pop());
    // Who is gone is noticed when he would be told something.
    for weight in 1.. {
        store.statuses.set(view("cart", f64::from(weight)), &[]);
        let mut stream = connect(&host, "GET /page/stream", &headers).await;
        let mut said = [0; 12];
        stream.read_exact(&mut said).await.unwrap();
        if said.ends_with(b"200") {
            break;
        }
        assert!(weight < 300, "no place is free");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_change_is_told_when_it_comes_and_many_at_once_are_told_together() {
    let (store, host) = page().await;
    store.statuses.set(view("cart", 10.0), &[]);
    let mut lines = Lines::open(&host, "").await;
    lines.until("list").await;
    for n in 0..100 {
        store.statuses.set(view(&format!("n{n:02}"), 10.0), &[]);
    }
    let mut told = 0;
    let mut answers = 0;
    while told < 100 {
        told += lines.until("list").await["items"].as_array().unwrap().len();
        answers += 1;
    }
    assert!(answers <= 3, "{answers} answers for a hundred changes at once");
}

#[test]
fn nothing_of_the_page_comes_from_elsewhere_or_is_set_as_markup() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/page/web");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        // The name of the drawings' language is an address that nobody asks.
        let text = text.replace("http://www.w3.org/2000/svg", "");
        for forbidden in
            ["http:", "https:", "//cdn", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("]
        {
            assert!(!text.contains(forbidden), "{}: {forbidden}", path.display());
        }
        assert!(path.extension().is_none_or(|kind| kind != "html") || !text.contains("style="), "{}", path.display());
    }
}
