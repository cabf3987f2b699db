//! The two EnvoyFilters of a gateway workload, or of the sidecars of callers.
//!
//! The static one inserts the filter before the router, switched off and to be configured by ECDS, and removes the token from
//! every client's request before a route is chosen. The small one is the configuration, and switches the filter on for the
//! routes of Canaries that are released: it is all that changes while rollouts go on, so that no listener is ever modified
//! and no connection drained.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use weir_wire::names::{Arm, Cohort, PREFIX};
use weir_wire::{Config, TOKEN_HEADER, plugin};

use crate::gateway_config::{RouteNames, direct_route};
use crate::kubernetes::api_server::MANAGER;
use crate::kubernetes::kinds::{EnvoyFilter, Labels, Pod, Proxy};
use crate::scrape::stat_prefix;

/// Names of the filter's objects for one gateway workload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FilterNames {
    /// Namespace of the gateway's pods, and of both objects.
    pub(crate) namespace: String,
    /// Labels that select the pods. Of callers none: all pods of the namespace that have a sidecar.
    pub(crate) selector: Labels,
    /// What the pods are.
    pub(crate) proxies: Proxies,
}

/// What the pods of a workload are, that has the filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Proxies {
    /// Gateways.
    #[default]
    Gateways,
    /// Callers: the filter is in their sidecars, where their requests are routed.
    Sidecars,
}

impl Proxies {
    /// Returns Istio's word for where a patch applies.
    fn context(self) -> &'static str {
        match self {
            Self::Gateways => "GATEWAY",
            Self::Sidecars => "SIDECAR_OUTBOUND",
        }
    }
}

/// Where gateways get the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Module {
    /// From this controller, which has brought it: what it calls is known.
    Own {
        /// `http://…`.
        uri: String,
        /// Of the module.
        sha256: String,
    },
    /// From an HTTP server or a registry; the agent beside Envoy fetches and checks it.
    Remote {
        /// `http://…`, `https://…` or `oci://…`.
        uri: String,
        /// Of the module; of the manifest for a registry.
        sha256: String,
    },
    /// From a file that is mounted into the gateway's pods.
    File(String),
}

impl FilterNames {
    fn short(&self) -> String {
        let mut text = serde_json::to_string(&self.selector).unwrap_or_default();
        if self.proxies == Proxies::Sidecars {
            text.insert_str(0, "sidecars ");
        }
        Sha256::digest(text)[..4].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Returns whether a pod is one of the workload's.
    #[must_use]
    pub(crate) fn selects(&self, pod: &Pod) -> bool {
        let labelled = || {
            let labels = pod.metadata.labels.as_ref();
            self.selector.iter().all(|(key, value)| labels.is_some_and(|labels| labels.get(key) == Some(value)))
        };
        let is_so = match self.proxies {
            Proxies::Gateways => !self.selector.is_empty(),
            Proxies::Sidecars => pod.fields.proxy == Proxy::Sidecar,
        };
        is_so && pod.namespace() == self.namespace && labelled()
    }

    /// Returns the name of the static object.
    #[must_use]
    pub(crate) fn listener(&self) -> String {
        format!("weir-filter-{}", self.short())
    }

    /// Returns the name of the small object.
    #[must_use]
    pub(crate) fn config(&self) -> String {
        format!("weir-config-{}", self.short())
    }

    /// Returns the name of the ECDS resource. There must be one owner of each in the mesh.
    fn resource(&self) -> String {
        format!("{}/weir-{}", self.namespace, self.short())
    }
}

/// What the filter is until it is configured: rules that say nothing, and so allow everything.
const RBAC: &str = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC";

/// Annotation of the static object: why the filter is on for all requests of the gateway.
pub(crate) const EVERYWHERE: &str = "weir.dev/filter-everywhere";

/// Renders the object that inserts the filter. `everywhere` says why it is on for all requests, where it is.
#[must_use]
pub(crate) fn static_filter(names: &FilterNames, everywhere: Option<&str>) -> Value {
    let context = names.proxies.context();
    let wasm = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";
    let manager = "envoy.filters.network.http_connection_manager";
    let insertion = json!({
        "applyTo": "HTTP_FILTER",
        "match": {"context": context, "listener": {"filterChain": {"filter": {
            "name": manager, "subFilter": {"name": "envoy.filters.http.router"},
        }}}},
        "patch": {"operation": "INSERT_BEFORE", "value": {
            "name": names.resource(),
            "disabled": everywhere.is_none(),
            "config_discovery": {
                "config_source": {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"},
                // Rules of RBAC that say nothing allow everything. The gateway never waits for the module.
                "default_config": {"@type": RBAC},
                "apply_default_config_without_warming": true,
                "type_urls": [wasm, RBAC],
            },
        }},
    });
    let removal = json!({
        "applyTo": "NETWORK_FILTER",
        "match": {"context": context, "listener": {"filterChain": {"filter": {"name": manager}}}},
        "patch": {"operation": "MERGE", "value": {"typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "early_header_mutation_extensions": [{
                "name": "envoy.http.early_header_mutation.header_mutation",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
                    "mutations": [{"remove": TOKEN_HEADER}],
                },
            }],
        }}},
    });
    let mut object = object(names, &names.listener(), None, vec![insertion, removal]);
    if let Some(why) = everywhere {
        object["metadata"]["annotations"] = json!({EVERYWHERE: why});
    }
    object
}

