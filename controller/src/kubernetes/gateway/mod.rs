//! Gateways: which pods they are, what they are told, and what they say.
//!
//! ```text
//! Gateway selectors, pods ─ fleet ─> Workload ─ writer ──> EnvoyFilter ─ istiod ─> filter in every pod
//! Canaries' entries ─────────────────^      └── scraper <── 15020 ─────────────────────┘
//! ```
//!
//! A workload is the set of pods that one `Gateway` selector finds in one namespace; of selectors that find the same pods one
//! stands for all. Everything about a workload has one writer.

mod claims;
mod fleet;
mod overlap;
mod placement;
mod scraper;
mod workload;
mod writer;

pub(crate) use claims::Claims;
pub(crate) use fleet::{Fleet, selects, unbound};
pub(crate) use placement::{affects, placement};
pub(crate) use workload::Workload;
