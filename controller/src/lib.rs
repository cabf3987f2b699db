//! Weir's controller: watches releases, reads what the filter in the gateway counted, decides, and pushes weights back.

mod answers;
pub mod api;
pub mod board;
pub mod command;
pub mod gateway_config;
pub mod http;
mod kubernetes;
pub mod metrics;
pub mod reconcile;
pub mod rollout;
pub mod scrape;
pub mod simulate;
pub mod standalone;
pub mod telemetry;
pub mod view;
