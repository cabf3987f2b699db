//! Policy for the connections to one arm.

use serde_json::{Value, json};

use super::names::{Names, owned};
use crate::api::CanarySpec;
use crate::kubernetes::kinds::istio::api_version;

/// Renders the DestinationRule of the arm behind `service`. `of_user` is the policy that holds for the service that users call,
/// where the Canary gives none.
#[must_use]
pub(crate) fn destination_rule(names: &Names, spec: &CanarySpec, of_user: Option<&Value>, service: &str) -> Value {
    let mut body = json!({"host": service});
    let given = spec.service.traffic_policy.as_ref().map(|policy| Value::Object(policy.0.clone()));
    if let Some(policy) = given.or_else(|| of_user.cloned()) {
        body["trafficPolicy"] = policy;
    }
    json!({
        "apiVersion": api_version(), "kind": "DestinationRule", "metadata": owned(names, service), "spec": body,
    })
}
