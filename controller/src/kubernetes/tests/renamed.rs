//! A Canary whose target gets another name, while its Service keeps its own.

use serde_json::json;

use super::server::ApiServer;
use super::stage::{Stage, canary, deployment};

/// A Canary of the Deployment `shop-v1`, whose pods serve under `shop`, with twelve of them in production.
async fn renamable() -> Stage {
    let server = ApiServer::default();
    let mut target = deployment("shop-v1", &[("app", "shop-v1")], "v1");
    target["spec"]["replicas"] = 12.into();
    server.apply("flux", &target);
    let mut canary = canary("shop", json!({"name": "shop"}));
    canary["spec"]["targetRef"]["name"] = "shop-v1".into();
    server.apply("flux", &canary);
    Stage::initialized_of(&server).await
}

fn selectors(stage: &Stage) -> [String; 2] {
    ["shop", "shop-primary"].map(|name| stage.get("services", name)["spec"]["selector"]["app"].as_str().unwrap().into())
}

fn told(stage: &Stage) -> String {
    let [_, _, message] = stage.condition("shop", "Hazard");
    message
}

#[tokio::test(start_paused = true)]
async fn a_target_of_another_name_gets_the_requests_once_its_primary_can_serve_them() {
    let stage = renamable().await;
    assert_eq!(selectors(&stage), ["shop-v1-primary", "shop-v1-primary"]);
    stage.server.stick("shop-v2-primary", true);
    // The Canary comes first, as the files of a folder do.
    stage.edit("canaries", "shop", |canary| canary["spec"]["targetRef"]["name"] = "shop-v2".into());
    stage.rest().await;
    assert!(stage.get("deployments", "shop-v2-primary").is_null());
    assert_eq!(selectors(&stage), ["shop-v1-primary", "shop-v1-primary"]);
    let mut target = deployment("shop-v2", &[("app", "shop-v2")], "v1");
    target["spec"]["replicas"] = 2.into();
    stage.server.apply("flux", &target);
    stage.rest().await;
    let primary = stage.get("deployments", "shop-v2-primary")["spec"].clone();
    assert_eq!(primary["selector"]["matchLabels"], json!({"app": "shop-v2-primary"}));
    assert_eq!(primary["replicas"], 12, "as many as serve");
    assert_eq!(selectors(&stage), ["shop-v1-primary", "shop-v1-primary"]);
    let message = told(&stage);
    assert!(
        message.contains("Deployment shop-v1-primary, of an earlier targetRef, serves all requests of the primary"),
        "{message}"
    );
    assert!(!message.contains("would reach") && !stage.is("shop", "Stalled"), "{message}");
    stage.server.stick("shop-v2-primary", false);
    stage.edit("deployments", "shop-v2-primary", |_| {});
    let written = stage.changed().await;
    assert_eq!(selectors(&stage), ["shop-v2-primary", "shop-v2-primary"], "{written:?}");
    assert!(told(&stage).contains("Deployment shop-v1-primary is of an earlier service.name or targetRef"));
    // What was left serves no more, and takes nothing back.
    stage.server.stick("shop-v2-primary", true);
    stage.rest().await;
    assert_eq!(selectors(&stage), ["shop-v2-primary", "shop-v2-primary"]);
}

#[tokio::test(start_paused = true)]
async fn the_primary_of_another_target_serves_at_the_port_that_its_own_pods_have_until_then() {
    let stage = renamable().await;
    stage.server.stick("shop-v2-primary", true);
    let mut target = deployment("shop-v2", &[("app", "shop-v2")], "v2");
    target["spec"]["template"]["spec"]["containers"][0]["ports"] = json!([{"containerPort": 9090, "protocol": "TCP"}]);
    stage.server.apply("flux", &target);
    stage.edit("canaries", "shop", |canary| {
        canary["spec"]["targetRef"]["name"] = "shop-v2".into();
        canary["spec"]["service"]["targetPort"] = 9090.into();
    });
    stage.rest().await;
    let port = |name: &str| stage.get("services", name)["spec"]["ports"][0]["targetPort"].clone();
    assert_eq!((port("shop"), port("shop-primary")), (8080.into(), 8080.into()));
    assert_eq!(port("shop-canary"), 9090);
}

