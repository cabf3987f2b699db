//! `spec.service` of a Canary: how requests reach the workload.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::limits;
use super::rules::{self, rules};

/// How requests reach the workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules(&[
    ("!has(self.delegation) || !self.delegation || (!has(self.hosts) && !has(self.gateways))",
     "delegation excludes hosts and gateways, which belong to the VirtualService that delegates: remove them"),
    ("!has(self.appProtocol) || self.appProtocol.lowerAscii() != 'tcp'",
     "appProtocol tcp is not supported: only HTTP requests can be split and counted"),
    ("(has(self.gateways) && !('mesh' in self.gateways)) || (has(self.delegation) && self.delegation) || !(has(self.appProtocol) ? \
      self.appProtocol : has(self.portName) ? self.portName : '').lowerAscii().matches('^(tcp|udp|tls|https|mongo|mysql|redis|kubernetes[.]io/wss)(-.*)?$')",
     "inside of the mesh a port whose appProtocol or name says tcp, udp, tls, https, mongo, mysql or redis is passed on unread, and only \
      HTTP requests can be split and counted: give appProtocol http, http2 or grpc, another portName, or gateways"),
    ("!has(self.gatewayRefs) || has(self.gateways)",
     "gatewayRefs are for the Gateway API, and Weir releases through Istio's gateways: give gateways"),
    ("!has(self.callers) || !has(self.gateways) || 'mesh' in self.gateways || (has(self.delegation) && self.delegation)",
     "callers are for requests from inside of the mesh, and gateways names no mesh: add mesh to gateways, or remove callers"),
    ("!has(self.meshName)", "meshName is for App Mesh, and Weir releases through Istio: remove it"),
    ("!has(self.backends)", "backends are for App Mesh, and Weir releases through Istio: remove them"),
])))]
pub struct ServiceSpec {
    /// Name of the service that users call; `-primary` and `-canary` are added for the two others, so that 55
    /// characters are left: lower-case letters, digits and `-`, beginning with a letter. Do not change it later.
    /// Default: `targetRef.name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::SERVICE_NAME), regex(pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: Option<String>,
    /// Port of the services, 1 to 65535. Required, but not for a target of kind `Process`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i64>,
    /// Name of that port. Inside of the mesh none that says `tcp`, `tls`, `https` or the like, as `tcp-web` does: without `appProtocol`
    /// Istio takes the protocol from it. Default: `http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub port_name: Option<String>,
    /// Number or name of the workload's port. Default: `port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_port: Option<IntOrString>,
    /// Application protocol of the port: `http`, `http2`, `grpc`, … `tcp` can't be released by weight: only HTTP requests
    /// can be split and counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub app_protocol: Option<String>,
    /// `PreferClose`, `PreferSameZone` or `PreferSameNode`; copied to the services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), extend("x-kubernetes-validations" = rules::traffic_distribution()))]
    pub traffic_distribution: Option<String>,
    /// Add every port of the workload's containers to the services. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_discovery: Option<bool>,
    /// Make the services headless (no cluster IP). Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headless: Option<bool>,
    /// Time that a request may take, for instance `15s`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::DURATION))]
    pub timeout: Option<String>,
    /// Istio gateways that requests come through, `namespace/name`. `mesh`, alone or beside them, is for requests from inside of the
    /// mesh, which are split in the sidecars of their callers. Default: `mesh`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::GATEWAYS), inner(length(max = limits::ADDRESS)))]
    pub gateways: Vec<String>,
    /// Who calls the service inside of the mesh: the pods whose sidecars get the filter. Requests of others go to the primary.
    /// Default: all pods of the Canary's namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::CALLERS))]
    pub callers: Vec<Callers>,
    /// Host names of the requests: `shop.example.com`, `*.example.com` or `*`. The name of the service is added unless `*` is
    /// among them. One that covers `NAME-canary.NAMESPACE` lets load tests call the canary through the gateway.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::HOSTS), inner(length(max = limits::HOST)))]
    pub hosts: Vec<String>,
    /// Make a VirtualService without hosts and gateways, for another one to delegate to. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegation: Option<bool>,
    /// Istio's TrafficPolicy, for both DestinationRules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_policy: Option<Free>,
    /// Istio's HTTPMatchRequests: only requests that meet one of them are routed. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::ROUTES))]
    pub r#match: Vec<Free>,
    /// How the request is changed before the workload sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<Rewrite>,
    /// How failed requests are tried again by the gateway. A request that is tried again counts once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<Retries>,
    /// Istio's Headers: what is added, set and removed in requests and responses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<Free>,
    /// Istio's CorsPolicy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors_policy: Option<Free>,
    /// Labels and annotations of the service that users call, and of the VirtualService.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apex: Option<ExtraMetadata>,
    /// Labels and annotations of the primary's service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<ExtraMetadata>,
    /// Labels and annotations of the canary's service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<ExtraMetadata>,
    /// Has no effect: Weir leaves all labels and annotations alone that it did not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmanaged_metadata: Option<UnmanagedMetadata>,
    /// Has no effect: for Flagger with the Gateway API. `timeout` bounds a request, `retries.perTryTimeout` each try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::DURATION))]
    pub backend_timeout: Option<String>,
    /// Has no effect beside `gateways`, and is refused without them: for Flagger with the Gateway API.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::GATEWAYS))]
    pub gateway_refs: Vec<Free>,
    /// Has no effect: for Flagger with the Gateway API.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::GATEWAYS))]
    pub mirror: Vec<Free>,
    /// Refused: for Flagger with App Mesh. Weir releases through Istio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::NAME))]
    pub mesh_name: Option<String>,
    /// Refused: for Flagger with App Mesh. Weir releases through Istio.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::HOSTS), inner(length(max = limits::HOST)))]
    pub backends: Vec<String>,
}

