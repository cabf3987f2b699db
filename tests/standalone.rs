//! `weir standalone`, end to end: whole releases, and everything dying in the middle of them.
//!
//! Needs a real Envoy and the built module; `make test` finds or makes both. Nothing here measures: bounds on failed requests
//! are counts, and everything else waits for what must come.

#[path = "standalone/alerts.rs"]
mod alerts;
#[path = "standalone/boards.rs"]
mod boards;
mod bounds;
#[path = "standalone/cookies.rs"]
mod cookies;
#[path = "standalone/deaths.rs"]
mod deaths;
#[path = "standalone/drawing.rs"]
mod drawing;
#[path = "standalone/input.rs"]
mod input;
#[path = "standalone/load_tester.rs"]
mod load_tester;
#[path = "standalone/metrics.rs"]
mod metrics;
#[path = "standalone/prometheus.rs"]
mod prometheus;
#[path = "standalone/releases.rs"]
mod releases;
#[path = "standalone/resting.rs"]
mod resting;
#[path = "standalone/site.rs"]
mod site;
#[path = "standalone/synthetic.rs"]
mod synthetic;
