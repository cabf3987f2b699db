//! One Canary on this machine: what is remembered of it, its two arms, and the engine's decisions made true.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weir_engine::{
    Action, CheckRequest, Decision, Event, Observation, Plan, Replicas, Revision, Severity, Span, State, Timestamp,
    VerbRequest,
};

use super::arm::{Arm, Wanted};
use super::directory::Catalog;
use super::envoy::config::Route;
use super::gateway::{self, Gateway};
use super::program::{Program, Source};
use super::store::{Store, StoreError};
use crate::alerts::{CanaryAlerts, Situation, Thread};
use crate::api::{self, CanarySpec, Object, canary_id};
use crate::checks::CheckRunner;
use crate::gateway_config::RequestMatch;
use crate::publisher::Desired;
use crate::reconcile::Platform;
use crate::status_store::{self, Name, StatusStore};
use crate::view::{CanaryView, EventView};

/// Counters are written down at least this often in a run. Nothing is lost in between, since Envoy goes on counting; only an
/// Envoy that dies together with Weir takes them along.
const SAVED_IN_RUN: Span = Span::seconds(5);
/// The same between runs.
const SAVED_AT_REST: Span = Span::seconds(60);

/// What is remembered of a Canary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoredCanary {
    /// When it was first seen: of two that want the same, the older has it.
    pub(crate) created: Timestamp,
    /// Its newest version that can work.
    pub(crate) canary: Object<CanarySpec>,
    /// The target's newest version that can work.
    pub(crate) target: Source,
    /// What each revision that may still be needed runs.
    pub(crate) programs: BTreeMap<Revision, Source>,
    /// Whether its object was deleted.
    pub(crate) deleted: bool,
    /// What the engine remembers.
    pub(crate) state: State,
    /// What happened, for people: the newest that the statuses keeps. An earlier version of Weir did not write them down.
    #[serde(default)]
    pub(crate) events: VecDeque<EventView>,
    /// Messages in chats that later ones edit.
    #[serde(default)]
    pub(crate) threads: Vec<Thread>,
}

/// One Canary on this supervisor.
#[derive(Debug)]
pub(crate) struct CanaryRuntime {
    pub(crate) name: Name,
    pub(crate) id: String,
    pub(crate) memory: StoredCanary,
    pub(crate) plan: Plan,
    pub(crate) primary: Arm,
    pub(crate) canary: Arm,
    pub(crate) checks: CheckRunner,
    pub(crate) verbs: VecDeque<VerbRequest>,
    /// Why the engine may not touch it; what runs goes on.
    pub(crate) frozen: Option<String>,
    /// Whether its routes exist.
    pub(crate) routed: bool,
    /// Whether Envoy was seen to know its clusters.
    pub(crate) clustered: bool,
    /// Whether nothing of it may be left.
    pub(crate) released: bool,
    /// When to look again.
    pub(crate) recheck_at: Timestamp,
    /// What the last decision saw, without the counters.
    pub(crate) seen: Observation,
    /// What was told to people elsewhere.
    alerts: CanaryAlerts,
    /// How it stood after the last pass.
    situation: Situation,
    store: Store<StoredCanary>,
    saved: Option<(State, Timestamp)>,
}

impl CanaryRuntime {
    /// Returns a Canary as it is remembered. `plan` is that of `memory.canary`.
    pub(crate) fn new(
        memory: StoredCanary,
        plan: Plan,
        store: Store<StoredCanary>,
        logs: &Path,
        (checks, alerts): (CheckRunner, CanaryAlerts),
    ) -> Self {
        alerts.deliveries().restore(&memory.threads);
        let metadata = &memory.canary.metadata;
        let name = Name { namespace: metadata.namespace.clone(), name: metadata.name.clone() };
        let full = memory.canary.to_string();
        let routed = memory.state.promoted.is_some();
        Self {
            id: canary_id(&name.namespace, &name.name),
            name,
            plan,
            primary: Arm::new(&full, "primary", logs),
            canary: Arm::new(&full, "canary", logs),
            checks,
            verbs: VecDeque::new(),
            frozen: None,
            routed,
            clustered: false,
            released: false,
            recheck_at: Timestamp::default(),
            seen: Observation::default(),
            alerts,
            situation: Situation::unknown(&memory.canary.metadata.namespace, &memory.canary.metadata.name),
            store,
            saved: None,
            memory,
        }
    }

    /// Returns its `namespace/name`.
    pub(crate) fn full_name(&self) -> String {
        self.memory.canary.to_string()
    }

