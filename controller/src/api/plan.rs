//! From a Canary as written to a plan that can work, or to everything that is wrong with it.

use weir_engine::{Plan, Source, Span, Step, WebhookKind};
use weir_wire::Weight;

use super::affinity::cookie;
use super::analysis::AnalysisSpec;
use super::canary::CanarySpec;
use super::checks::{check_load_tests, checks, latency_edges, webhooks};
use super::duration::parse_duration;
use super::kinds::{AutoscalerKind, PROCESS, RouterKind, TargetKind};
use super::object::{Object, name_problem};
use super::problem::{Problem, Problems, Rules};
use super::rules::words;
use super::{limits, serving, strategy};

/// A check every 100 ms would be noise, and a step is judged two ticks of the filter after its end.
const MIN_INTERVAL: Span = Span::seconds(1);
/// Makes a plan of what a user wrote.
///
/// # Errors
/// Every problem of the spec, each with its field's path.
pub fn plan(canary: &Object<CanarySpec>) -> Result<Plan, Vec<Problem>> {
    plan_of(&canary.metadata.namespace, &canary.metadata.name, &canary.spec)
}

/// A spec as it was read: the plan, and what its author should know.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The plan, or every problem of the spec, each with its field's path.
    pub plan: Result<Plan, Vec<Problem>>,
    /// What is accepted and has no effect, or less than it says.
    pub remarks: Vec<Problem>,
    /// What works and should be written otherwise.
    pub deprecated: Vec<Problem>,
}

/// Makes a plan of a spec alone, for a platform with its own frame around objects.
///
/// # Errors
/// Every problem of the spec, each with its field's path.
pub fn plan_of(namespace: &str, name: &str, spec: &CanarySpec) -> Result<Plan, Vec<Problem>> {
    reading(namespace, name, spec).plan
}

/// Returns what the author of a Canary should know of it: what has no effect, and what should be written otherwise.
#[must_use]
pub fn remarks(canary: &Object<CanarySpec>) -> Vec<Problem> {
    let Reading { mut remarks, deprecated, .. } =
        reading(&canary.metadata.namespace, &canary.metadata.name, &canary.spec);
    remarks.extend(deprecated);
    remarks
}

/// Reads a spec.
#[must_use]
pub fn reading(namespace: &str, name: &str, spec: &CanarySpec) -> Reading {
    reading_by(Rules::Today, namespace, name, spec)
}

