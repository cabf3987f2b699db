//! How a Canary's requests reach the filter, as its status says it: the condition `GatewayBound`.

use std::sync::Arc;

use super::registry::GatewayRegistry;
use super::workload::GatewayWorkload;
use crate::api::{CanarySpec, canary_id};
use crate::kubernetes::api_server::clock::now;
use crate::kubernetes::render::Names;
use crate::kubernetes::router;
use crate::kubernetes::stores::{ALLOWED, GATEWAYS_LABEL, Stores};

/// Longest list of pods in a status.
const NAMED: usize = 5;

/// Whether a Canary's requests pass gateways that split them, and what is to be known of those.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    /// Whether they do.
    pub(crate) bound: bool,
    /// One word.
    pub(crate) reason: &'static str,
    /// In words.
    pub(crate) message: String,
}

impl Bound {
    /// Returns what is so where nothing is to be said.
    #[must_use]
    pub(crate) fn plain() -> Self {
        Self { bound: true, reason: "Bound", message: "requests through its gateways are split".into() }
    }

    /// Returns what is so.
    #[must_use]
    pub(crate) fn of(
        stores: &Stores,
        registry: &GatewayRegistry,
        names: &Names,
        spec: &CanarySpec,
        through: &[Arc<GatewayWorkload>],
    ) -> Self {
        let outside = registry.outside(stores, names, spec);
        let has_pod = !outside.is_empty() || through.iter().any(|workload| workload.has_pod(stores));
        if let Some((reason, message)) = router::unbound(stores, names, spec, has_pod) {
            return Self { bound: false, reason, message };
        }
        let mut found = Vec::new();
        if let Some((namespace, _)) = outside.first() {
            let pods: Vec<String> = outside.iter().take(NAMED).map(|(of, pod)| format!("{of}/{pod}")).collect();
            let text = format!(
                "its Gateways select {}, which counts for nothing there: an admin who trusts what runs in the namespace says so \
                 with kubectl label namespace {namespace} {GATEWAYS_LABEL}={ALLOWED}",
                pods.join(", ")
            );
            found.push(("PodsElsewhere", text));
        }
        let silent = through.iter().flat_map(|workload| workload.silent(stores, now())).take(NAMED);
        let silent: Vec<String> = silent.collect();
        if !silent.is_empty() {
            let text = format!(
                "{} never acknowledged a configuration: no advance waits for it, and only before the canary or its primary goes \
                 is it waited for, ten minutes",
                silent.join(", ")
            );
            found.push(("PodsSilent", text));
        }
        let id = canary_id(&names.namespace, &names.canary);
        if let Some(workload) = through.iter().find(|workload| workload.shows_no_route(&id)) {
            let text = format!(
                "the gateways in namespace {} show none of the Canary's routes, so it gets no weight: does a server of the Gateway                  admit its hosts, and has istiod taken its routes (istioctl proxy-config route)? Where a                  proxyStatsMatcher hides vhost.*.route.* they are seen once requests are counted",
                workload.names.namespace
            );
            found.push(("RoutesUnseen", text));
        }
        if let Some(why) = through.iter().find_map(|workload| workload.everywhere()) {
            found.push(("FilterEverywhere", format!("the filter sees all of the gateway's requests: {why}")));
        }
        let Some((reason, _)) = found.first() else { return Self::plain() };
        let bound = !through.is_empty() || outside.is_empty();
        let split = bound.then(|| Self::plain().message);
        let message: Vec<String> = split.into_iter().chain(found.iter().map(|(_, text)| text.clone())).collect();
        Self { bound, reason, message: message.join("; ") }
    }
}
