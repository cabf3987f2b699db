//! The last word on a rollout that a newer one replaced: without it the message that a chat keeps of it would say for ever that it is
//! under way.

use weir_engine::{Event, Outcome, Severity, Timestamp};

use super::message::{Message, Situation, short};
use crate::view::paint::{self, percent};

/// The code of such a message; no event has it.
const SUPERSEDED: &str = "Superseded";

impl Message {
    /// Returns what is told of the rollout that an event's own rollout replaced; nothing where it replaced none.
    #[must_use]
    pub(super) fn of_superseded(event: &Event, of: &Situation, cluster: Option<&str>, at: Timestamp) -> Option<Self> {
        let view = &of.view;
        let ended = view.ended.as_ref().filter(|_| event.reason == "NewRevision")?;
        // Another end, or one that was told of when it was news.
        if ended.result != Outcome::Superseded || ended.reason != event.reason || ended.run == view.run {
            return None;
        }
        let (old, new) = (paint::short(&ended.revision), paint::short(&of.revision));
        let weight = percent(ended.weight);
        let revision = ended.revision.as_str();
        let facts = [("Cluster", cluster.unwrap_or_default()), ("Revision", revision), ("Reason", SUPERSEDED)];
        let facts = facts.into_iter().filter(|(_, value)| !value.is_empty());
        Some(Self {
            namespace: view.namespace.clone(),
            name: view.name.clone(),
            cluster: cluster.map(str::to_owned),
            run: ended.run.clone(),
            phase: view.phase,
            severity: Severity::Info,
            step: true,
            reason: SUPERSEDED.into(),
            title: format!("{}/{}: revision {old} was replaced by {new}", view.namespace, view.name),
            text: format!("Revision {new} was declared while {old} had {weight} %; its analysis begins anew"),
            facts: facts.map(|(name, value)| (name, short(value))).collect(),
            checksum: ended.revision.clone(),
            at,
        })
    }

    /// Returns whether this only changes a message that stands in a chat, and begins none.
    #[must_use]
    pub(super) fn only_edits(&self) -> bool {
        self.reason == SUPERSEDED
    }
}
