//! Takes in what the folder holds: which Canaries there are, which of them can be used, and which stay as they were.
//!
//! An object that can't work never takes the place of one that does. What is wrong is said, and the last good version stays in
//! force; a Canary that never was good is `Stalled`.

use std::collections::{BTreeSet, VecDeque};

use weir_engine::{Event, Phase, Plan, Severity, State, Timestamp};

use super::program::Source;
use super::release::{CanaryRuntime, StoredCanary, memory_file};
use super::routing;
use super::store::{Found, Store};
use super::supervisor::Supervisor;
use crate::alerts::{CanaryAlerts, Deliveries, Situation};
use crate::api::{self, CanarySpec, Object, Problem, shared_hosts, shared_targets};
use crate::checks::CheckRunner;
use crate::status_store::Name;
use crate::telemetry::Chain;
use crate::view::CanaryView;

impl Supervisor {
    /// Looks at the folder.
    pub(super) fn read_directory(&mut self, now: Timestamp) {
        if let Some(mut catalog) = self.directory.look(now) {
            for problem in catalog.problems.iter().filter(|problem| !self.catalog.problems.contains(problem)) {
                tracing::error!(error = problem, "object not readable");
            }
            for warning in catalog.warnings.iter().filter(|warning| !self.catalog.warnings.contains(warning)) {
                tracing::warn!(warning, "object partly ignored");
            }
            if !catalog.complete {
                // Canaries and processes are remembered with their releases; nothing else remembers the others.
                for (name, template) in std::mem::take(&mut self.catalog.templates) {
                    catalog.templates.entry(name).or_insert(template);
                }
                for (name, provider) in std::mem::take(&mut self.catalog.alert_providers) {
                    catalog.alert_providers.entry(name).or_insert(provider);
                }
                for (name, secret) in std::mem::take(&mut self.catalog.secrets) {
                    catalog.secrets.entry(name).or_insert(secret);
                }
            }
            self.secrets.set(catalog.secrets.clone());
            self.catalog = catalog;
            self.accept(now);
        }
        let names: Vec<String> = self.releases.keys().cloned().collect();
        for name in names {
            let deleted = self.directory.is_deleted(&self.catalog, &name, now);
            if let Some(release) = self.releases.get_mut(&name).filter(|release| deleted && !release.memory.deleted) {
                tracing::info!(canary = name, "canary deleted");
                release.memory.deleted = true;
                release.recheck_at = Timestamp::default();
            }
        }
        // A Canary that was deleted and is gone may have come back in the meantime.
        let back = |name: &String| !self.releases.contains_key(name) && !self.stalled.contains_key(name);
        if self.catalog.canaries.keys().any(back) {
            self.accept(now);
        }
    }

    /// Uses what can be used of the catalog.
    pub(super) fn accept(&mut self, now: Timestamp) {
        let (complaints, stalled) = (std::mem::take(&mut self.complaints), std::mem::take(&mut self.stalled));
        let mut found: Vec<Object<CanarySpec>> = self.catalog.canaries.values().cloned().collect();
        // Those in force first, by age; a newcomer never pushes anybody out.
        found.sort_by_key(|canary| {
            let known = self.releases.get(&canary.to_string());
            known.map_or(Timestamp(u64::MAX), |release| release.memory.created)
        });
        for canary in found {
            let name = canary.to_string();
            let untouchable = |release: &CanaryRuntime| release.memory.deleted || release.frozen.is_some();
            if self.releases.get(&name).is_some_and(untouchable) {
                continue;
            }
            match self.check(&canary) {
                Ok((plan, target)) => self.admit(canary, plan, target, now),
                Err(why) if self.releases.contains_key(&name) => {
                    self.complaints.push(format!("{name}: {why}; the last good version stays in force"));
                }
                Err(why) => {
                    self.stalled.insert(name, why);
                }
            }
        }
        for canary in self.catalog.canaries.values() {
            let why = CheckRunner::validate(canary, |namespace, name| self.catalog.template(namespace, name));
            self.complaints.extend(why.map(|why| format!("{canary}: {why}")));
        }
        for complaint in self.complaints.iter().filter(|complaint| !complaints.contains(complaint)) {
            tracing::error!(error = complaint, "object not usable");
        }
        for (name, why) in self.stalled.iter().filter(|(name, why)| stalled.get(*name) != Some(why)) {
            tracing::error!(canary = name, error = why, "canary stalled");
            if let Some(canary) = self.catalog.canaries.get(name) {
                self.tell_stalled(canary, why, now);
            }
        }
        let unused = self.releases.values().flat_map(|release| routing::unused(&release.memory.canary));
        for warning in unused.chain(self.idle_processes()).collect::<Vec<_>>() {
            if !self.catalog.warnings.contains(&warning) {
                tracing::warn!(warning, "object partly ignored");
                self.catalog.warnings.push(warning);
            }
        }
    }

