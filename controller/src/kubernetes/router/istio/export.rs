//! Whose requests in the mesh the routes of a Canary are for.
//!
//! A VirtualService of the mesh changes where requests of every namespace go. Whoever may make Canaries may have those of his own
//! service, as far as the Service itself is exported. Other hosts (of somebody's ServiceEntry, for instance, which nobody watches
//! here) are routed for his own namespace only.

use serde_json::Value;

use crate::api::CanarySpec;
use crate::api::service::on_mesh;
use crate::kubernetes::kinds::VirtualService;
use crate::kubernetes::render::Names;
use crate::kubernetes::stores::Stores;

/// Returns the hosts for which a Canary's own VirtualService is for its namespace only; none where it is for all. On gateways it has to
/// be exported, and who has which host there is known.
pub(in super::super) fn narrowed_by<'a>(
    stores: &Stores,
    names: &Names,
    spec: &'a CanarySpec,
    live: Option<&VirtualService>,
) -> Vec<&'a str> {
    let service = &spec.service;
    if service.delegation == Some(true) || service.gateways.iter().any(|gateway| gateway != "mesh") {
        return Vec::new();
    }
    let (namespace, domain) = (&names.namespace, &stores.settings.cluster_domain);
    let services = [names.apex.clone(), names.primary_service(), names.canary_service()];
    let places =
        [String::new(), format!(".{namespace}"), format!(".{namespace}.svc"), format!(".{namespace}.svc.{domain}")];
    let is_own = |host: &str| {
        let rest = services.iter().filter_map(|service| {
            let (start, rest) = host.split_at_checked(service.len())?;
            start.eq_ignore_ascii_case(service).then_some(rest)
        });
        rest.into_iter().any(|rest| places.iter().any(|place| place.eq_ignore_ascii_case(rest)))
    };
    let others: Vec<&str> = service.hosts.iter().map(String::as_str).filter(|host| !is_own(host)).collect();
    // What was routed for everybody before there was this rule goes on so.
    let has_been = |live: &VirtualService| {
        let (hosts, gateways) = (&live.fields.spec.hosts, &live.fields.spec.gateways);
        let exported = live.body()["spec"]["exportTo"] == Value::Null;
        exported && on_mesh(gateways) && others.iter().all(|host| hosts.iter().any(|known| known == host))
    };
    if live.is_some_and(has_been) { Vec::new() } else { others }
}

/// Returns whether nobody outside of its namespace knows a VirtualService.
pub(super) fn is_for_its_namespace(routes: &VirtualService) -> bool {
    let to = routes.body()["spec"]["exportTo"].take();
    let to = to.as_array().map(Vec::as_slice).unwrap_or_default();
    !to.is_empty() && to.iter().filter_map(Value::as_str).all(|to| [".", "~", routes.namespace()].contains(&to))
}
