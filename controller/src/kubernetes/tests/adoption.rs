//! What people have around a service that a Canary takes over or is given by mistake.

use serde_json::{Value, json};

use super::server::ApiServer;
use super::stage::{NAMESPACE, Stage, canary, deployment, routes, service};

fn server() -> ApiServer {
    let server = ApiServer::default();
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
    server
}

#[tokio::test(start_paused = true)]
async fn the_application_protocol_of_an_adopted_service_holds_for_both_arms() {
    let server = server();
    let port = json!([{"name": "web", "port": 80, "targetPort": 8080, "appProtocol": "kubernetes.io/h2c"}]);
    server.apply("flux", &service("shop", "shop", port));
    server.apply("flux", &canary("shop", json!({})));
    let stage = Stage::initialized_of(&server).await;
    let protocol = |name: &str| stage.get("services", name)["spec"]["ports"][0]["appProtocol"].clone();
    for name in ["shop", "shop-primary", "shop-canary"] {
        assert_eq!(protocol(name), "kubernetes.io/h2c", "{name}");
    }
    stage.edit("canaries", "shop", |canary| canary["spec"]["service"]["appProtocol"] = "http".into());
    stage.rest().await;
    assert_eq!((protocol("shop-primary"), protocol("shop-canary")), ("http".into(), "http".into()));
}

