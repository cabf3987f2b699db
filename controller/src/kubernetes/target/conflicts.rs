//! Names that Weir needs and somebody else has, and targets that another Canary releases.
//!
//! Weir writes by force, as everybody does who looks after fields for good. So it must not write what is not its own: that
//! would be overwritten, and deleted with the Canary.

use crate::kubernetes::executor::{foreign, foreign_target, standing};
use crate::kubernetes::kinds::canary::{Canary, Fault};
use crate::kubernetes::kinds::selects;
use crate::kubernetes::kinds::{Labels, Pod, Target, labels_text};
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
    let standing = standing(stores, names);
    let stands = |other: &Target| standing.as_ref().is_some_and(|standing| standing.name() == other.name());
    let found = stores.targets_of(&names.namespace).into_iter().find_map(|other| {
        let is_own = other.kind() == names.kind && own.iter().any(|own| own == other.name()) || stands(&other);
        let arm = finds(Some(other.pod_labels())).filter(|_| !is_own)?;
        Some((arm, format!("{} {}", other.kind().word(), other.name())))
    });
    let found = found.or_else(|| other_workload(stores, names, finds));
    let ((arm, selector), other) = found?;
    let problem = format!(
        "requests to the {arm} of {} {} would reach {other} too, as both have the label {}: give one of the two a label of its own",
        names.kind.word(),
        names.target,
        labels_text(selector)
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
    });
    let (kind, target) = (names.kind.word(), &names.target);
    if let Some(other) = other {
        let problem = format!(
            "{kind} {target} is released by Canary {} already: delete one of the two Canaries, or give this one another target",
            other.name()
        );
        return Some(("TargetTaken", problem));
    }
    if let Some(problem) = service_taken(stores, names, rank, &own) {
        return Some(("NameTaken", problem));
    }
    // It would be scaled to 0, as every target is at rest.
    let live = stores.target(names.kind, &names.namespace, target)?;
    let owner = live.metadata().labels.as_ref()?.get(CANARY_LABEL)?;
    let is_primary =
        live.metadata().owner_references.iter().flatten().any(|it| it.kind == "Canary" && it.name == *owner);
    is_primary.then(|| {
        let problem =
            format!("{kind} {target} is what Canary {owner} has in production: give this Canary another target");
        ("TargetTaken", problem)
    })
}

/// Of two Canaries with one service none of which has made it yet, the same one has it.
fn service_taken<R: Ord>(stores: &Stores, names: &Names, rank: impl Fn(&Canary) -> R, own: &R) -> Option<String> {
    let (namespace, apex) = (&names.namespace, &names.apex);
    if stores.services.get(namespace, apex).is_some_and(|live| live.label(CANARY_LABEL).is_some()) {
        return None;
    }
    let other = stores.canaries.of(namespace).into_iter().find(|other| {
        let same = other.fields.spec.as_ref().is_ok_and(|spec| spec.apex() == apex);
        same && other.name() != names.canary && !other.deleted() && rank(other) < *own
    })?;
    Some(format!("Service {apex} is to be of Canary {}: give one of the two another service.name", other.name()))
}

/// Returns which other workload's pods a Service finds, which would get none of its requests any more once it leads to the primary.
#[must_use]
pub(crate) fn served_beside(stores: &Stores, names: &Names, selector: &Labels) -> Option<String> {
    let own = [names.target.clone(), names.primary()];
    let targets = stores.targets_of(&names.namespace);
    let is_own = |other: &Target| other.kind() == names.kind && own.iter().any(|own| own == other.name());
    // A size of 0 is served by nobody.
    let mut others = targets.iter().filter(|other| !is_own(other) && other.progress().wanted > 0);
    let other = others.find(|other| selects(selector, Some(other.pod_labels())));
    other.map(|other| format!("{} {}", other.kind().word(), other.name())).or_else(|| {
        other_workload(stores, names, |labels| selects(selector, labels).then_some(())).map(|((), other)| other)
    })
}

/// Returns which pods of nobody's for long, a Job's or a person's, an arm's Service finds: as long as they run they are sent requests.
#[must_use]
pub(crate) fn passing(stores: &Stores, names: &Names, target: &Target) -> Option<String> {
    let pods = stores.pods.of(&names.namespace);
    let found =
        pods.iter().filter(|pod| runs(pod)).filter(|pod| selects(target.selector(), pod.metadata.labels.as_ref()));
    let what = found.filter_map(|pod| {
        // A ReplicaSet's owner is not kept of a pod, but its own label is there.
        let of_set = pod.label("pod-template-hash").is_some();
        match pod.metadata.owner_references.iter().flatten().next() {
            Some(owner) => PASSING.contains(&owner.kind.as_str()).then(|| format!("{} {}", owner.kind, owner.name)),
            None => (!of_set).then(|| format!("Pod {}", pod.name())),
        }
    });
    let what = what.min()?;
    Some(format!(
        "{what} has the label {} of {}, and is sent requests of the canary as long as it runs: give it another one",
        labels_text(target.selector()),
        names.target
    ))
}

/// Owners whose pods end by themselves.
const PASSING: [&str; 3] = ["Job", "TaskRun", "Workflow"];

/// One that has ended serves nobody, and is kept for its log.
fn runs(pod: &Pod) -> bool {
    !pod.deleted() && !["Succeeded", "Failed"].contains(&&*pod.fields.status.phase)
}

/// Returns what is found of the pods of workloads that no Canary releases: of whatever kind these are, known here or not.
fn other_workload<T>(
    stores: &Stores,
    names: &Names,
    finds: impl Fn(Option<&Labels>) -> Option<T>,
) -> Option<(T, String)> {
    let pods = stores.pods.of(&names.namespace);
    pods.iter().filter(|pod| runs(pod)).find_map(|pod| {
        let owner = pod.metadata.owner_references.iter().flatten().next()?;
        if PASSING.contains(&owner.kind.as_str()) {
            return None;
        }
        Some((finds(pod.metadata.labels.as_ref())?, format!("{} {}", owner.kind, owner.name)))
    })
}
