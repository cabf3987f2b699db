//! What an object was before Weir, kept in an annotation of its own, and made again when the Canary goes.

use serde_json::{Map, Value, json};

use super::names::Names;
use super::service::{declares, is_of};
use crate::kubernetes::kinds::{Labels, selects};

/// Annotation of an adopted object: what of it Weir changed, as JSON.
pub(crate) const ORIGINAL: &str = "weir.dev/original";
/// Where it has the conditions that every request had to meet one of. What an earlier Weir adopted has none such: its routes were opened then,
/// and closing them now would take requests from somebody.
const CONDITIONS: &str = "match";
/// Keep Flux from taking back what is adopted, as Flagger does: what Git says of it is not what it must be meanwhile.
const LEFT_ALONE: [(&str, &str); 2] =
    [("kustomize.toolkit.fluxcd.io/reconcile", "disabled"), ("helm.toolkit.fluxcd.io/driftDetection", "disabled")];
/// Fields of a Service that adoption changes.
const SERVICE: [&str; 4] = ["selector", "ports", "clusterIP", "trafficDistribution"];
/// All annotations of an object may hold 256 KiB together; others need some of it.
const MOST: usize = 64 * 1024;

/// Returns what of a live object is changed by what is wanted of it, as text; with the `conditions` of its routes that are kept.
///
/// # Errors
/// When it is too much to be kept.
pub(crate) fn remember(live: &Value, wanted: &Value, conditions: Vec<Value>) -> Result<String, String> {
    let text = |of: &Value| of.as_str().unwrap_or_default().to_owned();
    let (kind, name) = (text(&wanted["kind"]), text(&wanted["metadata"]["name"]));
    let mut metadata = Map::new();
    for part in ["labels", "annotations"] {
        let added = wanted["metadata"][part].as_object().cloned().unwrap_or_default();
        let flux = LEFT_ALONE.iter().map(|(key, _)| (*key).to_owned()).filter(|_| part == "annotations");
        let keys = added.into_iter().map(|(key, _)| key).chain(flux);
        let kept: Map<String, Value> =
            keys.filter_map(|key| live["metadata"][part].get(&key).cloned().map(|value| (key, value))).collect();
        if !kept.is_empty() {
            metadata.insert(part.into(), kept.into());
        }
    }
    let spec = match kind.as_str() {
        // The rest of a Service is the server's, or nobody changes it.
        "Service" => part_of(&live["spec"], &wanted["spec"]),
        _ => live["spec"].clone(),
    };
    let mut original = json!({"metadata": metadata, "spec": spec});
    if !conditions.is_empty() {
        original[CONDITIONS] = conditions.into();
    }
    let original = original.to_string();
    if original.len() > MOST {
        let size = original.len();
        return Err(format!(
            "{kind} {name} is too large to be given back later ({size} bytes, at most {MOST} are kept): give the Canary \
             another service.name"
        ));
    }
    Ok(original)
}

/// Annotation of a VirtualService that Flagger adopted: its spec before that.
const BEFORE_FLAGGER: &str = "flagger.kubernetes.io/original-configuration";

/// Returns an adopted object as it was before anybody released its service, for what is given back later: another controller, whose
/// objects Weir takes over, had it lead to the primary, which goes with the Canary.
#[must_use]
pub(crate) fn unreleased(
    mut live: Value,
    kind: &str,
    names: &Names,
    target: &Labels,
    primary: Option<&Labels>,
) -> Value {
    if kind == "Service" {
        let selector: Labels = serde_json::from_value(live["spec"]["selector"].clone()).unwrap_or_default();
        if !selector.is_empty() && selects(&selector, primary) {
            live["spec"]["selector"] = json!(target);
        }
        return live;
    }
    let noted = live["metadata"]["annotations"][BEFORE_FLAGGER].as_str();
    if let Some(spec) = noted.and_then(|text| serde_json::from_str::<Map<String, Value>>(text).ok()) {
        live["spec"] = spec.into();
        return live;
    }
    let of_arms = [names.primary_service(), names.canary_service()];
    for route in live["spec"]["http"].as_array_mut().into_iter().flatten() {
        let hosts = route["route"].as_array().into_iter().flatten();
        let released =
            hosts.filter_map(|to| to["destination"]["host"].as_str()).any(|host| of_arms.iter().any(|arm| arm == host));
        if released {
            route["route"] = json!([{"destination": {"host": names.apex}}]);
        }
    }
    live
}

