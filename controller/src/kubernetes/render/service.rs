//! The three services of a Canary: the one that users call, the primary's and the canary's.

use serde_json::{Map, Value, json};

use super::names::{Names, Ownership, held};
use crate::api::service::{ExtraMetadata, IntOrString};
use crate::api::{CanarySpec, may_set};
use crate::kubernetes::kinds::Labels;

/// Containers that belong to the mesh: their ports are no ports of the application.
const PROXIES: [&str; 2] = ["istio-proxy", "envoy"];

/// Which of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The one that users call. Where it existed before Weir it is adopted, and outlives the Canary.
    Apex(Ownership),
    /// The primary's.
    Primary,
    /// The canary's.
    Canary,
}

/// Renders a service that leads to the pods with these labels.
#[must_use]
pub(crate) fn service(names: &Names, spec: &CanarySpec, role: Role, selector: &Labels, ports: &[Value]) -> Value {
    let service = &spec.service;
    let (name, extra) = match role {
        Role::Apex(_) => (names.apex.clone(), &service.apex),
        Role::Primary => (names.primary_service(), &service.primary),
        Role::Canary => (names.canary_service(), &service.canary),
    };
    let ownership = match role {
        Role::Apex(ownership) => ownership,
        Role::Primary | Role::Canary => Ownership::Owned,
    };
    let mut metadata = held(names, &name, ownership);
    decorate(&mut metadata, extra.as_ref());
    let mut body = json!({"selector": selector, "ports": ports});
    // A sidecar sends what is for a headless Service to the address that the program has chosen: an arm's must be the sidecar's choice.
    let in_mesh = service.is_on_mesh() || service.delegation == Some(true);
    let by_sidecar = in_mesh && !matches!(role, Role::Apex(_));
    if service.headless == Some(true) && !by_sidecar {
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

/// The service's own port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MainPort {
    pub(crate) name: String,
    /// The pods' port.
    pub(crate) target: Value,
    /// Its application protocol, which says to Istio how the pods are spoken to.
    pub(crate) protocol: Option<String>,
}

/// Returns the service's own port. `live` are the ports of the service that users call, and `before`
/// those that it had before Weir.
///
/// Two ports of a service must not have one name, and clients may find a port by its name: so it keeps the one that it has.
#[must_use]
pub(crate) fn main_port(spec: &CanarySpec, template: &Value, live: &[Value], before: &[Value]) -> MainPort {
    let service = &spec.service;
    let number = service.port.unwrap_or_default();
    let number: Value = number.into();
    let numbered = |ports: &[Value]| ports.iter().find(|port| is_of(port, &number)).cloned();
    let target = match &service.target_port {
        Some(IntOrString::Int(number)) => Value::from(*number),
        Some(IntOrString::String(name)) => Value::from(name.clone()),
        None => numbered(before).and_then(|port| port.get("targetPort").cloned()).unwrap_or_else(|| number.clone()),
    };
    let of_before = || numbered(before)?["appProtocol"].as_str().map(str::to_owned);
    let protocol = service.app_protocol.clone().or_else(of_before);
    let live_name = || numbered(live)?["name"].as_str().map(str::to_owned);
    if let Some(name) = service.port_name.clone().or_else(live_name) {
        return MainPort { name, target, protocol };
    }
    let containers: Vec<Value> = match service.port_discovery {
        Some(true) => container_ports(template).cloned().collect(),
        _ => Vec::new(),
    };
    let is_target = |port: &Value| port["containerPort"] == target || port["name"] == target;
    let others =
        containers.iter().filter(|port| !is_target(port)).chain(live.iter().filter(|port| !is_of(port, &number)));
    let used: Vec<&str> = others.filter_map(|port| port["name"].as_str()).collect();
    let own = containers.iter().find(|port| is_target(port)).and_then(|port| port["name"].as_str());
    let names = ["http".to_owned()].into_iter().chain(own.map(str::to_owned)).chain([format!("http-{number}")]);
    let name = names.into_iter().find(|name| !used.contains(&name.as_str()));
    MainPort { name: name.unwrap_or_else(|| format!("http-{number}")), target, protocol }
}

/// Returns whether a Service's port has this number for connections by TCP: by UDP it may have another one of the same number (HTTP/3).
#[must_use]
pub(crate) fn is_of(port: &Value, number: &Value) -> bool {
    port["port"] == *number && ["TCP", ""].contains(&port["protocol"].as_str().unwrap_or_default())
}

/// Returns whether a pod template declares a port, by number or name.
#[must_use]
pub(crate) fn declares(template: &Value, port: &Value) -> bool {
    container_ports(template).any(|port_of_pod| port_of_pod["containerPort"] == *port || port_of_pod["name"] == *port)
}

fn container_ports(template: &Value) -> impl Iterator<Item = &Value> {
    let containers = template.pointer("/spec/containers").and_then(Value::as_array).into_iter().flatten();
    let own = containers.filter(|container| !PROXIES.contains(&container["name"].as_str().unwrap_or_default()));
    own.filter_map(|container| container["ports"].as_array()).flatten()
}

/// Returns the ports of the services: the one that the spec names, and with `portDiscovery` those of the containers.
#[must_use]
pub(crate) fn ports(spec: &CanarySpec, template: &Value, own: &MainPort) -> Vec<Value> {
    let service = &spec.service;
    let port = service.port.unwrap_or_default();
    let mut main = json!({"name": own.name, "port": port, "targetPort": own.target, "protocol": "TCP"});
    if let Some(protocol) = &own.protocol {
        main["appProtocol"] = protocol.clone().into();
    }
    let mut ports = vec![main];
    if service.port_discovery == Some(true) {
        let found: Vec<Value> = container_ports(template).filter_map(discovered).collect();
        for mut port in found {
            // TCP and UDP have numbers of their own: a name server has both.
            let same = |other: &&Value| other["protocol"] == port["protocol"];
            let number = |other: &Value| other["port"] == port["port"];
            let served = |other: &Value| other["targetPort"] == port["port"] || other["targetPort"] == port["name"];
            if !ports.iter().filter(same).any(|other| number(other) || served(other)) {
                // None is lost for its name.
                if ports.iter().any(|other| other["name"] == port["name"]) {
                    let protocol = port["protocol"].as_str().unwrap_or_default().to_lowercase();
                    port["name"] = format!("{protocol}-{}", port["port"]).into();
                }
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
