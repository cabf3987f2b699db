//! How much of a user's text is taken: what is above a limit is remarked on where a stored object may have it, and refused beyond.

use super::*;

/// Returns how many problems and remarks say something about a field.
fn told(canary: &Object<CanarySpec>, field: &str) -> (usize, usize) {
    let reading = reading(&canary.metadata.namespace, &canary.metadata.name, &canary.spec);
    let about = |problems: &[Problem]| problems.iter().filter(|problem| problem.field == field).count();
    (reading.plan.as_ref().err().map_or(0, |problems| about(problems)), about(&reading.remarks))
}

fn deployment(name: &str) -> Object<CanarySpec> {
    let mut canary = canary_with("stepWeight: 5");
    canary.spec.target_ref = TargetRef { api_version: None, kind: "Deployment".into(), name: name.into() };
    canary.spec.service.port = Some(80);
    canary
}

#[test]
fn a_stored_object_above_a_limit_goes_on_and_one_far_above_it_is_refused() {
    let hosts = |n: usize| {
        let mut canary = deployment("cart");
        canary.spec.service.gateways = vec!["public".into()];
        canary.spec.service.hosts = (0..n).map(|i| format!("h{i}.example.com")).collect();
        told(&canary, "spec.service.hosts")
    };
    assert_eq!([64, 65, 256, 257].map(hosts), [(0, 0), (0, 1), (0, 1), (1, 0)]);
    let webhooks = |n: usize| {
        let list: Vec<String> = (0..n).map(|i| format!("{{name: w{i}, url: \"http://t/\"}}")).collect();
        told(&canary_with(&format!("stepWeight: 5\nwebhooks: [{}]", list.join(","))), "spec.analysis.webhooks")
    };
    assert_eq!([16, 17, 65].map(webhooks), [(0, 0), (0, 1), (1, 0)]);
    let metrics = |n: usize| {
        let metric = |i| format!("{{name: m{i}, templateRef: {{name: a}}, thresholdRange: {{max: 1}}}}");
        let list: Vec<String> = (0..n).map(metric).collect();
        told(&canary_with(&format!("stepWeight: 5\nmetrics: [{}]", list.join(","))), "spec.analysis.metrics")
    };
    assert_eq!([16, 17, 65].map(metrics), [(0, 0), (0, 1), (1, 0)]);
    let conditions = |n: usize| {
        let list = vec!["{headers: {a: {exact: b}}}"; n].join(",");
        told(&canary_with(&format!("iterations: 5\nmatch: [{list}]")), "spec.analysis.match")
    };
    assert_eq!([16, 17, 65].map(conditions), [(0, 0), (0, 1), (1, 0)]);
    let terms = |n: usize| {
        let list: Vec<String> = (0..n).map(|i| format!("a{i}: {{exact: b}}")).collect();
        told(
            &canary_with(&format!("iterations: 5\nmatch: [{{headers: {{{}}}}}]", list.join(","))),
            "spec.analysis.match[0]",
        )
    };
    assert_eq!([8, 9, 33].map(terms), [(0, 0), (0, 1), (1, 0)]);
    let path = |n: usize| {
        let affinity = format!("sessionAffinity: {{cookieName: a, path: /{}}}", "a".repeat(n));
        told(&canary_with(&format!("stepWeight: 5\n{affinity}")), "spec.analysis.sessionAffinity.path")
    };
    assert_eq!([100, 600, 3000].map(path), [(0, 0), (0, 1), (1, 0)]);
}

#[test]
fn a_regular_expression_that_could_stop_a_gateway_is_refused_whenever_it_was_stored() {
    let problem = |pattern: &str| {
        let canary = canary_with(&format!("iterations: 5\nmatch: [{{headers: {{a: {{regex: \"{pattern}\"}}}}}}]"));
        plan(&canary).err().map(|problems| problems[0].to_string())
    };
    let at = "spec.analysis.match[0].headers.a: regular expression";
    assert_eq!(problem(&"a".repeat(256)), None);
    assert_eq!(problem("^(.*?;)?(canary=always)(;.*)?$"), None);
    assert_eq!(problem(".{1,200}"), None);
    assert_eq!(problem(&"a".repeat(257)), Some(format!("{at} of 257 bytes, and 256 is the limit: shorten it")));
    assert!(problem("a)|(?:b").unwrap().starts_with(&format!("{at} \"a)|(?:b\" does not compile: ")));
    for large in ["(?:a*){20000}", "(?:a*){100000}", "((a{10}){10}){100}"] {
        let told = problem(large).unwrap();
        assert!(
            told.starts_with(&format!("{at} {large:?} does not compile: ")) && told.contains("size limit"),
            "{told}"
        );
    }
}

