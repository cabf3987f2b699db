//! `weir dashboard`: every Canary in a browser on this machine, with the rights of whoever runs it.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use hyper::StatusCode;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::client::{Api, Server};
use crate::terminal;
use weir_controller::page::{self, Hosts, Refused, Seen, Source};
use weir_controller::view::{CanaryDetail, Changes, Summaries};
use weir_engine::Verb;

/// Several windows that ask at once are told what one of them was: a little less than the time between two looks of a page.
const FRESH: Duration = Duration::from_millis(900);
/// The Canaries' own status is all of a cluster, from its API server.
const FRESH_STATUS: Duration = Duration::from_secs(5);

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
    let hub = Hub { api, token, title, namespace: args.namespace, known: Mutex::default() };
    // Names of this machine that lead nowhere else.
    let hosts = ["127.0.0.1", "localhost", "[::1]"].map(|name| format!("{name}:{port}"));
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    page::serve(listener, Arc::new(hub), Hosts::These(hosts.into()), stop).await;
    Ok(ExitCode::SUCCESS)
}

/// One Weir, and what it said last.
struct Hub {
    api: Api,
    token: String,
    title: String,
    namespace: Option<String>,
    known: Mutex<Known>,
}

/// What Weir said last.
#[derive(Default)]
struct Known {
    asked: Option<Instant>,
    /// What to say to it next time.
    cursor: String,
    summaries: Summaries,
    partial: Option<String>,
    failed: Option<String>,
}

impl Hub {
    /// Asks Weir again, where nobody just did.
    async fn refresh(&self, known: &mut Known) -> Result<(), String> {
        let fresh = if known.partial.is_some() { FRESH_STATUS } else { FRESH };
        if known.asked.is_none_or(|asked| asked.elapsed() >= fresh) {
            known.failed = match self.api.changes(&known.cursor, self.namespace.as_deref()).await {
                Ok(Seen { mut value, partial }) => {
                    known.partial = partial;
                    known.cursor = std::mem::take(&mut value.cursor);
                    if let Some(namespace) = &self.namespace {
                        value.items.retain(|item| item.namespace == *namespace);
                    }
                    known.summaries.apply(value);
                    None
                }
                Err(error) => Some(format!("{error:#}")),
            };
            known.asked = Some(Instant::now());
        }
        known.failed.clone().map_or(Ok(()), Err)
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

    async fn changes(&self, (): &(), cursor: &str) -> Result<Seen<Changes>, String> {
        let mut known = self.known.lock().await;
        self.refresh(&mut known).await?;
        Ok(Seen { value: known.summaries.since(cursor), partial: known.partial.clone() })
    }

    async fn detail(&self, (): &(), namespace: &str, name: &str) -> Result<Seen<Option<CanaryDetail>>, String> {
        if !self.known.lock().await.summaries.contains(namespace, name) {
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
