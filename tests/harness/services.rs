//! The services behind the gateway: a primary and a canary, each over HTTP/1.1 and over HTTP/2, that do what a request asks
//! them to. They note what arrives, so that a test sees what the gateway made of a request.
//!
//! | path | answer |
//! |---|---|
//! | `/status/<code>` | that status |
//! | `/delay/<ms>` | 200 after a while |
//! | `/hang` | never |
//! | `/stall` | headers and half a body, then nothing |
//! | `/cut` | headers and half a body, then the connection or stream is reset |
//! | `/cut/headers` | headers, then reset |
//! | `/cut/at-once` | reset without an answer |
//! | `/upgrade` | 101, then the connection stays open until the client closes it |
//! | `/grpc/<status>` | one message, then the status in trailers (HTTP/2) |
//! | `/grpc-only/<status>` | trailers-only (HTTP/2) |
//! | `/grpc-stream/<status>` | three messages, then the status (HTTP/2) |
//! | `/events` | a stream of server-sent events that goes on until the client leaves |
//! | `/upgrade/quiet` | 101, and then not a byte |
//! | `/large` | 200 with a body of a million bytes |
//! | `/fail/primary`, `/fail/canary` | 500 from that one, 200 from the other |
//! | `/fail-late/primary`, `/fail-late/canary` | the same, the 500 after 300 ms |
//! | anything else | 200 |

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What one service has seen: requests, and those that still carried the token header.
#[derive(Debug, Default)]
pub struct Seen {
    /// Requests.
    requests: AtomicU64,
    tokens: AtomicU64,
}

impl Seen {
    /// Returns the number of requests.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    /// Returns the number of requests that still carried the token header.
    pub fn tokens(&self) -> u64 {
        self.tokens.load(Ordering::SeqCst)
    }
}

/// One service.
#[derive(Debug)]
pub struct Service {
    /// Where it listens for HTTP/1.1.
    pub http1: SocketAddr,
    /// Where it listens for HTTP/2.
    pub http2: SocketAddr,
    /// What it has seen.
    pub seen: Arc<Seen>,
    tasks: tokio::task::JoinSet<()>,
}

impl Service {
    /// Starts a service that calls itself by this name.
    pub async fn start(name: &'static str) -> Self {
        let seen = Arc::new(Seen::default());
        let (http1, http2) = (bind().await, bind().await);
        let addresses = (http1.local_addr().unwrap(), http2.local_addr().unwrap());
        let mut tasks = tokio::task::JoinSet::new();
        let at1 = Arc::clone(&seen);
        tasks.spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = http1.accept().await {
                let seen = Arc::clone(&at1);
                connections.spawn(async move { serve_http1(socket, name, &seen).await });
            }
        });
        let at2 = Arc::clone(&seen);
        tasks.spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = http2.accept().await {
                let seen = Arc::clone(&at2);
                connections.spawn(async move { serve_http2(socket, name, seen).await });
            }
        });
        Self { http1: addresses.0, http2: addresses.1, seen, tasks }
    }

    /// Stops listening and closes all connections.
    pub async fn stop(&mut self) {
        self.tasks.shutdown().await;
    }
}

