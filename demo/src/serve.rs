//! The service: answers with its revision, and can be made to fail, to be slow, to hang or to be unready.
//!
//! Its health is a set of [`Switches`], given at the start and changed while it runs: by `POST /switch`, or by a file
//! that is read again whenever it changes. So a revision can go bad long after it was released, and all its replicas at once.

use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use clap::Args;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::grpc;
use crate::record::{Posted, Recorder};
use crate::tally::REVISION_HEADER;

/// Time between two looks at the file of switches: short against a rollout's steps, long against a look.
const LOOK: Duration = Duration::from_millis(50);

/// How to start the service.
#[derive(Args, Clone, Debug)]
pub struct Serve {
    /// Port; 0 lets the machine choose, and it is printed.
    #[arg(long, env = "PORT")]
    pub port: u16,
    /// Address to listen on: the loopback, unless it runs where others must reach it.
    #[arg(long, default_value = "127.0.0.1")]
    pub address: IpAddr,
    /// Another port, for gRPC.
    #[arg(long)]
    pub grpc_port: Option<u16>,
    /// Name of this revision, in every response's body and in its header `x-revision`.
    #[arg(long, default_value = "v1")]
    pub version: String,
    /// Share of requests that fail, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    pub failure_ratio: f64,
    /// Status of those that fail.
    #[arg(long, default_value_t = 500)]
    pub failure_status: u16,
    /// Share of requests that never get a response, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    pub hang_ratio: f64,
    /// Share of requests that end the process, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    pub crash_ratio: f64,
    /// Time that every response takes.
    #[arg(long, default_value_t = 0)]
    pub latency_ms: u64,
    /// Start as not ready: `/healthz` answers 503.
    #[arg(long)]
    pub unready: bool,
    /// Start as not ready where this machine's name, or its pod's, contains this.
    #[arg(long)]
    pub unready_at: Option<String>,
    /// JSON file of switches; what it names replaces what was given, whenever it changes. A change by `POST /switch` is kept
    /// there too, so that the next process is as ill as the last.
    #[arg(long)]
    pub switch_file: Option<PathBuf>,
    /// Folder of files that are given for their paths, without faults. A file of JSON with a `mediaType` is given as that, so
    /// that the folder may be a registry's.
    #[arg(long)]
    pub files: Option<PathBuf>,
    /// Keep what is posted and show it as JSON at `/recorded`: the service stands for a chat, or a program that is told something.
    #[arg(long)]
    pub record: bool,
}

/// The service's health, as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Switches {
    /// Share of requests that fail.
    pub failure_ratio: f64,
    /// Status of those that fail.
    pub failure_status: u16,
    /// Share of requests that never get a response.
    pub hang_ratio: f64,
    /// Share of requests that end the process.
    pub crash_ratio: f64,
    /// Time that every response takes.
    pub latency_ms: u64,
    /// What `/healthz` says.
    pub ready: bool,
}

/// A change of some switches.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Change {
    failure_ratio: Option<f64>,
    failure_status: Option<u16>,
    hang_ratio: Option<f64>,
    crash_ratio: Option<f64>,
    latency_ms: Option<u64>,
    ready: Option<bool>,
}

impl Switches {
    fn changed_by(self, change: Change) -> Self {
        Self {
            failure_ratio: change.failure_ratio.unwrap_or(self.failure_ratio),
            failure_status: change.failure_status.unwrap_or(self.failure_status),
            hang_ratio: change.hang_ratio.unwrap_or(self.hang_ratio),
            crash_ratio: change.crash_ratio.unwrap_or(self.crash_ratio),
            latency_ms: change.latency_ms.unwrap_or(self.latency_ms),
            ready: change.ready.unwrap_or(self.ready),
        }
    }
}

struct Service {
    version: String,
    switch_file: Option<PathBuf>,
    files: Option<PathBuf>,
    recorder: Option<Recorder>,
    switches: Mutex<Switches>,
}

impl Service {
    fn switches(&self) -> Switches {
        *self.switches.lock()
    }

    fn change(&self, change: Change) -> Switches {
        let mut switches = self.switches.lock();
        *switches = switches.changed_by(change);
        *switches
    }
}

impl Serve {
    /// Serves until SIGTERM or SIGINT, then lets the requests under way end.
    ///
    /// # Errors
    /// When the port cannot be had.
    pub async fn run(self) -> anyhow::Result<()> {
        let here = std::env::var("HOSTNAME").unwrap_or_default();
        let unready_here = self.unready_at.is_some_and(|name| here.contains(&name));
        let service = Arc::new(Service {
            version: self.version,
            switch_file: self.switch_file.clone(),
            files: self.files,
            recorder: self.record.then(Recorder::default),
            switches: Mutex::new(Switches {
                failure_ratio: self.failure_ratio,
                failure_status: self.failure_status,
                hang_ratio: self.hang_ratio,
                crash_ratio: self.crash_ratio,
                latency_ms: self.latency_ms,
                ready: !self.unready && !unready_here,
            }),
        });
        if let Some(path) = self.switch_file {
            // Read once before the first request can come.
            let seen = apply_file(&service, &path, String::new()).await;
            tokio::spawn(follow_file(service.clone(), path, seen));
        }
        let listener = TcpListener::bind((self.address, self.port))
            .await
            .with_context(|| format!("listen on port {}", self.port))?;
        let (leaves, ends) = tokio::sync::watch::channel(false);
        if let Some(port) = self.grpc_port {
            let listener =
                TcpListener::bind((self.address, port)).await.with_context(|| format!("listen on {port}"))?;
            let (service, version) = (service.clone(), service.version.clone());
            tokio::spawn(grpc::serve(listener, version, ends, move || {
                rand::random::<f64>() < service.switches().failure_ratio
            }));
        }
        println!("{} listening on {}", service.version, listener.local_addr()?);
        let router = Router::new()
            .route("/healthz", get(healthz))
            .route("/switch", get(show).post(switch))
            .route("/recorded", get(recorded))
            .fallback(answer)
            .with_state(service);
        let mut terminate = signal(SignalKind::terminate())?;
        let end = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            leaves.send_replace(true);
        };
        axum::serve(listener, router).with_graceful_shutdown(end).await.context("serve")
    }
}

