//! Canaries that are deleted, or found after a restart, while their state or their spec cannot be read.

use serde_json::{Value, json};

use super::server::ApiServer;
use super::stage::{NAMESPACE, Stage, deployment, edit_state};
use super::tenants::{on_gateway, prepared, serving};

/// A Canary at rest, whose controller was killed and whose object was edited before the next one starts.
async fn edited(edit: impl FnOnce(&mut Value)) -> ApiServer {
    let server = Stage::initialized().await.kill();
    server.edit("canaries", NAMESPACE, "shop", edit);
    server
}

/// Deletes the Canary while its target cannot start, and has it start later.
async fn is_let_go_once_the_target_serves(server: &ApiServer) {
    let stage = Stage::start(server);
    stage.rest().await;
    assert_eq!(stage.get("deployments", "shop")["spec"]["replicas"], 0);
    server.stick("shop", true);
    server.delete("canaries", NAMESPACE, "shop");
    for _ in 0..30 {
        stage.rest().await;
    }
    let finalizers = stage.get("canaries", "shop")["metadata"]["finalizers"].clone();
    assert_eq!(finalizers, json!(["weir.dev/canary"]), "{:#}", stage.status("shop"));
    assert_eq!(stage.get("deployments", "shop")["spec"]["replicas"], 1);
    assert!(!stage.get("deployments", "shop-primary").is_null(), "it serves until then");
    server.stick("shop", false);
    stage.rest().await;
    assert!(stage.get("canaries", "shop").is_null(), "{:#}", stage.status("shop"));
}

#[tokio::test(start_paused = true)]
async fn a_canary_whose_state_a_newer_weir_wrote_is_deleted_once_its_target_serves() {
    let server = edited(|canary| canary["status"]["state"] = r#"{"phase":"Later"}"#.into()).await;
    is_let_go_once_the_target_serves(&server).await;
}

#[tokio::test(start_paused = true)]
async fn a_canary_whose_spec_has_no_plan_is_deleted_after_a_restart_once_its_target_serves() {
    for weight in [json!([500]), json!("many")] {
        let server = edited(|canary| canary["spec"]["analysis"]["stepWeights"] = weight).await;
        is_let_go_once_the_target_serves(&server).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_canary_whose_target_was_made_anew_without_a_label_to_tell_it_by_is_deleted_once_that_serves() {
    let server = Stage::initialized().await.kill();
    server.delete("deployments", NAMESPACE, "shop");
    let mut target = deployment("shop", &[("tier", "web"), ("track", "stable")], "v1");
    target["spec"]["replicas"] = 0.into();
    server.apply("flux", &target);
    is_let_go_once_the_target_serves(&server).await;
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_is_deleted_with_its_target_waits_for_nothing() {
    let server = edited(|canary| canary["spec"]["analysis"]["stepWeights"] = json!([500])).await;
    let stage = Stage::start(&server);
    stage.rest().await;
    server.stick("shop", true);
    server.delete("canaries", NAMESPACE, "shop");
    stage.rest().await;
    server.delete("deployments", NAMESPACE, "shop");
    stage.rest().await;
    assert!(stage.get("canaries", "shop").is_null(), "{:#}", stage.status("shop"));
}

#[tokio::test(start_paused = true)]
async fn a_release_whose_spec_has_no_plan_after_a_restart_loses_its_weight_and_goes_on_with_one_that_has() {
    let stage = Stage::initialized().await;
    stage.server.apply("flux", &deployment("shop", &[("app", "shop")], "v2"));
    stage.phase("shop", "Progressing").await;
    stage.rest().await;
    let server = stage.kill();
    let weights = server.get("canaries", NAMESPACE, "shop").unwrap()["spec"]["analysis"]["stepWeights"].clone();
    server.edit("canaries", NAMESPACE, "shop", |canary| {
        edit_state(canary, |state| {
            state["run"]["stage"] = "Analysing".into();
            state["traffic"]["weight"] = 2_000.into();
        });
        canary["status"]["canaryWeight"] = 20.into();
        canary["spec"]["analysis"]["stepWeights"] = json!([500]);
    });
    let stage = Stage::start(&server);
    stage.rest().await;
    let status = stage.status("shop");
    assert_eq!(stage.condition("shop", "Stalled")[..2], ["True", "InvalidSpec"].map(str::to_owned));
    assert_eq!((&status["canaryWeight"], &status["phase"]), (&json!(0.0), &json!("Progressing")), "{status:#}");
    server.edit("canaries", NAMESPACE, "shop", |canary| canary["spec"]["analysis"]["stepWeights"] = weights);
    stage.until_not_stalled("shop").await;
    assert_eq!(stage.status("shop")["phase"], "Progressing");
}

/// Returns whether the gateway's configuration names the Canary.
fn is_split(server: &ApiServer) -> bool {
    let configuration = "/spec/configPatches/0/patch/value/typed_config/config/configuration/value";
    let filters = server.all("envoyfilters");
    let mut texts = filters.iter().filter_map(|filter| filter.pointer(configuration)?.as_str());
    texts.any(|text| text.contains("shop/shop"))
}

#[tokio::test(start_paused = true)]
async fn a_canary_whose_spec_cannot_be_read_after_a_restart_gets_no_requests_but_where_it_serves_for_the_primary() {
    for (fallback, primary_serves) in [(false, true), (true, true), (false, false)] {
        let server = prepared(json!({"istio": "ingressgateway"}), &["*"]);
        serving(&server, "istio-ingress", "edge");
        server.apply("flux", &on_gateway(&["shop.example.com"]));
        let stage = Stage::start(&server);
        stage.rest().await;
        server.edit("canaries", NAMESPACE, "shop", |canary| {
            edit_state(canary, |state| {
                state["phase"] = "Progressing".into();
                state["traffic"]["weight"] = 2_000.into();
                state["canary_is_home"] = fallback.into();
            });
        });
        assert!(is_split(&server));
        let server = stage.kill();
        if !primary_serves {
            server.stick("shop-primary", true);
            server.edit("deployments", NAMESPACE, "shop-primary", |it| it["status"]["availableReplicas"] = 0.into());
        }
        server.edit("canaries", NAMESPACE, "shop", |canary| {
            canary["spec"]["analysis"]["stepWeights"] = "many".into();
        });
        let stage = Stage::start(&server);
        stage.reason("shop", "InvalidSpec").await;
        stage.rest().await;
        let withheld = !fallback && primary_serves;
        assert_eq!(is_split(&server), !withheld, "{fallback} {primary_serves}");
        let (_, message) = stage.said("shop");
        assert_eq!(message.ends_with("until it can be read all requests go to the primary"), withheld, "{message}");
    }
}
