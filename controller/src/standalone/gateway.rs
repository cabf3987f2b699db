//! The one gateway of this machine: what it is told, whether it does it, and what it counted.
//!
//! What Envoy is told stands in files, so this program may die at any time: its next start reads there what the newest
//! generation was, and which split it meant for whom.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use weir_engine::{FilterMode, Scrape, Span, Timestamp};
use weir_wire::names::Arm;
use weir_wire::{Canary, Config, plugin};

use super::envoy::admin::Admin;
use super::envoy::config::{self, Files};
use super::files;
use crate::gateway_config::RouteNames;
use crate::publisher::{ACK_TIMEOUT, Desired, Epochs, Next, Publisher, Push, PushReason};
use crate::scrape::{Report, ScrapeError, stat_prefix};

/// Name of the gateway in observations.
pub(crate) const NAME: &str = "envoy";
/// Nothing is gathered: a turn pushes once for all Canaries, and a file costs nobody else anything.
const DEBOUNCE: Span = Span(0);
/// Silence is no trouble for so long after Envoy's start: it compiles the module before it can answer.
const STARTUP: Span = Span::seconds(10);

/// The gateway's configuration and its acknowledgements.
#[derive(Debug)]
pub(crate) struct Gateway {
    file: PathBuf,
    module: PathBuf,
    publisher: Publisher,
    epochs: Epochs,
    report: Option<Reported>,
    /// When Envoy was last started.
    started_at: Timestamp,
    /// Configurations that Envoy had rejected at the last look, and why it rejected the newest one.
    rejected: u64,
    rejection: Option<String>,
    problem: Option<String>,
}

#[derive(Debug)]
struct Reported {
    report: Report,
    begun: Timestamp,
}

impl Gateway {
    /// Returns the gateway as the files tell of it.
    pub(crate) fn open(files: &Files, module: PathBuf) -> Self {
        let mut epochs = Epochs::default();
        let publisher = match pushed(&files.filter, &module) {
            None => Publisher::new(DEBOUNCE),
            Some((config, same_module)) => {
                epochs.record(&config);
                let switched = switched(&files.routes, &config);
                let mut publisher = Publisher::resume(DEBOUNCE, config, switched, |_| true);
                if !same_module {
                    publisher.mark_drifted();
                }
                publisher
            }
        };
        Self {
            file: files.filter.clone(),
            module,
            publisher,
            epochs,
            report: None,
            started_at: Timestamp::default(),
            rejected: 0,
            rejection: None,
            problem: None,
        }
    }

    /// Returns what a canary should have, as an earlier Weir left it too.
    pub(crate) fn desired(&self, id: &str) -> Option<&Canary> {
        self.publisher.desired(id)
    }

    /// Says what a canary should have from the next push on.
    pub(crate) fn set_desired(&mut self, desired: Desired) {
        let Desired { canary, filter, .. } = &desired;
        if *filter == FilterMode::Off
            && let Some(generation) = self.publisher.generation_without(&canary.id)
        {
            self.epochs.record_off(&canary.id, canary.epoch, generation);
        }
        self.publisher.set_desired(desired);
    }

    /// Returns whether a canary's routes should have the filter on.
    pub(crate) fn is_switched_on(&self, id: &str) -> bool {
        self.publisher.last_switched().contains_key(id)
    }

    /// Returns whether Envoy is seen to have the filter on for a canary's routes.
    pub(crate) fn is_filtering(&self, id: &str) -> bool {
        self.report.as_ref().is_some_and(|reported| reported.report.is_filtering(id))
    }

    /// Returns which additions to the contract Envoy's module knows.
    pub(crate) fn level(&self) -> u64 {
        self.report.as_ref().map_or(0, |reported| reported.report.level)
    }

    /// Says that a canary is no more.
    pub(crate) fn remove(&mut self, id: &str) {
        self.publisher.remove(id);
        self.epochs.forget(id);
    }

