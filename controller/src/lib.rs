//! Weir's controller: watches releases, reads what the filter in the gateway counted, decides, and pushes weights back.
//!
//! ```text
//!  YAML, Canaries ─ api ─> Plan ──────────┐                             ┌─ publisher ──────> Envoy's filter
//!  gateways' counters ─ scrape ─> Scrape ─┼─> Observation ─ reconcile ──┤
//!  webhooks, Prometheus ─ answers ────────┘      │  (engine)            ├─ actions ─> workloads, routes
//!                                                v                      └─ state ─> what survives a restart
//!                                   view ─> statuses ─> http, metrics
//! ```
//!
//! Two platforms carry out what the engine ([`weir_engine`]) decides: [`kubernetes`] beside Istio, and [`standalone`] with processes
//! and an Envoy on one machine. Both implement [`reconcile::Platform`]; nothing else knows which one runs.
//!
//! | input | crate or module that reads it | what becomes of it |
//! |---|---|---|
//! | `Canary`, `MetricTemplate`, `Process` | [`api`] | a [`weir_engine::Plan`], or every problem with its field |
//! | `/stats/prometheus` of a gateway | [`scrape`] | a [`weir_engine::Scrape`] for each Canary |
//! | a verb, from a person | [`status_store`], or an annotation | a [`weir_engine::VerbRequest`] |

pub mod alerts;
pub mod api;

pub mod http_client;
mod http_server;
mod outbound;
mod signals;
pub mod text;

mod checks;
pub use checks::{unanswerable, unanswerable_metrics};
pub mod scrape;

pub mod reconcile;

pub mod gateway_budget;
pub mod gateway_config;
pub mod publisher;

pub mod kubernetes;
// It watches its processes and its Envoy by what only Linux has.
#[cfg(target_os = "linux")]
pub mod standalone;

pub mod http;
pub mod metrics;
pub mod page;
pub mod status_store;
pub mod telemetry;
pub mod view;

pub use weir_engine as rollout;
