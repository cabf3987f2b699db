//! Who wrote which field of an object, from what the API server keeps for server-side apply.
//!
//! A live object that holds everything wanted may hold more: what Weir wanted once and wants no more, and what somebody added
//! to an object that is Weir's own. Defaults of the server and what admission adds belong to nobody, and stay.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::{Map, Value, json};

use super::MANAGER;
use super::cover::is_nothing;

/// Fields of the metadata that say which object it is: nobody owns them.
const IDENTITY: [&str; 4] = ["name", "namespace", "uid", "resourceVersion"];
/// Writers whose part of an object of Weir's own is wanted: the controllers of Kubernetes, the primary's autoscaler, and who
/// has pods read a changed config again.
pub(super) const WELCOME: [&str; 3] = ["kube-controller-manager", "weir-autoscaled", "Reloader"];

/// Who wrote which field of one object: as text, since there are many objects and this is seldom looked at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Owners {
    /// Weir's, by its applies.
    own: Box<str>,
    /// Those of everybody else in the spec; empty as a rule.
    others: Vec<Others>,
}

/// What one other writer wrote of the spec.
#[derive(Clone, Debug)]
struct Others {
    /// Whether as an object of his own: by an apply, on the server's side or on kubectl's. Whoever edits a live object changes that.
    applied: bool,
    fields: Box<str>,
}

/// Annotation by which kubectl applies on its own side.
const LAST_APPLIED: &str = "f:kubectl.kubernetes.io/last-applied-configuration";

impl Owners {
    /// Reads what the API server says.
    #[must_use]
    pub(crate) fn of(entries: &[ManagedFieldsEntry]) -> Self {
        let mut owners = Self::default();
        for entry in entries.iter().filter(|entry| entry.subresource.as_ref().is_none_or(String::is_empty)) {
            let Some(fields) = &entry.fields_v1 else { continue };
            let manager = entry.manager.as_deref().unwrap_or_default();
            if manager == MANAGER && entry.operation.as_deref() == Some("Apply") {
                owners.own = fields.0.to_string().into();
            } else if manager != MANAGER && !WELCOME.contains(&manager) {
                let by_kubectl = fields.0["f:metadata"]["f:annotations"].get(LAST_APPLIED).is_some();
                let applied = by_kubectl || entry.operation.as_deref() == Some("Apply");
                let spec = fields.0.get("f:spec").map(|spec| spec.to_string().into());
                owners.others.extend(spec.map(|fields| Others { applied, fields }));
            }
        }
        owners
    }

    /// Returns whether Weir owns what it wants and nothing else.
    #[must_use]
    pub(crate) fn are_settled(&self, wanted: &Value) -> bool {
        let mut wanted = wanted.clone();
        if let Some(map) = wanted.as_object_mut() {
            map.remove("apiVersion");
            map.remove("kind");
        }
        if let Some(metadata) = wanted.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|field, _| !IDENTITY.contains(&field.as_str()));
        }
        owns_exactly(&self.own(), &wanted)
    }

    /// Returns whether Weir wrote an annotation.
    #[must_use]
    pub(crate) fn wrote_annotation(&self, key: &str) -> bool {
        self.wrote(&["metadata", "annotations", key])
    }

    /// Returns whether Weir wrote a field, by its path.
    #[must_use]
    pub(crate) fn wrote(&self, path: &[&str]) -> bool {
        let own = self.own();
        path.iter().try_fold(&own, |at, field| at.get(format!("f:{field}"))).is_some()
    }

    /// Returns whether somebody else has applied an object of his own that says a field of the spec.
    #[must_use]
    pub(crate) fn others_applied(&self, field: &str) -> bool {
        let applied = self.others.iter().filter(|others| others.applied);
        applied.map(Others::spec).any(|spec| spec.get(format!("f:{field}")).is_some())
    }

    /// Returns whether somebody else wrote something of a field of the spec.
    #[must_use]
    pub(crate) fn others_wrote(&self, field: &str) -> bool {
        self.others().any(|spec| spec.get(format!("f:{field}")).is_some())
    }

    /// Returns the merge patch that takes out of a live object what others added to its spec, where they did.
    #[must_use]
    pub(crate) fn additions(&self, live: &Value, wanted: &Value) -> Option<Value> {
        let mut patch = Value::Null;
        for spec in self.others() {
            if let Some(found) = additions(&spec, &live["spec"], wanted.get("spec"), "spec") {
                merge(&mut patch, found);
            }
        }
        (!patch.is_null()).then(|| json!({"spec": patch}))
    }

    /// Returns the pod template as Weir wrote it last, read from the live workload. What others wrote over it is as `wanted` has it;
    /// what they added is left out.
    #[must_use]
    pub(crate) fn template(&self, live: &Value, wanted: &Value) -> Option<Value> {
        let own = self.own()["f:spec"]["f:template"].take();
        let mut kept = owned(own.as_object().map(|_| &own)?, live.pointer("/spec/template")?);
        for theirs in self.others().filter_map(|spec| spec.get("f:template").cloned()) {
            restore(&mut kept, &theirs, &wanted["spec"]["template"]);
        }
        Some(kept)
    }

    fn own(&self) -> Value {
        serde_json::from_str(&self.own).unwrap_or_default()
    }

    fn others(&self) -> impl Iterator<Item = Value> {
        self.others.iter().map(Others::spec)
    }
}

