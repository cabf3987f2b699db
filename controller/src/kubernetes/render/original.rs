//! What an object was before Weir, kept in an annotation of its own, and made again when the Canary goes.

use serde_json::{Map, Value, json};

use super::names::Names;
use crate::kubernetes::kinds::Labels;

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
        let finds = |pods: &Labels| selector.iter().all(|(key, value)| pods.get(key) == Some(value));
        if !selector.is_empty() && primary.is_some_and(finds) {
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

/// Returns where a VirtualService leads besides the services of a Canary: what it would lose by being adopted.
#[must_use]
pub(crate) fn foreign_destinations(spec: &Value, names: &Names) -> Vec<String> {
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

/// Returns the settings that all routes of a VirtualService have: a timeout, retries, headers. Nothing where they differ.
#[must_use]
pub(crate) fn settings(spec: &Value) -> Map<String, Value> {
    let mut all = routes(spec).map(settings_of);
    let first = all.next().unwrap_or_default();
    if all.all(|other| other == first) { first } else { Map::new() }
}

/// Returns the conditions of which a request must meet one, so that any route of a VirtualService leads it; none where a route leads all.
#[must_use]
pub(crate) fn union_of_conditions(spec: &Value) -> Vec<Value> {
    let mut found: Vec<Value> = Vec::new();
    for route in routes(spec) {
        let conditions = route["match"].as_array().map(Vec::as_slice).unwrap_or_default();
        if conditions.is_empty() {
            return Vec::new();
        }
        for condition in conditions {
            if !found.contains(condition) {
                found.push(condition.clone());
            }
        }
    }
    found
}

/// Returns the conditions that were kept when an object was adopted, of what it was.
#[must_use]
pub(crate) fn kept_conditions(original: &str) -> Vec<Value> {
    let original: Value = serde_json::from_str(original).unwrap_or_default();
    original[CONDITIONS].as_array().cloned().unwrap_or_default()
}

/// Returns what a VirtualService says that the one in its place would not say: hosts, gateways, conditions and settings of its
/// routes, and other ports than the service's own. The settings that all of them have are kept.
#[must_use]
pub(crate) fn lost(live: &Value, wanted: &Value, names: &Names, own_port: Option<i64>) -> Vec<String> {
    let texts = |spec: &Value, field: &str| -> Vec<String> {
        let list = spec[field].as_array().into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_ascii_lowercase).collect()
    };
    let in_mesh = [names.apex.clone(), format!("{}.{}", names.apex, names.namespace)];
    // One service by several names.
    let host = |host: String| {
        if in_mesh.contains(&host) || host.starts_with(&format!("{}.svc.", in_mesh[1])) {
            names.apex.clone()
        } else {
            host
        }
    };
    let gateway = |name: String| name.strip_prefix(&format!("{}/", names.namespace)).map(str::to_owned).unwrap_or(name);
    let hosts = |spec: &Value| texts(spec, "hosts").into_iter().map(host).collect::<Vec<_>>();
    let gateways = |spec: &Value| {
        let named = texts(spec, "gateways");
        // Without any it is the mesh's; without hosts it is delegated to.
        let default = if named.is_empty() && !hosts(spec).is_empty() { vec!["mesh".to_owned()] } else { named };
        default.into_iter().map(gateway).collect::<Vec<_>>()
    };
    let mut found = Vec::new();
    let missing = |live: Vec<String>, wanted: Vec<String>| live.into_iter().filter(move |it| !wanted.contains(it));
    found.extend(missing(hosts(live), hosts(wanted)).map(|host| format!("host {host}")));
    found.extend(missing(gateways(live), gateways(wanted)).map(|gateway| format!("gateway {gateway}")));
    let kept = settings(live);
    let ours: Vec<Value> = routes(wanted).last().map(conditions_of).unwrap_or_default();
    for (at, route) in routes(live).enumerate() {
        let number = at + 1;
        let own = settings_of(route).into_iter().filter(|(field, value)| kept.get(field) != Some(value));
        found.extend(own.map(|(field, _)| format!("{field} of route {number}")));
        let theirs = conditions_of(route);
        let all = ours.is_empty() || ours.contains(&json!({"uri": {"prefix": "/"}}));
        let narrower = !all && (theirs.is_empty() || theirs.iter().any(|it| !ours.contains(it)));
        found.extend(narrower.then(|| format!("requests of route {number}")));
        // Requests of the mesh to another port stay there, where they are led to that port itself.
        let stays = |port: i64| {
            let of_port = |condition: &Value| condition["port"] == port;
            !theirs.is_empty() && theirs.iter().all(of_port) && gateways(live) == ["mesh"]
        };
        for to in route["route"].as_array().into_iter().flatten() {
            let port = to.pointer("/destination/port/number").and_then(Value::as_i64);
            let port = port.filter(|port| Some(*port) != own_port && !stays(*port));
            found.extend(port.map(|port| format!("port {port} of route {number}")));
            found.extend(to.pointer("/destination/subset").map(|subset| format!("subset {subset} of route {number}")));
            found.extend(to.get("headers").map(|_| format!("headers of a destination of route {number}")));
        }
    }
    found
}

fn routes(spec: &Value) -> impl Iterator<Item = &Value> {
    spec["http"].as_array().into_iter().flatten()
}

fn settings_of(route: &Value) -> Map<String, Value> {
    let mut settings = route.as_object().cloned().unwrap_or_default();
    settings.retain(|field, _| !["name", "match", "route"].contains(&field.as_str()));
    settings
}

/// Returns the conditions of a route without the names that people give them.
fn conditions_of(route: &Value) -> Vec<Value> {
    let unnamed = |condition: &Value| {
        let mut condition = condition.as_object().cloned().unwrap_or_default();
        condition.remove("name");
        condition.into()
    };
    route["match"].as_array().into_iter().flatten().map(unnamed).collect()
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
    // Only what adoption changes.
    let kept = |of: &Value, keys: &[&str]| -> Map<String, Value> {
        keys.iter().filter_map(|key| Some(((*key).to_owned(), of.get(*key)?.clone()))).collect()
    };
    let mut restored = kept(&original["metadata"], &["labels", "annotations"]);
    restored.extend(kept(metadata, &["name", "namespace", "uid"]));
    let spec = match *kind {
        "Service" => kept(&original["spec"], &SERVICE).into(),
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
    use super::*;

    #[test]
    fn what_adoption_would_lose_is_named() {
        let names = Names {
            namespace: "shop".into(),
            canary: "cart".into(),
            target: "cart".into(),
            apex: "cart".into(),
            ..Names::default()
        };
        let wanted = json!({"hosts": ["a.example.com", "cart"], "gateways": ["public"], "http": [{}, {}]});
        let with = |change: Value| {
            let mut live = json!({"hosts": ["A.example.com"], "gateways": ["shop/public"], "http": [{"route": []}]});
            live.as_object_mut().unwrap().extend(change.as_object().cloned().unwrap());
            lost(&live, &wanted, &names, Some(80))
        };
        assert_eq!(with(json!({})), [""; 0]);
        assert_eq!(with(json!({"hosts": ["a.example.com", "cart.shop.svc.cluster.local"]})), [""; 0]);
        assert_eq!(with(json!({"hosts": ["a.example.com", "b.example.com"]})), ["host b.example.com"]);
        assert_eq!(with(json!({"gateways": ["public", "mesh"]})), ["gateway mesh"]);
        assert_eq!(with(json!({"gateways": []})), ["gateway mesh"]);
        // What all routes have is kept, and what one of them has is not.
        assert_eq!(with(json!({"http": [{"timeout": "9s"}]})), [""; 0]);
        assert_eq!(with(json!({"http": [{"timeout": "9s"}, {"timeout": "9s"}]})), [""; 0]);
        assert_eq!(
            with(json!({"http": [{"timeout": "9s", "match": [{"uri": {"prefix": "/slow"}}]}, {}]})),
            ["timeout of route 1"]
        );
        let subset = json!({"http": [{"route": [{"destination": {"host": "cart", "subset": "v1"}}]}]});
        assert_eq!(with(subset), ["subset \"v1\" of route 1"]);
        let narrow = json!({"hosts": ["a.example.com"], "gateways": ["public"], "http": [{"match": [{"uri": {"prefix": "/a"}}]}]});
        let live = json!({"hosts": ["a.example.com"], "gateways": ["public"], "http": [{"match": [{"name": "n", "uri": {"prefix": "/a"}}]}, {}]});
        assert_eq!(lost(&live, &narrow, &names, Some(80)), ["requests of route 2"]);
        let all = json!({"hosts": ["a.example.com"], "gateways": ["public"], "http": [{"match": [{"uri": {"prefix": "/"}}]}]});
        assert_eq!(lost(&live, &all, &names, Some(80)), [""; 0]);
        let at = |port: i64| json!({"destination": {"host": "cart", "port": {"number": port}}});
        assert_eq!(with(json!({"http": [{"route": [at(80)]}]})), [""; 0]);
        let grpc = json!({"match": [{"uri": {"prefix": "/grpc"}}], "route": [at(9090)]});
        assert_eq!(with(json!({"http": [grpc, {"route": [at(80)]}]})), ["port 9090 of route 1"]);
        let other_port = json!([{"match": [{"port": 9090}], "route": [at(9090)]}, {"route": [at(80)]}]);
        assert_eq!(with(json!({"http": other_port})), ["port 9090 of route 1"]);
        let live = json!({"hosts": ["cart"], "http": other_port});
        assert_eq!(
            lost(&live, &json!({"hosts": ["cart"], "gateways": ["mesh"], "http": [{}]}), &names, Some(80)),
            [""; 0]
        );
    }

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
    fn routes_to_anybody_but_the_canarys_own_services_lead_elsewhere() {
        let names = Names {
            namespace: "shop".into(),
            canary: "cart".into(),
            target: "cart".into(),
            apex: "cart".into(),
            ..Names::default()
        };
        let to = |host: &str| json!({"http": [{"route": [{"destination": {"host": host}}]}]});
        for host in ["cart", "cart-primary", "cart-canary", "cart.shop", "cart.shop.svc.cluster.local"] {
            assert!(foreign_destinations(&to(host), &names).is_empty(), "{host}");
        }
        for host in ["other", "cart.elsewhere.svc.cluster.local", "cart-v2"] {
            assert_eq!(foreign_destinations(&to(host), &names), [host]);
        }
        let rest = json!({"http": [{"redirect": {"uri": "/"}}, {"delegate": {"name": "x"}}], "tls": [{}], "tcp": []});
        assert_eq!(foreign_destinations(&rest, &names), ["a delegate", "a redirect", "tls routes"]);
    }
}
