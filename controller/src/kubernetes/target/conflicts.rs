//! Names that Weir needs and somebody else has, and targets that another Canary releases.
//!
//! Weir writes by force, as everybody does who looks after fields for good. So it must not write what is not its own: that
//! would be overwritten, and deleted with the Canary.

use crate::kubernetes::executor::{foreign, foreign_target};
use crate::kubernetes::gateway::selects;
use crate::kubernetes::kinds::canary::{Canary, Fault};
use crate::kubernetes::kinds::{Labels, Target};
use crate::kubernetes::render::{ArmLabels, CANARY_LABEL, Names};
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

/// Returns which other workload has pods that an arm's Service finds too: it would lead to both.
#[must_use]
pub(crate) fn shared(stores: &Stores, names: &Names, target: &Target) -> Option<Fault> {
    let primary = of_primary(stores, names, target).into_iter().map(|selector| ("primary", selector));
    let arms: Vec<_> = std::iter::once(("canary", target.selector().clone())).chain(primary).collect();
    let finds = |labels: Option<&Labels>| arms.iter().find(|(_, selector)| selects(selector, labels));
    let own = [names.target.clone(), names.primary()];
    let found = stores.targets_of(&names.namespace).into_iter().find_map(|other| {
        let is_own = other.kind() == names.kind && own.iter().any(|own| own == other.name());
        let arm = finds(Some(other.pod_labels())).filter(|_| !is_own)?;
        Some((arm, format!("{} {}", other.kind().word(), other.name())))
    });
    let found = found.or_else(|| {
        let pods = stores.pods.of(&names.namespace);
        pods.iter().filter(|pod| !pod.deleted()).find_map(|pod| {
            let mut owners = pod.metadata.owner_references.iter().flatten();
            let owner = owners.find(|owner| ["StatefulSet", "DaemonSet"].contains(&owner.kind.as_str()))?;
            let arm = finds(pod.metadata.labels.as_ref())?;
            Some((arm, format!("{} {}", owner.kind, owner.name)))
        })
    });
    let ((arm, selector), other) = found?;
    let text: Vec<String> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let problem = format!(
        "requests to the {arm} of {} {} would reach {other} too, as both have the label {}: give one of the two a label of its own",
        names.kind.word(),
        names.target,
        text.join(",")
    );
    Some(("SelectorShared", problem))
}

/// Returns what the primary's Service selects, once it is as it should be.
fn of_primary(stores: &Stores, names: &Names, target: &Target) -> Option<Labels> {
    let live = stores.target(names.kind, &names.namespace, &names.primary());
    let mut selector = ArmLabels::new(names, Some(target), live.as_ref(), target.pod_labels()).ok()?.primary;
    let service = stores.services.get(&names.namespace, &names.primary_service());
    let own = service.filter(|service| service.label(CANARY_LABEL) == Some(&names.canary));
    selector.extend(own.map(|service| service.fields.spec.selector.clone()).unwrap_or_default());
    Some(selector)
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