impl Others {
    fn spec(&self) -> Value {
        serde_json::from_str(&self.fields).unwrap_or_default()
    }
}

/// Returns the item of a list that `fieldsV1` means by `k:{…}` or `v:…`.
fn item<'a>(list: &'a [Value], part: &str) -> Option<&'a Value> {
    if let Some(text) = part.strip_prefix("v:") {
        let wanted: Value = serde_json::from_str(text).ok()?;
        return list.iter().find(|item| **item == wanted);
    }
    let key: Map<String, Value> = serde_json::from_str(part.strip_prefix("k:")?).ok()?;
    // The one key that has a default.
    let is = |item: &Value, field: &str, value: &Value| match item.get(field) {
        Some(found) => found == value,
        None => field == "protocol" && value == "TCP",
    };
    list.iter().find(|item| key.iter().all(|(field, value)| is(item, field, value)))
}

fn owns_exactly(own: &Value, wanted: &Value) -> bool {
    let Some(own) = own.as_object() else { return is_nothing(wanted) };
    let parts = || own.iter().filter(|(part, _)| *part != ".");
    match wanted {
        // A leaf: all of it is owned as one.
        _ if own.is_empty() => true,
        Value::Object(map) => {
            let wants = |(part, inner): (&String, &Value)| {
                let field = part.strip_prefix("f:").and_then(|field| map.get(field));
                field.is_some_and(|field| !field.is_null() && owns_exactly(inner, field))
            };
            parts().all(wants)
                && map.iter().all(|(field, value)| is_nothing(value) || own.contains_key(&format!("f:{field}")))
        }
        Value::Array(list) => {
            let wants =
                |(part, inner): (&String, &Value)| item(list, part).is_some_and(|item| owns_exactly(inner, item));
            parts().count() == list.len() && parts().all(wants)
        }
        _ => parts().count() == 0,
    }
}

/// Returns what of a live value is owned.
fn owned(own: &Value, live: &Value) -> Value {
    let Some(parts) = own.as_object().filter(|parts| !parts.is_empty()) else { return live.clone() };
    match live {
        Value::Object(map) => {
            let field = |(field, value): (&String, &Value)| {
                Some((field.clone(), owned(parts.get(&format!("f:{field}"))?, value)))
            };
            map.iter().filter_map(field).collect()
        }
        Value::Array(list) => {
            let found = |value: &Value| {
                let part = parts.iter().find(|(part, _)| item(std::slice::from_ref(value), part).is_some());
                part.map(|(_, inner)| owned(inner, value))
            };
            list.iter().filter_map(found).collect()
        }
        other => other.clone(),
    }
}

