//! What the API server refuses in a new object, told without one: by the definitions that it checks with.
//!
//! An object is read the way `kubectl apply` and Flux have it read, strictly: a field that the definition lacks is refused, and not ignored.
//! Rules in CEL are known here one by one; a test fails where the definitions have another one.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex_lite::Regex;
use serde_json::Value;

use super::crd::definitions;
use crate::api::{Known, PROCESS, Parsed, Problem, is_label, is_namespace, name_problem};

/// What the definitions say of the objects of a kind.
static SCHEMAS: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| {
    let of = |(_, definition): (&str, Value)| {
        let kind = definition["spec"]["names"]["kind"].as_str().unwrap_or_default().to_owned();
        (kind, definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone())
    };
    definitions().into_iter().map(of).collect()
});

/// What every object may have, beside what its definition says.
const HEADER: [&str; 3] = ["apiVersion", "kind", "metadata"];
/// The fields of `metadata`.
const METADATA: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Returns what the API server refuses in an object as a new one, each with its field's path; of what is for
/// `weir standalone` alone, what is ignored there. Nothing of anybody else's.
#[must_use]
pub fn refused(parsed: &Parsed) -> Vec<Problem> {
    let (written, value) = (&parsed.written, parsed.value());
    if is_standalone(&parsed.object) {
        // No API server has it; what is ignored there is not what was meant.
        let ignored = parsed.warnings.iter().filter(|warning| warning.field != "metadata.finalizers");
        return ignored.cloned().collect();
    }
    let Some(schema) = written["kind"].as_str().and_then(|kind| SCHEMAS.get(kind)) else { return Vec::new() };
    let mut found = Vec::new();
    for (key, inner) in written.as_object().into_iter().flatten() {
        match schema["properties"].get(key) {
            Some(schema) => unknown(schema, inner, key, &mut found),
            None if HEADER.contains(&key.as_str()) => {}
            None => found.push(not_known(key)),
        }
    }
    metadata(&written["metadata"], &mut found);
    above(&schema["properties"]["spec"], &value["spec"], "spec", &mut found);
    found.extend(broken(schema, &value, ""));
    found
}

fn is_standalone(object: &Known) -> bool {
    match object {
        Known::Process(_) => true,
        Known::Canary(canary) => canary.spec.target_ref.kind == PROCESS,
        Known::MetricTemplate(_) | Known::AlertProvider(_) | Known::Secret(_) | Known::Other => false,
    }
}

fn not_known(field: &str) -> Problem {
    Problem::new(field, "is not known here, and the API server refuses an object that has it: check its spelling")
}

fn metadata(metadata: &Value, found: &mut Vec<Problem>) {
    let fields = || metadata.as_object().into_iter().flatten();
    found.extend(
        fields()
            .filter(|(key, _)| !METADATA.contains(&key.as_str()))
            .map(|(key, _)| not_known(&format!("metadata.{key}"))),
    );
    // Applied by the server's side, as Flux does it, each is compared with that of the object that is there.
    for (key, _) in
        fields().filter(|(key, value)| ["uid", "resourceVersion"].contains(&key.as_str()) && !value.is_null())
    {
        let text =
            "is of the object that this was read from, and the API server refuses it for any other: leave it out";
        found.push(Problem::new(format!("metadata.{key}"), text));
    }
    let text = |key: &str| metadata[key].as_str();
    found.extend(text("name").and_then(name_problem).map(|text| Problem::new("metadata.name", text)));
    if let Some(namespace) = text("namespace").filter(|namespace| !namespace.is_empty() && !is_namespace(namespace)) {
        found.push(Problem::new("metadata.namespace", format!("{namespace:?} is not the name of a namespace")));
    }
    for kind in ["labels", "annotations"] {
        for (key, value) in metadata[kind].as_object().into_iter().flatten() {
            let value = value.as_str().filter(|_| kind == "labels").unwrap_or_default();
            // Annotations are compared without case.
            let key_of = if kind == "labels" { key.clone() } else { key.to_lowercase() };
            if !is_label(&key_of, value) {
                let text = "is none that an object can have: at most 63 of A-Z, a-z, 0-9, -, _ and .";
                found.push(Problem::new(format!("metadata.{kind}.{key}"), text));
            }
        }
    }
}

