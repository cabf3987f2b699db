//! Many tenants on one gateway: whose pods, whose hosts, and whose requests.

use serde_json::{Value, json};

use super::server::{Answer, ApiServer};
use super::stage::{NAMESPACE, Stage, canary, deployment, object, routes};

/// A pod with the labels of the ingress gateway.
fn gateway_pod(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"istio": "ingressgateway"}},
        "spec": {"containers": [{"name": "istio-proxy", "args": ["proxy", "router", "--domain", "x"]}]},
    })
}

pub(super) fn serving(server: &ApiServer, namespace: &str, name: &str) {
    server.apply("kubelet", &gateway_pod(namespace, name));
    server.edit("pods", namespace, name, |pod| {
        pod["status"] = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
    });
}

fn namespace(name: &str, allowed: bool) -> Value {
    let mut labels = json!({"kubernetes.io/metadata.name": name});
    if allowed {
        labels["weir.dev/gateways"] = "allowed".into();
    }
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

pub(super) fn gateway(selector: Value, hosts: &[&str]) -> Value {
    let spec = json!({"selector": selector, "servers": [{"port": {"number": 80}, "hosts": hosts}]});
    let mut gateway = object("networking.istio.io/v1", "Gateway", "public", spec);
    gateway["metadata"]["namespace"] = "istio-ingress".into();
    gateway
}

pub(super) fn on_gateway(hosts: &[&str]) -> Value {
    canary("shop", json!({"gateways": ["istio-ingress/public"], "hosts": hosts}))
}

pub(super) fn prepared(selector: Value, hosts: &[&str]) -> ApiServer {
    let server = ApiServer::default();
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
    server.apply("flux", &gateway(selector, hosts));
    server
}

/// The condition `GatewayBound`: status, reason and message.
fn bound(stage: &Stage) -> [String; 3] {
    stage.condition("shop", "GatewayBound")
}

fn filters_in(server: &ApiServer, namespace: &str) -> usize {
    server.all("envoyfilters").iter().filter(|filter| filter["metadata"]["namespace"] == namespace).count()
}

#[tokio::test(start_paused = true)]
async fn a_pod_in_a_namespace_that_is_not_of_gateways_counts_for_nothing_and_is_named() {
    let server = prepared(json!({"istio": "ingressgateway"}), &["*"]);
    server.apply("admin", &namespace("evil", false));
    serving(&server, "evil", "fake");
    server.apply("flux", &on_gateway(&["shop.example.com"]));
    let stage = Stage::start(&server);
    stage.phase("shop", "Initialized").await;
    stage.rest().await;
    let [status, reason, message] = bound(&stage);
    assert_eq!((status.as_str(), reason.as_str()), ("False", "PodsElsewhere"));
    assert!(
        message.contains("evil/fake") && message.contains("kubectl label namespace evil weir.dev/gateways=allowed")
    );
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v2"));
    stage.rest().await;
    assert_eq!(filters_in(&server, "evil"), 0, "nothing is written there for the tenant to read");
    // An admin trusts it.
    server.apply("admin", &namespace("evil", true));
    stage.rest().await;
    assert_eq!(filters_in(&server, "evil"), 2);
    assert_ne!(bound(&stage)[1], "PodsElsewhere");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_without_a_selector_is_every_gateway_of_allowed_namespaces() {
    for selector in [json!(null), json!({})] {
        let server = prepared(selector, &["*"]);
        serving(&server, "istio-ingress", "edge");
        serving(&server, "evil", "fake");
        server.apply("flux", &on_gateway(&["shop.example.com"]));
        let stage = Stage::start(&server);
        stage.reason("shop", "NotAcknowledged").await;
        assert_eq!((filters_in(&server, "istio-ingress"), filters_in(&server, "evil")), (2, 0));
        let filters = server.all("envoyfilters");
        assert!(filters.iter().all(|filter| filter["spec"]["workloadSelector"]["labels"]["istio"] == "ingressgateway"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_has_the_filter_from_before_is_kept_while_it_works_or_may_yet() {
    let server = prepared(json!({"istio": "ingressgateway"}), &["*"]);
    server.apply("admin", &namespace("edge", true));
    serving(&server, "edge", "pod");
    server.apply("flux", &on_gateway(&["shop.example.com"]));
    let stage = Stage::start(&server);
    stage.reason("shop", "NotAcknowledged").await;
    let server = stage.kill();
    // As an earlier version left it, which asked for no label.
    server.apply("admin", &namespace("edge", false));
    let stage = Stage::start(&server);
    tokio::time::sleep(std::time::Duration::from_secs(300)).await;
    assert_eq!(filters_in(&server, "edge"), 2, "it has ten minutes to say so");
    assert_ne!(bound(&stage)[1], "PodsElsewhere");
    tokio::time::sleep(std::time::Duration::from_secs(600)).await;
    assert_eq!((filters_in(&server, "edge"), bound(&stage)[1].as_str()), (0, "PodsElsewhere"));
}

#[tokio::test(start_paused = true)]
async fn what_is_added_to_weirs_own_filters_is_taken_out_again_and_labels_of_others_stay() {
    let server = prepared(json!({"istio": "ingressgateway"}), &["*"]);
    serving(&server, "istio-ingress", "edge");
    server.apply("flux", &on_gateway(&["shop.example.com"]));
    let stage = Stage::start(&server);
    stage.reason("shop", "NotAcknowledged").await;
    let names: Vec<String> =
        server.all("envoyfilters").iter().map(|it| it["metadata"]["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names.len(), 2);
    let edits: [fn(&mut Value); 4] = [
        |filter| filter["spec"]["configPatches"][0]["patch"]["value"]["disabled"] = json!("by hand"),
        |filter| filter["spec"]["configPatches"][0]["patch"]["value"]["byHand"] = json!(true),
        |filter| filter["spec"]["configPatches"].as_array_mut().unwrap().push(json!({"applyTo": "BY_HAND"})),
        |filter| filter["spec"]["byHand"] = json!([{"kind": "Gateway"}]),
    ];
    for (at, edit) in edits.into_iter().enumerate() {
        for name in &names {
            server.edit("envoyfilters", "istio-ingress", name, edit);
            server.edit("envoyfilters", "istio-ingress", name, |it| it["metadata"]["labels"]["team"] = "edge".into());
        }
        stage.rest().await;
        for filter in server.all("envoyfilters") {
            let text = filter["spec"].to_string();
            assert!(!["by hand", "byHand", "BY_HAND"].iter().any(|part| text.contains(part)), "{at}: {text}");
            assert_eq!(filter["metadata"]["labels"]["team"], "edge");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_write_of_the_gateways_filter_stands_in_the_status_of_who_waits_for_it() {
    for (code, both) in [(403, true), (429, true), (409, false)] {
        let server = prepared(json!({"istio": "ingressgateway"}), &["*"]);
        serving(&server, "istio-ingress", "edge");
        server.apply("flux", &on_gateway(&["shop.example.com"]));
        // The filter and its configuration, or the configuration alone.
        server.script(move |write| {
            let refused = write.kind == "EnvoyFilter" && (both || write.name.starts_with("weir-config-"));
            refused.then_some(Answer::Refused(code, "Refused", "not now: filters"))
        });
        let stage = Stage::start(&server);
        stage.reason("shop", "WriteRefused").await;
        let message = stage.said("shop").1;
        assert!(message.contains("not now: filters") && message.contains("istio-ingress"), "{code}: {message}");
        server.behave();
        stage.reason("shop", "NotAcknowledged").await;
    }
}

/// What a bank has: a route on the gateway for its host.
pub(super) fn of_bank(hosts: &[&str]) -> Value {
    let to = json!([{"route": [{"destination": {"host": "pay"}}]}]);
    let mut routes = routes("pay", hosts, &["istio-ingress/public"], to);
    routes["metadata"]["namespace"] = "bank".into();
    routes
}

/// Waits until the host is refused: with its field, whose it is, where, and what an admin can write; and nothing is made.
pub(super) async fn is_refused_by_name(stage: &Stage, field: &str, whose: &str) {
    stage.reason("shop", "HostTaken").await;
    let message = stage.said("shop").1;
    for part in [field, whose, "istio-ingress/public", "\"shop/pay.example.com\""] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(stage.is("shop", "Stalled"));
    assert_eq!(stage.changed().await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_another_namespace_has_is_refused_by_name() {
    let server = prepared(json!({"istio": "ingressgateway"}), &["*"]);
    server.apply("flux", &of_bank(&["Pay.example.com"]));
    server.apply("flux", &on_gateway(&["pay.example.com"]));
    let stage = Stage::start(&server);
    is_refused_by_name(&stage, "spec.service.hosts[0]", "VirtualService bank/pay").await;
    // An admin binds it to both.
    server.apply("flux", &gateway(json!({"istio": "ingressgateway"}), &["bank/pay.example.com", "shop/*.example.com"]));
    stage.phase("shop", "Initialized").await;
}

#[tokio::test(start_paused = true)]
async fn of_two_namespaces_that_want_one_host_at_once_the_older_canary_has_it() {
    let server = prepared(json!({"istio": "ingressgateway"}), &["*"]);
    let of_bank = |mut object: Value| {
        object["metadata"]["namespace"] = "bank".into();
        object
    };
    server.apply("flux", &of_bank(deployment("shop", &[("app", "shop")], "v1")));
    server.apply("flux", &on_gateway(&["pay.example.com"]));
    server.apply("flux", &of_bank(on_gateway(&["PAY.example.com"])));
    let stage = Stage::start(&server);
    stage.reason("shop", "HostTaken").await;
    assert!(
        stage.said("shop").1.contains("a host of") && stage.said("shop").1.contains("bank/shop"),
        "{:?}",
        stage.said("shop")
    );
    stage.rest().await;
    let bank = server.get("canaries", "bank", "shop").unwrap();
    assert_eq!(bank["status"]["phase"], "Initialized", "both were made in one second: the first by namespace has it");
    // Another gateway is another host.
    stage.edit("canaries", "shop", |canary| canary["spec"]["service"]["gateways"] = json!(["istio-ingress/inside"]));
    stage.phase("shop", "Initialized").await;
}

#[tokio::test(start_paused = true)]
async fn a_gateway_is_the_same_by_each_of_its_names() {
    for gateway in ["public.istio-ingress", "public.istio-ingress.svc.cluster.local"] {
        let server = prepared(json!({"istio": "ingressgateway"}), &["*"]);
        server.apply("flux", &of_bank(&["pay.example.com"]));
        server.apply("flux", &canary("shop", json!({"gateways": [gateway], "hosts": ["pay.example.com"]})));
        let stage = Stage::start(&server);
        stage.reason("shop", "HostTaken").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_a_canary_takes_by_an_edit_is_left_out_and_its_own_stay() {
    let server = prepared(json!({"istio": "ingressgateway"}), &["*"]);
    server.apply("flux", &of_bank(&["pay.example.com"]));
    server.apply("flux", &on_gateway(&["shop.example.com"]));
    let stage = Stage::start(&server);
    stage.phase("shop", "Initialized").await;
    stage.edit("canaries", "shop", |canary| {
        canary["spec"]["service"]["hosts"] = json!(["shop.example.com", "pay.example.com", "www.example.com"]);
    });
    stage.reason("shop", "HostTaken").await;
    stage.rest().await;
    let hosts = stage.get("virtualservices", "shop")["spec"]["hosts"].to_string();
    assert!(hosts.contains("www.example.com") && !hosts.contains("pay.example.com"), "{hosts}");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_a_namespace_had_a_route_for_stays_its_own() {
    let server = prepared(json!({"istio": "ingressgateway"}), &["*"]);
    server.apply("flux", &on_gateway(&["pay.example.com"]));
    let stage = Stage::start(&server);
    stage.phase("shop", "Initialized").await;
    // Paths of one host in two namespaces, as Istio merges them.
    server.apply("flux", &of_bank(&["pay.example.com"]));
    stage.rest().await;
    assert_eq!((stage.said("shop").0.as_str(), stage.is("shop", "Stalled")), ("UpToDate", false));
    // And a move: the namespace's own VirtualService was there before its Canary.
    let server = prepared(json!({"istio": "ingressgateway"}), &["*"]);
    server.apply("flux", &of_bank(&["pay.example.com"]));
    let to = json!([{"route": [{"destination": {"host": "shop"}}]}]);
    server.apply("flux", &routes("shop", &["pay.example.com"], &["istio-ingress/public"], to));
    server.apply("flux", &on_gateway(&["pay.example.com"]));
    let stage = Stage::start(&server);
    stage.phase("shop", "Initialized").await;
}

#[tokio::test(start_paused = true)]
async fn a_service_of_another_namespace_is_refused_in_the_mesh_by_any_of_its_names() {
    for host in ["pay.bank", "partner.example.com"] {
        let server = ApiServer::default();
        server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
        let mut pay = object("v1", "Service", "pay", json!({"ports": [{"port": 80}]}));
        pay["metadata"]["namespace"] = "bank".into();
        server.apply("flux", &pay);
        let mut partner = of_bank(&["partner.example.com"]);
        partner["spec"]["gateways"] = json!(["mesh"]);
        server.apply("flux", &partner);
        server.apply("flux", &canary("shop", json!({"hosts": [host]})));
        let stage = Stage::start(&server);
        stage.reason("shop", "HostTaken").await;
        assert!(stage.said("shop").1.contains("bank"), "{:?}", stage.said("shop"));
    }
    assert_eq!(NAMESPACE, "shop");
}

#[tokio::test(start_paused = true)]
async fn in_the_mesh_other_hosts_than_the_services_own_are_routed_for_its_namespace_only() {
    let exported = |stage: &Stage| stage.get("virtualservices", "shop")["spec"]["exportTo"].clone();
    for (hosts, expected) in [
        (json!([]), Value::Null),
        (json!(["shop", "Shop.shop.svc.cluster.local", "shop.shop"]), Value::Null),
        // By these names load tests are seen.
        (
            json!(["shop-canary.shop", "Shop-Canary", "shop-primary.shop.svc", "shop-canary.shop.svc.cluster.local"]),
            Value::Null,
        ),
        (json!(["shop-canary.web"]), json!(["."])),
        (json!(["api.partner.example"]), json!(["."])),
        (json!(["*.example"]), json!(["."])),
    ] {
        let server = ApiServer::default();
        server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
        server.apply("flux", &canary("shop", json!({"hosts": hosts})));
        let stage = Stage::start(&server);
        stage.phase("shop", "Initialized").await;
        assert_eq!(exported(&stage), expected, "{hosts}");
        // Nor by an edit.
        stage.edit("canaries", "shop", |canary| canary["spec"]["service"]["hosts"] = json!(["api.partner.example"]));
        stage.rest().await;
        assert_eq!(exported(&stage), json!(["."]), "{hosts}");
    }
    // On a gateway it has to be exported; and a Service that is not for everybody has routes that are not either.
    let server = prepared(json!({"istio": "ingressgateway"}), &["*"]);
    server.apply("flux", &on_gateway(&["shop.example.com"]));
    let stage = Stage::start(&server);
    stage.phase("shop", "Initialized").await;
    assert_eq!(exported(&stage), Value::Null);
    let server = ApiServer::default();
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
    let annotations = json!({"networking.istio.io/exportTo": "., front"});
    server.apply("flux", &canary("shop", json!({"apex": {"annotations": annotations}})));
    let stage = Stage::start(&server);
    stage.phase("shop", "Initialized").await;
    stage.rest().await;
    assert_eq!(exported(&stage), json!([".", "front"]));
}

#[tokio::test(start_paused = true)]
async fn what_was_routed_for_the_whole_mesh_before_goes_on_so() {
    let server = ApiServer::default();
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
    server.apply("flux", &canary("shop", json!({"hosts": ["shop.internal.example"]})));
    let stage = Stage::start(&server);
    stage.phase("shop", "Initialized").await;
    let server = stage.kill();
    // As an earlier version made it.
    server.edit("virtualservices", "shop", "shop", |routes| {
        routes["spec"].as_object_mut().unwrap().remove("exportTo");
    });
    let stage = Stage::start(&server);
    stage.rest().await;
    assert_eq!(stage.get("virtualservices", "shop")["spec"]["exportTo"], Value::Null);
}

#[tokio::test(start_paused = true)]
async fn the_token_is_not_to_be_guessed_and_changes_under_no_rollout() {
    let token = |stage: &Stage| {
        let routes = stage.get("virtualservices", "shop");
        routes["spec"]["http"][0]["match"][0]["headers"][weir_wire::TOKEN_HEADER]["exact"].as_str().unwrap().to_owned()
    };
    let of_names = crate::api::canary_token("shop", "shop", "");
    let server = prepared(json!({"istio": "ingressgateway"}), &["*"]);
    serving(&server, "istio-ingress", "edge");
    server.apply("flux", &on_gateway(&["shop.example.com"]));
    let stage = Stage::start(&server);
    stage.reason("shop", "NotAcknowledged").await;
    assert_ne!(token(&stage), of_names);
    let uid = stage.get("canaries", "shop")["metadata"]["uid"].as_str().unwrap().to_owned();
    assert_eq!(token(&stage), crate::api::canary_token("shop", "shop", &uid));
    stage.kill();
    // An earlier version made it of the names: it is another one before the next rollout.
    let stage = Stage::initialized().await;
    let as_earlier = |server: &ApiServer| {
        server.edit("virtualservices", "shop", "shop", |routes| {
            routes["spec"]["http"][0]["match"][0]["headers"][weir_wire::TOKEN_HEADER]["exact"] =
                of_names.clone().into();
        });
    };
    let server = stage.kill();
    as_earlier(&server);
    let stage = Stage::start(&server);
    stage.rest().await;
    assert_ne!(token(&stage), of_names, "at rest nobody sends it");
    stage.server.apply("flux", &deployment("shop", &[("app", "shop")], "v2"));
    stage.phase("shop", "Progressing").await;
    let server = stage.kill();
    as_earlier(&server);
    let stage = Stage::start(&server);
    stage.rest().await;
    assert_eq!(token(&stage), of_names, "routes and filter would change at two moments");
}
