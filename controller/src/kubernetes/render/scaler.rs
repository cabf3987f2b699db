//! `A-primary`: the autoscaler of the workload in production, a copy of the target's.

use serde_json::{Map, Value, json};

use super::labels::ArmLabels;
use super::names::{Names, owned};
use super::primary::rename_selector;
use crate::api::ScalerReplicas;

/// Renders the primary's autoscaler from the spec of the target's. `bounds` are the user's own for the primary.
#[must_use]
pub(crate) fn scaler(names: &Names, name: &str, labels: &ArmLabels, bounds: &ScalerReplicas, targets: &Value) -> Value {
    let mut spec: Map<String, Value> = targets.as_object().cloned().unwrap_or_default();
    spec.insert(
        "scaleTargetRef".into(),
        json!({"apiVersion": names.kind.api_version(), "kind": names.kind.word(), "name": names.primary()}),
    );
    spec.extend(bounds.min_replicas.map(|min| ("minReplicas".to_owned(), min.into())));
    spec.extend(bounds.max_replicas.map(|max| ("maxReplicas".to_owned(), max.into())));
    for metric in spec.get_mut("metrics").and_then(Value::as_array_mut).into_iter().flatten() {
        rename(metric, names, labels);
    }
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": owned(names, name), "spec": spec,
    })
}

/// Makes a metric of the target speak of the primary: one that describes the target, or is narrowed down by the
/// label of the target's pods. External metrics are of something else by definition: what they are called there stays.
fn rename(metric: &mut Value, names: &Names, ArmLabels { key, value, own, .. }: &ArmLabels) {
    if let Some(described) = metric.pointer_mut("/object/describedObject")
        && described["kind"] == names.kind.word()
        && described["name"] == names.target.as_str()
    {
        described["name"] = names.primary().into();
    }
    for selector in ["/object/metric/selector", "/pods/metric/selector"] {
        if let Some(selector) = metric.pointer_mut(selector) {
            rename_selector(selector, key, value, own);
        }
    }
}