#[test]
fn a_canary_that_worked_before_there_were_limits_is_refused_for_none_of_them() {
    let analysis = "iterations: 5\nmatch: [{headers: {a: {regex: \"(?:a*){20000}\"}}}, {cookies: {b: {exact: c}}}]";
    let mut canary = canary_with(analysis);
    canary.metadata.namespace = "shop".into();
    canary.spec.service.hosts = (0..300).map(|i| format!("h{i}.example.com")).collect();
    canary.spec.service.hosts.push("pay.bank.svc.cluster.local".into());
    let read = |rules| reading_by(rules, &canary.metadata.namespace, &canary.metadata.name, &canary.spec);
    let refused = read(Rules::Today).plan.unwrap_err();
    let fields: Vec<&str> = refused.iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(fields, ["spec.service.hosts", "spec.service.hosts[300]", "spec.analysis.match[0].headers.a"]);
    let former = read(Rules::Former);
    let told: Vec<&str> = former.remarks.iter().map(|remark| remark.field.as_str()).collect();
    assert!(fields.iter().all(|field| told.contains(field)), "{told:?}");
    // What could stop a gateway matches nothing, and is no expression there.
    let plan = former.plan.unwrap();
    assert_eq!(plan.conditions[0].headers["a"], weir_wire::StringMatch::Exact("\n".into()));
    assert_eq!(plan.conditions[1].cookies["b"], weir_wire::StringMatch::Exact("c".into()));
    // What never worked is refused by any rules.
    let broken = canary_with("stepWeight: 500");
    assert!(reading_by(Rules::Former, "shop", "cart", &broken.spec).plan.is_err());
}

#[test]
fn a_spec_of_more_than_64_kib_is_refused_before_anything_is_done_with_it() {
    let mut canary = deployment("cart");
    let policy = |bytes: usize| {
        let value = vec![serde_json::Value::String("a".repeat(1_000)); bytes / 1_000].into();
        Some(service::Free([("loadBalancer".to_owned(), value)].into_iter().collect()))
    };
    canary.spec.service.traffic_policy = policy(60_000);
    assert_eq!(plan(&canary).err(), None);
    canary.spec.service.traffic_policy = policy(70_000);
    let problems = plan(&canary).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].to_string().ends_with("bytes, and 65536 is the limit: shorten it"), "{}", problems[0]);
}

#[test]
fn a_name_that_leaves_no_room_for_a_suffix_is_refused_with_the_limit() {
    let problems = |canary: &Object<CanarySpec>| -> Vec<String> {
        plan(canary).err().unwrap_or_default().iter().map(ToString::to_string).collect()
    };
    assert_eq!(problems(&deployment(&"a".repeat(55))), [""; 0]);
    let long = problems(&deployment(&"a".repeat(56)));
    assert_eq!(
        long,
        ["spec.targetRef.name: has 56 characters as the service's name, and 55 is the limit, as -primary is added"]
    );
    for name in ["2048", "shop.v1"] {
        let told = problems(&deployment(name));
        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with(&format!("spec.targetRef.name: {name:?} is not a name of a service")), "{told:?}");
        let mut named = deployment(name);
        named.spec.service.name = Some("shop".into());
        assert_eq!(problems(&named), [""; 0], "a service of another name will do");
    }
    let mut canary = deployment("cart");
    canary.metadata.name = "a".repeat(64);
    let text = "has 64 characters, and 63 is the limit, as it is the value of a label: shorten it";
    assert_eq!(problems(&canary), [format!("metadata.name: {text}")]);
    canary.metadata.name = "a".repeat(63);
    assert_eq!(problems(&canary), [""; 0]);
}

#[test]
fn a_service_of_another_namespace_is_refused_where_the_whole_mesh_would_follow() {
    let problem = |host: &str, gateways: &[&str]| {
        let mut canary = deployment("cart");
        canary.spec.service.hosts = vec![host.into()];
        canary.spec.service.gateways = gateways.iter().map(|gateway| (*gateway).into()).collect();
        plan(&canary).err().map(|problems| problems[0].to_string())
    };
    for host in ["pay.bank.svc.cluster.local", "Pay.Bank.svc", "pay.bank.svc.example", "*.bank.svc.cluster.local"] {
        for gateways in [&[][..], &["public", "mesh"]] {
            let told = problem(host, gateways).unwrap();
            assert!(
                told.starts_with(&format!("spec.service.hosts[0]: {host} is a service of namespace bank: ")),
                "{told}"
            );
        }
        assert_eq!(problem(host, &["public"]), None);
    }
    for host in ["*.svc.cluster.local", "*.cluster.local", "*.local"] {
        assert!(problem(host, &[]).unwrap().contains("is a service of every namespace"), "{host}");
    }
    for host in ["cart", "cart.shop.svc.cluster.local", "other.shop.svc", "shop.example.com", "*.example.com"] {
        assert_eq!(problem(host, &[]), None, "{host}");
    }
}

