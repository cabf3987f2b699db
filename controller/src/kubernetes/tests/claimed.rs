//! Objects that somebody applies over what Weir has made, and those that another controller looks after.

use serde_json::{Value, json};

use super::server::ApiServer;
use super::stage::{NAMESPACE, Stage, canary, deployment, edit_state, routes, service};

const BOTH: [(&str, &str); 2] = [("services", "shop"), ("virtualservices", "shop")];

fn server() -> ApiServer {
    let server = ApiServer::default();
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
    server
}

fn theirs(hosts: &[&str]) -> [Value; 2] {
    let http = json!([{"timeout": "9s", "route": [{"destination": {"host": "shop"}}]}]);
    let port = json!([{"name": "web", "port": 80, "targetPort": 8080}]);
    [service("shop", "shop", port), routes("shop", hosts, &["public"], http)]
}

fn destinations(stage: &Stage) -> Vec<Value> {
    let http = stage.get("virtualservices", "shop")["spec"]["http"].clone();
    http.as_array().unwrap().iter().map(|route| route["route"][0]["destination"]["host"].clone()).collect()
}

/// Applies an object on the client's side, over a live one.
fn apply_by_kubectl(stage: &Stage, plural: &str, wanted: &Value) {
    let mut live = stage.get(plural, "shop");
    for (field, value) in wanted["spec"].as_object().unwrap() {
        live["spec"][field] = value.clone();
    }
    live["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = wanted.to_string().into();
    stage.server.put("kubectl-client-side-apply", &live);
}

#[tokio::test(start_paused = true)]
async fn what_its_user_applies_over_what_weir_has_made_is_his_and_outlives_the_canary() {
    for by_kubectl in [false, true] {
        let server = server();
        server.apply("flux", &canary("shop", json!({})));
        let stage = Stage::initialized_of(&server).await;
        let theirs = theirs(&["shop.example.com", "www.example.com"]);
        for ((plural, _), theirs) in BOTH.iter().zip(&theirs) {
            match by_kubectl {
                true => apply_by_kubectl(&stage, plural, theirs),
                false => server.apply("kustomize-controller", theirs),
            }
        }
        stage.rest().await;
        let live = BOTH.map(|(plural, name)| stage.get(plural, name));
        for live in &live {
            assert!(live["metadata"]["ownerReferences"].is_null(), "{live:#}");
        }
        let hosts = live[1]["spec"]["hosts"].to_string();
        assert!(hosts.contains("shop.example.com") && hosts.contains("www.example.com"), "{hosts}");
        assert_eq!(live[1]["spec"]["gateways"], json!(["public"]));
        assert_eq!(live[1]["spec"]["http"][1]["timeout"], "9s");
        assert_eq!(destinations(&stage), ["shop-canary", "shop-primary"]);
        assert_eq!(live[0]["spec"]["selector"], json!({"app": "shop-primary"}));
        assert!(!stage.is("shop", "Stalled"), "{:#}", stage.status("shop"));
        assert_eq!(stage.changed().await, [""; 0]);
        server.delete("canaries", NAMESPACE, "shop");
        stage.rest().await;
        assert!(stage.get("canaries", "shop").is_null());
        for ((plural, name), theirs) in BOTH.iter().zip(&theirs) {
            let left = stage.get(plural, name);
            for field in ["hosts", "gateways", "http", "selector"] {
                assert_eq!(left["spec"][field], theirs["spec"][field], "{plural} {field}: {left:#}");
            }
            assert!(!left.to_string().contains("weir.dev/"), "{left:#}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_taken_out_of_what_its_user_applies_where_the_canary_says_less() {
    let server = server();
    server.apply("flux", &canary("shop", json!({"hosts": ["shop.example.com"], "gateways": ["public"]})));
    let stage = Stage::initialized_of(&server).await;
    let theirs = theirs(&["shop.example.com", "www.example.com"]);
    theirs.iter().for_each(|theirs| server.apply("kustomize-controller", theirs));
    stage.reason("shop", "RoutesLost").await;
    assert!(stage.said("shop").1.contains("host www.example.com"), "{:?}", stage.said("shop"));
    stage.rest().await;
    let spec = stage.get("virtualservices", "shop")["spec"].clone();
    assert_eq!((&spec["hosts"], &spec["http"]), (&theirs[1]["spec"]["hosts"], &theirs[1]["spec"]["http"]));
    assert_eq!(stage.get("services", "shop")["spec"]["selector"], json!({"app": "shop-primary"}), "it has pods");
    // A release that is under way then has no weight: what is marked for the canary goes to the primary, and would count as its own.
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v2"));
    stage.rest().await;
    let server = stage.kill();
    server.edit("canaries", NAMESPACE, "shop", |canary| {
        edit_state(canary, |state| {
            state["run"]["stage"] = "Analysing".into();
            state["traffic"]["weight"] = 2_000.into();
        });
        canary["status"]["canaryWeight"] = 20.into();
    });
    let stage = Stage::start(&server);
    stage.rest().await;
    assert_eq!((&stage.status("shop")["canaryWeight"], stage.said("shop").0), (&json!(0.0), "RoutesLost".into()));
    server.delete("canaries", NAMESPACE, "shop");
    stage.rest().await;
    let left = stage.get("virtualservices", "shop");
    assert_eq!(left["spec"]["hosts"], theirs[1]["spec"]["hosts"], "{left:#}");
    assert_eq!(stage.get("services", "shop")["spec"]["selector"], json!({"app": "shop"}));
}

#[tokio::test(start_paused = true)]
async fn an_object_that_another_controller_looks_after_is_not_adopted() {
    let owner =
        json!([{"apiVersion": "example.com/v1", "kind": "App", "name": "shop", "uid": "7", "controller": true}]);
    for (at, (plural, name)) in BOTH.into_iter().enumerate() {
        let server = server();
        let all = theirs(&["shop.example.com"]);
        let mut controlled = all[at].clone();
        controlled["metadata"]["ownerReferences"] = owner.clone();
        server.apply("flux", &all[1 - at]);
        server.apply("operator", &controlled);
        server.apply("flux", &canary("shop", json!({})));
        let stage = Stage::start(&server);
        stage.reason("shop", "NameTaken").await;
        let (_, message) = stage.said("shop");
        assert!(stage.is("shop", "Stalled") && message.contains("is controlled by App shop"), "{message}");
        assert_eq!(stage.changed().await, [""; 0]);
        stage.edit(plural, name, |object| drop(object["metadata"].as_object_mut().unwrap().remove("ownerReferences")));
        stage.phase("shop", "Initialized").await;
        // One that comes to be looked after later, or was adopted before this was a rule, goes on.
        stage.edit(plural, name, |object| object["metadata"]["ownerReferences"] = owner.clone());
        stage.rest().await;
        let [_, _, hazard] = stage.condition("shop", "Hazard");
        assert!(hazard.contains("is controlled by App shop") && !stage.is("shop", "Stalled"), "{hazard}");
    }
}