/// Makes what others wrote in a value what it is `wanted` to be, where that says anything of it.
fn restore(value: &mut Value, theirs: &Value, wanted: &Value) {
    let Some(parts) = theirs.as_object().filter(|parts| !parts.is_empty()) else { return value.clone_from(wanted) };
    match wanted {
        Value::Object(map) => {
            if value.is_null() {
                *value = json!({});
            }
            let Some(value) = value.as_object_mut() else { return };
            for (part, inner) in parts {
                let Some((field, wanted)) = part.strip_prefix("f:").and_then(|field| map.get_key_value(field)) else {
                    continue;
                };
                let mut found = value.remove(field).unwrap_or_default();
                restore(&mut found, inner, wanted);
                if !is_nothing(&found) {
                    value.insert(field.clone(), found);
                }
            }
        }
        Value::Array(list) => {
            if value.is_null() {
                *value = json!([]);
            }
            let Some(value) = value.as_array_mut() else { return };
            for (part, inner) in parts {
                let Some(wanted) = item(list, part) else { continue };
                match value.iter_mut().find(|value| item(std::slice::from_ref(*value), part).is_some()) {
                    Some(value) => restore(value, inner, wanted),
                    None => value.push(wanted.clone()),
                }
            }
        }
        _ => {}
    }
}

fn additions(theirs: &Value, live: &Value, wanted: Option<&Value>, field: &str) -> Option<Value> {
    // How many there are is said by others; restarts and what they note in pods are no part of what runs.
    if field == "replicas" || field == "annotations" {
        return None;
    }
    let Some(wanted) = wanted.filter(|wanted| !is_nothing(wanted)) else {
        return (!live.is_null()).then_some(Value::Null);
    };
    let parts = theirs.as_object()?;
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            let mut patch = Map::new();
            for (part, inner) in parts {
                let Some(field) = part.strip_prefix("f:") else { continue };
                let found = live.get(field).and_then(|live| additions(inner, live, wanted.get(field), field));
                patch.extend(found.map(|found| (field.to_owned(), found)));
            }
            (!patch.is_empty()).then(|| patch.into())
        }
        // A merge patch replaces lists as a whole.
        (Value::Array(live), Value::Array(list)) => {
            let added = |(part, inner): (&String, &Value)| {
                let Some(found) = item(live, part) else { return false };
                match item(list, part) {
                    Some(wanted) => additions(inner, found, Some(wanted), "").is_some(),
                    None => true,
                }
            };
            parts.iter().filter(|(part, _)| *part != ".").any(added).then(|| wanted.clone())
        }
        _ => None,
    }
}

