//! Whole documents in, whole plans and exact messages out.

mod documents;
mod limits;
mod moved;
mod processes;
mod refused;

use super::*;
use weir_engine::{Bounds, Check, Plan, Source, Span, Step};
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
        canary_service: "cart-canary.shop".into(),
        direct: vec![],
        steps: [50, 100].map(|percent| Step::weight(Weight::new(percent * 100).unwrap(), false)).to_vec(),
        promotion_step: None,
        interval: Span::seconds(60),
        threshold: 1,
        checks: vec![],
        webhooks: vec![],
        min_requests: 10,
        plain_bounds: false,
        insufficient_deadline: None,
        progress_deadline: Span::seconds(600),
        skip_analysis: false,
        suspend: false,
        alpha: 0.01,
        latency_ratio: 2.0,
        latency_ms: DEFAULT_LATENCY_MS.to_vec(),
        conditions: vec![],
        affinity: None,
        admission: 10,
        observe_at_rest: false,
        observe_only: false,
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
        ("stepWeights: [1, 5]\nmaxWeight: 3", &["1", "5"]),
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
fn match_with_weights_splits_the_matching_requests_unless_it_says_otherwise() {
    let conditions = "match: [{headers: {X-Beta: {exact: \"1\"}}, cookies: {beta: {regex: \"y.*\"}}}]";
    for weights in ["stepWeights: [1, 5]", "stepWeight: 5"] {
        let plan = plan_with(&format!("{weights}\n{conditions}"));
        assert!(plan.steps.iter().all(|step| step.only_matched && !step.matching), "{weights}");
        let plan = plan_with(&format!("{weights}\nmatchAll: true\n{conditions}"));
        assert!(plan.steps.iter().all(|step| step.matching && !step.only_matched), "{weights}");
    }
    assert!(plan_with("stepWeight: 5\nmatchAll: true").steps.iter().all(|step| !step.matching && !step.only_matched));
    let plan = plan_with(&format!("stepWeights: [1, 5]\n{conditions}"));
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
