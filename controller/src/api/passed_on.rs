//! What a Canary passes on to Istio as it stands.
//!
//! istiod takes more than Envoy does. For one text that Envoy does not take it refuses all routes of its gateway, everybody's, and goes on with
//! those that it had: nobody's release could begin. So each text is one that Envoy takes.

use serde_json::Value;

use super::problem::Problems;
use super::service::{Free, ServiceSpec};
use super::{limits, regex_size, traffic_policy};

/// What stands in a header's value for a property of the request, without and with parameters: Envoy's command operators, as its releases have
/// had them for long. `ENVIRONMENT` is none of them, which would tell what a gateway's process is given.
const PLAIN: [&str; 43] = [
    "BYTES_RECEIVED",
    "BYTES_SENT",
    "CONNECTION_ID",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_LOCAL_ADDRESS",
    "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_LOCAL_PORT",
    "DOWNSTREAM_LOCAL_SUBJECT",
    "DOWNSTREAM_LOCAL_URI_SAN",
    "DOWNSTREAM_PEER_CERT",
    "DOWNSTREAM_PEER_CERT_V_END",
    "DOWNSTREAM_PEER_CERT_V_START",
    "DOWNSTREAM_PEER_FINGERPRINT_1",
    "DOWNSTREAM_PEER_FINGERPRINT_256",
    "DOWNSTREAM_PEER_ISSUER",
    "DOWNSTREAM_PEER_SERIAL",
    "DOWNSTREAM_PEER_SUBJECT",
    "DOWNSTREAM_PEER_URI_SAN",
    "DOWNSTREAM_REMOTE_ADDRESS",
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_REMOTE_PORT",
    "DOWNSTREAM_TLS_CIPHER",
    "DOWNSTREAM_TLS_SESSION_ID",
    "DOWNSTREAM_TLS_VERSION",
    "DURATION",
    "HOSTNAME",
    "PROTOCOL",
    "REQUESTED_SERVER_NAME",
    "REQUEST_DURATION",
    "RESPONSE_CODE",
    "RESPONSE_CODE_DETAILS",
    "RESPONSE_DURATION",
    "RESPONSE_FLAGS",
    "ROUTE_NAME",
    "START_TIME",
    "UPSTREAM_CLUSTER",
    "UPSTREAM_HOST",
    "UPSTREAM_LOCAL_ADDRESS",
    "UPSTREAM_REMOTE_ADDRESS",
    "UPSTREAM_REQUEST_ATTEMPT_COUNT",
    "UPSTREAM_TRANSPORT_FAILURE_REASON",
    "VIRTUAL_CLUSTER_NAME",
];
const WITH_PARAMETERS: [&str; 5] = ["DYNAMIC_METADATA", "REQ", "RESP", "TRAILER", "UPSTREAM_METADATA"];

/// Variables whose parameter is a header, or one and another for where it is absent.
const OF_HEADERS: [&str; 3] = ["REQ", "RESP", "TRAILER"];

/// Notes what Istio or Envoy would not take, or has not the form that Weir adds to: its own header must find its place.
pub(super) fn check(service: &ServiceSpec, p: &mut Problems) {
    limits::count(p, "spec.service.match", "matches", service.r#match.len(), limits::ROUTES);
    for (i, Free(found)) in service.r#match.iter().enumerate() {
        if found.get("headers").is_some_and(|headers| !headers.is_object()) {
            p.add(format!("spec.service.match[{i}].headers"), "is not a map of conditions: correct or remove it");
        }
    }
    let free = service.r#match.iter().enumerate().map(|(i, found)| (format!("spec.service.match[{i}]"), found));
    let others = [
        ("corsPolicy", &service.cors_policy),
        ("headers", &service.headers),
        ("trafficPolicy", &service.traffic_policy),
    ];
    let others = others.into_iter().filter_map(|(field, free)| Some((format!("spec.service.{field}"), free.as_ref()?)));
    for (field, Free(map)) in free.chain(others) {
        let value = Value::Object(map.clone());
        if let Some(text) = texts(&value).into_iter().find_map(|(text, limit)| text_problem(text, limit)) {
            p.refuse_new(&field, text, "it is kept");
        }
        for text in patterns(&value).into_iter().filter_map(regex_size::problem) {
            p.refuse_new(&field, text, "it is kept");
        }
    }
    if let Some(Free(policy)) = &service.traffic_policy {
        traffic_policy::check(policy, p);
    }
    let rewrite = service.rewrite.clone().unwrap_or_default();
    for (field, text) in [("uri", rewrite.uri), ("authority", rewrite.authority)] {
        if let Some(text) = text.as_deref().and_then(|text| text_problem(text, limits::PASSED_ON)) {
            p.refuse_new(format!("spec.service.rewrite.{field}"), text, "it is kept");
        }
    }
    check_headers(service, p);
}