/// Some of those who call a service inside of the mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Callers {
    /// Their namespace; `*` is every one that may have callers: the Canary's own, and those with the label
    /// `weir.dev/callers: allowed`. Default: the Canary's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63), regex(pattern = "^([*]|[a-z0-9]([-a-z0-9]*[a-z0-9])?)$"))]
    pub namespace: Option<String>,
    /// Labels of their pods. Default: all pods of the namespace.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = limits::LABELS))]
    pub labels: BTreeMap<String, String>,
}

/// A port's number or name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(extend("x-kubernetes-int-or-string" = true))]
pub enum IntOrString {
    /// The number.
    Int(i64),
    /// The name.
    String(String),
}

/// An object of Istio's that is passed on as it stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct Free(pub serde_json::Map<String, serde_json::Value>);

/// How a request is changed before the workload sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rewrite {
    /// The path, or the matched prefix of it, becomes this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub uri: Option<String>,
    /// The host becomes this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::HOST))]
    pub authority: Option<String>,
    /// Has no effect: for Flagger with the Gateway API. Istio replaces the matched prefix, or else the whole path.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub kind: Option<String>,
}

/// How failed requests are tried again by the gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retries {
    /// How often. At least 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub attempts: Option<i64>,
    /// Time for each try, for instance `2s`. Default: the request's `timeout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::DURATION))]
    pub per_try_timeout: Option<String>,
    /// Envoy's conditions, separated by commas, for instance `5xx,reset`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub retry_on: Option<String>,
}

/// Labels and annotations of an object that Weir makes. Keys of `weir.dev/` are refused; those of Flagger and Flux
/// (`flagger.app/`, `kustomize.toolkit.fluxcd.io/`, `helm.toolkit.fluxcd.io/`) and `app.kubernetes.io/managed-by` have no effect:
/// they would make somebody else the object's owner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExtraMetadata {
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = limits::ENTRIES, "x-kubernetes-validations" = rules::keys()))]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = limits::ENTRIES, "x-kubernetes-validations" = rules::keys()))]
    pub annotations: BTreeMap<String, String>,
}

/// Keys that others set. Has no effect: Weir leaves all keys alone that it did not set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnmanagedMetadata {
    /// Keys of labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::ENTRIES))]
    pub labels: Vec<String>,
    /// Keys of annotations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::ENTRIES))]
    pub annotations: Vec<String>,
}

impl ServiceSpec {
    /// Returns whether its routes hold for requests from inside of the mesh. Those of a delegated one are where the delegating one is.
    #[must_use]
    pub fn is_on_mesh(&self) -> bool {
        self.delegation != Some(true) && on_mesh(&self.gateways)
    }
}

/// Protocols by which istiod has the bytes of a port passed on unread, as it reads them: of `appProtocol`, or else of the port's name up
/// to its first `-`.
pub(crate) const OPAQUE: [&str; 8] = ["tcp", "udp", "tls", "https", "mongo", "mysql", "redis", "kubernetes.io/wss"];

/// Returns what a port is to istiod, by its application protocol or else by its name, in lower case: `http`, `grpc`, `tcp`.
#[must_use]
pub fn protocol(app_protocol: Option<&str>, name: &str) -> String {
    let text = app_protocol.unwrap_or(name).to_ascii_lowercase();
    text.split_once('-').map_or(text.as_str(), |(protocol, _)| protocol).to_owned()
}

/// Returns whether sidecars pass the bytes of a port on unread: then no request of callers is seen.
#[must_use]
pub fn is_opaque(app_protocol: Option<&str>, name: &str) -> bool {
    OPAQUE.contains(&protocol(app_protocol, name).as_str())
}

/// Returns whether a VirtualService with these gateways holds for requests from inside of the mesh.
#[must_use]
pub fn on_mesh(gateways: &[String]) -> bool {
    gateways.is_empty() || gateways.iter().any(|gateway| gateway == "mesh")
}
