//! How many pods the primary has without an autoscaler: what was declared with a revision comes with its promotion, and nothing else.

use serde_json::{Value, json};

use super::server::ApiServer;
use super::stage::{Stage, canary, deployment, object};

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

#[tokio::test(start_paused = true)]
async fn the_number_of_an_autoscaler_is_never_promoted_whatever_writes_it_and_a_persons_is() {
    // Who gives the target a size in its release, what that is, and with how many pods the primary ends.
    for (manager, size, expected) in [("keda", 1, 3), ("datadog-cluster-agent", 2, 3), ("kubectl", 5, 5)] {
        let server = ApiServer::default();
        let mut gated = canary("shop", json!({}));
        let hook = json!({"name": "go", "type": "confirm-promotion", "url": "http://127.0.0.1:1/"});
        gated["spec"]["analysis"]["webhooks"] = json!([hook]);
        server.apply("flux", &target("v1", Some(3)));
        server.apply("flux", &gated);
        let stage = Stage::initialized_of(&server).await;
        server.apply("flux", &target("v2", None));
        stage.phase("shop", "Progressing").await;
        // KEDA takes it from 0 to 1, and its HorizontalPodAutoscaler leaves it there.
        server.scale(manager, "shop", "shop", size);
        stage.rest().await;
        stage.edit("canaries", "shop", |canary| {
            canary["metadata"]["annotations"] = json!({"weir.dev/verb": "promote 1"});
        });
        stage.phase("shop", "Succeeded").await;
        let replicas = stage.get("deployments", "shop-primary")["spec"]["replicas"].as_i64();
        assert_eq!(replicas, Some(expected), "{manager}: {:?}", stage.events());
    }
}

#[tokio::test(start_paused = true)]
async fn a_number_beside_an_autoscaler_of_the_target_that_the_canary_does_not_name_is_not_promoted() {
    let server = ApiServer::default();
    let mut skipping = canary("shop", json!({}));
    skipping["spec"]["skipAnalysis"] = true.into();
    server.apply("flux", &target("v1", Some(4)));
    server.apply("flux", &skipping);
    let stage = Stage::initialized_of(&server).await;
    let spec = json!({"scaleTargetRef": {"kind": "Deployment", "name": "shop"}, "maxReplicas": 9});
    server.apply("keda", &object("autoscaling/v2", "HorizontalPodAutoscaler", "keda-hpa-shop", spec));
    for (version, expected) in [("v2", 4), ("v3", 1)] {
        server.apply("flux", &target(version, Some(1)));
        stage.rest().await;
        let primary = stage.get("deployments", "shop-primary");
        assert_eq!(primary["spec"]["template"]["spec"]["containers"][0]["image"], format!("shop:{version}"));
        assert_eq!(primary["spec"]["replicas"], expected, "{version}");
        let _ = server.get("horizontalpodautoscalers", "shop", "keda-hpa-shop").is_some_and(|_| {
            server.delete("horizontalpodautoscalers", "shop", "keda-hpa-shop");
            true
        });
        stage.rest().await;
    }
}
