//! Whose a host is, where somebody has it elsewhere, or would come to it by another way.

use std::time::Duration;

use serde_json::{Value, json};

use super::server::ApiServer;
use super::stage::{Stage, canary, deployment, object};
use super::tenants::{gateway, is_refused_by_name, of_bank, on_gateway, prepared, serving};

const HOST: &str = "pay.example.com";

fn hosts(stage: &Stage) -> String {
    stage.get("virtualservices", "shop")["spec"]["hosts"].to_string()
}

/// A Gateway under another name than the one that the bank uses.
fn another(name: &str, selector: Value, port: Value) -> Value {
    let mut another = gateway(selector, &["*"]);
    another["metadata"]["name"] = name.into();
    another["spec"]["servers"][0]["port"] = port;
    another
}

#[tokio::test(start_paused = true)]
async fn a_host_that_a_namespace_has_elsewhere_is_not_its_own_on_a_gateway() {
    for first in [json!([]), json!(["mesh"]), json!(["istio-ingress/inside"])] {
        let server = prepared(json!({"istio": "ingressgateway"}), &["*"]);
        server.apply("flux", &another("inside", json!({"istio": "inside"}), json!({"number": 80, "protocol": "HTTP"})));
        server.apply("flux", &of_bank(&[HOST]));
        server.apply("flux", &canary("shop", json!({"hosts": [HOST], "gateways": first})));
        let stage = Stage::initialized_of(&server).await;
        assert!(hosts(&stage).contains(HOST), "{first}: nobody else has it there");
        for then in [json!(["istio-ingress/public"]), json!(["mesh", "istio-ingress/inside", "istio-ingress/public"])] {
            stage.edit("canaries", "shop", |canary| {
                canary["spec"]["service"]["gateways"] = then.clone();
                canary["spec"]["service"]["match"] = json!([{"uri": {"prefix": "/login"}}]);
            });
            stage.reason("shop", "HostTaken").await;
            stage.rest().await;
            assert!(!hosts(&stage).contains(HOST), "{first} then {then}: {}", hosts(&stage));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_a_namespace_has_for_itself_or_on_a_gateway_is_not_its_own_in_the_mesh() {
    for first in [json!([]), json!(["istio-ingress/inside"])] {
        let server = prepared(json!({"istio": "ingressgateway"}), &["*"]);
        server.apply("flux", &canary("shop", json!({"hosts": [HOST], "gateways": first})));
        let stage = Stage::initialized_of(&server).await;
        let mut of_mesh = of_bank(&[HOST]);
        of_mesh["spec"]["gateways"] = json!(["mesh"]);
        server.apply("flux", &of_mesh);
        stage.rest().await;
        assert!(!stage.is("shop", "Stalled") && hosts(&stage).contains(HOST), "{first}: what it has it keeps");
        stage.edit("canaries", "shop", |canary| {
            canary["spec"]["service"]["gateways"] = json!(["mesh", "istio-ingress/inside"]);
        });
        stage.reason("shop", "HostTaken").await;
        stage.rest().await;
        assert!(!hosts(&stage).contains(HOST), "{first}: {}", hosts(&stage));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_on_a_gateway_alone_comes_into_the_mesh_for_its_namespace_only() {
    let server = prepared(json!({"istio": "ingressgateway"}), &["*"]);
    server.apply("flux", &on_gateway(&["api.partner.example"]));
    let stage = Stage::initialized_of(&server).await;
    assert_eq!(stage.get("virtualservices", "shop")["spec"]["exportTo"], Value::Null);
    stage.edit("canaries", "shop", |canary| {
        canary["spec"]["service"].as_object_mut().unwrap().remove("gateways");
    });
    stage.rest().await;
    assert_eq!(stage.get("virtualservices", "shop")["spec"]["exportTo"], json!(["."]));
}

#[tokio::test(start_paused = true)]
async fn a_host_of_another_gateway_over_the_same_pods_and_port_is_taken() {
    let http = json!({"number": 80, "protocol": "HTTP2"});
    // Selector and port of the other Gateway, and whether it is the same place.
    for (selector, port, same) in [
        (json!({"istio": "ingressgateway"}), http.clone(), true),
        (json!({"istio": "ingressgateway", "zone": "a"}), http.clone(), true),
        (json!({}), http.clone(), true),
        (json!({"app": "edge"}), http.clone(), true),
        (json!({"app": "inside"}), http.clone(), false),
        (json!({"istio": "inside"}), http, false),
        (json!({"istio": "ingressgateway"}), json!({"number": 8080, "protocol": "HTTP"}), false),
        (json!({"istio": "ingressgateway"}), json!({"number": 80, "protocol": "HTTPS"}), false),
    ] {
        let server = prepared(json!({"istio": "ingressgateway"}), &["*"]);
        serving(&server, "istio-ingress", "edge");
        server.edit("pods", "istio-ingress", "edge", |pod| pod["metadata"]["labels"]["app"] = "edge".into());
        server.apply("flux", &another("legacy", selector.clone(), port.clone()));
        server.apply("flux", &of_bank(&[HOST]));
        server.apply("flux", &canary("shop", json!({"hosts": [HOST], "gateways": ["istio-ingress/legacy"]})));
        let stage = Stage::start(&server);
        stage.rest().await;
        let (reason, message) = stage.said("shop");
        assert_eq!(reason == "HostTaken", same, "{selector} {port}: {reason} {message}");
        if same {
            assert!(
                message.contains("Gateway istio-ingress/public, whose requests Gateway istio-ingress/legacy has too")
            );
            // An admin binds it to each namespace in the Gateway that it uses.
            let bind = |server: &ApiServer, name: &str, of: &str| {
                server.edit("gateways", "istio-ingress", name, |gateway| {
                    gateway["spec"]["servers"][0]["hosts"] = json!([format!("{of}/{HOST}")]);
                });
            };
            bind(&server, "public", "bank");
            bind(&server, "legacy", "shop");
            stage.until_not_stalled("shop").await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_canaries_on_gateways_of_the_same_pods_the_older_one_has_a_host() {
    let server = prepared(json!({"istio": "ingressgateway"}), &["*"]);
    server.apply("flux", &another("legacy", json!({"istio": "ingressgateway"}), json!({"number": 80})));
    let of_bank = |mut object: Value| {
        object["metadata"]["namespace"] = "bank".into();
        object
    };
    server.apply("flux", &of_bank(deployment("shop", &[("app", "shop")], "v1")));
    server.apply("flux", &canary("shop", json!({"hosts": [HOST], "gateways": ["istio-ingress/legacy"]})));
    server.apply("flux", &of_bank(on_gateway(&[HOST])));
    let stage = Stage::start(&server);
    stage.reason("shop", "HostTaken").await;
    stage.rest().await;
    assert_eq!(server.get("canaries", "bank", "shop").unwrap()["status"]["phase"], "Initialized");
}

#[tokio::test(start_paused = true)]
async fn a_team_moves_its_host_from_one_gateway_to_another_of_the_same_pods() {
    let server = prepared(json!({"istio": "ingressgateway"}), &["*"]);
    server.apply("flux", &another("legacy", json!({"istio": "ingressgateway"}), json!({"number": 80})));
    server.apply("flux", &on_gateway(&[HOST]));
    let stage = Stage::initialized_of(&server).await;
    // Paths of one host in two namespaces, as Istio merges them.
    server.apply("flux", &of_bank(&[HOST]));
    stage.edit("canaries", "shop", |canary| canary["spec"]["service"]["gateways"] = json!(["istio-ingress/legacy"]));
    stage.rest().await;
    assert!(!stage.is("shop", "Stalled"), "{:?}", stage.said("shop"));
    assert!(hosts(&stage).contains(HOST), "{}", hosts(&stage));
    // Another Canary of another namespace has had nothing.
    let theirs = object("networking.istio.io/v1", "VirtualService", "unrelated", json!({"hosts": ["x.example.com"]}));
    server.apply("flux", &theirs);
    assert_eq!(stage.changed().await, [""; 0]);
}

/// What makes istiod serve the host for a bank, in another way than by its own routes.
fn of_another_kind() -> [Value; 4] {
    let mut ingress = object(
        "networking.k8s.io/v1",
        "Ingress",
        "pay",
        json!({"ingressClassName": "istio", "rules": [{"host": "PAY.example.com"}]}),
    );
    ingress["metadata"]["namespace"] = "bank".into();
    let [http, grpc, tls] = ["HTTPRoute", "GRPCRoute", "TLSRoute"].map(|kind| {
        let mut route =
            object("gateway.networking.k8s.io/v1", kind, "pay", json!({"hostnames": ["x.example.com", HOST]}));
        route["metadata"]["namespace"] = "bank".into();
        route
    });
    [ingress, http, grpc, tls]
}

#[tokio::test(start_paused = true)]
async fn a_host_of_an_ingress_or_an_httproute_of_another_namespace_is_refused_by_name() {
    for theirs in of_another_kind() {
        let server = prepared(json!({"istio": "ingressgateway"}), &["*"]);
        server.apply("flux", &theirs);
        server.apply("flux", &on_gateway(&["shop.example.com", HOST]));
        let stage = Stage::start(&server);
        let kind = theirs["kind"].as_str().unwrap();
        is_refused_by_name(&stage, "spec.service.hosts[1]", &format!("{kind} bank/pay")).await;
        // An admin binds it to this namespace.
        server.apply("flux", &gateway(json!({"istio": "ingressgateway"}), &["*", "shop/pay.example.com"]));
        stage.phase("shop", "Initialized").await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_a_host_keeps_it_and_asks_for_nobody_elses_at_rest() {
    let server = prepared(json!({"istio": "ingressgateway"}), &["*"]);
    server.apply("flux", &on_gateway(&[HOST]));
    let stage = Stage::initialized_of(&server).await;
    of_another_kind().iter().for_each(|theirs| server.apply("flux", theirs));
    let lists = server.lists("ingresses");
    assert!(lists > 0);
    for _ in 0..10 {
        stage.stores.wake_all();
        stage.rest().await;
    }
    assert_eq!((stage.is("shop", "Stalled"), server.lists("ingresses")), (false, lists));
    // By an edit nobody takes what is new to him.
    stage.edit("canaries", "shop", |canary| {
        canary["spec"]["service"]["hosts"] = json!([HOST, "x.example.com"]);
    });
    stage.reason("shop", "HostTaken").await;
    stage.rest().await;
    assert!(hosts(&stage).contains(HOST) && !hosts(&stage).contains("x.example.com"), "{}", hosts(&stage));
}

#[tokio::test(start_paused = true)]
async fn a_new_host_is_refused_by_name_where_the_cluster_has_more_of_them_than_are_looked_at() {
    let server = prepared(json!({"istio": "ingressgateway"}), &["*"]);
    // One object of one namespace takes nearly all that this may take of the room.
    for number in 0..18 {
        let rules: Vec<Value> = (0..500).map(|at| json!({"host": format!("{}.{at}", "a".repeat(1_000))})).collect();
        let [mut ingress, ..] = of_another_kind();
        ingress["metadata"]["namespace"] = format!("n{number}").into();
        ingress["spec"]["rules"] = rules.into();
        server.apply("flux", &ingress);
    }
    server.apply("flux", &on_gateway(&[HOST]));
    let stage = Stage::start(&server);
    is_refused_by_name(&stage, "spec.service.hosts[0]", "more Ingresses and routes than are looked at").await;
    server.apply("flux", &gateway(json!({"istio": "ingressgateway"}), &["*", "shop/pay.example.com"]));
    stage.phase("shop", "Initialized").await;
}

#[tokio::test(start_paused = true)]
async fn kinds_that_serve_hosts_and_are_not_there_or_not_to_be_read_stop_nothing() {
    for code in [403, 404] {
        let server = prepared(json!({"istio": "ingressgateway"}), &["*"]);
        server.refuse_lists("ingresses", code);
        for plural in ["httproutes", "grpcroutes", "tlsroutes"] {
            server.refuse_lists(plural, code);
        }
        server.apply("flux", &on_gateway(&[HOST]));
        Stage::initialized_of(&server).await;
    }
}

#[tokio::test(start_paused = true)]
async fn routes_that_a_cluster_serves_under_an_older_version_alone_are_known() {
    let [_, theirs, ..] = of_another_kind();
    let server = prepared(json!({"istio": "ingressgateway"}), &["*"]);
    server.refuse_lists("v1/httproutes", 404);
    server.apply("flux", &theirs);
    server.apply("flux", &on_gateway(&["shop.example.com", HOST]));
    let stage = Stage::start(&server);
    is_refused_by_name(&stage, "spec.service.hosts[1]", "HTTPRoute bank/pay").await;
}

#[tokio::test(start_paused = true)]
async fn a_new_host_waits_while_the_cluster_does_not_say_whose_it_is_and_the_rest_goes_on_after_a_minute() {
    for (plural, code) in [("ingresses", 500), ("grpcroutes", 429)] {
        let server = prepared(json!({"istio": "ingressgateway"}), &["*"]);
        server.refuse_lists(plural, code);
        server.apply("flux", &on_gateway(&[HOST]));
        let stage = Stage::start(&server);
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(stage.get("virtualservices", "shop"), Value::Null);
        assert!(!stage.is("shop", "Stalled"), "it may pass: {:?}", stage.said("shop"));
        stage.reason("shop", "HostUnknown").await;
        let (_, message) = stage.said("shop");
        assert!(message.contains(&format!("the API server answers {code}")) && message.contains(HOST), "{message}");
        assert_eq!(stage.get("virtualservices", "shop"), Value::Null);
        server.list_all();
        stage.phase("shop", "Initialized").await;
        assert!(hosts(&stage).contains(HOST));
        if plural != "ingresses" {
            continue;
        }
        // One that works goes on with what it has.
        server.refuse_lists(plural, code);
        tokio::time::sleep(Duration::from_secs(700)).await;
        stage.edit("canaries", "shop", |canary| {
            canary["spec"]["service"]["hosts"] = json!([HOST, "new.example.com"]);
        });
        stage.reason("shop", "HostUnknown").await;
        server.apply("flux", &deployment("shop", &[("app", "shop")], "v2"));
        stage.phase("shop", "Progressing").await;
        assert!(hosts(&stage).contains(HOST) && !hosts(&stage).contains("new.example.com"), "{}", hosts(&stage));
        server.list_all();
        stage.until_not_stalled("shop").await;
        stage.rest().await;
        assert!(hosts(&stage).contains("new.example.com"), "{}", hosts(&stage));
    }
}
