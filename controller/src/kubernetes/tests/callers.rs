//! Canaries that are called from inside of the mesh: whose sidecars get the filter, and what is said of the others.

use std::time::Duration;

use serde_json::{Value, json};

use super::server::ApiServer;
use super::stage::{NAMESPACE, Stage, canary, deployment};

fn pod(namespace: &str, name: &str, sidecar: bool) -> Value {
    let proxy = json!({"name": "istio-proxy", "args": ["proxy", "sidecar", "--domain", "x"]});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name, "tier": "web"}},
        "spec": {"containers": [{"name": "app", "args": []}], "initContainers": if sidecar { json!([proxy]) } else { json!([]) }},
    })
}

/// A caller that runs and is not ready: it calls others all the same.
pub(super) fn running(server: &ApiServer, namespace: &str, name: &str, sidecar: bool) {
    server.apply("kubelet", &pod(namespace, name, sidecar));
    server.edit("pods", namespace, name, |pod| pod["status"] = json!({"phase": "Running"}));
}

/// A caller that nobody hears of: nothing listens at its address.
pub(super) fn silent(server: &ApiServer, namespace: &str, name: &str) {
    running(server, namespace, name, true);
    server.edit("pods", namespace, name, |pod| pod["status"]["podIP"] = "127.0.0.1".into());
}

