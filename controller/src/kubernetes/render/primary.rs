//! `T-primary`: the workload in production, a copy of the target's pod template of some revision.

use serde_json::{Map, Value, json};

use super::configs::{Configs, STARTED_WITH, refer_to_copies};
use super::labels::ArmLabels;
use super::names::{Names, REVISION, owned};
use crate::api::TargetKind;
use crate::kubernetes::api_server::owners::Owners;
use crate::kubernetes::kinds::config::hex;

/// Annotation of a primary: what was made of its revision's template, as a hash. Where today's Weir makes something else of it,
/// another one rendered the pods that run.
pub(crate) const RENDERING: &str = "weir.dev/rendering";

/// Returns the part of a target's spec that identifies its revision.
///
/// Some API servers serve an empty creation time where others leave it out. How Weir had the pods start anew is none of it.
#[must_use]
pub(crate) fn template_of(spec: &Value) -> Value {
    let mut template = spec.get("template").cloned().unwrap_or_default();
    if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("creationTimestamp");
        let annotations = metadata.get_mut("annotations").and_then(Value::as_object_mut);
        if annotations.is_some_and(|map| map.remove(STARTED_WITH).is_some() && map.is_empty()) {
            metadata.remove("annotations");
        }
    }
    template
}

/// Returns what is kept of a target for the promotion of its revision.
#[must_use]
pub(crate) fn snapshot(kind: TargetKind, spec: &Value) -> Value {
    let mut kept: Map<String, Value> =
        kind.rollout_fields().iter().filter_map(|key| Some(((*key).to_owned(), spec.get(*key)?.clone()))).collect();
    kept.insert("template".into(), template_of(spec));
    Value::Object(kept)
}

/// Renders the primary from what was kept of a revision. `configs` are those that the primary has copies of; `replicas` is left
/// to an autoscaler where it is `None`.
#[must_use]
pub(crate) fn primary(
    names: &Names,
    labels: &ArmLabels,
    revision: &str,
    snapshot: &Value,
    configs: &Configs,
    replicas: Option<i64>,
) -> Value {
    let ArmLabels { key, value, own, selector, .. } = labels;
    let mut spec = snapshot.as_object().cloned().unwrap_or_default();
    let mut template = spec.remove("template").unwrap_or_default();
    refer_to_copies(&mut template, names, configs);
    rename(&mut template["spec"], key, value, own);
    let metadata = metadata(&mut template);
    let pods = serde_json::from_value(metadata["labels"].take()).unwrap_or_default();
    metadata["labels"] = json!(labels.of_primary(&pods));
    metadata["annotations"][REVISION] = revision.into();
    let mut of_primary = owned(names, &names.primary());
    of_primary.insert("annotations".into(), json!({RENDERING: hex([&template.to_string()])}));
    spec.insert("template".into(), template);
    spec.insert("selector".into(), json!({"matchLabels": selector}));
    spec.extend(replicas.and_then(|replicas| names.kind.size(replicas).as_object().cloned()).into_iter().flatten());
    names.kind.object(of_primary, spec)
}

/// Leaves the pods of a `live` primary as they are where another Weir, older or newer, rendered the revision that they run: what
/// is rendered otherwise today comes with the next promotion, so that an upgrade restarts no pod. Returns whether it did, and
/// then what others added to the pods stays too.
pub(crate) fn keep_pods(wanted: &mut Value, live: &Value, owners: Option<&Owners>) -> bool {
    let rendering = live["metadata"]["annotations"].get(RENDERING).cloned();
    let Some(owners) = owners.filter(|_| rendering.as_ref() != wanted["metadata"]["annotations"].get(RENDERING)) else {
        return false;
    };
    let Some(kept) = owners.template(live, wanted) else { return false };
    let added = owners.additions(live, wanted).is_some_and(|added| added["spec"].get("template").is_some());
    if kept == wanted["spec"]["template"] && !added {
        return false;
    }
    wanted["spec"]["template"] = kept;
    if let Some(metadata) = wanted["metadata"].as_object_mut() {
        match rendering {
            Some(rendering) => metadata.insert("annotations".into(), json!({RENDERING: rendering})),
            None => metadata.remove("annotations"),
        };
    }
    true
}

/// Returns the template's metadata with both maps in it and without Flux's own keys, by which it would take the copy for its
/// own.
fn metadata(template: &mut Value) -> &mut Value {
    for map in ["labels", "annotations"] {
        let kept = template["metadata"][map].as_object().cloned().unwrap_or_default();
        let kept: Map<_, _> = kept.into_iter().filter(|(key, _)| !key.contains("toolkit.fluxcd.io/")).collect();
        template["metadata"][map] = kept.into();
    }
    &mut template["metadata"]
}

/// Makes rules about where pods go (affinity, anti-affinity, topology spread) speak of the primary's own pods.
fn rename(spec: &mut Value, key: &str, value: &str, own: &str) {
    let lists = [
        // A rule about the target's pods would leave the primary's without a place: the target has none at rest.
        ("/affinity/podAffinity/requiredDuringSchedulingIgnoredDuringExecution", "/labelSelector"),
        ("/affinity/podAffinity/preferredDuringSchedulingIgnoredDuringExecution", "/podAffinityTerm/labelSelector"),
        ("/topologySpreadConstraints", "/labelSelector"),
        ("/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution", "/labelSelector"),
        ("/affinity/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution", "/podAffinityTerm/labelSelector"),
    ];
    for (list, selector) in lists {
        for rule in spec.pointer_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(selector) = rule.pointer_mut(selector) {
                rename_selector(selector, key, value, own);
            }
        }
    }
}

/// Makes a selector of the target's pods one of the primary's.
pub(super) fn rename_selector(selector: &mut Value, key: &str, value: &str, own: &str) {
    if let Some(label) = selector.get_mut("matchLabels").and_then(|labels| labels.get_mut(key))
        && label == value
    {
        *label = own.into();
    }
    for expression in selector.get_mut("matchExpressions").and_then(Value::as_array_mut).into_iter().flatten() {
        if expression["key"] == key {
            let values = expression.get_mut("values").and_then(Value::as_array_mut);
            values.into_iter().flatten().filter(|found| **found == value).for_each(|found| *found = own.into());
        }
    }
}
