//! Who owns which field of an object, as the API server keeps it for server-side apply.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// Path of one field, each part as `fieldsV1` writes it: `f:name`, `k:{"name":"x"}`, `v:"x"`; a last `.` is the item itself.
pub(super) type Path = Vec<String>;
/// Fields of one manager.
pub(super) type Fields = BTreeSet<Path>;

/// Fields of the metadata that nobody owns.
const IDENTITY: [&str; 8] = [
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "managedFields",
    "deletionTimestamp",
];

/// One entry of `metadata.managedFields`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) manager: String,
    pub(super) operation: &'static str,
    pub(super) subresource: String,
    pub(super) fields: Fields,
}

/// How a list is merged.
enum Merge {
    /// Item by item, by these keys.
    Keys(&'static [&'static str]),
    /// As a set of values.
    Set,
    /// Not at all: the last writer's list is the list.
    Whole,
}

fn merge_of(kind: &str, field: &str) -> Merge {
    let built_in = ["Deployment", "Service"].contains(&kind);
    match field {
        "containers" | "initContainers" | "volumes" | "env" if built_in => Merge::Keys(&["name"]),
        "ports" if kind == "Service" => Merge::Keys(&["port", "protocol"]),
        "ports" if built_in => Merge::Keys(&["containerPort", "protocol"]),
        "ownerReferences" => Merge::Keys(&["uid"]),
        "finalizers" => Merge::Set,
        _ => Merge::Whole,
    }
}

fn is_whole(kind: &str, field: &str) -> bool {
    field == "labelSelector" || (field == "selector" && ["Deployment", "Service"].contains(&kind))
}

fn key_of(item: &Value, keys: &[&str]) -> Map<String, Value> {
    let part = |key: &&str| {
        let default = if *key == "protocol" { json!("TCP") } else { Value::Null };
        ((*key).to_owned(), item.get(*key).cloned().unwrap_or(default))
    };
    keys.iter().map(part).collect()
}

/// Returns the fields that an object says, of its status alone or of everything else.
pub(super) fn fields_of(kind: &str, object: &Value, status: bool) -> Fields {
    let mut found = Fields::new();
    for (field, value) in object.as_object().into_iter().flatten() {
        match field.as_str() {
            "apiVersion" | "kind" => {}
            "status" if !status => {}
            "metadata" if status => {}
            "metadata" => {
                for (field, value) in value.as_object().into_iter().flatten() {
                    if !IDENTITY.contains(&field.as_str()) {
                        collect(kind, field, value, &mut vec!["f:metadata".into(), format!("f:{field}")], &mut found);
                    }
                }
            }
            field if status == (field == "status") => {
                collect(kind, field, value, &mut vec![format!("f:{field}")], &mut found);
            }
            _ => {}
        }
    }
    found
}

fn collect(kind: &str, field: &str, value: &Value, at: &mut Path, found: &mut Fields) {
    match value {
        Value::Null => {}
        Value::Object(map) if !map.is_empty() && !is_whole(kind, field) => {
            for (field, value) in map {
                at.push(format!("f:{field}"));
                collect(kind, field, value, at, found);
                at.pop();
            }
        }
        Value::Array(list) => match merge_of(kind, field) {
            Merge::Keys(keys) => {
                for item in list {
                    at.push(format!("k:{}", Value::Object(key_of(item, keys))));
                    found.insert(at.iter().cloned().chain([".".to_owned()]).collect());
                    for (field, value) in item.as_object().into_iter().flatten() {
                        at.push(format!("f:{field}"));
                        collect(kind, field, value, at, found);
                        at.pop();
                    }
                    at.pop();
                }
            }
            Merge::Set => {
                for item in list {
                    found.insert(at.iter().cloned().chain([format!("v:{item}")]).collect());
                }
            }
            Merge::Whole => drop(found.insert(at.clone())),
        },
        _ => drop(found.insert(at.clone())),
    }
}

