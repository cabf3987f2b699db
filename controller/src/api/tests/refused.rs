//! What a Canary may not say, and what its author is told.

use super::*;

/// What a user may write, and what they are told: exactly, and only that.
const REFUSED: &[(&str, &[&str])] = &[
    (
        "interval: 10s",
        &[
            "spec.analysis: needs one of stepWeight (weights in equal steps), stepWeights (a list of weights) and iterations \
           (A/B test or blue/green)",
        ],
    ),
    (
        "stepWeight: 5\niterations: 2",
        &["spec.analysis: stepWeight and iterations exclude each other: keep one of them"],
    ),
    ("stepWeight: 120", &["spec.analysis.stepWeight: 120 is out of range: give percent, from 0.01 to 100"]),
    ("stepWeight: 0", &["spec.analysis.stepWeight: 0 is out of range: give percent, from 0.01 to 100"]),
    (
        "stepWeight: 0.125",
        &["spec.analysis.stepWeight: 0.125 is not a multiple of 0.01: the gateway splits requests in 1/10,000"],
    ),
    (
        "stepWeights: [5, 5, 200]",
        &[
            "spec.analysis.stepWeights[1]: 5 is not above 5, the one before: list weights in increasing order",
            "spec.analysis.stepWeights[2]: 200 is out of range: give percent, from 0.01 to 100",
        ],
    ),
    ("iterations: 0\nmaxWeight: 10", &["spec.analysis.iterations: 0 is out of range: give a number from 1 to 1000"]),
    (
        "stepWeight: 5\ninterval: 500ms",
        &[
            "spec.analysis.interval: 500ms is shorter than 1s: a check needs requests that have ended; evidence takes a bad \
           canary back between checks anyway",
        ],
    ),
    (
        "stepWeight: 5\ninterval: 1 minute",
        &["spec.analysis.interval: \"1 minute\" is not a duration: write it like 10s, 1m30s, 1h or 500ms"],
    ),
    (
        "stepWeight: 5\nthreshold: -1\nminRequests: -1\nadmission: 9000000\nprimaryReadyThreshold: 101",
        &[
            "spec.analysis.primaryReadyThreshold: 101 is out of range: give a whole number from 0 to 100",
            "spec.analysis.threshold: -1 is out of range: give a whole number from 1 to 1000000",
            "spec.analysis.minRequests: -1 is out of range: give a whole number from 0 to 1000000000",
            "spec.analysis.admission: 9000000 is out of range: give a whole number from 0 to 1000000",
        ],
    ),
    (
        "stepWeight: 5\nalpha: 0\nlatencyRatio: 0.5\ninsufficientDeadlineSeconds: 0",
        &[
            "spec.analysis.insufficientDeadlineSeconds: 0 is out of range: give a whole number from 1 to 31536000",
            "spec.analysis.alpha: 0 is out of range: give a number from 0.000000001 to 0.5",
            "spec.analysis.latencyRatio: 0.5 is out of range: give a number from 1 to 1000",
        ],
    ),
    (
        "stepWeight: 5\nmetrics:\n- {name: request-succes-rate, thresholdRange: {min: 99}}",
        &["spec.analysis.metrics[0].name: \"request-succes-rate\" is not built in (request-success-rate and \
           request-duration are): correct it, or add a templateRef"],
    ),
    (
        "stepWeight: 5\nmetrics:\n- {name: request-duration, thresholdRange: {max: 0.5}}\n\
         - {name: request-duration, thresholdRange: {max: 500}, interval: soon}",
        &[
            "spec.analysis.metrics[0].thresholdRange: needs a max that is a whole number from 1 to 3600000: the duration is \
             given in milliseconds",
            "spec.analysis.metrics[1].interval: \"soon\" is not a duration: write it like 10s, 1m30s, 1h or 500ms",
        ],
    ),
    (
        "stepWeight: 5\nmetrics:\n- {name: request-success-rate, thresholdRange: {max: 99}}\n- {name: a, query: up}\n\
         - {name: b, templateRef: {name: b}, thresholdRange: {min: 2, max: 1}}\n\
         - {name: d, templateRef: {name: d}, thresholdRange: {}}\n\
         - {name: e, thresholdRange: {max: 1}}",
        &[
            "spec.analysis.metrics[0].thresholdRange: needs a min from 0 to 100: the success rate is given in percent",
            "spec.analysis.metrics[1].thresholdRange: is missing: give min, max or both",
            "spec.analysis.metrics[2].thresholdRange: min 2 is above max 1: exchange them",
            "spec.analysis.metrics[3].thresholdRange: is empty: give min, max or both",
            "spec.analysis.metrics[4].name: \"e\" is not built in (request-success-rate and request-duration are): correct it, or \
             add a templateRef",
        ],
    ),
    (
        "stepWeight: 5\nwebhooks:\n- {name: a, type: confirm, url: \"http://x\"}\n\
         - {name: \"\", url: x.example, timeout: \"1\", retries: -1}",
        &[
            "spec.analysis.webhooks[0].type: \"confirm\" is not a kind of webhook: use one of confirm-rollout, pre-rollout, \
             rollout, confirm-traffic-increase, confirm-promotion, post-rollout, rollback, event",
            "spec.analysis.webhooks[1].name: is empty: give the webhook a name",
            "spec.analysis.webhooks[1].url: \"x.example\" is not an address: begin with http:// or https://",
            "spec.analysis.webhooks[1].timeout: \"1\" is not a duration: write it like 10s, 1m30s, 1h or 500ms",
            "spec.analysis.webhooks[1].retries: -1 is out of range: give a whole number from 0 to 100",
        ],
    ),
    (
        "iterations: 1\nmatch:\n- {}\n- {sourceLabels: {app: x}}\n- {headers: {a: {exact: x, prefix: x}, \"b c\": {exact: x}}}\n\
         - {cookies: {d: {}}, queryParams: {\"e&\": {suffix: x}}}",
        &[
            "spec.analysis.match[0]: has no condition and would match every request: add headers, cookies or queryParams",
            "spec.analysis.match[1].sourceLabels: is not supported: a proxy sees requests, and not who sends them; name these \
             callers in service.callers, or use headers or cookies",
            "spec.analysis.match[2].headers.a: needs exactly one of exact, prefix, suffix and regex",
            "spec.analysis.match[2].headers.b c: \"b c\" is not a name that a request can have here",
            "spec.analysis.match[3].cookies.d: needs exactly one of exact, prefix, suffix and regex",
            "spec.analysis.match[3].queryParams.e&: \"e&\" is not a name that a request can have here",
        ],
    ),
    (
        "iterations: 1\nmatch: [{headers: {a: {regex: \"(\"}}}]",
        &["spec.analysis.match[0].headers.a: regular expression \"(\" does not compile: "],
    ),
    (
        "stepWeight: 5\nsessionAffinity: {cookieName: \"a b\", primaryCookieName: \"a b\", maxAge: 0, path: \"/;x\", \
         sameSite: Loose}",
        &[
            "spec.analysis.sessionAffinity.cookieName: \"a b\" is not the name of a cookie",
            "spec.analysis.sessionAffinity.primaryCookieName: is the same as cookieName: remove it, one cookie serves both \
             arms",
            "spec.analysis.sessionAffinity.maxAge: 0 is out of range: give a whole number from 1 to 34560000",
            "spec.analysis.sessionAffinity.path: \"/;x\" cannot stand in a cookie: leave out spaces, commas and semicolons",
            "spec.analysis.sessionAffinity.sameSite: \"Loose\" is not known: use Strict, Lax or None",
        ],
    ),
    (
        "stepWeight: 5\nmirror: true\nalerts: [{name: a, severity: panic, providerRef: {name: a}}]\nstepWeightPromotion: 200",
        &[
            "spec.analysis.mirror: is not supported: remove it; a first weight of 0.01 risks one request in 10,000",
            "spec.analysis.alerts[0].severity: \"panic\" is not a severity: use info, warn or error",
            "spec.analysis.stepWeightPromotion: 200 is out of range: give percent, from 0.01 to 100",
        ],
    ),
];

