//! Policy for the connections to one arm.

use serde_json::{Value, json};

use super::names::{Names, owned};
use crate::api::CanarySpec;

/// Renders the DestinationRule of the arm behind `service`.
#[must_use]
pub(crate) fn destination_rule(names: &Names, spec: &CanarySpec, service: &str) -> Value {
    let mut body = json!({"host": service});
    if let Some(policy) = &spec.service.traffic_policy {
        body["trafficPolicy"] = policy.0.clone().into();
    }
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": owned(names, service), "spec": body,
    })
}
