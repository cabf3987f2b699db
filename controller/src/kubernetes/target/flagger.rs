//! What Flagger controls of the objects around a Canary: never written, until somebody asks Weir to take it over.
//!
//! Flagger owns what it makes by a controller reference, and the garbage collector deletes all of it with Flagger's Canary. So the
//! references are replaced while that Canary is there and suspended, and the objects stay as they are: see
//! `reconcile/take_over.rs`.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use kube::api::{ApiResource, DynamicObject};
use serde_json::{Value, json};

use crate::kubernetes::api_server::MANAGER;
use crate::kubernetes::api_server::cache::Cache;
use crate::kubernetes::api_server::object::{Cached, Projection, resource};
use crate::kubernetes::kinds::Target;
use crate::kubernetes::kinds::canary::Fault;
use crate::kubernetes::kinds::config::Config;
use crate::kubernetes::render::{Names, STARTED_WITH, references, template_of};
use crate::kubernetes::router;
use crate::kubernetes::stores::Stores;

/// The reason of a Canary whose objects another controller controls: Weir writes none of them.
pub(crate) const CONTROLLED: &str = "ControlledByFlagger";

/// Annotation of a Canary by which somebody asks Weir to take over what another controller controls: its name.
pub(crate) const TAKE_OVER: &str = "weir.dev/take-over";
/// The value of [`TAKE_OVER`]; also Flagger's field manager.
pub(crate) const FLAGGER: &str = "flagger";
/// Flagger's group.
const GROUP: &str = "flagger.app";
/// Annotation by which Flagger has a Deployment's pods replaced.
const FLAGGER_ID: &str = "flagger-id";

/// An object around a Canary, whatever its kind.
pub(crate) struct Around {
    /// How the API calls its kind.
    pub(crate) resource: ApiResource,
    /// The kind.
    pub(crate) kind: &'static str,
    /// Whose it is.
    pub(crate) metadata: ObjectMeta,
}

impl Around {
    /// Returns an object of a cache, if there is one.
    pub(crate) fn of<V: Projection>(cache: &Cache<V>, namespace: &str, name: &str) -> Option<Self> {
        let live = cache.get(namespace, name)?;
        Some(Self { resource: resource::<V>(), kind: V::KIND, metadata: live.metadata.clone() })
    }

    /// Returns all objects of a namespace.
    pub(crate) fn all<V: Projection>(cache: &Cache<V>, namespace: &str) -> Vec<Self> {
        let of =
            |live: &Arc<Cached<V>>| Self { resource: resource::<V>(), kind: V::KIND, metadata: live.metadata.clone() };
        cache.of(namespace).iter().map(of).collect()
    }

    /// Returns the object's name.
    pub(crate) fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }
}

/// What Flagger controls, and by which of its Canaries.
pub(crate) struct Controlled {
    /// Flagger's Canary.
    pub(crate) canary: String,
    /// Its uid.
    pub(crate) uid: String,
    /// The objects: none of them is written.
    pub(crate) objects: Vec<Around>,
}

impl Controlled {
    /// Returns whether a Canary of Flagger's is the one that controls the objects.
    #[must_use]
    pub(crate) fn is_of(&self, flaggers: &DynamicObject) -> bool {
        flaggers.metadata.uid.as_ref() == Some(&self.uid)
    }

    /// Says what Flagger controls, and how Weir is asked to take it over.
    #[must_use]
    pub(crate) fn fault(&self, names: &Names) -> Fault {
        let objects: Vec<String> = self.objects.iter().map(|it| format!("{} {}", it.kind, it.name())).collect();
        let (namespace, canary) = (&names.namespace, &names.canary);
        let problem = format!(
            "canaries.flagger.app {} controls {}: to have Weir take them over without an outage, run kubectl -n {namespace} annotate \
             canaries.weir.dev {canary} {TAKE_OVER}={FLAGGER}",
            self.canary,
            objects.join(", ")
        );
        (CONTROLLED, problem)
    }
}

/// Returns the objects that a Canary needs, whosever they are.
pub(crate) fn around(stores: &Stores, names: &Names) -> Vec<Around> {
    let namespace = &names.namespace;
    let primary = stores.target(names.kind, namespace, &names.primary());
    let scaler = names.scaler.as_ref().map(|name| format!("{name}-primary"));
    let services = [names.apex.clone(), names.primary_service(), names.canary_service()];
    let mut around: Vec<Around> = primary.iter().map(of_target).collect();
    around.extend(scaler.and_then(|name| Around::of(&stores.scalers, namespace, &name)));
    around.extend(services.iter().filter_map(|name| Around::of(&stores.services, namespace, name)));
    around.extend(router::around(stores, names));
    around
}

