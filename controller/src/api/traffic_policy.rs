//! What of a TrafficPolicy Envoy refuses, or pays for with its memory: keys of hashes, and the sizes of their tables.

use serde_json::{Map, Value};

use super::limits;
use super::problem::Problems;

/// Notes what is wrong with how requests find their endpoint.
pub(super) fn check(policy: &Map<String, Value>, p: &mut Problems) {
    let own = policy.get("loadBalancer").map(|balancer| ("loadBalancer".to_owned(), balancer));
    let ports = policy.get("portLevelSettings").and_then(Value::as_array).into_iter().flatten().enumerate();
    let of_ports = ports.map(|(i, port)| (format!("portLevelSettings[{i}].loadBalancer"), &port["loadBalancer"]));
    for (field, balancer) in own.into_iter().chain(of_ports) {
        let (field, hash) = (format!("spec.service.trafficPolicy.{field}.consistentHash"), &balancer["consistentHash"]);
        for (part, problem) in keys(hash).into_iter().chain(sizes(hash)) {
            p.refuse_new(format!("{field}.{part}"), problem, "it is kept");
        }
    }
}

/// Returns what is wrong with what is hashed. Control characters are told of all texts.
fn keys(hash: &Value) -> Vec<(&'static str, String)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let cookie = hash["httpCookie"].is_object().then(|| text(&hash["httpCookie"]["name"]).unwrap_or_default());
    let mut found = Vec::new();
    for (part, name, is_token) in [
        ("httpHeaderName", text(&hash["httpHeaderName"]), true),
        ("httpCookie.name", cookie, true),
        ("httpQueryParameterName", text(&hash["httpQueryParameterName"]), false),
    ] {
        let Some(name) = name else { continue };
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c) || c.is_control();
        if name.is_empty() {
            found.push((part, "is empty, for which Envoy refuses all routes: give a name".to_owned()));
        } else if is_token && !name.strip_prefix(':').unwrap_or(&name).chars().all(token) {
            found.push((
                part,
                format!("is {name:?}, which no request can have: give the name of a header or of a cookie"),
            ));
        }
    }
    if text(&hash["httpCookie"]["ttl"]).is_some_and(|ttl| ttl.starts_with('-')) {
        let problem = "is negative, for which Envoy refuses all routes: give 0s for a session, or a positive duration";
        found.push(("httpCookie.ttl", problem.to_owned()));
    }
    found
}

/// Returns what is wrong with the tables in which endpoints are found. Each gateway has one for each cluster, and makes it anew
/// whenever an endpoint comes or goes.
fn sizes(hash: &Value) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    for (part, size) in [
        ("minimumRingSize", &hash["minimumRingSize"]),
        ("ringHash.minimumRingSize", &hash["ringHash"]["minimumRingSize"]),
        ("maglev.tableSize", &hash["maglev"]["tableSize"]),
    ] {
        let problem = match size.as_u64() {
            _ if size.is_null() => continue,
            None => format!("is {size}: give a whole number"),
            Some(size) if size > limits::HASH_TABLE => format!(
                "is {size}, and {} is the limit, as every gateway has a table of this size: give a smaller number",
                limits::HASH_TABLE
            ),
            Some(size) if part == "maglev.tableSize" && !is_prime(size) => {
                format!(
                    "is {size}, and Envoy refuses a table whose size is not prime: give a prime number, such as 65537"
                )
            }
            Some(_) => continue,
        };
        found.push((part, problem));
    }
    found
}

/// 0 is Envoy's own size, and a table of one place is one that it takes.
fn is_prime(size: u64) -> bool {
    (2..).take_while(|by| by * by <= size).all(|by| !size.is_multiple_of(by))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problems(hash: &Value) -> Vec<String> {
        let mut p = Problems::new();
        let balancer = json!({"loadBalancer": {"consistentHash": hash}});
        let policies = [balancer.clone(), json!({"portLevelSettings": [{"port": {"number": 80}}, balancer]})];
        for policy in &policies {
            check(policy.as_object().unwrap(), &mut p);
        }
        let found: Vec<String> = p.found.iter().map(ToString::to_string).collect();
        assert_eq!(found.len() % 2, 0, "of a port as of all: {found:?}");
        found
    }

    #[test]
    fn no_hash_makes_envoy_refuse_the_routes_of_everybody_else_or_takes_its_memory() {
        for hash in [
            json!({"httpHeaderName": ""}),
            json!({"httpHeaderName": "a b"}),
            json!({"httpHeaderName": "é"}),
            json!({"httpQueryParameterName": ""}),
            json!({"httpCookie": {"name": "", "ttl": "0s"}}),
            json!({"httpCookie": {"ttl": "0s"}}),
            json!({"httpCookie": {"name": "a;b", "ttl": "0s"}}),
            json!({"httpCookie": {"name": "a", "ttl": "-5s"}}),
            json!({"useSourceIp": true, "minimumRingSize": 8_388_609}),
            json!({"useSourceIp": true, "minimumRingSize": -1}),
            json!({"useSourceIp": true, "ringHash": {"minimumRingSize": 8_388_608}}),
            json!({"useSourceIp": true, "maglev": {"tableSize": 5_000_011}}),
            json!({"useSourceIp": true, "maglev": {"tableSize": 65_536}}),
        ] {
            let found = problems(&hash);
            assert_eq!(found.len(), 2, "{hash}: {found:?}");
            assert!(
                found[1].starts_with("spec.service.trafficPolicy.portLevelSettings[1].loadBalancer.consistentHash.")
            );
        }
        for hash in [
            Value::Null,
            json!({"httpHeaderName": "x-user"}),
            json!({"httpHeaderName": ":path"}),
            json!({"httpQueryParameterName": "user id"}),
            json!({"httpCookie": {"name": "user", "path": "/", "ttl": "3600s"}}),
            json!({"useSourceIp": true, "ringHash": {"minimumRingSize": 65_537}}),
            json!({"useSourceIp": true, "maglev": {"tableSize": 65_537}}),
            json!({"useSourceIp": true, "maglev": {}, "minimumRingSize": 0}),
        ] {
            assert_eq!(problems(&hash), [""; 0], "{hash}");
        }
    }
}
