//! One copy of a program: started, probed, started again when it dies, and stopped without a dropped request.
//!
//! ```text
//!  start ─> unready ─> ready ─> draining ─> stopping ─> gone
//!    ^─── backoff ── died
//! ```

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use weir_engine::{Revision, Span, Timestamp};

use super::envoy::admin::Host;
use super::envoy::config::Endpoint;
use super::probe::{Health, Prober};
use super::process::{Identity, Launch, Process, last_words};
use super::program::{Program, Source};
use crate::telemetry::Chain;

/// So many deaths within [`CRASH_WINDOW`] are a crash loop.
const CRASHES: usize = 3;
/// Long enough to see a program that dies some time after each start, short enough to forget an accident of this morning.
const CRASH_WINDOW: Span = Span::seconds(120);
/// Time before the second restart; doubled by every further death in the window. The first restart is at once.
const BACKOFF: Span = Span::seconds(1);
/// Longest time before a restart.
const LONGEST_BACKOFF: Span = Span::seconds(30);
/// Requests under way may take this long before their process is told to stop.
const LONGEST_DRAIN: Span = Span::seconds(30);
/// After Envoy's main thread knows that a process drains, its workers know it within this time.
const WORKERS_KNOW: Span = Span(100);

/// What is remembered of a replica, to find it again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// What it runs.
    pub(crate) revision: Revision,
    /// Where it listens.
    pub(crate) port: u16,
    /// Number among the replicas of its revision, for its log.
    pub(crate) number: u32,
    /// Its process, while it has one.
    pub(crate) process: Option<Identity>,
    /// What it was started with, for people.
    pub(crate) command: Vec<String>,
    /// What it runs: a Weir that has lost everything else can still take it over.
    pub(crate) source: Source,
}

/// What a replica needs from its surroundings to go on.
pub(crate) struct Surroundings<'a> {
    /// Environment variable that marks a process as ours.
    pub(crate) marker: &'a (String, String),
    /// Notified when a process ends or a probe changes its mind.
    pub(crate) wake: &'a Arc<Notify>,
    /// The present time.
    pub(crate) now: Timestamp,
}

/// One copy of a program.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) record: Record,
    program: Program,
    log: PathBuf,
    life: Life,
    deaths: VecDeque<Timestamp>,
    /// How it died last, or why it could not be started, in words.
    complaint: Option<String>,
    lasting: bool,
    /// Whether requests may have been sent to it.
    served: bool,
}

#[derive(Debug)]
enum Life {
    /// Not running; to be started at this time.
    Waiting(Timestamp),
    Running {
        process: Process,
        prober: Prober,
    },
    /// No new requests.
    Draining {
        process: Process,
        since: Timestamp,
        unused_since: Option<Timestamp>,
    },
    /// Told to stop.
    Stopping {
        process: Process,
        kill_at: Timestamp,
    },
    Gone,
}

impl Replica {
    /// Returns a replica that is started at its first [`Replica::advance`].
    pub(crate) fn new(program: Program, number: u32, log: PathBuf) -> Self {
        let (revision, source) = (program.revision.clone(), program.source.clone());
        let record = Record { revision, port: 0, number, process: None, command: Vec::new(), source };
        Self::with(record, program, log, Life::Waiting(Timestamp::default()))
    }

    /// Takes over a replica of an earlier Weir, if its process still runs. `known` is what Envoy was told of it.
    pub(crate) fn adopt(record: Record, log: PathBuf, known: Option<Endpoint>, wake: &Arc<Notify>) -> Option<Self> {
        let program = record.source.clone().program().ok()?;
        let process = Process::adopt(record.process.clone()?, wake.clone()).ok()?;
        let ready = known.is_some_and(|endpoint| !endpoint.draining);
        let health = if ready { Health::Ready } else { Health::Unready("just taken over".into()) };
        let prober = Prober::start(program.process.probe.clone(), record.port, health, wake.clone());
        let mut replica = Self::with(record, program, log, Life::Running { process, prober });
        // One that drains may still have requests.
        replica.served = known.is_some();
        Some(replica)
    }

