//! What a decision says: what must be so, what to tell people, what to ask other programs, and why.
//!
//! An action is complete: revisions, sizes and what is kept are in it, and whoever carries it out chooses nothing.

use serde::{Deserialize, Serialize};

use super::plan::WebhookKind;
use super::reason::Reason;
use super::state::{Revision, State, Traffic};
use super::time::Span;

/// The outcome of one pass.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a decision that nobody carries out changes nothing"]
pub struct Decision {
    /// What takes requests away from the canary. Carried out before anything is stored, told or written elsewhere.
    pub protect: Vec<Action>,
    /// What to remember. Stored before the other actions are carried out.
    pub state: State,
    /// What else must be so, complete and in order, on every pass.
    pub actions: Vec<Action>,
    /// What happened in this pass, for people. A pass that is repeated after a crash may repeat them.
    pub events: Vec<Event>,
    /// What other programs should be asked until they have answered.
    pub check_requests: Vec<CheckRequest>,
    /// Why things stand as they do.
    pub reason: Reason,
    /// When to look again, and to scrape, without being woken.
    pub recheck_after: Span,
}

/// One thing that must be so.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Gateways use this split.
    Traffic(Box<Traffic>),
    /// What the target runs under this revision is kept, so that it can be run again when the target says otherwise.
    KeepRevision(Revision),
    /// The primary's copies of what this revision's pods read exist.
    CopyConfigs(Revision),
    /// The primary runs this revision.
    Primary {
        /// What it runs.
        revision: Revision,
        /// How much of it.
        replicas: Replicas,
        /// Whether its autoscaler is made like the target's; otherwise one that exists stays as it is.
        follow_autoscaler: bool,
    },
    /// The canary runs this revision.
    Canary {
        /// What it runs.
        revision: Revision,
        /// How much of it.
        replicas: Replicas,
        /// The rollout that its pods must have been started for, where they read configs that may have changed since.
        fresh_for: Option<String>,
    },
    /// Routes exist: the token to the canary, everything else to the primary.
    Route,
    /// Routes lead to the target itself again, as before Weir.
    Unroute,
    /// Nothing is kept but what these revisions need.
    Prune {
        /// Revisions that may be asked for again.
        revisions: Vec<Revision>,
        /// Those of them that may still run: the copies of their configs stay too.
        live: Vec<Revision>,
    },
    /// Nobody who calls the target's own name still ends at the primary. Fails as long as somebody does.
    Handover,
    /// Nothing of this Canary is left; it may go.
    Release,
}

impl Action {
    /// Returns whether this can be carried out though another one of the same decision could not. What was decided of the canary was decided
    /// from what serves, not from what the primary is being told; its routes and what is dropped wait for the primary's services.
    #[must_use]
    pub fn goes_on_without(&self, failed: &Self) -> bool {
        matches!((failed, self), (Self::Primary { .. }, Self::Canary { .. }))
    }
}

/// How much of a workload runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Replicas {
    /// Whatever runs now, nothing included.
    Keep,
    /// As much as its own object, or its autoscaler, asks for.
    Declared,
    /// This much.
    Exactly(u32),
}

/// Something worth telling a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Whether somebody should look.
    pub severity: Severity,
    /// Stable code of the reason.
    pub reason: &'static str,
    /// One sentence, Flagger's where Flagger has one.
    pub text: String,
    /// The webhook that it is about, where it is about one: its author may have muted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
}

impl Event {
    /// Returns an event that is about no webhook.
    #[must_use]
    pub fn new(severity: Severity, reason: &'static str, text: impl Into<String>) -> Self {
        Self { severity, reason, text: text.into(), webhook: None }
    }
}

/// Whether somebody should look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As planned.
    Info,
    /// A hold, or a person's own doing.
    Warning,
    /// A rollout ended badly.
    Error,
}

/// A question to another program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CheckRequest {
    /// Identifies the question: the answer is looked up by it.
    pub key: String,
    /// Name of the webhook or metric in the plan.
    pub name: String,
    /// The webhook's kind; `None` for a metric.
    pub webhook: Option<WebhookKind>,
    /// Whether to ask again and again (a gate), keeping the newest answer.
    pub repeat: bool,
}
