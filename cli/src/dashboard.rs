//! `weir dashboard`: every Canary in a browser on this machine, with the rights of whoever runs it.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use hyper::StatusCode;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, MutexGuard, Notify, watch};
use tokio::time::Instant;

use crate::client::{Api, Server};
use crate::terminal;
use weir_controller::page::{self, Hosts, Refused, Seen, Source};
use weir_controller::view::{CanaryDetail, Changes, Summaries};
use weir_engine::Verb;

/// Time for which Weir waits for something new before it answers. One that hangs is given up after a little more.
const WAIT: Duration = Duration::from_secs(2);
/// Least time between two questions: what changes meanwhile comes with the next answer.
const APART: Duration = Duration::from_millis(200);
/// The same of a Weir that cannot be asked, or that is too old to wait.
const APART_FROM_OLD: Duration = Duration::from_secs(1);
/// The Canaries' own status is all of a cluster, from its API server.
const APART_OF_STATUS: Duration = Duration::from_secs(5);

/// Show every Canary in a browser, as it moves, with buttons for what a person may ask of it.
///
/// Serves one page on this machine and prints its address, which holds a token: nobody else can use it. What is shown and asked for goes
/// through the API server with your own rights, or to the `weir standalone` of this machine. Ctrl-C ends it.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Example: kubectl weir dashboard -n shop")]
pub(crate) struct Dashboard {
    /// Port on 127.0.0.1. Default: any that is free.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Only Canaries of this namespace. Default: all.
    #[arg(short, long)]
    namespace: Option<String>,
    #[command(flatten)]
    server: Server,
}

/// Serves the page until it is told to end.
///
/// # Errors
/// When the port is taken, or there is no cluster to be found.
pub(crate) async fn run(args: Dashboard) -> anyhow::Result<ExitCode> {
    let api = Api::reach(&args.server).await?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
    let port = listener.local_addr().context("find the port")?.port();
    let token = format!("{:032x}", rand::random::<u128>());
    terminal::print(&format!("http://127.0.0.1:{port}/#token={token}\n"))?;
    let title = match &args.namespace {
        Some(namespace) => format!("{}, namespace {namespace}", api.title()),
        None => api.title(),
    };
    let hub = Arc::new(Hub {
        api,
        token,
        title,
        namespace: args.namespace,
        known: Mutex::default(),
        news: watch::Sender::default(),
        looked: Notify::new(),
    });
    // Names of this machine that lead nowhere else.
    let hosts = ["127.0.0.1", "localhost", "[::1]"].map(|name| format!("{name}:{port}"));
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    tokio::select! {
        () = page::serve(listener, hub.clone(), Hosts::These(hosts.into()), stop) => {}
        () = hub.follow() => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// One Weir, and what it said last. It is asked by one for all windows, for as long as there is one.
struct Hub {
    api: Api,
    token: String,
    title: String,
    namespace: Option<String>,
    known: Mutex<Known>,
    /// The number of the last answer.
    news: watch::Sender<u64>,
    /// Somebody began to look.
    looked: Notify,
}

/// What Weir said last.
#[derive(Default)]
struct Known {
    /// Whether it answered, or why not; nothing while nobody looks.
    answered: Option<Result<(), String>>,
    /// What to say to it next time.
    cursor: String,
    summaries: Summaries,
    partial: Option<String>,
}

impl Hub {
    /// Asks Weir again and again, and tells who looks.
    async fn follow(&self) {
        loop {
            if self.news.receiver_count() == 0 {
                self.known.lock().await.answered = None;
                self.looked.notified().await;
            }
            let pause = self.refresh().await;
            self.news.send_modify(|number| *number += 1);
            tokio::time::sleep(pause).await;
        }
    }

    /// Asks Weir once, and returns for how long not to.
    async fn refresh(&self) -> Duration {
        let (asked, cursor) = (Instant::now(), self.known.lock().await.cursor.clone());
        let answer = self.api.changes(&cursor, self.namespace.as_deref(), WAIT).await;
        let mut known = self.known.lock().await;
        let (answered, pause) = match answer {
            Ok(Seen { mut value, partial }) => {
                known.cursor = std::mem::take(&mut value.cursor);
                known.partial = partial.map(|why| {
                    format!("Shown is the Canaries' own status, a few seconds old: the Weir that acts cannot be asked for the rest ({why})")
                });
                if let Some(namespace) = &self.namespace {
                    value.items.retain(|item| item.namespace == *namespace);
                }
                known.summaries.apply(value);
                let is_old = known.cursor.is_empty() || known.cursor == cursor && asked.elapsed() < WAIT / 2;
                let pause = if is_old { APART_FROM_OLD } else { APART };
                (Ok(()), if known.partial.is_some() { APART_OF_STATUS } else { pause })
            }
            Err(error) => (Err(format!("{error:#}")), APART_FROM_OLD),
        };
        known.answered = Some(answered);
        pause
    }

    /// Returns what Weir said last, once it has said something to who looks now.
    async fn known(&self) -> Result<MutexGuard<'_, Known>, String> {
        let mut news = self.news.subscribe();
        loop {
            let known = self.known.lock().await;
            if let Some(answered) = known.answered.clone() {
                return answered.map(|()| known);
            }
            drop(known);
            // The sender lives as long as this value.
            let _ = news.changed().await;
        }
    }
}

impl Source for Hub {
    type Viewer = ();

    fn title(&self) -> String {
        self.title.clone()
    }

    async fn viewer(&self, token: Option<&str>) -> Result<(), Refused> {
        if token.is_some_and(|token| page::is_same_secret(token, &self.token)) {
            return Ok(());
        }
        let text = "the token is another one: open the address that weir dashboard printed when it was started last";
        Err(Refused { status: StatusCode::UNAUTHORIZED, text: text.to_owned() })
    }

    fn news(&self) -> watch::Receiver<u64> {
        let news = self.news.subscribe();
        self.looked.notify_one();
        news
    }

    async fn changes(&self, (): &(), cursor: &str) -> Result<Seen<Changes>, String> {
        let known = self.known().await?;
        Ok(Seen { value: known.summaries.since(cursor), partial: known.partial.clone() })
    }

    async fn detail(&self, (): &(), namespace: &str, name: &str) -> Result<Seen<Option<CanaryDetail>>, String> {
        if !self.known().await?.summaries.contains(namespace, name) {
            return Ok(Seen::default());
        }
        let detail = self.api.detail(namespace, name).await.map_err(|error| format!("{error:#}"))?;
        Ok(Seen { value: Some(detail), partial: None })
    }

    async fn ask(&self, (): &(), namespace: &str, name: &str, verb: Verb) -> Result<(), Refused> {
        let asked = self.api.ask(namespace, name, verb.as_str()).await;
        asked.map_err(|error| Refused { status: StatusCode::BAD_GATEWAY, text: format!("{error:#}") })
    }
}
