//! Whole documents in, whole plans and exact messages out.

use super::*;
use crate::rollout::{Bounds, Check, Plan, Source, Span, Step};
use weir_wire::Weight;

/// A Canary that can work, with more lines in its analysis.
fn canary_with(analysis: &str) -> Object<CanarySpec> {
    let indented: String = analysis.lines().map(|line| format!("    {line}\n")).collect();
    let text = format!(
        "apiVersion: weir.dev/v1beta1\nkind: Canary\nmetadata: {{name: cart, namespace: shop}}\nspec:\n  \
         targetRef: {{kind: Process, name: cart}}\n  analysis:\n{indented}"
    );
    match read(&text, "cart.yaml").remove(0).unwrap() {
        Parsed { object: Known::Canary(canary), warnings, .. } if warnings.is_empty() => *canary,
        other => panic!("{other:?}"),
    }
}

fn plan_with(analysis: &str) -> Plan {
    plan(&canary_with(analysis)).unwrap()
}

fn problems_with(analysis: &str) -> Vec<String> {
    plan(&canary_with(analysis)).unwrap_err().iter().map(ToString::to_string).collect()
}

fn weights(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|step| step.weight.to_string()).collect()
}

#[test]
fn a_short_spec_has_the_documented_defaults() {
    let expected = Plan {
        canary: "cart.shop".into(),
        target: "cart.shop".into(),
        steps: [50, 100].map(|percent| Step::weight(Weight::new(percent * 100).unwrap(), false)).to_vec(),
        promotion_step: None,
        interval: Span::seconds(60),
        threshold: 1,
        checks: vec![],
        webhooks: vec![],
        min_requests: 10,
        insufficient_deadline: None,
        progress_deadline: Span::seconds(600),
        skip_analysis: false,
        suspend: false,
        revert_on_deletion: false,
        alpha: 0.01,
        latency_ratio: 2.0,
        latency_ms: DEFAULT_LATENCY_MS.to_vec(),
        conditions: vec![],
        affinity: None,
        admission: 10,
    };
    assert_eq!(plan_with("stepWeight: 50"), expected);
}

#[test]
fn the_last_step_is_the_greatest_weight_exactly() {
    let rows: [(&str, &[&str]); 6] = [
        ("stepWeight: 20\nmaxWeight: 50", &["20", "40", "50"]),
        ("stepWeight: 25\nmaxWeight: 50", &["25", "50"]),
        ("stepWeight: 60\nmaxWeight: 50", &["50"]),
        ("stepWeight: 0.25\nmaxWeight: 1", &["0.25", "0.5", "0.75", "1"]),
        ("stepWeights: [0.01, 1, 5]", &["0.01", "1", "5"]),
        ("stepWeights: [1, 5]\nmaxWeight: 5", &["1", "5"]),
    ];
    for (analysis, expected) in rows {
        assert_eq!(weights(&plan_with(analysis)), expected, "{analysis}");
    }
}

#[test]
fn a_latency_bound_becomes_an_edge_of_the_histogram() {
    let plan = plan_with("stepWeight: 5\nmetrics: [{name: request-duration, thresholdRange: {max: 300}}]");
    assert_eq!(plan.latency_ms.len(), DEFAULT_LATENCY_MS.len() + 1);
    assert!(plan.latency_ms.contains(&300) && plan.latency_ms.is_sorted());
    let bounds = Bounds { min: None, max: Some(300.0) };
    assert_eq!(plan.checks, [Check { name: "request-duration".into(), source: Source::Duration, bounds }]);
}

#[test]
fn match_and_weights_may_stand_together() {
    let plan = plan_with(
        "stepWeights: [1, 5]\nmatch: [{headers: {X-Beta: {exact: \"1\"}}, cookies: {beta: {regex: \"y.*\"}}}]",
    );
    assert!(plan.steps.iter().all(|step| step.matching));
    assert_eq!(plan.conditions.len(), 1);
    assert!(plan.conditions[0].headers.contains_key("x-beta"), "header names are lower case for the filter");
    let ab = plan_with("iterations: 3\nmatch: [{headers: {x-beta: {exact: \"1\"}}}]");
    assert_eq!(ab.steps, Step::ab_test(3));
    assert_eq!(plan_with("iterations: 3").steps, Step::blue_green(3));
}

#[test]
fn deprecated_thresholds_mean_what_they_meant() {
    let plan = plan_with(
        "stepWeight: 5\nmetrics:\n- {name: request-success-rate, threshold: 99}\n- {name: request-duration, threshold: 500}\n\
         - {name: errors, threshold: 1, templateRef: {name: errors}}",
    );
    let bounds: Vec<Bounds> = plan.checks.iter().map(|check| check.bounds).collect();
    let max = |max| Bounds { min: None, max: Some(max) };
    assert_eq!(bounds, [Bounds { min: Some(99.0), max: None }, max(500.0), max(1.0)]);
    assert_eq!(plan.checks[2].source, Source::Template);
}

