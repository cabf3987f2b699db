//! The loop: everything on this machine is looked at, decided and done by one task, one turn at a time.
//!
//! A turn is begun by the clock or by news (a process ended, a probe changed its mind, an answer came). What protects requests
//! comes first in it: endpoints of dead processes go, then the engine decides, then one configuration is pushed for all
//! Canaries. Only then does the turn wait for anything.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use weir_engine::{Observation, Span, Timestamp, VerbRequest};

use super::clock::Clock;
use super::directory::{Catalog, Directory, LOOK};
use super::envoy::config::Files;
use super::envoy::server::{Change, Server};
use super::gateway::Gateway;
use super::process::bound_log;
use super::release::{CanaryRuntime, Executor};
use super::replica::{Record, Surroundings};
use super::secrets::FolderSecrets;
use super::store::Store;
use super::{port, routing};
use crate::alerts::Alerts;
use crate::outbound::Outbound;
use crate::reconcile::pass;
use crate::status_store::{Call, Name, StatusStore};
use crate::telemetry::Chain;
use crate::view::{CanaryView, Particulars};

/// Two scrapes are at least so far apart.
const SCRAPE_AGAIN: Span = Span(50);
/// Time between two looks at what has no news of its own: routes that Envoy is about to know, requests that are about to end.
const IN_MOTION: Span = Span(25);
/// Time between two looks at the sizes of logs.
const LOGS: Span = Span::seconds(10);
/// After an error of the platform the same is tried again.
const RETRY: Span = Span(500);

/// Where everything of this machine's Weir is.
#[derive(Clone, Debug)]
pub(crate) struct Folders {
    /// The state folder.
    pub(crate) state: PathBuf,
    /// What is remembered of each Canary.
    pub(crate) canaries: PathBuf,
    /// What the processes print.
    pub(crate) logs: PathBuf,
}

/// A process that may outlive Weir, and whose it is.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Owned {
    pub(crate) canary: String,
    pub(crate) arm: String,
    #[serde(flatten)]
    pub(crate) record: Record,
}

/// Everything on this supervisor.
pub(crate) struct Supervisor {
    pub(super) folders: Folders,
    pub(super) files: Files,
    pub(super) directory: Directory,
    pub(super) catalog: Catalog,
    pub(super) releases: BTreeMap<String, CanaryRuntime>,
    /// Canaries that can't be used, with the reason.
    pub(super) stalled: BTreeMap<String, String>,
    /// Canaries of which nothing can be read, with the reason. What of them runs is left as it is.
    pub(super) frozen: BTreeMap<String, String>,
    /// Objects whose newest version can't be used, so that an older one stays in force.
    pub(super) complaints: Vec<String>,
    pub(super) gateway: Gateway,
    pub(super) server: Server,
    pub(super) processes: Store<Vec<Owned>>,
    pub(super) statuses: Arc<StatusStore>,
    pub(super) calls: mpsc::Receiver<Call>,
    pub(super) clock: Clock,
    pub(super) wake: Arc<Notify>,
    pub(super) outbound: Arc<Outbound>,
    pub(super) marker: (String, String),
    /// What this part of the machine said when it last failed, so that it is logged once.
    pub(super) troubles: BTreeMap<&'static str, String>,
    pub(super) scraped: Timestamp,
    pub(super) logs_checked: Timestamp,
    pub(super) shown_stalled: BTreeSet<String>,
    /// What sends alerts.
    pub(super) alerts: Arc<Alerts>,
    pub(super) secrets: FolderSecrets,
    /// Who is told every event of the Canaries that have no `event` webhook of their own.
    pub(super) event_webhook: Option<String>,
}

impl Supervisor {
    /// Goes on until `stop` says so.
    pub(crate) async fn run(&mut self, stop: &Notify) {
        loop {
            let next = self.turn().await;
            let wait = next.since(self.clock.now());
            tokio::select! {
                () = stop.notified() => return,
                () = self.wake.notified() => {}
                call = self.calls.recv() => self.hear(call),
                () = tokio::time::sleep(Duration::from_millis(wait.0)) => {}
            }
        }
    }

    /// Makes one turn; returns when the next is due.
    async fn turn(&mut self) -> Timestamp {
        let now = self.clock.now();
        self.read_directory(now);
        self.supervise(now);
        self.write_endpoints();
        self.scrape_if_due(now).await;
        self.decide(now).await;
        self.push(now);
        self.start_envoy(now);
        self.write_clusters();
        self.follow_routes(now).await;
        self.remove_finished(now);
        self.show(now);
        self.due(self.clock.now())
    }