fn check_headers(service: &ServiceSpec, p: &mut Problems) {
    let Some(Free(headers)) = &service.headers else { return };
    for (whose, operations) in headers {
        let field = format!("spec.service.headers.{whose}");
        let Some(operations) = operations.as_object().filter(|_| ["request", "response"].contains(&whose.as_str()))
        else {
            p.add(field, "is not known to Istio: give request or response, each with add, set and remove");
            continue;
        };
        let fits = |(operation, value): (&String, &Value)| match operation.as_str() {
            "add" | "set" => value.as_object().is_some_and(|map| map.values().all(Value::is_string)),
            "remove" => value.as_array().is_some_and(|list| list.iter().all(Value::is_string)),
            _ => false,
        };
        if !operations.iter().all(fits) {
            p.add(field, "has not Istio's form: add and set are maps from header to text, remove is a list of headers");
            continue;
        }
        let removed = operations.get("remove").and_then(Value::as_array).into_iter().flatten();
        let kept =
            removed.filter_map(Value::as_str).find(|name| name.starts_with(':') || name.eq_ignore_ascii_case("host"));
        if let Some(name) = kept {
            p.remark(
                format!("{field}.remove"),
                format!("{name} stays: Istio removes no header that every request has"),
            );
        }
        let values = operations.values().filter_map(Value::as_object).flatten();
        for (name, value) in values {
            if let Some(text) = value.as_str().and_then(variable_problem) {
                p.refuse_new(format!("{field}.{name}"), text, "it is kept");
            }
        }
    }
}

/// Returns all texts in one of Istio's objects, names of fields among them, each with the limit of its bytes.
fn texts(value: &Value) -> Vec<(&str, usize)> {
    match value {
        Value::Object(map) => {
            let of_field = |(key, value)| [vec![(String::as_str(key), limits::NAME)], texts(value)].concat();
            map.iter().flat_map(of_field).collect()
        }
        Value::Array(list) => list.iter().flat_map(texts).collect(),
        Value::String(text) => vec![(text, limits::PASSED_ON)],
        _ => Vec::new(),
    }
}

fn text_problem(text: &str, limit: usize) -> Option<String> {
    let length = text.len();
    if text.chars().any(char::is_control) {
        return Some(format!("has a control character in {text:?}, for which Envoy refuses all routes: remove it"));
    }
    (length > limit).then(|| format!("has a text of {length} bytes, and {limit} is the limit: shorten it"))
}

/// Returns what is wrong with the variables in a header's value. A `%` is written as two.
fn variable_problem(value: &str) -> Option<String> {
    let mut rest = value;
    while let Some((_, after)) = rest.split_once('%') {
        if let Some(after) = after.strip_prefix('%') {
            rest = after;
            continue;
        }
        let Some((variable, after)) = after.split_once('%') else {
            return Some(format!("has a single % in {value:?}: write %% for a %"));
        };
        if !is_known(variable) {
            return Some(format!(
                "has the variable %{variable}%, which Weir does not know: Envoy refuses all routes for one that it does not know itself; \
                 use another one, or write %% for a %"
            ));
        }
        rest = after;
    }
    None
}

fn is_known(variable: &str) -> bool {
    let Some((name, rest)) = variable.split_once('(') else { return PLAIN.contains(&variable) };
    let Some((parameter, length)) = rest.split_once(')') else { return false };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:?/ ".contains(c);
    let fits = match OF_HEADERS.contains(&name) {
        true => are_headers(parameter),
        false => !parameter.is_empty() && parameter.chars().all(plain),
    };
    let shortened = length.strip_prefix(':').is_some_and(|digits| digits.parse::<u16>().is_ok());
    WITH_PARAMETERS.contains(&name) && fits && (length.is_empty() || shortened)
}

