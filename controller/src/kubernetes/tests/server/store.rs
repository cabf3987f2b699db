//! The objects of the API server, and what becomes of one when it is applied, replaced or deleted.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

use super::fields::{Entry, Fields, entries, fields_of, merge, remove, set_entries, value_at};
use super::{Refusal, rules};

/// Plural of the kind, namespace and name.
pub(super) type Key = (String, String, String);

/// Changes that a watch may still begin before; who asks for older ones lists again, as with etcd.
const REMEMBERED: usize = 1000;

/// An object that came, changed or went, for whoever watches.
pub(super) struct Change {
    pub(super) version: u64,
    pub(super) plural: String,
    /// Its labels, unless it came.
    pub(super) before: Option<Value>,
    /// Its labels, unless it went.
    pub(super) after: Option<Value>,
    /// As it is, or was when it went.
    pub(super) object: Value,
}

/// All objects.
#[derive(Default)]
pub(super) struct Store {
    pub(super) version: u64,
    pub(super) objects: BTreeMap<Key, Value>,
    changes: VecDeque<Change>,
    /// The newest change that is forgotten.
    pub(super) forgotten: u64,
    uids: u64,
}

/// Who writes what of an object.
pub(super) struct Writer<'a> {
    pub(super) manager: &'a str,
    pub(super) force: bool,
    /// Empty, or `status`.
    pub(super) subresource: &'a str,
}

impl Store {
    /// Server-side apply.
    pub(super) fn apply(&mut self, key: Key, applied: &Value, writer: &Writer) -> Result<Value, Refusal> {
        let live = self.objects.get(&key).cloned();
        expect(live.as_ref(), applied)?;
        let kind = applied["kind"].as_str().unwrap_or_default().to_owned();
        let status = writer.subresource == "status";
        if live.is_none() && status {
            return Err(Refusal::missing(&key));
        }
        let mut object = live.clone().unwrap_or_else(|| json!({"metadata": {}}));
        let wanted = fields_of(&kind, applied, status);
        let mut owners = entries(&object);
        let is_own = |entry: &Entry| {
            entry.manager == writer.manager && entry.operation == "Apply" && entry.subresource == writer.subresource
        };
        let differs = |path: &Vec<String>| value_at(&object, path) != value_at(applied, path);
        let conflicts: Fields = wanted.iter().filter(|path| differs(path)).cloned().collect();
        let others = owners.iter().filter(|entry| !is_own(entry));
        let conflict = others.flat_map(|entry| entry.fields.intersection(&conflicts)).next().cloned();
        if let Some(path) = conflict.filter(|_| !writer.force) {
            return Err(Refusal::conflict(&format!("Apply failed with 1 conflict: {}", path.join("."))));
        }
        for entry in owners.iter_mut().filter(|entry| !is_own(entry)) {
            entry.fields.retain(|path| !conflicts.contains(path));
        }
        let before = owners.iter().position(is_own).map(|at| owners.remove(at).fields).unwrap_or_default();
        let written = without(applied, if status { &["metadata", "spec"] } else { &["status"] });
        merge(&kind, "", &mut object, &written);
        for path in before.difference(&wanted) {
            // An item goes when nobody says anything of it any more.
            let held = |entry: &Entry| match path.split_last() {
                Some((last, item)) if last == "." => entry.fields.iter().any(|other| other.starts_with(item)),
                _ => entry.fields.contains(path),
            };
            if !owners.iter().any(held) {
                remove(&mut object, path);
            }
        }
        owners.push(Entry {
            manager: writer.manager.into(),
            operation: "Apply",
            subresource: writer.subresource.into(),
            fields: wanted,
        });
        set_entries(&mut object, owners);
        self.put(key, live, object)
    }

    /// Replaces an object, or makes it; who changed a field owns it.
    pub(super) fn update(&mut self, key: Key, new: &Value, manager: &str) -> Result<Value, Refusal> {
        self.update_part(key, new, manager, "")
    }

    /// The same through a subresource.
    pub(super) fn update_part(&mut self, key: Key, new: &Value, manager: &str, part: &str) -> Result<Value, Refusal> {
        let live = self.objects.get(&key).cloned();
        expect(live.as_ref(), new)?;
        let kind = new["kind"].as_str().unwrap_or_default().to_owned();
        let mut object = new.clone();
        let old = live.clone().unwrap_or_else(|| json!({"metadata": {}}));
        for field in ["uid", "creationTimestamp", "generation"] {
            if let Some(value) = old["metadata"].get(field) {
                object["metadata"][field] = value.clone();
            }
        }
        let said = fields_of(&kind, &object, false);
        let differs = |path: &&Vec<String>| value_at(&old, path) != value_at(&object, path);
        let changed: Fields = said.iter().filter(differs).cloned().collect();
        // Who writes says who owned what, if he says anything of it.
        let given = entries(new);
        let mut owners = if given.is_empty() { entries(&old) } else { given };
        for entry in owners.iter_mut().filter(|entry| entry.subresource != "status") {
            entry.fields.retain(|path| said.contains(path) && !changed.contains(path));
        }
        let is_own = |it: &&mut Entry| it.manager == manager && it.operation == "Update" && it.subresource == part;
        let own = owners.iter_mut().find(is_own);
        match own {
            Some(entry) => entry.fields.extend(changed),
            None => owners.push(Entry {
                manager: manager.into(),
                operation: "Update",
                subresource: part.into(),
                fields: changed,
            }),
        }
        set_entries(&mut object, owners);
        self.put(key, live, object)
    }

