//! What Envoy is told: pure functions from names and ports to its configuration as JSON.
//!
//! ```text
//! bootstrap ── listener ── routes (file) ──┬── token header ──> cluster of the canary  ── endpoints (file)
//!                 │                        └── else ──────────> cluster of the primary ── endpoints (file)
//!                 └── filter (file): Weir's module with its configuration, off but on routes that switch it on
//! ```
//!
//! Every part that changes while Envoy runs is a file of its own that is replaced by rename, so a change of endpoints or of
//! weights never touches the listener, and Envoy goes on with what it has when Weir is away. Weights are nowhere but in the
//! filter's configuration.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use weir_engine::Span;
use weir_wire::names::Arm;
use weir_wire::{Config, TOKEN_HEADER, plugin};

use crate::api::EndedCookies;
use crate::scrape::stat_prefix;

/// Name of the filter.
const FILTER: &str = "weir";

/// An unused connection to a process is closed after this. Just less than the 5 s after which common HTTP servers (Node.js
/// among them) close it from their side, at times while a request is on its way.
const UPSTREAM_IDLE: &str = "4s";

/// Envoy's own limits protect nothing here: one machine, and a full queue would look like a failure of the revision.
const NO_LIMIT: u32 = u32::MAX;

/// The files that Envoy reads.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    /// Read at its start.
    pub(crate) bootstrap: PathBuf,
    /// Virtual hosts.
    pub(crate) routes: PathBuf,
    /// Clusters.
    pub(crate) clusters: PathBuf,
    /// The filter's module and configuration.
    pub(crate) filter: PathBuf,
    folder: PathBuf,
}

/// How requests of one Canary are routed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Route {
    /// `namespace/name`.
    pub(crate) name: String,
    /// The Canary's id.
    pub(crate) id: String,
    /// Host names.
    pub(crate) hosts: Vec<String>,
    /// Value of the token header.
    pub(crate) token: String,
    /// Time that a request may take.
    pub(crate) timeout: Option<Span>,
    /// What is tried again, and how often, besides connections that could not be made.
    pub(crate) retries: Option<Retries>,
    /// Whether the processes speak HTTP/2 without TLS (gRPC).
    pub(crate) http2: bool,
    /// Cookies that are ended where clients bring them and no rollout is under way.
    pub(crate) ended: Option<EndedCookies>,
    /// Whether its requests pass the filter.
    pub(crate) filtered: bool,
}

/// What is tried again.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Retries {
    pub(crate) attempts: u32,
    pub(crate) on: String,
    pub(crate) per_try: Option<Span>,
}

/// One process that serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Endpoint {
    /// Its port on the loopback address.
    pub(crate) port: u16,
    /// It gets no new request, but ends those it has.
    pub(crate) draining: bool,
}

impl Files {
    /// Returns the files in one folder.
    pub(crate) fn in_folder(folder: &Path) -> Self {
        let file = |name: &str| folder.join(name);
        Self {
            bootstrap: file("bootstrap.json"),
            routes: file("routes.json"),
            clusters: file("clusters.json"),
            filter: file("filter.json"),
            folder: folder.to_owned(),
        }
    }

    /// Returns the file of one cluster's endpoints.
    pub(crate) fn endpoints(&self, id: &str, arm: &str) -> PathBuf {
        self.folder.join(format!("endpoints-{id}-{arm}.json"))
    }
}

/// Returns the name of an arm's cluster.
pub(crate) fn cluster_name(canary: &str, arm: &str) -> String {
    format!("{canary}/{arm}")
}

/// Returns what Envoy reads at its start.
pub(crate) fn bootstrap(files: &Files, listen: SocketAddr, admin: SocketAddr) -> Value {
    json!({
        "node": {"id": "weir", "cluster": "weir"},
        "admin": {"address": address(admin)},
        "dynamic_resources": {"cds_config": from_file(&files.clusters)},
        "static_resources": {"listeners": [{
            "name": "weir",
            "address": address(listen),
            "filter_chains": [{"filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": connection_manager(files),
            }]}],
        }]},
    })
}

fn connection_manager(files: &Files) -> Value {
    json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "weir",
        "use_remote_address": true,
        "normalize_path": true,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "rds": {"route_config_name": "weir", "config_source": from_file(&files.routes)},
        // A client's own copy of the header goes before the route is chosen, with the filter away too.
        "early_header_mutation_extensions": [{
            "name": "envoy.http.early_header_mutation.header_mutation",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
                "mutations": [{"remove": TOKEN_HEADER}],
            },
        }],
        "http_filters": [
            // Off but on the routes of Canaries that are released: nobody else pays for it.
            {"name": FILTER, "disabled": true, "config_discovery": {
                "config_source": from_file(&files.filter),
                // An empty RBAC allows everything: requests pass, unsplit, until the module is there and works.
                "default_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"},
                "apply_default_config_without_warming": true,
                "type_urls": [
                    "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
                    "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
                ],
            }},
            {"name": "envoy.filters.http.router", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
            }},
        ],
    })
}

/// Returns the filter with its module, its configuration and the callbacks that this one needs. The module's file name holds
/// its hash: Envoy looks at the name alone to see whether the code changed.
///
/// # Errors
/// When the configuration has no JSON form.
pub(crate) fn filter(module: &Path, config: &Config) -> serde_json::Result<Value> {
    Ok(resources([json!({
        "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "name": FILTER,
        "typed_config": plugin::typed_config(json!({"local": {"filename": module}}), config)?,
    })]))
}

