//! Keeps one Envoy running, which outlives Weir: the next Weir takes over the Envoy that it finds.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use weir_engine::{Span, Timestamp};

use super::admin::Admin;
use super::config::{self, Files};
use crate::standalone::files::{Durability, replace};
use crate::standalone::port;
use crate::standalone::process::{Identity, Launch, Process, last_words, marked};
use crate::standalone::store::{Found, Store};
use crate::telemetry::Chain;

/// An Envoy that ran so long did not fail at its start: it is started again at once.
const STABLE_AFTER: Span = Span::seconds(5);
/// Time before the second attempt of one that does fail; doubled by each further one.
const BACKOFF: Span = Span(500);
/// An Envoy that is replaced ends within this time of SIGTERM, or is killed.
const GRACE: std::time::Duration = std::time::Duration::from_secs(5);
const LONGEST_BACKOFF: Span = Span::seconds(10);

/// How Envoy is started.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The program.
    pub(crate) binary: PathBuf,
    /// Where requests come in.
    pub(crate) listen: SocketAddr,
    /// Worker threads.
    pub(crate) concurrency: u32,
    /// Where it writes its log.
    pub(crate) log: PathBuf,
}

/// What is remembered of the Envoy that runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    process: Identity,
    admin: SocketAddr,
    command: Vec<String>,
}

/// The Envoy of this supervisor.
#[derive(Debug)]
pub(crate) struct Server {
    settings: Settings,
    files: Files,
    store: Store<Record>,
    marker: (String, String),
    wake: Arc<Notify>,
    running: Option<(Process, Admin)>,
    started: Timestamp,
    failures: u32,
    retry_at: Timestamp,
    problem: Option<String>,
}

/// What a step of the supervision found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Nothing,
    /// It ended; what it counted and acknowledged is gone with it.
    Died,
    /// A new one was started.
    Started,
}

impl Server {
    /// Returns the server with the Envoy that an earlier Weir left, if it was started as `settings` say.
    pub(crate) async fn open(
        settings: Settings,
        files: Files,
        store: PathBuf,
        marker: (String, String),
        wake: Arc<Notify>,
    ) -> Self {
        let mut server = Self {
            settings,
            files,
            store: Store::at(store),
            marker,
            wake,
            running: None,
            started: Timestamp::default(),
            failures: 0,
            retry_at: Timestamp::default(),
            problem: None,
        };
        server.adopt().await;
        server
    }

    async fn adopt(&mut self) {
        // A record that can't be read is worth no more than none: strays are found by their mark.
        let record = match self.store.load() {
            Ok(Found::Newest(record) | Found::Older(record, _)) => Some(record),
            _ => None,
        };
        let adopted = record.and_then(|record| {
            let process = Process::adopt(record.process.clone(), self.wake.clone()).ok()?;
            Some((record, process))
        });
        let Some((record, process)) = adopted else { return self.end_strays().await };
        let bootstrap = config::bootstrap(&self.files, self.settings.listen, record.admin).to_string();
        let same = std::fs::read_to_string(&self.files.bootstrap).is_ok_and(|file| file == bootstrap);
        if same && record.command == self.command() {
            tracing::info!(pid = record.process.pid(), "envoy taken over");
            self.running = Some((process, Admin::at(record.admin)));
        } else {
            tracing::warn!(pid = record.process.pid(), "envoy stopped: it was started with other settings");
            end(&process).await;
        }
    }

    /// Ends an Envoy of this folder that nobody remembers: it would keep the port for ever.
    async fn end_strays(&self) {
        let bootstrap = self.files.bootstrap.display().to_string();
        for pid in marked(&format!("{}={}", self.marker.0, self.marker.1)) {
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let is_envoy = command.split(|byte| *byte == 0).any(|word| word == bootstrap.as_bytes());
            let process = Identity::of(pid).filter(|_| is_envoy).map(|id| Process::adopt(id, self.wake.clone()));
            if let Some(Ok(process)) = process {
                tracing::warn!(pid, "stray envoy stopped");
                end(&process).await;
            }
        }
    }

    /// Returns the process of the Envoy that runs.
    pub(crate) fn identity(&self) -> Option<&Identity> {
        self.running.as_ref().map(|(process, _)| process.identity())
    }