fn merge(into: &mut Value, patch: Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (field, value) in patch {
                match into.get_mut(&field) {
                    Some(known) => merge(known, value),
                    None => drop(into.insert(field, value)),
                }
            }
        }
        (into, patch) => *into = patch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::FieldsV1;

    fn owners(rows: &[(&str, &str, Value)]) -> Owners {
        let entry = |(manager, operation, fields): &(&str, &str, Value)| ManagedFieldsEntry {
            manager: Some((*manager).into()),
            operation: Some((*operation).into()),
            fields_v1: Some(FieldsV1(fields.clone())),
            ..ManagedFieldsEntry::default()
        };
        Owners::of(&rows.iter().map(entry).collect::<Vec<_>>())
    }

    fn wanted() -> Value {
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "shop", "labels": {"a": "b"}, "annotations": {}},
            "spec": {"selector": {"app": "shop"}, "ports": [{"port": 80, "name": "http"}]},
        })
    }

    fn own() -> Value {
        json!({
            "f:metadata": {"f:labels": {"f:a": {}}},
            "f:spec": {"f:selector": {}, "f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}, "f:name": {}}}},
        })
    }

    #[test]
    fn whoever_owns_more_or_less_than_he_wants_is_not_settled() {
        assert!(owners(&[("weir", "Apply", own())]).are_settled(&wanted()));
        let cases: [fn(&mut Value); 5] = [
            |own| own["f:spec"]["f:trafficDistribution"] = json!({}),
            |own| own["f:metadata"]["f:annotations"] = json!({"f:once": {}}),
            |own| own["f:spec"]["f:ports"]["k:{\"port\":81,\"protocol\":\"TCP\"}"] = json!({".": {}}),
            |own| drop(own["f:spec"].as_object_mut().unwrap().remove("f:selector")),
            |own| own["f:metadata"]["f:labels"] = json!({"f:other": {}}),
        ];
        for (at, change) in cases.into_iter().enumerate() {
            let mut own = own();
            change(&mut own);
            assert!(!owners(&[("weir", "Apply", own)]).are_settled(&wanted()), "{at}");
        }
        assert!(!owners(&[("kubectl", "Apply", own())]).are_settled(&wanted()));
    }

    #[test]
    fn additions_of_others_are_taken_out_and_what_nobody_wrote_stays() {
        let mut live = wanted();
        live["spec"]["type"] = "ClusterIP".into();
        live["spec"]["externalIPs"] = json!(["8.8.8.8"]);
        live["spec"]["ports"] = json!([{"port": 80, "name": "http", "protocol": "TCP"}, {"port": 81, "name": "more"}]);
        let theirs = json!({"f:spec": {"f:externalIPs": {}, "f:ports": {"k:{\"port\":81,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}}});
        let found = owners(&[("weir", "Apply", own()), ("kubectl-edit", "Update", theirs.clone())]);
        let expected = json!({"spec": {"externalIPs": null, "ports": wanted()["spec"]["ports"]}});
        assert_eq!(found.additions(&live, &wanted()), Some(expected));
        assert_eq!(owners(&[("weir", "Apply", own())]).additions(&live, &wanted()), None);
        assert_eq!(owners(&[("kube-controller-manager", "Update", theirs)]).additions(&live, &wanted()), None);
    }

    #[test]
    fn sizes_and_restarts_of_others_stay() {
        let live = json!({"spec": {"replicas": 5, "template": {"metadata": {"annotations": {"restartedAt": "now"}}}}});
        let wanted = json!({"spec": {"template": {"metadata": {"annotations": {"weir.dev/revision": "1"}}}}});
        let theirs = json!({"f:spec": {"f:replicas": {}, "f:template": {"f:metadata": {"f:annotations": {"f:restartedAt": {}}}}}});
        assert_eq!(owners(&[("kubectl", "Update", theirs)]).additions(&live, &wanted), None);
    }

    #[test]
    fn the_template_that_weir_wrote_is_read_from_the_live_workload() {
        let own = json!({"f:spec": {"f:template": {
            "f:metadata": {"f:labels": {"f:app": {}, "f:old": {}}},
            "f:spec": {"f:affinity": {}, "f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:name": {}, "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}}},
        }}});
        let theirs = json!({"f:spec": {"f:template": {"f:spec": {
            "f:nodeSelector": {"f:disk": {}}, "f:containers": {"k:{\"name\":\"c\"}": {"f:image": {}}, "k:{\"name\":\"extra\"}": {".": {}, "f:name": {}}},
        }}}});
        let live = json!({"spec": {"template": {
            "metadata": {"labels": {"app": "a", "old": "b", "theirs": "c"}},
            "spec": {
                "affinity": {"podAffinity": {}}, "dnsPolicy": "ClusterFirst", "nodeSelector": {"disk": "ssd"},
                "containers": [
                    {"name": "c", "image": "evil", "ports": [{"containerPort": 80, "protocol": "TCP"}], "terminationMessagePath": "/x"},
                    {"name": "extra"},
                ],
            },
        }}});
        let wanted = json!({"spec": {"template": {
            "metadata": {"labels": {"app": "a", "new": "d"}},
            "spec": {"containers": [{"name": "c", "image": "good", "ports": [{"containerPort": 80}]}]},
        }}});
        let expected = json!({
            "metadata": {"labels": {"app": "a", "old": "b"}},
            "spec": {
                "affinity": {"podAffinity": {}},
                "containers": [{"name": "c", "image": "good", "ports": [{"containerPort": 80}]}],
            },
        });
        let found = owners(&[("weir", "Apply", own), ("kubectl-edit", "Update", theirs.clone())]);
        assert_eq!(found.template(&live, &wanted), Some(expected));
        assert_eq!(owners(&[("velero", "Update", theirs)]).template(&live, &wanted), None);
    }
}