    /// Tells people elsewhere of a Canary that cannot be used.
    fn tell_stalled(&self, canary: &Object<CanarySpec>, why: &str, now: Timestamp) {
        let deliveries = Deliveries::new(self.wake.clone(), self.statuses.clone());
        let mut alerts = CanaryAlerts::new(self.alerts.clone(), deliveries);
        let api::Metadata { namespace, name, .. } = &canary.metadata;
        let event = Event::new(Severity::Error, "Stalled", why);
        let situation = Situation::unknown(namespace, name);
        let provider = |namespace: &str, name: &str| self.catalog.alert_provider(namespace, name);
        alerts.tell(&event, &situation, now, &canary.spec.analysis, provider);
    }

    /// Returns the processes that nothing releases, and that are therefore not started.
    fn idle_processes(&self) -> Vec<String> {
        let targets: BTreeSet<String> = self.catalog.canaries.values().map(target_name).collect();
        let idle = self.catalog.processes.keys().filter(|name| !targets.contains(*name));
        idle.map(|name| format!("Process {name} is not started: no Canary has it as its target; add one")).collect()
    }

    /// Returns the plan and the target of a Canary that can work.
    fn check(&self, canary: &Object<CanarySpec>) -> Result<(Plan, Source), String> {
        let text = |problems: Vec<Problem>| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        let plan = api::plan(canary).map_err(text)?;
        let target = &canary.spec.target_ref;
        if target.kind != "Process" {
            return Err(format!(
                "spec.targetRef.kind: {} needs a cluster; weir standalone runs a Process",
                target.kind
            ));
        }
        let name = canary.to_string();
        for (other, release) in &self.releases {
            if *other == name {
                continue;
            }
            let pair = [&release.memory.canary, canary];
            if let Some(clash) = shared_hosts(&pair).into_iter().chain(shared_targets(&pair)).next() {
                return Err(clash.problem.to_string());
            }
        }
        let full = target_name(canary);
        match self.catalog.processes.get(&full) {
            Some(source) => match source.clone().program() {
                Ok(_) => Ok((plan, source.clone())),
                Err(problems) => self.older_target(&name).map(|target| (plan, target)).ok_or(text(problems)),
            },
            None => self.older_target(&name).map(|target| (plan, target)).ok_or_else(|| {
                format!("spec.targetRef.name: there is no Process {full}; add one, or correct the name")
            }),
        }
    }

    /// Returns the target as it was last good, for a Canary that may be changed without it.
    fn older_target(&self, canary: &str) -> Option<Source> {
        self.releases.get(canary).map(|release| release.memory.target.clone())
    }

    fn admit(&mut self, canary: Object<CanarySpec>, plan: Plan, target: Source, now: Timestamp) {
        let name = canary.to_string();
        let full = target_name(&canary);
        match self.catalog.processes.get(&full) {
            None => self.complaints.push(format!("{name}: Process {full} is gone; its last version stays in force")),
            Some(source) => {
                if let Err(problems) = source.clone().program() {
                    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
                    let text = problems.join("; ");
                    self.complaints.push(format!("Process {full}: {text}; the last good version stays in force"));
                }
            }
        }
        if let Some(release) = self.releases.get_mut(&name) {
            release.update(canary, plan, target);
            return;
        }
        let programs = [(api::revision(&target.object.spec), target.clone())].into();
        let (state, events) = (State::default(), VecDeque::new());
        let threads = Vec::new();
        let memory = StoredCanary { created: now, canary, target, programs, deleted: false, state, events, threads };
        self.add(name, memory, plan);
    }

