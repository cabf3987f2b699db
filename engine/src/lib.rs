//! The engine: decides the next move of one rollout.
//!
//! ```text
//! (Plan, State, Observation, now) ─ decide ─> Decision { state, actions, events, check_requests, reason, recheck_after }
//! ```
//!
//! Pure: the same arguments always give the same decision. Nothing in this crate awaits, logs, reads a clock or draws a
//! random number. Actions describe the whole of what must be so, on every pass, so that a controller that dies on any line
//! is finished by its next pass; carrying one out a second time changes nothing.
//!
//! Reading order: [`plan`], [`observation`], [`state`], [`action`], then [`decide`].

pub mod action;
pub mod counter_history;
pub mod counts;
mod decide;
pub mod evidence;
pub mod latency;
pub mod observation;
pub mod past;
pub mod plan;
pub mod reason;
pub mod run_evidence;
pub mod state;
pub mod time;
pub mod words;

pub use action::{Action, CheckRequest, Decision, Event, Replicas, Severity};
pub use counts::{Cell, Counts, Scrape};
pub use decide::{UNREACHABLE, decide};
pub use observation::{
    Autoscaler, CheckResult, Gateway, Inherited, Observation, Readiness, Sizer, Verb, VerbRequest, Workload,
};
pub use past::Past;
pub use plan::{Bounds, Check, Plan, Source, Step, Webhook, WebhookKind};
pub use reason::Reason;
pub use state::{Ended, FilterMode, Outcome, Phase, Revision, Run, Stage, State, Traffic};
pub use time::{Span, Timestamp};

#[cfg(test)]
mod tests;