    /// Notices what died, and goes on towards what is wanted.
    fn supervise(&mut self, now: Timestamp) {
        if self.server.advance(now) == Change::Died {
            self.gateway.lose();
            for release in self.releases.values_mut() {
                release.clustered = false;
                release.arms().into_iter().for_each(|arm| arm.observe_routes(None, now));
            }
        }
        let mut taken: BTreeSet<u16> = BTreeSet::new();
        for release in self.releases.values_mut() {
            taken.extend(release.arms().into_iter().flat_map(|arm| arm.ports().collect::<Vec<_>>()));
        }
        let around = Surroundings { marker: &self.marker, wake: &self.wake, now };
        let (mut changed, mut trouble) = (false, None);
        for arm in self.releases.values_mut().flat_map(CanaryRuntime::arms) {
            changed |= arm.advance(&around);
            let port = || {
                let port = port::free(|port| taken.contains(&port))?;
                taken.insert(port);
                Ok(port)
            };
            match arm.start_due(&around, port) {
                Ok(started) => changed |= started,
                Err(error) => trouble = Some(format!("no free port: {error}")),
            }
        }
        self.report("ports", trouble);
        if changed || self.troubles.contains_key("processes") {
            self.remember_processes();
        }
    }

    /// Writes down which processes are ours, so that a later Weir finds them.
    pub(super) fn remember_processes(&mut self) {
        let mut owned = Vec::new();
        for (canary, release) in &mut self.releases {
            for arm in release.arms() {
                let name = arm.name;
                let own = |record: &Record| Owned { canary: canary.clone(), arm: name.into(), record: record.clone() };
                owned.extend(arm.records().map(own));
            }
        }
        let saved = self.processes.save(&owned);
        self.report("processes", saved.err().map(|error| Chain(&error).to_string()));
    }

    fn write_endpoints(&mut self) {
        let written = routing::write_endpoints(&self.files, &mut self.releases);
        self.report("endpoints", written.err().map(trouble_of));
    }

    async fn scrape_if_due(&mut self, now: Timestamp) {
        let decision_due = self.releases.values().any(|release| release.recheck_at <= now);
        let asked_for = decision_due || !self.gateway.is_acknowledged();
        if !asked_for || now.since(self.scraped) < SCRAPE_AGAIN {
            return;
        }
        let Some(admin) = self.server.admin().cloned() else { return };
        self.scraped = now;
        self.gateway.scrape(&admin, self.server.log(), now).await;
        if self.gateway.reported_at() == Some(now) {
            for release in self.releases.values() {
                if let Some(scrape) = self.gateway.scrape_of(&release.id) {
                    self.statuses.count(&release.name, &scrape);
                }
            }
        }
    }

    /// Lets the engine decide wherever something is due or new.
    async fn decide(&mut self, now: Timestamp) {
        let serving = self.server.admin().is_some();
        let mut trouble = None;
        for release in self.releases.values_mut() {
            if release.frozen.is_some() || release.released {
                continue;
            }
            let seen = release.observation(&self.gateway, serving);
            if release.recheck_at > now && !is_changed(&release.seen, &seen) {
                continue;
            }
            let plan = release.plan.clone();
            let mut state = release.memory.state.clone();
            release.checks.update(&release.memory.canary, &state, plan.interval);
            let (gateway, statuses, catalog) = (&mut self.gateway, &self.statuses, &self.catalog);
            let mut executor = Executor { release, gateway, statuses, catalog, serving, now };
            match pass(&mut executor, &plan, &mut state, now).await {
                Ok(passed) => {
                    release.recheck_at = now + passed.after;
                    let Name { namespace, name } = &release.name;
                    let view = CanaryView::of(namespace, name, &plan, &state, &release.seen, &passed.reason);
                    let particulars = Particulars::of(&plan, &state, &release.seen, &release.checks.replies());
                    self.statuses.set(view, &plan.latency_ms);
                    self.statuses.set_particulars(&release.name, particulars, now);
                }
                Err(error) => {
                    release.recheck_at = now + RETRY;
                    trouble = Some(format!("{}: {}", release.full_name(), Chain(&error)));
                }
            }
            release.checks.forget(&release.memory.state);
        }
        self.report("state", trouble);
    }

    fn push(&mut self, now: Timestamp) {
        let pushed = self.gateway.push(now);
        self.report("configuration", pushed.err().map(trouble_of));
        let heard = self.server.admin().is_some().then(|| self.gateway.trouble(now)).flatten();
        self.report("filter", heard);
    }

    /// Starts Envoy if none runs, with everything that it reads brought up to date first.
    fn start_envoy(&mut self, now: Timestamp) {
        if self.server.is_due(now) {
            self.releases.values_mut().for_each(|release| release.clustered = true);
            let written = routing::write_clusters(&self.files, &self.releases)
                .and_then(|_| routing::write_routes(&self.files, &self.releases, |id| self.gateway.is_switched_on(id)))
                .and_then(|_| self.gateway.startup(now));
            self.report("configuration", written.err().map(trouble_of));
            self.server.start(now);
        }
        let problem = self.server.problem().map(str::to_owned);
        self.report("envoy", problem);
    }

    fn write_clusters(&mut self) {
        let written = routing::write_clusters(&self.files, &self.releases);
        self.report("clusters", written.err().map(trouble_of));
    }

