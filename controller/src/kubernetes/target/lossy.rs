//! Callers without the filter know the primary alone: where its update has no pod more, nobody answers them for that time.

use std::collections::BTreeSet;

use crate::kubernetes::kinds::{Pod, Target};
use crate::kubernetes::render::Names;
use crate::kubernetes::router::{Callers, callers_without_sidecar, is_of_arms, refused_callers};
use crate::kubernetes::stores::{Key, Stores};

/// Workloads that one sentence names.
const NAMED: usize = 5;

/// Returns which callers a promotion leaves without an answer, in a sentence: those whose requests pass no sidecar, those in namespaces
/// that may have none, and those that are known to split nothing (`unsplit`, by namespace and name).
pub(crate) fn lossy_update(
    stores: &Stores,
    names: &Names,
    target: &Target,
    callers: &Callers,
    unsplit: &[Key],
) -> Option<String> {
    let live = stores.target(names.kind, &names.namespace, &names.primary());
    let primary = live.as_ref().unwrap_or(target);
    let replicas = primary.replicas().map_or(1, |replicas| u32::try_from(replicas).unwrap_or(u32::MAX));
    if !primary.update_stops(replicas) {
        return None;
    }
    let bare = callers_without_sidecar(stores, names, callers).into_iter().map(|(pod, _)| pod);
    let unsplit = unsplit.iter().filter_map(|(namespace, name)| stores.pods.get(namespace, name));
    let is_own = is_of_arms(stores, names);
    let unsplit = unsplit.filter(|pod| !is_own(pod));
    // By their workloads: pods come and go, and each would be news.
    let without: BTreeSet<String> =
        bare.chain(refused_callers(stores, names, callers)).chain(unsplit).map(|pod| workload(&pod)).collect();
    let more = without.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let named: Vec<&str> = without.iter().take(NAMED).map(String::as_str).collect();
    (!named.is_empty()).then(|| {
        format!(
            "a promotion stops all pods of {} before new ones serve, and callers without the filter ({}{more}) get errors meanwhile, as \
             nothing leads them to the canary: give {} a RollingUpdate with maxSurge 1, or the callers the filter (the condition \
             GatewayBound says what each lacks)",
            names.primary(),
            named.join(", "),
            names.target
        )
    })
}

/// Returns the namespace and name of what a pod is one of many of, as far as its own name and labels say it.
fn workload(pod: &Pod) -> String {
    let name = match pod.label("pod-template-hash") {
        Some(hash) => pod.name().split(&format!("-{hash}-")).next().unwrap_or_default(),
        None => pod.label("job-name").or(pod.label("batch.kubernetes.io/job-name")).unwrap_or(pod.name()),
    };
    // A CronJob counts its Jobs by the minute.
    let name = name
        .rsplit_once('-')
        .filter(|(_, end)| end.len() == 8 && end.bytes().all(|byte| byte.is_ascii_digit()))
        .map_or(name, |(of, _)| of);
    format!("{}/{name}", pod.namespace())
}