/// Returns whether Envoy finds one header in a parameter, or two with a `?` between them, of which one may be empty.
fn are_headers(parameter: &str) -> bool {
    let is_header = |name: &str| {
        let name = name.strip_prefix(':').unwrap_or(name);
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    let names: Vec<&str> = parameter.split('?').collect();
    names.len() <= 2
        && names.iter().any(|name| !name.is_empty())
        && names.iter().all(|name| name.is_empty() || is_header(name))
}

/// Returns the regular expressions in one of Istio's objects.
fn patterns(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(map) => {
            let own = map.get("regex").and_then(Value::as_str);
            own.into_iter().chain(map.values().flat_map(patterns)).collect()
        }
        Value::Array(list) => list.iter().flat_map(patterns).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Rules;
    use serde_json::json;

    fn problems(service: &Value, rules: Rules) -> Vec<String> {
        let service: ServiceSpec = serde_json::from_value(service.clone()).unwrap();
        let mut p = Problems { rules, ..Problems::new() };
        check(&service, &mut p);
        p.found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn no_text_makes_envoy_refuse_the_routes_of_everybody_else() {
        let header = |value: &str| json!({"headers": {"request": {"set": {"x-a": value}}}});
        for service in [
            header("%INVALID%"),
            header("100%"),
            header("%REQ%"),
            header("%REQ()%"),
            header("%REQ(a\"b)%"),
            header("%PROTOCOL:3%"),
            header("%ENVIRONMENT(SECRET)%"),
            header("%CEL(request.path)%"),
            header("%REQ(a?b?c)%"),
            header("%RESP(a?b?c)%"),
            header("%TRAILER(a?b?c?d)%"),
            header("%REQ(?)%"),
            header("%REQ( )%"),
            header("%REQ(a  b)%"),
            header("%RESP( a)%"),
            header("%REQ(a:b)%"),
            header("%REQ(a/b)%"),
            header("a\nb"),
            header(&"a".repeat(9_000)),
            json!({"headers": {"response": {"add": {"x\r\ny": "a"}}}}),
            json!({"headers": {"request": {"remove": ["x\u{0}"]}}}),
            json!({"match": [{"headers": {"a\nb": {"exact": "c"}}}]}),
            json!({"match": [{"queryParams": {"a".repeat(1_100): {"exact": "c"}}}]}),
            json!({"match": [{"name": "a\tb"}]}),
            json!({"corsPolicy": {"allowMethods": ["GET\n"]}}),
            json!({"rewrite": {"uri": "/a\nb"}}),
            json!({"rewrite": {"authority": "a\r\nb"}}),
            json!({"match": [{"uri": {"regex": format!("\\pL{}", "a{1000}".repeat(40))}}]}),
            json!({"trafficPolicy": {"loadBalancer": {"consistentHash": {"httpHeaderName": "a\nb"}}}}),
            json!({"trafficPolicy": {"loadBalancer": {"consistentHash": {"httpHeaderName": ""}}}}),
            json!({"trafficPolicy": {"loadBalancer": {"consistentHash": {"ringHash": {"minimumRingSize": 8_388_609}}}}}),
            json!({"trafficPolicy": {"tls": {"mode": "SIMPLE", "sni": "a\nb"}}}),
        ] {
            let found = problems(&service, Rules::Today);
            assert_eq!(found.len(), 1, "{service}: {found:?}");
            assert!(problems(&service, Rules::Former).is_empty(), "{service}: what was there before goes on");
        }
    }

    #[test]
    fn what_envoy_takes_is_passed_on() {
        for value in [
            "plain",
            "",
            "100%%",
            "%%%HOSTNAME%%%",
            "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
            "a %REQ(x-request-id)% b %REQ(:authority?host):40%",
            "%REQ(x-a?)% %RESP(?x-b)% %TRAILER(grpc-status)%",
            "%DYNAMIC_METADATA(istio.authn:request.auth)%",
            "grüße",
            &"a".repeat(4_000),
        ] {
            let service = json!({"headers": {"request": {"set": {"x-a": value}, "remove": ["x-b"]}}});
            assert_eq!(problems(&service, Rules::Today), [""; 0], "{value}");
        }
        // Istio leaves it, and Flagger's manifests may have it.
        let service = json!({"headers": {"request": {"remove": ["Host", ":authority"]}}});
        assert_eq!(problems(&service, Rules::Today), [""; 0]);
        let service = json!({
            "trafficPolicy": {
                "tls": {"mode": "ISTIO_MUTUAL"}, "connectionPool": {"http": {"h2UpgradePolicy": "UPGRADE"}},
                "loadBalancer": {"consistentHash": {"httpCookie": {"name": "user", "ttl": "0s"}, "maglev": {"tableSize": 65_537}}},
            },
            "match": [{"name": "a", "uri": {"regex": "/v[12]/.*"}, "headers": {"x-a": {"exact": "é"}}}],
            "corsPolicy": {"allowOrigins": [{"regex": ".*"}], "allowMethods": ["GET"], "maxAge": "24h"},
            "rewrite": {"uri": "/", "authority": "a.example.com"},
        });
        assert_eq!(problems(&service, Rules::Today), [""; 0]);
    }
}