    /// Asks Envoy which endpoints it knows, where that matters, and writes routes to clusters that it knows.
    async fn follow_routes(&mut self, now: Timestamp) {
        let Some(admin) = self.server.admin().cloned() else { return };
        let moving = |release: &mut CanaryRuntime| {
            !release.clustered || release.arms().into_iter().any(|arm| arm.is_in_motion())
        };
        if self.releases.values_mut().any(moving)
            && let Ok(clusters) = admin.clusters().await
        {
            routing::observe(&clusters, &mut self.releases, now);
        }
        // With an Envoy that was not asked yet nothing is known, and what stands in the file is better.
        if self.releases.values().all(|release| release.clustered || !release.routed) {
            let written = routing::write_routes(&self.files, &self.releases, |id| self.gateway.is_switched_on(id));
            self.report("routes", written.err().map(trouble_of));
        }
    }

    /// Clears away what is over, and cuts logs that grew too long.
    fn remove_finished(&mut self, now: Timestamp) {
        let over =
            |release: &CanaryRuntime| release.released && release.primary.is_empty() && release.canary.is_empty();
        let names: Vec<String> =
            self.releases.iter().filter(|(_, release)| over(release)).map(|(name, _)| name.clone()).collect();
        for name in names {
            let Some(mut release) = self.releases.remove(&name) else { continue };
            let erased = release.erase();
            self.report("state", erased.err().map(|error| Chain(&error).to_string()));
            for arm in ["primary", "canary"] {
                let _ = std::fs::remove_file(self.files.endpoints(&release.id, arm));
            }
            self.statuses.forget(&release.name);
            tracing::info!(canary = name, "canary gone");
            self.remember_processes();
            // Somebody else may have waited for its hosts.
            self.accept(now);
        }
        if now.since(self.logs_checked) >= LOGS {
            self.logs_checked = now;
            let mut logs = vec![self.server.log().to_owned()];
            logs.extend(
                self.releases.values_mut().flat_map(CanaryRuntime::arms).flat_map(|arm| arm.logs().collect::<Vec<_>>()),
            );
            let cut: io::Result<()> = logs.iter().try_for_each(|log| bound_log(log));
            self.report("logs", cut.err().map(trouble_of));
        }
    }

    fn show(&mut self, now: Timestamp) {
        let problems = [&self.catalog.problems, &self.complaints, &self.catalog.warnings];
        let problems = problems.into_iter().flatten().cloned();
        let undelivered = self.releases.iter().flat_map(|(name, release)| {
            let problems = release.undelivered(&self.catalog).into_iter();
            problems.map(move |problem| format!("{name}: {problem}"))
        });
        let problems = problems.chain(undelivered.collect::<Vec<_>>());
        let own = self.troubles.iter().map(|(part, trouble)| format!("{part}: {trouble}"));
        self.statuses.set_problems(problems.chain(own).collect());
        for part in ["envoy", "filter", "state"] {
            self.statuses.set_health(part, self.troubles.get(part).cloned());
        }
        let serving = self.gateway.reported_at().is_some();
        if !serving && !self.troubles.contains_key("envoy") && !self.troubles.contains_key("filter") {
            self.statuses.set_health("filter", Some("not loaded yet".into()));
        }
        self.show_stalled(now);
        self.statuses.set_acting();
    }

    /// Returns when the next turn is due without news.
    fn due(&mut self, now: Timestamp) -> Timestamp {
        let mut due = now + LOOK;
        if let Some(restart) = self.server.due() {
            due = due.min(restart);
        }
        if !self.gateway.is_acknowledged() && self.server.admin().is_some() {
            due = due.min(now + SCRAPE_AGAIN);
        }
        for release in self.releases.values_mut() {
            if release.frozen.is_none() && !release.released {
                due = due.min(release.recheck_at);
            }
            for arm in release.arms() {
                if arm.is_in_motion() {
                    due = due.min(now + IN_MOTION);
                }
                if let Some(at) = arm.due(now) {
                    due = due.min(at);
                }
            }
        }
        due.max(now + Span(1))
    }

    /// Takes in what a person asks.
    fn hear(&mut self, call: Option<Call>) {
        let Some(Call { name, verb, id }) = call else { return };
        let full = format!("{}/{}", name.namespace, name.name);
        if let Some(release) = self.releases.get_mut(&full) {
            release.verbs.push_back(VerbRequest { verb, id });
            release.recheck_at = Timestamp::default();
        }
    }

    /// Says once that a part of the machine fails, and once that it works again.
    pub(super) fn report(&mut self, part: &'static str, trouble: Option<String>) {
        match trouble {
            Some(trouble) if self.troubles.get(part) != Some(&trouble) => {
                tracing::error!(part, error = trouble, "a part of the machine fails");
                self.troubles.insert(part, trouble);
            }
            Some(_) => {}
            None => {
                if self.troubles.remove(part).is_some() {
                    tracing::info!(part, "a part of the machine works again");
                }
            }
        }
    }
}

/// Returns whether a decision could come out differently by what was seen besides the counters, which have their own time.
fn is_changed(before: &Observation, now: &Observation) -> bool {
    let without_scrapes = |seen: &Observation| Observation { scrapes: Vec::new(), ..seen.clone() };
    without_scrapes(before) != without_scrapes(now)
}

fn trouble_of(error: io::Error) -> String {
    error.to_string()
}
