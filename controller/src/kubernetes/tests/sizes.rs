//! How many pods the primary has without an autoscaler: what was declared with a revision comes with its promotion, and nothing else.

use serde_json::{Value, json};

use super::server::ApiServer;
use super::stage::{Stage, canary, deployment};

/// Returns a version of the target that declares a number, or leaves it to others.
fn target(version: &str, replicas: Option<i64>) -> Value {
    let mut target = deployment("shop", &[("app", "shop")], version);
    if let Some(replicas) = replicas {
        target["spec"]["replicas"] = replicas.into();
    }
    target
}

#[tokio::test(start_paused = true)]
async fn replicas_that_are_declared_with_a_revision_are_promoted_with_it_and_those_of_weir_never() {
    let server = ApiServer::default();
    let mut skipping = canary("shop", json!({}));
    skipping["spec"]["skipAnalysis"] = true.into();
    server.apply("flux", &target("v1", Some(2)));
    server.apply("flux", &skipping);
    let stage = Stage::start(&server);
    stage.phase("shop", "Initialized").await;
    stage.rest().await;
    let replicas = |name: &str| stage.get("deployments", name)["spec"]["replicas"].as_i64();
    assert_eq!((replicas("shop-primary"), replicas("shop")), (Some(2), Some(0)));
    for (version, declared, expected) in [("v2", None, 2), ("v3", Some(5), 5), ("v4", None, 5), ("v5", Some(3), 3)] {
        server.apply("flux", &target(version, declared));
        stage.rest().await;
        let image =
            stage.get("deployments", "shop-primary")["spec"]["template"]["spec"]["containers"][0]["image"].clone();
        assert_eq!(image, format!("shop:{version}"), "{}", stage.status("shop"));
        assert_eq!((replicas("shop-primary"), replicas("shop")), (Some(expected), Some(0)), "{version}");
    }
    let shrunk = "Scaling down shop.shop-primary from 5 to 3 replicas, as shop.shop declares";
    let events = stage.events();
    assert_eq!(events.get(shrunk), Some(&1), "{events:#?}");
    assert_eq!(events.keys().filter(|text| text.starts_with("Scaling down shop.shop-primary")).count(), 1);
}
