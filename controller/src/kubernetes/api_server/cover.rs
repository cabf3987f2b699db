//! Whether a live object already is what is wanted, so that nothing is written when nothing changed.

use serde_json::Value;

/// Returns whether `live` holds everything that `wanted` says.
///
/// The API server fills in defaults, so a live object has more fields than were written. Lists hold the same number of items
/// in the same order, each with whatever defaults. `null` wants a field to be absent.
#[must_use]
pub(crate) fn covers(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => wanted.iter().all(|(key, wanted)| match live.get(key) {
            Some(live) => covers(live, wanted),
            None => is_nothing(wanted),
        }),
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(live, wanted)| covers(live, wanted))
        }
        (Value::Number(live), Value::Number(wanted)) => live == wanted || live.as_f64() == wanted.as_f64(),
        (live, wanted) => live == wanted,
    }
}

/// Returns whether `live` says what `wanted` says and nothing else: of a kind whose fields have no defaults.
#[must_use]
pub(crate) fn is_exactly(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            let said = |key: &String, value: &Value| match wanted.get(key) {
                Some(wanted) => is_exactly(value, wanted),
                None => is_nothing(value),
            };
            live.iter().all(|(key, value)| said(key, value))
                && wanted.iter().all(|(key, value)| live.contains_key(key) || is_nothing(value))
        }
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(live, wanted)| is_exactly(live, wanted))
        }
        (live, wanted) => covers(live, wanted),
    }
}

/// Absent and empty say the same: the API server leaves out empty maps and lists.
pub(super) fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.values().all(is_nothing),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_more_field_anywhere_is_a_difference() {
        let wanted = json!({"a": {"b": 1}, "list": [{"name": "x"}], "none": {}});
        let rows = [
            (json!({"a": {"b": 1.0}, "list": [{"name": "x"}], "empty": []}), true),
            (json!({"a": {"b": 1}, "list": [{"name": "x", "disabled": true}]}), false),
            (json!({"a": {"b": 1}, "list": [{"name": "x"}], "more": 1}), false),
            (json!({"a": {"b": 1}}), false),
        ];
        for (live, expected) in rows {
            assert_eq!(is_exactly(&live, &wanted), expected, "{live}");
        }
    }

    #[test]
    fn defaults_of_the_server_are_no_difference_and_everything_else_is() {
        let wanted = json!({"a": {"b": 1}, "list": [{"name": "x"}], "none": {}, "gone": null});
        let rows = [
            (json!({"a": {"b": 1, "c": 2}, "list": [{"name": "x", "more": true}], "status": {}}), true),
            (json!({"a": {"b": 1.0}, "list": [{"name": "x"}]}), true),
            (json!({"a": {"b": 2}, "list": [{"name": "x"}]}), false),
            (json!({"a": {}, "list": [{"name": "x"}]}), false),
            (json!({"a": {"b": 1}, "list": [{"name": "x"}, {"name": "y"}]}), false),
            (json!({"a": {"b": 1}, "list": []}), false),
            (json!({"a": {"b": 1}, "list": [{"name": "x"}], "gone": 1}), false),
        ];
        for (live, expected) in rows {
            assert_eq!(covers(&live, &wanted), expected, "{live}");
        }
    }
}
