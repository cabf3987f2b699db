//! What holds for requests to a host of which there are several: rules of the users' own, and Canaries of one namespace.

use serde_json::{Value, json};

use super::server::ApiServer;
use super::stage::{Stage, canary, deployment, object};

fn server() -> ApiServer {
    let server = ApiServer::default();
    for name in ["cart", "shop"] {
        server.apply("flux", &deployment(name, &[("app", name)], "v1"));
    }
    server
}

#[tokio::test(start_paused = true)]
async fn of_several_rules_for_one_host_the_policy_of_the_oldest_that_has_one_holds_for_both_arms() {
    let server = server();
    let limit = |requests: u64| json!({"connectionPool": {"http": {"http2MaxRequests": requests}}});
    let rules: [(&str, &str, &str, Value); 4] = [
        ("a", "03", "shop", limit(3)),
        ("b", "02", "shop.shop.svc.cluster.local", limit(2)),
        ("c", "01", "shop", Value::Null),
        ("d", "01", "*.shop.svc.cluster.local", limit(1)),
    ];
    for (name, day, host, policy) in rules {
        let mut rule = object("networking.istio.io/v1", "DestinationRule", name, json!({"host": host, "subsets": []}));
        rule["metadata"]["creationTimestamp"] = format!("2026-01-{day}T00:00:00Z").into();
        rule["spec"]["trafficPolicy"] = policy;
        server.apply("flux", &rule);
    }
    server.apply("flux", &canary("shop", json!({})));
    let stage = Stage::initialized_of(&server).await;
    for name in ["shop-primary", "shop-canary"] {
        assert_eq!(stage.get("destinationrules", name)["spec"]["trafficPolicy"], limit(2), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_canaries_of_one_namespace_with_one_host_the_younger_is_told() {
    let given = |given: Value| {
        let mut service = json!({"gateways": ["public"], "hosts": ["www.example.com"]});
        service.as_object_mut().unwrap().extend(given.as_object().cloned().unwrap());
        service
    };
    let (all, some) = (json!({}), json!({"match": [{"uri": {"prefix": "/cart"}}]}));
    let other = json!({"gateways": ["other"]});
    for (of_cart, of_shop, told) in
        [(&all, &all, true), (&some, &all, false), (&all, &some, false), (&all, &other, false)]
    {
        let server = server();
        server.apply("flux", &canary("cart", given(of_cart.clone())));
        server.apply("flux", &canary("shop", given(of_shop.clone())));
        let stage = Stage::initialized_of(&server).await;
        stage.phase("cart", "Initialized").await;
        let hazard = |name: &str| stage.condition(name, "Hazard")[2].clone();
        assert_eq!(hazard("shop").contains("www.example.com is a host of Canary cart too"), told, "{}", hazard("shop"));
        assert!(!hazard("cart").contains("a host of Canary"), "{}", hazard("cart"));
    }
}