/// Returns what Flagger controls of the objects that a Canary needs, if it controls any.
#[must_use]
pub(crate) fn controlled(stores: &Stores, names: &Names) -> Option<Controlled> {
    let mut found: Option<Controlled> = None;
    for object in around(stores, names) {
        let Some((canary, uid)) = controller_of(&object.metadata) else { continue };
        let objects =
            &mut found.get_or_insert_with(|| Controlled { canary, uid: uid.clone(), objects: Vec::new() }).objects;
        objects.push(object);
    }
    found
}

pub(super) fn of_target(target: &Target) -> Around {
    let kind = target.kind();
    Around { resource: kind.resource(), kind: kind.word(), metadata: target.metadata().clone() }
}

/// Returns name and uid of the Canary of Flagger's that controls an object.
#[must_use]
pub(crate) fn controller_of(metadata: &ObjectMeta) -> Option<(String, String)> {
    let owners = metadata.owner_references.iter().flatten();
    let group = format!("{GROUP}/");
    let mut ours = owners.filter(|owner| owner.controller == Some(true) && owner.api_version.starts_with(&group));
    ours.next().map(|owner| (owner.name.clone(), owner.uid.clone()))
}

/// Returns how the API calls Flagger's Canaries.
#[must_use]
pub(crate) fn canaries() -> ApiResource {
    ApiResource {
        group: GROUP.into(),
        version: "v1beta1".into(),
        api_version: format!("{GROUP}/v1beta1"),
        kind: "Canary".into(),
        plural: "canaries".into(),
    }
}

/// Returns why Flagger is in the middle of something, by what it says of its Canary.
#[must_use]
pub(crate) fn under_way(canary: &Value) -> Option<String> {
    let phase = canary["status"]["phase"].as_str().unwrap_or_default();
    if ["Initialized", "Waiting", "Succeeded", "Failed"].contains(&phase) {
        return None;
    }
    let weight = canary["status"]["canaryWeight"].as_i64().unwrap_or_default();
    Some(format!("its phase is {}, weight {weight}", if phase.is_empty() { "unknown" } else { phase }))
}

/// Returns whether a primary that Flagger made runs what the target declares now: the same pods but for the names that Flagger gives
/// to labels and to copies of configs, whose content is compared too.
#[must_use]
pub(crate) fn runs_target(stores: &Stores, target: &Target, primary: &Target) -> bool {
    let (of_target, of_primary) = (pods(&target.spec()), pods(&primary.spec()));
    if !is_alike(&of_target, &of_primary) {
        return false;
    }
    let namespace = target.namespace();
    let copies = references(&of_primary);
    references(&of_target).iter().all(|config| {
        let copy = format!("{}-primary", config.name);
        if !copies.iter().any(|other| other.kind == config.kind && other.name == copy) {
            return true;
        }
        same(&stores.config_maps, namespace, &config.name, &copy)
            || same(&stores.secrets, namespace, &config.name, &copy)
    })
}

/// Returns whether two configs of a kind have the same content; of those that Weir does not know it is nobody's to say.
fn same<V: Config>(cache: &Cache<V>, namespace: &str, one: &str, other: &str) -> bool {
    let digest = |name: &str| cache.get(namespace, name).map(|it| *it.fields.digest());
    digest(one).is_some() && digest(one) == digest(other)
}

/// Returns a pod template without what Flagger and Weir add to its annotations.
fn pods(spec: &Value) -> Value {
    let mut template = template_of(spec);
    if let Some(annotations) = template.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.retain(|key, _| key != FLAGGER_ID && key != STARTED_WITH && !key.contains("toolkit.fluxcd.io/"));
    }
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.retain(|key, _| !key.contains("toolkit.fluxcd.io/"));
    }
    template
}

/// Returns whether two values are the same but for `-primary` at the end of some texts of the second. Absent and empty are one.
fn is_alike(one: &Value, other: &Value) -> bool {
    let is_nothing = |value: &Value| match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            one.iter().all(|(key, value)| is_alike(value, other.get(key).unwrap_or(&Value::Null)))
                && other.iter().all(|(key, value)| one.contains_key(key) || is_nothing(value))
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_alike(one, other))
        }
        (Value::String(one), Value::String(other)) => {
            one == other || other.strip_suffix("-primary") == Some(one.as_str())
        }
        (one, other) => one == other || (is_nothing(one) && is_nothing(other)),
    }
}

