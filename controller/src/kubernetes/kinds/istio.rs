//! Istio's kinds, each with the fields that Weir looks at.

use serde::Deserialize;

use super::{Labels, kind, or_empty};
use crate::kubernetes::api_server::object::{Cached, Projection};

kind!(
    /// Istio's gateway: which pods serve which hosts.
    Gateway, GatewayView, "networking.istio.io", "v1", "gateways", false
);
kind!(
    /// Istio's routes.
    VirtualService, VirtualServiceView, "networking.istio.io", "v1", "virtualservices", true
);
kind!(
    /// Istio's policy for a destination.
    DestinationRule, DestinationRuleView, "networking.istio.io", "v1", "destinationrules", true
);
/// Istio's way to give an Envoy what its own objects cannot say.
#[allow(dead_code, reason = "named by what is looked at in it")]
pub(crate) type EnvoyFilter = Cached<EnvoyFilterView>;

impl Projection for EnvoyFilterView {
    const GROUP: &'static str = "networking.istio.io";
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
    /// Labels of its pods, in any namespace.
    pub(crate) selector: Labels,
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