/// Returns the conditions that were kept when an object was adopted, of what it was.
#[must_use]
pub(crate) fn kept_conditions(original: &str) -> Vec<Value> {
    let original: Value = serde_json::from_str(original).unwrap_or_default();
    original[CONDITIONS].as_array().cloned().unwrap_or_default()
}

/// Adds to a wanted object that it is adopted, and from what, where that is known.
#[must_use]
pub(crate) fn adopt(mut wanted: Value, original: Option<&str>) -> Value {
    let annotations = &mut wanted["metadata"]["annotations"];
    for (key, value) in LEFT_ALONE {
        annotations[key] = value.into();
    }
    if let Some(original) = original {
        annotations[ORIGINAL] = original.into();
    }
    wanted
}

/// What a Service must lead to, whatever it was: the target, as its pods are today.
pub(crate) struct Serving<'a> {
    /// What finds the target's pods.
    pub(crate) selector: &'a Labels,
    /// The labels of these pods.
    pub(crate) pods: &'a Labels,
    /// Their template.
    pub(crate) template: &'a Value,
    /// The Service's own port, as the spec has it.
    pub(crate) port: &'a Value,
}

impl Serving<'_> {
    /// Changes what a Service was where its labels, or its port, are the target's no more.
    fn fit(&self, spec: &mut Value) {
        let selector: Labels = serde_json::from_value(spec["selector"].clone()).unwrap_or_default();
        if !selector.is_empty() && !selects(&selector, Some(self.pods)) {
            spec["selector"] = json!(self.selector);
        }
        for port in spec["ports"].as_array_mut().into_iter().flatten().filter(|port| is_of(port, &self.port["port"])) {
            let target = port.get("targetPort").unwrap_or(&port["port"]);
            if !declares(self.template, target) {
                port["targetPort"] = self.port["targetPort"].clone();
            }
        }
    }
}

/// Returns the note of what an object was with what of it Weir is about to change for the first time: labels, annotations and fields that
/// the Canary gives since. `is_own` says of a field's path whether Weir wrote it.
#[must_use]
pub(crate) fn extended(
    original: &str,
    live: &Value,
    wanted: &Value,
    is_own: impl Fn(&[&str]) -> bool,
) -> Option<String> {
    let mut noted: Value = serde_json::from_str(original).ok()?;
    let mut changed = false;
    for (part, fields) in [("metadata", &["labels", "annotations"][..]), ("spec", &["trafficDistribution"][..])] {
        for field in fields {
            let (before, after) = (&live[part][field], &wanted[part][field]);
            let news = match after {
                Value::Object(after) => after.keys().map(String::as_str).map(Some).collect(),
                Value::Null => Vec::new(),
                _ => vec![None],
            };
            for key in news {
                let value = key.map_or(before, |key| &before[key]);
                let known = key.map_or(&noted[part][field], |key| &noted[part][field][key]);
                let path = [part, field].into_iter().chain(key).collect::<Vec<_>>();
                if value.is_null() || !known.is_null() || is_own(&path) {
                    continue;
                }
                let value = value.clone();
                match key {
                    Some(key) => noted[part][field][key] = value,
                    None => noted[part][field] = value,
                }
                changed = true;
            }
        }
    }
    changed.then(|| noted.to_string()).filter(|text| text.len() <= MOST)
}

/// Takes out of what an object was all that is Weir's own: one that Weir made, and that somebody has applied his own over since.
/// `exports` says whether it was he who said to whom it is exported.
pub(crate) fn without_own(live: &mut Value, wanted: &Value, exports: bool) {
    if let Some(spec) = live["spec"].as_object_mut().filter(|_| !exports) {
        spec.remove("exportTo");
    }
    for part in ["labels", "annotations"] {
        let wanted = &wanted["metadata"][part];
        if let Some(map) = live["metadata"][part].as_object_mut() {
            map.retain(|key, value| wanted.get(key.as_str()) != Some(value));
        }
    }
}