#[test]
fn a_cookie_has_its_attributes() {
    let plan = plan_with(
        "stepWeight: 5\nsessionAffinity: {cookieName: arm, maxAge: 60, domain: example.com, httpOnly: true, secure: true, \
         partitioned: true, sameSite: None}",
    );
    let expected = "; Max-Age=60; Domain=example.com; Path=/; HttpOnly; Secure; Partitioned; SameSite=None";
    assert_eq!(plan.affinity.unwrap().attributes, expected);
}

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
    ("stepWeight: .nan", &["spec.analysis.stepWeight: NaN is out of range: give percent, from 0.01 to 100"]),
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
    (
        "stepWeights: [5, 80]\nmaxWeight: 50",
        &["spec.analysis.stepWeights[1]: 80 is above maxWeight 50: remove one of them"],
    ),
    (
        "iterations: 0\nmaxWeight: 10",
        &[
            "spec.analysis.maxWeight: has no meaning with iterations: remove it, or use stepWeight",
            "spec.analysis.iterations: 0 is out of range: give a number from 1 to 1000",
        ],
    ),
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
        "stepWeight: 5\nthreshold: 0\nminRequests: -1\nadmission: 9000000\nprimaryReadyThreshold: 101",
        &[
            "spec.analysis.primaryReadyThreshold: 101 is out of range: give a whole number from 0 to 100",
            "spec.analysis.threshold: 0 is out of range: give a whole number from 1 to 1000000",
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
            "spec.analysis.metrics[1].name: request-duration is used twice: give every metric its own name",
            "spec.analysis.metrics[1].interval: \"soon\" is not a duration: write it like 10s, 1m30s, 1h or 500ms",
        ],
    ),
    (
        "stepWeight: 5\nmetrics:\n- {name: request-success-rate, thresholdRange: {max: 99}}\n- {name: a, query: up}\n\
         - {name: b, templateRef: {name: b}, thresholdRange: {min: 2, max: 1}}\n\
         - {name: c, templateRef: {name: c}, thresholdRange: {min: .inf}}\n\
         - {name: d, templateRef: {name: d}, thresholdRange: {}}\n\
         - {name: e, templateRef: {name: e}, thresholdRange: {max: 1}, threshold: 2}",
        &[
            "spec.analysis.metrics[0].thresholdRange: needs a min from 0 to 100: the success rate is given in percent",
            "spec.analysis.metrics[1].thresholdRange: is missing: give min, max or both",
            "spec.analysis.metrics[2].thresholdRange: min 2 is above max 1: exchange them",
            "spec.analysis.metrics[3].thresholdRange: has a bound that is not a number",
            "spec.analysis.metrics[4].thresholdRange: is empty: give min, max or both",
            "spec.analysis.metrics[5].threshold: and thresholdRange exclude each other: keep thresholdRange",
        ],
    ),
    (
        "stepWeight: 5\nwebhooks:\n- {name: a, type: confirm, url: \"http://x\"}\n\
         - {name: a, url: x.example, timeout: \"1\", retries: -1}",
        &[
            "spec.analysis.webhooks[0].type: \"confirm\" is not a kind of webhook: use one of confirm-rollout, pre-rollout, \
             rollout, confirm-traffic-increase, confirm-promotion, post-rollout, rollback, event",
            "spec.analysis.webhooks[1].name: \"a\" is empty or used twice: give every webhook its own name",
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
            "spec.analysis.match[1].sourceLabels: is not supported: a gateway cannot see the caller's labels; use headers or \
             cookies",
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
         partitioned: true, sameSite: None}",
        &[
            "spec.analysis.sessionAffinity.cookieName: \"a b\" is not the name of a cookie",
            "spec.analysis.sessionAffinity.primaryCookieName: is the same as cookieName: remove it, one cookie serves both \
             arms",
            "spec.analysis.sessionAffinity.maxAge: 0 is out of range: give a whole number from 1 to 34560000",
            "spec.analysis.sessionAffinity.path: \"/;x\" cannot stand in a cookie: leave out spaces, commas and semicolons",
            "spec.analysis.sessionAffinity.partitioned: needs secure: true, or browsers refuse the cookie",
            "spec.analysis.sessionAffinity.sameSite: None needs secure: true, or browsers refuse the cookie",
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
        "spec.targetRef.kind: \"Pod\" cannot be released: use one of Deployment, DaemonSet, Service, Process".into(),
        format!("spec.targetRef.name: \"\" {name}"),
        "spec.service.port: is missing: give the port that the service listens on".into(),
        "spec.service.hosts[0]: \"shop.example.com:80\" is not a host: write shop.example.com, *.example.com or *, without \
         port or path"
            .into(),
        "spec.service.hosts[2]: *.Example.com is given twice; keep one".into(),
        "spec.service.delegation: excludes hosts and gateways, which belong to the VirtualService that delegates: remove them"
            .into(),
        "spec.service.timeout: \"5\" is not a duration: write it like 10s, 1m30s, 1h or 500ms".into(),
        "spec.service.appProtocol: tcp is not supported: only HTTP requests can be split and counted".into(),
        "spec.provider: linkerd is not supported: only istio is; remove the field".into(),
        "spec.progressDeadlineSeconds: 0 is out of range: give a whole number from 1 to 31536000".into(),
    ];
    assert_eq!(found, expected);
}

