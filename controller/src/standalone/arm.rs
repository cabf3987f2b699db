//! One arm of a Canary, primary or canary: so many replicas of one revision, and on the way there those of the one before.
//!
//! A new revision is started beside the old one. When all of it is ready, Envoy gets the new endpoints and the old ones drain;
//! until then the old revision serves alone. So an arm never serves two revisions by itself, and never none without need.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Notify;
use weir_engine::{Readiness, Revision, Timestamp, Workload};

use super::envoy::admin::Host;
use super::envoy::config::Endpoint;
use super::program::Program;
use super::replica::{Record, Replica, Surroundings};

/// What an arm is told to run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) program: Program,
    pub(crate) replicas: u32,
}

/// One arm.
#[derive(Debug)]
pub(crate) struct Arm {
    /// `primary` or `canary`.
    pub(crate) name: &'static str,
    /// Begin of its logs' paths.
    log_stem: PathBuf,
    wanted: Option<Wanted>,
    replicas: Vec<Replica>,
    /// Since when Envoy has known exactly these ports.
    routable_since: Option<Timestamp>,
    routable: Vec<u16>,
    /// What Envoy knows of this arm; nothing while no Envoy runs.
    hosts: Option<Vec<Host>>,
}

impl Arm {
    /// Returns an arm of which nothing runs. `canary` is the Canary's `namespace/name`.
    pub(crate) fn new(canary: &str, name: &'static str, logs: &Path) -> Self {
        let log_stem = logs.join(format!("{}-{name}", canary.replace('/', ".")));
        let (replicas, routable) = (Vec::new(), Vec::new());
        Self { name, log_stem, wanted: None, replicas, routable_since: None, routable, hosts: None }
    }

    /// Takes over a replica of an earlier Weir. `known` is what Envoy was told of it.
    pub(crate) fn adopt(&mut self, record: Record, known: Option<Endpoint>, wake: &Arc<Notify>) -> bool {
        let log = self.log(&record.revision, record.number);
        let replica = Replica::adopt(record, log, known, wake);
        let adopted = replica.is_some();
        self.replicas.extend(replica);
        adopted
    }

    /// Says what to run from now on.
    pub(crate) fn want(&mut self, wanted: Option<Wanted>) {
        self.wanted = wanted;
    }

    /// Goes on with what runs, whatever that is: the newest that is ready, since an older one beside it is on its way out.
    pub(crate) fn want_what_runs(&mut self) {
        let program = self.replicas.iter().rfind(|replica| replica.is_ready()).or(self.replicas.last());
        let Some(program) = program.map(|replica| replica.program().clone()) else { return };
        let count = self.replicas.iter().filter(|replica| replica.record.revision == program.revision).count();
        self.wanted = Some(Wanted { program, replicas: u32::try_from(count).unwrap_or(u32::MAX) });
    }

    /// Returns the revision that it is told to run.
    pub(crate) fn revision(&self) -> Option<&Revision> {
        self.wanted.as_ref().map(|wanted| &wanted.program.revision)
    }

    /// Returns whether any replica runs a revision: its program must be remembered.
    pub(crate) fn runs(&self, revision: &Revision) -> bool {
        self.replicas.iter().any(|replica| replica.record.revision == *revision)
    }

    /// Goes on towards what is wanted. Returns whether a process has come or gone.
    pub(crate) fn advance(&mut self, around: &Surroundings) -> bool {
        let mut changed = false;
        for replica in &mut self.replicas {
            changed |= replica.advance(around, self.hosts.as_deref());
        }
        match self.wanted.clone() {
            Some(wanted) => self.approach(&wanted, around.now),
            None => self.replicas.iter_mut().for_each(|replica| replica.retire(around.now)),
        }
        self.replicas.retain(|replica| !replica.is_gone());
        if self.serving() != self.routable {
            self.routable_since = None;
        }
        changed
    }

    /// Starts what is due, on ports that `port` finds. Returns whether anything was started.
    ///
    /// # Errors
    /// When there is no port.
    pub(crate) fn start_due(
        &mut self,
        around: &Surroundings,
        mut port: impl FnMut() -> std::io::Result<u16>,
    ) -> std::io::Result<bool> {
        let mut started = false;
        for replica in self.replicas.iter_mut().filter(|replica| replica.is_due(around.now)) {
            replica.start(port()?, around);
            started = true;
        }
        Ok(started)
    }

    /// Tells every process to stop now.
    pub(crate) fn stop_now(&mut self, now: Timestamp) {
        self.wanted = None;
        self.replicas.iter_mut().for_each(|replica| replica.stop_now(now));
        self.replicas.retain(|replica| !replica.is_gone());
    }

