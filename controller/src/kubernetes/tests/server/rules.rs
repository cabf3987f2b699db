//! What the API server adds to objects by itself, what it refuses, and what the controllers of Kubernetes make of them.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::store::{Key, Store, Writer};

/// Keeps what was given once and nobody can take away: a Service's address.
pub(super) fn keep(kind: &str, before: Option<&Value>, object: &mut Value) {
    if kind == "Service"
        && let Some(address) = before.and_then(|before| before.pointer("/spec/clusterIP"))
        && let Some(Value::Object(spec)) = object.get_mut("spec")
    {
        spec.entry("clusterIP").or_insert_with(|| address.clone());
    }
}

/// Adds the defaults that matter here.
pub(super) fn complete(kind: &str, object: &mut Value) {
    let mut default = |path: &str, value: Value| {
        let (parent, field) = path.rsplit_once('/').unwrap();
        if let Some(Value::Object(parent)) = object.pointer_mut(parent) {
            parent.entry(field.to_owned()).or_insert(value);
        }
    };
    match kind {
        "Service" => {
            default("/spec/type", "ClusterIP".into());
            default("/spec/sessionAffinity", "None".into());
            default("/spec/internalTrafficPolicy", "Cluster".into());
            default("/spec/clusterIP", "10.0.0.1".into());
        }
        "Deployment" => {
            default("/spec/replicas", 1.into());
            default("/spec/revisionHistoryLimit", 10.into());
            default("/spec/progressDeadlineSeconds", 600.into());
            default("/spec/strategy", json!({"type": "RollingUpdate"}));
            default("/spec/template/spec/restartPolicy", "Always".into());
            default("/spec/template/spec/dnsPolicy", "ClusterFirst".into());
        }
        _ => {}
    }
    if kind == "Service" {
        for port in object.pointer_mut("/spec/ports").and_then(Value::as_array_mut).into_iter().flatten() {
            let number = port["port"].clone();
            let port = port.as_object_mut().unwrap();
            port.entry("protocol").or_insert_with(|| "TCP".into());
            port.entry("targetPort").or_insert(number);
        }
    }
}

/// Returns why an object cannot be so.
pub(super) fn problem(kind: &str, before: Option<&Value>, object: &Value) -> Option<String> {
    let metadata = &object["metadata"];
    let long = metadata["labels"]
        .as_object()
        .into_iter()
        .flatten()
        .find(|(_, value)| value.as_str().is_some_and(|value| value.len() > 63));
    if let Some((key, _)) = long {
        return Some(format!("metadata.labels.{key}: Invalid value: must be no more than 63 bytes"));
    }
    let controllers = metadata["ownerReferences"].as_array().into_iter().flatten();
    if controllers.filter(|owner| owner["controller"] == true).count() > 1 {
        return Some("metadata.ownerReferences: Only one reference can have Controller set to true".into());
    }
    match kind {
        "Service" => {
            let name = metadata["name"].as_str().unwrap_or_default();
            if name.len() > 63 || name.contains('.') || !name.starts_with(|first: char| first.is_ascii_lowercase()) {
                return Some(format!("metadata.name: Invalid value: {name:?}: a DNS-1035 label"));
            }
            let ports = object["spec"]["ports"].as_array().cloned().unwrap_or_default();
            let mut names = BTreeSet::new();
            let twice = ports.iter().position(|port| !names.insert(port["name"].to_string()));
            twice.map(|at| format!("spec.ports[{at}].name: Duplicate value: {}", ports[at]["name"]))
        }
        "Deployment" => {
            let selector = object.pointer("/spec/selector/matchLabels").and_then(Value::as_object)?;
            if before.is_some_and(|before| before["spec"]["selector"] != object["spec"]["selector"]) {
                return Some("spec.selector: Invalid value: field is immutable".into());
            }
            let labels = object.pointer("/spec/template/metadata/labels").and_then(Value::as_object);
            let fits = labels.is_some_and(|labels| finds(selector, labels));
            (!fits).then(|| "spec.template.metadata.labels: Invalid value: `selector` does not match".into())
        }
        _ => None,
    }
}

fn finds(selector: &Map<String, Value>, labels: &Map<String, Value>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn objects(store: &Store, plural: &str, namespaces: &BTreeSet<String>) -> Vec<(Key, Value)> {
    let of = |namespace: &String| {
        let from: Key = (plural.to_owned(), namespace.clone(), String::new());
        let rest = store.objects.range(from.clone()..);
        rest.take_while(move |(key, _)| (&key.0, &key.1) == (&from.0, &from.1)).map(|(k, v)| (k.clone(), v.clone()))
    };
    namespaces.iter().flat_map(of).collect()
}

/// What the controllers of Deployments and of EndpointSlices do: every pod is up at once, but for Deployments that are `stuck`.
pub(super) fn control(store: &mut Store, stuck: &BTreeSet<String>, namespaces: &BTreeSet<String>) {
    let deployments = objects(store, "deployments", namespaces);
    let writer = |subresource| Writer { manager: "kube-controller-manager", force: true, subresource };
    let frame = |key: &Key, version: &str, kind: &str| json!({"apiVersion": version, "kind": kind, "metadata": {"name": key.2, "namespace": key.1}});
    for (key, deployment) in &deployments {
        let replicas = deployment["spec"]["replicas"].clone();
        if stuck.contains(&key.2) && replicas != 0 {
            continue;
        }
        let mut status = frame(key, "apps/v1", "Deployment");
        status["status"] = json!({
            "observedGeneration": deployment["metadata"]["generation"], "replicas": replicas, "updatedReplicas": replicas,
            "availableReplicas": replicas, "readyReplicas": replicas,
        });
        let _ = store.apply(key.clone(), &status, &writer("status"));
    }
    let services = objects(store, "services", namespaces);
    for (key, service) in &services {
        let selector = service["spec"]["selector"].as_object().cloned().unwrap_or_default();
        let endpoints: Vec<Value> = deployments
            .iter()
            .filter(|(of, deployment)| {
                let labels = deployment.pointer("/spec/template/metadata/labels").and_then(Value::as_object);
                let up = deployment["spec"]["replicas"] != 0 && !stuck.contains(&of.2);
                of.1 == key.1 && up && !selector.is_empty() && labels.is_some_and(|labels| finds(&selector, labels))
            })
            .map(|(of, _)| {
                json!({
                    "addresses": ["10.1.0.1"], "conditions": {"ready": true},
                    "targetRef": {"kind": "Pod", "name": format!("{}-5d8f-x", of.2), "namespace": of.1},
                })
            })
            .collect();
        let name: Key = ("endpointslices".into(), key.1.clone(), format!("{}-1", key.2));
        let mut slice = frame(&name, "discovery.k8s.io/v1", "EndpointSlice");
        let mut labels = service["metadata"]["labels"].as_object().cloned().unwrap_or_default();
        labels.insert("kubernetes.io/service-name".into(), key.2.clone().into());
        slice["metadata"]["labels"] = labels.into();
        slice["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "v1", "kind": "Service", "name": key.2, "uid": service["metadata"]["uid"]}]);
        slice["endpoints"] = endpoints.into();
        let _ = store.apply(name, &slice, &writer(""));
    }
}
