//! What a decision says: what must be so, what to tell people, what to ask other programs, and why.

use serde::{Deserialize, Serialize};

use super::plan::WebhookKind;
use super::reason::Reason;
use super::state::{Revision, State, Traffic};
use super::time::Span;

/// The outcome of one pass.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a decision that nobody carries out changes nothing"]
pub struct Decision {
    /// What to remember. Stored before the actions are carried out.
    pub state: State,
    /// What must be so, complete and in order, on every pass.
    pub actions: Vec<Action>,
    /// What happened in this pass, for people. A pass that is repeated after a crash may repeat them.
    pub events: Vec<Event>,
    /// What other programs should be asked until they have answered.
    pub asks: Vec<Ask>,
    /// Why things stand as they do.
    pub reason: Reason,
    /// When to look again, and to scrape, without being woken.
    pub recheck_after: Span,
}

/// One thing that must be so.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// The primary runs this revision.
    Primary(Revision),
    /// The canary runs the target's revision, at this scale.
    Canary(Scale),
    /// Routes exist: the token to the canary, everything else to the primary.
    Route,
    /// Gateways use this split.
    Traffic(Box<Traffic>),
    /// Routes lead to the target itself again, as before Weir.
    Unroute,
    /// Nothing of this Canary is left; it may go.
    Release,
}

/// How much of the canary runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scale {
    /// Whatever runs now.
    Keep,
    /// Nothing.
    Zero,
    /// As much as the target (or its scaler) asks for.
    Full,
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
pub struct Ask {
    /// Identifies the question: the answer is looked up by it.
    pub key: String,
    /// Name of the webhook or metric in the plan.
    pub name: String,
    /// The webhook's kind; `None` for a metric.
    pub webhook: Option<WebhookKind>,
    /// Whether to ask again and again (a gate), keeping the newest answer.
    pub repeat: bool,
}
