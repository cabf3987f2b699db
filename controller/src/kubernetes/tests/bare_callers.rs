//! Callers whose requests pass no filter, and routes that stand beside a Canary's: who is named, with which cause.

use serde_json::{Value, json};
use weir_engine::Timestamp;

use super::callers::{both_in, bound, filters, minutes, namespace, prepared, running, silent};
use super::stage::{NAMESPACE, Stage, canary, deployment, routes, service};
use crate::kubernetes::render::Names;
use crate::kubernetes::router::request_match;

/// The sentences of what is in the way before a release.
fn hazard(stage: &Stage) -> String {
    stage.condition("shop", "Hazard")[2].clone()
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_name_begins_like_the_targets_is_a_caller_and_the_arms_own_pods_are_none() {
    let server = prepared(json!({}));
    for (name, app) in [("shop-frontend-1", "frontend"), ("shop-1", "shop"), ("shop-primary-1", "shop-primary")] {
        running(&server, NAMESPACE, name, false);
        server.edit("pods", NAMESPACE, name, |pod| pod["metadata"]["labels"] = json!({"app": app}));
    }
    let stage = Stage::initialized_of(&server).await;
    minutes(2).await;
    let [_, _, message] = bound(&stage);
    assert!(message.contains("1 pods there have no sidecar (shop/shop-frontend-1)"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_pod_without_a_sidecar_is_named_once_with_why_it_has_none() {
    let server = prepared(json!({"callers": [{"labels": {"tier": "web"}}, {"labels": {"app": "bare"}}, {}]}));
    for name in ["agent", "bare", "refusing", "waypoint"] {
        running(&server, NAMESPACE, name, false);
    }
    server.edit("pods", NAMESPACE, "agent", |pod| pod["spec"]["hostNetwork"] = true.into());
    let waypoint = json!([{"name": "istio-proxy", "args": ["proxy", "waypoint", "--domain", "x"]}]);
    server.edit("pods", NAMESPACE, "waypoint", |pod| pod["spec"]["containers"] = waypoint);
    let inject = json!({"app": "refusing", "tier": "web", "sidecar.istio.io/inject": "false"});
    server.edit("pods", NAMESPACE, "refusing", |pod| pod["metadata"]["labels"] = inject);
    let stage = Stage::initialized_of(&server).await;
    minutes(2).await;
    let [_, _, message] = bound(&stage);
    for part in [
        "3 pods there have no sidecar (shop/agent, shop/bare, shop/refusing)",
        "1 of them can have none, with their machine's network (hostNetwork)",
        "1 of them want none (sidecar.istio.io/inject: \"false\")",
        "istio-injection=enabled",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    // Where nothing but a pod like these is without one, no label of a namespace's helps.
    let server = prepared(json!({}));
    running(&server, NAMESPACE, "agent", false);
    server.edit("pods", NAMESPACE, "agent", |pod| pod["spec"]["hostNetwork"] = true.into());
    let [_, _, message] = bound(&Stage::initialized_of(&server).await);
    assert!(message.contains("1 pods there") && !message.contains("istio-injection=enabled"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_an_admin_names_for_all_and_is_not_there_is_not_said_of_the_spec() {
    let server = prepared(json!({}));
    server.default_callers(&["nowhere"]);
    let stage = Stage::initialized_of(&server).await;
    let [_, _, message] = bound(&stage);
    assert!(message.contains("the chart's defaultCallers names nowhere, and there is no such namespace"), "{message}");
    assert!(!message.contains("spec.service.callers names"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn nobody_calls_from_the_meshs_root_namespace_whatever_it_is_called() {
    let server = prepared(json!({"callers": [{"namespace": "*"}, {"namespace": "mesh-root"}]}));
    server.root_namespace(Some("mesh-root"));
    for name in ["mesh-root", "istio-system", "web"] {
        server.apply("admin", &namespace(name, true));
        running(&server, name, "client", true);
    }
    let stage = Stage::start(&server);
    stage.reason("shop", "NotAcknowledged").await;
    minutes(1).await;
    assert_eq!(filters(&server), both_in(&["istio-system", "web"]));
    assert!(bound(&stage)[2].contains("nothing in mesh-root can be a caller"), "{}", bound(&stage)[2]);
}

#[tokio::test(start_paused = true)]
async fn a_promotion_that_callers_without_a_sidecar_would_lose_requests_in_is_told_before_the_release() {
    let lossy = |strategy: Value| {
        let mut target = deployment("shop", &[("app", "shop")], "v1");
        target["spec"]["strategy"] = strategy;
        target
    };
    let server = prepared(json!({}));
    server.apply("flux", &lossy(json!({"type": "Recreate"})));
    let stage = Stage::initialized_of(&server).await;
    assert_eq!(hazard(&stage), "", "nobody calls without one");
    for name in ["cron-7d9c-x1", "cron-7d9c-x2"] {
        running(&server, NAMESPACE, name, false);
        let labels = json!({"app": "cron", "pod-template-hash": "7d9c"});
        server.edit("pods", NAMESPACE, name, |pod| pod["metadata"]["labels"] = labels);
    }
    let mut next = lossy(json!({"type": "Recreate"}));
    next["spec"]["template"]["spec"]["containers"][0]["image"] = "shop:v2".into();
    server.apply("flux", &next);
    minutes(2).await;
    assert_eq!(stage.status("shop")["phase"], "Progressing");
    let said = hazard(&stage);
    assert!(
        said.contains("callers without the filter (shop/cron) get errors meanwhile") && said.contains("maxSurge 1"),
        "{said}"
    );
    // A pod more serves before the last one goes.
    let server = prepared(json!({}));
    server.apply("flux", &lossy(json!({"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}})));
    running(&server, NAMESPACE, "cron", false);
    let stage = Stage::initialized_of(&server).await;
    assert_eq!(hazard(&stage), "");
}

#[tokio::test(start_paused = true)]
async fn routes_of_the_users_own_for_the_service_in_the_mesh_are_named_before_the_release() {
    let of = |host: &str, gateways: &[&str]| routes("shop-retries", &[host], gateways, json!([]));
    let elsewhere = |host: &str| {
        let mut routes = of(host, &[]);
        routes["metadata"]["namespace"] = "web".into();
        routes
    };
    let full = "shop.shop.svc.cluster.local";
    for (theirs, named) in [
        (of("shop", &["mesh"]), Some("VirtualService shop/shop-retries has routes for shop in the mesh too")),
        (of("shop.shop", &[]), Some("for shop.shop in")),
        (elsewhere(full), Some("VirtualService web/shop-retries has routes for shop.shop.svc.cluster.local")),
        (of(full, &["public"]), None),
        (elsewhere("shop"), None),
        (of("cart", &["mesh"]), None),
    ] {
        let server = prepared(json!({}));
        server.apply("flux", &theirs);
        let stage = Stage::initialized_of(&server).await;
        let said = hazard(&stage);
        match named {
            Some(named) => assert!(said.contains(named), "{named}: {said}"),
            None => assert_eq!(said, "", "{theirs}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_delegated_canary_on_the_mesh_has_the_route_of_its_own_service_counted() {
    let server = prepared(json!({}));
    server.apply("flux", &canary("shop", json!({"delegation": true})));
    let root = json!([{"delegate": {"name": "shop", "namespace": NAMESPACE}}]);
    server.apply("flux", &routes("root", &["shop.example.com"], &["mesh"], root));
    let (_, direct) = in_sidecars(&Stage::idle(&server).await);
    assert_eq!(direct, ["shop-canary.shop.svc.cluster.local:80"]);
}

/// By which names of the canary's own Service, and in which virtual hosts, sidecars see load tests.
fn in_sidecars(stage: &Stage) -> (Vec<String>, Vec<String>) {
    let stored = stage.stores.canaries.get(NAMESPACE, "shop").unwrap();
    let spec = stored.fields.spec.as_ref().unwrap();
    let names = Names::new(NAMESPACE, "shop", "", spec);
    let found = request_match(&stage.stores, &names, spec, Timestamp(0)).in_sidecars();
    (found.direct.unwrap(), found.routes.direct)
}

#[tokio::test(start_paused = true)]
async fn load_tests_are_seen_by_every_name_of_the_canarys_service_whichever_of_them_are_hosts() {
    let full = "shop-canary.shop.svc.cluster.local";
    for (hosts, own_host) in [
        (json!([]), true),
        (json!(["shop-canary.shop"]), true),
        (json!(["shop-canary.shop", "shop-canary.shop.svc"]), true),
        // These have the Canary's own routes at all of its names.
        (json!([full]), false),
        (json!(["shop-canary"]), false),
        (json!(["*.svc.cluster.local"]), false),
    ] {
        let (names, virtual_hosts) = in_sidecars(&Stage::idle(&prepared(json!({"hosts": hosts}))).await);
        assert_eq!(names, ["shop-canary", "shop-canary.shop", "shop-canary.shop.svc", full], "{hosts}");
        let expected = if own_host { vec![format!("{full}:80")] } else { Vec::new() };
        assert_eq!(virtual_hosts, expected, "{hosts}");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_of_the_mesh_to_a_services_other_ports_stay_there_also_where_its_routes_are_delegated_to() {
    for (gateways, routed) in [(&["mesh"][..], true), (&["public", "mesh"], true), (&[], true), (&["public"], false)] {
        let server = prepared(json!({}));
        server.apply("flux", &canary("shop", json!({"delegation": true})));
        let ports = json!([{"name": "http", "port": 80, "targetPort": 8080}, {"name": "admin", "port": 9000, "targetPort": 9000}]);
        server.apply("flux", &service("shop", "shop", ports));
        let root = json!([{"delegate": {"name": "shop", "namespace": NAMESPACE}}]);
        server.apply("flux", &routes("root", &["shop.shop.svc.cluster.local"], gateways, root));
        let stage = Stage::start(&server);
        stage.phase("shop", "Initialized").await;
        let made = stage.get("virtualservices", "shop")["spec"]["http"][0].clone();
        if routed {
            // On a gateway the number would be that of a port of its own.
            assert_eq!(made["match"], json!([{"port": 9000, "gateways": ["mesh"]}]), "{gateways:?}: {made}");
            assert_eq!(made["route"][0]["destination"], json!({"host": "shop", "port": {"number": 9000}}));
        } else {
            assert_eq!(made["route"][0]["destination"]["host"], "shop-canary", "{gateways:?}: {made}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_sidecar_that_the_requests_go_past_is_none_and_is_named_with_the_annotation() {
    let server = prepared(json!({}));
    for (name, annotation, value) in [
        ("usual", "includeOutboundIPRanges", "*"),
        ("other-port", "excludeOutboundPorts", "8443"),
        ("past-port", "excludeOutboundPorts", "443,80"),
        ("past-all", "includeOutboundIPRanges", ""),
    ] {
        running(&server, NAMESPACE, name, true);
        let annotations = json!({format!("traffic.sidecar.istio.io/{annotation}"): value});
        server.edit("pods", NAMESPACE, name, |pod| pod["metadata"]["annotations"] = annotations);
    }
    let stage = Stage::start(&server);
    stage.reason("shop", "NotAcknowledged").await;
    let [_, _, message] = bound(&stage);
    for part in [
        "requests of 2 callers with a sidecar in shop are split",
        "requests of 2 pods there go past their sidecar (shop/past-all, shop/past-port)",
        "traffic.sidecar.istio.io/excludeOutboundPorts, traffic.sidecar.istio.io/includeOutboundIPRanges",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_native_sidecar_is_a_caller_as_soon_as_it_has_started() {
    let server = prepared(json!({}));
    running(&server, NAMESPACE, "client", true);
    let starting = |started: bool| json!({"phase": "Pending", "initContainerStatuses": [{"name": "istio-proxy", "started": started, "state": {"running": {}}}]});
    server.edit("pods", NAMESPACE, "client", |pod| pod["status"] = starting(false));
    let stage = Stage::start(&server);
    stage.phase("shop", "Initialized").await;
    stage.rest().await;
    assert_eq!(bound(&stage)[1], "NoCaller");
    server.edit("pods", NAMESPACE, "client", |pod| pod["status"] = starting(true));
    minutes(6).await;
    assert!(bound(&stage)[2].contains("1 callers with a sidecar"), "{}", bound(&stage)[2]);
}

#[tokio::test(start_paused = true)]
async fn callers_whose_sidecars_get_no_filter_are_named_before_a_promotion_that_would_lose_their_requests() {
    let server = prepared(json!({"callers": [{}, {"namespace": "web", "labels": {"app": "front"}}]}));
    let mut target = deployment("shop", &[("app", "shop")], "v1");
    target["spec"]["strategy"] = json!({"type": "Recreate"});
    server.apply("flux", &target);
    server.apply("admin", &namespace("web", false));
    ["front", "other"].iter().for_each(|name| running(&server, "web", name, true));
    ["client", "own"].iter().for_each(|name| silent(&server, NAMESPACE, name));
    server.edit("pods", NAMESPACE, "own", |pod| pod["metadata"]["labels"] = json!({"app": "shop"}));
    let stage = Stage::start(&server);
    stage.reason("shop", "NotAcknowledged").await;
    minutes(1).await;
    let said = hazard(&stage);
    // Nobody has heard of the client by now; the other one of `web` is nobody's caller, and the target's own pods are called.
    assert!(said.contains("callers without the filter (shop/client, web/front) get errors meanwhile"), "{said}");
}
