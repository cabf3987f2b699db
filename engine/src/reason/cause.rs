//! Why a canary was taken back, and a sentence for each with its numbers.

use std::fmt;

use serde::Serialize;

use super::unseen;
use crate::time::Span;

/// Why a canary was taken back.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Cause {
    /// The guard in a gateway stopped it.
    Guard {
        /// The gateway.
        gateway: String,
        /// `comparison` or `absolute`.
        test: &'static str,
        /// Its numbers.
        numbers: String,
    },
    /// The evidence became a verdict.
    Evidence {
        /// The test's word.
        test: &'static str,
        /// What it shows, with its numbers.
        shown: String,
    },
    /// As many checks failed as the threshold allows.
    Checks {
        /// How many.
        failed: u32,
        /// The last one.
        last: String,
    },
    /// The canary will not come up: crash loop, image that does not exist.
    Broken {
        /// Why, in words.
        why: String,
    },
    /// The canary did not become ready in time.
    Deadline {
        /// The deadline.
        deadline: Span,
        /// What it waited for.
        why: String,
    },
    /// Too few requests came in time.
    Insufficient {
        /// The deadline.
        deadline: Span,
        /// Completed requests.
        requests: u64,
        /// What a check needs.
        needed: u64,
    },
    /// The `rollout` webhooks answered, and no request was seen in time.
    NoSyntheticLoad {
        /// The deadline.
        deadline: Span,
        /// The canary's own Service.
        service: String,
        /// The name of it that gateways know, if they know one.
        host: Option<String>,
    },
    /// A `rollback` webhook said so.
    Webhook {
        /// The webhook.
        name: String,
    },
    /// A person said so.
    Aborted,
}

impl Cause {
    /// Returns the stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Guard { .. } => "GuardTripped",
            Self::Evidence { .. } => "EvidenceBad",
            Self::Checks { .. } => "ChecksFailed",
            Self::Broken { .. } => "CanaryBroken",
            Self::Deadline { .. } => "ProgressDeadlineExceeded",
            Self::Insufficient { .. } => "InsufficientDeadlineExceeded",
            Self::NoSyntheticLoad { .. } => "NoSyntheticLoad",
            Self::Webhook { .. } => "RollbackWebhook",
            Self::Aborted => "Aborted",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Guard { gateway, test, numbers } => {
                write!(f, "the guard in {gateway} stopped the canary by its {test} table: {numbers}")
            }
            Self::Evidence { shown, .. } => f.write_str(shown),
            Self::Checks { failed, last } => write!(f, "failed checks threshold reached {failed}: {last}"),
            Self::Broken { why } => write!(f, "the canary will not come up: {why}"),
            Self::Deadline { deadline, why } => write!(f, "the canary was not ready within {deadline}: {why}"),
            Self::Insufficient { deadline, requests, needed } => {
                write!(f, "{requests} canary requests within {deadline}, a check needs {needed}")
            }
            Self::NoSyntheticLoad { deadline, service, host } => {
                write!(f, "within {deadline} {}", unseen(service, host.as_deref()))
            }
            Self::Webhook { name } => write!(f, "the rollback webhook {name} said so"),
            Self::Aborted => f.write_str("aborted by a person"),
        }
    }
}
