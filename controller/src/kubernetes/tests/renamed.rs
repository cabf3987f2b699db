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
