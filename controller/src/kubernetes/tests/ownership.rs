//! What is Weir's, what is others', and what becomes of fields that nobody wants any more.

use serde_json::{Value, json};

use super::server::ApiServer;
use super::stage::{NAMESPACE, Stage, canary, deployment, object, routes, service};

async fn with(service: Value) -> Stage {
    let server = ApiServer::default();
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
    server.apply("flux", &canary("shop", service));
    let stage = Stage::start(&server);
    stage.phase("shop", "Initialized").await;
    stage.rest().await;
    stage
}

#[tokio::test(start_paused = true)]
async fn fields_that_leave_the_spec_leave_the_objects() {
    let stage = with(json!({
        "hosts": ["c1.example.com"], "gateways": ["public"], "timeout": "5s", "rewrite": {"uri": "/"},
        "retries": {"attempts": 3}, "headers": {"request": {"set": {"a": "b"}}}, "corsPolicy": {"maxAge": "1h"},
        "match": [{"uri": {"prefix": "/a"}}], "trafficPolicy": {"connectionPool": {"http": {"http2MaxRequests": 7}}},
        "trafficDistribution": "PreferClose", "apex": {"annotations": {"team": "cart"}, "labels": {"tier": "web"}},
        "primary": {"annotations": {"team": "cart"}},
    }))
    .await;
    let fields = [
        "timeout",
        "rewrite",
        "retries",
        "headers",
        "corsPolicy",
        "match",
        "trafficPolicy",
        "trafficDistribution",
        "apex",
        "primary",
    ];
    for field in fields {
        stage.edit("canaries", "shop", |canary| {
            canary["spec"]["service"].as_object_mut().unwrap().remove(field);
        });
    }
    stage.rest().await;
    let route = &stage.get("virtualservices", "shop")["spec"]["http"][1];
    let said: Vec<&String> = route.as_object().unwrap().keys().collect();
    assert_eq!(said, ["headers", "name", "route"]);
    assert_eq!(route["headers"], json!({"request": {"remove": [weir_wire::TOKEN_HEADER]}}));
    assert_eq!(stage.get("destinationrules", "shop-primary")["spec"], json!({"host": "shop-primary"}));
    for name in ["shop", "shop-primary"] {
        let service = stage.get("services", name);
        assert!(service["spec"]["trafficDistribution"].is_null(), "{service:#}");
        assert!(service["metadata"]["annotations"]["team"].is_null(), "{service:#}");
        assert!(service["metadata"]["labels"]["tier"].is_null(), "{service:#}");
    }
    stage.edit("canaries", "shop", |canary| {
        let service = canary["spec"]["service"].as_object_mut().unwrap();
        service.remove("hosts");
        service.remove("gateways");
        service.insert("delegation".into(), true.into());
    });
    stage.rest().await;
    let spec = &stage.get("virtualservices", "shop")["spec"];
    assert!(spec["hosts"].is_null() && spec["gateways"].is_null(), "{spec:#}");
    assert_eq!(stage.written().await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_somebody_adds_to_an_object_of_weirs_own_is_taken_out() {
    let stage = with(json!({"hosts": ["c1.example.com"], "gateways": ["public"]})).await;
    let names = [
        ("virtualservices", "shop"),
        ("destinationrules", "shop-canary"),
        ("services", "shop-canary"),
        ("services", "shop-primary"),
        ("deployments", "shop-primary"),
    ];
    let specs = || names.map(|(plural, name)| stage.get(plural, name)["spec"].clone());
    let before = specs();
    stage.edit("virtualservices", "shop", |routes| {
        routes["spec"]["exportTo"] = json!(["."]);
        routes["spec"]["http"][1]["fault"] = json!({"abort": {"httpStatus": 500, "percentage": {"value": 100}}});
    });
    stage.edit("destinationrules", "shop-canary", |rule| {
        rule["spec"]["trafficPolicy"] = json!({"tls": {"mode": "SIMPLE"}});
    });
    stage.edit("services", "shop-canary", |service| service["spec"]["selector"]["version"] = "v1".into());
    stage.edit("services", "shop-primary", |service| {
        service["spec"]["externalIPs"] = json!(["8.8.8.8"]);
        service["spec"]["ports"].as_array_mut().unwrap().push(json!({"name": "more", "port": 81}));
    });
    stage.edit("deployments", "shop-primary", |primary| {
        primary["spec"]["template"]["spec"]["nodeSelector"] = json!({"disk": "ssd"});
        primary["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "extra"}));
    });
    stage.rest().await;
    for ((before, after), name) in before.iter().zip(&specs()).zip(names) {
        assert_eq!(before, after, "{name:?}");
    }
    assert_eq!(stage.written().await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_adds_again_and_again_is_no_endless_quarrel() {
    let stage = with(json!({})).await;
    let add = |stage: &Stage| {
        stage.edit("deployments", "shop-primary", |primary| {
            primary["spec"]["template"]["spec"]["nodeSelector"] = json!({"a": "b"})
        });
    };
    add(&stage);
    stage.rest().await;
    add(&stage);
    let written = stage.written().await;
    assert!(written.len() <= 2, "{written:?}");
}

#[tokio::test(start_paused = true)]
async fn restarts_and_sizes_of_the_primary_are_the_users() {
    let stage = with(json!({})).await;
    stage.edit("deployments", "shop-primary", |primary| {
        primary["spec"]["template"]["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"] = "now".into();
        primary["spec"]["replicas"] = 4.into();
        primary["metadata"]["labels"]["team"] = "cart".into();
    });
    stage.rest().await;
    assert_eq!(stage.written().await, [""; 0]);
    let primary = stage.get("deployments", "shop-primary");
    assert_eq!(primary["spec"]["replicas"], 4);
    assert_eq!(primary["metadata"]["labels"]["team"], "cart");
}

#[tokio::test(start_paused = true)]
async fn fields_of_others_on_adopted_objects_stay() {
    let server = ApiServer::default();
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
    let mut before = service(
        "shop",
        "shop",
        json!([{"name": "http", "port": 80, "targetPort": 8080}, {"name": "more", "port": 81}]),
    );
    before["spec"]["externalTrafficPolicy"] = "Local".into();
    before["spec"]["type"] = "LoadBalancer".into();
    server.apply("flux", &before);
    let http = json!([{"route": [{"destination": {"host": "shop"}}]}]);
    let mut vs = routes("shop", &["shop.example.com", "shop"], &["public"], http);
    vs["spec"]["exportTo"] = json!(["*"]);
    server.apply("flux", &vs);
    server.apply("flux", &canary("shop", json!({"hosts": ["shop.example.com"], "gateways": ["public"]})));
    let stage = Stage::start(&server);
    stage.phase("shop", "Initialized").await;
    stage.rest().await;
    stage.edit("services", "shop", |service| service["spec"]["loadBalancerClass"] = "nice".into());
    stage.rest().await;
    let adopted = &stage.get("services", "shop")["spec"];
    assert_eq!((&adopted["type"], &adopted["loadBalancerClass"]), (&json!("LoadBalancer"), &json!("nice")));
    assert_eq!(adopted["ports"].as_array().unwrap().len(), 2, "{adopted:#}");
    assert_eq!(stage.get("virtualservices", "shop")["spec"]["exportTo"], json!(["*"]));
    assert_eq!(stage.written().await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_foreign_object_under_a_name_that_weir_needs_is_not_touched() {
    let kinds = [
        ("deployments", deployment("shop-primary", &[("app", "other")], "v1")),
        ("services", service("shop-primary", "other", json!([{"port": 80}]))),
        ("services", service("shop-canary", "other", json!([{"port": 80}]))),
        (
            "destinationrules",
            object("networking.istio.io/v1", "DestinationRule", "shop-primary", json!({"host": "other"})),
        ),
        (
            "destinationrules",
            object("networking.istio.io/v1", "DestinationRule", "shop-canary", json!({"host": "other"})),
        ),
    ];
    for (plural, foreign) in kinds {
        let server = ApiServer::default();
        server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
        server.apply("helm", &foreign);
        server.apply("flux", &canary("shop", json!({})));
        let stage = Stage::start(&server);
        stage.reason("shop", "NameTaken").await;
        let name = foreign["metadata"]["name"].as_str().unwrap();
        let (_, message) = stage.said("shop");
        assert!(message.contains(foreign["kind"].as_str().unwrap()) && message.contains(name), "{message}");
        assert!(stage.is("shop", "Stalled"));
        let before = stage.get(plural, name);
        assert_eq!(stage.changed().await, [""; 0], "{plural} {name}");
        assert_eq!(stage.get(plural, name)["spec"], before["spec"]);
        // And it clears by itself.
        server.delete(plural, NAMESPACE, name);
        stage.phase("shop", "Initialized").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_goes_leaves_foreign_objects_alone() {
    let server = ApiServer::default();
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
    server.apply("helm", &service("shop-canary", "other", json!([{"port": 80}])));
    server.apply("flux", &canary("shop", json!({})));
    let stage = Stage::start(&server);
    stage.reason("shop", "NameTaken").await;
    server.delete("canaries", NAMESPACE, "shop");
    stage.rest().await;
    assert!(stage.get("canaries", "shop").is_null());
    assert_eq!(stage.get("services", "shop-canary")["spec"]["selector"], json!({"app": "other"}));
}

#[tokio::test(start_paused = true)]
async fn the_second_canary_of_one_target_is_told_so_and_changes_nothing() {
    let stage = with(json!({})).await;
    let mut second = canary("shop", json!({"name": "front"}));
    second["metadata"]["name"] = "second".into();
    stage.server.apply("flux", &second);
    stage.reason("second", "TargetTaken").await;
    assert!(stage.said("second").1.contains("Canary shop"), "{:?}", stage.said("second"));
    assert_eq!(stage.changed().await, [""; 0]);
    assert_eq!(stage.said("shop").0, "UpToDate");
}

#[tokio::test(start_paused = true)]
async fn the_original_is_believed_only_where_weir_wrote_it() {
    let text = json!({"metadata": {"finalizers": ["a/b"]}, "spec": {"externalIPs": ["8.8.8.8"], "selector": {"app": "dns"}, "ports": [{"port": 53}]}});
    // Given in the Canary, and given on an object of the user's.
    let server = ApiServer::default();
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
    let mut foreign = service("web", "shop", json!([{"name": "http", "port": 80, "targetPort": 8080}]));
    foreign["metadata"]["annotations"] = json!({"weir.dev/original": text.to_string()});
    server.apply("mallory", &foreign);
    server.apply(
        "flux",
        &canary("shop", json!({"name": "web", "apex": {"annotations": {"weir.dev/original": text.to_string()}}})),
    );
    let stage = Stage::start(&server);
    stage.phase("shop", "Initialized").await;
    server.delete("canaries", NAMESPACE, "shop");
    stage.rest().await;
    let service = stage.get("services", "web");
    assert!(stage.get("canaries", "shop").is_null());
    assert!(service["spec"]["externalIPs"].is_null() && service["metadata"]["finalizers"].is_null(), "{service:#}");
    assert_eq!(service["spec"]["selector"], json!({"app": "shop"}));
}
