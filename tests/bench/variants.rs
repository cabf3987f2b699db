//! What is compared: ways to send a share of the requests elsewhere.

use std::path::Path;

use serde_json::{Value, json};
use weir_wire::{Canary, Config, Lookup, Weight};

use crate::crossings::empty_module;
use crate::envoy::root;

/// The host of most requests.
pub(crate) const HOST: &str = "shop.example.com";
/// The host of the second canary.
pub(crate) const OTHER: &str = "service-2.example.com";
const TOKEN: &str = "7d0b5a2c91";

/// One gateway to measure.
pub(crate) struct Variant {
    /// Its row's name.
    pub(crate) name: String,
    /// Envoy's configuration.
    pub(crate) bootstrap: Value,
    /// How often it makes the call that its row is about.
    pub(crate) calls: u32,
}

/// A server that answers without doing anything.
pub(crate) fn upstream() -> Value {
    let route = json!({"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "x".repeat(200)}}});
    bootstrap(&json!([router()]), &json!([route]), 0)
}

/// The ways to split: the first one is the base. Another build of the module, if one is given, has rows of its own.
pub(crate) fn split(upstream: u16, against: Option<&Path>) -> Result<Vec<Variant>, String> {
    let code = code(&root().join("target/weir-filter.wasm"))?;
    let make = |name: &str, filters: Value, routes: Value| Variant {
        name: name.to_owned(),
        bootstrap: bootstrap(&filters, &routes, upstream),
        calls: 0,
    };
    let module = |config: &Config| wasm(&code, &serde_json::to_string(config).unwrap_or_default());
    let weir = |name: &str, config: Config| {
        let mut filter = module(&config);
        restrict(&mut filter, &config);
        make(name, json!([filter, router()]), by_token())
    };
    // As it is delivered: off in the chain, on where a route says so.
    let off = |name: &str, config: Config, routes: Value| {
        let mut filter = module(&config);
        restrict(&mut filter, &config);
        filter["disabled"] = json!(true);
        make(name, json!([filter, router()]), routes)
    };
    let open = |name: &str, config: Config| make(name, json!([module(&config), router()]), by_token());
    let weighted = json!([{"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": [
        {"name": "primary", "weight": 90}, {"name": "canary", "weight": 10}]}}}]);
    let idle = |canaries: usize| config((0..canaries).map(|number| canary(number + 2, Lookup::Host, 0)).collect());
    let mut list = vec![
        make("weighted clusters 90/10", json!([router()]), weighted),
        make("plain route", json!([router()]), json!([{"match": {"prefix": "/"}, "route": {"cluster": "primary"}}])),
        make("two routes without filter", json!([router()]), by_token()),
        make("Lua split without counting", json!([lua(LUA_SPLIT), router()]), by_token()),
        make("Lua split that counts status and latency", json!([lua(LUA_SPLIT_AND_COUNT), router()]), by_token()),
        make("empty module", json!([wasm(&empty_module(), ""), router()]), by_token()),
        weir("weir 10 % by host", config(vec![canary(1, Lookup::Host, 1_000)])),
        open("weir 10 % by host with every callback", config(vec![canary(1, Lookup::Host, 1_000)])),
        weir("weir 10 % by route name", config(vec![canary(1, Lookup::Route, 1_000)])),
        off("weir at rest: the filter is off", config(Vec::new()), by_token()),
        off("weir in another's release: off on this route", config(vec![canary(2, Lookup::Host, 1_000)]), by_token()),
        off("weir 10 % by host, switched on by the route", config(vec![canary(1, Lookup::Host, 1_000)]), switched_on()),
        off("weir 10 % and 999 others, switched on by the route", with_idle(999), switched_on()),
        weir("weir idle", config(vec![canary(1, Lookup::Host, 0)])),
        weir("weir another's host", idle(1)),
        weir("weir 10 % and 99 idle", with_idle(99)),
        weir("weir 10 % and 999 idle", with_idle(999)),
    ];
    if let Some(against) = against {
        let code = self::code(against)?;
        let other = |name: &str, config: Config| {
            let mut filter = wasm(&code, &serde_json::to_string(&config).unwrap_or_default());
            restrict(&mut filter, &config);
            make(name, json!([filter, router()]), by_token())
        };
        list.push(other("other build 10 % by host", config(vec![canary(1, Lookup::Host, 1_000)])));
        list.push(other("other build another's host", idle(1)));
    }
    Ok(list)
}

fn code(module: &Path) -> Result<Value, String> {
    let module = module.canonicalize().map_err(|error| format!("{}: {error}; run filter/build", module.display()))?;
    Ok(json!({"local": {"filename": module.to_string_lossy()}}))
}

/// One Canary in a release at 10 %, among so many others at rest.
pub(crate) fn with_idle(idle: usize) -> Config {
    let idle = (0..idle).map(|number| canary(number + 2, Lookup::Host, 0));
    config(std::iter::once(canary(1, Lookup::Host, 1_000)).chain(idle).collect())
}