    /// Takes in newer versions of its objects, both of which can work.
    pub(crate) fn update(&mut self, canary: Object<CanarySpec>, plan: Plan, target: Source) {
        if self.memory.canary != canary || self.memory.target != target {
            self.recheck_at = Timestamp::default();
            self.saved = None;
        }
        self.memory.canary = canary;
        self.memory.target = target;
        self.plan = plan;
    }

    /// Returns its two arms.
    pub(crate) fn arms(&mut self) -> [&mut Arm; 2] {
        [&mut self.primary, &mut self.canary]
    }

    /// Returns how its requests are routed.
    pub(crate) fn route(&self) -> Route {
        super::routing::route(&self.memory.canary)
    }

    /// Returns what one decision looks at.
    pub(crate) fn observation(&self, gateway: &Gateway, serving: bool) -> Observation {
        let envoy = || weir_engine::Gateway {
            name: gateway::NAME.into(),
            caller: false,
            silent: false,
            acknowledged: gateway.acknowledged(&self.id),
            filtering: gateway.is_filtering(&self.id),
            unrouted: false,
            level: gateway.level(),
        };
        Observation {
            target: api::revision(&self.memory.target.object.spec),
            primary: self.primary.workload(),
            canary: self.canary.workload(),
            gateways: serving.then(envoy).into_iter().collect(),
            scrapes: gateway.scrape_of(&self.id).into_iter().collect(),
            check_results: self.checks.results(),
            verb: self.verbs.front().cloned(),
            deleted: self.memory.deleted,
            target_ends_with_canary: true,
            ..Observation::default()
        }
    }

    /// Returns why its alerts are not delivered.
    pub(crate) fn undelivered(&self, catalog: &Catalog) -> Vec<String> {
        let analysis = &self.memory.canary.spec.analysis;
        self.alerts.problems(&self.name.namespace, analysis, |of, name| catalog.alert_provider(of, name))
    }

    /// Writes down what is remembered, now.
    pub(crate) fn save(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let state = self.memory.state.clone();
        self.persist(&state, &[], now)
    }

    /// Forgets it for good, with its logs.
    pub(crate) fn erase(&mut self) -> Result<(), StoreError> {
        self.store.remove()
    }

    fn persist(&mut self, state: &State, events: &[Event], now: Timestamp) -> Result<(), StoreError> {
        let durable = state.durable();
        let threads = self.alerts.deliveries().threads();
        let patience = if state.run.is_some() { SAVED_IN_RUN } else { SAVED_AT_REST };
        if events.is_empty()
            && threads == self.memory.threads
            && self.saved.as_ref().is_some_and(|(saved, at)| *saved == durable && now.since(*at) < patience)
        {
            return Ok(());
        }
        let mut memory = StoredCanary { state: state.clone(), threads, ..self.memory.clone() };
        status_store::append(&mut memory.events, now, events);
        self.store.save(&memory)?;
        self.memory.events = memory.events;
        self.memory.threads = memory.threads;
        self.saved = Some((durable, now));
        Ok(())
    }

    /// Writes down what the engine keeps beside its state, where that has changed.
    fn keep_programs(&mut self, programs: BTreeMap<Revision, Source>) -> Result<(), CarryOutError> {
        if self.memory.programs == programs {
            return Ok(());
        }
        let memory = StoredCanary { programs, ..self.memory.clone() };
        self.store.save(&memory).map_err(CarryOutError::Remember)?;
        self.memory.programs = memory.programs;
        Ok(())
    }

    /// Keeps the revision in production running before the engine's first word: it may have none, while it is suspended.
    pub(crate) fn keep_primary(&mut self) {
        let installed = self.memory.state.installed.clone().filter(|_| self.frozen.is_none() && !self.memory.deleted);
        if let Some(Ok(wanted)) = installed.map(|revision| self.wanted(&revision, Replicas::Declared)) {
            self.primary.want(Some(wanted));
        }
    }

    /// Returns what a revision runs, and how many times: unless told, as the target's newest version says.
    fn wanted(&self, revision: &Revision, replicas: Replicas) -> Result<Wanted, CarryOutError> {
        let unknown = || CarryOutError::Unknown { revision: revision.clone() };
        let source = self.memory.programs.get(revision).cloned().ok_or_else(unknown)?;
        let program: Program = source.program().map_err(|_| unknown())?;
        let replicas = match replicas {
            Replicas::Exactly(replicas) => replicas,
            _ => self.memory.target.clone().program().map_or(1, |target| target.process.replicas),
        };
        Ok(Wanted { program, replicas })
    }
}

/// What keeps a decision from coming true.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CarryOutError {
    /// What was decided can't be written down.
    #[error("remember what was decided")]
    Remember(#[source] StoreError),
    /// A revision of which nothing is known.
    #[error("revision {revision} is not remembered, so it can't be started; declare it again")]
    Unknown {
        /// The revision.
        revision: Revision,
    },
}