/// Returns the clusters of these Canaries, two each.
pub(crate) fn clusters<'a>(files: &Files, routes: impl IntoIterator<Item = &'a Route>) -> Value {
    let arms = |route: &'a Route| ["primary", "canary"].map(|arm| cluster(files, route, arm));
    resources(routes.into_iter().flat_map(arms))
}

fn cluster(files: &Files, route: &Route, arm: &str) -> Value {
    let protocol = if route.http2 { "http2_protocol_options" } else { "http_protocol_options" };
    json!({
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": cluster_name(&route.name, arm),
        "type": "EDS",
        "eds_cluster_config": {"eds_config": from_file(&files.endpoints(&route.id, arm))},
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST",
        // Without this, an arm whose processes all drain would get new requests again.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0.0}},
        "circuit_breakers": {"thresholds": [{
            "max_connections": NO_LIMIT, "max_pending_requests": NO_LIMIT,
            "max_requests": NO_LIMIT, "max_retries": NO_LIMIT,
        }]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "common_http_protocol_options": {"idle_timeout": UPSTREAM_IDLE},
            "explicit_http_config": {protocol: {}},
        }},
    })
}

/// Returns the endpoints of one arm.
pub(crate) fn endpoints(canary: &str, arm: &str, endpoints: &[Endpoint]) -> Value {
    let endpoint = |endpoint: &Endpoint| {
        json!({
            "endpoint": {"address": address(SocketAddr::from(([127, 0, 0, 1], endpoint.port)))},
            "health_status": if endpoint.draining { "DRAINING" } else { "HEALTHY" },
        })
    };
    resources([json!({
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": cluster_name(canary, arm),
        "endpoints": [{"lb_endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>()}],
    })])
}

/// Returns the routes of these Canaries.
pub(crate) fn routes<'a>(routes: impl IntoIterator<Item = &'a Route>) -> Value {
    resources([json!({
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": "weir",
        "ignore_port_in_host_matching": true,
        "virtual_hosts": routes.into_iter().map(virtual_host).collect::<Vec<_>>(),
    })])
}

fn virtual_host(route: &Route) -> Value {
    let to = |arm: &str| {
        json!({
            "cluster": cluster_name(&route.name, arm),
            "timeout": route.timeout.map_or_else(|| "0s".to_owned(), seconds),
            "retry_policy": retry_policy(route.retries.as_ref()),
        })
    };
    let token = json!([{"name": TOKEN_HEADER, "string_match": {"exact": route.token}}]);
    let mut canary = json!({"name": route.name, "route": to("canary"), "match": {"prefix": "/", "headers": token}});
    let mut primary = json!({"name": route.name, "route": to("primary"), "match": {"prefix": "/"}});
    let mut ending = route.ended.as_ref().map(|cookies| ending(primary.clone(), cookies));
    if route.filtered {
        let arms = [(Arm::Primary, &mut primary), (Arm::Canary, &mut canary)];
        for (arm, to) in arms.into_iter().chain(ending.as_mut().map(|route| (Arm::Primary, route))) {
            // Its counter is there before any request: so it shows that Envoy has the switch.
            to["stat_prefix"] = stat_prefix(&route.id, arm).into();
            to["typed_per_filter_config"] = json!({
                FILTER: {"@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute"},
            });
        }
    }
    let routes: Vec<Value> = [Some(canary), ending, Some(primary)].into_iter().flatten().collect();
    json!({
        "name": route.name,
        "domains": route.hosts,
        "request_headers_to_remove": [TOKEN_HEADER],
        "routes": routes,
    })
}

/// Returns the route that ends the cookies of clients that bring them, where the filter does not lead them past it.
fn ending(to_primary: Value, cookies: &EndedCookies) -> Value {
    let mut route = to_primary;
    route["match"]["headers"] = json!([
        {"name": "cookie", "string_match": {"safe_regex": {"regex": cookies.pattern}}},
        {"name": TOKEN_HEADER, "present_match": false},
    ]);
    let add = |value: &String| {
        let header = json!({"key": "set-cookie", "value": value.replace('%', "%%")});
        json!({"header": header, "append_action": "APPEND_IF_EXISTS_OR_ADD"})
    };
    route["response_headers_to_add"] = cookies.endings.iter().map(add).collect();
    route
}

/// What never reached a process is always safe to send again, to another replica if there is one. It hides nothing that
/// counts: a canary that refuses every connection still fails every request.
fn retry_policy(retries: Option<&Retries>) -> Value {
    let mut policy = json!({
        "retry_on": "connect-failure,refused-stream,reset-before-request",
        "num_retries": 2,
        "retry_host_predicate": [{
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
            },
        }],
        "host_selection_retry_max_attempts": 5,
    });
    if let Some(retries) = retries {
        policy["num_retries"] = json!(retries.attempts);
        policy["retry_on"] = json!(retries.on);
        if let Some(per_try) = retries.per_try {
            policy["per_try_timeout"] = json!(seconds(per_try));
        }
    }
    policy
}

fn seconds(span: Span) -> String {
    format!("{}.{:03}s", span.0 / 1000, span.0 % 1000)
}

fn address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

fn from_file(path: &Path) -> Value {
    json!({"path_config_source": {"path": path}, "resource_api_version": "V3"})
}

fn resources(resources: impl IntoIterator<Item = Value>) -> Value {
    json!({"resources": resources.into_iter().collect::<Vec<_>>()})
}
