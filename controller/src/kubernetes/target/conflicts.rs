//! Names that Weir needs and somebody else has, and targets that another Canary releases.
//!
//! Weir writes by force, as everybody does who looks after fields for good. So it must not write what is not its own: that
//! would be overwritten, and deleted with the Canary.

use crate::kubernetes::executor::{foreign, foreign_target};
use crate::kubernetes::gateway::selects;
use crate::kubernetes::kinds::canary::{Canary, Fault};
use crate::kubernetes::kinds::{Pod, Target};
use crate::kubernetes::render::Names;
use crate::kubernetes::router::foreign_policy;
use crate::kubernetes::stores::Stores;

/// Returns why a Canary can have none of its objects: one word, and a sentence.
#[must_use]
pub(crate) fn taken(stores: &Stores, names: &Names, canary: &Canary) -> Option<Fault> {
    target_taken(stores, names, canary).or_else(|| {
        let (namespace, primary) = (&names.namespace, names.primary());
        let of_services = [names.primary_service(), names.canary_service()];
        let live = stores.target(names.kind, namespace, &primary);
        let scaler = names.scaler.as_ref().and_then(|name| stores.scalers.get(namespace, &format!("{name}-primary")));
        let services =
            of_services.iter().filter_map(|name| foreign(stores.services.get(namespace, name).as_deref(), names));
        let problem = foreign_target(live.as_ref(), names)
            .or_else(|| foreign(scaler.as_deref(), names))
            .or_else(|| services.chain(foreign_policy(stores, names)).next());
        problem.map(|problem| ("NameTaken", problem))
    })
}

/// Returns which other workload has pods that the target's selector finds too: the canary's Service would lead to both.
#[must_use]
pub(crate) fn shared(stores: &Stores, names: &Names, target: &Target) -> Option<Fault> {
    let selector = target.selector();
    let own = [names.target.clone(), names.primary()];
    let workload = stores.targets_of(&names.namespace).into_iter().find(|other| {
        let is_own = other.kind() == names.kind && own.iter().any(|own| own == other.name());
        !is_own && selects(selector, Some(other.pod_labels()))
    });
    let other = workload.map(|other| format!("{} {}", other.kind().word(), other.name())).or_else(|| {
        let pods = stores.pods.of(&names.namespace).into_iter();
        let mut pods = pods.filter(|pod| !pod.deleted() && selects(selector, pod.metadata.labels.as_ref()));
        let owner = |pod: &Pod| {
            let mut owners = pod.metadata.owner_references.iter().flatten();
            owners.find(|owner| ["StatefulSet", "DaemonSet"].contains(&owner.kind.as_str())).cloned()
        };
        pods.find_map(|pod| owner(&pod)).map(|owner| format!("{} {}", owner.kind, owner.name))
    })?;
    let text: Vec<String> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let problem = format!(
        "the selector {} of {} {} finds the pods of {other} too, so requests to the canary would reach both: give one of \
         the two a label of its own",
        text.join(","),
        names.kind.word(),
        names.target
    );
    Some(("SelectorShared", problem))
}

/// Of two Canaries with one target the one that has made something stays; of two that have made nothing, the first by name.
fn target_taken(stores: &Stores, names: &Names, canary: &Canary) -> Option<Fault> {
    let rank = |canary: &Canary| (canary.fields.status.last_promoted_spec.is_none(), canary.name().to_owned());
    let own = rank(canary);
    let other = stores.canaries.of(&names.namespace).into_iter().find(|other| {
        let target = other
            .fields
            .spec
            .as_ref()
            .is_ok_and(|spec| spec.target_ref.kind == names.kind.word() && spec.target_ref.name == names.target);
        target && other.name() != names.canary && rank(other) < own
    })?;
    let problem = format!(
        "{} {} is released by Canary {} already: delete one of the two Canaries, or give this one another target",
        names.kind.word(),
        names.target,
        other.name()
    );
    Some(("TargetTaken", problem))
}