/// Renders the object that configures the filter, and switches it on for the routes of these canaries. `version` is the
/// resource version that was read, where the object exists.
#[must_use]
pub(crate) fn config_filter(
    names: &FilterNames,
    module: &Module,
    config: &Config,
    switched: &BTreeMap<String, RouteNames>,
    version: Option<&str>,
) -> Value {
    let code = match module {
        // The sha256 stays a string through `json!`: an all-digit one in YAML would be a number.
        Module::Own { uri, sha256 } | Module::Remote { uri, sha256 } => {
            json!({"remote": {"http_uri": {"uri": uri, "cluster": "_", "timeout": "30s"}, "sha256": sha256}})
        }
        Module::File(path) => json!({"local": {"filename": path}}),
    };
    let typed_config = match (names.proxies, module) {
        // A sidecar that has nothing to split does not pay for the module.
        (Proxies::Sidecars, _) if config.canaries.is_empty() => Ok(json!({"@type": RBAC})),
        (_, Module::Own { .. }) => plugin::typed_config(code, config),
        (_, Module::Remote { .. } | Module::File(_)) => plugin::typed_config_of_another(code, config),
    };
    let extension = json!({
        "applyTo": "EXTENSION_CONFIG",
        "match": {"context": names.proxies.context()},
        "patch": {"operation": "ADD", "value": {
            "name": names.resource(),
            "typed_config": typed_config.unwrap_or_default(),
        }},
    });
    let mut patches = vec![extension];
    for (id, routes) in switched {
        for (arm, routes) in [(Arm::Primary, &routes.primary), (Arm::Canary, &routes.canary)] {
            patches.extend(routes.iter().map(|route| switch(names, route, &stat_prefix(id, arm))));
        }
        patches.extend(routes.direct.iter().map(|virtual_host| switch_service(names, virtual_host, id)));
    }
    object(names, &names.config(), version, patches)
}

/// Renders the patch that switches the filter on for a route, and has Envoy count the route's requests under a name of ours:
/// the counter is there before any request, and so it proves the switch.
///
/// The empty configuration is that of the stand-in. Envoy's own form of "on", a `FilterConfig` with an empty `config`, is
/// refused by Istio's webhook.
fn switch(names: &FilterNames, route: &str, stat_prefix: &str) -> Value {
    json!({
        "applyTo": "HTTP_ROUTE",
        "match": {"context": names.proxies.context(), "routeConfiguration": {"vhost": {"route": {"name": route}}}},
        "patch": {"operation": "MERGE", "value": {
            "stat_prefix": stat_prefix,
            "typed_per_filter_config": {
                names.resource(): {"@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute"},
            },
        }},
    })
}

