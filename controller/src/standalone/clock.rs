//! The time: the wall clock's at the start of this program, and from then on one that never goes back.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use weir_engine::{Span, Timestamp};

/// The one place where time is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
    at: Timestamp,
}

impl Clock {
    /// Starts a clock.
    pub(crate) fn start() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), at: Timestamp(u64::try_from(since.as_millis()).unwrap_or_default()) }
    }

    /// Returns the present time.
    pub(crate) fn now(&self) -> Timestamp {
        self.at + Span(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}
