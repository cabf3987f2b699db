//! Pods of others that are to stand beside the target's, by these pods' labels.

use serde_json::Value;

use super::selector::finds;
use crate::kubernetes::kinds::{Labels, Target};
use crate::kubernetes::render::Names;
use crate::kubernetes::stores::Stores;

/// Returns the other workloads whose pods are to be where the target's are, and where the primary's are not asked for: once the target has
/// no pods, a pod of theirs finds no place when it starts again.
pub(super) fn beside(stores: &Stores, names: &Names, [target, primary]: [&Labels; 2]) -> Vec<String> {
    let own = [names.target.clone(), names.primary()];
    let others = stores.targets_of(&names.namespace).into_iter();
    let others = others.filter(|other| {
        let is_own = other.kind() == names.kind && own.iter().any(|own| own == other.name());
        !is_own && other.progress().wanted > 0 && other.mentions("podAffinity")
    });
    let misses = |selector: &Value| finds(selector, target) && !finds(selector, primary);
    let found = others.filter(|other| required(&other.template(), &names.namespace).any(|term| misses(&term)));
    found.map(|other| sentence(&other, names)).collect()
}

/// Returns the selectors of the pods of a namespace that a pod of it must stand beside. One that has a selector of namespaces, or names
/// them, may mean others.
fn required(template: &Value, namespace: &str) -> impl Iterator<Item = Value> {
    let terms = &template["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    let terms: Vec<Value> = terms.as_array().cloned().unwrap_or_default();
    let namespace = namespace.to_owned();
    let here = move |term: &Value| match term["namespaces"].as_array().filter(|all| !all.is_empty()) {
        Some(all) => all.iter().any(|it| *it == namespace),
        None => term["namespaceSelector"].as_object().is_none_or(serde_json::Map::is_empty),
    };
    // Without a selector it finds nothing.
    terms.into_iter().filter(here).map(|term| term["labelSelector"].clone()).filter(|selector| !selector.is_null())
}

fn sentence(other: &Target, names: &Names) -> String {
    format!(
        "the pods of {} {} must stand beside those of {} (podAffinity), and not beside those of {}, which serve: they find no place when \
         they start again, so let the rule name both",
        other.kind().word(),
        other.name(),
        names.target,
        names.primary()
    )
}
