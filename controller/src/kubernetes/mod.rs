//! Weir in a cluster, beside Istio.
//!
//! ```text
//!  API ─ watches ─> World (caches) ─> Keeper, one per Canary ─ reconcile ─> API: Deployments, Services, routes, status
//!                     │                  │ entries     ^ counters, acknowledgements
//!                     └──> Fleet ──> gateway::Workload ┴─> EnvoyFilters, scrapes
//! ```
//!
//! Every replica watches and serves the module; the one that holds the lease acts. The folders are floors, in reading order:
//! each may know those before it, which `tests/architecture.rs` checks.
//!
//! | floor | what it is |
//! |---|---|
//! | [`api_server`] | caches that follow watches, writes, events, the lease |
//! | [`kinds`] | the objects that are watched, and Weir's own |
//! | [`render`] | what the objects that Weir writes look like; pure |
//! | [`stores`] | everything that is known of the cluster, and who must look again when it changed |
//! | [`configs`], [`target`], [`router`], [`gateway`] | ConfigMaps and Secrets, what is released, how requests reach it, what splits them |
//! | [`reconcile`] | one pass over one Canary |
//! | [`run`], [`serve`], [`uninstall`] | the process |

pub(crate) mod api_server;
pub(crate) mod kinds;
pub(crate) mod render;
mod stores;

mod configs;
mod gateway;
mod router;
mod target;

pub(crate) mod reconcile;

pub(crate) mod run;
mod serve;
pub(crate) mod settings;
pub(crate) mod uninstall;
