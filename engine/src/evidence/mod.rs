//! What the counters prove: from integer counts to "bad", "good" or "not enough", at any moment, with a stated chance of
//! being wrong.
//!
//! Every test here is an *e-process* E: under its null (the canary is fine) its mean never exceeds 1, at any moment that
//! anything may choose, so the chance that it ever reaches 1/α is at most α (Ville's inequality). That is what makes looking
//! at every scrape legal, and a rollback at E ≥ 1/α a false one at most once in 1/α rollouts. E-values of different
//! tests may be averaged whatever their dependence; that is how one budget serves seven tests.
//!
//! Pure: integer counts in, `f64` logarithms inside, nothing else. Formulas: `docs/evidence.md`.

mod absolute;
mod assessment;
mod beta;
mod bound;
mod budget;
mod certify;
mod comparison;
mod forecast;
pub mod guard;
mod interval;
mod logspace;
mod onset;
mod run;
mod split;

pub use absolute::{Absolute, ceiling};
pub use assessment::{Assessment, Finding, GOOD, NotWorse, Test, Verdict};
pub use bound::{Bound, SLOW};
pub use budget::{Thresholds, budget};
pub use certify::log_e_below;
pub use comparison::{Comparison, Stretch, attribution, excess, log_e_not_worse};
pub use forecast::{Forecast, Quantiles, forecast};
pub use interval::{Interval, ratio_interval};
pub use onset::Onset;
pub use run::{Block, Pair, Terms, Tests};
pub use split::Split;
