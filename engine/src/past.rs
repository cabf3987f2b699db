//! Rollouts that ended, as the status keeps them.

use serde::{Deserialize, Serialize};

use super::state::{Ended, Outcome, Revision, State};
use super::time::Timestamp;

/// What is kept of a rollout that ended. Ten of them are in every status, so the fields have one letter there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Past {
    /// What was analysed.
    #[serde(rename = "r")]
    pub revision: Revision,
    /// What became of it.
    #[serde(rename = "o")]
    pub result: Outcome,
    /// Stable code of the reason.
    #[serde(rename = "w")]
    pub reason: String,
    /// When it began.
    #[serde(rename = "s")]
    pub started: Timestamp,
    /// When it was decided.
    #[serde(rename = "a")]
    pub at: Timestamp,
    /// Canary requests that ended, and those that failed.
    #[serde(rename = "c")]
    pub canary: [u64; 2],
}

impl Past {
    /// How many are kept: with 200 bytes at most each, they are 2 KB of a status.
    pub const KEPT: usize = 10;
}

impl State {
    /// Records how a rollout ended.
    pub(crate) fn end(&mut self, ended: Ended) {
        let Ended { revision, result, reason, started, at, canary, .. } = ended.clone();
        self.past.push(Past { revision, result, reason, started, at, canary });
        let surplus = self.past.len().saturating_sub(Past::KEPT);
        self.past.drain(..surplus);
        self.ended = Some(ended);
    }
}
