//! The three services of a Canary: the one that users call, the primary's and the canary's.

use serde_json::{Map, Value, json};

use super::names::{Names, Tenure, held};
use crate::api::service::{ExtraMetadata, IntOrString};
use crate::api::{CanarySpec, may_set};

/// Containers that belong to the mesh: their ports are no ports of the application.
const PROXIES: [&str; 2] = ["istio-proxy", "envoy"];

/// Which of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The one that users call. Where it existed before Weir it is adopted, and outlives the Canary.
    Apex(Tenure),
    /// The primary's.
    Primary,
    /// The canary's.
    Canary,
}

/// Renders a service that leads to the pods with a label.
#[must_use]
pub(crate) fn service(names: &Names, spec: &CanarySpec, role: Role, selector: (&str, &str), ports: &[Value]) -> Value {
    let service = &spec.service;
    let (name, extra) = match role {
        Role::Apex(_) => (names.apex.clone(), &service.apex),
        Role::Primary => (names.primary_service(), &service.primary),
        Role::Canary => (names.canary_service(), &service.canary),
    };
    let tenure = match role {
        Role::Apex(tenure) => tenure,
        Role::Primary | Role::Canary => Tenure::Owned,
    };
    let mut metadata = held(names, &name, tenure);
    decorate(&mut metadata, extra.as_ref());
    let mut body = json!({"selector": {selector.0: selector.1}, "ports": ports});
    if service.headless == Some(true) {
        body["clusterIP"] = "None".into();
    }
    if let Some(distribution) = &service.traffic_distribution {
        body["trafficDistribution"] = distribution.clone().into();
    }
    json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": body})
}

/// Adds the labels and annotations that the user gives.
pub(super) fn decorate(metadata: &mut Map<String, Value>, extra: Option<&ExtraMetadata>) {
    let Some(extra) = extra else { return };
    for (kind, added) in [("labels", &extra.labels), ("annotations", &extra.annotations)] {
        let map = metadata.entry(kind).or_insert_with(|| json!({}));
        if let Some(map) = map.as_object_mut() {
            // Weir's own labels win: objects are found by them.
            for (key, value) in added.iter().filter(|(key, _)| may_set(key)) {
                map.entry(key.clone()).or_insert_with(|| value.clone().into());
            }
        }
    }
}

/// Returns the ports of the services: the one that the spec names, and with `portDiscovery` those of the containers.
#[must_use]
pub(crate) fn ports(spec: &CanarySpec, template: &Value) -> Vec<Value> {
    let service = &spec.service;
    let port = service.port.unwrap_or_default();
    let target = match &service.target_port {
        None => port.into(),
        Some(IntOrString::Int(number)) => (*number).into(),
        Some(IntOrString::String(name)) => Value::from(name.clone()),
    };
    let mut main = json!({
        "name": service.port_name.as_deref().unwrap_or("http"), "port": port, "targetPort": target, "protocol": "TCP",
    });
    if let Some(protocol) = &service.app_protocol {
        main["appProtocol"] = protocol.clone().into();
    }
    let mut ports = vec![main];
    if service.port_discovery == Some(true) {
        let containers = template.pointer("/spec/containers").and_then(Value::as_array).into_iter().flatten();
        let own = containers.filter(|container| !PROXIES.contains(&container["name"].as_str().unwrap_or_default()));
        let found: Vec<Value> =
            own.filter_map(|container| container["ports"].as_array()).flatten().filter_map(discovered).collect();
        for port in found {
            let known = |other: &Value| {
                other["port"] == port["port"] || other["name"] == port["name"] || other["targetPort"] == port["port"]
            };
            if !ports.iter().any(known) {
                ports.push(port);
            }
        }
    }
    ports
}

fn discovered(port: &Value) -> Option<Value> {
    let number = port["containerPort"].as_i64()?;
    let protocol = port["protocol"].as_str().unwrap_or("TCP");
    let name = match port["name"].as_str() {
        Some(name) => name.to_owned(),
        None => format!("{}-{number}", protocol.to_lowercase()),
    };
    Some(json!({"name": name, "port": number, "targetPort": number, "protocol": protocol}))
}
