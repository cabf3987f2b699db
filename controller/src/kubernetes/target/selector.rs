//! Selectors of pods as others write them: of Kubernetes' form, Istio's and Cilium's.

use serde_json::Value;

use crate::kubernetes::kinds::Labels;

/// Returns whether a selector, of Kubernetes' form or Istio's, finds something with these labels.
pub(super) fn finds(selector: &Value, labels: &Labels) -> bool {
    let mut equal = ["matchLabels", "labels"].into_iter().filter_map(|field| selector[field].as_object()).flatten();
    equal.all(|(key, value)| label(labels, key) == value.as_str())
        && expressions(selector).all(|expression| holds(expression, labels))
}

/// Returns whether a selector would find something with these labels, were it not for what it says that is not to be there.
pub(super) fn leaves_out(selector: &Value, labels: &Labels) -> bool {
    let excludes =
        |expression: &&Value| ["NotIn", "DoesNotExist"].iter().any(|operator| expression["operator"] == *operator);
    expressions(selector).filter(excludes).any(|expression| !holds(expression, labels))
}

fn expressions(selector: &Value) -> impl Iterator<Item = &Value> {
    selector["matchExpressions"].as_array().into_iter().flatten()
}

/// Cilium says where a label is from.
fn label<'a>(labels: &'a Labels, key: &str) -> Option<&'a str> {
    let key = key.strip_prefix("k8s:").or_else(|| key.strip_prefix("any:")).unwrap_or(key);
    labels.get(key).map(String::as_str)
}

fn holds(expression: &Value, labels: &Labels) -> bool {
    let value = expression["key"].as_str().and_then(|key| label(labels, key));
    let mut values = expression["values"].as_array().into_iter().flatten();
    let listed = value.is_some_and(|value| values.any(|known| known == value));
    match expression["operator"].as_str() {
        Some("In") => listed,
        Some("NotIn") => !listed,
        Some("Exists") => value.is_some(),
        Some("DoesNotExist") => value.is_none(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_of_both_forms_are_read() {
        let labels: Labels = [("app".to_owned(), "shop".to_owned()), ("tier".to_owned(), "web".to_owned())].into();
        let expression = |key: &str, operator: &str, values: Value| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        for (selector, expected) in [
            (Value::Null, true),
            (json!({}), true),
            (json!({"matchLabels": {"app": "shop"}}), true),
            (json!({"matchLabels": {"app": "shop", "tier": "db"}}), false),
            (json!({"labels": {"app": "other"}}), false),
            (expression("app", "In", json!(["shop", "cart"])), true),
            (expression("app", "In", json!(["cart"])), false),
            (expression("app", "NotIn", json!(["cart"])), true),
            (expression("none", "NotIn", json!(["cart"])), true),
            (expression("tier", "Exists", Value::Null), true),
            (expression("tier", "DoesNotExist", Value::Null), false),
        ] {
            assert_eq!(finds(&selector, &labels), expected, "{selector}");
        }
    }
}