/// Returns the parts of a value, each with what a schema says of it, if it knows it, and its path.
fn parts<'a>(schema: &'a Value, value: &'a Value, path: &str) -> Vec<(Option<&'a Value>, &'a Value, String)> {
    let named = |(key, inner): (&String, &'a Value)| {
        let schema = schema["properties"].get(key).or_else(|| schema.get("additionalProperties"));
        (schema, inner, format!("{path}.{key}"))
    };
    let item = |(i, inner): (usize, &'a Value)| (schema.get("items"), inner, format!("{path}[{i}]"));
    match value {
        Value::Object(fields) => fields.iter().map(named).collect(),
        Value::Array(items) => items.iter().enumerate().map(item).collect(),
        _ => Vec::new(),
    }
}

/// Notes fields that a schema does not know, with or without a value.
fn unknown(schema: &Value, written: &Value, path: &str, found: &mut Vec<Problem>) {
    if schema["x-kubernetes-preserve-unknown-fields"] == true {
        return;
    }
    for (schema, inner, path) in parts(schema, written, path) {
        match schema {
            Some(schema) => unknown(schema, inner, &path, found),
            None => found.push(not_known(&path)),
        }
    }
}

/// Notes what is above or below a limit, of another form, or against a rule.
fn above(schema: &Value, value: &Value, path: &str, found: &mut Vec<Problem>) {
    let count = |n: usize| n as f64;
    let (size, what) = match value {
        Value::String(text) => (Some(count(text.chars().count())), ["minLength", "maxLength", "characters"]),
        Value::Array(items) => (Some(count(items.len())), ["minItems", "maxItems", "items"]),
        Value::Object(fields) => (Some(count(fields.len())), ["minProperties", "maxProperties", "entries"]),
        value => (value.as_f64(), ["minimum", "maximum", ""]),
    };
    let [least, most, unit] = what;
    if let Some(size) = size {
        let said = if unit.is_empty() { format!("is {size}") } else { format!("has {size} {unit}") };
        let limit = |name: &str| schema[name].as_f64();
        if let Some(limit) = limit(most).filter(|limit| size > *limit) {
            found.push(Problem::new(path, format!("{said}, and the API server takes {limit} at most")));
        }
        if let Some(limit) = limit(least).filter(|limit| size < *limit) {
            found.push(Problem::new(path, format!("{said}, and the API server takes {limit} at least")));
        }
    }
    if let (Some(pattern), Some(text)) = (schema["pattern"].as_str(), value.as_str())
        && Regex::new(pattern).is_ok_and(|pattern| !pattern.is_match(text))
    {
        found.push(Problem::new(path, format!("{text:?} is refused by the API server, which takes {pattern}")));
    }
    found.extend(broken(schema, value, path));
    for (schema, inner, path) in parts(schema, value, path) {
        if let Some(schema) = schema {
            above(schema, inner, &path, found);
        }
    }
}

/// Returns the rules of a schema that a value breaks. Most begin with the field that they are about.
fn broken(schema: &Value, value: &Value, path: &str) -> Vec<Problem> {
    let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    let broken = rules.filter(|rule| rule["rule"].as_str().and_then(|rule| holds(rule, value)) == Some(false));
    let told = broken.map(|rule| {
        let message = rule["message"].as_str().unwrap_or_default();
        let (word, rest) = message.split_once(' ').unwrap_or((message, ""));
        let word = word.trim_end_matches(':');
        let is_own = path == word || path.ends_with(&format!(".{word}"));
        let is_inner = word.split('.').try_fold(schema, |schema, name| schema["properties"].get(name)).is_some();
        match (is_own, is_inner) {
            (true, _) => Problem::new(path, rest),
            (_, true) => Problem::new(format!("{path}.{word}"), rest),
            _ if path.is_empty() => Problem::new(word, rest),
            _ => Problem::new(path, message),
        }
    });
    told.collect()
}