#[tokio::test(start_paused = true)]
async fn a_port_that_istio_does_not_read_is_named_before_anything_is_made() {
    let adopted = |port: Value, extra: Value| {
        let server = server();
        let mut ports = json!([{"port": 80, "targetPort": 8080}]);
        ports[0].as_object_mut().unwrap().extend(port.as_object().cloned().unwrap());
        server.apply("flux", &service("shop", "shop", ports));
        server.apply("flux", &canary("shop", extra));
        server
    };
    for (port, named) in [
        (json!({"name": "tcp"}), "port 80 of Service shop is called tcp"),
        (json!({"name": "Mongo-shop"}), "is called Mongo-shop"),
        (json!({"name": "http", "appProtocol": "redis"}), "has appProtocol redis"),
    ] {
        let stage = Stage::start(&adopted(port, json!({})));
        stage.reason("shop", "PortUnread").await;
        let (_, message) = stage.said("shop");
        assert!(stage.is("shop", "Stalled") && message.contains(named), "{message}");
        assert!(message.contains("give spec.service.appProtocol http"), "{message}");
        assert_eq!(stage.changed().await, [""; 0]);
        stage.edit("canaries", "shop", |canary| canary["spec"]["service"]["appProtocol"] = "http".into());
        stage.phase("shop", "Initialized").await;
    }
    // A gateway sends its requests there all the same.
    let public = json!({"gateways": ["public"], "hosts": ["shop.example.com"]});
    Stage::initialized_of(&adopted(json!({"name": "https"}), public)).await;
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_worked_with_a_port_that_istio_does_not_read_goes_on_and_is_told() {
    let server = server();
    server.apply(
        "flux",
        &canary("shop", json!({"gateways": ["public"], "hosts": ["shop.example.com"], "portName": "tcp-web"})),
    );
    let stage = Stage::initialized_of(&server).await;
    // As if an earlier Weir had taken it inside of the mesh.
    let generation = stage.get("canaries", "shop")["metadata"]["generation"].clone();
    let server = stage.kill();
    server.edit("canaries", NAMESPACE, "shop", |canary| {
        canary["spec"]["service"]["gateways"] = json!(["public", "mesh"]);
    });
    server.edit("canaries", NAMESPACE, "shop", |canary| {
        let now = canary["metadata"]["generation"].clone();
        assert_ne!(now, generation);
        canary["status"]["observedGeneration"] = now;
    });
    let stage = Stage::start(&server);
    stage.rest().await;
    assert!(!stage.is("shop", "Stalled"), "{:#}", stage.status("shop"));
    let told = stage.status("shop")["conditions"].to_string();
    assert!(told.contains("tcp-web has Istio pass the bytes on unread"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn requests_of_the_mesh_to_other_ports_of_the_service_stay_at_these() {
    let ports = json!([
        {"name": "http", "port": 80, "targetPort": 8080}, {"name": "grpc", "port": 50051},
        {"name": "dns", "port": 53, "protocol": "UDP"},
    ]);
    for (gateways, others) in [(json!([]), 1), (json!(["public", "mesh"]), 1), (json!(["public"]), 0)] {
        let server = server();
        server.apply("flux", &service("shop", "shop", ports.clone()));
        server.apply("flux", &canary("shop", json!({"gateways": gateways, "hosts": ["shop.example.com"]})));
        let stage = Stage::initialized_of(&server).await;
        let http = stage.get("virtualservices", "shop")["spec"]["http"].clone();
        let http = http.as_array().unwrap();
        assert_eq!(http.len(), 2 + others, "{http:#?}");
        if others > 0 {
            assert_eq!(http[0]["match"], json!([{"port": 50051, "gateways": ["mesh"]}]));
            assert_eq!(http[0]["route"], json!([{"destination": {"host": "shop", "port": {"number": 50051}}}]));
            let last = &http[2]["route"][0]["destination"]["host"];
            assert_eq!(
                (last, &http[1]["route"][0]["destination"]["host"]),
                (&json!("shop-primary"), &json!("shop-canary"))
            );
        }
        assert_eq!(stage.written().await, [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_leads_to_another_workload_is_not_adopted() {
    let api = deployment("api", &[("app", "api"), ("part-of", "shop")], "v1");
    let mut target = deployment("shop", &[("app", "shop"), ("part-of", "shop")], "v1");
    target["spec"]["selector"]["matchLabels"] = json!({"app": "shop"});
    let mut both = service("shop", "shop", json!([{"port": 80, "targetPort": 8080}]));
    both["spec"]["selector"] = json!({"part-of": "shop"});
    for found in [service("shop", "api", json!([{"port": 80, "targetPort": 8080}])), both] {
        let server = ApiServer::default();
        server.apply("flux", &target);
        server.apply("flux", &api);
        server.apply("flux", &found);
        server.apply("flux", &canary("shop", json!({})));
        let stage = Stage::start(&server);
        stage.reason("shop", "RoutesElsewhere").await;
        let (_, message) = stage.said("shop");
        assert!(stage.is("shop", "Stalled") && message.contains("Deployment api"), "{message}");
        assert_eq!(stage.changed().await, [""; 0]);
        // It leads to the target alone by now.
        stage.edit("services", "shop", |service| service["spec"]["selector"] = json!({"app": "shop"}));
        stage.phase("shop", "Initialized").await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_primary_of_a_canary_is_no_target_of_another() {
    let stage = Stage::initialized().await;
    let before = stage.get("deployments", "shop-primary")["spec"].clone();
    stage.server.apply("flux", &canary("shop-primary", json!({"name": "front"})));
    stage.reason("shop-primary", "TargetTaken").await;
    assert!(stage.said("shop-primary").1.contains("Canary shop has in production"), "{:?}", stage.said("shop-primary"));
    stage.rest().await;
    assert_eq!(stage.get("deployments", "shop-primary")["spec"], before, "it goes on with its pods");
}

#[tokio::test(start_paused = true)]
async fn what_was_made_under_an_earlier_name_is_named() {
    let stage = Stage::initialized().await;
    stage.edit("canaries", "shop", |canary| canary["spec"]["service"]["name"] = "front".into());
    stage.rest().await;
    stage.rest().await;
    let hazard = || stage.condition("shop", "Hazard")[2].clone();
    for what in ["VirtualService shop", "Service shop-primary"] {
        assert!(hazard().contains(what), "{what}: {}", hazard());
    }
    for (plural, name) in
        [("virtualservices", "shop"), ("services", "shop"), ("services", "shop-primary"), ("services", "shop-canary")]
    {
        stage.server.delete(plural, NAMESPACE, name);
    }
    tokio::time::sleep(std::time::Duration::from_secs(700)).await;
    assert_eq!(hazard(), "");
}

#[tokio::test(start_paused = true)]
async fn fields_of_ports_and_cookies_that_leave_the_spec_leave_the_objects() {
    let server = ApiServer::default();
    let mut target = deployment("shop", &[("app", "shop")], "v1");
    target["spec"]["template"]["spec"]["containers"][0]["ports"] =
        json!([{"name": "web", "containerPort": 8080}, {"name": "admin", "containerPort": 9090}]);
    server.apply("flux", &target);
    let given = json!({"portDiscovery": true, "portName": "web", "appProtocol": "http2",
        "apex": {"annotations": {"networking.istio.io/exportTo": "."}}});
    let mut shop = canary("shop", given);
    shop["spec"]["analysis"]["sessionAffinity"] = json!({"cookieName": "arm", "primaryCookieName": "first"});
    server.apply("flux", &shop);
    let stage = Stage::initialized_of(&server).await;
    let of = |name: &str| stage.get("services", name)["spec"]["ports"].clone();
    assert_eq!(of("shop-primary").as_array().unwrap().len(), 2);
    stage.edit("canaries", "shop", |canary| {
        let service = canary["spec"]["service"].as_object_mut().unwrap();
        ["portDiscovery", "appProtocol", "apex"].iter().for_each(|field| drop(service.remove(*field)));
        canary["spec"]["analysis"].as_object_mut().unwrap().remove("sessionAffinity");
    });
    stage.rest().await;
    for name in ["shop", "shop-primary", "shop-canary"] {
        let ports = of(name);
        assert_eq!(
            (ports.as_array().unwrap().len(), ports[0]["appProtocol"].clone()),
            (1, Value::Null),
            "{name}: {ports:#}"
        );
        assert!(
            stage.get("services", name)["metadata"]["annotations"]["networking.istio.io/exportTo"].is_null(),
            "{name}"
        );
    }
    let routes = stage.get("virtualservices", "shop")["spec"].clone();
    assert_eq!((routes["http"].as_array().unwrap().len(), routes["exportTo"].clone()), (2, Value::Null), "{routes:#}");
    assert_eq!(stage.written().await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn of_two_canaries_with_one_service_that_come_at_once_one_has_all_of_it() {
    let server = server();
    server.apply("flux", &deployment("cart", &[("app", "cart")], "v1"));
    for name in ["shop", "cart"] {
        server.apply("flux", &canary(name, json!({"name": "front"})));
    }
    let stage = Stage::start(&server);
    stage.rest().await;
    stage.rest().await;
    let phases = ["shop", "cart"].map(|name| stage.status(name)["phase"] == "Initialized");
    let reasons = ["shop", "cart"].map(|name| stage.said(name).0);
    assert_eq!(phases.iter().filter(|works| **works).count(), 1, "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason == "NameTaken"), "{reasons:?}");
    let owner = |plural: &str, name: &str| stage.get(plural, name)["metadata"]["labels"]["weir.dev/canary"].clone();
    let winner = owner("virtualservices", "front");
    for name in ["front", "front-primary", "front-canary"] {
        assert_eq!(owner("services", name), winner, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_canary_under_the_name_of_anothers_arm_is_told_so() {
    let server = server();
    server.apply("flux", &deployment("cart", &[("app", "cart")], "v1"));
    server.apply("flux", &canary("cart", json!({"name": "shop-canary"})));
    let stage = Stage::start(&server);
    stage.phase("cart", "Initialized").await;
    server.apply("flux", &canary("shop", json!({})));
    stage.reason("shop", "NameTaken").await;
    assert!(stage.said("shop").1.contains("Canary cart"), "{:?}", stage.said("shop"));
    stage.rest().await;
    assert_eq!(stage.said("cart").0, "UpToDate");
    let to = json!([{"route": [{"destination": {"host": "elsewhere"}}]}]);
    server.apply("flux", &routes("unrelated", &["x.example.com"], &["public"], to));
    assert_eq!(stage.changed().await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn requests_that_a_virtual_service_led_nowhere_are_not_opened_by_its_adoption() {
    let to = json!([{"destination": {"host": "shop"}}]);
    let (api, v2) = (json!({"name": "api", "uri": {"prefix": "/api"}}), json!({"uri": {"prefix": "/v2"}}));
    let http = json!([{"match": [api], "route": to}, {"match": [v2], "route": to}]);
    for given in [json!({}), json!({"hosts": ["shop.example.com"], "gateways": ["public"]})] {
        let server = server();
        server.apply("flux", &routes("shop", &["shop.example.com"], &["public"], http.clone()));
        server.apply("flux", &canary("shop", given));
        let server = Stage::initialized_of(&server).await.kill();
        let stage = Stage::start(&server);
        stage.rest().await;
        let conditions = |stage: &Stage| {
            let http = stage.get("virtualservices", "shop")["spec"]["http"].clone();
            http.as_array().unwrap().iter().map(|route| route["match"].clone()).collect::<Vec<_>>()
        };
        let kept = conditions(&stage);
        assert_eq!((kept.len(), kept.last()), (2, Some(&json!([api, v2]))));
        assert_eq!((&kept[0][0]["uri"], &kept[0][1]["uri"]), (&api["uri"], &v2["uri"]), "those of the canary too");
        assert_eq!(stage.changed().await, [""; 0]);
        // What the spec says holds.
        let all = json!([{"uri": {"prefix": "/"}}]);
        stage.edit("canaries", "shop", |canary| canary["spec"]["service"]["match"] = all.clone());
        stage.rest().await;
        assert_eq!(conditions(&stage).last(), Some(&all));
        stage.server.delete("canaries", NAMESPACE, "shop");
        stage.rest().await;
        assert_eq!(stage.get("virtualservices", "shop")["spec"]["http"], http);
    }
}

#[tokio::test(start_paused = true)]
async fn routes_that_an_earlier_weir_opened_when_it_adopted_them_stay_open() {
    let to = json!([{"destination": {"host": "shop"}}]);
    let server = server();
    let http = json!([{"match": [{"uri": {"prefix": "/api"}}], "route": to}]);
    server.apply("flux", &routes("shop", &["shop.example.com"], &["public"], http));
    server.apply("flux", &canary("shop", json!({})));
    let server = Stage::initialized_of(&server).await.kill();
    // As it left them: without the conditions, in the routes and in the note of what there was.
    let live = server.get("virtualservices", NAMESPACE, "shop").unwrap();
    let noted = live["metadata"]["annotations"]["weir.dev/original"].as_str().unwrap();
    let mut noted: Value = serde_json::from_str(noted).unwrap();
    assert!(noted.as_object_mut().unwrap().remove("match").is_some());
    let mut earlier = live.clone();
    earlier["metadata"]["annotations"]["weir.dev/original"] = noted.to_string().into();
    earlier["spec"]["http"][0]["match"][0].as_object_mut().unwrap().remove("uri");
    earlier["spec"]["http"][1].as_object_mut().unwrap().remove("match");
    for field in ["managedFields", "resourceVersion"] {
        earlier["metadata"].as_object_mut().unwrap().remove(field);
    }
    server.apply("weir", &earlier);
    let stage = Stage::start(&server);
    stage.rest().await;
    let http = stage.get("virtualservices", "shop")["spec"]["http"].clone();
    assert_eq!(http.as_array().unwrap().last().unwrap()["match"], Value::Null, "{http:#}");
}

#[tokio::test(start_paused = true)]
async fn a_route_that_leads_to_another_port_of_the_service_is_not_adopted() {
    let at = |port: i64| json!([{"destination": {"host": "shop", "port": {"number": port}}}]);
    let http = json!([{"match": [{"uri": {"prefix": "/grpc"}}], "route": at(9090)}, {"route": at(80)}]);
    let server = server();
    server.apply("flux", &routes("shop", &["shop.example.com"], &["public"], http));
    server.apply("flux", &canary("shop", json!({})));
    let stage = Stage::start(&server);
    stage.reason("shop", "RoutesLost").await;
    let (_, message) = stage.said("shop");
    assert!(stage.is("shop", "Stalled") && message.contains("port 9090 of route 1"), "{message}");
    assert_eq!(stage.changed().await, [""; 0]);
    stage.edit("virtualservices", "shop", |routes| routes["spec"]["http"] = json!([{"route": at(80)}]));
    stage.phase("shop", "Initialized").await;
}

#[tokio::test(start_paused = true)]
async fn a_service_with_addresses_of_its_users_own_is_not_adopted() {
    let server = server();
    let port = json!([{"port": 80, "targetPort": 8080}]);
    let mut own = service("shop", "shop", port);
    own["spec"].as_object_mut().unwrap().remove("selector");
    server.apply("flux", &own);
    let addresses = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "shop-own", "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": "shop"}},
        "endpoints": [{"addresses": ["192.0.2.7"]}],
    });
    server.apply("flux", &addresses);
    server.apply("flux", &canary("shop", json!({})));
    let stage = Stage::start(&server);
    stage.reason("shop", "RoutesElsewhere").await;
    let (_, message) = stage.said("shop");
    assert!(stage.is("shop", "Stalled") && message.contains("has no selector"), "{message}");
    assert_eq!(stage.changed().await, [""; 0]);
    assert!(stage.get("services", "shop")["spec"]["selector"].is_null());
    // It leads nowhere by now: nothing is lost.
    stage.server.delete("endpointslices", NAMESPACE, "shop-own");
    stage.phase("shop", "Initialized").await;
    assert_eq!(stage.get("services", "shop")["spec"]["selector"], json!({"app": "shop-primary"}));
}
