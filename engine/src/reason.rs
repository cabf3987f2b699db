//! Every "why": one stable code each, and a sentence with the numbers.
//!
//! The code stands in status, events, logs and metrics alike, so that a person can grep one word everywhere.

mod cause;

use std::fmt;

use serde::Serialize;
use weir_wire::Weight;

use super::time::Span;

pub use cause::Cause;

/// Why a rollout stands as it does.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Reason {
    /// The primary is being made.
    Initializing {
        /// What it waits for.
        waiting_for: String,
    },
    /// Nothing to do: the primary runs what the target declares.
    UpToDate,
    /// The target's revision failed and was not changed since.
    FailedRevision,
    /// The Canary is suspended in its spec.
    Suspended,
    /// A person paused it.
    Paused,
    /// A gate has not opened.
    WaitingForGate {
        /// The webhook.
        gate: String,
        /// What it said last.
        said: String,
    },
    /// A check waits for another program's answer.
    WaitingForAnswer {
        /// The webhook or metric.
        name: String,
    },
    /// The canary is not ready to serve.
    CanaryNotReady {
        /// Why, in words.
        why: String,
    },
    /// The gateway has no route to the canary's endpoints yet.
    NotRoutable,
    /// No gateway runs.
    NoGateway,
    /// Nothing that calls the Canary inside of the mesh has a sidecar, so no request can be split.
    NoCaller,
    /// Some gateway does not use the split yet that was asked for.
    NotAcknowledged {
        /// Gateways that do.
        by: usize,
        /// Gateways that serve.
        of: usize,
        /// One that does not.
        missing: String,
    },
    /// Some gateway does not have the filter on for the canary's requests yet.
    FilterOff {
        /// The gateway.
        gateway: String,
    },
    /// The filter in some gateway is older than what the step asks for.
    ModuleTooOld {
        /// The gateway.
        gateway: String,
        /// What it does not know how to do.
        what: &'static str,
    },
    /// The interval of a check runs.
    Analysing {
        /// Time until the check.
        left: Span,
    },
    /// The interval is over; the last of its requests are waited for.
    WaitingForRequests {
        /// Canary requests without an end.
        unended: u64,
    },
    /// The interval is over; a gateway's counters of it are waited for.
    WaitingForScrape {
        /// The gateway.
        gateway: String,
    },
    /// Too few canary requests for a check.
    Insufficient {
        /// Completed ones.
        requests: u64,
        /// What a check needs.
        needed: u64,
        /// Whether all that is missing are requests of a canary that has been ready for some seconds.
        cold: bool,
        /// Requests that the gateways served meanwhile, where enough did that some would have got to the canary, and none did.
        unsplit: Option<u64>,
    },
    /// The `rollout` webhooks have answered, and no request was seen since the window began: what they send passes no filter.
    NoSyntheticLoad {
        /// The canary's own Service, which they may call.
        service: String,
        /// The name of it that gateways know, if they know one.
        host: Option<String>,
        /// Time until the canary is taken back.
        left: Span,
    },
    /// A bound is not met by the requests so far, and not shown to be broken either; the weight stays.
    Undecided {
        /// The bound, and what was counted.
        check: String,
        /// What would decide it.
        missing: String,
        /// Checks until the rollout advances all the same.
        left: u32,
    },
    /// A check failed; the weight stays.
    Halted {
        /// What failed.
        check: String,
        /// Failed checks so far.
        failed: u32,
        /// Failed checks that end the rollout.
        threshold: u32,
    },
    /// What was judged has no consequence, as the Canary asks (`observeOnly`).
    Observing {
        /// What would be done otherwise.
        would: String,
        /// Whether the canary would be taken back.
        is_bad: bool,
    },
    /// The primary is not ready, so the weight stays.
    PrimaryNotReady {
        /// Why, in words.
        why: String,
    },
    /// The weight was just changed.
    Advanced {
        /// What it is now.
        weight: Weight,
    },
    /// The canary is started.
    NewRevision,
    /// The primary takes over the canary's revision.
    Promoting {
        /// What it waits for.
        waiting_for: String,
    },
    /// The weight goes back to the primary in steps.
    Returning {
        /// What is left.
        weight: Weight,
    },
    /// Weight 0 was asked; the canary stays until no gateway sends to it.
    Draining {
        /// Gateways that stopped.
        by: usize,
        /// Gateways that serve.
        of: usize,
    },
    /// The revision is in production.
    Promoted,
    /// The revision is in production, without its analysis or the rest of it, as asked.
    Skipped,
    /// The target went back to the primary's revision.
    Reverted,
    /// The canary was taken back.
    RolledBack(Cause),
    /// The primary did not come up with the analysed revision; the canary serves until the former one is back.
    PromotionFailed {
        /// Why, in words.
        why: String,
    },
    /// The Canary is being deleted.
    Terminating {
        /// What it waits for.
        waiting_for: String,
    },
    /// Everything is given back.
    Terminated,
}