    /// Adds a Canary that was not known, or of which nothing can be read.
    fn add(&mut self, name: String, memory: StoredCanary, plan: Plan) {
        let store = Store::at(memory_file(&self.folders.canaries, &name));
        let checks =
            CheckRunner::new(self.wake.clone(), self.outbound.clone()).with_event_webhook(self.event_webhook.clone());
        let deliveries = Deliveries::new(self.wake.clone(), self.statuses.clone());
        let alerts = CanaryAlerts::new(self.alerts.clone(), deliveries);
        let mut release = CanaryRuntime::new(memory, plan, store, &self.folders.logs, (checks, alerts));
        if let Some(why) = self.frozen.get(&name) {
            release.frozen = Some(why.clone());
            release.routed = true;
        }
        self.statuses.set_events(&release.name, release.memory.events.clone());
        self.releases.insert(name, release);
    }

    /// Takes up every Canary that an earlier Weir remembered. Called once, before anything else.
    pub(super) fn recall(&mut self) -> std::io::Result<()> {
        for entry in std::fs::read_dir(&self.folders.canaries)? {
            let path = entry?.path();
            let stem = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            // A backup without its file stands for it: a power cut between two renames.
            let Some(stem) = stem.strip_suffix(".json").or(stem.strip_suffix(".json.bak")) else { continue };
            let name = stem.replace('~', "/");
            if self.releases.contains_key(&name) || self.frozen.contains_key(&name) {
                continue;
            }
            let mut store: Store<StoredCanary> = Store::at(memory_file(&self.folders.canaries, &name));
            match store.load() {
                Ok(Found::Newest(memory)) => self.take_up(name, memory, None),
                Ok(Found::Older(memory, why)) => self.take_up(name, memory, Some(why)),
                Ok(Found::Nothing) => {}
                Err(error) => self.freeze(name, Chain(&error).to_string()),
            }
        }
        Ok(())
    }

    fn take_up(&mut self, name: String, mut memory: StoredCanary, older: Option<String>) {
        let Ok(plan) = api::plan(&memory.canary) else {
            self.freeze(name, "it was written by another version of Weir, and can't work with this one".into());
            return;
        };
        if let Some(why) = older {
            tracing::warn!(canary = name, why, "state taken from its backup");
            // Gateways may know newer epochs than the backup does, and a number must never be used twice. Epochs begin at the
            // clock's seconds and take more than one each: so the clock's are newer than any.
            let id = api::canary_id(&memory.canary.metadata.namespace, &memory.canary.metadata.name);
            let known = self.gateway.desired(&id).map_or(0, |known| known.epoch);
            let traffic = &mut memory.state.traffic;
            traffic.epoch = traffic.epoch.max(known).max(self.clock.now().0 / 1000) + 1;
        }
        self.add(name, memory, plan);
    }

    /// Leaves a Canary of which nothing can be read as it runs: starting it anew would put whatever the file says now into
    /// production, unanalysed.
    fn freeze(&mut self, name: String, why: String) {
        tracing::error!(canary = name, error = why, "canary frozen");
        self.frozen.insert(name, format!("{why}; what runs goes on as it is"));
    }

    /// Shows the Canaries that can't be used.
    pub(super) fn show_stalled(&mut self, now: Timestamp) {
        for (full, why) in self.stalled.iter().chain(&self.frozen) {
            let (namespace, name) = full.split_once('/').unwrap_or(("default", full));
            let known = Name { namespace: namespace.into(), name: name.into() };
            if self.statuses.detail(&known).is_some_and(|shown| shown.view.stalled && shown.view.message == *why) {
                continue;
            }
            let view = CanaryView {
                namespace: namespace.into(),
                name: name.into(),
                phase: Phase::Initializing,
                since: now,
                ..CanaryView::default()
            };
            let view = view.stalled_by("Stalled", why);
            self.statuses.set(view, &[]);
        }
        let gone: Vec<String> =
            self.shown_stalled.iter().filter(|name| !self.stalled.contains_key(*name)).cloned().collect();
        for full in gone {
            if !self.releases.contains_key(&full) {
                let (namespace, name) = full.split_once('/').unwrap_or(("default", &full));
                self.statuses.forget(&Name { namespace: namespace.into(), name: name.into() });
            }
        }
        self.shown_stalled = self.stalled.keys().cloned().collect();
    }
}

/// Returns the target's `namespace/name`.
fn target_name(canary: &Object<CanarySpec>) -> String {
    format!("{}/{}", canary.metadata.namespace, canary.spec.target_ref.name)
}
