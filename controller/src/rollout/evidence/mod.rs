//! What the counters prove: from integer counts to "bad", "good" or "not enough", at any moment, with a stated chance of
//! being wrong.
//!
//! Every test here is an *e-process* E: under its null (the canary is fine) its mean never exceeds 1, at any moment that
//! anything may choose, so the chance that it ever reaches 1/α is at most α (Ville's inequality). That is what makes looking
//! at every scrape legal, and a rollback at E ≥ 1/α a false one at most once in 1/α rollouts. E-values of different
//! tests may be averaged whatever their dependence; that is how one budget serves five tests.
//!
//! Pure: integer counts in, `f64` logarithms inside, nothing else. Formulas: `docs/evidence.md`.

mod absolute;
mod budget;
mod comparison;
pub mod guard;
mod logspace;
mod onset;

pub use absolute::{Absolute, ceiling};
pub use budget::{Thresholds, budget};
pub use comparison::{Comparison, Stretch, attribution, log_e_not_worse};
pub use onset::Onset;
