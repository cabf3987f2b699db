//! What an object was before Weir, kept in an annotation of its own, and made again when the Canary goes.

use serde_json::{Map, Value, json};

/// Annotation of an adopted object: what of it Weir changed, as JSON.
pub(crate) const ORIGINAL: &str = "weir.dev/original";
/// Keep Flux from taking back what is adopted, as Flagger does: what Git says of it is not what it must be meanwhile.
const LEFT_ALONE: [(&str, &str); 2] =
    [("kustomize.toolkit.fluxcd.io/reconcile", "disabled"), ("helm.toolkit.fluxcd.io/driftDetection", "disabled")];
/// All annotations of an object may hold 256 KiB together; others need some of it.
const MOST: usize = 64 * 1024;

/// Returns what of a live object is changed by what is wanted of it, as text.
///
/// # Errors
/// When it is too much to be kept.
pub(crate) fn remember(live: &Value, wanted: &Value) -> Result<String, String> {
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
    let original = json!({"metadata": metadata, "spec": spec}).to_string();
    if original.len() > MOST {
        let size = original.len();
        return Err(format!(
            "{kind} {name} is too large to be given back later ({size} bytes, at most {MOST} are kept): give the Canary \
             another service.name"
        ));
    }
    Ok(original)
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

/// Renders what an adopted object was. `metadata` is that of the live one: another object of its name is left alone.
///
/// # Errors
/// When somebody else wrote what was kept.
pub(crate) fn restored((version, kind): &(&str, &str), metadata: &Value, original: &str) -> Result<Value, String> {
    let name = metadata["name"].as_str().unwrap_or_default();
    let original: Value = serde_json::from_str(original)
        .map_err(|error| format!("annotation {ORIGINAL} of {kind} {name} cannot be read: {error}"))?;
    let mut restored = original["metadata"].as_object().cloned().unwrap_or_default();
    for key in ["name", "namespace", "uid"] {
        restored.extend(metadata.get(key).map(|value| (key.to_owned(), value.clone())));
    }
    Ok(json!({"apiVersion": version, "kind": kind, "metadata": restored, "spec": original["spec"]}))
}

/// Returns the fields of `live` that `wanted` has too.
fn part_of(live: &Value, wanted: &Value) -> Value {
    let wanted = wanted.as_object().cloned().unwrap_or_default();
    wanted.into_iter().filter_map(|(key, _)| live.get(&key).cloned().map(|value| (key, value))).collect()
}
