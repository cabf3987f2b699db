//! From options to a running machine: everything is checked first, then what an earlier Weir left is taken over.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use sha2::{Digest, Sha256};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use weir_engine::Timestamp;

use super::clock::Clock;
use super::directory::{Catalog, Directory};
use super::envoy::binary::Binary;
use super::envoy::config::{Endpoint, Files};
use super::envoy::server::{Server, Settings};
use super::files::{Durability, replace};
use super::gateway::Gateway;
use super::process::marked;
use super::secrets::FolderSecrets;
use super::store::{Found, Store, StoreError, lock};
use super::supervisor::{Folders, Owned, Supervisor};
use super::{Error, Options, port};
use crate::alerts::Alerts;
use crate::alerts::http::Http;
use crate::http;
use crate::outbound::Outbound;
use crate::status_store::StatusStore;
use crate::telemetry::Chain;

/// Name of the variable that marks a process as one of a state folder's.
const MARKER: &str = "WEIR_STATE";

/// Looks at an address that is in use, before it counts as somebody else's: 3 s in all.
const RELEASE_LOOKS: u32 = 30;
const RELEASE_LOOK: Duration = Duration::from_millis(100);

/// Runs until SIGINT or SIGTERM, and leaves nothing running then.
///
/// # Errors
/// When it can't start; nothing was changed then.
pub async fn run(options: Options) -> Result<(), Error> {
    let folder_error = |source| Error::Folder { path: options.folder.clone(), source };
    let folder = fs::canonicalize(&options.folder).map_err(folder_error)?;
    fs::read_dir(&folder).map_err(folder_error)?;
    let binary = Binary::find(options.envoy.as_deref())?;
    if let Some(warning) = &binary.warning {
        tracing::warn!(warning, "another envoy");
    }
    let module = find_module(options.module.as_deref())?;
    let state = options.state.clone().unwrap_or_else(|| folder.join(".weir"));
    let _lock = lock(&state)?;
    let folders = make_folders(&state)?;
    let module = keep_module(&module, &folders.state.join("modules"))?;

    let listener = tokio::net::TcpListener::bind(options.http).await;
    let listener = listener.map_err(|source| listen_error("the API", options.http, "--http", source))?;
    let (interrupt, stop) = signals()?;
    let (statuses, calls) = StatusStore::new();
    statuses.set_acting();
    let wake: Arc<Notify> = Arc::default();
    let files = Files::in_folder(&folders.state.join("envoy"));
    let marker = (MARKER.to_owned(), folders.state.display().to_string());
    let settings = Settings {
        binary: binary.path,
        listen: options.listen,
        concurrency: options.concurrency.unwrap_or_else(processors),
        log: folders.logs.join("envoy.log"),
    };
    let record = folders.state.join("envoy.json");
    let server = Server::open(settings, files.clone(), record, marker.clone(), wake.clone()).await;
    if server.admin().is_none() {
        let free = until_free(options.listen).await;
        free.map_err(|source| listen_error("Envoy", options.listen, "--listen", source))?;
    }
    let secrets = FolderSecrets::default();
    let outbound = Outbound::with_secrets(None, Arc::new(secrets.clone()));
    let mut supervisor = Supervisor {
        alerts: Alerts::new(options.alerts, Arc::new(secrets.clone()), Arc::new(Http(outbound.clone()))),
        secrets,
        event_webhook: options.event_webhook,
        gateway: Gateway::open(&files, module),
        files,
        directory: Directory::at(folder),
        catalog: Catalog::default(),
        releases: BTreeMap::new(),
        stalled: BTreeMap::new(),
        frozen: BTreeMap::new(),
        complaints: Vec::new(),
        server,
        processes: Store::at(folders.state.join("processes.json")),
        statuses: statuses.clone(),
        calls,
        clock: Clock::start(),
        wake,
        outbound,
        marker,
        troubles: BTreeMap::new(),
        scraped: Timestamp::default(),
        logs_checked: Timestamp::default(),
        shown_stalled: BTreeSet::new(),
        folders,
    };
    supervisor
        .take_over()
        .map_err(|source| StoreError::Folder { path: supervisor.folders.canaries.clone(), source })?;

    let ended = Arc::new(Notify::new());
    let web_stop = ended.clone();
    let web = tokio::spawn(http::serve(listener, statuses, async move { web_stop.notified().await }));
    tracing::info!(listen = %options.listen, http = %options.http, state = %state.display(), "weir started");
    supervisor.run(&interrupt).await;
    supervisor.leave(&stop).await;
    ended.notify_one();
    let _ = web.await;
    Ok(())
}

impl Supervisor {
    /// Takes over what an earlier Weir left: what it remembered, and what still runs.
    fn take_over(&mut self) -> io::Result<()> {
        let now = self.clock.now();
        self.recall()?;
        self.read_directory(now);
        let known: BTreeSet<String> = self.releases.values().map(|release| release.id.clone()).collect();
        self.gateway.retain(|id| known.contains(id));
        let owned = match self.processes.load() {
            Ok(Found::Newest(owned)) => owned,
            Ok(Found::Older(owned, why)) => {
                tracing::warn!(why, "list of processes taken from its backup");
                owned
            }
            Ok(Found::Nothing) => Vec::new(),
            Err(error) => {
                tracing::error!(error = %Chain(&error), "list of processes lost; those that run are ended");
                Vec::new()
            }
        };
        let mut ours: Vec<i32> = self.server.identity().map(|identity| identity.pid()).into_iter().collect();
        for Owned { canary, arm, record } in owned {
            let Some(release) = self.releases.get_mut(&canary) else { continue };
            let endpoints = endpoints_in(&self.files.endpoints(&release.id, &arm));
            let known = endpoints.into_iter().find(|endpoint| endpoint.port == record.port);
            let pid = record.process.as_ref().map(|process| process.pid());
            let arms = release.arms();
            let adopted = arms.into_iter().find(|a| a.name == arm).is_some_and(|a| a.adopt(record, known, &self.wake));
            if adopted {
                tracing::info!(canary, arm, pid, "process taken over");
                ours.extend(pid);
            }
        }
        // Until the engine says otherwise what runs goes on: its first word may be to leave the canary as it is.
        for release in self.releases.values_mut() {
            release.arms().into_iter().for_each(|arm| arm.want_what_runs());
            release.keep_primary();
        }
        self.end_strays(&ours);
        Ok(())
    }

