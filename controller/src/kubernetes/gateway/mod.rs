//! Gateways: which pods they are, what they are told, and what they say.
//!
//! ```text
//! Gateway selectors, pods ── registry ──> GatewayWorkload
//! Canaries' entries ── set_desired ──> task ── objects ──> EnvoyFilter ── istiod ──> filter in every pod
//! Canaries' looks <─── reports ─────── task <── scrape ─── 15090 ───────────────────────┘
//! ```
//!
//! A workload is the set of pods that one `Gateway` selector finds in one namespace; of selectors that find the same pods one
//! is canonical. One task has everything of a workload: what is desired, the writes, the scrapes.

mod bound;
mod objects;
mod overlap;
mod reach;
mod registry;
mod reports;
mod scrape;
mod splitting;
mod task;
mod workload;

pub(crate) use bound::Bound;
pub(crate) use registry::GatewayRegistry;
pub(crate) use workload::GatewayWorkload;
