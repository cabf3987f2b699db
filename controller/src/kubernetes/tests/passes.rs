//! What a pass writes, in which order, and what it leaves alone.

use serde_json::json;

use super::server::ApiServer;
use super::stage::{Stage, canary, deployment, object, of_kind, service};

#[tokio::test(start_paused = true)]
async fn a_canary_at_rest_writes_nothing() {
    let stage = Stage::initialized().await;
    stage.stores.wake_all();
    assert_eq!(stage.written().await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_starts_again_writes_nothing() {
    let server = Stage::initialized().await.kill();
    let stage = Stage::start(&server);
    assert_eq!(stage.written().await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn the_primary_stands_before_the_routes_lead_to_it() {
    let server = ApiServer::default();
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
    server.apply("flux", &canary("shop", json!({})));
    server.stick("shop-primary", true);
    let stage = Stage::start(&server);
    let first = stage.changed().await;
    assert!(first.contains(&"apply Deployment shop-primary".to_owned()), "{first:?}");
    assert!(!first.iter().any(|write| write.contains("VirtualService")), "{first:?}");
    server.stick("shop-primary", false);
    stage.phase("shop", "Initialized").await;
    assert_eq!(of_kind(&server.writes(), "VirtualService"), ["apply VirtualService shop"]);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_adopted_leads_to_the_primary_before_the_target_loses_its_pods_without_a_gateway_too() {
    let server = ApiServer::default();
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
    server.apply("flux", &service("shop", "shop", json!([{"port": 80, "targetPort": 8080}])));
    server.apply("flux", &canary("shop", json!({})));
    let stage = Stage::start(&server);
    stage.phase("shop", "Initialized").await;
    let written = stage.changed().await;
    let place = |write: &str| written.iter().position(|found| found == write);
    let (emptied, routed) = (place("apply Deployment shop"), place("apply VirtualService shop"));
    assert!(emptied.is_some() && routed.is_some() && routed < emptied, "{written:#?}");
    assert!(place("apply Service shop").is_some_and(|led| Some(led) < emptied), "{written:#?}");
    assert_eq!(stage.get("deployments", "shop")["spec"]["replicas"], 0);
}

#[tokio::test(start_paused = true)]
async fn a_new_revision_starts_the_canary_and_leaves_the_primary_alone() {
    let stage = Stage::initialized().await;
    stage.server.apply("flux", &deployment("shop", &[("app", "shop")], "v2"));
    stage.phase("shop", "Progressing").await;
    let changed = stage.changed().await;
    assert!(changed.iter().any(|write| write.starts_with("apply ControllerRevision shop-")), "{changed:?}");
    assert!(!changed.iter().any(|write| write.contains("shop-primary")), "{changed:?}");
}

#[tokio::test(start_paused = true)]
async fn the_finalizer_stands_before_anything_is_made_and_goes_last() {
    let server = ApiServer::default();
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
    server.apply("flux", &canary("shop", json!({})));
    let stage = Stage::start(&server);
    stage.phase("shop", "Initialized").await;
    let written: Vec<String> = server.writes().iter().map(ToString::to_string).collect();
    assert_eq!(written[0], "apply Canary shop", "{written:?}");
    stage.server.delete("canaries", "shop", "shop");
    let written = stage.written().await;
    assert_eq!(written.last().map(String::as_str), Some("apply Canary shop"), "{written:?}");
    assert!(stage.get("canaries", "shop").is_null() && stage.get("deployments", "shop-primary").is_null());
    assert_eq!(stage.get("deployments", "shop")["spec"]["replicas"], 1);
}

#[tokio::test(start_paused = true)]
async fn copies_of_configs_go_when_no_revision_reads_them_any_more() {
    let server = ApiServer::default();
    let config = |content: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "shop"}, "data": {"k": content}});
    let reads = |version: &str| {
        let mut reads = deployment("shop", &[("app", "shop")], version);
        reads["spec"]["template"]["spec"]["volumes"] = json!([{"name": "v", "configMap": {"name": "settings"}}]);
        reads
    };
    server.apply("flux", &config("one"));
    server.apply("flux", &reads("v1"));
    let mut canary = canary("shop", json!({}));
    canary["spec"]["skipAnalysis"] = true.into();
    server.apply("flux", &canary);
    let stage = Stage::start(&server);
    stage.phase("shop", "Initialized").await;
    let copies = || server.all("configmaps").len() - 1;
    assert_eq!(copies(), 1, "{:#?}", server.all("configmaps"));
    for content in ["two", "three"] {
        server.apply("flux", &config(content));
        stage.rest().await;
        stage.phase("shop", "Succeeded").await;
        stage.rest().await;
        assert_eq!(copies(), 1, "{content}: {:#?}", server.all("configmaps"));
    }
    let primary = stage.get("deployments", "shop-primary").to_string();
    let copy = server
        .all("configmaps")
        .into_iter()
        .find(|it| it["data"]["k"] == "three" && it["metadata"]["name"] != "settings");
    assert!(primary.contains(copy.unwrap()["metadata"]["name"].as_str().unwrap()), "{primary}");
}

#[tokio::test(start_paused = true)]
async fn the_primarys_size_is_handed_to_its_autoscaler_and_not_written_any_more() {
    let server = ApiServer::default();
    let mut target = deployment("shop", &[("app", "shop")], "v1");
    target["spec"]["replicas"] = 3.into();
    server.apply("flux", &target);
    server.apply("flux", &canary("shop", json!({})));
    let stage = Stage::start(&server);
    stage.phase("shop", "Initialized").await;
    let scaler = json!({"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop"}, "minReplicas": 2, "maxReplicas": 8});
    server.apply("flux", &object("autoscaling/v2", "HorizontalPodAutoscaler", "shop", scaler));
    stage.edit("canaries", "shop", |canary| {
        canary["spec"]["autoscalerRef"] =
            json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "name": "shop"});
    });
    stage.rest().await;
    let primary_hpa = stage.get("horizontalpodautoscalers", "shop-primary");
    assert_eq!(primary_hpa["spec"]["scaleTargetRef"]["name"], "shop-primary");
    let before = stage.get("deployments", "shop-primary")["spec"]["replicas"].clone();
    assert_eq!(before, 3, "the size stays what it was when it changes hands");
    stage.edit("deployments", "shop-primary", |primary| primary["spec"]["replicas"] = 7.into());
    assert_eq!(stage.changed().await, [""; 0]);
    assert_eq!(stage.get("deployments", "shop-primary")["spec"]["replicas"], 7);
}