/// Returns who owns which field once what Flagger wrote of a spec is Weir's, as if Weir had applied it: the next apply then takes out
/// what it says no more, in the same write.
#[must_use]
pub(crate) fn reowned(entries: &[ManagedFieldsEntry]) -> Value {
    let mut all: Vec<Value> = entries.iter().map(|entry| json!(entry)).collect();
    let is_of = |entry: &Value, manager: &str, operation: &str| {
        entry["manager"] == manager
            && entry["operation"] == operation
            && entry["subresource"].as_str().is_none_or(str::is_empty)
    };
    let mut spec = Value::Null;
    for entry in all.iter_mut().filter(|entry| is_of(entry, FLAGGER, "Update")) {
        if let Some(mut fields) = entry["fieldsV1"].as_object_mut().and_then(|fields| fields.remove("f:spec")) {
            // How many pods there are is said by whoever sizes them.
            fields.as_object_mut().and_then(|fields| fields.remove("f:replicas"));
            union(&mut spec, fields);
        }
    }
    all.retain(|entry| entry["fieldsV1"].as_object().is_none_or(|fields| !fields.is_empty()));
    if spec.is_null() {
        return all.into();
    }
    match all.iter_mut().find(|entry| is_of(entry, MANAGER, "Apply")) {
        Some(own) => union(&mut own["fieldsV1"]["f:spec"], spec),
        None => {
            let version = entries.first().and_then(|entry| entry.api_version.clone());
            let time = entries.iter().filter_map(|entry| entry.time.clone()).next_back();
            all.push(json!({
                "manager": MANAGER, "operation": "Apply", "apiVersion": version, "time": time, "fieldsType": "FieldsV1",
                "fieldsV1": {"f:spec": spec},
            }));
        }
    }
    all.into()
}

fn union(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            more.into_iter().for_each(|(key, value)| union(into.entry(key).or_insert_with(|| json!({})), value));
        }
        (into @ Value::Null, more) => *into = more,
        _ => {}
    }
}

/// Returns whether somebody has written a pod template since a time, as the API server has it.
#[must_use]
pub(crate) fn changed_since(entries: &[ManagedFieldsEntry], time: Option<&str>) -> bool {
    let Some(time) = time else { return true };
    let wrote = |entry: &&ManagedFieldsEntry| {
        entry.fields_v1.as_ref().is_some_and(|fields| fields.0["f:spec"].get("f:template").is_some())
    };
    // Both are of one form, to the second.
    entries.iter().filter(wrote).filter_map(|entry| json!(entry.time).as_str().map(str::to_owned)).any(|at| *at > *time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_that_differ_in_flaggers_names_alone_are_alike() {
        let of = |label: &str, config: &str, image: &str| {
            let annotations = json!({"flagger-id": config, "team": "cart"});
            pods(&json!({"template": {
                "metadata": {"labels": {"app": label}, "annotations": annotations},
                "spec": {"containers": [{"name": "c", "image": image, "envFrom": [{"configMapRef": {"name": config}}], "resources": {}}]},
            }}))
        };
        let target = of("shop", "settings", "shop:1");
        assert!(is_alike(&target, &of("shop-primary", "settings-primary", "shop:1")));
        assert!(!is_alike(&target, &of("shop-primary", "settings-primary", "shop:2")));
        assert!(!is_alike(&target, &of("shop-canary", "settings-primary", "shop:1")));
        assert!(!is_alike(&of("shop-primary", "settings", "shop:1"), &target), "the names are the primary's");
    }

    #[test]
    fn what_flagger_wrote_of_a_spec_becomes_what_weir_applied() {
        let entry = |manager: &str, operation: &str, fields: Value| {
            serde_json::from_value::<ManagedFieldsEntry>(json!({
                "manager": manager, "operation": operation, "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": fields,
            }))
            .unwrap()
        };
        let flaggers = json!({"f:metadata": {"f:labels": {}}, "f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:containers": {}}}}});
        let status = json!({"f:status": {}});
        let found = reowned(&[
            entry("flagger", "Update", flaggers.clone()),
            entry("kube-controller-manager", "Update", status.clone()),
        ]);
        assert_eq!(found[0]["fieldsV1"], json!({"f:metadata": {"f:labels": {}}}));
        assert_eq!(found[1]["fieldsV1"], status);
        assert_eq!((&found[2]["manager"], &found[2]["operation"]), (&json!("weir"), &json!("Apply")));
        assert_eq!(found[2]["fieldsV1"], json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {}}}}}));
        // Once more, on top of what Weir applied.
        let own = json!({"f:spec": {"f:selector": {}}});
        let found = reowned(&[entry("flagger", "Update", flaggers), entry("weir", "Apply", own)]);
        assert_eq!(found[1]["fieldsV1"]["f:spec"].as_object().unwrap().len(), 2);
    }

    #[test]
    fn flagger_is_under_way_in_every_phase_of_a_rollout_and_before_its_first_one() {
        let phase = |phase: &str| under_way(&json!({"status": {"phase": phase, "canaryWeight": 30}}));
        for at_rest in ["Initialized", "Waiting", "Succeeded", "Failed"] {
            assert_eq!(phase(at_rest), None, "{at_rest}");
        }
        for moving in ["", "Initializing", "Progressing", "WaitingPromotion", "Promoting", "Finalising", "Terminating"]
        {
            assert!(phase(moving).is_some(), "{moving}");
        }
        assert_eq!(phase("Progressing").unwrap(), "its phase is Progressing, weight 30");
    }
}