impl Reason {
    /// Returns the stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Initializing { .. } => "Initializing",
            Self::UpToDate => "UpToDate",
            Self::FailedRevision => "FailedRevision",
            Self::Suspended => "Suspended",
            Self::Paused => "Paused",
            Self::WaitingForGate { .. } => "WaitingForGate",
            Self::WaitingForAnswer { .. } => "WaitingForAnswer",
            Self::CanaryNotReady { .. } => "CanaryNotReady",
            Self::NotRoutable => "NotRoutable",
            Self::FilterOff { .. } => "FilterOff",
            Self::ModuleTooOld { .. } => "ModuleTooOld",
            Self::NoGateway => "NoGateway",
            Self::NoCaller => "NoCaller",
            Self::NotAcknowledged { .. } => "NotAcknowledged",
            Self::Analysing { .. } => "Analysing",
            Self::WaitingForRequests { .. } => "WaitingForRequests",
            Self::WaitingForScrape { .. } => "WaitingForScrape",
            Self::Insufficient { .. } => "Insufficient",
            Self::NoSyntheticLoad { .. } => "NoSyntheticLoad",
            Self::Undecided { .. } => "Undecided",
            Self::Halted { .. } => "Halted",
            Self::Observing { .. } => "Observing",
            Self::PrimaryNotReady { .. } => "PrimaryNotReady",
            Self::Advanced { .. } => "Advanced",
            Self::NewRevision => "NewRevision",
            Self::Promoting { .. } => "Promoting",
            Self::Returning { .. } => "Returning",
            Self::Draining { .. } => "Draining",
            Self::Promoted => "Promoted",
            Self::Skipped => "Skipped",
            Self::Reverted => "Reverted",
            Self::RolledBack(cause) => cause.code(),
            Self::PromotionFailed { .. } => "PromotionFailed",
            Self::Terminating { .. } => "Terminating",
            Self::Terminated => "Terminated",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Initializing { waiting_for } => write!(f, "the primary is being made: {waiting_for}"),
            Self::UpToDate => f.write_str("the primary runs what the target declares"),
            Self::FailedRevision => {
                f.write_str("the target's revision was taken back; waiting for another one, or for the verb retry")
            }
            Self::Suspended => f.write_str("suspended by spec.suspend"),
            Self::Paused => f.write_str("paused by a person; the verb resume goes on"),
            Self::WaitingForGate { gate, said } => write!(f, "gate {gate} is closed: {said}"),
            Self::WaitingForAnswer { name } => write!(f, "waiting for the answer of {name}"),
            Self::CanaryNotReady { why } => write!(f, "the canary is not ready: {why}"),
            Self::NotRoutable => f.write_str("the gateway has no endpoint of the canary yet"),
            Self::FilterOff { gateway } => {
                write!(f, "gateway {gateway} does not have the filter on for its requests yet")
            }
            Self::ModuleTooOld { gateway, what } => write!(
                f,
                "the filter in gateway {gateway} is too old to {what}, and sends none to the canary: give it the module of this Weir"
            ),
            Self::NoGateway => f.write_str("no gateway is running, so no request can be split"),
            Self::NoCaller => f.write_str("no caller with a sidecar is running, so no request can be split"),
            Self::NotAcknowledged { by, of, missing } => {
                write!(f, "{by} of {of} gateways use the split that was asked for; {missing} does not yet")
            }
            Self::Analysing { left } => write!(f, "next check in {left}"),
            Self::WaitingForRequests { unended } => write!(f, "{unended} canary requests have not ended yet"),
            Self::WaitingForScrape { gateway } => write!(f, "waiting for the counters of {gateway}"),
            Self::Insufficient { requests, unsplit: Some(served), .. } => write!(
                f,
                "{requests} canary requests so far, though the gateways served {served} meanwhile: the split is at fault, not the \
                 traffic; look at the gateways' logs and routes"
            ),
            Self::Insufficient { requests, needed, cold: false, .. } => {
                write!(f, "{requests} canary requests so far, a check needs {needed}")
            }
            Self::Insufficient { requests, .. } => write!(
                f,
                "{requests} canary requests so far, but none since the canary has been ready for {}: a cold canary's \
                 duration is not judged",
                super::decide::WARM_UP
            ),
            Self::NoSyntheticLoad { service, host, left } => {
                write!(f, "{}; taken back in {left}", unseen(service, host.as_deref()))
            }
            Self::Undecided { check, missing, left } => {
                let checks = if *left == 1 { "check" } else { "checks" };
                write!(f, "{check}, not shown: {missing}; advances after {left} more {checks}")
            }
            Self::Halted { check, failed, threshold } => write!(f, "{check} (failed checks: {failed} of {threshold})"),
            Self::Observing { would, .. } => {
                write!(f, "spec.observeOnly leaves it to people: would {would}")
            }
            Self::PrimaryNotReady { why } => write!(f, "the primary is not ready: {why}"),
            Self::Advanced { weight } => write!(f, "canary weight {weight} asked for"),
            Self::NewRevision => f.write_str("a new revision is being started"),
            Self::Promoting { waiting_for } => write!(f, "the primary takes over the revision: {waiting_for}"),
            Self::Returning { weight } => write!(f, "traffic returns to the primary, canary weight {weight}"),
            Self::Draining { by, of } => write!(f, "{by} of {of} gateways have stopped sending to the canary"),
            Self::Promoted => f.write_str("the revision passed its analysis and is in production"),
            Self::Skipped => f.write_str("the revision is in production; its analysis was skipped as asked"),
            Self::Reverted => f.write_str("the target went back to the primary's revision"),
            Self::RolledBack(cause) => cause.fmt(f),
            Self::PromotionFailed { why } => {
                write!(f, "the primary did not come up with the analysed revision and gets its former one back: {why}")
            }
            Self::Terminating { waiting_for } => write!(f, "being deleted: waiting for {waiting_for}"),
            Self::Terminated => f.write_str("everything is given back"),
        }
    }
}

/// Says that a load test is not seen, and what to write instead.
pub(super) fn unseen(service: &str, host: Option<&str>) -> String {
    let which = host.map_or_else(|| "a host of the Canary".to_owned(), |host| format!("the host {host}"));
    format!(
        "the rollout webhooks answered and no request was seen: what calls http://{service} passes no gateway; let the load test call the \
         gateway's address, with {which} (hey -host {} http://GATEWAY/)",
        host.unwrap_or("HOST")
    )
}
