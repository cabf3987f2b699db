//! Steady traffic: an open-loop client, so that a slow answer never slows the next request down.
//!
//! Request n is due at `start + n / rate`, whatever became of those before it, and its time counts from the moment it was
//! due: a client that waits for answers before it asks again would send a hanging service hardly any requests, and call it fast.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Request, Uri};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use crate::fresh::{self, Stand};
use crate::grpc;
use crate::tally::{Ended, GATEWAY, NOTHING, REVISION_HEADER, TIMEOUT, Tally};

/// Requests under way beyond which none are sent: a machine's ports and memory end somewhere.
const OUTSTANDING: usize = 10_000;

/// The traffic.
#[derive(Args, Clone, Debug)]
pub struct Load {
    /// Where to, for instance `http://127.0.0.1:8080/`.
    #[arg(long)]
    pub url: Uri,
    /// Requests per second.
    #[arg(long, default_value_t = 100.0)]
    pub rate: f64,
    /// How long; without it until SIGINT or SIGTERM.
    #[arg(long)]
    pub seconds: Option<f64>,
    /// Headers of every request, `name: value`; `host` too.
    #[arg(long = "header", value_parser = header)]
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// A request that takes longer is given up.
    #[arg(long, default_value_t = 10_000)]
    pub timeout_ms: u64,
    /// Make a connection for every request: none is met by the end of a server that has kept it.
    #[arg(long)]
    pub fresh: bool,
    /// Call by gRPC.
    #[arg(long, conflicts_with = "fresh")]
    pub grpc: bool,
}

fn header(text: &str) -> anyhow::Result<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':').context("a header is `name: value`")?;
    Ok((name.trim().parse()?, value.trim().parse()?))
}

impl Default for Load {
    fn default() -> Self {
        Self {
            url: Uri::default(),
            rate: 100.0,
            seconds: None,
            headers: Vec::new(),
            timeout_ms: 10_000,
            fresh: false,
            grpc: false,
        }
    }
}

/// Traffic that runs. It ends when this is dropped.
pub struct Running {
    tally: Arc<Mutex<Tally>>,
    outstanding: Arc<AtomicUsize>,
    sender: tokio::task::JoinHandle<()>,
}

impl Load {
    /// Starts the traffic.
    #[must_use]
    pub fn start(&self) -> Running {
        self.start_telling(|_| {})
    }

    /// Starts the traffic, and tells of every request as it ends.
    #[must_use]
    pub fn start_telling(&self, tell: impl Fn(&Ended) + Send + Sync + 'static) -> Running {
        let tally = Arc::new(Mutex::new(Tally::default()));
        let outstanding = Arc::new(AtomicUsize::new(0));
        let sender = tokio::spawn(send(self.clone(), tally.clone(), outstanding.clone(), Arc::new(tell)));
        Running { tally, outstanding, sender }
    }

    /// Sends for the time that was asked for, or until a signal, and prints what was seen as JSON.
    ///
    /// # Errors
    /// When no signal can be waited for.
    pub async fn run(self) -> anyhow::Result<()> {
        let began = Instant::now();
        let running = self.start();
        let mut terminate = signal(SignalKind::terminate())?;
        let end = async {
            match self.seconds {
                Some(seconds) => tokio::time::sleep(Duration::from_secs_f64(seconds)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = end => {}
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        let took = began.elapsed().as_secs_f64();
        let tally = running.finish().await;
        let report = serde_json::json!({
            "seconds": took,
            "revisions": tally.summary(),
            "unsent": tally.unsent,
            "failures": tally.failures,
        });
        println!("{report:#}");
        Ok(())
    }
}

impl Running {
    /// Returns what was seen so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally.lock().clone()
    }

    /// Sends no more, waits for the requests under way, and returns what was seen.
    pub async fn finish(self) -> Tally {
        self.sender.abort();
        while self.outstanding.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.tally()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.sender.abort();
    }
}

async fn send(
    load: Load,
    tally: Arc<Mutex<Tally>>,
    outstanding: Arc<AtomicUsize>,
    tell: Arc<dyn Fn(&Ended) + Send + Sync>,
) {
    let client = Sender::of(&load);
    let headers: HeaderMap = load.headers.iter().cloned().collect();
    let timeout = Duration::from_millis(load.timeout_ms);
    let start = Instant::now();
    for number in 0_u64.. {
        let due = start + Duration::from_secs_f64(number as f64 / load.rate);
        tokio::time::sleep_until(due).await;
        if outstanding.load(Ordering::Relaxed) >= OUTSTANDING {
            tally.lock().unsent += 1;
            continue;
        }
        outstanding.fetch_add(1, Ordering::Relaxed);
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = load.url.clone();
        *request.headers_mut() = headers.clone();
        let (client, tally, outstanding, tell) = (client.clone(), tally.clone(), outstanding.clone(), tell.clone());
        tokio::spawn(async move {
            let stand = Stand::default();
            let answer = tokio::time::timeout(timeout, client.exchange(request, &stand)).await;
            let ((revision, status), why) = match answer {
                Ok(Ok(complete)) => (complete, String::new()),
                Ok(Err(error)) => ((NOTHING.to_owned(), 0), format!("{error:#}")),
                Err(_) => ((TIMEOUT.to_owned(), 0), stand.waits_for().to_owned()),
            };
            let ended = Ended { revision, status, took: due.elapsed() };
            tell(&ended);
            let mut tally = tally.lock();
            if ended.failed() {
                tally.tell(start.elapsed(), &ended, &why);
            }
            tally.add(ended);
            outstanding.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// What sends the requests.
#[derive(Clone)]
enum Sender {
    Http(Client<HttpConnector, Empty<Bytes>>),
    Fresh(fresh::Client),
    Grpc(grpc::Client),
}

impl Sender {
    fn of(load: &Load) -> Self {
        if load.grpc {
            return Self::Grpc(grpc::Client::default());
        }
        if load.fresh {
            return Self::Fresh(fresh::Client::default());
        }
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self::Http(Client::builder(TokioExecutor::new()).build(connector))
    }

    /// Sends one request and reads the whole response: who answered, and the status.
    async fn exchange(&self, request: Request<Empty<Bytes>>, stand: &Stand) -> anyhow::Result<(String, u16)> {
        let response = match self {
            Self::Http(client) => client.request(request).await?,
            Self::Fresh(client) => client.send(request, stand).await?,
            Self::Grpc(client) => return client.exchange(&request).await,
        };
        let (revision, status) = (revision(response.headers()), response.status().as_u16());
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            frame?;
        }
        Ok((revision, status))
    }
}

/// Returns which revision a response says that it is of.
pub(crate) fn revision(headers: &HeaderMap) -> String {
    headers.get(REVISION_HEADER).and_then(|it| it.to_str().ok()).unwrap_or(GATEWAY).to_owned()
}