#[test]
fn every_problem_is_told_by_field_with_what_to_do() {
    for (analysis, expected) in REFUSED {
        let found = problems_with(analysis);
        assert_eq!(found.len(), expected.len(), "{analysis}\n{found:#?}");
        for (found, expected) in found.iter().zip(*expected) {
            // The regular expression's own message is the engine's.
            let same = if expected.ends_with("compile: ") { found.starts_with(expected) } else { found == expected };
            assert!(same, "{analysis}\n found    {found}\n expected {expected}");
        }
    }
}

#[test]
fn problems_outside_of_the_analysis_are_told_too() {
    let mut canary = canary_with("stepWeight: 5");
    canary.metadata.name = "Cart".into();
    canary.spec.target_ref.kind = "Pod".into();
    canary.spec.target_ref.name = String::new();
    canary.spec.provider = Some("linkerd".into());
    canary.spec.progress_deadline_seconds = Some(0);
    canary.spec.service.hosts = vec!["shop.example.com:80".into(), "*.example.com".into(), "*.Example.com".into()];
    canary.spec.service.gateways = vec!["public".into()];
    canary.spec.service.delegation = Some(true);
    canary.spec.service.app_protocol = Some("tcp".into());
    canary.spec.service.timeout = Some("5".into());
    let found: Vec<String> = plan(&canary).unwrap_err().iter().map(ToString::to_string).collect();
    let name = "is not a name: use lower-case letters, digits, - and ., and begin and end with a letter or digit";
    let expected = [
        format!("metadata.name: \"Cart\" {name}"),
        "spec.targetRef.kind: \"Pod\" cannot be released: use Deployment in a cluster, Process with weir standalone".into(),
        format!("spec.targetRef.name: \"\" {name}"),
        "spec.service.port: is missing: give the port that the service listens on".into(),
        "spec.targetRef.name: \"\" is not a name of a service: use lower-case letters, digits and -, begin with a letter, and end \
         with a letter or digit"
            .into(),
        "spec.service.hosts[0]: \"shop.example.com:80\" is not a host: write shop.example.com, *.example.com or *, without \
         port or path"
            .into(),
        "spec.service.hosts[2]: *.Example.com is given twice; keep one".into(),
        "spec.service.delegation: excludes hosts and gateways, which belong to the VirtualService that delegates: remove them"
            .into(),
        "spec.service.timeout: \"5\" is not a duration: write it like 10s, 1m30s, 1h or 500ms".into(),
        "spec.service.appProtocol: tcp is not supported: only HTTP requests can be split and counted".into(),
        "spec.provider: linkerd is not supported: only istio is; remove the field, and give service.gateways and service.hosts"
            .into(),
        "spec.progressDeadlineSeconds: 0 is out of range: give a whole number from 1 to 31536000".into(),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_port_that_istio_does_not_read_is_refused_inside_of_the_mesh() {
    let read = |rules, port_name: &str, app_protocol: &str, gateways: &[&str]| {
        let mut canary = canary_with("stepWeight: 5");
        canary.spec.target_ref.kind = "Deployment".into();
        canary.spec.service.port = Some(80);
        canary.spec.service.port_name = Some(port_name.to_owned()).filter(|name| !name.is_empty());
        canary.spec.service.app_protocol = Some(app_protocol.to_owned()).filter(|protocol| !protocol.is_empty());
        canary.spec.service.gateways = gateways.iter().map(|gateway| (*gateway).to_owned()).collect();
        reading_by(rules, "shop", "cart", &canary.spec)
    };
    let both = ["public", "mesh"];
    let rows: [(&str, &str, &[&str], &str); 5] = [
        ("tcp-web", "", &[], "spec.service.portName: tcp-web has"),
        ("HTTPS", "", &[], "spec.service.portName: HTTPS has"),
        ("mysql", "", &both, "spec.service.portName: mysql has"),
        ("http", "tls", &[], "spec.service.appProtocol: tls has"),
        ("", "kubernetes.io/wss", &[], "spec.service.appProtocol: kubernetes.io/wss has"),
    ];
    for (name, protocol, gateways, expected) in rows {
        let refused = read(Rules::Today, name, protocol, gateways).plan.unwrap_err();
        assert!(refused.len() == 1 && refused[0].to_string().starts_with(expected), "{refused:?}");
        // It worked before that was refused.
        let stored = read(Rules::Stored, name, protocol, gateways);
        assert!(stored.plan.is_ok() && stored.remarks.iter().any(|it| it.to_string().starts_with(expected)));
    }
    let rows: [(&str, &str, &[&str]); 6] = [
        ("web", "", &[]),
        ("http-tcp", "", &[]),
        ("tcp", "grpc", &[]),
        ("grpc-web", "", &[]),
        ("", "kubernetes.io/h2c", &[]),
        ("https", "", &["public"]),
    ];
    for (name, protocol, gateways) in rows {
        assert!(read(Rules::Today, name, protocol, gateways).plan.is_ok(), "{name} {protocol}");
    }
}

#[test]
fn the_schema_names_the_protocols_that_the_plan_refuses() {
    let schema = serde_json::to_string(&schemars::schema_for!(service::ServiceSpec)).unwrap();
    assert!(schema.contains(&service::OPAQUE.join("|").replace('.', "[.]")), "{schema}");
}

#[test]
fn two_canaries_with_one_host_or_target_are_named_both() {
    let mut first = canary_with("stepWeight: 5");
    first.spec.service.hosts = vec!["shop.example.com".into(), "*".into()];
    let mut second = first.clone();
    second.metadata.name = "basket".into();
    second.spec.service.hosts = vec!["*.example.com".into(), "SHOP.example.com".into()];
    let clashes = shared_hosts(&[&first, &second]);
    assert_eq!(clashes.len(), 1);
    assert_eq!((clashes[0].first, clashes[0].second), (0, 1));
    assert_eq!(
        clashes[0].problem.to_string(),
        "spec.service.hosts[1]: shop.example.com is a host of both shop/cart and shop/basket: a host belongs to one Canary; \
         change one of them"
    );
    let clashes = shared_targets(&[&first, &second]);
    assert_eq!(
        clashes[0].problem.to_string(),
        "spec.targetRef: Process cart is the target of both shop/cart and shop/basket: a workload is released by one Canary; \
         remove one of them"
    );
    second.metadata.namespace = "store".into();
    assert!(shared_targets(&[&first, &second]).is_empty());
}
