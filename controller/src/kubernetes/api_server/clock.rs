//! The clock, read at the edge only: the engine is told what time it is.

use weir_engine::Timestamp;

/// Returns the time.
#[cfg(not(test))]
#[must_use]
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Returns the time of tests, which tokio can pause: it goes as its timers go.
#[cfg(test)]
#[must_use]
pub(crate) fn now() -> Timestamp {
    use std::sync::LazyLock;
    use tokio::time::Instant;
    static BEGUN: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);
    let since = Instant::now().saturating_duration_since(Instant::from_std(*BEGUN));
    Timestamp(1_800_000_000_000 + u64::try_from(since.as_millis()).unwrap_or_default())
}

/// Returns a point in time as the API writes it.
#[must_use]
pub(crate) fn rfc3339(at: Timestamp) -> String {
    let millis = i64::try_from(at.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis)
        .map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
        .unwrap_or_default()
}

/// Returns the point in time of what the API wrote.
#[must_use]
pub(crate) fn timestamp(text: &str) -> Option<Timestamp> {
    let at: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(at.as_millisecond()).ok().map(Timestamp)
}