/// Returns whether a rule of the definitions holds for a value; nothing where it is not known here.
fn holds(rule: &str, value: &Value) -> Option<bool> {
    let has = |field: &str| value.get(field).is_some();
    let is = |field: &str| value[field] == true;
    let text = |field: &str| value[field].as_str().unwrap_or_default();
    let listed = |text: &str| rule.split_once(" in [").is_some_and(|(_, words)| words.contains(&format!("'{text}'")));
    let matches = |text: &str| {
        let pattern = rule.split_once(".matches('").and_then(|(_, rest)| Some(rest.split_once("')")?.0));
        pattern.and_then(|pattern| Regex::new(pattern).ok()).is_some_and(|pattern| pattern.is_match(text))
    };
    let through = |gateway: &str| value["gateways"].as_array().is_some_and(|all| all.iter().any(|it| it == gateway));
    let absent = rule.strip_prefix("!has(self.").and_then(|rest| rest.strip_suffix(')'));
    if let Some(field) = absent.filter(|field| field.chars().all(char::is_alphanumeric)) {
        return Some(!has(field));
    }
    let begins = |with: &str| rule.starts_with(with);
    Some(if begins("self in [") {
        listed(value.as_str().unwrap_or_default())
    } else if begins("has(self.service) && has(self.service.port)") {
        value["service"].get("port").is_some()
    } else if begins("(has(self.service) && has(self.service.name)) || self.targetRef.name.matches(") {
        value["service"].get("name").is_some() || matches(value["targetRef"]["name"].as_str().unwrap_or_default())
    } else if begins("!has(self.provider) || self.provider in [") {
        !has("provider") || listed(text("provider"))
    } else if begins("(has(self.stepWeight) ? 1 : 0)") {
        ["stepWeight", "stepWeights", "iterations"].into_iter().filter(|field| has(field)).count() == 1
    } else if begins("!has(self.mirror) || !self.mirror") {
        !is("mirror")
    } else if begins("!has(self.delegation) || !self.delegation ||") {
        !is("delegation") || !has("hosts") && !has("gateways")
    } else if begins("!has(self.appProtocol) || self.appProtocol.lowerAscii() != 'tcp'") {
        !text("appProtocol").eq_ignore_ascii_case("tcp")
    } else if begins("(has(self.gateways) && !('mesh' in self.gateways)) ||") {
        let protocol = if has("appProtocol") { text("appProtocol") } else { text("portName") };
        has("gateways") && !through("mesh") || is("delegation") || !matches(&protocol.to_ascii_lowercase())
    } else if begins("!has(self.gatewayRefs) || has(self.gateways)") {
        !has("gatewayRefs") || has("gateways")
    } else if begins("!has(self.callers) || !has(self.gateways) || 'mesh' in self.gateways ||") {
        !has("callers") || !has("gateways") || through("mesh") || is("delegation")
    } else if begins("self.all(key, !key.startsWith('weir.dev/'))") {
        !value.as_object().is_some_and(|fields| fields.keys().any(|key| key.starts_with("weir.dev/")))
    } else if begins("has(self.address) || has(self.secretRef)") {
        has("address") || has("secretRef")
    } else if begins("oldSelf.hasValue() || self.metadata.name.size() <=") {
        let limit = rule.rsplit_once(' ').and_then(|(_, limit)| limit.parse().ok())?;
        value["metadata"]["name"].as_str().unwrap_or_default().chars().count() <= limit
    } else {
        return None;
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api;

    fn canary() -> Value {
        json!({
            "apiVersion": "weir.dev/v1beta1", "kind": "Canary", "metadata": {"name": "cart"},
            "spec": {
                "targetRef": {"kind": "Deployment", "name": "cart"}, "service": {"port": 80, "gateways": ["public"]},
                "analysis": {"stepWeight": 5},
            },
        })
    }

    /// What is refused of an object with this in place of what it has.
    fn told(mut object: Value, at: &str, value: Value) -> Vec<String> {
        let (parent, key) = at.rsplit_once('/').unwrap();
        object.pointer_mut(parent).unwrap()[key] = value;
        let parsed = api::read(&object.to_string(), "").remove(0).unwrap();
        refused(&parsed).iter().map(|it| format!("{}: {}", it.field, it.text)).collect()
    }

    #[test]
    fn what_the_api_server_refuses_is_told_by_its_field() {
        let many = |n: usize| (0..n).map(|i| format!("h{i}.example.com").into()).collect::<Vec<Value>>();
        let metric = |query: usize| json!([{"name": "a", "query": "u".repeat(query), "thresholdRange": {"max": 1}}]);
        for (at, value, expected) in [
            ("/metadata/lables", json!({}), "metadata.lables: is not known here"),
            ("/metadata/uid", json!("0a1b"), "metadata.uid: is of the object"),
            ("/metadata/resourceVersion", json!("7"), "metadata.resourceVersion: is of the object"),
            ("/metadata/namespace", json!("Prod"), "metadata.namespace: \"Prod\" is not"),
            ("/metadata/labels", json!({"a b": "c"}), "metadata.labels.a b: is none"),
            ("/metadata/labels", json!({"a": "b c"}), "metadata.labels.a: is none"),
            ("/metadata/labels", json!({"A.b/c": "d"}), "metadata.labels.A.b/c: is none"),
            ("/metadata/name", json!("a".repeat(64)), "metadata.name: has more than 63 characters"),
            ("/sepc", json!({}), "sepc: is not known here"),
            ("/status", json!({"phase": "Failed", "verdict": 1}), "status.verdict: is not known here"),
            // Without a value too.
            ("/spec/sevice", Value::Null, "spec.sevice: is not known here"),
            ("/spec/analysis/match", json!([{"header": {}}]), "spec.analysis.match[0].header: is not known here"),
            (
                "/spec/service/hosts",
                many(65).into(),
                "spec.service.hosts: has 65 items, and the API server takes 64 at most",
            ),
            ("/spec/analysis/metrics", metric(8193), "spec.analysis.metrics[0].query: has 8193 characters"),
            (
                "/spec/analysis/stepWeight",
                json!(0),
                "spec.analysis.stepWeight: is 0, and the API server takes 0.01 at least",
            ),
            ("/spec/service/name", json!("Cart"), "spec.service.name: \"Cart\" is refused"),
            (
                "/spec/service/trafficDistribution",
                json!("Near"),
                "spec.service.trafficDistribution: must be PreferClose or",
            ),
            ("/spec/service/port", Value::Null, "spec.service.port: is missing"),
            (
                "/spec/service/apex",
                json!({"labels": {"weir.dev/a": "b"}}),
                "spec.service.apex.labels: keys of weir.dev/",
            ),
            ("/spec/analysis/stepWeights", json!([]), "spec.analysis: give exactly one of"),
            ("/spec/targetRef/kind", json!("DaemonSet"), "spec.targetRef.kind: must be Deployment"),
            ("/spec/targetRef/name", json!("v1.cart"), "spec.targetRef.name: is the name of the service too"),
            ("/spec/provider", json!(""), "spec.provider: only istio is supported"),
            ("/spec/service/callers", json!([]), "spec.service.callers: are for requests from inside"),
            ("/spec/service/delegation", json!(true), "spec.service.delegation: excludes hosts and gateways"),
            ("/spec/service/appProtocol", json!("TCP"), "spec.service.appProtocol: tcp is not supported"),
        ] {
            let told = told(canary(), at, value);
            assert!(told.len() == 1 && told[0].starts_with(expected), "{at}: {told:?}");
        }
        let mesh = json!({"port": 80, "portName": "tcp-web"});
        assert!(told(canary(), "/spec/service", mesh)[0].starts_with("spec.service: inside of the mesh"));
        assert_eq!(told(canary(), "/spec/service/hosts", many(64).into()), [""; 0]);
        assert_eq!(told(canary(), "/metadata/annotations", json!({"A.b/c": "d e"})), [""; 0]);
        assert_eq!(told(canary(), "/spec/service/trafficPolicy", json!({"anything": {"goes": 1}})), [""; 0]);
        let provider =
            json!({"apiVersion": "weir.dev/v1beta1", "kind": "AlertProvider", "metadata": {"name": "a"}, "spec": {}});
        assert!(told(provider, "/spec/type", json!("slack"))[0].starts_with("spec: give an address, or a secretRef"));
    }

    #[test]
    fn what_is_for_standalone_alone_is_asked_for_its_spelling_only() {
        let mut canary = canary();
        canary["spec"] = json!({"targetRef": {"kind": "Process", "name": "cart"}, "analysis": {"stepWeight": 5}});
        assert_eq!(told(canary.clone(), "/spec/suspend", json!(true)), [""; 0]);
        assert!(
            told(canary, "/spec/supsend", json!(true))[0].starts_with("spec.supsend: is not known here and is ignored")
        );
    }

    #[test]
    fn every_rule_of_the_definitions_is_known() {
        fn rules(schema: &Value, found: &mut Vec<String>) {
            match schema {
                Value::Object(fields) => {
                    let own = fields.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten();
                    found.extend(own.map(|rule| rule["rule"].as_str().unwrap().to_owned()));
                    fields.values().for_each(|inner| rules(inner, found));
                }
                Value::Array(items) => items.iter().for_each(|inner| rules(inner, found)),
                _ => {}
            }
        }
        let mut found = Vec::new();
        SCHEMAS.values().for_each(|schema| rules(schema, &mut found));
        assert!(found.len() > 20, "{found:?}");
        let strange: Vec<&String> = found.iter().filter(|rule| holds(rule, &json!({})).is_none()).collect();
        assert!(strange.is_empty(), "{strange:?}");
    }
}
