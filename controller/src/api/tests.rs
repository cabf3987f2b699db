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
