//! Callers that a release cannot reach, and what is said of them: their namespace goes, nothing selects them, something hides the service.

use serde_json::{Value, json};

use super::callers::{both_in, bound, filters, minutes, namespace, prepared, running};
use super::server::{Answer, Write};
use super::stage::{NAMESPACE, Stage, deployment};

#[tokio::test(start_paused = true)]
async fn a_sidecar_that_hides_a_service_from_its_callers_is_named_with_what_to_add() {
    let server = prepared(json!({"callers": [{"namespace": "web"}, {}]}));
    server.apply("admin", &namespace("web", true));
    running(&server, "web", "client", true);
    running(&server, NAMESPACE, "client", true);
    let sidecar = |namespace: &str, hosts: Value| {
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "Sidecar", "metadata": {"name": "default", "namespace": namespace},
            "spec": {"egress": [{"hosts": hosts}]},
        })
    };
    server.apply("admin", &sidecar("web", json!(["./*", "istio-system/*"])));
    server.apply("admin", &sidecar(NAMESPACE, json!(["./*"])));
    let stage = Stage::start(&server);
    stage.reason("shop", "NotAcknowledged").await;
    minutes(1).await;
    let [_, _, message] = stage.condition("shop", "Hazard");
    let hidden = format!("Sidecar web/default hides shop.{NAMESPACE}.svc.cluster.local from pods of web");
    assert!(message.contains(&hidden) && message.contains(&format!("Add {NAMESPACE}/* to its egress")), "{message}");
    assert!(!message.contains(&format!("Sidecar {NAMESPACE}/default")), "{message}");
    // Without one of its own the mesh's holds there; and a policy that stands beside the callers holds for no arm.
    server.delete("sidecars", "web", "default");
    server.apply("admin", &sidecar("istio-system", json!(["./*", "istio-system/*"])));
    server.apply("admin", &json!({
        "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": "ours", "namespace": "web"},
        "spec": {"host": format!("shop.{NAMESPACE}.svc.cluster.local"), "trafficPolicy": {}},
    }));
    minutes(12).await;
    let [_, _, message] = stage.condition("shop", "Hazard");
    assert!(message.contains("Sidecar istio-system/default hides"), "{message}");
    assert!(message.contains("DestinationRule web/ours is for Service shop"), "{message}");
    server.delete("sidecars", "istio-system", "default");
    server.delete("destinationrules", "web", "ours");
    minutes(12).await;
    assert_eq!(stage.condition("shop", "Hazard")[2], "");
}

