//! What a bad canary may cost users in a test, whatever the machine is busy with.

use std::ops::RangeInclusive;

/// Requests that a bad canary at 10 % fails, of 100 a second: two are its limit, and the ten that each of two workers admits before the
/// first has ended come at once where this machine stood still. What it is on a quiet one is in docs/benchmarks.md; the limits themselves are
/// held by `tests/envoy/guard.rs`.
pub(crate) const HARM: RangeInclusive<u64> = 1..=22;
