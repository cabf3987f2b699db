//! The VirtualService of a Canary: requests with the token go to the canary, all others to the primary. Where the primary has a cookie of
//! its own, a route before its last one ends both cookies at rest.
//!
//! Weights are nowhere in it: it is written when the Canary is made or edited, and never during a rollout.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use weir_wire::TOKEN_HEADER;

use super::names::{Names, Ownership, held};
use super::service::decorate;
use crate::api::service::{Free, Retries, Rewrite};
use crate::api::{CanarySpec, EndedCookies};
use crate::gateway_config::RouteNames;
use crate::kubernetes::kinds::istio::api_version;

/// Where requests go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arms {
    /// With the token to the canary, else to the primary.
    Both,
    /// To the service that users call, as if there were no Weir.
    Apex,
}

/// Renders the VirtualService. `multiport` says whether the services have several ports, so that a route must name one;
/// `inherited` are settings of the adopted one's routes, which hold where the Canary says nothing.
#[must_use]
pub(crate) fn virtual_service(
    names: &Names,
    spec: &CanarySpec,
    arms: Arms,
    ownership: Ownership,
    multiport: bool,
    inherited: &Map<String, Value>,
) -> Value {
    let service = &spec.service;
    let matches: Vec<Value> = service.r#match.iter().map(|Free(map)| map.clone().into()).collect();
    let destination = |host: &str| {
        let mut destination = json!({"host": host});
        if multiport {
            destination["port"] = json!({"number": service.port});
        }
        json!([{"destination": destination}])
    };
    let http = match arms {
        Arms::Both => {
            let canary = destination(&names.canary_service());
            // A delegate with any rule for headers loses all rules of the VirtualService that delegates to it.
            let silent =
                service.delegation == Some(true) && service.headers.is_none() && !inherited.contains_key("headers");
            let to_primary = |matches: Vec<Value>| {
                route(spec, &names.primary_route(), matches, destination(&names.primary_service()))
            };
            let ended = EndedCookies::of(&spec.analysis).filter(|_| !silent);
            let ending = ended.and_then(|cookies| {
                let bringing = with_cookies(&matches, &cookies.pattern);
                (!bringing.is_empty()).then(|| (to_primary(bringing), cookies))
            });
            let to_canary = route(spec, &names.canary_route(), with_token(matches.clone(), &names.token), canary);
            let routes = [Some((to_canary, None)), ending.map(|(route, cookies)| (route, Some(cookies)))];
            let routes = routes.into_iter().flatten().chain([(to_primary(matches), None)]);
            let inherit = |mut route: Value| {
                for (field, value) in inherited {
                    let own = route.get(field.as_str()).cloned();
                    route[field] = match own {
                        Some(own) if field == "headers" => with_headers(&own, value),
                        own => own.unwrap_or_else(|| value.clone()),
                    };
                }
                if silent { route } else { without_token(route) }
            };
            let finished = |(route, cookies): (Value, Option<EndedCookies>)| match cookies {
                Some(cookies) => with_endings(inherit(route), &cookies),
                None => inherit(route),
            };
            routes.map(finished).collect()
        }
        Arms::Apex => vec![route(spec, &names.primary_route(), matches, destination(&names.apex))],
    };
    let mut body = json!({"http": http});
    if service.delegation != Some(true) {
        let gateways = if service.gateways.is_empty() { vec!["mesh".to_owned()] } else { service.gateways.clone() };
        body["gateways"] = gateways.into();
        body["hosts"] = hosts(names, spec).into();
    }
    let mut metadata = held(names, &names.apex, ownership);
    decorate(&mut metadata, service.apex.as_ref());
    json!({"apiVersion": api_version(), "kind": "VirtualService", "metadata": metadata, "spec": body})
}

/// Renders the routes that keep requests of the mesh to the service's other ports where they were: a route without a port would have
/// them go to the one that is split.
#[must_use]
pub(crate) fn routes_of_other_ports(names: &Names, others: &BTreeSet<i64>) -> Vec<Value> {
    let route = |port: &i64| {
        json!({
            "name": format!("{}/port-{port}", names.primary_route()),
            "match": [{"port": port, "gateways": ["mesh"]}],
            "route": [{"destination": {"host": names.apex, "port": {"number": port}}}],
        })
    };
    others.iter().map(route).collect()
}

/// Returns the names that gateways have for the routes of the VirtualService: those to the primary are what the filter sees.
#[must_use]
pub(crate) fn route_names(names: &Names, spec: &CanarySpec) -> RouteNames {
    let matches = &spec.service.r#match;
    RouteNames {
        primary: named(&names.primary_route(), matches),
        canary: named(&names.canary_route(), matches),
        direct: Vec::new(),
    }
}

/// istiod appends the name of the match, where it has one.
fn named(route: &str, matches: &[Free]) -> Vec<String> {
    let mut named: Vec<String> = Vec::new();
    for Free(found) in matches {
        named.push(match found.get("name").and_then(Value::as_str) {
            Some(name) => format!("{route}.{name}"),
            None => route.to_owned(),
        });
    }
    named.sort();
    named.dedup();
    if named.is_empty() { vec![route.to_owned()] } else { named }
}

/// Returns the hosts of the VirtualService, as Flagger makes them: the user's, and the service's name unless `*` is there.
fn hosts(names: &Names, spec: &CanarySpec) -> Vec<String> {
    let mut hosts = spec.service.hosts.clone();
    if !hosts.iter().any(|host| host == "*" || *host == names.apex) {
        hosts.push(names.apex.clone());
    }
    hosts
}

