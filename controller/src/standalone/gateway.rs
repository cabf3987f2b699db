//! The one gateway of this machine: what it is told, whether it does it, and what it counted.
//!
//! What Envoy is told stands in files, so this program may die at any time: its next start reads there what the newest
//! generation was, and which split it meant for whom.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use serde_json::Value;
use weir_wire::{Canary, Config};

use super::envoy::admin::Admin;
use super::envoy::config::{self, Files};
use super::files;
use crate::gateway_config;
use crate::rollout::{Scrape, Span, Timestamp};
use crate::scrape::{Report, ScrapeError};

/// Name of the gateway in observations.
pub(crate) const NAME: &str = "envoy";
/// An Envoy that starts later than this after the last push sends nothing to a canary by itself.
const ARMED: Span = Span::seconds(60);
/// Time without acknowledgement after which a new generation is pushed: whatever hid the last one may be over.
const UNHEARD: Span = Span::seconds(2);
/// Longest time between two such pushes.
const LONGEST_UNHEARD: Span = Span::seconds(30);
/// A new Envoy compiles the module before it can be heard; on a busy machine that takes its time.
const COMPILES: Span = Span::seconds(10);
/// Generations remembered with what they meant: as many as the filter counts VMs for.
const REMEMBERED: usize = weir_wire::SLOTS as usize;

/// A generation, and the epoch that it meant for each canary.
#[derive(Clone, Debug, Default)]
struct Push {
    generation: u64,
    epochs: BTreeMap<String, u64>,
}

