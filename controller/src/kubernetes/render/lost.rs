//! What adopting a VirtualService keeps of its routes, and what would be lost: other routes, hosts, gateways, conditions and settings.

use serde_json::{Map, Value, json};

use super::names::Names;

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

/// Returns the settings that all routes of a VirtualService have: a timeout, retries, headers. Those that differ are left out.
#[must_use]
pub(crate) fn settings(spec: &Value) -> Map<String, Value> {
    let mut all = routes(spec).map(settings_of);
    let mut common = all.next().unwrap_or_default();
    all.for_each(|other| common.retain(|field, value| other.get(field) == Some(value)));
    common
}

/// Returns whether a value says all that another one says: in lists too, whatever the order.
fn says(value: &Value, said: &Value) -> bool {
    match (value, said) {
        (Value::Object(map), Value::Object(said)) => {
            said.iter().all(|(field, said)| map.get(field).is_some_and(|value| says(value, said)))
        }
        (Value::Array(list), Value::Array(said)) => said.iter().all(|said| list.iter().any(|value| says(value, said))),
        (value, said) => value == said,
    }
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

/// Returns what a VirtualService says that the one in its place would not say: hosts, gateways, conditions and settings of its
/// routes, and other ports than the service's own. The settings that all of them have are kept, and who gives one of some routes in the
/// Canary has it for all.
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
    let last = routes(wanted).last().cloned().unwrap_or_default();
    let ours: Vec<Value> = conditions_of(&last);
    for (at, route) in routes(live).enumerate() {
        let number = at + 1;
        let is_kept = |field: &String, value: &Value| {
            kept.get(field) == Some(value) || last.get(field).is_some_and(|wanted| says(wanted, value))
        };
        let own = settings_of(route).into_iter().filter(|(field, value)| !is_kept(field, value));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn cart() -> Names {
        let [namespace, canary, target, apex] = ["shop", "cart", "cart", "cart"].map(Into::into);
        Names { namespace, canary, target, apex, ..Names::default() }
    }

    #[test]
    fn what_adoption_would_lose_is_named() {
        let names = cart();
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
        // Field by field, and what the Canary says too is not lost.
        let retries = json!({"attempts": 3});
        let two = json!({"http": [{"timeout": "9s", "retries": retries, "headers": {"request": {"remove": ["x-a"]}}}, {"retries": retries}]});
        assert_eq!(with(two.clone()), ["headers of route 1", "timeout of route 1"]);
        let mut live = two;
        live["hosts"] = json!(["a.example.com"]);
        live["gateways"] = json!(["public"]);
        let route = json!({"timeout": "9s", "headers": {"request": {"remove": ["x-weir", "x-a"]}}});
        let said = json!({"hosts": ["a.example.com"], "gateways": ["public"], "http": [route]});
        assert_eq!(lost(&live, &said, &names, Some(80)), [""; 0]);
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
    fn routes_to_anybody_but_the_canarys_own_services_lead_elsewhere() {
        let names = cart();
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
