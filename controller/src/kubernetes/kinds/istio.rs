//! Istio's kinds, each with the fields that Weir looks at.

use std::sync::OnceLock;
use std::time::Duration;

use kube::Client;
use serde::Deserialize;
use tracing::{info, warn};

use super::{Labels, kind, or_default, or_empty};
use crate::kubernetes::api_server::object::{Cached, Projection};
use crate::telemetry::Chain;

const GROUP: &str = "networking.istio.io";
/// Versions of what Weir reads and writes of Istio, newest first: the fields are the same. Istio before 1.22 serves the second alone.
const VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const NEWEST: &str = VERSIONS[0];
/// Time between looks at what the cluster serves.
const AGAIN: Duration = Duration::from_secs(2);

/// The version that the cluster serves: one for all of a process, as the cluster is.
static SERVED: OnceLock<&str> = OnceLock::new();

/// Returns the version of Istio's kinds that is read and written.
#[must_use]
pub(crate) fn version() -> &'static str {
    SERVED.get().copied().unwrap_or(NEWEST)
}

/// Returns what stands in an object of Istio's as its `apiVersion`.
#[must_use]
pub(crate) fn api_version() -> String {
    format!("{GROUP}/{}", version())
}

/// Looks which version of Istio's kinds the cluster serves; waits until it serves any.
pub(crate) async fn discover(client: &Client) {
    let mut told = false;
    loop {
        match client.list_api_groups().await {
            Ok(list) => {
                let group = list.groups.into_iter().find(|group| group.name == GROUP);
                let versions = group.map(|group| group.versions).unwrap_or_default();
                let served: Vec<String> = versions.into_iter().map(|it| it.version).collect();
                if let Some(version) = newest(&served) {
                    info!(version = *SERVED.get_or_init(|| version), "Istio's kinds are served");
                    return;
                }
                if !told {
                    warn!("waiting for Istio: the API server serves neither v1 nor v1beta1 of {GROUP}");
                }
                told = true;
            }
            Err(error) => warn!(error = %Chain(&error), "ask the API server which kinds of Istio it serves"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Returns the newest version that both have.
fn newest(served: &[String]) -> Option<&'static str> {
    VERSIONS.into_iter().find(|version| served.iter().any(|it| it == version))
}

kind!(
    /// Istio's gateway: which pods serve which hosts.
    Gateway, GatewayView, GROUP, NEWEST, "gateways", false, version
);
kind!(
    /// Istio's routes.
    VirtualService, VirtualServiceView, GROUP, NEWEST, "virtualservices", true, version
);
kind!(
    /// Istio's policy for a destination.
    DestinationRule, DestinationRuleView, GROUP, NEWEST, "destinationrules", true, version
);
/// Istio's way to give an Envoy what its own objects cannot say.
#[allow(dead_code, reason = "named by what is looked at in it")]
pub(crate) type EnvoyFilter = Cached<EnvoyFilterView>;

impl Projection for EnvoyFilterView {
    const GROUP: &'static str = GROUP;
    const VERSION: &'static str = "v1alpha3";
    const KIND: &'static str = "EnvoyFilter";
    const PLURAL: &'static str = "envoyfilters";
    const KEEP_RAW: bool = true;
    const URGENT: bool = true;
}

/// See [`Gateway`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct GatewayView {
    /// What is asked for.
    pub(crate) spec: GatewayBody,
}

/// What is asked of a gateway.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct GatewayBody {
    /// Labels of its pods, in any namespace; of all gateways' pods if there are none.
    #[serde(deserialize_with = "or_default")]
    pub(crate) selector: Labels,
    /// What it serves.
    #[serde(deserialize_with = "or_empty")]
    pub(crate) servers: Vec<GatewayServer>,
}

/// What a gateway serves at one port.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct GatewayServer {
    /// Where it listens.
    #[serde(deserialize_with = "or_default")]
    pub(crate) port: ServerPort,
    /// The address that it listens at; all if there is none.
    #[serde(deserialize_with = "or_default")]
    pub(crate) bind: String,
    /// Hosts, each of all namespaces or, as `namespace/host`, of one.
    #[serde(deserialize_with = "or_empty")]
    pub(crate) hosts: Vec<String>,
}