async fn bind() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// What a request's path asks for.
enum Wish {
    Status(u16),
    Delay(u64),
    Hang,
    Stall,
    Cut,
    CutHeaders,
    CutAtOnce,
    Upgrade(&'static str),
    Events,
    Large,
    FailLate,
    Grpc { messages: usize, status: String },
}

fn wish(path: &str, name: &str) -> Wish {
    let path = path.split('?').next().unwrap_or_default();
    let mut parts = path.trim_start_matches('/').split('/');
    let number = |part: Option<&str>| part.and_then(|part| part.parse::<u16>().ok()).unwrap_or(200);
    let text = |part: Option<&str>| part.unwrap_or("0").to_owned();
    match (parts.next().unwrap_or_default(), parts.next()) {
        ("status", code) => Wish::Status(number(code)),
        ("delay", ms) => Wish::Delay(u64::from(number(ms))),
        ("hang", _) => Wish::Hang,
        ("stall", _) => Wish::Stall,
        ("cut", None) => Wish::Cut,
        ("cut", Some("headers")) => Wish::CutHeaders,
        ("cut", _) => Wish::CutAtOnce,
        ("upgrade", None) => Wish::Upgrade("hello"),
        ("upgrade", _) => Wish::Upgrade(""),
        ("events", _) => Wish::Events,
        ("large", _) => Wish::Large,
        ("grpc", status) => Wish::Grpc { messages: 1, status: text(status) },
        ("grpc-only", status) => Wish::Grpc { messages: 0, status: text(status) },
        ("grpc-stream", status) => Wish::Grpc { messages: 3, status: text(status) },
        ("fail", Some(who)) if who == name => Wish::Status(500),
        ("fail-late", Some(who)) if who == name => Wish::FailLate,
        _ => Wish::Status(200),
    }
}

async fn serve_http1(socket: TcpStream, name: &str, seen: &Seen) {
    let _ = socket.set_nodelay(true);
    let mut socket = BufReader::new(socket);
    loop {
        let (mut path, mut length, mut line) = (String::new(), 0, String::new());
        loop {
            line.clear();
            if socket.read_line(&mut line).await.unwrap_or(0) == 0 {
                return;
            }
            let text = line.trim_end();
            if path.is_empty() {
                path = text.split(' ').nth(1).unwrap_or("/").to_owned();
            } else if text.is_empty() {
                break;
            } else if let Some((header, value)) = text.split_once(':') {
                if header.eq_ignore_ascii_case("content-length") {
                    length = value.trim().parse().unwrap_or(0);
                } else if header.eq_ignore_ascii_case(weir_wire::TOKEN_HEADER) {
                    seen.tokens.fetch_add(1, Ordering::SeqCst);
                }
            }
        }
        let mut body = vec![0; length];
        if socket.read_exact(&mut body).await.is_err() {
            return;
        }
        seen.requests.fetch_add(1, Ordering::SeqCst);
        if !answer_http1(&mut socket, &wish(&path, name), name).await {
            return;
        }
    }
}

/// Answers; returns whether the connection stays.
async fn answer_http1(socket: &mut BufReader<TcpStream>, wish: &Wish, name: &str) -> bool {
    let head = format!("HTTP/1.1 200 OK\r\nx-served-by: {name}\r\ncontent-length: 10\r\n\r\n");
    match wish {
        Wish::Delay(ms) => tokio::time::sleep(Duration::from_millis(*ms)).await,
        Wish::Hang => return hold(socket).await,
        Wish::Stall => {
            let _ = socket.write_all(format!("{head}12345").as_bytes()).await;
            return hold(socket).await;
        }
        Wish::Cut | Wish::CutHeaders => {
            let text = if matches!(wish, Wish::Cut) { format!("{head}12345") } else { head };
            let _ = socket.write_all(text.as_bytes()).await;
            // The proxy must see the first part before the end.
            tokio::time::sleep(Duration::from_millis(50)).await;
            return false;
        }
        Wish::CutAtOnce => return false,
        Wish::Upgrade(greeting) => {
            let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
            let _ = socket.write_all(format!("{head}{greeting}").as_bytes()).await;
            return hold(socket).await;
        }
        Wish::Events => {
            let head = format!("HTTP/1.1 200 OK\r\nx-served-by: {name}\r\ncontent-type: text/event-stream\r\n\r\n");
            let mut text = format!("{head}data: first\n\n");
            while socket.write_all(text.as_bytes()).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
                text = "data: more\n\n".to_owned();
            }
            return false;
        }
        Wish::Large => {
            let head = format!("HTTP/1.1 200 OK\r\nx-served-by: {name}\r\ncontent-length: 1000000\r\n\r\n");
            return socket.write_all(head.as_bytes()).await.is_ok()
                && socket.write_all(&[b'x'; 1_000_000]).await.is_ok();
        }
        Wish::FailLate => tokio::time::sleep(Duration::from_millis(300)).await,
        Wish::Status(_) | Wish::Grpc { .. } => {}
    }
    let status = match wish {
        Wish::Status(status) => *status,
        Wish::FailLate => 500,
        _ => 200,
    };
    let bodiless = matches!(status, 204 | 304);
    let text = if bodiless {
        format!("HTTP/1.1 {status} x\r\nx-served-by: {name}\r\n\r\n")
    } else {
        format!("HTTP/1.1 {status} x\r\nx-served-by: {name}\r\ncontent-length: {}\r\n\r\n{name}", name.len())
    };
    socket.write_all(text.as_bytes()).await.is_ok()
}

/// Waits until the other side goes.
async fn hold(socket: &mut BufReader<TcpStream>) -> bool {
    let mut rest = Vec::new();
    let _ = socket.read_to_end(&mut rest).await;
    false
}

async fn serve_http2(socket: TcpStream, name: &'static str, seen: Arc<Seen>) {
    let _ = socket.set_nodelay(true);
    let Ok(mut connection) = h2::server::handshake(socket).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        seen.requests.fetch_add(1, Ordering::SeqCst);
        if request.headers().contains_key(weir_wire::TOKEN_HEADER) {
            seen.tokens.fetch_add(1, Ordering::SeqCst);
        }
        let wish = wish(request.uri().path(), name);
        tokio::spawn(async move {
            let mut body = request.into_body();
            while let Some(Ok(piece)) = body.data().await {
                let _ = body.flow_control().release_capacity(piece.len());
            }
            answer_http2(respond, &wish, name).await;
        });
    }
}

async fn answer_http2(mut respond: h2::server::SendResponse<Bytes>, wish: &Wish, name: &'static str) {
    let status = if let Wish::Status(status) = wish { *status } else { 200 };
    let mut head = Response::builder().status(status).header("x-served-by", name);
    if matches!(wish, Wish::Grpc { .. }) {
        head = head.header("content-type", "application/grpc");
    }
    match wish {
        Wish::Hang => return std::future::pending().await,
        Wish::CutAtOnce => return respond.send_reset(h2::Reason::INTERNAL_ERROR),
        Wish::Grpc { messages: 0, status } => head = head.header("grpc-status", status.as_str()),
        Wish::Delay(ms) => tokio::time::sleep(Duration::from_millis(*ms)).await,
        _ => {}
    }
    let only = matches!(wish, Wish::Grpc { messages: 0, .. });
    let Ok(mut stream) = respond.send_response(head.body(()).unwrap(), only) else { return };
    match wish {
        Wish::Grpc { messages, status } if *messages > 0 => {
            for _ in 0..*messages {
                let _ = stream.send_data(Bytes::from_static(&[0, 0, 0, 0, 3, 1, 2, 3]), false);
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_str(status).unwrap());
            let _ = stream.send_trailers(trailers);
        }
        Wish::Grpc { .. } => {}
        Wish::Stall => {
            let _ = stream.send_data(Bytes::from_static(b"12345"), false);
            std::future::pending().await
        }
        Wish::Cut | Wish::CutHeaders => {
            if matches!(wish, Wish::Cut) {
                let _ = stream.send_data(Bytes::from_static(b"12345"), false);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            stream.send_reset(h2::Reason::INTERNAL_ERROR);
        }
        _ => {
            let _ = stream.send_data(Bytes::from_static(name.as_bytes()), true);
        }
    }
}
