//! What a Canary of Flagger's routes by, where that is not what Weir's routes are: it goes with Flagger's Canary, and the requests with it.

use serde_json::Value;

use crate::kubernetes::render::Names;

/// The routes that Flagger makes by its providers, which end in `-canary` where they are beside the user's own.
const ROUTES: [(&str, &str); 12] = [
    ("appmesh", "VirtualNodes and a VirtualService of App Mesh"),
    ("apisix", "an ApisixRoute"),
    ("contour", "an HTTPProxy"),
    ("gatewayapi", "an HTTPRoute"),
    ("gloo", "a RouteTable"),
    ("knative", "a Service of Knative's"),
    ("kuma", "a TrafficRoute"),
    ("linkerd", "a TrafficSplit"),
    ("nginx", "an Ingress"),
    ("skipper", "an Ingress"),
    ("smi", "a TrafficSplit"),
    ("traefik", "a TraefikService"),
];

/// Returns by what else than VirtualServices a Canary of Flagger's routes. One that gives no provider has Flagger's own, which is known
/// by what that has made.
pub(in crate::kubernetes::router) fn routes_by_others(spec: &Value, names: &Names, has_routes: bool) -> Option<String> {
    let apex = &names.apex;
    let remedy = "the requests would lose their way with it: have Flagger route by VirtualServices first (provider: istio), or move to a \
                  new name";
    for field in ["ingressRef", "routeRef", "upstreamRef"] {
        let reference = &spec[field];
        if let Some(name) = reference["name"].as_str() {
            let kind = reference["kind"].as_str().unwrap_or("object");
            return Some(format!("has {kind} {name} as its {field}, and what it made of that goes with it; {remedy}"));
        }
    }
    if let Some(name) = spec.pointer("/service/gatewayRefs/0/name").and_then(Value::as_str) {
        return Some(format!(
            "routes by HTTPRoute {apex} of Gateway {name} (service.gatewayRefs), which goes with it; {remedy}"
        ));
    }
    match spec["provider"].as_str().unwrap_or_default() {
        "istio" => None,
        "" if has_routes => None,
        "" => Some(format!(
            "gives no provider, and no VirtualService {apex} leads to {}: where Flagger routes by something else (its -mesh-provider), that \
             goes with it; where it is Istio's, set spec.provider of Flagger's Canary to istio",
            names.primary_service()
        )),
        provider => {
            let made = ROUTES.iter().find(|(known, _)| provider.split(':').next() == Some(known));
            let what = made.map_or_else(String::new, |(_, made)| format!(", {made},"));
            Some(format!("routes by provider {provider}: what that made{what} goes with it, and {remedy}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_routes_by_something_else_than_virtual_services_is_left_alone() {
        let names = Names { canary: "cart".into(), target: "cart".into(), apex: "cart".into(), ..Names::default() };
        let of = |more: Value, has_routes: bool| {
            let mut spec = json!({"targetRef": {"kind": "Deployment", "name": "cart"}, "service": {"port": 80}});
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            routes_by_others(&spec, &names, has_routes)
        };
        assert_eq!((of(json!({"provider": "istio"}), false), of(json!({"provider": ""}), true)), (None, None));
        let ingress = json!({"ingressRef": {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "web"}});
        let gateway = json!({"service": {"port": 80, "gatewayRefs": [{"name": "public"}]}});
        for (more, expected) in [
            (json!({}), "gives no provider, and no VirtualService cart leads to cart-primary"),
            (
                json!({"provider": "gatewayapi:v1"}),
                "routes by provider gatewayapi:v1: what that made, an HTTPRoute, goes with it",
            ),
            (json!({"provider": "kubernetes"}), "routes by provider kubernetes: what that made goes with it"),
            (ingress, "has Ingress web as its ingressRef, and what it made"),
            (json!({"routeRef": {"kind": "ApisixRoute", "name": "web"}}), "has ApisixRoute web as its routeRef"),
            (json!({"upstreamRef": {"kind": "Upstream", "name": "web"}}), "has Upstream web as its upstreamRef"),
            (gateway, "routes by HTTPRoute cart of Gateway public (service.gatewayRefs), which goes with it"),
        ] {
            let told = of(more, false).unwrap();
            assert!(told.starts_with(expected), "{told}");
        }
    }
}
