//! Many tenants on one gateway: whose pods, whose hosts, and whose place in its configuration.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use weir_engine::{FilterMode, Span, Timestamp};
use weir_wire::{Canary, Weight};

use super::server::{Answer, ApiServer};
use super::stage::{NAMESPACE, Stage, canary, deployment, object, routes};
use crate::gateway_config::RouteNames;
use crate::kubernetes::render::{FilterNames, Module, Proxies, config_filter};
use crate::publisher::{Desired, Next, Publisher};

/// A pod with the labels of the ingress gateway.
fn gateway_pod(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"istio": "ingressgateway"}},
        "spec": {"containers": [{"name": "istio-proxy", "args": ["proxy", "router", "--domain", "x"]}]},
    })
}

fn serving(server: &ApiServer, namespace: &str, name: &str) {
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

fn gateway(selector: Value, hosts: &[&str]) -> Value {
    let spec = json!({"selector": selector, "servers": [{"port": {"number": 80}, "hosts": hosts}]});
    let mut gateway = object("networking.istio.io/v1", "Gateway", "public", spec);
    gateway["metadata"]["namespace"] = "istio-ingress".into();
    gateway
}

fn on_gateway(hosts: &[&str]) -> Value {
    canary("shop", json!({"gateways": ["istio-ingress/public"], "hosts": hosts}))
}

fn prepared(selector: Value, hosts: &[&str]) -> ApiServer {
    let server = ApiServer::default();
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
    server.apply("flux", &gateway(selector, hosts));
    server
}

/// The condition `GatewayBound`: status, reason and message.
fn bound(stage: &Stage) -> [String; 3] {
    let status = stage.status("shop");
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.into_iter().find(|it| it["type"] == "GatewayBound").unwrap_or_default();
    ["status", "reason", "message"].map(|field| found[field].as_str().unwrap_or_default().to_owned())
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
    let server = prepared(json!({"istio": "ingressgateway"}), &["*"]);
    serving(&server, "istio-ingress", "edge");
    server.apply("flux", &on_gateway(&["shop.example.com"]));
    server.script(|write| {
        (write.kind == "EnvoyFilter").then_some(Answer::Refused(403, "Forbidden", "exceeded quota: filters"))
    });
    let stage = Stage::start(&server);
    stage.reason("shop", "WriteRefused").await;
    let message = stage.said("shop").1;
    assert!(message.contains("exceeded quota: filters") && message.contains("istio-ingress"), "{message}");
    server.behave();
    stage.reason("shop", "NotAcknowledged").await;
}

/// What a bank has: a route on the gateway for its host.
fn of_bank(hosts: &[&str]) -> Value {
    let to = json!([{"route": [{"destination": {"host": "pay"}}]}]);
    let mut routes = routes("pay", hosts, &["istio-ingress/public"], to);
    routes["metadata"]["namespace"] = "bank".into();
    routes
}

#[tokio::test(start_paused = true)]
async fn a_host_that_another_namespace_has_is_refused_by_name() {
    let server = prepared(json!({"istio": "ingressgateway"}), &["*"]);
    server.apply("flux", &of_bank(&["Pay.example.com"]));
    server.apply("flux", &on_gateway(&["pay.example.com"]));
    let stage = Stage::start(&server);
    stage.reason("shop", "HostTaken").await;
    let message = stage.said("shop").1;
    for part in ["spec.service.hosts[0]", "VirtualService bank/pay", "istio-ingress/public", "\"shop/pay.example.com\""]
    {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(stage.is("shop", "Stalled"));
    assert_eq!(stage.changed().await, [""; 0]);
    // An admin binds it to both.
    server.apply("flux", &gateway(json!({"istio": "ingressgateway"}), &["bank/pay.example.com", "shop/*.example.com"]));
    stage.phase("shop", "Initialized").await;
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

const NOW: Timestamp = Timestamp(1_795_395_000_000);

fn desired(number: usize, filter: FilterMode, weight: u32) -> Desired {
    let name = format!("team-{number}/shopping-cart");
    let table = |from: u32| (0..64).map(|i| [from + i * 7, 3 + i / 2]).collect::<Vec<[u32; 2]>>();
    let limits = weir_wire::Limits {
        epoch: 9,
        comparison: table(0),
        absolute: table(3),
        end: [441, 444],
        beyond: [vec![[36, 9_000], [40, 4_000]], vec![[36, 9_000]]],
    };
    let canary = Canary {
        id: format!("{number:016x}"),
        name: name.clone(),
        hosts: vec![format!("cart.team-{number}.example.com")],
        routes: vec![name.clone()],
        token: format!("{number:016x}"),
        run: if filter == FilterMode::Off { String::new() } else { "19a2b3c4d5e-68".into() },
        epoch: 9,
        weight: Weight::new(weight).unwrap(),
        latency_ms: crate::api::DEFAULT_LATENCY_MS.to_vec(),
        limits: if weight > 0 { vec![limits.clone(), limits.clone(), limits] } else { Vec::new() },
        ..Canary::default()
    };
    let routes = RouteNames { primary: vec![name.clone()], canary: vec![format!("{name}/canary")] };
    Desired { canary, filter, routes, since: Timestamp(number as u64) }
}

/// A gateway whose pod acknowledges everything: its publisher, and the largest object that was written.
struct Gateway {
    publisher: Publisher,
    largest: usize,
    now: Timestamp,
}

impl Gateway {
    fn settle(&mut self) {
        let names = FilterNames {
            namespace: "istio-ingress".into(),
            selector: BTreeMap::from([("istio".into(), "ingressgateway".into())]),
            proxies: Proxies::Gateways,
        };
        let module =
            Module::Remote { uri: "http://weir.weir-system.svc.cluster.local:8080/m".into(), sha256: "0".repeat(64) };
        for _ in 0..10 {
            self.publisher.acknowledged("pod", self.now, Some(self.publisher.generation()));
            if let Next::Push(push) = self.publisher.next(self.now) {
                let object = config_filter(&names, &module, &push.config, &push.switched, None);
                self.largest = self.largest.max(object.to_string().len());
                self.publisher.pushed(push, self.now);
            }
            self.now = self.now + Span::seconds(1);
        }
    }

    fn weight(&self, number: usize) -> Option<u32> {
        let last = self.publisher.last_pushed()?;
        let id = format!("{number:016x}");
        last.canaries.iter().find(|canary| canary.id == id).map(|canary| canary.weight.parts().into())
    }
}

#[test]
fn ten_thousand_at_rest_and_five_hundred_under_way_fit_into_one_mebibyte_and_a_rollback_too() {
    let mut gateway = Gateway { publisher: Publisher::new(Span(500)), largest: 0, now: NOW };
    for number in 500..10_500 {
        gateway.publisher.set_desired(desired(number, FilterMode::Off, 0));
    }
    for weight in [0, 500] {
        for number in 0..500 {
            gateway.publisher.set_desired(desired(number, FilterMode::On, weight));
        }
        gateway.settle();
    }
    let last = gateway.publisher.last_pushed().unwrap();
    assert_eq!((last.canaries.len(), gateway.publisher.last_switched().len()), (500, 500));
    assert!(gateway.publisher.left_out().is_empty(), "{:?}", gateway.publisher.left_out().values().next());
    println!("500 rollouts and 10,000 at rest: an object of {} bytes at most", gateway.largest);
    assert!(gateway.largest < 1 << 20, "{}", gateway.largest);
    // Everything that a hostile tenant may write, for as many Canaries as he likes.
    let hosts: Vec<String> = (0..64).map(|i| format!("{}{i}.example.com", "h".repeat(200))).collect();
    for number in 20_000..20_200 {
        let mut hostile = desired(number, FilterMode::On, 500);
        hostile.canary.hosts = hosts.iter().map(|host| format!("{number}{host}")).collect();
        gateway.publisher.set_desired(hostile);
    }
    gateway.settle();
    assert!(gateway.largest < 1 << 20, "{}", gateway.largest);
    assert!((0..500).all(|number| gateway.weight(number) == Some(500)), "nobody else is left out");
    for (reason, text) in gateway.publisher.left_out().values() {
        assert!(*reason == "GatewayFull" && text.contains("bytes"), "{text}");
    }
    // Every rollback has its place, all of them at once too.
    for number in 0..500 {
        gateway.publisher.set_desired(desired(number, FilterMode::On, 0));
        if number == 0 {
            gateway.settle();
            assert_eq!((gateway.weight(0), gateway.weight(1)), (Some(0), Some(500)));
        }
    }
    gateway.settle();
    assert!((0..500).all(|number| gateway.weight(number) == Some(0)) && gateway.largest < 1 << 20);
}
