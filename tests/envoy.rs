//! The real module in a real Envoy: one test for each rule of the contract.
//!
//! `cargo test -p weir-tests --features envoy --test envoy`, after `filter/build`.

mod harness;

#[path = "envoy/crowd.rs"]
mod crowd;
#[path = "envoy/guard.rs"]
mod guard;
#[path = "envoy/hostile.rs"]
mod hostile;
#[path = "envoy/lifecycle.rs"]
mod lifecycle;
#[path = "envoy/outcomes.rs"]
mod outcomes;
#[path = "envoy/robustness.rs"]
mod robustness;
#[path = "envoy/split.rs"]
mod split;