/// Puts what somebody applies into what there is.
pub(super) fn merge(kind: &str, field: &str, live: &mut Value, applied: &Value) {
    match (live, applied) {
        (_, Value::Null) => {}
        (Value::Object(live), Value::Object(applied)) if !is_whole(kind, field) => {
            for (field, value) in applied.iter().filter(|(_, value)| !value.is_null()) {
                merge(kind, field, live.entry(field.clone()).or_insert(Value::Null), value);
            }
        }
        (Value::Array(live), Value::Array(applied)) => match merge_of(kind, field) {
            Merge::Keys(keys) => {
                for item in applied {
                    match live.iter_mut().find(|known| key_of(known, keys) == key_of(item, keys)) {
                        Some(known) => merge(kind, "", known, item),
                        None => live.push(item.clone()),
                    }
                }
            }
            Merge::Set => {
                let new: Vec<Value> = applied.iter().filter(|item| !live.contains(item)).cloned().collect();
                live.extend(new);
            }
            Merge::Whole => live.clone_from(applied),
        },
        (live, applied) => *live = applied.clone(),
    }
}

/// Returns the value of a field.
pub(super) fn value_at<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
    let Some((first, rest)) = path.split_first() else { return Some(object) };
    let inner = match first.split_at(first.find(':').map_or(first.len(), |at| at + 1)) {
        ("f:", field) => object.get(field)?,
        ("k:", key) => item_of(object.as_array()?, key).map(|at| &object[at])?,
        ("v:", text) => {
            let wanted: Value = serde_json::from_str(text).ok()?;
            object.as_array()?.iter().find(|item| **item == wanted)?
        }
        _ => return Some(object),
    };
    value_at(inner, rest)
}

fn item_of(list: &[Value], key: &str) -> Option<usize> {
    let key: Map<String, Value> = serde_json::from_str(key).unwrap();
    let keys: Vec<&str> = key.keys().map(String::as_str).collect();
    list.iter().position(|item| key_of(item, &keys) == key)
}

/// Removes a field, and whatever is empty without it.
pub(super) fn remove(object: &mut Value, path: &[String]) {
    let Some((first, rest)) = path.split_first() else { return };
    let last = rest.is_empty() || rest == ["."];
    match (first.split_at(2), object) {
        (("f:", field), Value::Object(map)) if last => drop(map.remove(field)),
        (("f:", field), Value::Object(map)) => {
            if let Some(inner) = map.get_mut(field) {
                remove(inner, rest);
                if inner.as_object().is_some_and(Map::is_empty) || inner.as_array().is_some_and(Vec::is_empty) {
                    map.remove(field);
                }
            }
        }
        (("k:", key), Value::Array(list)) => match item_of(list, key) {
            Some(at) if last => drop(list.remove(at)),
            Some(at) => remove(&mut list[at], rest),
            None => {}
        },
        (("v:", text), Value::Array(list)) => {
            let gone: Option<Value> = serde_json::from_str(text).ok();
            list.retain(|item| Some(item) != gone.as_ref());
        }
        _ => {}
    }
}

/// Reads `metadata.managedFields`.
pub(super) fn entries(object: &Value) -> Vec<Entry> {
    let text = |of: &Value| of.as_str().unwrap_or_default().to_owned();
    let list = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    let entry = |entry: &Value| {
        let mut fields = Fields::new();
        flatten(&entry["fieldsV1"], &mut Vec::new(), &mut fields);
        let operation = if entry["operation"] == "Apply" { "Apply" } else { "Update" };
        Entry { manager: text(&entry["manager"]), operation, subresource: text(&entry["subresource"]), fields }
    };
    list.into_iter().flatten().map(entry).collect()
}

fn flatten(node: &Value, at: &mut Path, found: &mut Fields) {
    let map = node.as_object().cloned().unwrap_or_default();
    if map.is_empty() && !at.is_empty() {
        found.insert(at.clone());
    }
    for (part, inner) in &map {
        at.push(part.clone());
        flatten(inner, at, found);
        at.pop();
    }
}

/// Writes `metadata.managedFields`.
pub(super) fn set_entries(object: &mut Value, entries: Vec<Entry>) {
    let entry = |entry: Entry| {
        let mut tree = json!({});
        for path in &entry.fields {
            let mut node = &mut tree;
            for part in path {
                node = node.as_object_mut().unwrap().entry(part.clone()).or_insert_with(|| json!({}));
            }
        }
        let mut written = json!({
            "manager": entry.manager, "operation": entry.operation, "fieldsType": "FieldsV1", "fieldsV1": tree,
            "apiVersion": "v1", "time": "2026-01-01T00:00:00Z",
        });
        if !entry.subresource.is_empty() {
            written["subresource"] = entry.subresource.into();
        }
        written
    };
    let entries: Vec<Value> = entries.into_iter().filter(|entry| !entry.fields.is_empty()).map(entry).collect();
    object["metadata"]["managedFields"] = entries.into();
}
