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

#[tokio::test(start_paused = true)]
async fn a_target_that_weir_has_left_at_one_pod_is_as_large_as_the_primary_in_the_next_release_and_a_users_number_stays()
 {
    for (manager, expected) in [("weir", 3), ("kubectl", 1)] {
        let server = ApiServer::default();
        server.apply("flux", &target("v1", Some(3)));
        server.apply("flux", &canary("shop", json!({})));
        let server = Stage::initialized_of(&server).await.kill();
        server.apply("flux", &target("v2", None));
        // What was kept for a gateway that nobody hears of.
        let size = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "shop", "namespace": "shop"},
            "spec": {"replicas": 1},
        });
        server.apply(manager, &size);
        let stage = Stage::start(&server);
        stage.phase("shop", "Progressing").await;
        stage.rest().await;
        let replicas = |name: &str| stage.get("deployments", name)["spec"]["replicas"].clone();
        assert_eq!((replicas("shop-primary"), replicas("shop")), (json!(3), json!(expected)), "{manager}");
    }
}
