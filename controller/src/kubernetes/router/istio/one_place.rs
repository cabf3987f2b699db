//! Which Gateways are one: a pod that two of them select has the servers of both, and istiod joins those of one port into one list of routes.
//! Of two routes for a host there Envoy gets one.

use crate::kubernetes::kinds::istio::ServerPort;
use crate::kubernetes::kinds::selects;
use crate::kubernetes::kinds::{Gateway, Labels};
use crate::kubernetes::stores::Stores;

/// Protocols of which istiod joins the servers of a port. Those with TLS are told apart by their certificates.
const JOINED: [&str; 5] = ["", "HTTP", "HTTP2", "GRPC", "GRPC-WEB"];

/// Returns whether requests that come through one Gateway, by namespace and name, come through the other too.
pub(super) fn one_place(stores: &Stores, a: &(String, String), b: &(String, String)) -> bool {
    let of = |(namespace, name): &(String, String)| stores.gateways.get(namespace, name);
    a == b || of(a).zip(of(b)).is_some_and(|(a, b)| share_a_port(&a, &b) && share_a_pod(stores, &a, &b))
}

fn share_a_port(a: &Gateway, b: &Gateway) -> bool {
    let joined = |port: &ServerPort| JOINED.iter().any(|known| known.eq_ignore_ascii_case(&port.protocol));
    let of = |gateway: &Gateway| -> Vec<(i64, String)> {
        let servers = gateway.fields.spec.servers.iter().filter(|server| joined(&server.port));
        servers.map(|server| (server.port.number, server.bind.clone())).collect()
    };
    let theirs = of(b);
    of(a).iter().any(|own| theirs.contains(own))
}

/// Returns whether one selector finds whatever the other one finds, or both find a pod of a gateway as they are named differently.
fn share_a_pod(stores: &Stores, a: &Gateway, b: &Gateway) -> bool {
    let (a, b) = (&a.fields.spec.selector, &b.fields.spec.selector);
    let contradict = a.iter().any(|(key, value)| b.get(key).is_some_and(|other| other != value));
    let both = |labels: Option<&Labels>| selects(a, labels) && selects(b, labels);
    !contradict
        && (selects(a, Some(b))
            || selects(b, Some(a))
            || stores
                .pods
                .all()
                .iter()
                .any(|pod| stores.is_gateway_namespace(pod.namespace()) && both(pod.metadata.labels.as_ref())))
}