/// Adds the condition on the token to each of the user's conditions; alone where there are none.
fn with_token(matches: Vec<Value>, token: &str) -> Vec<Value> {
    let matches = if matches.is_empty() { vec![json!({})] } else { matches };
    matches
        .into_iter()
        // Whatever a user wrote there: without the token the canary's route, which stands first, would take everything.
        .map(|found| with_field(found, &["headers", TOKEN_HEADER], json!({"exact": token})))
        .collect()
}

/// Adds the condition on the cookies to each of the user's conditions, for requests that the filter does not lead past it. Where a user
/// has a condition on cookies himself, none is ended.
fn with_cookies(matches: &[Value], pattern: &str) -> Vec<Value> {
    let any = [json!({})];
    let matches = if matches.is_empty() { &any[..] } else { matches };
    let free = |found: &&Value| found["headers"].as_object().is_none_or(|headers| !headers.contains_key("cookie"));
    let with = |found: &Value| {
        let found = with_field(found.clone(), &["headers", "cookie"], json!({"regex": pattern}));
        // An empty condition is that the header is there at all.
        with_field(found, &["withoutHeaders", TOKEN_HEADER], json!({}))
    };
    matches.iter().filter(free).map(with).collect()
}

/// Adds the answers' headers that end the cookies. A header can be added once under each spelling of its name.
fn with_endings(route: Value, cookies: &EndedCookies) -> Value {
    let added = route.pointer("/headers/response/add").and_then(Value::as_object).cloned().unwrap_or_default();
    let spellings = ["set-cookie", "Set-Cookie", "SET-COOKIE", "Set-cookie"];
    let free = spellings.into_iter().filter(|name| !added.contains_key(*name));
    // Envoy takes what stands between two % for a variable.
    let endings =
        free.zip(&cookies.endings).map(|(name, ending)| (name.to_owned(), Value::from(ending.replace('%', "%%"))));
    let added: Map<String, Value> = endings.chain(added.clone()).collect();
    with_field(route, &["headers", "response", "add"], added.into())
}

fn route(spec: &CanarySpec, name: &str, matches: Vec<Value>, destination: Value) -> Value {
    let service = &spec.service;
    let mut route = Map::new();
    route.insert("name".into(), name.into());
    if !matches.is_empty() {
        route.insert("match".into(), matches.into());
    }
    route.insert("route".into(), destination);
    if let Some(Free(headers)) = &service.headers {
        route.insert("headers".into(), headers.clone().into());
    }
    if let Some(timeout) = &service.timeout {
        route.insert("timeout".into(), timeout.clone().into());
    }
    if let Some(Rewrite { uri, authority, .. }) = &service.rewrite {
        route.insert("rewrite".into(), some([("uri", uri.clone().into()), ("authority", authority.clone().into())]));
    }
    if let Some(Retries { attempts, per_try_timeout, retry_on }) = &service.retries {
        let retries = [
            ("attempts", (*attempts).into()),
            ("perTryTimeout", per_try_timeout.clone().into()),
            ("retryOn", retry_on.clone().into()),
        ];
        route.insert("retries".into(), some(retries));
    }
    if let Some(Free(policy)) = &service.cors_policy {
        route.insert("corsPolicy".into(), policy.clone().into());
    }
    route.into()
}

/// Adds to what a Canary does with headers what the adopted routes did with others.
fn with_headers(own: &Value, inherited: &Value) -> Value {
    let mut merged = own.clone();
    for way in ["request", "response"] {
        let ours = [&own[way]["set"], &own[way]["add"]].into_iter().filter_map(Value::as_object).flat_map(Map::keys);
        let removed = own[way]["remove"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let said: BTreeSet<String> = ours.map(String::as_str).chain(removed).map(str::to_ascii_lowercase).collect();
        let is_free = |name: &str| !said.contains(&name.to_ascii_lowercase());
        for (operation, theirs) in inherited[way].as_object().into_iter().flatten() {
            let path = [way, operation.as_str()];
            merged = match (theirs, own[way][operation].clone()) {
                (Value::Array(theirs), list) => {
                    let mut list = list.as_array().cloned().unwrap_or_default();
                    list.extend(theirs.iter().filter(|name| name.as_str().is_some_and(is_free)).cloned());
                    with_field(merged, &path, list.into())
                }
                (Value::Object(theirs), map) => {
                    let mut map = map.as_object().cloned().unwrap_or_default();
                    map.extend(theirs.clone().into_iter().filter(|(name, _)| is_free(name)));
                    with_field(merged, &path, map.into())
                }
                _ => merged,
            };
        }
    }
    merged
}

/// Adds the removal of the token to what the user does with headers: no upstream sees it.
fn without_token(route: Value) -> Value {
    let removed = route.pointer("/headers/request/remove").and_then(Value::as_array).cloned().unwrap_or_default();
    let removed: Vec<Value> = removed.into_iter().chain([TOKEN_HEADER.into()]).collect();
    with_field(route, &["headers", "request", "remove"], removed.into())
}

fn some<const N: usize>(fields: [(&str, Value); N]) -> Value {
    fields.into_iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Returns a value with another field in it: an object, whatever stood in its place.
fn with_field(value: Value, path: &[&str], new: Value) -> Value {
    let Some((field, rest)) = path.split_first() else { return new };
    let mut map = match value {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    let inner = map.remove(*field).unwrap_or_default();
    map.insert((*field).to_owned(), with_field(inner, rest, new));
    map.into()
}