pub(super) fn namespace(name: &str, allowed: bool) -> Value {
    let labels = if allowed { json!({"weir.dev/callers": "allowed"}) } else { json!({"tier": "any"}) };
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

pub(super) fn prepared(service: Value) -> ApiServer {
    let server = ApiServer::default();
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
    server.apply("flux", &canary("shop", service));
    server
}

/// The condition `GatewayBound`: status, reason and message.
pub(super) fn bound(stage: &Stage) -> [String; 3] {
    stage.condition("shop", "GatewayBound")
}

/// Which namespaces have how many of the filter's objects.
pub(super) fn filters(server: &ApiServer) -> Vec<(String, usize)> {
    let mut found: Vec<(String, usize)> = Vec::new();
    for filter in server.all("envoyfilters") {
        let namespace = filter["metadata"]["namespace"].as_str().unwrap().to_owned();
        match found.iter_mut().find(|(known, _)| *known == namespace) {
            Some((_, count)) => *count += 1,
            None => found.push((namespace, 1)),
        }
    }
    found
}

pub(super) fn both_in(namespaces: &[&str]) -> Vec<(String, usize)> {
    namespaces.iter().map(|namespace| ((*namespace).to_owned(), 2)).collect()
}

pub(super) async fn minutes(count: u64) {
    tokio::time::sleep(Duration::from_secs(60 * count)).await;
}

#[tokio::test(start_paused = true)]
async fn a_host_in_the_mesh_that_another_canary_of_the_namespace_has_is_refused_by_name() {
    let path = |path: &str| json!([{"uri": {"prefix": path}}]);
    // What the other one, called `cart` and first by name, has, what this one has, and whether that is refused.
    let rows = [
        (json!({"hosts": ["cart.internal"]}), json!({"hosts": ["Cart.internal"]}), true),
        (json!({}), json!({"hosts": ["cart"]}), true),
        (json!({}), json!({"hosts": ["cart.shop.svc.cluster.local"], "gateways": ["public", "mesh"]}), true),
        (json!({"hosts": ["cart.internal"]}), json!({"hosts": ["cart.internal"], "gateways": ["public"]}), false),
        (json!({"hosts": ["cart.internal"]}), json!({"hosts": ["shop.internal", "shop"]}), false),
        (json!({"hosts": ["x.y"], "match": path("/a")}), json!({"hosts": ["x.y"], "match": path("/b")}), false),
    ];
    for (theirs, ours, refused) in rows {
        let server = ApiServer::default();
        for name in ["cart", "shop"] {
            server.apply("flux", &deployment(name, &[("app", name)], "v1"));
        }
        server.apply("flux", &canary("cart", theirs));
        server.apply("flux", &canary("shop", ours.clone()));
        let stage = Stage::start(&server);
        stage.phase("cart", "Initialized").await;
        if !refused {
            stage.phase("shop", "Initialized").await;
            continue;
        }
        stage.reason("shop", "HostTaken").await;
        let (_, message) = stage.said("shop");
        assert!(message.contains("spec.service.hosts[0]") && message.contains("Canary cart"), "{ours}: {message}");
        stage.rest().await;
        assert!(stage.get("deployments", "shop-primary").is_null());
        assert!(!stage.is("cart", "Stalled") && !stage.is("cart", "Hazard"));
        stage.edit("canaries", "shop", |canary| canary["spec"]["service"]["hosts"] = json!(["shop.internal"]));
        stage.phase("shop", "Initialized").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_canary_without_gateways_has_the_filter_in_the_sidecars_of_its_namespace() {
    let server = prepared(json!({}));
    running(&server, NAMESPACE, "client", true);
    running(&server, NAMESPACE, "old", false);
    running(&server, "elsewhere", "client", true);
    running(&server, NAMESPACE, "ztunneled", false);
    let redirection = json!({"ambient.istio.io/redirection": "enabled"});
    server.edit("pods", NAMESPACE, "ztunneled", |pod| pod["metadata"]["annotations"] = redirection);
    let stage = Stage::start(&server);
    stage.reason("shop", "NotAcknowledged").await;
    assert_eq!(filters(&server), both_in(&[NAMESPACE]));
    let text = server.all("envoyfilters").iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    assert!(text.contains("SIDECAR_OUTBOUND") && !text.contains("GATEWAY") && !text.contains("workloadSelector"));
    assert_eq!(stage.status("shop")["gateways"]["serving"], 1);
    let [status, reason, message] = bound(&stage);
    assert_eq!((status.as_str(), reason.as_str()), ("True", "Bound"));
    assert!(
        message.contains("1 callers with a sidecar in shop")
            && message.contains("2 pods there have no sidecar (shop/old, shop/ztunneled)"),
        "{message}"
    );
    assert!(message.contains("1 of them are in ambient mode"), "{message}");
    // The namespace asks for it, and one pod asks for none of it.
    server.apply("admin", &json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": {"istio.io/dataplane-mode": "ambient"}},
    }));
    minutes(1).await;
    assert!(bound(&stage)[2].contains("2 of them are in ambient mode"), "{}", bound(&stage)[2]);
    server.edit("pods", NAMESPACE, "old", |pod| pod["metadata"]["labels"]["istio.io/dataplane-mode"] = "none".into());
    minutes(1).await;
    assert!(bound(&stage)[2].contains("1 of them are in ambient mode"), "{}", bound(&stage)[2]);
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_nobody_with_a_sidecar_calls_says_so_and_what_to_do() {
    let server = prepared(json!({}));
    running(&server, NAMESPACE, "old", false);
    let stage = Stage::start(&server);
    stage.phase("shop", "Initialized").await;
    stage.rest().await;
    let [status, reason, message] = bound(&stage);
    assert_eq!((status.as_str(), reason.as_str()), ("False", "NoCaller"));
    assert!(message.contains("spec.service.callers") && message.contains("istio-injection=enabled"), "{message}");
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v2"));
    stage.reason("shop", "NoCaller").await;
    assert!(stage.said("shop").1.contains("spec.service.callers"), "{}", stage.said("shop").1);
    assert_eq!(filters(&server), []);
    // One comes.
    running(&server, NAMESPACE, "client", true);
    stage.reason("shop", "NotAcknowledged").await;
    assert_eq!((filters(&server), bound(&stage)[0].as_str()), (both_in(&[NAMESPACE]), "True"));
}

#[tokio::test(start_paused = true)]
async fn callers_in_another_namespace_take_part_where_an_admin_allows_it() {
    let server =
        prepared(json!({"callers": [{"namespace": "web"}, {"namespace": "nowhere"}, {"namespace": "istio-system"}]}));
    server.apply("admin", &namespace("web", false));
    server.apply("admin", &namespace("istio-system", true));
    running(&server, "web", "client", true);
    running(&server, "istio-system", "client", true);
    running(&server, NAMESPACE, "client", true);
    let stage = Stage::start(&server);
    stage.phase("shop", "Initialized").await;
    stage.rest().await;
    let [status, reason, message] = bound(&stage);
    assert_eq!((status.as_str(), reason.as_str()), ("False", "NoCaller"));
    for part in
        ["kubectl label namespace web weir.dev/callers=allowed", "names nowhere, and there is no such namespace"]
    {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert_eq!(filters(&server), [], "nothing is written into a namespace that is not allowed");
    server.apply("admin", &namespace("web", true));
    minutes(1).await;
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v2"));
    stage.reason("shop", "NotAcknowledged").await;
    assert_eq!(filters(&server), both_in(&["web"]));
    let [status, reason, message] = bound(&stage);
    assert_eq!((status.as_str(), reason.as_str()), ("True", "CallersElsewhere"));
    assert!(message.contains("nothing in istio-system can be a caller"), "{message}");
    // The permission is taken back.
    server.apply("admin", &namespace("web", false));
    minutes(2).await;
    assert_eq!(filters(&server), []);
}

#[tokio::test(start_paused = true)]
async fn callers_of_every_allowed_namespace_are_found_by_a_star_and_by_their_labels() {
    let server = prepared(json!({"callers": [{"namespace": "*", "labels": {"app": "client"}}]}));
    for (name, allowed) in [("a", true), ("b", false), ("istio-system", true)] {
        server.apply("admin", &namespace(name, allowed));
        running(&server, name, "client", true);
    }
    running(&server, NAMESPACE, "client", true);
    running(&server, NAMESPACE, "other", true);
    let stage = Stage::start(&server);
    stage.reason("shop", "NotAcknowledged").await;
    assert_eq!(filters(&server), both_in(&["a", NAMESPACE]));
    assert!(server.all("envoyfilters").iter().all(|it| it["spec"]["workloadSelector"]["labels"]["app"] == "client"));
    assert_eq!(stage.status("shop")["gateways"]["serving"], 2);
}

#[tokio::test(start_paused = true)]
async fn labels_that_find_the_same_pods_share_a_filter_and_those_that_cross_are_refused() {
    let server = prepared(json!({"callers": [{"labels": {"app": "client"}}, {"labels": {"tier": "web"}}]}));
    running(&server, NAMESPACE, "client", true);
    running(&server, NAMESPACE, "other", true);
    let stage = Stage::start(&server);
    stage.reason("shop", "NotAcknowledged").await;
    minutes(2).await;
    assert_eq!(filters(&server), both_in(&[NAMESPACE]), "one stands for both");
    assert!(server.all("envoyfilters").iter().all(|it| it["spec"]["workloadSelector"]["labels"]["tier"] == "web"));
    // Neither finds all pods of the other.
    stage.edit("pods", "client", |pod| pod["metadata"]["labels"]["tier"] = "other".into());
    running(&server, NAMESPACE, "third", true);
    stage.edit("pods", "third", |pod| pod["metadata"]["labels"] = json!({"app": "client", "tier": "web"}));
    stage.reason("shop", "GatewaysOverlap").await;
    assert!(stage.said("shop").1.contains("Labels of callers"), "{}", stage.said("shop").1);
}

#[tokio::test(start_paused = true)]
async fn a_canary_on_a_gateway_and_the_mesh_is_released_through_both() {
    let server = prepared(json!({"gateways": ["public", "mesh"], "hosts": ["shop.example.com"]}));
    let gateway = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": "public", "namespace": NAMESPACE},
        "spec": {"selector": {"istio": "ingressgateway"}, "servers": [{"port": {"number": 80}, "hosts": ["*"]}]},
    });
    server.apply("flux", &gateway);
    let edge = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "edge", "namespace": "istio-ingress", "labels": {"istio": "ingressgateway"}},
        "spec": {"containers": [{"name": "istio-proxy", "args": ["proxy", "router"]}]},
    });
    server.apply("kubelet", &edge);
    server.edit("pods", "istio-ingress", "edge", |pod| {
        pod["status"] = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
    });
    running(&server, NAMESPACE, "client", true);
    let stage = Stage::start(&server);
    stage.reason("shop", "NotAcknowledged").await;
    minutes(1).await;
    assert_eq!(filters(&server), both_in(&["istio-ingress", NAMESPACE]));
    assert_eq!(stage.status("shop")["gateways"]["serving"], 2, "both are waited for");
    // Its gateway goes: what its callers send is split all the same.
    server.delete("pods", "istio-ingress", "edge");
    minutes(1).await;
    let [status, reason, message] = bound(&stage);
    assert_eq!((status.as_str(), reason.as_str()), ("True", "NoGateway"), "{message}");
    assert!(message.contains("1 callers with a sidecar"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_names_no_callers_has_those_that_an_admin_names_for_all_beside_its_own() {
    let server = prepared(json!({}));
    server.default_callers(&["*"]);
    for (name, allowed) in [("web", true), ("other", false)] {
        server.apply("admin", &namespace(name, allowed));
        running(&server, name, "client", true);
    }
    running(&server, NAMESPACE, "client", true);
    let stage = Stage::start(&server);
    stage.reason("shop", "NotAcknowledged").await;
    assert_eq!(filters(&server), both_in(&[NAMESPACE, "web"]));
    let named = canary("shop", json!({"callers": [{"namespace": "web"}]}));
    server.apply("flux", &named);
    minutes(2).await;
    assert_eq!(filters(&server), both_in(&["web"]), "who names callers means those alone");
}

#[tokio::test(start_paused = true)]
async fn with_rights_in_some_namespaces_callers_are_in_those_that_the_chart_names() {
    for callers in [json!([{"namespace": "web"}, {"namespace": "other"}]), json!([{"namespace": "*"}])] {
        let server = prepared(json!({"callers": callers}));
        server.allow(&[NAMESPACE, "web"]);
        server.caller_namespaces(&["web"]);
        ["web", "other"].iter().for_each(|name| running(&server, name, "client", true));
        let stage = Stage::start(&server);
        stage.reason("shop", "NotAcknowledged").await;
        assert_eq!(filters(&server), both_in(&["web"]), "{callers}");
        let [_, reason, message] = bound(&stage);
        if callers[0]["namespace"] == "web" {
            assert!(reason == "CallersElsewhere" && message.contains("the chart's callerNamespaces"), "{message}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn callers_that_are_narrowed_by_labels_are_those_alone() {
    let server = prepared(json!({}));
    running(&server, NAMESPACE, "client", true);
    running(&server, NAMESPACE, "other", true);
    let stage = Stage::start(&server);
    stage.reason("shop", "NotAcknowledged").await;
    minutes(1).await;
    assert_eq!(stage.status("shop")["gateways"]["serving"], 2);
    server.apply("flux", &canary("shop", json!({"callers": [{"labels": {"app": "client"}}]})));
    minutes(3).await;
    assert_eq!(filters(&server), both_in(&[NAMESPACE]));
    let selected = |filter: &Value| filter["spec"]["workloadSelector"]["labels"]["app"] == "client";
    assert!(server.all("envoyfilters").iter().all(selected), "{:#?}", server.all("envoyfilters"));
    assert_eq!(stage.status("shop")["gateways"]["serving"], 1);
}