/// The gateway's configuration and its acknowledgements.
#[derive(Debug)]
pub(crate) struct Gateway {
    file: PathBuf,
    module: PathBuf,
    /// What every canary should have, by id.
    wanted: BTreeMap<String, Canary>,
    /// What was written last.
    written: Option<Config>,
    pushes: VecDeque<Push>,
    pushed_at: Timestamp,
    unheard: Span,
    report: Option<Reported>,
    /// Until when silence is no surprise.
    quiet_until: Timestamp,
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
        let written = std::fs::read(&files.filter).ok().and_then(|content| {
            let value: Value = serde_json::from_slice(&content).ok()?;
            let same_module = value.pointer("/resources/0/typed_config/config/vm_config/code/local/filename")?
                == &Value::from(module.display().to_string());
            let config = Config::parse(config::configuration_of(&value)?.as_bytes()).ok()?;
            Some((config, same_module))
        });
        let mut gateway = Self {
            file: files.filter.clone(),
            module,
            wanted: BTreeMap::new(),
            written: None,
            pushes: VecDeque::new(),
            pushed_at: Timestamp::default(),
            unheard: UNHEARD,
            report: None,
            quiet_until: Timestamp::default(),
            rejected: 0,
            rejection: None,
            problem: None,
        };
        if let Some((config, same_module)) = written {
            gateway.remember(&config);
            gateway.pushed_at = Timestamp(config.armed_until.saturating_mul(1000)) - ARMED;
            gateway.wanted = config.canaries.iter().map(|canary| (canary.id.clone(), canary.clone())).collect();
            // Another module is a reason to push what is otherwise unchanged.
            gateway.written = same_module.then_some(config);
        }
        gateway
    }

    /// Returns what a canary was told last, by an earlier Weir too.
    pub(crate) fn entry(&self, id: &str) -> Option<&Canary> {
        self.wanted.get(id)
    }

    /// Says what a canary should have from the next push on.
    pub(crate) fn want(&mut self, canary: Canary) {
        if self.wanted.get(&canary.id) != Some(&canary) {
            self.wanted.insert(canary.id.clone(), canary);
        }
    }

    /// Says that a canary is no more.
    pub(crate) fn drop_canary(&mut self, id: &str) {
        self.wanted.remove(id);
    }

    /// Forgets canaries that nobody has any more.
    pub(crate) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.wanted.retain(|id, _| keep(id));
    }

    /// Writes one configuration for all that changed, if anything did. `running` says whether Envoy can hear it.
    ///
    /// # Errors
    /// When the file can't be written: what Envoy has stays in force.
    pub(crate) fn push(&mut self, running: bool, now: Timestamp) -> std::io::Result<()> {
        let unchanged = self.written.as_ref().is_some_and(|written| {
            written.canaries.len() == self.wanted.len()
                && written.canaries.iter().all(|canary| self.wanted.get(&canary.id) == Some(canary))
        });
        if unchanged && !self.wants_renewal(now) && !(running && self.is_unheard(now)) {
            return Ok(());
        }
        if unchanged && running && self.is_unheard(now) {
            tracing::warn!(generation = self.newest(), reason = self.problem(), "configuration pushed again");
            self.unheard = Span((self.unheard.0 * 2).min(LONGEST_UNHEARD.0));
        } else if !unchanged {
            self.unheard = UNHEARD;
        }
        self.write(now)
    }

    /// Writes the configuration as a new generation, for an Envoy that is about to start: it trusts only a fresh one.
    pub(crate) fn renew(&mut self, now: Timestamp) -> std::io::Result<()> {
        self.lose();
        self.unheard = UNHEARD;
        self.quiet_until = now + COMPILES;
        self.write(now)
    }

    fn write(&mut self, now: Timestamp) -> std::io::Result<()> {
        let generation = gateway_config::next_generation(self.newest(), now);
        let canaries = self.wanted.values().cloned().collect();
        let config = gateway_config::config(generation, now + ARMED, canaries);
        let filter = config::filter(&self.module, &config)?.to_string();
        files::replace(&self.file, filter.as_bytes(), files::Durability::Readers)?;
        tracing::debug!(generation, "configuration pushed");
        self.remember(&config);
        self.written = Some(config);
        self.pushed_at = now;
        Ok(())
    }

    /// Asks Envoy what it counted and which generation its VMs run.
    pub(crate) async fn scrape(&mut self, admin: &Admin, log: &Path, now: Timestamp) {
        match admin.stats().await {
            Ok(text) => self.hear(&text, log, now),
            Err(error) => {
                self.report = None;
                self.problem = Some(error.to_string());
            }
        }
    }

    /// Takes in what Envoy said. `log` is its log, which alone says why it rejected something.
    fn hear(&mut self, text: &str, log: &Path, now: Timestamp) {
        match Report::parse(text) {
            Ok(report) => {
                self.problem = None;
                self.report = Some(Reported { report, begun: now });
            }
            Err(error) => {
                self.problem = Some(error.to_string());
                if error == ScrapeError::NoFilter {
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
        if self.is_acknowledged() {
            self.unheard = UNHEARD;
        }
    }

    /// Forgets what Envoy said: it is gone.
    pub(crate) fn lose(&mut self) {
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
        let generation = self.acknowledged_generation()?;
        self.pushes.iter().find(|push| push.generation == generation)?.epochs.get(id).copied()
    }

    /// Returns whether every VM runs the newest generation.
    pub(crate) fn is_acknowledged(&self) -> bool {
        self.acknowledged_generation() == Some(self.newest())
    }

    /// Returns what keeps Envoy from using the configuration, in words; nothing while that is no surprise.
    pub(crate) fn trouble(&self, now: Timestamp) -> Option<String> {
        self.rejection.clone().or_else(|| self.is_late(UNHEARD, now).then(|| self.problem().to_owned()))
    }

    fn problem(&self) -> &str {
        let problem = self.rejection.as_deref().or(self.problem.as_deref());
        problem.unwrap_or("not all of Envoy's workers use the newest configuration")
    }

    fn acknowledged_generation(&self) -> Option<u64> {
        self.report.as_ref()?.report.generation()
    }

    fn is_unheard(&self, now: Timestamp) -> bool {
        self.is_late(self.unheard, now)
    }

    fn is_late(&self, patience: Span, now: Timestamp) -> bool {
        let quiet = self.report.is_none() && now < self.quiet_until;
        !quiet && !self.is_acknowledged() && now.since(self.pushed_at) >= patience
    }

    /// A canary's requests depend on Envoy trusting what it has, should it start anew while Weir is away.
    fn wants_renewal(&self, now: Timestamp) -> bool {
        let sends = |canary: &Canary| canary.weight > weir_wire::Weight::ZERO || !canary.conditions.is_empty();
        now.since(self.pushed_at) >= Span(ARMED.0 / 2) && self.wanted.values().any(sends)
    }

    fn newest(&self) -> u64 {
        self.pushes.back().map_or(0, |push| push.generation)
    }

    fn remember(&mut self, config: &Config) {
        let epochs = config.canaries.iter().map(|canary| (canary.id.clone(), canary.epoch)).collect();
        self.pushes.push_back(Push { generation: config.generation, epochs });
        if self.pushes.len() > REMEMBERED {
            self.pushes.pop_front();
        }
    }
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