#[test]
fn what_weir_adds_to_must_have_the_form_that_it_adds_to() {
    let problem = |service: &str| {
        let mut canary = deployment("cart");
        canary.spec.service = serde_json::from_str(&format!(r#"{{"port": 80, {service}}}"#)).unwrap();
        plan(&canary).err().map(|problems| problems[0].field.clone())
    };
    assert_eq!(problem(r#""headers": {"request": {"add": {"a": "b"}, "remove": ["c"]}}"#), None);
    assert_eq!(problem(r#""match": [{"headers": {"a": {"exact": "b"}}}]"#), None);
    for (service, field) in [
        (r#""match": [{"headers": null}]"#, "match[0].headers"),
        (r#""match": [{}, {"headers": "a"}]"#, "match[1].headers"),
        (r#""headers": {"request": "x"}"#, "headers.request"),
        (r#""headers": {"request": {"remove": "x"}}"#, "headers.request"),
        (r#""headers": {"response": {"set": {"a": 1}}}"#, "headers.response"),
        (r#""headers": {"requests": {}}"#, "headers.requests"),
    ] {
        assert_eq!(problem(service), Some(format!("spec.service.{field}")), "{service}");
    }
}

#[test]
fn a_canary_at_every_limit_at_once_is_planned_and_its_entry_has_a_bounded_size() {
    let hosts: Vec<String> = (0..64).map(|i| format!("{}.{i}.example.com", "h".repeat(63))).collect();
    let terms = |i: usize| {
        let terms: Vec<String> = (0..8).map(|j| format!("x-{j}: {{regex: \"(?:a*){{9}}{i}{j}\"}}")).collect();
        format!("{{headers: {{{}}}}}", terms.join(", "))
    };
    let conditions: Vec<String> = (0..16).map(terms).collect();
    let webhooks: Vec<String> =
        (0..16).map(|i| format!("{{name: w{i}, url: \"http://t/{}\"}}", "u".repeat(500))).collect();
    let metric = |i| format!("{{name: m{i}, templateRef: {{name: a}}, thresholdRange: {{max: 1}}}}");
    let metrics: Vec<String> = (0..16).map(metric).collect();
    let mut canary = canary_with(&format!(
        "iterations: 1000\nmatch: [{}]\nsessionAffinity: {{cookieName: {}, path: /{}}}\nwebhooks: [{}]\nmetrics: [{}]",
        conditions.join(", "),
        "c".repeat(100),
        "p".repeat(300),
        webhooks.join(", "),
        metrics.join(", ")
    ));
    canary.spec.service.hosts = hosts;
    let began = std::time::Instant::now();
    let reading = reading("shop", "cart", &canary.spec);
    println!("the plan of a Canary at every limit takes {:?} in this build", began.elapsed());
    let plan = reading.plan.unwrap_or_else(|problems| panic!("{problems:?}"));
    assert!(reading.remarks.iter().all(|remark| !remark.text.contains("is the limit")), "{:?}", reading.remarks);
    assert_eq!((plan.conditions.len(), plan.steps.len(), plan.webhooks.len()), (16, 1000, 16));
    let traffic = weir_engine::Traffic { matching: true, run: "r".into(), ..weir_engine::Traffic::default() };
    let request_match = crate::gateway_config::RequestMatch {
        namespace: "shop".into(),
        name: "cart".into(),
        hosts: canary.spec.service.hosts.clone(),
        ..crate::gateway_config::RequestMatch::default()
    };
    let entry = crate::gateway_config::entry(&request_match, &plan, &traffic);
    let claim = crate::gateway_budget::Claim { canary: entry, routes: crate::gateway_config::RouteNames::default() };
    let fitted = crate::gateway_budget::fit(vec![claim], &std::collections::BTreeMap::new());
    // Everything at once is more than one Canary may have in a gateway, and told as such. Less of one of them fits.
    let told: Vec<&String> = fitted.left_out.values().collect();
    assert!(
        fitted.canaries.len() + told.len() == 1 && told.iter().all(|text| text.contains("is the limit")),
        "{told:?}"
    );
}

#[test]
fn a_regular_expression_for_envoy_that_is_too_large_is_refused_and_kept_where_it_was() {
    let with = |pattern: &str| {
        let mut canary = deployment("cart");
        let found = serde_json::json!({"uri": {"regex": pattern}});
        canary.spec.service.r#match = vec![service::Free(found.as_object().unwrap().clone())];
        let origins = serde_json::json!({"allowOrigins": [{"regex": pattern}]});
        canary.spec.service.cors_policy = Some(service::Free(origins.as_object().unwrap().clone()));
        canary
    };
    for pattern in ["/v[12]/.*", r"/(?i)shop/\p{L}+", "(", ".{1,900}"] {
        assert_eq!(plan(&with(pattern)).err(), None, "{pattern}: Istio's to judge");
    }
    for pattern in ["(?:a{1000}){1000}".to_owned(), "(((x{100}){100}){100}){100}".to_owned(), "(a{9}){999}".repeat(30)]
    {
        let canary = with(&pattern);
        let fields: Vec<String> = plan(&canary).unwrap_err().into_iter().map(|problem| problem.field).collect();
        assert_eq!(fields, ["spec.service.match[0]", "spec.service.corsPolicy"], "{pattern}");
        assert!(reading_by(Rules::Former, "shop", "cart", &canary.spec).plan.is_ok(), "{pattern}");
    }
}