#[tokio::test(start_paused = true)]
async fn an_autoscaler_that_names_the_primary_keeps_its_size_through_a_promotion() {
    let server = ApiServer::default();
    let target = |version: &str| {
        let mut target = deployment("shop", &[("app", "shop")], version);
        target["spec"]["replicas"] = 2.into();
        target
    };
    server.apply("flux", &target("v1"));
    server.apply("flux", &canary("shop", json!({})));
    let stage = Stage::initialized_of(&server).await;
    // KEDA makes one like it of a ScaledObject.
    let scaler = json!({"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop-primary"}, "minReplicas": 2, "maxReplicas": 20});
    server.apply("team", &object("autoscaling/v2", "HorizontalPodAutoscaler", "keda-hpa-mine", scaler));
    stage.rest().await;
    stage.edit("deployments", "shop-primary", |primary| primary["spec"]["replicas"] = 12.into());
    stage.edit("canaries", "shop", |canary| canary["spec"]["skipAnalysis"] = true.into());
    server.apply("flux", &target("v2"));
    stage.phase("shop", "Succeeded").await;
    stage.rest().await;
    let primary = stage.get("deployments", "shop-primary")["spec"].clone();
    assert_eq!(primary["template"]["spec"]["containers"][0]["image"], "shop:v2");
    assert_eq!(primary["replicas"], 12, "as many as its autoscaler has found to be needed");
}

#[tokio::test(start_paused = true)]
async fn two_canaries_on_one_host_write_nothing_of_each_other() {
    let server = ApiServer::default();
    for name in ["cart", "shop"] {
        server.apply("flux", &deployment(name, &[("app", name)], "v1"));
        let path = json!([{"uri": {"prefix": format!("/{name}")}}]);
        server.apply("flux", &canary(name, json!({"hosts": ["example.com"], "gateways": ["public"], "match": path})));
    }
    let stage = Stage::start(&server);
    for name in ["cart", "shop"] {
        stage.phase(name, "Initialized").await;
    }
    stage.rest().await;
    server.apply("flux", &deployment("cart", &[("app", "cart")], "v2"));
    stage.phase("cart", "Progressing").await;
    let changed = stage.changed().await;
    assert!(!changed.is_empty() && !changed.iter().any(|write| write.contains("shop")), "{changed:?}");
}