/// A Canary and its surroundings during one pass.
pub(crate) struct Executor<'a> {
    pub(crate) release: &'a mut CanaryRuntime,
    pub(crate) gateway: &'a mut Gateway,
    pub(crate) statuses: &'a Arc<StatusStore>,
    /// What the folder holds.
    pub(crate) catalog: &'a Catalog,
    /// Whether an Envoy runs.
    pub(crate) serving: bool,
    pub(crate) now: Timestamp,
}

impl Platform for Executor<'_> {
    type Error = CarryOutError;

    async fn observe(&mut self) -> Result<Observation, CarryOutError> {
        let seen = self.release.observation(self.gateway, self.serving);
        self.release.seen = seen.clone();
        Ok(seen)
    }

    async fn persist(&mut self, decision: &Decision) -> Result<(), CarryOutError> {
        let Decision { state, events, .. } = decision;
        self.release.persist(state, events, self.now).map_err(CarryOutError::Remember)?;
        self.release.memory.state.clone_from(state);
        let Name { namespace, name } = &self.release.name;
        let seen = &self.release.seen;
        let view = CanaryView::of(namespace, name, &self.release.plan, state, seen, &decision.reason);
        self.release.situation = Situation::of(view, state, Vec::new());
        if !events.is_empty() {
            self.statuses.set_events(&self.release.name, self.release.memory.events.clone());
        }
        if let Some(done) = &state.verb {
            self.release.verbs.retain(|request| request.id != *done);
        }
        Ok(())
    }

    async fn execute(&mut self, action: &Action) -> Result<(), CarryOutError> {
        let release = &mut *self.release;
        match action {
            Action::Traffic(traffic) => {
                let Name { namespace, name } = release.name.clone();
                let hosts = api::hosts(&release.memory.canary);
                let request_match = RequestMatch { namespace, name, hosts, ..RequestMatch::default() };
                self.gateway.set_desired(Desired::of(&request_match, &release.plan, traffic));
            }
            Action::KeepRevision(revision) => {
                let target = release.memory.target.clone();
                if api::revision(&target.object.spec) == *revision {
                    let mut programs = release.memory.programs.clone();
                    programs.insert(revision.clone(), target);
                    release.keep_programs(programs)?;
                }
            }
            Action::Prune { revisions, .. } => {
                let (primary, canary) = (&release.primary, &release.canary);
                let stays = |it: &Revision| revisions.contains(it) || primary.runs(it) || canary.runs(it);
                let programs = release.memory.programs.clone().into_iter().filter(|(it, _)| stays(it)).collect();
                release.keep_programs(programs)?;
            }
            Action::Primary { revision, replicas, .. } => {
                let wanted = release.wanted(revision, *replicas)?;
                release.primary.want(Some(wanted));
            }
            Action::Canary { replicas: Replicas::Keep, .. } => {}
            Action::Canary { replicas: Replicas::Exactly(0), .. } => release.canary.want(None),
            Action::Canary { revision, replicas, .. } => {
                let wanted = release.wanted(revision, *replicas)?;
                release.canary.want(Some(wanted));
            }
            Action::Route => release.routed = true,
            // A process reads no configs but its own, and only the gateway calls it.
            Action::CopyConfigs(_) | Action::Unroute | Action::Handover => {}
            Action::Release => {
                release.released = true;
                release.routed = false;
                release.primary.want(None);
                release.canary.want(None);
                self.gateway.remove(&release.id);
            }
        }
        Ok(())
    }

    fn emit(&mut self, event: &Event) {
        let canary = self.release.full_name();
        let Event { severity, reason, text, .. } = event;
        match severity {
            Severity::Info => tracing::info!(canary, reason, "{text}"),
            Severity::Warning => tracing::warn!(canary, reason, "{text}"),
            Severity::Error => tracing::error!(canary, reason, "{text}"),
        }
        let release = &mut *self.release;
        release.checks.tell(event, release.situation.phase(), release.situation.checksum(), self.now);
        let analysis = &release.memory.canary.spec.analysis;
        let provider = |of: &str, name: &str| self.catalog.alert_provider(of, name);
        release.alerts.tell(event, &release.situation, self.now, analysis, provider);
    }

    fn request_checks(&mut self, requests: &[CheckRequest]) {
        self.release.checks.request(requests, |namespace, name| self.catalog.template(namespace, name));
    }
}

/// Returns where a Canary is remembered.
pub(crate) fn memory_file(folder: &Path, canary: &str) -> PathBuf {
    folder.join(format!("{}.json", canary.replace('/', "~")))
}