    /// Returns the admin endpoint of the Envoy that runs.
    pub(crate) fn admin(&self) -> Option<&Admin> {
        self.running.as_ref().map(|(_, admin)| admin)
    }

    /// Returns why none runs.
    pub(crate) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Returns its log.
    pub(crate) fn log(&self) -> &std::path::Path {
        &self.settings.log
    }

    /// Notices a death.
    pub(crate) fn advance(&mut self, now: Timestamp) -> Change {
        let Some(exit) = self.running.as_ref().and_then(|(process, _)| process.exit()) else { return Change::Nothing };
        self.running = None;
        let words = last_words(&self.settings.log).unwrap_or_default();
        self.failures = if now.since(self.started) >= STABLE_AFTER { 0 } else { self.failures + 1 };
        self.wait(now);
        self.problem = Some(format!("Envoy ended with {exit}: {words}"));
        tracing::error!(error = %exit, "envoy ended");
        Change::Died
    }

    /// Returns whether one should be started now. The caller prepares its files first.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        self.running.is_none() && now >= self.retry_at
    }

    /// Returns when the next start is due.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        self.running.is_none().then_some(self.retry_at)
    }

    /// Starts one.
    pub(crate) fn start(&mut self, now: Timestamp) -> Change {
        match self.try_start() {
            Ok((process, admin)) => {
                self.problem = None;
                self.started = now;
                let pid = process.identity().pid();
                tracing::info!(pid, listen = %self.settings.listen, admin = %admin.address(), "envoy started");
                self.running = Some((process, admin));
                Change::Started
            }
            Err(problem) => {
                tracing::error!(error = problem, "envoy does not start");
                self.problem = Some(problem);
                self.failures += 1;
                self.wait(now);
                Change::Nothing
            }
        }
    }

    fn try_start(&mut self) -> Result<(Process, Admin), String> {
        if let Err(error) = port::is_free(self.settings.listen) {
            return Err(format!("{} can't be listened on: {error}", self.settings.listen));
        }
        let admin = port::free(|_| false).map_err(|error| format!("no port for Envoy's admin endpoint: {error}"))?;
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, admin));
        let bootstrap = config::bootstrap(&self.files, self.settings.listen, admin).to_string();
        replace(&self.files.bootstrap, bootstrap.as_bytes(), Durability::Readers)
            .map_err(|error| format!("write {}: {error}", self.files.bootstrap.display()))?;
        let launch = Launch {
            command: self.command(),
            environment: [self.marker.clone()].into(),
            folder: self.files.bootstrap.parent().map(PathBuf::from).unwrap_or_default(),
            log: self.settings.log.clone(),
        };
        let process = Process::start(&launch, self.wake.clone()).map_err(|error| Chain(&error).to_string())?;
        let record = Record { process: process.identity().clone(), admin, command: launch.command };
        if let Err(error) = self.store.save(&record) {
            // It serves; only a later Weir could not take it over, and would start another one.
            tracing::error!(error = %Chain(&error), "envoy is not remembered");
        }
        Ok((process, Admin::at(admin)))
    }

    /// Tells it to stop.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some((process, _)) = &self.running {
            process.signal(signal);
        }
    }

    /// Returns once it has ended.
    pub(crate) async fn ended(&self) {
        if let Some((process, _)) = &self.running {
            process.ended().await;
        }
    }

    fn wait(&mut self, now: Timestamp) {
        let backoff = match self.failures {
            0 => 0,
            failures => (BACKOFF.0 << (failures - 1).min(8)).min(LONGEST_BACKOFF.0),
        };
        self.retry_at = now + Span(backoff);
    }

    fn command(&self) -> Vec<String> {
        let Settings { binary, concurrency, .. } = &self.settings;
        let bootstrap = self.files.bootstrap.display().to_string();
        let words = ["-c", &bootstrap, "--concurrency", &concurrency.to_string(), "--log-level", "warn"];
        let program = binary.display().to_string();
        // Hot restart needs an id that is free on the whole machine, and Weir never restarts hotly.
        [program].into_iter().chain(words.map(str::to_owned)).chain(["--disable-hot-restart".to_owned()]).collect()
    }
}

/// Ends an Envoy, by force if it does not go.
async fn end(process: &Process) {
    process.signal(Signal::TERM);
    if tokio::time::timeout(GRACE, process.ended()).await.is_err() {
        process.signal(Signal::KILL);
        process.ended().await;
    }
}
