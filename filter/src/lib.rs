//! The filter: splits requests between two revisions inside the gateway, counts what becomes of them, and stops a bad canary
//! by itself.
//!
//! ```text
//!  request ─> lookup ─> condition / affinity / draw ─> guard ─> breaker ─> admission ─> token header ─> route
//!             (host)                              (tripped?)  (nobody there?)  (full?)             to the canary
//!  end     ─> outcome ─> counters ─> breaker (record), guard (judge)            tick ─> counters, gauges
//! ```
//!
//! [`Filter`] holds all of it and asks a [`Host`] for everything else. In the gateway the host is Envoy (`envoy`, compiled for
//! WebAssembly only); in tests and in the controller's simulator it is [`simulated::SimulatedHost`]. A request that belongs
//! to no canary, and every request when something is wrong, is left as it is and goes to the primary.

pub mod admission;
pub mod affinity;
pub mod allowance;
pub mod breaker;
pub mod canary;
pub mod condition;
pub mod counters;
pub mod draw;
pub mod filter;
pub mod gauges;
pub mod guard;
pub mod hashing;
pub mod headers;
pub mod host;
pub mod lease;
pub mod lookup;
pub mod on_demand;
pub mod outcome;
pub mod plan;
pub mod process;
pub mod shared;
pub mod simulated;
pub mod stream;

#[cfg(target_family = "wasm")]
mod envoy;

pub use canary::Choice;
pub use filter::{Filter, Refusal};
pub use host::Host;
