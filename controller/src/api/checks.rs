//! The metrics and webhooks of an analysis, validated.

use std::collections::BTreeSet;

use super::analysis::{MetricSpec, WebhookSpec};
use super::duration::parse_duration;
use super::problem::Problems;
use crate::rollout::{Bounds, Check, Source, Webhook, WebhookKind};

/// Edges of the latency histogram in milliseconds, about a factor of two apart, where services live. The bound of a
/// `request-duration` metric is added as an edge of its own, so that its share is counted and not interpolated.
pub const DEFAULT_LATENCY_MS: [u32; 16] = [1, 2, 5, 10, 25, 50, 75, 100, 150, 250, 500, 750, 1000, 2500, 5000, 10_000];

/// An hour: no bound on a request's duration is longer.
const MAX_LATENCY_MS: f64 = 3_600_000.0;
/// Metrics that the gateway's own counters answer.
pub(super) const BUILT_IN: [(&str, Source); 2] =
    [("request-success-rate", Source::SuccessRate), ("request-duration", Source::Duration)];

/// Returns whether the gateway's own counters answer a metric.
pub(crate) fn is_built_in(name: &str) -> bool {
    BUILT_IN.iter().any(|(built_in, _)| *built_in == name)
}

const WEBHOOKS: [(&str, WebhookKind); 8] = [
    ("confirm-rollout", WebhookKind::ConfirmRollout),
    ("pre-rollout", WebhookKind::PreRollout),
    ("rollout", WebhookKind::Rollout),
    ("confirm-traffic-increase", WebhookKind::ConfirmTrafficIncrease),
    ("confirm-promotion", WebhookKind::ConfirmPromotion),
    ("post-rollout", WebhookKind::PostRollout),
    ("rollback", WebhookKind::Rollback),
    ("event", WebhookKind::Event),
];

/// Returns the metrics that must stay in their bounds.
pub(super) fn checks(metrics: &[MetricSpec], p: &mut Problems) -> Vec<Check> {
    let mut names = BTreeSet::new();
    let mut checks = Vec::new();
    for (i, metric) in metrics.iter().enumerate() {
        let at = format!("spec.analysis.metrics[{i}]");
        if !names.insert(metric.name.as_str()) {
            p.add(format!("{at}.name"), format!("{} is used twice: give every metric its own name", metric.name));
        }
        metric.interval.as_deref().and_then(|text| p.keep(&format!("{at}.interval"), parse_duration(text)));
        let Some(source) = p.keep(&format!("{at}.name"), source(metric)) else { continue };
        if let Some(bounds) = bounds(&at, metric, source, p) {
            checks.push(Check { name: metric.name.clone(), source, bounds });
        }
    }
    checks
}

fn source(metric: &MetricSpec) -> Result<Source, String> {
    let name = &metric.name;
    let built_in = BUILT_IN.iter().find(|(built_in, _)| built_in == name).map(|(_, source)| *source);
    match (built_in, &metric.template_ref) {
        (Some(_), Some(_)) => Err(format!("{name} is built in and takes no templateRef: give the metric another name")),
        (Some(source), None) => Ok(source),
        (None, Some(_)) => Ok(Source::Template),
        (None, None) if metric.query.is_some() => Ok(Source::Template),
        (None, None) => Err(format!(
            "{name:?} is not built in (request-success-rate and request-duration are): correct it, or add a templateRef"
        )),
    }
}

/// Returns a metric's bounds. A built-in metric has the bound that a bad canary would break.
fn bounds(at: &str, metric: &MetricSpec, source: Source, p: &mut Problems) -> Option<Bounds> {
    let bounds = match (metric.threshold_range, metric.threshold) {
        (Some(range), None) => Bounds { min: range.min, max: range.max },
        (None, Some(min)) if source == Source::SuccessRate => Bounds { min: Some(min), max: None },
        (None, Some(max)) => Bounds { min: None, max: Some(max) },
        (Some(_), Some(_)) => {
            p.add(format!("{at}.threshold"), "and thresholdRange exclude each other: keep thresholdRange");
            return None;
        }
        (None, None) => {
            p.add(format!("{at}.thresholdRange"), "is missing: give min, max or both");
            return None;
        }
    };
    let field = format!("{at}.{}", if metric.threshold.is_some() { "threshold" } else { "thresholdRange" });
    let problem = match (bounds.min, bounds.max) {
        (None, None) => Some("is empty: give min, max or both".to_owned()),
        (min, max) if min.into_iter().chain(max).any(|bound| !bound.is_finite()) => {
            Some("has a bound that is not a number".to_owned())
        }
        (Some(min), Some(max)) if min > max => Some(format!("min {min} is above max {max}: exchange them")),
        (min, _) if source == Source::SuccessRate && !min.is_some_and(|min| (0.0..=100.0).contains(&min)) => {
            Some("needs a min from 0 to 100: the success rate is given in percent".to_owned())
        }
        (_, max) if source == Source::Duration && !max.is_some_and(is_edge) => Some(
            "needs a max that is a whole number from 1 to 3600000: the duration is given in milliseconds".to_owned(),
        ),
        _ => None,
    };
    match problem {
        Some(text) => {
            p.add(field, text);
            None
        }
        None => Some(bounds),
    }
}

fn is_edge(milliseconds: f64) -> bool {
    milliseconds.fract() == 0.0 && (1.0..=MAX_LATENCY_MS).contains(&milliseconds)
}

/// Returns the edges of the latency histogram.
pub(super) fn latency_edges(checks: &[Check]) -> Vec<u32> {
    let bound = checks.iter().find(|check| check.source == Source::Duration).and_then(|check| check.bounds.max);
    let edges: BTreeSet<u32> = DEFAULT_LATENCY_MS.into_iter().chain(bound.map(|ms| ms as u32)).collect();
    edges.into_iter().collect()
}

/// Returns the calls to other programs.
pub(super) fn webhooks(specs: &[WebhookSpec], p: &mut Problems) -> Vec<Webhook> {
    let mut names = BTreeSet::new();
    let mut webhooks = Vec::new();
    for (i, spec) in specs.iter().enumerate() {
        let at = format!("spec.analysis.webhooks[{i}]");
        if spec.name.is_empty() || !names.insert(spec.name.as_str()) {
            let text = format!("{:?} is empty or used twice: give every webhook its own name", spec.name);
            p.add(format!("{at}.name"), text);
        }
        let host = spec.url.strip_prefix("http://").or(spec.url.strip_prefix("https://")).unwrap_or_default();
        if host.is_empty() || host.starts_with('/') || spec.url.contains(char::is_whitespace) {
            p.add(format!("{at}.url"), format!("{:?} is not an address: begin with http:// or https://", spec.url));
        }
        spec.timeout.as_deref().and_then(|text| p.keep(&format!("{at}.timeout"), parse_duration(text)));
        p.whole(&format!("{at}.retries"), spec.retries, 0, 0..=100);
        let word = spec.kind.as_deref().filter(|word| !word.is_empty()).unwrap_or("rollout");
        match WEBHOOKS.iter().find(|(name, _)| *name == word) {
            Some((_, kind)) => webhooks.push(Webhook { name: spec.name.clone(), kind: *kind }),
            None => {
                let known = WEBHOOKS.map(|(name, _)| name).join(", ");
                p.add(format!("{at}.type"), format!("{word:?} is not a kind of webhook: use one of {known}"));
            }
        }
    }
    webhooks
}
