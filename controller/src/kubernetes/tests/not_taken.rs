//! What a takeover from Flagger leaves to it: nothing that would go with its Canary, and no Canary of its that comes back.

use std::time::Duration;

use serde_json::{Value, json};

use super::server::ApiServer;
use super::stage::{NAMESPACE, Stage, object, service};
use super::take_over::{FLAGGERS, asking, flagger, flagger_comes, flagger_goes, taken_over};

pub(super) fn suspended(server: &ApiServer) -> Value {
    server.get(FLAGGERS, NAMESPACE, "shop").unwrap()["spec"]["suspend"].clone()
}

/// Has Flagger's Canary control one more object.
fn controls(server: &ApiServer, mut object: Value) {
    let uid = server.get(FLAGGERS, NAMESPACE, "shop").unwrap()["metadata"]["uid"].clone();
    object["metadata"]["ownerReferences"] = json!([{"apiVersion": "flagger.app/v1beta1", "kind": "Canary", "name": "shop", "uid": uid, "controller": true}]);
    server.put("flagger", &object);
}

#[tokio::test(start_paused = true)]
async fn a_canary_of_flaggers_that_comes_back_after_the_takeover_is_suspended_again() {
    let server = flagger("Succeeded", "v1");
    let stage = taken_over(&server, "Initialized").await;
    for _ in 0..2 {
        flagger_goes(&server);
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert_eq!(stage.condition("shop", "Hazard")[2], "");
        // A commit that is taken back, which knows nothing of a suspension.
        flagger_comes(&server, "Succeeded");
        tokio::time::sleep(Duration::from_secs(90)).await;
        assert_eq!(suspended(&server), true);
        assert!(stage.condition("shop", "Hazard")[2].contains("canaries.flagger.app shop is still there"));
    }
}

#[tokio::test(start_paused = true)]
async fn what_would_go_with_flaggers_canary_keeps_everything_from_being_taken() {
    let scaler = json!({"scaleTargetRef": {"kind": "Deployment", "name": "shop-primary"}, "maxReplicas": 3});
    let scaler = object("autoscaling/v2", "HorizontalPodAutoscaler", "shop-primary", scaler);
    let rows: [(Option<Value>, Value, &str); 3] = [
        (None, json!({"name": "other"}), "serves under shop, and Canary shop under other"),
        (Some(scaler), json!({}), "also controls HorizontalPodAutoscaler shop-primary, which go with it"),
        (
            Some(service("mine", "shop", json!([{"port": 80}]))),
            json!({}),
            "also controls Service mine, which go with it",
        ),
    ];
    for (more, of_service, expected) in rows {
        let server = flagger("Succeeded", "v1");
        if let Some(more) = more {
            controls(&server, more);
        }
        let mut canary = asking();
        canary["spec"]["service"].as_object_mut().unwrap().extend(of_service.as_object().unwrap().clone());
        server.apply("flux", &canary);
        let stage = Stage::start(&server);
        stage.reason("shop", "ControlledByFlagger").await;
        assert!(stage.said("shop").1.contains(expected), "{:?}", stage.said("shop"));
        assert_eq!(stage.changed().await, [""; 0], "{expected}");
        assert_eq!(suspended(&server), Value::Null, "{expected}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_flagger_that_routes_by_something_else_than_virtual_services_is_left_alone() {
    for (provider, expected) in [
        (json!("gatewayapi:v1"), "routes by provider gatewayapi:v1: what that made, an HTTPRoute, goes with it"),
        // As Flagger's -mesh-provider says, which is known by what Flagger has made.
        (Value::Null, "gives no provider, and no VirtualService shop leads to shop-primary"),
    ] {
        let server = flagger("Succeeded", "v1");
        server.delete("virtualservices", NAMESPACE, "shop");
        server.edit(FLAGGERS, NAMESPACE, "shop", |theirs| theirs["spec"]["provider"] = provider.clone());
        server.apply("flux", &asking());
        let stage = Stage::start(&server);
        stage.reason("shop", "ControlledByFlagger").await;
        assert!(stage.said("shop").1.contains(expected), "{:?}", stage.said("shop"));
        assert_eq!(stage.changed().await, [""; 0], "{provider}");
        assert_eq!(suspended(&server), Value::Null, "{provider}");
    }
}

#[tokio::test(start_paused = true)]
async fn flaggers_canary_is_not_said_to_be_free_to_go_while_it_controls_something() {
    let server = flagger("Succeeded", "v1");
    let stage = taken_over(&server, "Initialized").await;
    // An earlier Weir took over what stands under its own names alone.
    controls(&server, service("other", "shop", json!([{"port": 80}])));
    tokio::time::sleep(Duration::from_secs(120)).await;
    let said = stage.condition("shop", "Hazard")[2].clone();
    assert!(
        said.contains("what it controls goes with it: Service other;") && !said.contains("nothing any more"),
        "{said}"
    );
    server.delete("services", NAMESPACE, "other");
    server.edit(FLAGGERS, NAMESPACE, "shop", |theirs| {
        theirs["spec"]["autoscalerRef"] = json!({"kind": "ScaledObject", "name": "shop"});
    });
    tokio::time::sleep(Duration::from_secs(120)).await;
    let said = stage.condition("shop", "Hazard")[2].clone();
    assert!(said.contains("what it controls goes with it: ScaledObject shop-primary;"), "{said}");
}
