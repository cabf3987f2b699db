//! Whether a Deployment's update may stop its last pod before a new one serves.

use serde_json::Value;

/// Of a rolling update that says nothing; the API's own default.
const DEFAULT_PERCENT: u32 = 25;

/// Returns whether an update by this `strategy` may leave so many replicas without any pod that serves.
#[must_use]
pub(crate) fn update_stops(strategy: &Value, replicas: u32) -> bool {
    if strategy["type"] == "Recreate" {
        return true;
    }
    let rolling = &strategy["rollingUpdate"];
    // The Deployment's controller rounds the surge up and what may be missing down, and of two zeros makes one missing.
    let surge = pods(&rolling["maxSurge"], |percent| replicas.saturating_mul(percent).div_ceil(100));
    let missing = pods(&rolling["maxUnavailable"], |percent| replicas.saturating_mul(percent) / 100);
    let missing = if surge == 0 { missing.max(1) } else { missing };
    replicas > 0 && missing >= replicas
}

/// Reads a number of pods, or a percentage.
fn pods(value: &Value, percent: impl Fn(u32) -> u32) -> u32 {
    if let Some(number) = value.as_u64() {
        return u32::try_from(number).unwrap_or(u32::MAX);
    }
    let text = value.as_str().and_then(|text| text.trim_end_matches('%').parse().ok());
    percent(text.unwrap_or(DEFAULT_PERCENT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_update_that_may_take_the_last_pod_is_known_by_its_strategy() {
        let rolling =
            |surge: Value, missing: Value| json!({"rollingUpdate": {"maxSurge": surge, "maxUnavailable": missing}});
        for (strategy, replicas, stops) in [
            (json!({"type": "Recreate"}), 3, true),
            (Value::Null, 1, false),
            (json!({"type": "RollingUpdate"}), 1, false),
            (rolling(json!(0), json!(1)), 1, true),
            (rolling(json!(0), json!(1)), 2, false),
            (rolling(json!("0%"), json!("50%")), 1, true),
            (rolling(json!("0%"), json!("50%")), 2, false),
            (rolling(json!(1), json!("100%")), 4, true),
            (rolling(json!(1), json!(1)), 1, true),
            (rolling(json!("100%"), json!(0)), 1, false),
            (rolling(json!(0), json!(5)), 3, true),
            (rolling(json!("4000000000%"), json!(0)), 3, false),
        ] {
            assert_eq!(update_stops(&strategy, replicas), stops, "{strategy} with {replicas}");
        }
    }
}