    fn with(record: Record, program: Program, log: PathBuf, life: Life) -> Self {
        Self { record, program, log, life, deaths: VecDeque::new(), complaint: None, lasting: false, served: false }
    }

    /// Returns what it runs.
    pub(crate) fn program(&self) -> &Program {
        &self.program
    }

    /// Returns whether it should be started now.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        matches!(self.life, Life::Waiting(at) if at <= now)
    }

    /// Starts the process on a port: another one at each start, as the last one may have been taken by somebody else.
    pub(crate) fn start(&mut self, port: u16, around: &Surroundings) {
        self.record.port = port;
        let mut environment: std::collections::BTreeMap<_, _> =
            self.program.process.env_for(self.record.port).into_iter().collect();
        environment.extend([around.marker.clone()]);
        let launch = Launch {
            command: self.program.process.command_for(self.record.port),
            environment,
            folder: self.program.working_folder(),
            log: self.log.clone(),
        };
        match Process::start(&launch, around.wake.clone()) {
            Ok(process) => {
                self.record.process = Some(process.identity().clone());
                self.record.command = launch.command;
                let unknown = Health::Unready("just started".into());
                let probe = self.program.process.probe.clone();
                let prober = Prober::start(probe, self.record.port, unknown, around.wake.clone());
                self.life = Life::Running { process, prober };
                self.lasting = false;
            }
            Err(error) => {
                self.lasting = error.is_lasting();
                let complaint = Chain(&error).to_string();
                tracing::warn!(log = %self.log.display(), error = complaint, "process does not start");
                self.complaint = Some(complaint);
                self.life = Life::Waiting(around.now + self.died(around.now));
            }
        }
    }

    /// Goes on: notices a death, a drained connection, a process that does not stop. `hosts` is what Envoy knows of its arm;
    /// nothing while no Envoy runs. Returns whether anything changed.
    pub(crate) fn advance(&mut self, around: &Surroundings, hosts: Option<&[Host]>) -> bool {
        let now = around.now;
        match std::mem::replace(&mut self.life, Life::Gone) {
            Life::Running { process, prober } => match process.exit() {
                Some(exit) => {
                    let words = last_words(&self.log).map(|words| format!(": {words}")).unwrap_or_default();
                    let complaint = format!("{exit}{words}");
                    tracing::warn!(log = %self.log.display(), error = complaint, "process ended");
                    self.complaint = Some(complaint);
                    self.record.process = None;
                    self.life = Life::Waiting(now + self.died(now));
                    true
                }
                None => {
                    self.served |= prober.health() == Health::Ready;
                    self.life = Life::Running { process, prober };
                    false
                }
            },
            Life::Draining { process, since, unused_since } => {
                let unused = match hosts {
                    None => true,
                    Some(hosts) => hosts
                        .iter()
                        .find(|host| host.port == self.record.port)
                        .is_none_or(|host| host.draining && host.active == 0),
                };
                let unused_since = unused.then(|| unused_since.unwrap_or(now));
                let rested = unused_since.is_some_and(|since| now.since(since) >= WORKERS_KNOW);
                if process.exit().is_some() {
                    return true;
                } else if rested || now.since(since) >= LONGEST_DRAIN {
                    self.stop(process, now);
                } else {
                    self.life = Life::Draining { process, since, unused_since };
                }
                false
            }
            Life::Stopping { process, .. } if process.exit().is_some() => true,
            Life::Stopping { process, kill_at } => {
                if now >= kill_at {
                    process.signal(Signal::KILL);
                }
                self.life = Life::Stopping { process, kill_at };
                false
            }
            waiting => {
                self.life = waiting;
                false
            }
        }
    }

    /// Begins to take it away: no new requests, then SIGTERM. Asking again changes nothing.
    pub(crate) fn retire(&mut self, now: Timestamp) {
        match std::mem::replace(&mut self.life, Life::Gone) {
            Life::Running { process, .. } if self.served => {
                self.life = Life::Draining { process, since: now, unused_since: None };
            }
            Life::Running { process, .. } => self.stop(process, now),
            Life::Waiting(_) => {}
            life => self.life = life,
        }
    }

    /// Tells it to stop now, whatever it is doing.
    pub(crate) fn stop_now(&mut self, now: Timestamp) {
        match std::mem::replace(&mut self.life, Life::Gone) {
            Life::Running { process, .. } | Life::Draining { process, .. } => self.stop(process, now),
            Life::Waiting(_) => {}
            life => self.life = life,
        }
    }

    fn stop(&mut self, process: Process, now: Timestamp) {
        process.signal(Signal::TERM);
        self.life = Life::Stopping { process, kill_at: now + self.program.process.grace };
    }

    /// Returns whether nothing of it is left.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.life, Life::Gone)
    }

    /// Returns whether it is on its way out.
    pub(crate) fn is_retiring(&self) -> bool {
        matches!(self.life, Life::Draining { .. } | Life::Stopping { .. } | Life::Gone)
    }

    /// Returns whether requests may be sent to it.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(&self.life, Life::Running { prober, process } if prober.health() == Health::Ready && process.exit().is_none())
    }

    /// Returns its endpoint, if Envoy should know it: one that served stays known, as draining, until it is told to stop.
    pub(crate) fn endpoint(&self) -> Option<Endpoint> {
        let draining = match &self.life {
            Life::Running { process, .. } if process.exit().is_none() => !self.is_ready(),
            Life::Draining { process, .. } if process.exit().is_none() => true,
            _ => return None,
        };
        (self.served || !draining).then_some(Endpoint { port: self.record.port, draining })
    }

    /// Returns why it will not come up, if that is clear.
    pub(crate) fn broken(&self) -> Option<String> {
        let complaint = self.complaint.as_deref().unwrap_or_default();
        let first = self.deaths.front()?;
        if self.lasting {
            return Some(complaint.to_owned());
        }
        let last = self.deaths.back()?;
        let looping = self.deaths.len() >= CRASHES && !self.is_ready();
        looping.then(|| {
            let time = last.since(*first);
            format!("crash loop: it ended {} times within {time}, last with {complaint}", self.deaths.len())
        })
    }

    /// Returns why it is not ready, in words.
    pub(crate) fn trouble(&self) -> Option<String> {
        match &self.life {
            Life::Running { prober, .. } => match prober.health() {
                Health::Ready => None,
                Health::Unready(why) => Some(match (&self.complaint, self.deaths.is_empty()) {
                    (Some(complaint), false) => format!("{why}; it ended before with {complaint}"),
                    _ => why,
                }),
            },
            Life::Waiting(_) => {
                Some(self.complaint.as_ref().map_or("not started yet".into(), |why| format!("it ended with {why}")))
            }
            Life::Draining { .. } | Life::Stopping { .. } | Life::Gone => Some("it is being stopped".into()),
        }
    }

    /// Returns when something is due without being woken.
    pub(crate) fn due(&self, now: Timestamp) -> Option<Timestamp> {
        match &self.life {
            Life::Waiting(at) => Some(*at),
            Life::Draining { .. } => Some(now + WORKERS_KNOW),
            Life::Stopping { kill_at, .. } => Some((*kill_at).max(now + Span(200))),
            Life::Running { .. } | Life::Gone => None,
        }
    }

    /// Notes a death; returns the time until the next start.
    fn died(&mut self, now: Timestamp) -> Span {
        self.deaths.push_back(now);
        self.deaths.retain(|death| now.since(*death) < CRASH_WINDOW);
        match self.deaths.len() {
            0 | 1 if self.lasting => BACKOFF,
            0 | 1 => Span(0),
            deaths => {
                let doubled = BACKOFF.0.saturating_mul(1 << (deaths - 2).min(16));
                Span(doubled.min(LONGEST_BACKOFF.0))
            }
        }
    }
}