/// Renders what an adopted object was. `metadata` is that of the live one: another object of its name is left alone. A Service leads to what
/// is `serving`, where that is known.
///
/// # Errors
/// When somebody else wrote what was kept.
pub(crate) fn restored(
    (version, kind): &(&str, &str),
    metadata: &Value,
    original: &str,
    serving: Option<&Serving>,
) -> Result<Value, String> {
    let name = metadata["name"].as_str().unwrap_or_default();
    let original: Value = serde_json::from_str(original)
        .map_err(|error| format!("annotation {ORIGINAL} of {kind} {name} cannot be read: {error}"))?;
    // Only what adoption changes.
    let kept = |of: &Value, keys: &[&str]| -> Map<String, Value> {
        keys.iter().filter_map(|key| Some(((*key).to_owned(), of.get(*key)?.clone()))).collect()
    };
    let mut restored = kept(&original["metadata"], &["labels", "annotations"]);
    restored.extend(kept(metadata, &["name", "namespace", "uid"]));
    let spec = match *kind {
        "Service" => {
            let mut spec = kept(&original["spec"], &SERVICE).into();
            serving.inspect(|serving| serving.fit(&mut spec));
            spec
        }
        _ => original["spec"].clone(),
    };
    Ok(json!({"apiVersion": version, "kind": kind, "metadata": restored, "spec": spec}))
}

/// Returns the fields of `live` that `wanted` has too.
fn part_of(live: &Value, wanted: &Value) -> Value {
    let wanted = wanted.as_object().cloned().unwrap_or_default();
    wanted.into_iter().filter_map(|(key, _)| live.get(&key).cloned().map(|value| (key, value))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::lost::union_of_conditions;
    use super::*;

    #[test]
    fn a_request_met_a_condition_before_where_every_route_has_some() {
        let of = |http: Value| union_of_conditions(&json!({"http": http}));
        let (a, b) = (json!({"name": "a", "uri": {"prefix": "/a"}}), json!({"headers": {"x-b": {"exact": "1"}}}));
        assert_eq!(of(json!([{"match": [a]}, {"match": [b, a]}])), [a.clone(), b.clone()]);
        assert_eq!(of(json!([{"match": [a]}, {"route": []}])), [Value::Null; 0]);
        assert_eq!(of(json!([{"match": [a]}, {"match": []}])), [Value::Null; 0]);
        assert_eq!(of(json!([])), [Value::Null; 0]);
        let wanted = json!({"kind": "VirtualService", "metadata": {"name": "cart"}});
        let noted = remember(&json!({"spec": {"http": []}}), &wanted, vec![a.clone()]).unwrap();
        assert_eq!(kept_conditions(&noted), [a]);
        assert_eq!(kept_conditions(&remember(&json!({}), &wanted, Vec::new()).unwrap()), [Value::Null; 0]);
    }

    #[test]
    fn a_service_is_given_back_with_the_labels_and_the_port_that_the_target_has_today() {
        let labels = |text: &str| -> Labels { serde_json::from_value(json!({"app": text})).unwrap() };
        let (selector, pods) = (labels("new"), labels("new"));
        let template = json!({"spec": {"containers": [{"ports": [{"name": "web", "containerPort": 9090}]}]}});
        let port = json!({"port": 80, "targetPort": 9090});
        let serving = Serving { selector: &selector, pods: &pods, template: &template, port: &port };
        let restored = |app: &str, target: Value| {
            let dns = json!({"port": 80, "protocol": "UDP", "targetPort": 53});
            let ports = json!([{"port": 80, "targetPort": target}, {"port": 81, "targetPort": 1}, dns]);
            let original = json!({"spec": {"selector": {"app": app}, "ports": ports}}).to_string();
            let found = restored(&("v1", "Service"), &json!({"name": "shop"}), &original, Some(&serving)).unwrap();
            let targets = found["spec"]["ports"].as_array().unwrap().iter().map(|port| port["targetPort"].clone());
            (found["spec"]["selector"]["app"].clone(), targets.collect::<Vec<_>>())
        };
        assert_eq!(restored("old", json!(8080)), (json!("new"), vec![json!(9090), json!(1), json!(53)]));
        assert_eq!(restored("new", json!("web")), (json!("new"), vec![json!("web"), json!(1), json!(53)]));
    }
}
