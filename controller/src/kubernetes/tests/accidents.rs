//! Ordinary accidents of people who run services, from public reports: each must cost no request, and be told.

use serde_json::{Value, json};

use super::server::{Answer, ApiServer};
use super::stage::{NAMESPACE, Stage, canary, deployment, object, routes, service};

fn to(host: &str) -> Value {
    json!([{"destination": {"host": host}}])
}

/// A service that served before Weir, and a Canary that is refused or adopts it.
async fn adopting(http: Value, canary_service: Value) -> Stage {
    let server = ApiServer::default();
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
    server.apply("flux", &service("shop", "shop", json!([{"name": "web", "port": 80, "targetPort": 8080}])));
    server.apply("flux", &routes("shop", &["a.example.com", "b.example.com"], &["public"], http));
    server.apply("flux", &canary("shop", canary_service));
    Stage::start(&server)
}

#[tokio::test(start_paused = true)]
async fn adoption_that_would_lose_hosts_gateways_or_settings_is_refused_by_name() {
    let plain = || json!([{"route": to("shop")}]);
    let both = || json!({"hosts": ["a.example.com", "b.example.com"], "gateways": ["public"]});
    let rows = [
        (plain(), json!({"hosts": ["a.example.com"], "gateways": ["public"]}), "host b.example.com"),
        (plain(), json!({"gateways": ["mesh"]}), "gateway public"),
        (plain(), json!({"delegation": true}), "gateway public"),
        (
            json!([{"timeout": "9s", "match": [{"uri": {"prefix": "/slow"}}], "route": to("shop")}, {"route": to("shop")}]),
            both(),
            "timeout of route 1",
        ),
        (json!([{"route": [{"destination": {"host": "shop", "subset": "v1"}}]}]), both(), "subset"),
    ];
    for (http, canary_service, lost) in rows {
        let stage = adopting(http, canary_service).await;
        stage.reason("shop", "RoutesLost").await;
        assert!(stage.is("shop", "Stalled") && stage.said("shop").1.contains(lost), "{lost}: {:?}", stage.said("shop"));
        assert_eq!(stage.changed().await, [""; 0], "{lost}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_canary_without_hosts_or_gateways_keeps_those_of_the_virtual_service_that_was_there() {
    let given = [json!({}), json!({"gateways": ["public"]}), json!({"hosts": ["b.example.com", "a.example.com"]})];
    for canary_service in given {
        let stage = adopting(json!([{"route": to("shop")}]), canary_service.clone()).await;
        let before = stage.get("virtualservices", "shop")["spec"].clone();
        stage.phase("shop", "Initialized").await;
        stage.rest().await;
        let adopted = stage.get("virtualservices", "shop")["spec"].clone();
        assert_eq!(adopted["gateways"], json!(["public"]), "{canary_service}");
        for host in ["a.example.com", "b.example.com"] {
            assert!(adopted["hosts"].as_array().unwrap().contains(&json!(host)), "{canary_service}: {adopted}");
        }
        assert!(!stage.is("shop", "Stalled"), "{canary_service}: {:?}", stage.said("shop"));
        stage.server.delete("canaries", NAMESPACE, "shop");
        stage.rest().await;
        assert_eq!(stage.get("virtualservices", "shop")["spec"], before, "{canary_service}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_all_routes_of_an_adopted_virtual_service_have_is_kept_and_given_back() {
    let stage = adopting(json!([{"timeout": "9s", "retries": {"attempts": 2}, "headers": {"request": {"set": {"a": "b"}}}, "route": to("shop")}]), json!({"hosts": ["a.example.com", "b.example.com"], "gateways": ["public"]})).await;
    let before = stage.get("virtualservices", "shop")["spec"].clone();
    stage.phase("shop", "Initialized").await;
    stage.rest().await;
    for route in stage.get("virtualservices", "shop")["spec"]["http"].as_array().unwrap() {
        assert_eq!((&route["timeout"], &route["retries"]), (&json!("9s"), &json!({"attempts": 2})));
        assert_eq!(route["headers"]["request"]["set"], json!({"a": "b"}), "{route:#}");
    }
    // Clients may find the port by its name.
    let ports = stage.get("services", "shop-primary")["spec"]["ports"].clone();
    assert_eq!((&ports[0]["name"], &ports[0]["targetPort"]), (&json!("web"), &json!(8080)));
    stage.server.delete("canaries", NAMESPACE, "shop");
    stage.rest().await;
    assert!(stage.get("canaries", "shop").is_null());
    assert_eq!(stage.get("virtualservices", "shop")["spec"], before);
}

#[tokio::test(start_paused = true)]
async fn an_adopted_service_keeps_the_port_of_its_pods_where_the_canary_gives_none() {
    let server = ApiServer::default();
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
    server.apply("flux", &service("shop", "shop", json!([{"name": "web", "port": 80, "targetPort": 8080}])));
    let mut canary = canary("shop", json!({}));
    canary["spec"]["service"].as_object_mut().unwrap().remove("targetPort");
    server.apply("flux", &canary);
    let stage = Stage::start(&server);
    stage.phase("shop", "Initialized").await;
    stage.rest().await;
    for name in ["shop", "shop-primary", "shop-canary"] {
        assert_eq!(stage.get("services", name)["spec"]["ports"][0]["targetPort"], 8080, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_users_policy_for_the_service_holds_for_both_arms() {
    let rule = |namespace: &str, name: &str, host: &str, policy: Value| {
        let mut rule =
            object("networking.istio.io/v1", "DestinationRule", name, json!({"host": host, "trafficPolicy": policy}));
        rule["metadata"]["namespace"] = namespace.into();
        rule
    };
    let cookie = json!({"loadBalancer": {"consistentHash": {"httpCookie": {"name": "user", "ttl": "60s"}}}});
    let tls = json!({"tls": {"mode": "ISTIO_MUTUAL"}});
    for host in ["shop", "shop.shop.svc.cluster.local", "*.shop.svc.cluster.local", "*.local"] {
        let server = ApiServer::default();
        server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
        server.apply("flux", &rule("istio-system", "mesh", "*.local", tls.clone()));
        server.apply("flux", &rule(NAMESPACE, "mine", host, cookie.clone()));
        server.apply("flux", &canary("shop", json!({})));
        let stage = Stage::start(&server);
        stage.phase("shop", "Initialized").await;
        stage.rest().await;
        let policy = |name: &str| stage.get("destinationrules", name)["spec"]["trafficPolicy"].clone();
        assert_eq!((policy("shop-primary"), policy("shop-canary")), (cookie.clone(), cookie.clone()), "{host}");
        // It is followed; where it goes, the mesh's holds; and the Canary's own word is the last.
        stage.edit("destinationrules", "mine", |rule| rule["spec"]["trafficPolicy"] = tls.clone());
        stage.rest().await;
        assert_eq!(policy("shop-canary"), tls, "{host}");
        let own = json!({"connectionPool": {"http": {"http2MaxRequests": 7}}});
        stage.edit("canaries", "shop", |canary| canary["spec"]["service"]["trafficPolicy"] = own.clone());
        stage.rest().await;
        assert_eq!(policy("shop-primary"), own, "{host}");
    }
}

#[tokio::test(start_paused = true)]
async fn services_lead_to_the_targets_pods_and_to_no_other_workloads() {
    let (name, part) = ("app.kubernetes.io/name", "app.kubernetes.io/component");
    let server = ApiServer::default();
    for workload in ["web", "worker"] {
        server.apply("flux", &deployment(workload, &[(name, "shop"), (part, workload)], "v1"));
        server.apply("flux", &canary(workload, json!({})));
    }
    let stage = Stage::start(&server);
    for workload in ["web", "worker"] {
        stage.phase(workload, "Initialized").await;
        stage.rest().await;
        let selector = |arm: &str| stage.get("services", &format!("{workload}{arm}"))["spec"]["selector"].clone();
        assert_eq!(selector("-canary"), json!({name: "shop", part: workload}));
        assert_eq!(selector("-primary"), json!({name: "shop-primary", part: workload}));
        assert_eq!(selector(""), json!({name: "shop-primary", part: workload}));
    }
}

#[tokio::test(start_paused = true)]
async fn two_deployments_that_cannot_be_told_apart_are_named() {
    let server = ApiServer::default();
    server.apply("flux", &deployment("web", &[("app", "shop")], "v1"));
    let mut worker = deployment("worker", &[("app", "shop"), ("part", "worker")], "v1");
    worker["spec"]["selector"]["matchLabels"] = json!({"part": "worker"});
    server.apply("flux", &worker);
    server.apply("flux", &canary("web", json!({})));
    let stage = Stage::start(&server);
    stage.reason("web", "SelectorShared").await;
    assert!(stage.said("web").1.contains("Deployment worker"), "{:?}", stage.said("web"));
    assert_eq!(stage.changed().await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_workload_with_the_label_of_the_primarys_pods_is_named() {
    let server = ApiServer::default();
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
    server.apply("helm", &deployment("database", &[("app", "shop-primary")], "v1"));
    server.apply("flux", &canary("shop", json!({})));
    let stage = Stage::start(&server);
    stage.reason("shop", "SelectorShared").await;
    let (_, message) = stage.said("shop");
    assert!(message.contains("Deployment database") && message.contains("app=shop-primary"), "{message}");
    assert_eq!(stage.changed().await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn another_label_on_the_target_costs_the_primary_nothing() {
    let stage = Stage::initialized().await;
    let before = stage.get("deployments", "shop-primary")["spec"].clone();
    stage.server.delete("deployments", NAMESPACE, "shop");
    stage.rest().await;
    stage.server.apply("flux", &deployment("shop", &[("app.kubernetes.io/name", "shop")], "v1"));
    stage.phase("shop", "Progressing").await;
    stage.rest().await;
    let selector = |name: &str| stage.get("services", name)["spec"]["selector"].clone();
    assert_eq!(selector("shop-primary"), json!({"app": "shop-primary"}));
    assert_eq!(selector("shop"), json!({"app": "shop-primary"}));
    assert_eq!(selector("shop-canary"), json!({"app.kubernetes.io/name": "shop"}));
    assert_eq!(stage.get("deployments", "shop-primary")["spec"], before);
    // And it can be promoted.
    stage.edit("canaries", "shop", |canary| canary["spec"]["skipAnalysis"] = true.into());
    stage.server.apply("flux", &deployment("shop", &[("app.kubernetes.io/name", "shop")], "v3"));
    stage.phase("shop", "Succeeded").await;
    stage.rest().await;
    let labels = stage.get("deployments", "shop-primary")["spec"]["template"]["metadata"]["labels"].clone();
    assert_eq!(labels, json!({"app": "shop-primary", "app.kubernetes.io/name": "shop-primary"}));
    assert!(!stage.is("shop", "Stalled"), "{:?}", stage.said("shop"));
}

#[tokio::test(start_paused = true)]
async fn another_port_comes_to_the_primary_with_the_revision_that_serves_it() {
    let server = ApiServer::default();
    let with_port = |port: i64, version: &str| {
        let mut target = deployment("shop", &[("app", "shop")], version);
        target["spec"]["template"]["spec"]["containers"][0]["ports"] =
            json!([{"containerPort": port, "protocol": "TCP"}]);
        target
    };
    server.apply("flux", &with_port(8080, "v1"));
    server.apply("flux", &canary("shop", json!({})));
    let stage = Stage::start(&server);
    stage.phase("shop", "Initialized").await;
    stage.edit("canaries", "shop", |canary| canary["spec"]["service"]["targetPort"] = 9090.into());
    stage.rest().await;
    let target = |name: &str| stage.get("services", name)["spec"]["ports"][0]["targetPort"].clone();
    assert_eq!((target("shop-primary"), target("shop-canary")), (8080.into(), 9090.into()));
    assert_eq!(target("shop"), 8080, "it leads to the primary's pods too");
    server.apply("flux", &with_port(9090, "v2"));
    stage.phase("shop", "Progressing").await;
    stage.rest().await;
    assert_eq!((target("shop-primary"), target("shop")), (8080.into(), 8080.into()));
    stage.edit("canaries", "shop", |canary| canary["spec"]["skipAnalysis"] = true.into());
    server.apply("flux", &with_port(9090, "v3"));
    stage.phase("shop", "Succeeded").await;
    stage.rest().await;
    assert_eq!((target("shop-primary"), target("shop")), (9090.into(), 9090.into()));
}

#[tokio::test(start_paused = true)]
async fn a_promotion_that_is_undone_gives_the_primary_the_port_of_its_former_revision() {
    let server = ApiServer::default();
    let target = |version: &str| {
        let mut target = deployment("shop", &[("app", "shop")], version);
        target["spec"]["template"]["spec"]["containers"][0].as_object_mut().unwrap().remove("ports");
        target
    };
    server.apply("flux", &target("v1"));
    server.apply("flux", &canary("shop", json!({})));
    let stage = Stage::start(&server);
    stage.phase("shop", "Initialized").await;
    stage.rest().await;
    stage.edit("canaries", "shop", |canary| {
        canary["spec"]["service"]["targetPort"] = 9090.into();
        canary["spec"]["skipAnalysis"] = true.into();
        canary["spec"]["progressDeadlineSeconds"] = 120.into();
    });
    stage.rest().await;
    let port = |name: &str| stage.get("services", name)["spec"]["ports"][0]["targetPort"].clone();
    assert_eq!((port("shop-primary"), port("shop-canary"), port("shop")), (8080.into(), 9090.into(), 8080.into()));
    server.stick("shop-primary", true);
    server.apply("flux", &target("v2"));
    stage.phase("shop", "Promoting").await;
    stage.phase("shop", "Failed").await;
    stage.rest().await;
    assert_eq!((port("shop-primary"), port("shop")), (8080.into(), 8080.into()));
    server.stick("shop-primary", false);
    stage.rest().await;
    assert_eq!((port("shop-primary"), port("shop")), (8080.into(), 8080.into()));
    // The next one is promoted with its own.
    server.apply("flux", &target("v3"));
    stage.phase("shop", "Succeeded").await;
    stage.rest().await;
    assert_eq!((port("shop-primary"), port("shop-canary"), port("shop")), (9090.into(), 9090.into(), 9090.into()));
    assert!(stage.get("services", "shop-primary")["metadata"]["annotations"]["weir.dev/speech"].is_null());
}

#[tokio::test(start_paused = true)]
async fn what_leads_to_the_arms_is_known_where_the_users_service_is() {
    let server = ApiServer::default();
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
    let mut before = service("shop", "shop", json!([{"name": "web", "port": 80, "targetPort": 8080}]));
    before["metadata"]["annotations"] = json!({"networking.istio.io/exportTo": "., istio-ingress"});
    server.apply("flux", &before);
    server.apply("flux", &canary("shop", json!({})));
    let stage = Stage::start(&server);
    stage.phase("shop", "Initialized").await;
    stage.rest().await;
    let known = json!([".", "istio-ingress"]);
    for name in ["shop-primary", "shop-canary"] {
        let annotations = stage.get("services", name)["metadata"]["annotations"].clone();
        assert_eq!(annotations["networking.istio.io/exportTo"], "., istio-ingress", "{name}");
        assert_eq!(stage.get("destinationrules", name)["spec"]["exportTo"], known, "{name}");
    }
    assert_eq!(stage.get("virtualservices", "shop")["spec"]["exportTo"], known);
}

#[tokio::test(start_paused = true)]
async fn two_ports_of_one_name_are_told_apart_or_told() {
    let server = ApiServer::default();
    let mut target = deployment("shop", &[("app", "shop")], "v1");
    target["spec"]["template"]["spec"]["containers"][0]["ports"] = json!([
        {"name": "http", "containerPort": 9003, "protocol": "TCP"}, {"name": "http-ui", "containerPort": 8080, "protocol": "TCP"},
    ]);
    server.apply("flux", &target);
    let before = json!([{"name": "http", "port": 9003}, {"name": "http-ui", "port": 9090, "targetPort": 8080}]);
    server.apply("flux", &service("shop", "shop", before));
    server.apply("flux", &canary("shop", json!({"port": 9090, "portDiscovery": true})));
    let stage = Stage::start(&server);
    stage.phase("shop", "Initialized").await;
    stage.rest().await;
    let ports = |name: &str| {
        let ports = stage.get("services", name)["spec"]["ports"].as_array().cloned().unwrap();
        let mut ports: Vec<_> = ports.iter().map(|port| format!("{}={}", port["name"], port["port"])).collect();
        ports.sort();
        ports
    };
    for name in ["shop", "shop-primary", "shop-canary"] {
        assert_eq!(ports(name), [r#""http"=9003"#, r#""http-ui"=9090"#], "{name}");
    }
    stage.edit("canaries", "shop", |canary| canary["spec"]["service"]["portName"] = "http".into());
    stage.rest().await;
    assert_eq!(ports("shop-primary"), [r#""http"=9090"#, r#""tcp-9003"=9003"#]);
}

#[tokio::test(start_paused = true)]
async fn names_without_room_are_refused_within_seconds_with_the_limit() {
    let long = "l".repeat(58);
    for name in ["a".repeat(64), "b".repeat(58), "2048".to_owned(), "shop.v1".to_owned(), "labelled".to_owned()] {
        let server = ApiServer::default();
        let label = if name == "labelled" { long.as_str() } else { "shop" };
        server.apply("flux", &deployment(&name, &[("app", label)], "v1"));
        server.apply("flux", &canary(&name, json!({})));
        let stage = Stage::start(&server);
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        let (reason, message) = stage.said(&name);
        assert!(
            stage.is(&name, "Stalled")
                && ["at most", "limit", "begin with a letter"].iter().any(|rule| message.contains(rule)),
            "{name}: {reason} {message}"
        );
        assert_eq!(stage.changed().await, [""; 0], "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_quota_and_a_pod_without_a_place_are_named() {
    let server = ApiServer::default();
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
    server.apply("flux", &canary("shop", json!({})));
    server.stick("shop-primary", true);
    let stage = Stage::start(&server);
    stage.reason("shop", "Initializing").await;
    stage.rest().await;
    stage.edit("deployments", "shop-primary", |primary| {
        let generation = primary["metadata"]["generation"].clone();
        let conditions = json!([{"type": "ReplicaFailure", "status": "True", "message": "pods \"x\" is forbidden: exceeded quota: q"}]);
        primary["status"] = json!({"observedGeneration": generation, "conditions": conditions});
    });
    stage.rest().await;
    assert!(stage.said("shop").1.contains("exceeded quota: q"), "{:?}", stage.said("shop"));
}

#[tokio::test(start_paused = true)]
async fn a_delegate_without_headers_of_its_own_has_none() {
    let server = ApiServer::default();
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
    server.apply("flux", &canary("shop", json!({"delegation": true})));
    let stage = Stage::start(&server);
    stage.phase("shop", "Initialized").await;
    let http = stage.get("virtualservices", "shop")["spec"]["http"].clone();
    assert!(http.as_array().unwrap().iter().all(|route| route.get("headers").is_none()), "{http:#}");
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_goes_is_not_held_up_by_its_canary() {
    let stage = Stage::initialized().await;
    stage.server.script(|write| {
        let made = ["Service", "VirtualService", "Deployment", "DestinationRule"].contains(&write.kind.as_str());
        (made && write.verb == "apply").then_some(Answer::Refused(403, "Forbidden", "namespace is being terminated"))
    });
    stage.server.delete("deployments", NAMESPACE, "shop");
    stage.server.delete("canaries", NAMESPACE, "shop");
    stage.rest().await;
    assert!(stage.get("canaries", "shop").is_null(), "{:?}", stage.said("shop"));
}
