//! A Canary that is observed only: what would be done is told, and a person does it.

use serde_json::json;

use super::server::ApiServer;
use super::stage::{Stage, canary, deployment};

#[tokio::test(start_paused = true)]
async fn what_would_be_done_stands_in_the_status_and_a_person_does_it() {
    let server = ApiServer::default();
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
    let mut observed = canary("shop", json!({"gateways": ["public"], "hosts": ["shop.example.com"]}));
    observed["spec"]["observeOnly"] = true.into();
    // Idle iterations need no gateway.
    observed["spec"]["analysis"] = json!({"interval": "5s", "threshold": 2, "iterations": 3});
    server.apply("flux", &observed);
    let stage = Stage::initialized_of(&server).await;
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v2"));
    stage.reason("shop", "Observing").await;
    stage.rest().await;
    let (reason, message) = stage.said("shop");
    assert_eq!(reason, "Observing");
    assert_eq!(message, "spec.observeOnly leaves it to people: would go on to iteration 2 of 3");
    assert_eq!(stage.condition("shop", "Promoted")[0], "Unknown");
    assert!(stage.is("shop", "Ready"), "Flux goes on");
    let told = stage.events().into_iter().filter(|(text, _)| text.contains("would")).collect::<Vec<_>>();
    assert_eq!(told, [("Observing shop.shop: would go on to iteration 2 of 3".to_owned(), 1)]);
    stage.edit("canaries", "shop", |canary| canary["metadata"]["annotations"] = json!({"weir.dev/verb": "promote 1"}));
    stage.phase("shop", "Succeeded").await;
    assert_eq!(
        stage.get("deployments", "shop-primary")["spec"]["template"]["spec"]["containers"][0]["image"],
        "shop:v2"
    );
}