    /// Ends processes that bear our mark and that nobody remembers: started in the moment in which an earlier Weir died, or
    /// left behind by a process that ended while none was there to see it.
    fn end_strays(&self, ours: &[i32]) {
        for pid in marked(&format!("{}={}", self.marker.0, self.marker.1)) {
            let group = Pid::from_raw(pid).and_then(|pid| rustix::process::getpgid(Some(pid)).ok());
            let known = group.is_some_and(|group| ours.contains(&group.as_raw_nonzero().get()));
            if let Some(pid) = Pid::from_raw(pid).filter(|_| !known) {
                tracing::warn!(pid = pid.as_raw_nonzero().get(), "stray process ended");
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// Returns the endpoints that a file tells Envoy of.
fn endpoints_in(file: &Path) -> Vec<Endpoint> {
    let content = fs::read(file).ok().and_then(|content| serde_json::from_slice::<serde_json::Value>(&content).ok());
    let content = content.unwrap_or_default();
    let endpoints = content.pointer("/resources/0/endpoints/0/lb_endpoints").and_then(|value| value.as_array());
    let endpoint = |endpoint: &serde_json::Value| {
        let draining = endpoint.get("health_status")?.as_str()? != "HEALTHY";
        let port = endpoint.pointer("/endpoint/address/socket_address/port_value")?.as_u64()?;
        Some(Endpoint { port: u16::try_from(port).ok()?, draining })
    };
    endpoints.into_iter().flatten().filter_map(endpoint).collect()
}

fn make_folders(state: &Path) -> Result<Folders, Error> {
    let error = |path: &Path, source| StoreError::Folder { path: path.to_owned(), source };
    // Its name marks processes, so it must be the same from wherever Weir is started.
    let state = fs::canonicalize(state).map_err(|source| error(state, source))?;
    let folders = Folders { canaries: state.join("canaries"), logs: state.join("logs"), state: state.clone() };
    for folder in [&folders.canaries, &folders.logs, &state.join("envoy"), &state.join("modules")] {
        fs::create_dir_all(folder).map_err(|source| error(folder, source))?;
    }
    Ok(folders)
}

/// Finds the module that was named, or the one that was built beside this program.
fn find_module(named: Option<&Path>) -> Result<PathBuf, Error> {
    let places = match named {
        Some(named) => vec![named.to_owned()],
        None => {
            let program = std::env::current_exe().ok();
            let beside = program.iter().flat_map(|program| program.ancestors().skip(1).take(3));
            let here = std::env::current_dir().map(|here| here.join("target")).ok();
            beside.map(Path::to_owned).chain(here).map(|folder| folder.join("weir-filter.wasm")).collect()
        }
    };
    let name = |place: &PathBuf| std::path::absolute(place).unwrap_or_else(|_| place.clone()).display().to_string();
    let looked = || places.iter().map(name).collect::<Vec<_>>().join(", ");
    places.iter().find(|place| place.is_file()).cloned().ok_or_else(|| Error::Module { looked: looked() })
}

/// Copies the module to where it stays as it is, under a name with its hash: Envoy may start anew at any time, and reloads
/// code only when its file's name is another one.
fn keep_module(from: &Path, folder: &Path) -> Result<PathBuf, Error> {
    let error = |to: &Path, source| Error::CopyModule { from: from.to_owned(), to: to.to_owned(), source };
    let content = fs::read(from).map_err(|source| error(folder, source))?;
    let hash: String = Sha256::digest(&content)[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    let to = folder.join(format!("weir-filter-{hash}.wasm"));
    if fs::read(&to).ok().as_ref() != Some(&content) {
        replace(&to, &content, Durability::Disk).map_err(|source| error(&to, source))?;
    }
    Ok(to)
}

/// Returns what is notified by the first signal to stop, and by the second.
fn signals() -> Result<(Arc<Notify>, Arc<Notify>), Error> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let both = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (first, second) = both.clone();
    tokio::spawn(async move {
        for notify in [first, second] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            notify.notify_one();
        }
    });
    Ok(both)
}

/// Waits a little for an address: an Envoy that was killed a moment ago holds it until the last of its threads has ended.
async fn until_free(address: SocketAddr) -> io::Result<()> {
    for _ in 0..RELEASE_LOOKS {
        if port::is_free(address).is_ok() {
            return Ok(());
        }
        tokio::time::sleep(RELEASE_LOOK).await;
    }
    port::is_free(address)
}

fn listen_error(what: &'static str, address: SocketAddr, option: &'static str, source: io::Error) -> Error {
    Error::Listen { what, address, option, source }
}

fn processors() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(NonZero::get(n)).unwrap_or(1))
}
