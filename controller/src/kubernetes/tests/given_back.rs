//! What adopted objects are while their Canary lives, and when it goes: after everything around it has changed.

use std::time::Duration;

use serde_json::{Value, json};

use super::server::ApiServer;
use super::stage::{NAMESPACE, Stage, canary, deployment, object, routes, service};

fn server() -> ApiServer {
    let server = ApiServer::default();
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
    server
}

/// A Canary at rest that has adopted a Service and a VirtualService.
async fn adopted(extra: Value) -> (Stage, Value) {
    let server = server();
    server.apply("flux", &service("shop", "shop", json!([{"name": "web", "port": 80, "targetPort": 8080}])));
    let http = json!([{"timeout": "9s", "route": [{"destination": {"host": "shop"}}]}]);
    server.apply("flux", &routes("shop", &["shop.example.com"], &["public"], http.clone()));
    server.apply("flux", &canary("shop", extra));
    (Stage::initialized_of(&server).await, http)
}

async fn deleted(stage: &Stage) {
    stage.server.delete("canaries", NAMESPACE, "shop");
    stage.rest().await;
    assert!(stage.get("canaries", "shop").is_null(), "{:#}", stage.status("shop"));
}

#[tokio::test(start_paused = true)]
async fn what_was_adopted_under_an_earlier_service_name_leads_to_the_arms_and_is_given_back() {
    let (stage, http) = adopted(json!({})).await;
    let policy = json!({"tls": {"mode": "SIMPLE"}});
    let rule = json!({"host": "shop", "trafficPolicy": policy});
    stage.server.apply("flux", &object("networking.istio.io/v1", "DestinationRule", "mine", rule));
    stage.rest().await;
    stage.edit("canaries", "shop", |canary| {
        let service = canary["spec"]["service"].as_object_mut().unwrap();
        service.insert("name".into(), "front".into());
        service.insert("hosts".into(), json!(["shop.example.com"]));
        service.insert("gateways".into(), json!(["public"]));
    });
    stage.rest().await;
    let spec = stage.get("virtualservices", "shop")["spec"].clone();
    assert_eq!(spec["http"][0]["route"][0]["destination"]["host"], "front-canary", "{spec:#}");
    assert_eq!(spec["http"][1]["route"][0]["destination"]["host"], "front-primary", "{spec:#}");
    assert_eq!((&spec["http"][1]["timeout"], &spec["gateways"]), (&json!("9s"), &json!(["public"])));
    assert_eq!(stage.get("services", "shop")["spec"]["selector"], json!({"app": "shop-primary"}));
    assert_eq!(
        stage.get("destinationrules", "front-primary")["spec"]["trafficPolicy"],
        policy,
        "as its pods were spoken to"
    );
    let [_, _, hazard] = stage.condition("shop", "Hazard");
    assert!(hazard.contains("VirtualService shop, Service shop was adopted under an earlier service.name"), "{hazard}");
    assert!(!stage.is("shop", "Stalled") && stage.changed().await == [""; 0]);
    deleted(&stage).await;
    assert_eq!(stage.get("virtualservices", "shop")["spec"]["http"], http);
    assert_eq!(stage.get("services", "shop")["spec"]["selector"], json!({"app": "shop"}));
    for plural in ["services", "virtualservices"] {
        assert!(!stage.get(plural, "shop").to_string().contains("weir.dev/"));
        assert!(stage.get(plural, "front").is_null());
    }
}

#[tokio::test(start_paused = true)]
async fn an_adopted_service_is_given_back_to_the_label_and_the_port_that_the_target_has_by_then() {
    let (stage, http) = adopted(json!({})).await;
    let mut target = deployment("shop", &[("app.kubernetes.io/name", "shop")], "v1");
    target["spec"]["template"]["spec"]["containers"][0]["ports"] = json!([{"containerPort": 9090, "protocol": "TCP"}]);
    stage.server.delete("deployments", NAMESPACE, "shop");
    stage.server.apply("flux", &target);
    stage.edit("canaries", "shop", |canary| canary["spec"]["service"]["targetPort"] = 9090.into());
    stage.rest().await;
    deleted(&stage).await;
    let spec = stage.get("services", "shop")["spec"].clone();
    assert_eq!(spec["selector"], json!({"app.kubernetes.io/name": "shop"}), "{spec:#}");
    assert_eq!((&spec["ports"][0]["targetPort"], &spec["ports"][0]["name"]), (&json!(9090), &json!("web")));
    assert_eq!(stage.get("virtualservices", "shop")["spec"]["http"], http);
}

