//! Who says how many replicas an object has, from what the API server keeps for server-side apply.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;

use super::MANAGER;
use super::owners::WELCOME;

/// Programs by which people write the subresource `scale`. Whoever else does is an autoscaler: KEDA's operator, Datadog's, and many that
/// nobody here has heard of.
const SCALING_TOOLS: [&str; 3] = ["kubectl", "oc", "k9s"];

/// Returns whether somebody says how many replicas an object has, by an apply, an edit or `kubectl scale`, and it is neither Weir nor an
/// autoscaler.
#[must_use]
pub(super) fn others_size(entries: &[ManagedFieldsEntry]) -> bool {
    let declares = |(manager, by_scale): (&str, bool)| match by_scale {
        true => SCALING_TOOLS.contains(&manager),
        false => manager != MANAGER && !WELCOME.contains(&manager),
    };
    sizers(entries).any(declares)
}

/// Returns whether Weir says so, and nobody has changed the number since.
#[must_use]
pub(super) fn weir_sizes(entries: &[ManagedFieldsEntry]) -> bool {
    sizers(entries).any(|(manager, _)| manager == MANAGER)
}

/// Returns who wrote the number, and whether by the subresource `scale`.
fn sizers(entries: &[ManagedFieldsEntry]) -> impl Iterator<Item = (&str, bool)> {
    entries.iter().filter_map(|entry| {
        let by_scale = match entry.subresource.as_deref() {
            None | Some("") => false,
            Some("scale") => true,
            Some(_) => return None,
        };
        let sizes = entry.fields_v1.as_ref().is_some_and(|fields| fields.0["f:spec"].get("f:replicas").is_some());
        sizes.then(|| (entry.manager.as_deref().unwrap_or_default(), by_scale))
    })
}
