//! What users have that would go wrong if it were only copied.

use weir_wire::TOKEN_HEADER;

use super::*;
use crate::api::ServiceSpec;
use crate::api::service::Free;

#[test]
fn the_services_port_keeps_its_name_and_no_port_is_lost() {
    let (_, mut spec, ..) = subject();
    (spec.service.port, spec.service.target_port, spec.service.port_discovery) = (Some(9090), None, Some(true));
    let template = |ports: Value| json!({"spec": {"containers": [{"name": "c", "ports": ports}]}});
    let names = |template: &Value, live: &[Value]| {
        let main = main_port(&spec, template, live, live);
        let found = ports(&spec, template, &main);
        found
            .iter()
            .map(|port| format!("{}={}:{}", port["name"], port["port"], port["targetPort"]))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let two = template(json!([{"name": "http", "containerPort": 9003}, {"name": "http-ui", "containerPort": 8080}]));
    let live = [json!({"name": "http", "port": 9003}), json!({"name": "http-ui", "port": 9090, "targetPort": 8080})];
    assert_eq!(names(&two, &live), r#""http-ui"=9090:8080 "http"=9003:9003"#);
    // Without a Service before, the container's name; without one of its own, the number.
    let own = template(json!([{"name": "http", "containerPort": 9003}, {"name": "ui", "containerPort": 9090}]));
    assert_eq!(names(&own, &[]), r#""ui"=9090:9090 "http"=9003:9003"#);
    let unnamed = template(json!([{"name": "http", "containerPort": 9003}]));
    assert_eq!(names(&unnamed, &[]), r#""http-9090"=9090:9090 "http"=9003:9003"#);
    assert_eq!(names(&template(json!([])), &[]), r#""http"=9090:9090"#);
    // One number of both protocols: a name server's, HTTP/3's.
    let both = template(json!([
        {"name": "dns", "containerPort": 53}, {"name": "dns", "containerPort": 53, "protocol": "UDP"},
        {"name": "h3", "containerPort": 9090, "protocol": "UDP"},
    ]));
    assert_eq!(names(&both, &[]), r#""http"=9090:9090 "dns"=53:53 "udp-53"=53:53 "h3"=9090:9090"#);
}

#[test]
fn rules_about_the_targets_own_pods_become_rules_about_the_primarys() {
    let (names, _, target, _) = subject();
    let labels = labels_of(&names, &target);
    let own = json!({"labelSelector": {"matchLabels": {"app": "cart"}}, "topologyKey": "zone"});
    let other = json!({"labelSelector": {"matchLabels": {"app": "db"}}, "topologyKey": "zone"});
    for kind in ["podAffinity", "podAntiAffinity"] {
        let affinity = json!({kind: {
            "requiredDuringSchedulingIgnoredDuringExecution": [own, other],
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": own}],
        }});
        let template = json!({"template": {"metadata": {"labels": {"app": "cart"}}, "spec": {"affinity": affinity}}});
        let spec = primary(&names, &labels, "1", &template, &Configs::new(), None)["spec"]["template"]["spec"].take();
        let rule =
            |path: &str| spec.pointer(&format!("/affinity/{kind}/{path}/labelSelector/matchLabels/app")).cloned();
        assert_eq!(rule("requiredDuringSchedulingIgnoredDuringExecution/0"), Some("cart-primary".into()));
        assert_eq!(rule("requiredDuringSchedulingIgnoredDuringExecution/1"), Some("db".into()));
        assert_eq!(
            rule("preferredDuringSchedulingIgnoredDuringExecution/0/podAffinityTerm"),
            Some("cart-primary".into())
        );
    }
}

#[test]
fn no_form_of_a_users_json_opens_the_canary_or_loses_the_token() {
    let (names, mut spec, ..) = subject();
    let free = |value: Value| Free(value.as_object().cloned().unwrap());
    for headers in [Value::Null, json!("x"), json!([]), json!(1), json!({"a": {"exact": "b"}})] {
        spec.service.r#match = vec![free(json!({"uri": {"prefix": "/"}, "headers": headers}))];
        for own in [json!({"request": "x"}), json!({"request": null}), json!({"request": {"remove": "y"}}), json!({})] {
            spec.service.headers = Some(free(own.clone()));
            let routes = virtual_service(&names, &spec, Arms::Both, Ownership::Owned, false, &Map::new());
            let token = &routes["spec"]["http"][0]["match"][0]["headers"][weir_wire::TOKEN_HEADER]["exact"];
            assert!(token.is_string(), "{headers}: {routes:#}");
            let removed =
                routes["spec"]["http"][0]["headers"]["request"]["remove"].as_array().cloned().unwrap_or_default();
            assert!(removed.contains(&weir_wire::TOKEN_HEADER.into()), "{own}: {routes:#}");
        }
    }
}

#[test]
fn a_route_ends_both_cookies_where_the_primary_has_one_of_its_own_and_the_filter_leads_nobody_past_it() {
    let (names, mut spec, _, _) = subject();
    let render = |spec: &CanarySpec| {
        let routes = virtual_service(&names, spec, Arms::Both, Ownership::Owned, false, &Map::new());
        routes["spec"]["http"].as_array().unwrap().clone()
    };
    let with = |mut cookies: Value, spec: &CanarySpec| {
        cookies["cookieName"] = "a.b".into();
        let mut spec = spec.clone();
        spec.analysis.session_affinity = Some(serde_json::from_value(cookies).unwrap());
        spec
    };
    spec.service.r#match =
        serde_json::from_value(json!([{"uri": {"prefix": "/a"}}, {"uri": {"prefix": "/b"}}])).unwrap();
    assert_eq!(render(&with(json!({}), &spec)).len(), 2, "one cookie is left to its age");

    let both = with(json!({"primaryCookieName": "home", "path": "/100%", "secure": true}), &spec);
    let http = render(&both);
    let [canary, ending, primary] = &http[..] else { panic!("{http:#?}") };
    assert_eq!((&ending["name"], &ending["route"]), (&primary["name"], &primary["route"]));
    assert_ne!(canary["route"], primary["route"]);
    for (condition, of_primary) in ending["match"].as_array().unwrap().iter().zip(primary["match"].as_array().unwrap())
    {
        assert_eq!(condition["headers"]["cookie"]["regex"], r"(.*; *)?(a\.b|home)=.*");
        assert_eq!(condition["withoutHeaders"], json!({TOKEN_HEADER: {}}));
        assert_eq!(condition["uri"], of_primary["uri"]);
    }
    let added = &ending["headers"]["response"]["add"];
    assert_eq!(added["set-cookie"], "a.b=ended; Max-Age=-1; Path=/100%%; Secure");
    assert_eq!(added["Set-Cookie"], "home=ended; Max-Age=-1; Path=/100%%; Secure");
    assert!(primary["headers"]["response"]["add"].get("set-cookie").is_none());

    // Whoever reads cookies himself, or is delegated to, keeps his routes as they are.
    let own = json!([{"headers": {"cookie": {"exact": "x"}}}]);
    let reader = CanarySpec {
        service: ServiceSpec { r#match: serde_json::from_value(own).unwrap(), ..both.service.clone() },
        ..both.clone()
    };
    let delegated = ServiceSpec { delegation: Some(true), headers: None, ..both.service.clone() };
    let delegate = CanarySpec { service: delegated, ..both.clone() };
    assert_eq!([render(&reader).len(), render(&delegate).len()], [2, 2]);
}
