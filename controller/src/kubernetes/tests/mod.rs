//! The whole controller against an API server in memory: which writes it makes, in which order, and no others.
//!
//! Between the tables of the engine and the real cluster. What Envoy, istiod and kubelets do is not here; what the API server
//! does is: owners of fields, conflicts, refusals, watches, finalizers. Time is tokio's paused time, so a minute takes nothing.

mod accidents;
mod adoption;
mod alerts;
mod bare_callers;
mod called_off;
mod callers;
mod calls;
mod claimed;
mod crowds;
mod faults;
mod given_back;
mod hashes;
mod hazards;
mod host_owners;
mod leading;
mod leaving;
mod mid_release;
mod not_taken;
mod observing;
mod overlaps;
mod ownership;
mod page;
mod passes;
mod plugin;
mod policies;
mod references;
mod renamed;
mod rights;
mod server;
mod several;
mod sizes;
mod speech;
mod stage;
mod take_over;
mod tenants;
mod uninstalling;
mod unreached;
mod upgrades;