#[tokio::test(start_paused = true)]
async fn a_sidecar_that_shows_the_service_alone_hides_nothing_but_load_tests() {
    let full = |service: &str| format!("shop/{service}.shop.svc.cluster.local");
    let only_known = json!({"mode": "REGISTRY_ONLY"});
    for (hosts, policy, tests, said) in [
        (json!([full("shop")]), Value::Null, false, ""),
        (json!([full("shop")]), Value::Null, true, "a load test that these make by its name is not counted"),
        (json!([full("shop"), full("shop-canary")]), Value::Null, true, ""),
        (json!([full("shop-canary")]), Value::Null, false, "what these send goes to the primary"),
        (json!(["./*"]), only_known.clone(), false, "what these send is refused by their sidecars"),
    ] {
        let server = prepared(json!({"callers": [{"namespace": "web"}]}));
        server.apply("admin", &namespace("web", true));
        running(&server, "web", "client", true);
        if tests {
            let webhooks = json!([{"name": "load", "url": "http://tester.shop/"}]);
            server.edit("canaries", NAMESPACE, "shop", |canary| canary["spec"]["analysis"]["webhooks"] = webhooks);
        }
        server.apply("admin", &json!({
            "apiVersion": "networking.istio.io/v1", "kind": "Sidecar", "metadata": {"name": "default", "namespace": "web"},
            "spec": {"egress": [{"hosts": hosts}], "outboundTrafficPolicy": policy},
        }));
        let stage = Stage::start(&server);
        stage.reason("shop", "NotAcknowledged").await;
        minutes(1).await;
        let [_, _, message] = stage.condition("shop", "Hazard");
        assert!(
            if said.is_empty() { message.is_empty() } else { message.contains(said) },
            "{hosts} {tests}: {message}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn with_rights_in_some_namespaces_one_of_callers_that_is_gone_holds_up_nobody() {
    let server = prepared(json!({"callers": [{}, {"namespace": "web"}]}));
    server.allow(&[NAMESPACE]);
    // Its Role went with it, so its lists are refused.
    server.caller_namespaces(&["web"]);
    running(&server, NAMESPACE, "client", true);
    let stage = Stage::start(&server);
    stage.reason("shop", "NotAcknowledged").await;
    assert!(filters(&server).contains(&(NAMESPACE.to_owned(), 2)), "{:?}", filters(&server));
}

#[tokio::test(start_paused = true)]
async fn a_namespace_of_callers_that_goes_in_mid_release_is_told_as_no_fault_and_written_into_no_more() {
    let server = prepared(json!({"callers": [{}, {"namespace": "web"}]}));
    server.apply("admin", &namespace("web", true));
    ["web", NAMESPACE].iter().for_each(|name| running(&server, name, "client", true));
    let stage = Stage::start(&server);
    stage.reason("shop", "NotAcknowledged").await;
    minutes(1).await;
    assert_eq!(filters(&server), both_in(&[NAMESPACE, "web"]));
    server.script(|write| {
        let there =
            write.verb != "delete" && write.body["metadata"]["namespace"] == "web" && write.kind == "EnvoyFilter";
        there.then_some(Answer::Refused(403, "Forbidden", "namespace web is being terminated"))
    });
    for filter in server.all("envoyfilters").iter().filter(|filter| filter["metadata"]["namespace"] == "web") {
        server.delete("envoyfilters", "web", filter["metadata"]["name"].as_str().unwrap());
    }
    minutes(1).await;
    assert_ne!(
        stage.said("shop").0,
        "WriteRefused",
        "before the namespace's own end is seen: {:?}",
        stage.said("shop")
    );
    server.edit("namespaces", "", "web", |web| web["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into());
    server.delete("pods", "web", "client");
    minutes(1).await;
    server.writes();
    minutes(5).await;
    let there = |write: &&Write| write.body["metadata"]["namespace"] == "web";
    let written: Vec<String> = server.writes().iter().filter(there).map(ToString::to_string).collect();
    assert_eq!(written, [""; 0], "nothing is tried there any more");
    assert!(bound(&stage)[2].contains("names web, and there is no such namespace"), "{}", bound(&stage)[2]);
}

#[tokio::test(start_paused = true)]
async fn labels_of_callers_that_find_no_pod_are_told() {
    let server = prepared(json!({"callers": [{"labels": {"app": "typo"}}, {"labels": {"app": "client"}}]}));
    running(&server, NAMESPACE, "client", true);
    let stage = Stage::start(&server);
    stage.reason("shop", "NotAcknowledged").await;
    stage.rest().await;
    let [_, reason, message] = bound(&stage);
    assert!(
        reason == "Bound" && message.contains("the labels app=typo of spec.service.callers find no pod in shop"),
        "{message}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_host_that_keeps_the_routes_from_callers_elsewhere_is_named() {
    let server = prepared(json!({"hosts": ["cart.internal"], "callers": [{"namespace": "web"}, {}]}));
    server.apply("admin", &namespace("web", true));
    ["web", NAMESPACE].iter().for_each(|name| running(&server, name, "client", true));
    let stage = Stage::start(&server);
    stage.reason("shop", "NotAcknowledged").await;
    stage.rest().await;
    let [_, reason, message] = bound(&stage);
    assert!(reason == "RoutesUnseen" && message.contains("with cart.internal in spec.service.hosts"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn no_release_begins_through_sidecars_whose_arms_are_headless() {
    let server = prepared(json!({"headless": true}));
    let stage = Stage::start(&server);
    stage.phase("shop", "Initialized").await;
    stage.rest().await;
    let address = |name: &str| stage.get("services", name)["spec"]["clusterIP"].clone();
    assert_ne!(address("shop-canary"), "None", "an arm has an address of its own");
    // As from before, when a gateway alone chose.
    server.edit("services", NAMESPACE, "shop-canary", |service| service["spec"]["clusterIP"] = "None".into());
    running(&server, NAMESPACE, "client", true);
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v2"));
    minutes(1).await;
    assert_eq!(address("shop-canary"), "None");
    stage.reason("shop", "HeadlessArms").await;
    assert!(
        stage.said("shop").1.contains("kubectl delete service -n shop shop-primary shop-canary"),
        "{:?}",
        stage.said("shop")
    );
    let weight = stage.status("shop")["canaryWeight"].as_u64().unwrap_or_default();
    assert_eq!(weight, 0);
    server.delete("services", NAMESPACE, "shop-canary");
    stage.reason("shop", "NotAcknowledged").await;
}
