//! `weir simulate` and what it proves: the forecasts, and that equally good revisions are taken back as seldom as promised.
#![cfg(test)]

mod bounds;
mod equal_revisions;
mod forecasts;
mod hostile;
mod many;