#[tokio::test(start_paused = true)]
async fn users_reach_the_arms_of_a_target_of_another_name_by_the_routes_of_the_old_one_too() {
    let server = ApiServer::default();
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
    server.apply("flux", &canary("shop", json!({"hosts": ["shop.example.com"], "gateways": ["public"]})));
    let stage = Stage::initialized_of(&server).await;
    let route = |name: &str| {
        let http = stage.get("virtualservices", name)["spec"]["http"].clone();
        http.as_array().unwrap().iter().map(|it| it["route"][0]["destination"]["host"].clone()).collect::<Vec<_>>()
    };
    let selector = |name: &str| stage.get("services", name)["spec"]["selector"].clone();
    stage.server.stick("front-primary", true);
    stage.server.apply("flux", &deployment("front", &[("app", "front")], "v2"));
    // Both names change: that of the service is the target's.
    stage.edit("canaries", "shop", |canary| canary["spec"]["targetRef"]["name"] = "front".into());
    stage.rest().await;
    assert_eq!(
        (route("shop"), selector("shop")),
        (vec!["shop-canary".into(), "shop-primary".into()], json!({"app": "shop-primary"}))
    );
    stage.server.stick("front-primary", false);
    stage.rest().await;
    assert_eq!(route("front"), ["front-canary", "front-primary"]);
    let spec = stage.get("virtualservices", "shop")["spec"].clone();
    assert_eq!(spec["http"], stage.get("virtualservices", "front")["spec"]["http"]);
    assert_eq!(
        (&spec["hosts"], selector("shop")),
        (&json!(["shop.example.com", "shop"]), json!({"app": "front-primary"}))
    );
    let message = told(&stage);
    for sentence in [
        "VirtualService shop, Service shop, Service shop-canary, Service shop-primary, Deployment shop-primary is of an earlier",
        "Deployment shop, an earlier targetRef, has 0 replicas, as Weir left it",
    ] {
        assert!(message.contains(sentence), "{message}");
    }
    assert_eq!(stage.changed().await, [""; 0]);
    stage.server.delete("canaries", super::stage::NAMESPACE, "shop");
    for _ in 0..10_000 {
        if stage.get("virtualservices", "front")["spec"]["http"][0]["route"][0]["destination"]["host"] == "front" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    assert_eq!((route("shop"), selector("shop")), (vec!["front".into()], json!({"app": "front"})), "until they go");
    stage.rest().await;
    assert!(stage.get("canaries", "shop").is_null() && stage.get("virtualservices", "shop").is_null());
}

#[tokio::test(start_paused = true)]
async fn a_service_of_the_new_name_leads_to_its_own_pods_until_the_new_primary_serves() {
    let stage = renamable().await;
    stage.server.stick("front-primary", true);
    stage.server.apply("flux", &deployment("front", &[("app", "front")], "v2"));
    let port = json!([{"name": "http", "port": 80, "targetPort": 8080}]);
    stage.server.apply("flux", &super::stage::service("front", "front", port));
    stage.edit("canaries", "shop", |canary| {
        canary["spec"]["targetRef"]["name"] = "front".into();
        canary["spec"]["service"]["name"] = "front".into();
    });
    stage.rest().await;
    let selector = || stage.get("services", "front")["spec"]["selector"].clone();
    assert_eq!(
        (selector(), &stage.get("deployments", "front")["spec"]["replicas"]),
        (json!({"app": "front"}), &json!(1))
    );
    stage.server.stick("front-primary", false);
    stage.rest().await;
    assert_eq!(selector(), json!({"app": "front-primary"}));
}