    /// Removes the canaries that are not to be kept.
    pub(crate) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.publisher.retain(keep);
    }

    /// Writes one configuration for all that changed, if anything must be written.
    ///
    /// # Errors
    /// When the file can't be written: what Envoy has stays in force.
    pub(crate) fn push(&mut self, now: Timestamp) -> std::io::Result<()> {
        match self.publisher.next(now) {
            Next::Push(push) => self.write(push, now),
            // The filter is part of the listener here, and stays.
            Next::RemoveFilter | Next::RemoveConfig | Next::Wait(_) => Ok(()),
        }
    }

    /// Writes the configuration as a new generation, for an Envoy that is about to start.
    pub(crate) fn startup(&mut self, now: Timestamp) -> std::io::Result<()> {
        self.lose();
        self.started_at = now;
        let push = self.publisher.startup(now);
        self.write(push, now)
    }

    fn write(&mut self, push: Push, now: Timestamp) -> std::io::Result<()> {
        let generation = push.config.generation;
        if push.reason == PushReason::NotAcknowledged {
            tracing::warn!(generation, reason = self.problem(), "configuration pushed again");
        }
        for (id, (reason, problem)) in self.publisher.left_out() {
            tracing::warn!(id, reason, problem, "canary left out of the gateway's configuration");
        }
        let filter = config::filter(&self.module, &push.config).map_err(std::io::Error::from);
        let written = filter
            .and_then(|filter| files::replace(&self.file, filter.to_string().as_bytes(), files::Durability::Readers));
        if let Err(error) = written {
            self.publisher.failed(now);
            return Err(error);
        }
        tracing::debug!(generation, reason = push.reason.as_str(), "configuration pushed");
        self.epochs.record(&push.config);
        self.publisher.pushed(push, now);
        Ok(())
    }

    /// Asks Envoy what it counted and which generation its VMs run.
    pub(crate) async fn scrape(&mut self, admin: &Admin, log: &Path, now: Timestamp) {
        match admin.stats().await {
            Ok(text) => self.ingest(&text, log, now),
            Err(error) => {
                self.report = None;
                self.problem = Some(error.to_string());
            }
        }
    }

    /// Takes in what Envoy said. `log` is its log, which alone says why it rejected something.
    fn ingest(&mut self, text: &str, log: &Path, now: Timestamp) {
        match Report::parse(text) {
            Ok(report) => {
                self.problem = None;
                self.publisher.acknowledged(NAME, now, report.generation());
                self.report = Some(Reported { report, begun: now });
            }
            Err(error) => {
                self.problem = Some(error.to_string());
                if error == ScrapeError::NoFilter {
                    self.publisher.acknowledged(NAME, now, None);
                    self.report = None;
                }
            }
        }
        let rejected = rejected(text);
        if rejected > self.rejected {
            self.rejection = Some(rejection(log));
        } else if self.is_acknowledged() {
            self.rejection = None;
        }
        self.rejected = rejected;
    }

    /// Forgets what Envoy said: it is gone.
    pub(crate) fn lose(&mut self) {
        self.publisher.retain_gateways(|_| false);
        self.report = None;
        self.rejected = 0;
        self.rejection = None;
    }

    /// Returns when Envoy last answered, and what it counted for one canary.
    pub(crate) fn scrape_of(&self, id: &str) -> Option<Scrape> {
        self.report.as_ref().map(|reported| reported.report.scrape(id, NAME, reported.begun))
    }

    /// Returns when the newest report was begun.
    pub(crate) fn reported_at(&self) -> Option<Timestamp> {
        self.report.as_ref().map(|reported| reported.begun)
    }

    /// Returns the newest epoch of a canary that every VM is known to use.
    pub(crate) fn acknowledged(&self, id: &str) -> Option<u64> {
        self.epochs.acknowledged(id, self.acknowledged_generation()?)
    }

    /// Returns whether every VM runs the newest generation.
    pub(crate) fn is_acknowledged(&self) -> bool {
        self.acknowledged_generation() == Some(self.publisher.generation())
    }

    /// Returns what keeps Envoy from using the configuration, in words; nothing while that is no surprise.
    pub(crate) fn trouble(&self, now: Timestamp) -> Option<String> {
        let starting = self.report.is_none() && now.since(self.started_at) < STARTUP;
        let late = now.since(self.publisher.pushed_at()) >= ACK_TIMEOUT;
        let late = !starting && !self.is_acknowledged() && late;
        self.rejection.clone().or_else(|| late.then(|| self.problem().to_owned()))
    }

    fn problem(&self) -> &str {
        let problem = self.rejection.as_deref().or(self.problem.as_deref());
        problem.unwrap_or("not all of Envoy's workers use the newest configuration")
    }

    fn acknowledged_generation(&self) -> Option<u64> {
        self.report.as_ref()?.report.generation()
    }
}

/// Returns what an earlier Weir pushed, and whether with the same module.
fn pushed(file: &Path, module: &Path) -> Option<(Config, bool)> {
    let value: Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    let typed = value.pointer("/resources/0/typed_config")?;
    let named = typed.pointer("/config/vm_config/code/local/filename")?;
    let config = Config::parse(plugin::configuration_of(typed)?.as_bytes()).ok()?;
    Some((config, named.as_str().is_some_and(|named| Path::new(named) == module)))
}

/// Returns the canaries whose routes an earlier Weir switched the filter on for.
fn switched(file: &Path, config: &Config) -> BTreeMap<String, RouteNames> {
    let routes = std::fs::read_to_string(file).unwrap_or_default();
    let switched = config.canaries.iter().filter(|canary| routes.contains(&stat_prefix(&canary.id, Arm::Primary)));
    switched.map(|canary| (canary.id.clone(), RouteNames::default())).collect()
}

/// Returns how many configurations of the filter Envoy has rejected since its start.
fn rejected(text: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with("envoy_") && line.contains("update_rejected"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_default()
}

/// Returns why Envoy rejected the filter: only its log says so.
fn rejection(log: &Path) -> String {
    let content = std::fs::read(log).unwrap_or_default();
    let tail = String::from_utf8_lossy(&content[content.len().saturating_sub(64 << 10)..]).into_owned();
    let why =
        tail.lines().rev().find_map(|line| line.split_once("config update rejected: ")).map(|(_, why)| why.trim());
    match why {
        Some(why) => format!("Envoy rejects the filter, so every request goes to the primary: {why}"),
        None => format!("Envoy rejects the filter, so every request goes to the primary; see {}", log.display()),
    }
}

#[cfg(test)]
mod tests;
