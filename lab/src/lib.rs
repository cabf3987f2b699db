//! Whole rollouts of the real engine against made-up traffic, under a made-up clock.
//!
//! ```text
//!  Scenario ─> Rollout { decide, workloads that come up, pushes that arrive } <─scrapes─ Gateways <─ requests
//!                                                                                  ├ Drawn: sums drawn per slice of time
//!                                                                                  └ Real: each request through the filter
//! ```
//!
//! Two uses: a forecast for people (what would a bad revision have cost me?), and the proof that equally good revisions are
//! taken back as seldom as promised. `decide`, the evidence, the guard's tables and their judgement are the product's own
//! code in both kinds of gateway; [`Fidelity::Sums`] draws how many requests end how per slice of time and puts the failures in
//! random order, which is thousands of times faster and has the same distribution; [`Fidelity::Requests`] sends every
//! request through the filter and reads its metrics back as the controller does.
//!
//! Deterministic: the same scenario and seed always give the same rollout.

mod behaviour;
mod bound;
mod drawn;
mod gateway;
mod hostile;
mod real;
mod rollout;
mod scenario;
mod summary;

pub use behaviour::{Behaviour, Latency};
pub use bound::{lower_bound, upper_bound};
pub use rollout::{End, Played, play, play_against};
pub use scenario::{Fidelity, Onset, Scenario};
pub use summary::{Figures, Spread, Summary};