    /// Returns whether nothing of it is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.replicas.is_empty()
    }

    /// Returns what is remembered of its processes.
    pub(crate) fn records(&self) -> impl Iterator<Item = &Record> {
        self.replicas.iter().map(|replica| &replica.record).filter(|record| record.process.is_some())
    }

    /// Returns the ports in use.
    pub(crate) fn ports(&self) -> impl Iterator<Item = u16> {
        self.replicas.iter().map(|replica| replica.record.port)
    }

    /// Returns the endpoints that Envoy should know.
    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
        let hidden = |replica: &&Replica| self.held_back() && self.is_current(replica);
        let shown = self.replicas.iter().filter(|replica| !hidden(replica));
        let mut endpoints: Vec<Endpoint> = shown.filter_map(Replica::endpoint).collect();
        endpoints.sort_unstable();
        endpoints
    }

    /// Takes in what Envoy knows of this arm.
    pub(crate) fn observe_routes(&mut self, hosts: Option<Vec<Host>>, now: Timestamp) {
        let serving = self.serving();
        let mut known: Vec<u16> = hosts.iter().flatten().filter(|host| !host.draining).map(|host| host.port).collect();
        known.sort_unstable();
        let routable = self.wanted.is_some() && !serving.is_empty() && known == serving;
        self.routable_since = routable.then(|| self.routable_since.unwrap_or(now));
        self.routable = serving;
        self.hosts = hosts;
    }

    /// Returns whether it matters now what Envoy knows of this arm.
    pub(crate) fn is_in_motion(&self) -> bool {
        let unrouted = self.routable_since.is_none() && !self.serving().is_empty();
        unrouted || self.replicas.iter().any(Replica::is_retiring)
    }

    /// Returns what the engine looks at.
    pub(crate) fn workload(&self) -> Workload {
        Workload {
            revision: self.revision().cloned(),
            readiness: self.readiness(),
            available: !self.serving().is_empty(),
            routable_since: self.routable_since,
            // The target's own words say how many; Weir writes no number.
            replicas: None,
        }
    }

    /// Returns when something is due without being woken.
    pub(crate) fn due(&self, now: Timestamp) -> Option<Timestamp> {
        self.replicas.iter().filter_map(|replica| replica.due(now)).min()
    }

    /// Returns the logs of its replicas.
    pub(crate) fn logs(&self) -> impl Iterator<Item = PathBuf> {
        self.replicas.iter().map(|replica| self.log(&replica.record.revision, replica.record.number))
    }

    /// Returns the ports that new requests are sent to, in order.
    fn serving(&self) -> Vec<u16> {
        self.endpoints().iter().filter(|endpoint| !endpoint.draining).map(|endpoint| endpoint.port).collect()
    }

    fn readiness(&self) -> Readiness {
        let Some(wanted) = &self.wanted else { return Readiness::Absent };
        let current = || self.replicas.iter().filter(|replica| self.is_current(replica));
        if let Some(why) = current().find_map(Replica::broken) {
            return Readiness::Broken(why);
        }
        let ready = current().filter(|replica| replica.is_ready()).count();
        if ready >= wanted.replicas as usize {
            return Readiness::Ready;
        }
        let trouble = current().find_map(Replica::trouble).unwrap_or_else(|| "not started yet".into());
        Readiness::Unready(match wanted.replicas {
            1 => trouble,
            replicas => format!("{ready} of {replicas} replicas are ready: {trouble}"),
        })
    }

    fn approach(&mut self, wanted: &Wanted, now: Timestamp) {
        let count = wanted.replicas as usize;
        let mut current: Vec<usize> =
            (0..self.replicas.len()).filter(|i| self.is_current(&self.replicas[*i])).collect();
        if current.len() > count {
            // Those that serve stay, and among them the oldest.
            current.sort_by_key(|i| !self.replicas[*i].is_ready());
            for i in current.split_off(count) {
                self.replicas[i].retire(now);
            }
        }
        for _ in current.len()..count {
            let taken = |number| {
                self.replicas.iter().any(|r| r.record.number == number && r.record.revision == wanted.program.revision)
            };
            let number = (0..).find(|number| !taken(*number)).unwrap_or_default();
            let log = self.log(&wanted.program.revision, number);
            self.replicas.push(Replica::new(wanted.program.clone(), number, log));
        }
        if self.all_ready() {
            let old = |replica: &&mut Replica| replica.record.revision != wanted.program.revision;
            self.replicas.iter_mut().filter(old).for_each(|replica| replica.retire(now));
        }
    }

    /// Returns whether the wanted revision must not be sent requests yet: the old one serves, and all of the new is not ready.
    fn held_back(&self) -> bool {
        let old_serves = self.replicas.iter().any(|replica| !self.is_current(replica) && replica.is_ready());
        old_serves && !self.all_ready()
    }

    fn all_ready(&self) -> bool {
        let ready = self.replicas.iter().filter(|replica| self.is_current(replica) && replica.is_ready()).count();
        self.wanted.as_ref().is_some_and(|wanted| ready >= wanted.replicas as usize)
    }

    fn is_current(&self, replica: &Replica) -> bool {
        !replica.is_retiring() && self.revision() == Some(&replica.record.revision)
    }

    fn log(&self, revision: &Revision, number: u32) -> PathBuf {
        let short: String = revision.0.chars().take(8).collect();
        super::files::sibling(&self.log_stem, &format!("-{short}-{number}.log"))
    }
}
