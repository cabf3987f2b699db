//! Weir's controller: watches releases, reads what the filter in the gateway counted, decides, and pushes weights back.

mod answers;
pub mod api;
pub mod board;
pub mod gateway_config;
pub mod http;
pub mod kubernetes;
pub mod metrics;
pub mod reconcile;
pub mod scrape;
pub mod standalone;
pub mod telemetry;
pub mod view;

pub use weir_engine as rollout;
