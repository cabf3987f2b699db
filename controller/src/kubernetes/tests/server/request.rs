//! Which object a request is about.

use serde_json::{Value, json};

use super::store::Key;

/// The one group whose kinds are called as some of Weir's.
const FLAGGER: &str = "flagger.app";

/// What a request is about.
pub(super) struct Target {
    pub(super) key: Key,
    pub(super) version: String,
    pub(super) subresource: String,
    query: Vec<(String, String)>,
}

impl Target {
    pub(super) fn of(path: &str, query: &str) -> Self {
        let mut parts = path.trim_matches('/').split('/').map(str::to_owned);
        // `api/v1` or `apis/GROUP/VERSION`.
        let skipped = if parts.next().as_deref() == Some("api") { 1 } else { 2 };
        let mut parts: Vec<String> = parts.collect();
        let is_flaggers = parts.first().is_some_and(|group| group == FLAGGER);
        let version = parts.drain(..skipped.min(parts.len())).next_back().unwrap_or_default();
        if is_flaggers && let Some(plural) = parts.get_mut(2) {
            // Both have a plural `canaries`.
            *plural = format!("{plural}.{FLAGGER}");
        }
        let part = |at: usize| parts.get(at).cloned().unwrap_or_default();
        let (key, subresource) = match part(0).as_str() {
            "namespaces" if parts.len() > 1 => ((part(2), part(1), part(3)), part(4)),
            _ => ((part(0), String::new(), String::new()), String::new()),
        };
        let query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        Self { key, version, subresource, query }
    }

    pub(super) fn value(&self, key: &str) -> Option<String> {
        self.query.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone())
    }
}

pub(super) fn key(plural: &str, namespace: &str, name: &str) -> Key {
    (plural.into(), namespace.into(), name.into())
}

pub(super) fn key_of(object: &Value) -> Key {
    let text = |of: &Value| of.as_str().unwrap_or_default().to_owned();
    let kind = text(&object["kind"]);
    let plural = match kind.to_lowercase() {
        kind if kind.ends_with("cy") || kind.ends_with("ry") => format!("{}ies", &kind[..kind.len() - 1]),
        kind if kind.ends_with('s') => kind + "es",
        kind => kind + "s",
    };
    let is_flaggers = text(&object["apiVersion"]).starts_with(&format!("{FLAGGER}/"));
    let plural = if is_flaggers { format!("{plural}.{FLAGGER}") } else { plural };
    (plural, text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]))
}

pub(super) fn kind(plural: &str) -> String {
    let kinds = [
        "Canary",
        "Deployment",
        "Service",
        "VirtualService",
        "DestinationRule",
        "EnvoyFilter",
        "ControllerRevision",
        "ConfigMap",
        "Secret",
        "HorizontalPodAutoscaler",
        "Lease",
        "Event",
        "Pod",
        "Gateway",
        "Namespace",
        "PersistentVolumeClaim",
    ];
    let found = kinds.into_iter().find(|kind| key_of(&json!({"kind": kind})).0 == plural);
    found.unwrap_or(plural).to_owned()
}

/// Merges a patch into an object, as RFC 7396 has it.
pub(super) fn merge_patch(object: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else { return object.clone_from(patch) };
    if !object.is_object() {
        *object = json!({});
    }
    for (field, value) in patch {
        match value {
            Value::Null => drop(object.as_object_mut().unwrap().remove(field)),
            value => merge_patch(&mut object[field], value),
        }
    }
}