pub(crate) fn canary(number: usize, lookup: Lookup, weight: u32) -> Canary {
    let run = if weight > 0 { "r1".to_owned() } else { String::new() };
    let host = if number == 1 { HOST.to_owned() } else { format!("service-{number}.example.com") };
    Canary {
        id: format!("{number:016x}"),
        name: format!("shop/service-{number}"),
        hosts: vec![host],
        routes: vec!["primary".into()],
        lookup,
        token: TOKEN.into(),
        run,
        epoch: 1,
        weight: Weight::new(weight).unwrap_or_default(),
        latency_ms: vec![5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000],
        admission: 10,
        limits: vec![weir_wire::Limits {
            epoch: 1,
            comparison: vec![[0, 4], [1, 5], [10, 9]],
            absolute: vec![[3, 3], [10, 5], [1_000, 100]],
            end: [100, 100_000_000],
            ..weir_wire::Limits::default()
        }],
        ..Canary::default()
    }
}

pub(crate) fn config(canaries: Vec<Canary>) -> Config {
    Config { version: weir_wire::config::VERSION, generation: 1, armed_until: u64::MAX, canaries, ..Config::default() }
}

/// A filter of this code.
pub(crate) fn wasm(code: &Value, configuration: &str) -> Value {
    json!({"name": "weir", "typed_config": weir_wire::plugin::unrestricted(code.clone(), configuration)})
}

/// The filter as it is delivered, with this configuration.
pub(crate) fn delivered(config: &Config) -> Result<Value, String> {
    let code = code(&root().join("target/weir-filter.wasm"))?;
    let mut filter = wasm(&code, &serde_json::to_string(config).unwrap_or_default());
    restrict(&mut filter, config);
    Ok(filter)
}

/// Leaves out the callbacks that a configuration does not need, as the controller does.
fn restrict(filter: &mut Value, config: &Config) {
    let allowed: serde_json::Map<_, _> =
        weir_wire::capabilities::needed(config).map(|name| (name.to_owned(), json!({}))).collect();
    filter["typed_config"]["config"]["capability_restriction_config"] = json!({"allowed_capabilities": allowed});
}

/// A draw for each request, and nothing known of what becomes of it.
const LUA_SPLIT: &str = r#"
function envoy_on_request(handle)
  if math.random() < 0.1 then
    handle:headers():replace("HEADER", "TOKEN")
    handle:clearRouteCache()
  end
end
"#;

/// The same, and what Lua can count of the filter's counters: requests, classes of status and latency until the response's
/// headers, by arm. It keeps them in the worker's own memory, and nobody can read them there: a scrape would cost more.
const LUA_SPLIT_AND_COUNT: &str = r#"
local edges = {5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000}
local counts = {primary = {assigned = 0, latency = {}}, canary = {assigned = 0, latency = {}}}
function envoy_on_request(handle)
  local arm = "primary"
  if math.random() < 0.1 then
    arm = "canary"
    handle:headers():replace("HEADER", "TOKEN")
    handle:clearRouteCache()
  end
  counts[arm].assigned = counts[arm].assigned + 1
  local data = handle:streamInfo():dynamicMetadata()
  data:set("split", "arm", arm)
  data:set("split", "begun", handle:timestamp())
end
function envoy_on_response(handle)
  local split = handle:streamInfo():dynamicMetadata():get("split")
  if split == nil then return end
  local of = counts[split["arm"]]
  local class = string.sub(handle:headers():get(":status"), 1, 1)
  of[class] = (of[class] or 0) + 1
  local took, slot = handle:timestamp() - split["begun"], #edges + 1
  for i, edge in ipairs(edges) do
    if took <= edge then slot = i break end
  end
  of.latency[slot] = (of.latency[slot] or 0) + 1
end
"#;

fn lua(code: &str) -> Value {
    let code = code.replace("HEADER", weir_wire::TOKEN_HEADER).replace("TOKEN", TOKEN);
    json!({"name": "lua", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
        "default_source_code": {"inline_string": code}}})
}

/// The filter at the chain's end.
pub(crate) fn router() -> Value {
    json!({"name": "envoy.filters.http.router", "typed_config":
        {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}})
}

/// The two routes of a Canary.
pub(crate) fn by_token() -> Value {
    let token = json!({"name": weir_wire::TOKEN_HEADER, "string_match": {"exact": TOKEN}});
    json!([
        {"name": "canary", "match": {"prefix": "/", "headers": [token]}, "route": {"cluster": "canary"},
            "request_headers_to_remove": [weir_wire::TOKEN_HEADER]},
        {"name": "primary", "match": {"prefix": "/"}, "route": {"cluster": "primary"}}])
}

/// The same routes, which switch the filter on by an empty configuration, as the controller writes them.
pub(crate) fn switched_on() -> Value {
    let mut routes = by_token();
    for route in routes.as_array_mut().into_iter().flatten() {
        route["typed_per_filter_config"] =
            json!({"weir": {"@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute"}});
    }
    routes
}

/// A gateway with one listener, whose two clusters are one server.
pub(crate) fn bootstrap(filters: &Value, routes: &Value, upstream: u16) -> Value {
    let loopback = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
    let hcm = json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gateway", "http_filters": filters,
        "route_config": {"name": "routes", "virtual_hosts": [{"name": "shop", "domains": ["*"], "routes": routes}]}}});
    let cluster = |name: &str| {
        json!({"name": name, "type": "STATIC", "connect_timeout": "1s", "load_assignment": {"cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address":
                {"address": "127.0.0.1", "port_value": upstream}}}}]}]}})
    };
    json!({
        "node": {"id": "bench", "cluster": "bench"},
        "admin": {"address": loopback},
        "static_resources": {
            "listeners": [{"name": "gateway", "address": loopback, "filter_chains": [{"filters": [hcm]}]}],
            "clusters": [cluster("primary"), cluster("canary")]}})
}
