//! Weir in a cluster, beside Istio.
//!
//! ```text
//!  API ─ watches ─> World (caches) ─> Keeper, one per Canary ─ reconcile ─> API: Deployments, Services, routes, status
//!                     │                  │ entries     ^ counters, acknowledgements
//!                     └──> Fleet ──> gateway::Workload ┴─> EnvoyFilters, scrapes
//! ```
//!
//! Every replica watches and serves the module; the one that holds the lease acts. Reading order: [`world`], [`keeper`],
//! [`observe`], [`act`], [`apex`], [`render`], [`gateway`].

pub(crate) mod act;
mod apex;
mod cache;
pub(crate) mod canary;
mod clock;
mod configs;
mod cover;
pub(crate) mod crd;
mod events;
mod gateway;
mod keeper;
mod kinds;
pub(crate) mod lease;
mod metric_template;
pub(crate) mod object;
pub(crate) mod observe;
mod reading;
pub(crate) mod render;
mod revision;
pub(crate) mod run;
mod scaler;
mod serve;
pub(crate) mod settings;
mod status;
pub(crate) mod uninstall;
mod world;

#[cfg(test)]
mod surface;
