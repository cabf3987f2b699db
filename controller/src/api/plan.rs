//! From a Canary as written to a plan that can work, or to everything that is wrong with it.

use std::collections::BTreeSet;

use weir_wire::Weight;

use super::affinity::cookie;
use super::analysis::AnalysisSpec;
use super::canary::CanarySpec;
use super::checks::{checks, is_built_in, latency_edges, webhooks};
use super::duration::parse_duration;
use super::object::{Object, name_problem};
use super::problem::{Problem, Problems};
use super::service::ServiceSpec;
use super::strategy;
use crate::rollout::{Plan, Span};

/// A check every 100 ms would be noise, and a step is judged two ticks of the filter after its end.
const MIN_INTERVAL: Span = Span::seconds(1);
/// Makes a plan of what a user wrote.
///
/// # Errors
/// Every problem of the spec, each with its field's path.
pub fn plan(canary: &Object<CanarySpec>) -> Result<Plan, Vec<Problem>> {
    plan_of(&canary.metadata.namespace, &canary.metadata.name, &canary.spec)
}

/// Makes a plan of a spec alone, for a platform with its own frame around objects.
///
/// # Errors
/// Every problem of the spec, each with its field's path.
pub fn plan_of(namespace: &str, name: &str, spec: &CanarySpec) -> Result<Plan, Vec<Problem>> {
    let mut problems = Problems::new();
    let p = &mut problems;
    if let Some(text) = name_problem(name) {
        p.add("metadata.name", text);
    }
    check_target(spec, p);
    check_service(&spec.service, spec.target_ref.kind != "Process", p);
    let analysis = &spec.analysis;
    check_unsupported(spec, p);
    check_alerts(analysis, p);
    let checks = checks(&analysis.metrics, p);
    let plan = Plan {
        canary: format!("{name}.{namespace}"),
        target: format!("{}.{namespace}", spec.target_ref.name),
        steps: strategy::steps(analysis, p),
        promotion_step: promotion_step(analysis, p),
        interval: interval(analysis, p),
        threshold: p.whole("spec.analysis.threshold", analysis.threshold, 1, 1..=1_000_000) as u32,
        latency_ms: latency_edges(&checks),
        checks,
        webhooks: webhooks(&analysis.webhooks, p),
        min_requests: p.whole("spec.analysis.minRequests", analysis.min_requests, 10, 0..=1_000_000_000),
        insufficient_deadline: analysis.insufficient_deadline_seconds.map(|seconds| {
            let field = "spec.analysis.insufficientDeadlineSeconds";
            Span::seconds(p.whole(field, Some(seconds), 1, 1..=31_536_000))
        }),
        progress_deadline: Span::seconds(p.whole(
            "spec.progressDeadlineSeconds",
            spec.progress_deadline_seconds,
            600,
            1..=31_536_000,
        )),
        skip_analysis: spec.skip_analysis.unwrap_or(false),
        suspend: spec.suspend.unwrap_or(false),
        revert_on_deletion: spec.revert_on_deletion.unwrap_or(false),
        alpha: p.number("spec.analysis.alpha", analysis.alpha, 0.01, 1e-9..=0.5),
        latency_ratio: p.number("spec.analysis.latencyRatio", analysis.latency_ratio, 2.0, 1.0..=1000.0),
        conditions: strategy::conditions(&analysis.r#match, p),
        affinity: analysis.session_affinity.as_ref().map(|affinity| cookie(affinity, p)),
        admission: p.whole("spec.analysis.admission", analysis.admission, 10, 0..=1_000_000) as u32,
    };
    problems.into_result(plan)
}

/// Returns what is accepted but changes nothing, for a person who may count on it.
#[must_use]
pub fn remarks(canary: &Object<CanarySpec>) -> Vec<Problem> {
    let mut remarks = Vec::new();
    let analysis = &canary.spec.analysis;
    if analysis.session_affinity.as_ref().is_some_and(|affinity| affinity.primary_cookie_name.is_some()) {
        let text = "changes nothing: the cookie of cookieName keeps clients on either arm; remove it";
        remarks.push(Problem::new("spec.analysis.sessionAffinity.primaryCookieName", text));
    }
    for (i, metric) in analysis.metrics.iter().enumerate() {
        if metric.threshold.is_some() && metric.threshold_range.is_none() {
            let text = "is deprecated: use thresholdRange, which says what is least and what is greatest";
            remarks.push(Problem::new(format!("spec.analysis.metrics[{i}].threshold"), text));
        }
        if is_built_in(&metric.name) && metric.query.is_some() {
            let text = "changes nothing: the gateway's own counters answer this metric; remove it";
            remarks.push(Problem::new(format!("spec.analysis.metrics[{i}].query"), text));
        }
    }
    remarks
}

fn check_target(spec: &CanarySpec, p: &mut Problems) {
    let kinds = ["Deployment", "DaemonSet", "Service", "Process"];
    let kind = &spec.target_ref.kind;
    if !kinds.contains(&kind.as_str()) {
        p.add("spec.targetRef.kind", format!("{kind:?} cannot be released: use one of {}", kinds.join(", ")));
    }
    if let Some(text) = name_problem(&spec.target_ref.name) {
        p.add("spec.targetRef.name", text);
    }
    if let Some(scaler) = &spec.autoscaler_ref {
        if !["HorizontalPodAutoscaler", "ScaledObject"].contains(&scaler.kind.as_str()) {
            let text = format!("{:?} is not known: use HorizontalPodAutoscaler or ScaledObject", scaler.kind);
            p.add("spec.autoscalerRef.kind", text);
        }
        let bounds = scaler.primary_scaler_replicas.clone().unwrap_or_default();
        if bounds.min_replicas.is_some_and(|min| min < 1) || bounds.max_replicas.is_some_and(|max| max < 1) {
            p.add("spec.autoscalerRef.primaryScalerReplicas", "minReplicas and maxReplicas are at least 1");
        } else if let (Some(min), Some(max)) = (bounds.min_replicas, bounds.max_replicas)
            && min > max
        {
            let text = format!("minReplicas {min} is above maxReplicas {max}: exchange them");
            p.add("spec.autoscalerRef.primaryScalerReplicas", text);
        }
    }
}

fn check_service(service: &ServiceSpec, needs_port: bool, p: &mut Problems) {
    match service.port {
        None if needs_port => p.add("spec.service.port", "is missing: give the port that the service listens on"),
        Some(port) if !(1..=65535).contains(&port) => {
            p.add("spec.service.port", format!("{port} is not a port: give a number from 1 to 65535"));
        }
        _ => {}
    }
    if let Some(text) = service.name.as_deref().and_then(name_problem) {
        p.add("spec.service.name", text);
    }
    let mut seen = BTreeSet::new();
    for (i, host) in service.hosts.iter().enumerate() {
        let field = format!("spec.service.hosts[{i}]");
        if !is_host(host) {
            p.add(
                field,
                format!("{host:?} is not a host: write shop.example.com, *.example.com or *, without port or path"),
            );
        } else if !seen.insert(host.to_ascii_lowercase()) {
            p.add(field, format!("{host} is given twice; keep one"));
        }
    }
    if service.delegation == Some(true) && !(service.hosts.is_empty() && service.gateways.is_empty()) {
        let text = "excludes hosts and gateways, which belong to the VirtualService that delegates: remove them";
        p.add("spec.service.delegation", text);
    }
    let retries = service.retries.clone().unwrap_or_default();
    if retries.attempts.is_some_and(|attempts| attempts < 0) {
        p.add("spec.service.retries.attempts", "is at least 0");
    }
    for (field, text) in
        [("spec.service.timeout", &service.timeout), ("spec.service.retries.perTryTimeout", &retries.per_try_timeout)]
    {
        text.as_deref().and_then(|text| p.keep(field, parse_duration(text)));
    }
    if service.app_protocol.as_deref().is_some_and(|protocol| protocol.eq_ignore_ascii_case("tcp")) {
        p.add("spec.service.appProtocol", "tcp is not supported: only HTTP requests can be split and counted");
    }
}

fn is_host(host: &str) -> bool {
    let name = host.strip_prefix("*.").unwrap_or(host);
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    host == "*" || (name.len() <= 253 && name.split('.').all(label))
}

fn check_unsupported(spec: &CanarySpec, p: &mut Problems) {
    if spec.analysis.mirror == Some(true) {
        let text = "is not supported: remove it; a first weight of 0.01 risks one request in 10,000";
        p.add("spec.analysis.mirror", text);
    }
    if let Some(provider) = spec.provider.as_deref().filter(|provider| *provider != "istio") {
        p.add("spec.provider", format!("{provider} is not supported: only istio is; remove the field"));
    }
    for (field, percent) in [
        ("spec.analysis.primaryReadyThreshold", spec.analysis.primary_ready_threshold),
        ("spec.analysis.canaryReadyThreshold", spec.analysis.canary_ready_threshold),
    ] {
        p.whole(field, percent, 100, 0..=100);
    }
}

fn check_alerts(analysis: &AnalysisSpec, p: &mut Problems) {
    for (i, alert) in analysis.alerts.iter().enumerate() {
        let severity = alert.severity.as_deref().unwrap_or("info");
        if !["info", "warn", "error"].contains(&severity) {
            let text = format!("{severity:?} is not a severity: use info, warn or error");
            p.add(format!("spec.analysis.alerts[{i}].severity"), text);
        }
    }
}

fn interval(analysis: &AnalysisSpec, p: &mut Problems) -> Span {
    let field = "spec.analysis.interval";
    let text = analysis.interval.as_deref().unwrap_or("1m");
    let Some(interval) = p.keep(field, parse_duration(text)) else { return MIN_INTERVAL };
    if interval < MIN_INTERVAL {
        let why = "a check needs requests that have ended; evidence takes a bad canary back between checks anyway";
        p.add(field, format!("{text} is shorter than 1s: {why}"));
    }
    interval
}

fn promotion_step(analysis: &AnalysisSpec, p: &mut Problems) -> Option<Weight> {
    let percent = analysis.step_weight_promotion.filter(|percent| *percent != 0.0)?;
    p.keep("spec.analysis.stepWeightPromotion", strategy::weight(percent))
}
