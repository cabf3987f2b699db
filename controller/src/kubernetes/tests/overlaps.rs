//! Labels that find some pods both: a pod has one filter, and who comes later takes nobody out of it.

use serde_json::{Value, json};

use super::callers::{bound, minutes, running};
use super::server::ApiServer;
use super::stage::{NAMESPACE, Stage, canary, deployment, object};
use super::tenants::{on_gateway, prepared, serving};

/// A Gateway of the tenants' own namespace.
fn own_gateway(name: &str, selector: Value) -> Value {
    let spec = json!({"selector": selector, "servers": [{"port": {"number": 80}, "hosts": ["*"]}]});
    object("networking.istio.io/v1", "Gateway", name, spec)
}

fn on(name: &str, gateway: &str) -> Value {
    canary(name, json!({"gateways": [gateway], "hosts": [format!("{name}.example.com")]}))
}

/// A gateway, and a pod beside it which is none: both have istiod's label.
fn edge(server: &ApiServer, name: &str, app: &str) {
    serving(server, "istio-ingress", name);
    server.edit("pods", "istio-ingress", name, |pod| {
        pod["metadata"]["labels"] = json!({"istio": app, "istio.io/rev": "default"});
    });
}

fn istiod(server: &ApiServer) {
    edge(server, "istiod", "pilot");
    let discovery = json!([{"name": "discovery", "args": ["discovery", "--domain", "x"]}]);
    server.edit("pods", "istio-ingress", "istiod", |pod| pod["spec"]["containers"] = discovery);
}

/// The labels of the pods that have the filter, in the gateways' namespace.
fn selected(server: &ApiServer) -> Vec<Value> {
    let mut all: Vec<Value> =
        server.all("envoyfilters").iter().map(|it| it["spec"]["workloadSelector"]["labels"].clone()).collect();
    all.dedup();
    all
}

#[tokio::test(start_paused = true)]
async fn a_wider_gateway_of_a_tenants_takes_nobodys_filter_away() {
    let narrow = [json!({"istio": "ingressgateway"})];
    // Before the narrow one in every order.
    let wide = json!({"a": "first"});
    let server = prepared(narrow[0].clone(), &["*"]);
    edge(&server, "edge", "ingressgateway");
    edge(&server, "other", "other");
    istiod(&server);
    for pod in ["edge", "other", "istiod"] {
        server.edit("pods", "istio-ingress", pod, |pod| pod["metadata"]["labels"]["a"] = "first".into());
    }
    server.apply("flux", &on_gateway(&["shop.example.com"]));
    let stage = Stage::start(&server);
    stage.reason("shop", "NotAcknowledged").await;
    minutes(1).await;
    assert_eq!(selected(&server), narrow);
    server.apply("evil", &own_gateway("wide", wide.clone()));
    server.apply("evil", &deployment("evil", &[("app", "evil")], "v1"));
    server.apply("evil", &on("evil", "wide"));
    stage.reason("evil", "GatewaysOverlap").await;
    minutes(2).await;
    assert_eq!(selected(&server), narrow);
    assert_eq!(stage.status("shop")["gateways"]["serving"], 1);
    assert!(!stage.is("shop", "Stalled"), "{:?}", stage.said("shop"));
    // Another Weir sees what is there, and decides the same.
    let server = stage.kill();
    let stage = Stage::start(&server);
    minutes(2).await;
    assert_eq!(selected(&server), narrow);
    // Nor does it keep its filter from a gateway that it finds too.
    server.apply("flux", &own_gateway("third", json!({"istio": "other"})));
    server.apply("flux", &deployment("cart", &[("app", "cart")], "v1"));
    server.apply("flux", &on("cart", "third"));
    stage.reason("cart", "NotAcknowledged").await;
    minutes(1).await;
    assert!(selected(&server).contains(&json!({"istio": "other"})), "{:?}", selected(&server));
    assert!(!selected(&server).contains(&wide), "{:?}", selected(&server));
}

#[tokio::test(start_paused = true)]
async fn of_the_pods_that_a_gateways_labels_find_those_that_route_are_gateways() {
    let server = prepared(json!({"istio.io/rev": "default"}), &["*"]);
    edge(&server, "edge", "ingressgateway");
    istiod(&server);
    server.apply("flux", &on_gateway(&["shop.example.com"]));
    let stage = Stage::start(&server);
    stage.reason("shop", "NotAcknowledged").await;
    minutes(1).await;
    assert_eq!(stage.status("shop")["gateways"]["serving"], 1);
    assert!(!bound(&stage)[2].contains("istiod"), "{}", bound(&stage)[2]);
}

#[tokio::test(start_paused = true)]
async fn labels_that_come_to_find_a_pod_both_while_each_has_its_filter_are_told_of() {
    let server = ApiServer::default();
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
    server.apply(
        "flux",
        &canary("shop", json!({"callers": [{"labels": {"app": "client"}}, {"labels": {"side": "web"}}]})),
    );
    for name in ["client", "other"] {
        running(&server, NAMESPACE, name, true);
    }
    server.edit("pods", NAMESPACE, "other", |pod| pod["metadata"]["labels"] = json!({"side": "web"}));
    let stage = Stage::start(&server);
    stage.reason("shop", "NotAcknowledged").await;
    minutes(1).await;
    assert_eq!(server.all("envoyfilters").len(), 4, "two workloads");
    running(&server, NAMESPACE, "third", true);
    server.edit("pods", NAMESPACE, "third", |pod| pod["metadata"]["labels"] = json!({"app": "client", "side": "web"}));
    stage.reason("shop", "GatewaysOverlap").await;
    assert!(stage.said("shop").1.contains("Labels of callers"), "{}", stage.said("shop").1);
    server.edit("pods", NAMESPACE, "third", |pod| pod["metadata"]["labels"] = json!({"app": "client"}));
    stage.until_not_stalled("shop").await;
}
