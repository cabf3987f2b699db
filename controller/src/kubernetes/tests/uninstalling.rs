//! `weir uninstall`, beside a controller that runs or that somebody scaled to zero.

use serde_json::{Value, json};

use super::super::uninstall;
use super::server::ApiServer;
use super::stage::Stage;

/// An initialized Canary, and Weir's own Deployment with so many replicas.
async fn with_replicas(replicas: u32) -> Stage {
    let stage = Stage::initialized().await;
    stage.server.apply("helm", &json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "weir", "namespace": "weir-system"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "weir"}}, "template": {"metadata": {"labels": {"app": "weir"}}}},
    }));
    stage
}

fn replicas(server: &ApiServer) -> Value {
    server.get("deployments", "weir-system", "weir").unwrap()["spec"]["replicas"].clone()
}

#[tokio::test(start_paused = true)]
async fn uninstalling_starts_a_controller_that_was_scaled_to_zero() {
    let stage = with_replicas(0).await;
    uninstall(stage.server.client(), Some(("weir-system", "weir")), &[], &[]).await.unwrap();
    assert_eq!((replicas(&stage.server), stage.server.all("canaries").len()), (json!(1), 0));
}

#[tokio::test(start_paused = true)]
async fn uninstalling_leaves_the_size_of_a_controller_that_runs_and_of_one_with_nothing_to_give_back() {
    let stage = with_replicas(2).await;
    uninstall(stage.server.client(), Some(("weir-system", "weir")), &[], &[]).await.unwrap();
    assert_eq!((replicas(&stage.server), stage.server.all("canaries").len()), (json!(2), 0));
    let stage = with_replicas(0).await;
    stage.server.delete("canaries", "shop", "shop");
    uninstall(stage.server.client(), None, &[], &[]).await.unwrap();
    uninstall(stage.server.client(), Some(("weir-system", "weir")), &[], &[]).await.unwrap();
    assert_eq!(replicas(&stage.server), 0);
}