/// Reads a spec by some rules.
#[must_use]
pub fn reading_by(rules: Rules, namespace: &str, name: &str, spec: &CanarySpec) -> Reading {
    let mut problems = Problems { rules, ..Problems::new() };
    if let Some(text) = serde_json::to_string(spec).ok().and_then(|text| limits::size_problem(text.len(), limits::SPEC))
    {
        problems.refuse_new("spec", text, "it is kept");
        if !problems.found.is_empty() {
            // Nothing that takes time is done with it.
            return Reading { plan: Err(problems.found), remarks: Vec::new(), deprecated: Vec::new() };
        }
    }
    let p = &mut problems;
    check_name(name, spec, p);
    check_target(spec, p);
    serving::check(namespace, spec, p);
    let analysis = &spec.analysis;
    check_unsupported(spec, p);
    check_alerts(analysis, p);
    let observed = spec.observe_only == Some(true) && spec.skip_analysis == Some(true);
    p.remark_if(observed, "spec.skipAnalysis", "has no effect: with observeOnly people promote");
    let checks = checks(spec, p);
    let text = "has no effect: no built-in metric is judged";
    let judged = checks.iter().any(|check| check.source != Source::Template);
    p.remark_if(analysis.plain_bounds == Some(true) && !judged, "spec.analysis.plainBounds", text);
    let webhooks = webhooks(&analysis.webhooks, p);
    let has = |kind| webhooks.iter().any(|webhook| webhook.kind == kind);
    let loads = has(WebhookKind::Rollout);
    let tests = loads || has(WebhookKind::PreRollout);
    let domain = serving::domain_of(spec);
    let mut direct = if tests { serving::direct_names(namespace, spec, domain) } else { Vec::new() };
    // One that is delegated to is where the delegating one is: nobody knows from here whether that is in the mesh.
    let delegated = spec.service.delegation == Some(true);
    let in_sidecars = spec.target_ref.kind != PROCESS && (spec.service.is_on_mesh() || delegated);
    if spec.target_ref.kind != PROCESS && !in_sidecars {
        check_load_tests(spec, &direct, p);
    }
    let mut steps = strategy::steps(analysis, p);
    if loads && !direct.is_empty() {
        steps = steps.into_iter().map(Step::with_load_tests).collect();
    } else if in_sidecars {
        // Callers' sidecars know the canary's own Service. What they see of load tests is counted; nobody knows whether they see any. Who
        // makes them may be no webhook of the Canary's.
        direct = serving::own_names(namespace, spec, domain);
        steps = steps.into_iter().map(Step::with_load_tests_perhaps).collect();
    }
    if judged && steps.iter().any(|step| !(step.judged || step.direct && loads)) {
        let host = format!("{}.{namespace}", spec.canary_service());
        let how = match (spec.service.is_on_mesh(), delegated) {
            (true, _) => format!(
                "nobody calls the idle canary; to have it judged, let a rollout webhook call http://{host} from a pod with a sidecar that \
                 service.callers names"
            ),
            (false, true) => format!(
                "nobody calls the idle canary; to have it judged, let the VirtualService that delegates name the gateway mesh, and a rollout \
                 webhook call http://{host} from a pod with a sidecar that service.callers names"
            ),
            (false, false) => format!(
                "no gateway sees a load test of the idle canary; to have it judged, add {host} to service.hosts, and let a rollout \
                 webhook call the gateway with that host"
            ),
        };
        p.remark("spec.analysis.metrics", format!("built-in metrics are judged from the switch on: {how}"));
    }
    let plan = Plan {
        canary: format!("{name}.{namespace}"),
        target: format!("{}.{namespace}", spec.target_ref.name),
        canary_service: format!("{}.{namespace}", spec.canary_service()),
        direct,
        steps,
        promotion_step: promotion_step(analysis, p),
        interval: interval(analysis, p),
        threshold: threshold(analysis, p),
        latency_ms: latency_edges(&checks),
        checks,
        webhooks,
        min_requests: p.whole("spec.analysis.minRequests", analysis.min_requests, 10, 0..=1_000_000_000),
        plain_bounds: analysis.plain_bounds == Some(true),
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
        alpha: p.number("spec.analysis.alpha", analysis.alpha, 0.01, 1e-9..=0.5),
        latency_ratio: p.number("spec.analysis.latencyRatio", analysis.latency_ratio, 2.0, 1.0..=1000.0),
        conditions: strategy::conditions(&analysis.r#match, p),
        affinity: analysis.session_affinity.as_ref().map(|affinity| cookie(affinity, p)),
        admission: p.whole("spec.analysis.admission", analysis.admission, 10, 0..=1_000_000) as u32,
        observe_at_rest: spec.observe_at_rest == Some(true),
        observe_only: spec.observe_only == Some(true),
    };
    let Problems { found, remarks, deprecated, .. } = problems;
    let plan = if found.is_empty() { Ok(plan) } else { Err(found) };
    Reading { plan, remarks, deprecated }
}

fn check_name(name: &str, spec: &CanarySpec, p: &mut Problems) {
    if let Some(text) = name_problem(name) {
        p.add("metadata.name", text);
    }
    if name.len() > limits::LABEL && spec.target_ref.kind != PROCESS {
        let (length, limit) = (name.len(), limits::LABEL);
        let text =
            format!("has {length} characters, and {limit} is the limit, as it is the value of a label: shorten it");
        p.add("metadata.name", text);
    }
}

fn check_target(spec: &CanarySpec, p: &mut Problems) {
    let target = &spec.target_ref;
    let kind = target.kind.as_str();
    let known = TargetKind::of(kind);
    if known.is_none() && kind != PROCESS {
        let known = words(TargetKind::ALL, TargetKind::word).join(" or ");
        let text = format!("{kind:?} cannot be released: use {known} in a cluster, {PROCESS} with weir standalone");
        p.add("spec.targetRef.kind", text);
    }
    if let Some(text) = name_problem(&target.name) {
        p.add("spec.targetRef.name", text);
    }
    other_version(
        "spec.targetRef.apiVersion",
        target.api_version.as_deref(),
        &known.unwrap_or_default().api_version(),
        p,
    );
    let Some(scaler) = &spec.autoscaler_ref else { return };
    let kind = scaler.kind.as_str();
    if AutoscalerKind::of(kind).is_none() {
        let known = words(AutoscalerKind::ALL, AutoscalerKind::word).join(" or ");
        p.add("spec.autoscalerRef.kind", format!("{kind:?} is not supported: use {known}"));
    }
    if let Some(text) = name_problem(&scaler.name) {
        p.add("spec.autoscalerRef.name", text);
    }
    other_version("spec.autoscalerRef.apiVersion", scaler.api_version.as_deref(), "autoscaling/v2", p);
    let text = "has no effect: it is for a ScaledObject, which is not supported";
    p.remark_if(!scaler.primary_scaler_queries.is_empty(), "spec.autoscalerRef.primaryScalerQueries", text);
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

/// Notes an API version that is not the one that is used. Old ones are in many manifests (`extensions/v1beta1`,
/// `autoscaling/v2beta2`), and the API server serves their objects under the new one.
fn other_version(field: &str, given: Option<&str>, used: &str, p: &mut Problems) {
    if let Some(given) = given.filter(|given| !given.is_empty() && *given != used) {
        p.remark(field, format!("{given} has no effect: {used} is used"));
    }
}

fn check_unsupported(spec: &CanarySpec, p: &mut Problems) {
    if spec.analysis.mirror == Some(true) {
        let text = "is not supported: remove it; a first weight of 0.01 risks one request in 10,000";
        p.add("spec.analysis.mirror", text);
    }
    let text = "has no effect: requests are not copied to the canary";
    p.remark_if(spec.analysis.mirror_weight.is_some(), "spec.analysis.mirrorWeight", text);
    for (field, mesh, given) in [
        ("spec.ingressRef", "NGINX and Skipper", &spec.ingress_ref),
        ("spec.routeRef", "APISIX", &spec.route_ref),
        ("spec.upstreamRef", "Gloo", &spec.upstream_ref),
    ] {
        if given.is_some() {
            let remedy = "remove it, and give service.gateways and service.hosts";
            p.add(field, format!("is for {mesh}, and Weir releases through Istio: {remedy}"));
        }
    }
    if let Some(provider) = spec.provider.as_deref().filter(|provider| RouterKind::of(Some(provider)).is_none()) {
        let known = words(RouterKind::ALL, RouterKind::word).join(" or ");
        let remedy = "remove the field, and give service.gateways and service.hosts";
        p.add("spec.provider", format!("{provider} is not supported: only {known} is; {remedy}"));
    }
    for (field, percent) in [
        ("spec.analysis.primaryReadyThreshold", spec.analysis.primary_ready_threshold),
        ("spec.analysis.canaryReadyThreshold", spec.analysis.canary_ready_threshold),
    ] {
        p.whole(field, percent, 100, 0..=100);
    }
}

fn check_alerts(analysis: &AnalysisSpec, p: &mut Problems) {
    limits::count(p, "spec.analysis.alerts", "alerts", analysis.alerts.len(), limits::ALERTS);
    for (i, alert) in analysis.alerts.iter().enumerate() {
        let severity = alert.severity.as_deref().filter(|severity| !severity.is_empty()).unwrap_or("info");
        if !["info", "warn", "error"].contains(&severity) {
            let text = format!("{severity:?} is not a severity: use info, warn or error");
            p.add(format!("spec.analysis.alerts[{i}].severity"), text);
        }
    }
}

/// Returns how many failed checks end a rollout. Flagger takes 0 for 1.
fn threshold(analysis: &AnalysisSpec, p: &mut Problems) -> u32 {
    let field = "spec.analysis.threshold";
    p.remark_if(analysis.threshold == Some(0), field, "0 is taken for 1: the first failed check ends the rollout");
    p.whole(field, analysis.threshold.filter(|threshold| *threshold != 0), 1, 1..=1_000_000) as u32
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