#[test]
fn what_is_accepted_without_effect_is_remarked() {
    let canary = canary_with(
        "stepWeight: 5\nsessionAffinity: {cookieName: a, primaryCookieName: b}\n\
         metrics: [{name: request-duration, threshold: 500, query: up}]",
    );
    let fields: Vec<String> = remarks(&canary).into_iter().map(|remark| remark.field).collect();
    let metric = "spec.analysis.metrics[0]";
    assert_eq!(
        fields,
        [
            "spec.analysis.sessionAffinity.primaryCookieName".to_owned(),
            format!("{metric}.threshold"),
            format!("{metric}.query")
        ]
    );
    assert!(plan(&canary).is_ok());
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

#[test]
fn hosts_are_those_of_the_service_and_its_name() {
    let mut canary = canary_with("stepWeight: 5");
    assert_eq!(hosts(&canary), ["cart"]);
    canary.spec.service.hosts = vec!["Shop.example.com".into()];
    canary.spec.service.name = Some("basket".into());
    assert_eq!(hosts(&canary), ["shop.example.com", "basket"]);
    canary.spec.service.hosts = vec!["*".into()];
    assert_eq!(hosts(&canary), ["*"]);
}

const FILE: &str = "\
# A file of several documents.
---
apiVersion: weir.dev/v1beta1
kind: Process
metadata: {name: cart, lables: {a: b}}
spec:
  command: [./cart]
  readinesProbe: {}
--- # the next one does not parse
apiVersion: weir.dev/v1beta1
kind: Canary
metadata: {name: cart
spec:
---
apiVersion: weir.dev/v1beta1
kind: Canary
metadata: {name: cart}
spec:
  targetRef: {kind: Process, name: cart}
  analysis:
    stepWeight: many
---
apiVersion: apps/v1
kind: Deployment
---
just text
---
apiVersion: flagger.app/v1beta1
kind: Canary
---
apiVersion: weir.dev/v1
kind: Canary
---
apiVersion: weir.dev/v1beta1
kind: Canari
---
kind:
---
kind: Canary
---
apiVersion: weir.dev/v1beta1
kind: Canary
metadata: {name: cart}
spec:
  targetRef: {kind: Process, name: cart}
  analysis:
    metrics:
    - {name: a, tresholdRange: {}}
    webhooks: [{name: a, url: b, metadata: {anything: goes}}]
...
";

#[test]
fn a_document_that_cannot_be_read_leaves_the_others_alone() {
    let read = read(FILE, "shop.yaml");
    let told: Vec<String> = read
        .iter()
        .flat_map(|document| match document {
            Ok(parsed) => parsed.warnings.iter().map(|warning| format!("warning {warning}")).collect(),
            Err(problem) => vec![format!("error {problem}")],
        })
        .collect();
    let expected = [
        "warning shop.yaml, document 1, line 3: metadata.lables: is not known here and is ignored: check its spelling",
        "warning shop.yaml, document 1, line 3: spec.readinesProbe: is not known here and is ignored: check its spelling",
        "error shop.yaml, document 2, line 13: does not parse: did not find expected ',' or '}', while parsing a flow mapping at \
         line 12 column 11 (column 5)",
        "error shop.yaml, document 3, line 21: spec.analysis.stepWeight: invalid type: string \"many\", expected a number (column 17)",
        "warning shop.yaml, document 4, line 23: apiVersion: Deployment of apps/v1 is somebody else's object and is ignored",
        "error shop.yaml, document 5, line 26: does not parse: invalid type: string \"just text\", expected an object \
         with apiVersion and kind (column 1)",
        "warning shop.yaml, document 6, line 28: apiVersion: flagger.app/v1beta1 is Flagger's, so this Canary is ignored: to \
         release it with Weir, make it weir.dev/v1beta1",
        "warning shop.yaml, document 7, line 31: apiVersion: \"weir.dev/v1\" is not a version that this Weir knows, so this \
         Canary is ignored: make it weir.dev/v1beta1",
        "warning shop.yaml, document 8, line 34: kind: Canari is not a kind of weir.dev/v1beta1, so it is ignored: Canary, \
         Process, MetricTemplate and AlertProvider are",
        "error shop.yaml, document 9, line 37: kind: is missing: say what this is, for instance `kind: Canary`",
        "warning shop.yaml, document 10, line 39: apiVersion: is missing, so this Canary is ignored: make it weir.dev/v1beta1",
        "warning shop.yaml, document 11, line 41: spec.analysis.metrics[0].tresholdRange: is not known here and is ignored: \
         check its spelling",
    ];
    assert_eq!(told, expected);
    assert!(matches!(&read[0], Ok(Parsed { object: Known::Process(_), .. })));
}

#[test]
fn a_process_has_its_defaults_and_fills_in_its_port() {
    let text = "apiVersion: weir.dev/v1beta1\nkind: Process\nmetadata: {name: cart}\nspec:\n  \
                command: [./cart, --listen, \"127.0.0.1:$(PORT)\", $(HOME), $$(PORT), \"$\"]\n  \
                env: [{name: URL, value: \"http://localhost:$(PORT)/\"}, {name: SELF, value: $(URL)x}]\n";
    let Ok(Parsed { object: Known::Process(object), .. }) = read(text, "").remove(0) else { panic!() };
    let valid = process(&object).unwrap();
    assert_eq!((valid.replicas, valid.grace, valid.probe.target.clone()), (1, Span::seconds(10), Target::Tcp));
    assert_eq!(valid.command_for(81), ["./cart", "--listen", "127.0.0.1:81", "$(HOME)", "$(PORT)", "$"]);
    let env = [("PORT", "81"), ("URL", "http://localhost:81/"), ("SELF", "http://localhost:81/x")];
    assert_eq!(valid.env_for(81), env.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn every_problem_of_a_process_is_told() {
    let spec = ProcessSpec {
        command: vec![],
        env: ["", "A", "A", "PORT"].map(|name| ProcessVariable { name: name.into(), value: String::new() }).to_vec(),
        working_dir: None,
        replicas: Some(0),
        readiness_probe: Some(ProbeSpec {
            http_get: Some(HttpGet { path: "healthz".into() }),
            period_seconds: Some(0),
            ..ProbeSpec::default()
        }),
        termination_grace_period_seconds: Some(-1),
    };
    let object =
        Object { metadata: Metadata { name: "cart".into(), ..Metadata::default() }, spec, ..Object::default() };
    let found: Vec<String> = process(&object).unwrap_err().iter().map(ToString::to_string).collect();
    let expected = [
        "spec.command: is empty: name the program to run, for instance [./serve, --port, $(PORT)]",
        "spec.env[0].name: \"\" is not the name of a variable",
        "spec.env[2].name: A is given twice; keep one",
        "spec.env[3].name: PORT is given by Weir, another one for each replica; remove it here",
        "spec.replicas: 0 is out of range: give a number from 1 to 100",
        "spec.terminationGracePeriodSeconds: -1 is out of range: give a number from 0 to 3600",
        "spec.readinessProbe.periodSeconds: 0 is out of range: give a number from 1 to 3600",
        "spec.readinessProbe.httpGet.path: \"healthz\" is not a path: begin with / and escape what is not ASCII",
    ];
    assert_eq!(found, expected);
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn steps_rise_to_the_greatest_weight_and_never_above(step in 1u32..=10_000, max in 1u32..=10_000) {
            let spec = analysis::AnalysisSpec {
                step_weight: Some(f64::from(step) / 100.0),
                max_weight: Some(f64::from(max) / 100.0),
                ..Default::default()
            };
            let canary = Object { spec: CanarySpec { analysis: spec, ..canary_with("stepWeight: 5").spec }, ..canary_with("stepWeight: 5") };
            let plan = plan(&canary).unwrap();
            let weights: Vec<u32> = plan.steps.iter().map(|step| step.weight.into()).collect();
            prop_assert!(weights.is_sorted_by(|a, b| a < b));
            prop_assert_eq!(weights.last(), Some(&max));
            prop_assert_eq!(weights.len() as u32, max.div_ceil(step));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "(apiVersion: weir.dev/v1beta1\nkind: (Canary|Process)\n)?(.{0,30}\n|---\n|spec: \\{.{0,20}\\}\n|metadata: .{0,9}\n){0,9}") {
            for document in read(&text, "f").into_iter().flatten() {
                match document.object {
                    Known::Canary(canary) => drop((plan(&canary), remarks(&canary))),
                    Known::Process(object) => drop(process(&object)),
                    _ => {}
                }
            }
        }
    }
}
