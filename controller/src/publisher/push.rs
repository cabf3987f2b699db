//! What the publisher says: a push, a removal, or nothing until some time.

use std::collections::BTreeMap;

use weir_engine::Timestamp;
use weir_wire::Config;

use crate::gateway_config::RouteNames;

/// What to do now.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a push that nobody writes is lost"]
pub enum Next {
    /// Write this configuration, then say [`super::Publisher::pushed`], [`super::Publisher::failed`] or [`super::Publisher::resync`].
    Push(Push),
    /// Take the filter out of the gateway: it has no Canary any more. Then say [`super::Publisher::filter_removed`].
    RemoveFilter,
    /// Take its configuration away. Then say [`super::Publisher::config_removed`].
    RemoveConfig,
    /// Nothing until then, unless something is said.
    Wait(Timestamp),
}

/// A configuration to write.
#[derive(Clone, Debug, PartialEq)]
pub struct Push {
    /// The configuration, which the filter accepts.
    pub config: Config,
    /// By id, the canaries on whose routes the filter is on.
    pub switched: BTreeMap<String, RouteNames>,
    /// Why it is written.
    pub reason: PushReason,
    /// Whether it takes requests away from a canary.
    pub urgent: bool,
}

/// Why a configuration is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushReason {
    /// Nothing was pushed yet.
    First,
    /// Something is desired that was not pushed.
    Changed,
    /// Gateway processes that start from now on would soon no longer trust the last push.
    Renewal,
    /// Somebody else changed or deleted what was pushed, or it is of another module.
    Drifted,
    /// A gateway that answers does not run the last push.
    NotAcknowledged,
    /// An Envoy is about to start.
    Startup,
}

impl PushReason {
    /// Returns the word for logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Changed => "changed",
            Self::Renewal => "renewal",
            Self::Drifted => "drifted",
            Self::NotAcknowledged => "not acknowledged",
            Self::Startup => "startup",
        }
    }
}
