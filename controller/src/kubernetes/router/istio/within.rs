//! Which hosts of a Canary inside of the mesh another Canary of its own namespace has: a sidecar follows the older routes alone.

use std::cmp::Reverse;

use super::host_owner::is_stalled;
use crate::api::CanarySpec;
use crate::kubernetes::kinds::canary::{Canary, Fault};
use crate::kubernetes::render::Names;
use crate::kubernetes::stores::Stores;

/// Returns which host of a Canary is another one's of its namespace: the word for it, and a sentence. The name of a Service is its own
/// Canary's; any other host the older one's. Two that have conditions for their requests (`match`) are told apart by those.
pub(in super::super) fn shared_host(stores: &Stores, names: &Names, spec: &CanarySpec) -> Option<Fault> {
    let service = &spec.service;
    if !service.is_on_mesh() || service.hosts.is_empty() {
        return None;
    }
    let (namespace, domain) = (&names.namespace, &stores.settings.cluster_domain);
    let whole = |host: &str| match host.contains('.') || host == "*" {
        true => host.to_ascii_lowercase(),
        false => format!("{}.{namespace}.svc.{domain}", host.to_ascii_lowercase()),
    };
    let age = |canary: &Canary| (Reverse(canary.made_at()), Reverse(canary.name().to_owned()));
    let own = age(&*stores.canaries.get(namespace, &names.canary)?);
    let mut others = stores.canaries.of(namespace);
    others.retain(|other| other.name() != names.canary && !other.deleted() && !is_stalled(other));
    let hosts = service.hosts.iter().enumerate().filter(|(_, host)| whole(host) != whole(&names.apex));
    hosts.into_iter().find_map(|(i, host)| {
        let full = whole(host);
        let other = others.iter().find(|other| {
            let Ok(theirs) = &other.fields.spec else { return false };
            let on_mesh = theirs.service.is_on_mesh();
            let apart = !service.r#match.is_empty() && !theirs.service.r#match.is_empty();
            let listed = || theirs.service.hosts.iter().any(|theirs| whole(theirs) == full);
            on_mesh && !apart && (whole(theirs.apex()) == full || listed() && age(other) > own)
        })?;
        let problem = format!(
            "spec.service.hosts[{i}]: {host} is a host of Canary {} too, and inside of the mesh the requests follow the routes of one: \
             remove it from one of the two",
            other.name()
        );
        Some(("HostTaken", problem))
    })
}
