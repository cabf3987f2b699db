//! Weir in a cluster, beside Istio.
//!
//! ```text
//!  API ─ watches ─> Stores (caches) ─> Reconciler, one per Canary ─ reconcile ─> API: Deployments, Services, routes, status
//!                     │                  │ entries     ^ counters, acknowledgements
//!                     └──> GatewayRegistry ──> gateway::Workload ┴─> EnvoyFilters, scrapes
//! ```
//!
//! Every replica watches and serves the module; the one that holds the lease acts. The folders are floors, in reading order:
//! each may know those before it, which `tests/architecture.rs` checks.
//!
//! | floor | what it is |
//! |---|---|
//! | [`api_server`] | caches that follow watches, writes, events, the lease |
//! | [`kinds`] | the objects that are watched, and Weir's own; the kinds of targets |
//! | [`render`] | what the objects that Weir writes look like; pure |
//! | [`stores`] | everything that is known of the cluster, and who must look again when it changed |
//! | [`configs`] | the ConfigMaps and Secrets of a revision |
//! | [`executor`] | what the actions of one Canary have in common |
//! | [`target`], [`router`], [`gateway`] | what is released, how requests reach it, what splits them |
//! | [`reconcile`] | one pass over one Canary |
//! | [`run`](mod@run), [`serve`], [`page`], [`uninstall`](mod@uninstall), [`client`] | the process, what it serves, and the way of `kubectl weir` to it |

mod api_server;
mod kinds;
mod render;
mod settings;
mod stores;

mod configs;

mod executor;

mod gateway;
mod router;
mod target;

mod reconcile;

mod client;
mod page;
mod run;
mod serve;
mod uninstall;

pub use client::{Cluster, Read};
pub use kinds::admission::refused;
pub use kinds::crd;
pub use render::Module;
pub use run::{RunError, SERVED, run};
pub use settings::Settings;
pub use uninstall::uninstall;

#[cfg(test)]
mod surface;
#[cfg(test)]
mod tests;
