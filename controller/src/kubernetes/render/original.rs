//! What an object was before Weir, kept in an annotation of its own, and made again when the Canary goes.

use serde_json::{Map, Value, json};

use super::names::Names;

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

/// Returns where a VirtualService leads besides the services of a Canary: what it would lose by being adopted.
#[must_use]
pub(crate) fn elsewhere(spec: &Value, names: &Names) -> Vec<String> {
    let own = [names.apex.clone(), names.primary_service(), names.canary_service()];
    // A host without a dot is in the VirtualService's own namespace.
    let is_own = |host: &str| {
        let mut parts = host.split('.');
        let name = parts.next().unwrap_or_default();
        own.iter().any(|own| own == name) && parts.next().is_none_or(|namespace| namespace == names.namespace)
    };
    let http = spec["http"].as_array().into_iter().flatten();
    let mut found: Vec<String> = Vec::new();
    for route in http {
        let hosts = route["route"].as_array().into_iter().flatten();
        let hosts = hosts.filter_map(|to| to.pointer("/destination/host")?.as_str());
        found.extend(hosts.filter(|host| !is_own(host)).map(str::to_owned));
        let other = ["delegate", "redirect", "directResponse"].into_iter().filter(|what| route.get(what).is_some());
        found.extend(other.map(|what| format!("a {what}")));
    }
    let others = ["tcp", "tls"].into_iter().filter(|what| spec[what].as_array().is_some_and(|list| !list.is_empty()));
    found.extend(others.map(|what| format!("{what} routes")));
    found.sort();
    found.dedup();
    found
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_to_anybody_but_the_canarys_own_services_lead_elsewhere() {
        let names = Names {
            namespace: "shop".into(),
            canary: "cart".into(),
            uid: String::new(),
            target: "cart".into(),
            apex: "cart".into(),
            scaler: None,
        };
        let to = |host: &str| json!({"http": [{"route": [{"destination": {"host": host}}]}]});
        for host in ["cart", "cart-primary", "cart-canary", "cart.shop", "cart.shop.svc.cluster.local"] {
            assert!(elsewhere(&to(host), &names).is_empty(), "{host}");
        }
        for host in ["other", "cart.elsewhere.svc.cluster.local", "cart-v2"] {
            assert_eq!(elsewhere(&to(host), &names), [host]);
        }
        let rest = json!({"http": [{"redirect": {"uri": "/"}}, {"delegate": {"name": "x"}}], "tls": [{}], "tcp": []});
        assert_eq!(elsewhere(&rest, &names), ["a delegate", "a redirect", "tls routes"]);
    }
}