async fn healthz(State(service): State<Arc<Service>>) -> StatusCode {
    if service.switches().ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

async fn show(State(service): State<Arc<Service>>) -> Json<Switches> {
    Json(service.switches())
}

/// Takes JSON by whatever name it comes: `kubectl create --raw` gives none.
async fn switch(State(service): State<Arc<Service>>, body: Bytes) -> Result<Json<Switches>, (StatusCode, String)> {
    let change = serde_json::from_slice(&body).map_err(|error| (StatusCode::BAD_REQUEST, format!("{error}\n")))?;
    if let Some(path) = &service.switch_file {
        let kept = tokio::fs::write(path, &body).await;
        kept.map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, format!("write {}: {error}\n", path.display())))?;
    }
    Ok(Json(service.change(change)))
}

/// Returns what was posted; nothing where nobody asked for that to be kept.
async fn recorded(State(service): State<Arc<Service>>) -> Json<Vec<Posted>> {
    Json(service.recorder.as_ref().map(Recorder::posted).unwrap_or_default())
}

async fn answer(State(service): State<Arc<Service>>, uri: Uri, request: Request) -> Response {
    if let Some(recorder) = &service.recorder {
        recorder.take(request).await;
    }
    if let Some(folder) = &service.files
        && let Some(file) = file(folder, uri.path()).await
    {
        return file;
    }
    let switches = service.switches();
    if rand::random::<f64>() < switches.crash_ratio {
        std::process::exit(1);
    }
    if rand::random::<f64>() < switches.hang_ratio {
        std::future::pending::<()>().await;
    }
    if switches.latency_ms > 0 {
        tokio::time::sleep(Duration::from_millis(switches.latency_ms)).await;
    }
    let status = if rand::random::<f64>() < switches.failure_ratio {
        StatusCode::from_u16(switches.failure_status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    } else {
        StatusCode::OK
    };
    let headers = [(REVISION_HEADER, service.version.as_str()), (header::CONTENT_TYPE.as_str(), "text/plain")];
    (status, headers, format!("{}\n", service.version)).into_response()
}

/// Returns the file at a path of a folder; nothing for paths that lead out of it.
async fn file(folder: &Path, path: &str) -> Option<Response> {
    #[derive(Deserialize)]
    struct Typed {
        #[serde(rename = "mediaType")]
        media_type: String,
    }
    let path = Path::new(path.strip_prefix('/')?);
    if !path.components().all(|part| matches!(part, Component::Normal(_))) {
        return None;
    }
    let content = tokio::fs::read(folder.join(path)).await.ok()?;
    let kind = serde_json::from_slice(&content).map(|typed: Typed| typed.media_type);
    let kind = kind.unwrap_or_else(|_| "application/octet-stream".into());
    Some(([(header::CONTENT_TYPE, kind)], content).into_response())
}

async fn follow_file(service: Arc<Service>, path: PathBuf, mut seen: String) {
    loop {
        tokio::time::sleep(LOOK).await;
        seen = apply_file(&service, &path, seen).await;
    }
}

/// Takes over what the file says if it differs from `seen`; returns what was seen. A file that is not there says nothing.
async fn apply_file(service: &Service, path: &Path, seen: String) -> String {
    let text = tokio::fs::read_to_string(path).await.unwrap_or_default();
    if text == seen || text.is_empty() {
        return seen;
    }
    match serde_json::from_str(&text) {
        Ok(change) => {
            service.change(change);
        }
        Err(error) => eprintln!("{}: {error}", path.display()),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_are_given_by_their_paths_and_nothing_outside_of_the_folder() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("files");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(outer.path().join("secret"), "x").unwrap();
        std::fs::write(folder.join("manifest"), r#"{"mediaType": "a/b"}"#).unwrap();
        std::fs::write(folder.join("blob"), [0, 159]).unwrap();
        let kind = async |path: &str| {
            let response = file(&folder, path).await?;
            Some(response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned())
        };
        assert_eq!(kind("/manifest").await.as_deref(), Some("a/b"));
        assert_eq!(kind("/blob").await.as_deref(), Some("application/octet-stream"));
        assert_eq!((kind("/../secret").await, kind("/").await, kind("//etc/hostname").await), (None, None, None));
    }

    #[test]
    fn a_change_leaves_alone_what_it_does_not_name() {
        let healthy = Switches {
            failure_ratio: 0.0,
            failure_status: 500,
            hang_ratio: 0.0,
            crash_ratio: 0.0,
            latency_ms: 3,
            ready: true,
        };
        let change: Change = serde_json::from_str(r#"{"failure_ratio": 1}"#).unwrap();
        assert_eq!(healthy.changed_by(change), Switches { failure_ratio: 1.0, ..healthy });
        assert!(serde_json::from_str::<Change>(r#"{"failure-ratio": 1}"#).is_err());
    }
}
