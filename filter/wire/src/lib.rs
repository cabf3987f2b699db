//! The contract between Weir's controller and its filter: everything that crosses between the two programs.
//!
//! ```text
//!  controller ── Config (JSON, one per gateway workload) ──> filter
//!  controller <── counters and gauges, by `names` ────────── filter
//!  client ─────── request ──> filter ── TOKEN_HEADER ──> route to the canary
//! ```
//!
//! The two programs may be of different ages. Readers ignore unknown fields; a field that changes its meaning gets a new
//! name or a new [`config::VERSION`]; the files in `golden/` are only ever added to.

pub mod capabilities;
pub mod config;
pub mod limits;
pub mod names;
pub mod plugin;
pub mod weight;

pub use config::{Affinity, Canary, Condition, Config, ConfigError, Limits, Lookup, MatchedSplit, StringMatch};
pub use weight::Weight;

/// The request header that sends a request to the canary: its value is the canary's token.
///
/// Removed from every client's request natively, before the route is chosen, and by the routes before the upstream.
pub const TOKEN_HEADER: &str = "x-weir-token";

/// What the header says of a request to the primary whose cookies must not be ended. No canary has it as its token: those are hashes.
pub const KEPT: &str = "kept";

/// Epochs that counters are kept apart for. The slot of an epoch is `epoch % SLOTS`.
pub const SLOTS: u64 = 8;

/// Normal time between two flushes of the filter's counters, in milliseconds.
pub const TICK_MS: u32 = 500;

/// Time between two flushes while any canary of the configuration has a run, in milliseconds.
pub const RUN_TICK_MS: u32 = 100;