#[tokio::test(start_paused = true)]
async fn an_adopted_service_is_given_back_to_the_target_that_the_canary_has_by_then() {
    let (stage, _) = adopted(json!({"name": "shop"})).await;
    stage.server.apply("flux", &deployment("front", &[("app", "front")], "v1"));
    stage.edit("canaries", "shop", |canary| canary["spec"]["targetRef"]["name"] = "front".into());
    stage.rest().await;
    assert_eq!(stage.get("services", "shop")["spec"]["selector"], json!({"app": "front-primary"}));
    deleted(&stage).await;
    assert_eq!(stage.get("services", "shop")["spec"]["selector"], json!({"app": "front"}));
    assert_eq!(stage.get("deployments", "front")["spec"]["replicas"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_canary_goes_once_the_service_that_is_given_back_leads_to_a_pod() {
    let (stage, _) = adopted(json!({})).await;
    stage.server.delete("canaries", NAMESPACE, "shop");
    for _ in 0..100_000 {
        if stage.get("services", "shop")["spec"]["selector"] == json!({"app": "shop"}) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // No address of its pods has come to the Service yet.
    stage.server.stick("shop", true);
    stage.rest().await;
    assert_eq!(stage.get("canaries", "shop")["metadata"]["finalizers"], json!(["weir.dev/canary"]));
    assert!(!stage.get("deployments", "shop-primary").is_null());
    stage.server.stick("shop", false);
    stage.rest().await;
    assert!(stage.get("canaries", "shop").is_null(), "{:#}", stage.status("shop"));
}

#[tokio::test(start_paused = true)]
async fn labels_that_the_canary_gives_later_are_given_back_as_they_were() {
    let server = server();
    let mut own = service("shop", "shop", json!([{"name": "web", "port": 80, "targetPort": 8080}]));
    own["metadata"]["labels"] = json!({"team": "cart"});
    own["spec"]["trafficDistribution"] = "PreferClose".into();
    server.apply("flux", &own);
    server.apply("flux", &canary("shop", json!({})));
    let stage = Stage::initialized_of(&server).await;
    stage.edit("canaries", "shop", |canary| {
        canary["spec"]["service"]["apex"] = json!({"labels": {"team": "web"}});
        canary["spec"]["service"]["trafficDistribution"] = "PreferSameNode".into();
    });
    stage.rest().await;
    let live = stage.get("services", "shop");
    assert_eq!(live["metadata"]["labels"]["team"], "web");
    assert_eq!(stage.changed().await, [""; 0]);
    deleted(&stage).await;
    let left = stage.get("services", "shop");
    assert_eq!(left["metadata"]["labels"], json!({"team": "cart"}), "{left:#}");
    assert_eq!(left["spec"]["trafficDistribution"], "PreferClose");
}

#[tokio::test(start_paused = true)]
async fn an_adopted_virtual_service_that_is_delegated_to_has_its_hosts_at_whoever_delegates() {
    let (stage, http) = adopted(json!({})).await;
    stage.edit("canaries", "shop", |canary| canary["spec"]["service"]["delegation"] = true.into());
    stage.reason("shop", "RoutesLost").await;
    let (_, message) = stage.said("shop");
    assert!(message.contains("host shop.example.com") && message.contains("that delegates to it"), "{message}");
    let hosts = || stage.get("virtualservices", "shop")["spec"]["hosts"].clone();
    assert!(hosts().to_string().contains("shop.example.com"));
    let root = json!([{"delegate": {"name": "shop"}}]);
    stage.server.apply("flux", &routes("root", &["shop.example.com"], &["public"], root));
    stage.rest().await;
    stage.rest().await;
    let spec = stage.get("virtualservices", "shop")["spec"].clone();
    assert!(spec["hosts"].is_null() && spec["gateways"].is_null(), "{spec:#}");
    assert_eq!(spec["http"][1]["route"][0]["destination"]["host"], "shop-primary");
    assert_eq!(stage.changed().await, [""; 0]);
    deleted(&stage).await;
    assert_eq!(
        (hosts(), stage.get("virtualservices", "shop")["spec"]["http"].clone()),
        (json!(["shop.example.com"]), http)
    );
}

#[tokio::test(start_paused = true)]
async fn headers_of_an_adopted_virtual_service_hold_beside_those_of_the_canary() {
    let server = server();
    let theirs = json!({
        "request": {"set": {"X-Env": "prod", "x-a": "1"}},
        "response": {"set": {"x-frame-options": "DENY"}, "remove": ["server"]},
    });
    let http = json!([{"headers": theirs, "route": [{"destination": {"host": "shop"}}]}]);
    server.apply("flux", &routes("shop", &["shop.example.com"], &["public"], http));
    server.apply("flux", &canary("shop", json!({"headers": {"request": {"set": {"x-a": "2"}, "remove": ["x-env"]}}})));
    let stage = Stage::initialized_of(&server).await;
    let headers = stage.get("virtualservices", "shop")["spec"]["http"][1]["headers"].clone();
    let expected = json!({
        "request": {"set": {"x-a": "2"}, "remove": ["x-env", weir_wire::TOKEN_HEADER]},
        "response": {"set": {"x-frame-options": "DENY"}, "remove": ["server"]},
    });
    assert_eq!(headers, expected);
}

#[tokio::test(start_paused = true)]
async fn who_says_in_the_canary_what_some_routes_would_lose_has_it_adopted() {
    let server = server();
    let to = json!([{"destination": {"host": "shop"}}]);
    let slow =
        json!({"match": [{"uri": {"prefix": "/slow"}}], "timeout": "9s", "retries": {"attempts": 3}, "route": to});
    let http = json!([slow, {"retries": {"attempts": 3}, "route": to}]);
    server.apply("flux", &routes("shop", &["shop.example.com"], &["public"], http));
    server.apply("flux", &canary("shop", json!({})));
    let stage = Stage::start(&server);
    stage.reason("shop", "RoutesLost").await;
    let (_, message) = stage.said("shop");
    assert!(message.contains("would lose timeout of route 1:"), "{message}");
    stage.edit("canaries", "shop", |canary| canary["spec"]["service"]["timeout"] = "9s".into());
    stage.phase("shop", "Initialized").await;
    let route = stage.get("virtualservices", "shop")["spec"]["http"][1].clone();
    assert_eq!((&route["timeout"], &route["retries"]), (&json!("9s"), &json!({"attempts": 3})));
}

#[tokio::test(start_paused = true)]
async fn of_two_ports_of_one_number_the_own_one_is_that_of_tcp() {
    let server = server();
    let quic = json!({"name": "h3", "port": 443, "targetPort": 8443, "protocol": "UDP"});
    server.apply("flux", &service("shop", "shop", json!([quic, {"name": "https", "port": 443, "targetPort": 8080}])));
    let mut given = canary("shop", json!({"port": 443, "gateways": ["public"], "hosts": ["shop.example.com"]}));
    given["spec"]["service"].as_object_mut().unwrap().remove("targetPort");
    server.apply("flux", &given);
    let stage = Stage::initialized_of(&server).await;
    for name in ["shop-primary", "shop-canary"] {
        let ports = stage.get("services", name)["spec"]["ports"].clone();
        let expected = json!([{"name": "https", "port": 443, "targetPort": 8080, "protocol": "TCP"}]);
        assert_eq!(ports, expected, "{name}");
    }
    deleted(&stage).await;
    let ports = stage.get("services", "shop")["spec"]["ports"].clone();
    assert!(ports.as_array().unwrap().contains(&quic), "{ports:#}");
}