/// The port of a gateway's server.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ServerPort {
    /// Its number.
    #[serde(deserialize_with = "or_default")]
    pub(crate) number: i64,
    /// What is spoken there.
    #[serde(deserialize_with = "or_default")]
    pub(crate) protocol: String,
}

/// See [`VirtualService`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct VirtualServiceView {
    /// What is asked for.
    pub(crate) spec: VirtualServiceBody,
}

/// What is asked of a VirtualService.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct VirtualServiceBody {
    /// Hosts of its requests.
    #[serde(deserialize_with = "or_empty")]
    pub(crate) hosts: Vec<String>,
    /// Gateways that it is bound to; `mesh` if there are none.
    #[serde(deserialize_with = "or_empty")]
    pub(crate) gateways: Vec<String>,
    /// Its routes.
    #[serde(deserialize_with = "or_empty")]
    pub(crate) http: Vec<HttpRoute>,
}

/// A route of a VirtualService.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct HttpRoute {
    /// The route's name.
    pub(crate) name: String,
    /// The VirtualService that has the rest of it.
    pub(crate) delegate: Option<Delegate>,
}

/// Names a VirtualService that is delegated to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Delegate {
    /// Its name.
    pub(crate) name: String,
    /// Its namespace; that of the delegating one if absent.
    pub(crate) namespace: String,
}

/// See [`DestinationRule`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DestinationRuleView {}

/// See [`EnvoyFilter`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct EnvoyFilterView {}

impl VirtualService {
    /// Returns the hosts that it claims on gateways, in lower case.
    #[must_use]
    pub(crate) fn claimed_hosts(&self) -> Vec<String> {
        self.fields.spec.claimed_hosts(self.namespace())
    }

    /// Returns its routes that delegate to the VirtualService `name` in `namespace`.
    pub(crate) fn delegates_to<'a>(&'a self, namespace: &'a str, name: &'a str) -> impl Iterator<Item = &'a HttpRoute> {
        self.fields.spec.delegates_to(self.namespace(), namespace, name)
    }
}

impl VirtualServiceBody {
    /// Returns the hosts that a VirtualService in the namespace `of` claims on gateways, in lower case.
    #[must_use]
    pub(crate) fn claimed_hosts(&self, of: &str) -> Vec<String> {
        let on_gateway = self.gateways.iter().any(|name| gateway_name(name, of).1 != "mesh");
        let lower = |host: &String| host.to_ascii_lowercase();
        if on_gateway { self.hosts.iter().map(lower).collect() } else { Vec::new() }
    }

    /// Returns the routes of a VirtualService in the namespace `of` that delegate to `name` in `namespace`.
    pub(crate) fn delegates_to<'a>(
        &'a self,
        of: &'a str,
        namespace: &'a str,
        name: &'a str,
    ) -> impl Iterator<Item = &'a HttpRoute> {
        self.http.iter().filter(move |route| {
            let Some(delegate) = &route.delegate else { return false };
            let of = if delegate.namespace.is_empty() { of } else { &delegate.namespace };
            of == namespace && delegate.name == name
        })
    }
}

/// Returns namespace and name of a gateway as an object in `namespace` names it: `namespace/name`, `name`, or the older
/// `name.namespace.svc.cluster.local`.
#[must_use]
pub(crate) fn gateway_name(name: &str, namespace: &str) -> (String, String) {
    if let Some((of, name)) = name.split_once('/') {
        let of = if of == "." { namespace } else { of };
        return (of.into(), name.into());
    }
    match name.split_once('.') {
        Some((name, rest)) => (rest.split('.').next().unwrap_or_default().into(), name.into()),
        None => (namespace.into(), name.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::newest;

    #[test]
    fn the_newest_version_that_the_cluster_serves_is_read_and_written() {
        let served = |versions: &[&str]| newest(&versions.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>());
        assert_eq!(served(&["v1alpha3", "v1beta1"]), Some("v1beta1"));
        assert_eq!(served(&["v1alpha3", "v1beta1", "v1"]), Some("v1"));
        assert_eq!(served(&["v1alpha3"]), None);
        assert_eq!(served(&[]), None);
    }
}