    /// Deletes an object: at once, or when its last finalizer is gone.
    pub(super) fn delete(&mut self, key: &Key) -> Result<Value, Refusal> {
        let Some(live) = self.objects.get(key).cloned() else { return Err(Refusal::missing(key)) };
        let mut object = live.clone();
        object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        self.put(key.clone(), Some(live), object)
    }

    /// Returns all objects of a kind.
    pub(super) fn of_kind(&self, plural: &str) -> impl Iterator<Item = (&Key, &Value)> {
        let from: Key = (plural.to_owned(), String::new(), String::new());
        self.objects.range(from.clone()..).take_while(move |(key, _)| key.0 == from.0)
    }

    /// Returns what came after a version.
    pub(super) fn changes_after(&self, version: u64) -> impl Iterator<Item = &Change> {
        let from = self.changes.partition_point(|change| change.version <= version);
        self.changes.range(from..)
    }

    /// Forgets changes that nobody begins a watch before.
    pub(super) fn forget(&mut self) {
        while self.changes.len() > REMEMBERED {
            self.forgotten = self.changes.pop_front().map_or(self.forgotten, |change| change.version);
        }
    }

    /// Stores an object, and lets it go where it is deleted and nothing holds it.
    fn put(&mut self, key: Key, before: Option<Value>, mut object: Value) -> Result<Value, Refusal> {
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        rules::keep(&kind, before.as_ref(), &mut object);
        rules::complete(&kind, &mut object);
        if let Some(problem) = rules::problem(&kind, before.as_ref(), &object) {
            return Err(Refusal::invalid(&kind, &key.2, &problem));
        }
        let metadata = &mut object["metadata"];
        if before.is_none() {
            self.uids += 1;
            metadata["uid"] = format!("00000000-0000-4000-8000-{:012}", self.uids).into();
            if metadata["creationTimestamp"].is_null() {
                metadata["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
            }
            metadata["generation"] = 1.into();
            metadata["namespace"] = key.1.clone().into();
            metadata["name"] = key.2.clone().into();
        } else if before.as_ref().map(|before| &before["spec"]) != Some(&object["spec"]) {
            let generation = object["metadata"]["generation"].as_i64().unwrap_or_default();
            object["metadata"]["generation"] = (generation + 1).into();
        }
        let held = object["metadata"]["finalizers"].as_array().is_some_and(|list| !list.is_empty());
        let gone = object["metadata"].get("deletionTimestamp").is_some() && !held;
        let version = |object: &Value| without(object, &[]).pointer("/metadata/resourceVersion").cloned();
        if let Some(before) = &before {
            object["metadata"]["resourceVersion"] = version(before).unwrap_or_default();
            if !gone && same(before, &object) {
                return Ok(before.clone());
            }
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let labels = |object: &Value| object["metadata"]["labels"].clone();
        let (before, after) = (before.as_ref().map(labels), (!gone).then(|| labels(&object)));
        match gone {
            false => drop(self.objects.insert(key.clone(), object.clone())),
            true => drop(self.objects.remove(&key)),
        }
        self.changes.push_back(Change { version: self.version, plural: key.0, before, after, object: object.clone() });
        if gone {
            self.collect(&object);
        }
        Ok(object)
    }

    /// Deletes what an object owned.
    fn collect(&mut self, owner: &Value) {
        let uid = &owner["metadata"]["uid"];
        let owned = |object: &Value| {
            let owners = object["metadata"]["ownerReferences"].as_array();
            owners.into_iter().flatten().any(|owner| owner["uid"] == *uid)
        };
        let keys: Vec<Key> = self.objects.iter().filter(|(_, it)| owned(it)).map(|(key, _)| key.clone()).collect();
        for key in keys {
            let _ = self.delete(&key);
        }
    }
}

/// Who gives a uid or a version means that object and no other.
fn expect(live: Option<&Value>, wanted: &Value) -> Result<(), Refusal> {
    for field in ["uid", "resourceVersion"] {
        let wanted = &wanted["metadata"][field];
        if !wanted.is_null() && live.is_none_or(|live| live["metadata"][field] != *wanted) {
            return Err(Refusal::conflict(
                "the object has been modified; please apply your changes to the latest version",
            ));
        }
    }
    Ok(())
}

fn same(before: &Value, after: &Value) -> bool {
    let plain = |object: &Value| {
        let mut object = object.clone();
        object["metadata"]["managedFields"] = Value::Null;
        object
    };
    let owners = |object: &Value| {
        let mut owners = entries(object);
        owners
            .sort_by(|a, b| (&a.manager, a.operation, &a.subresource).cmp(&(&b.manager, b.operation, &b.subresource)));
        owners
    };
    plain(before) == plain(after) && owners(before) == owners(after)
}

fn without(object: &Value, fields: &[&str]) -> Value {
    let mut object = object.clone();
    if let Some(map) = object.as_object_mut() {
        fields.iter().for_each(|field| drop(map.remove(*field)));
    }
    object
}