/// Renders the patch that switches the filter on for a virtual host, whose routes are called as those of every Service without a
/// VirtualService: they get a name of their own. Nobody takes the token off there but this.
fn switch_service(names: &FilterNames, virtual_host: &str, id: &str) -> Value {
    let mut patch = switch(names, "", &format!("{PREFIX}{id}_{}", Cohort::Direct.word()));
    patch["match"]["routeConfiguration"]["vhost"] = json!({"name": virtual_host});
    patch["patch"]["value"]["name"] = direct_route(id).into();
    patch["patch"]["value"]["request_headers_to_remove"] = json!([TOKEN_HEADER]);
    patch
}

/// Reads out of a live small object on which routes the filter is on.
#[must_use]
pub(crate) fn switched_of(filter: &EnvoyFilter) -> BTreeMap<String, RouteNames> {
    let body = filter.body();
    let patches = body.pointer("/spec/configPatches").and_then(Value::as_array);
    let mut switched: BTreeMap<String, RouteNames> = BTreeMap::new();
    for patch in patches.into_iter().flatten() {
        let text = |path: &str| patch.pointer(path).and_then(Value::as_str);
        let virtual_host = text("/match/routeConfiguration/vhost/name");
        let route = text("/match/routeConfiguration/vhost/route/name").or(virtual_host);
        let prefix = text("/patch/value/stat_prefix").and_then(|prefix| prefix.strip_prefix(PREFIX)?.split_once('_'));
        if let (Some(route), Some((id, arm))) = (route, prefix) {
            let routes = switched.entry(id.to_owned()).or_default();
            let of_arm = match virtual_host {
                Some(_) => &mut routes.direct,
                None if arm == Arm::Primary.word() => &mut routes.primary,
                None => &mut routes.canary,
            };
            of_arm.push(route.to_owned());
        }
    }
    switched
}

/// Returns why the filter of a live static object is on for all requests, if it is.
#[must_use]
pub(crate) fn everywhere(filter: &EnvoyFilter) -> Option<String> {
    let disabled = filter.body().pointer("/spec/configPatches/0/patch/value/disabled").cloned();
    let why = filter.annotation(EVERYWHERE).unwrap_or("it was inserted by an earlier version of Weir");
    (disabled != Some(true.into())).then(|| why.to_owned())
}

/// Reads the configuration out of a live small object.
#[must_use]
pub(crate) fn config_of(filter: &EnvoyFilter) -> Option<Config> {
    let body = filter.body();
    let typed_config = body.pointer("/spec/configPatches/0/patch/value/typed_config")?;
    if typed_config["@type"] == RBAC {
        return Some(Config { version: weir_wire::config::VERSION, ..Config::default() });
    }
    serde_json::from_str(plugin::configuration_of(typed_config)?).ok()
}

/// Reads which pods a live object is for; nothing where it is for none that Weir would choose.
#[must_use]
pub(crate) fn names_of(filter: &EnvoyFilter) -> Option<FilterNames> {
    let body = filter.body();
    let labels = body.pointer("/spec/workloadSelector/labels").cloned().unwrap_or_default();
    let selector: Labels = serde_json::from_value(labels).unwrap_or_default();
    let context = body.pointer("/spec/configPatches/0/match/context").and_then(Value::as_str);
    let proxies = match context == Some(Proxies::Sidecars.context()) {
        true => Proxies::Sidecars,
        false if selector.is_empty() => return None,
        false => Proxies::Gateways,
    };
    Some(FilterNames { namespace: filter.namespace().into(), selector, proxies })
}

fn object(names: &FilterNames, name: &str, version: Option<&str>, patches: Vec<Value>) -> Value {
    let mut metadata = Map::new();
    metadata.insert("name".into(), name.into());
    metadata.insert("namespace".into(), names.namespace.clone().into());
    metadata.insert("labels".into(), json!({"app.kubernetes.io/managed-by": MANAGER}));
    metadata.extend(version.map(|version| ("resourceVersion".to_owned(), version.into())));
    let mut spec = json!({"priority": 10, "configPatches": patches});
    if !names.selector.is_empty() {
        spec["workloadSelector"] = json!({"labels": names.selector});
    }
    json!({"apiVersion": "networking.istio.io/v1alpha3", "kind": "EnvoyFilter", "metadata": metadata, "spec": spec})
}
