//! Objects that Weir makes, from what was decided and nothing else. Pure: the golden files in `golden/` show each of them.

mod configs;
mod destination_rule;
mod envoy_filter;
mod labels;
mod lost;
mod names;
mod original;
mod primary;
mod routes;
mod scaler;
mod service;

pub(crate) use configs::{CONFIGS, Configs, STARTED_WITH, copy, copy_name, digest, mark, references, started_with};
pub(crate) use destination_rule::destination_rule;
pub use envoy_filter::Module;
pub(crate) use envoy_filter::{
    EVERYWHERE, FilterNames, Proxies, config_filter, config_of, everywhere, names_of, static_filter, switched_of,
};
pub(crate) use labels::ArmLabels;
pub(crate) use lost::{foreign_destinations, lost, settings, union_of_conditions};
pub(crate) use names::{CANARY_LABEL, INHERITED, Names, Ownership, concerns, inherited_revision, owned, revision_of};
pub(crate) use original::{
    ORIGINAL, Serving, adopt, extended, kept_conditions, remember, restored, unreleased, without_own,
};
pub(crate) use primary::{keep_pods, primary, snapshot, template_of};
pub(crate) use routes::{Arms, route_names, routes_of_other_ports, virtual_service};
pub(crate) use scaler::scaler;
pub(crate) use service::{MainPort, Role, declares, is_of, main_port, ports, service};

#[cfg(test)]
mod tests;
