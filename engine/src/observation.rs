//! What was seen of the world, by whoever gathered it. A thing that could not be seen is absent, not guessed.

use std::collections::BTreeMap;

use super::counts::Scrape;
use super::state::Revision;
use super::time::Timestamp;
use super::words::words;

/// Everything that one decision looks at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// The revision that the target declares now.
    pub target: Revision,
    /// The workload in production.
    pub primary: Workload,
    /// The workload under test.
    pub canary: Workload,
    /// Every gateway process that serves, terminating ones included.
    pub gateways: Vec<Gateway>,
    /// Whether requests come from inside of the mesh alone: their gateways are the sidecars of the callers.
    pub only_callers: bool,
    /// The newest scrape of each gateway that answered.
    pub scrapes: Vec<Scrape>,
    /// Answers to what earlier decisions asked, by [`super::CheckRequest::key`].
    pub check_results: BTreeMap<String, CheckResult>,
    /// What a person wants.
    pub verb: Option<VerbRequest>,
    /// Whether the Canary is being deleted.
    pub deleted: bool,
    /// Whether the target is being deleted too, with its namespace for instance: it never serves again.
    pub target_is_deleted: bool,
    /// Whether the target runs only through Weir, so that nothing is left to serve once its Canary is gone.
    pub target_ends_with_canary: bool,
    /// What sizes the workloads beside Weir.
    pub autoscaler: Autoscaler,
    /// Whether an update of the primary may stop its last pod before a new one serves.
    pub update_stops_primary: bool,
    /// How much of the target somebody else than Weir asks for, where he does and no autoscaler sizes it: a part of what is released.
    pub declared_replicas: Option<u32>,
    /// Whose number says how much of the target there is.
    pub sized_by: Sizer,
    /// Whether the spec has no plan, and another one stands in for it: a canary that is analysed is sent nothing more.
    pub unplanned: bool,
    /// What the primary runs, where another controller made it and Weir has taken it over.
    pub inherited: Option<Inherited>,
}

/// A primary that another controller made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inherited {
    /// What it runs: in production already, so it is neither made nor analysed.
    pub revision: Revision,
    /// Whether that controller took back what the target declares now: it is not tried again by itself.
    pub failed: bool,
}

/// Who said last how much of a workload there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sizer {
    /// An autoscaler, or nobody.
    #[default]
    Cluster,
    /// Weir.
    Weir,
    /// A person, or a program of theirs.
    User,
}

/// What sizes the workloads beside Weir.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Autoscaler {
    /// The least that the target's autoscaler would give it, if it has one.
    pub minimum: Option<u32>,
    /// The most that it would give it.
    pub maximum: Option<u32>,
    /// Whether the primary's size is an autoscaler's.
    pub sizes_primary: bool,
}

/// One arm's workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// The revision that it was told to run, if it exists.
    pub revision: Option<Revision>,
    /// Whether all of it runs that revision and serves.
    pub readiness: Readiness,
    /// Whether any of it serves, whatever its revision.
    pub available: bool,
    /// Since when the gateway has had a route to an endpoint of it.
    pub routable_since: Option<Timestamp>,
    /// How much of it its object asks for; nothing where it has none, or none that Weir sizes.
    pub replicas: Option<u32>,
}

/// How far a workload is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Readiness {
    /// Nothing of it runs, as asked.
    #[default]
    Absent,
    /// Not yet, or no longer, with the reason in words.
    Unready(String),
    /// It will not come up without a change: crash loop, image that does not exist; with the reason in words.
    Broken(String),
    /// All of it serves.
    Ready,
}

/// One gateway process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gateway {
    /// Pod name, or `envoy`.
    pub name: String,
    /// Whether it is the sidecar of a caller: what a pod's labels make one may be any program, which may never call.
    pub caller: bool,
    /// Whether it has never acknowledged anything, of any Canary: it may be about to start, unreachable, or no gateway at all.
    /// It gave no canary a request that Weir asked for, as far as anybody knows; so no advance waits for it.
    pub silent: bool,
    /// The newest epoch of this canary that every VM of the process is known to use.
    pub acknowledged: Option<u64>,
    /// Whether requests on this canary's routes are known to pass the filter there.
    pub filtering: bool,
    /// Whether it is known to have no route to the service: a caller to whom somebody else's object hides it. What it sends goes to the
    /// primary.
    pub unrouted: bool,
    /// Which additions to the contract its module knows ([`weir_wire::names::LEVEL`]).
    pub level: u64,
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum CheckResult {
    /// It said yes.
    Passed,
    /// It said no, or nothing in time; with what it said.
    Failed(String),
    /// A metric's value.
    Value(f64),
    /// A metric without a value, with the reason.
    NoValue(String),
}

/// What a person can ask of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Hold where it is. Evidence still takes a bad canary back.
    Pause,
    /// Go on.
    Resume,
    /// Promote now, without the checks and gates that are left.
    Promote,
    /// Take the canary back now.
    Abort,
    /// Analyse the target's revision again after a failure.
    Retry,
}

/// A verb, and which request of it this is: each is carried out once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerbRequest {
    /// What to do.
    pub verb: Verb,
    /// Anything that differs from the last request's.
    pub id: String,
}

words!(Verb {
    Pause = "pause",
    Resume = "resume",
    Promote = "promote",
    Abort = "abort",
    Retry = "retry",
});
