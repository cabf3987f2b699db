//! The metrics and webhooks of an analysis, validated.

use std::collections::BTreeSet;

use weir_engine::{Bounds, Check, Source, Span, Webhook, WebhookKind};

use super::analysis::{MetricSpec, WebhookSpec};
use super::canary::CanarySpec;
use super::duration::parse_duration;
use super::limits;
use super::problem::Problems;

/// Edges of the latency histogram in milliseconds, about a factor of two apart, where services live. The bound of a
/// `request-duration` metric is added as an edge of its own, so that its share is counted and not interpolated.
pub const DEFAULT_LATENCY_MS: [u32; 16] = [1, 2, 5, 10, 25, 50, 75, 100, 150, 250, 500, 750, 1000, 2500, 5000, 10_000];

/// Time for one try of a webhook where it gives none; Flagger's.
const TIMEOUT: Span = Span::seconds(10);
/// Longest time for one try of a webhook. Flagger's own tests by `helm test` run for minutes within one call; each call holds one
/// of its namespace's places among those under way.
const LONGEST: Span = Span::seconds(600);
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

/// Returns the word for a type of webhook.
pub(crate) fn webhook_word(kind: WebhookKind) -> &'static str {
    WEBHOOKS.iter().find(|(_, known)| *known == kind).map_or("", |(word, _)| word)
}

/// Returns the metrics that must stay in their bounds.
pub(super) fn checks(spec: &CanarySpec, p: &mut Problems) -> Vec<Check> {
    let metrics = &spec.analysis.metrics;
    limits::count(p, "spec.analysis.metrics", "metrics", metrics.len(), limits::METRICS);
    let asked = asked(metrics);
    let own_query = asked.iter().any(|(i, _)| metrics[*i].template_ref.is_none());
    let text = "has no effect: no metric has a query of its own";
    p.remark_if(spec.metrics_server.is_some() && !own_query, "spec.metricsServer", text);
    let mut checks: Vec<Check> = Vec::new();
    for (i, metric) in metrics.iter().enumerate() {
        let at = format!("spec.analysis.metrics[{i}]");
        let asked = asked.iter().find(|(of, _)| *of == i).map(|(_, name)| name.clone());
        metric.interval.as_deref().and_then(|text| p.keep(&format!("{at}.interval"), parse_duration(text)));
        remark(&at, metric, asked.is_some(), p);
        if let Some((name, source)) = BUILT_IN.iter().find(|(name, _)| *name == metric.name) {
            // A template of that name may well measure something else, in another unit.
            let mut own = Problems::new();
            let bounds = bounds(&at, metric, *source, if asked.is_some() { &mut own } else { p });
            match bounds {
                Some(bounds) => own_counters(&mut checks, name, *source, bounds, &at, p),
                None if asked.is_some() => {
                    let text = "does not suit the gateway's own counters: the template's value alone is judged";
                    p.remark(format!("{at}.thresholdRange"), text);
                }
                None => {}
            }
        } else if asked.is_none() {
            let name = &metric.name;
            let text =
                "is not built in (request-success-rate and request-duration are): correct it, or add a templateRef";
            p.add(format!("{at}.name"), format!("{name:?} {text}"));
        }
        if let Some(name) = asked
            && let Some(bounds) = bounds(&at, metric, Source::Template, p)
        {
            checks.push(Check { name, source: Source::Template, bounds });
        }
    }
    checks
}

/// Returns the metrics that another system answers: their places, each with the name of its check. No two have the same: the second
/// `errors` is `errors (2)`, and a template under a built-in name is not the gateway's own metric.
pub(crate) fn asked(metrics: &[MetricSpec]) -> Vec<(usize, String)> {
    let asked =
        |metric: &MetricSpec| metric.template_ref.is_some() || !is_built_in(&metric.name) && metric.query.is_some();
    let asked: Vec<_> = metrics.iter().enumerate().filter(|(_, metric)| asked(metric)).collect();
    let names = asked.iter().map(|(_, metric)| match &metric.template_ref {
        Some(template) if is_built_in(&metric.name) => format!("{} of {}", metric.name, template.name),
        _ => metric.name.clone(),
    });
    asked.iter().map(|(i, _)| *i).zip(unique(names)).collect()
}

/// Returns names of which no two are the same.
fn unique(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut used = BTreeSet::new();
    let mut unique = Vec::new();
    for name in names {
        let numbered = (2..).map(|n| format!("{name} ({n})"));
        let free = std::iter::once(name.clone()).chain(numbered).find(|name| !used.contains(name)).unwrap_or_default();
        used.insert(free.clone());
        unique.push(free);
    }
    unique
}

fn remark(at: &str, metric: &MetricSpec, asked: bool, p: &mut Problems) {
    let counted = "has no effect: the gateway's own counters answer this metric, since the step began";
    if !asked && is_built_in(&metric.name) {
        p.remark_if(metric.interval.is_some(), &format!("{at}.interval"), counted);
        p.remark_if(metric.query.is_some(), &format!("{at}.query"), counted);
        p.remark_if(!metric.template_variables.is_empty(), &format!("{at}.templateVariables"), counted);
    }
    if metric.template_ref.is_some() {
        p.remark_if(metric.query.is_some(), &format!("{at}.query"), "has no effect: the template's query is asked");
    }
    match (metric.threshold, metric.threshold_range) {
        (Some(_), Some(_)) => p.remark(format!("{at}.threshold"), "has no effect: thresholdRange holds"),
        (Some(_), None) => {
            let text = "is deprecated: use thresholdRange, which says what is least and what is greatest";
            p.deprecate(format!("{at}.threshold"), text);
        }
        (None, _) => {}
    }
}

/// Adds a check of the gateway's own counters. They have one value, so of several bounds the tightest holds.
fn own_counters(checks: &mut Vec<Check>, name: &str, source: Source, bounds: Bounds, at: &str, p: &mut Problems) {
    let Some(first) = checks.iter_mut().find(|check| check.source == source) else {
        return checks.push(Check { name: name.into(), source, bounds });
    };
    let tighter = |a: Option<f64>, b: Option<f64>, pick: fn(f64, f64) -> f64| match (a, b) {
        (Some(a), Some(b)) => Some(pick(a, b)),
        (a, b) => a.or(b),
    };
    first.bounds = Bounds {
        min: tighter(first.bounds.min, bounds.min, f64::max),
        max: tighter(first.bounds.max, bounds.max, f64::min),
    };
    p.remark(format!("{at}.name"), format!("{name} is there before: one check has the tightest of their bounds"));
}

/// Returns a metric's bounds. A built-in metric has the bound that a bad canary would break.
fn bounds(at: &str, metric: &MetricSpec, source: Source, p: &mut Problems) -> Option<Bounds> {
    let bounds = match (metric.threshold_range, metric.threshold) {
        (Some(range), _) => Bounds { min: range.min, max: range.max },
        (None, Some(min)) if source == Source::SuccessRate => Bounds { min: Some(min), max: None },
        (None, Some(max)) => Bounds { min: None, max: Some(max) },
        (None, None) => {
            p.add(format!("{at}.thresholdRange"), "is missing: give min, max or both");
            return None;
        }
    };
    let field = format!("{at}.{}", if metric.threshold_range.is_some() { "thresholdRange" } else { "threshold" });
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

/// Returns the names of webhooks, of which no two are the same: Flagger takes the same name twice.
pub(crate) fn webhook_names(specs: &[WebhookSpec]) -> Vec<String> {
    unique(specs.iter().map(|spec| spec.name.clone()))
}

/// Returns the time for one try of a webhook.
///
/// # Errors
/// When it is no duration.
pub(crate) fn timeout(spec: &WebhookSpec) -> Result<Span, String> {
    let given = spec.timeout.as_deref().filter(|text| !text.is_empty()).map_or(Ok(TIMEOUT), parse_duration)?;
    Ok(if given == Span(0) { TIMEOUT } else { given.min(LONGEST) })
}

/// Returns the calls to other programs.
pub(super) fn webhooks(specs: &[WebhookSpec], p: &mut Problems) -> Vec<Webhook> {
    limits::count(p, "spec.analysis.webhooks", "webhooks", specs.len(), limits::WEBHOOKS);
    let mut webhooks = Vec::new();
    for (i, (spec, name)) in specs.iter().zip(webhook_names(specs)).enumerate() {
        let at = format!("spec.analysis.webhooks[{i}]");
        if spec.name.is_empty() {
            p.add(format!("{at}.name"), "is empty: give the webhook a name");
        } else if spec.name != name {
            p.remark(format!("{at}.name"), format!("{:?} is there before: this one is called {name:?}", spec.name));
        }
        let host = spec.url.strip_prefix("http://").or(spec.url.strip_prefix("https://")).unwrap_or_default();
        if host.is_empty() || host.starts_with('/') || spec.url.contains(char::is_whitespace) {
            p.add(format!("{at}.url"), format!("{:?} is not an address: begin with http:// or https://", spec.url));
        }
        check_timeout(&format!("{at}.timeout"), spec, p);
        p.whole(&format!("{at}.retries"), spec.retries, 0, 0..=100);
        let word = spec.kind.as_deref().filter(|word| !word.is_empty()).unwrap_or("rollout");
        match WEBHOOKS.iter().find(|(name, _)| *name == word) {
            Some((_, kind)) => webhooks.push(Webhook { name, kind: *kind }),
            None => {
                let known = WEBHOOKS.map(|(name, _)| name).join(", ");
                p.add(format!("{at}.type"), format!("{word:?} is not a kind of webhook: use one of {known}"));
            }
        }
    }
    webhooks
}

/// Notes load tests that call the canary's own Service past the gateway: the commonest recipe there is, and no filter sees it. `direct`
/// are the names of the Service that come through the gateway.
pub(super) fn check_load_tests(spec: &CanarySpec, direct: &[String], p: &mut Problems) {
    let service = spec.canary_service();
    let of_canary = spec.service.hosts.iter().find(|host| !host.starts_with('*')).map(String::as_str);
    let host = direct.first().map(String::as_str).or(of_canary).unwrap_or("HOST");
    let address = format!("//{service}");
    let calls = |text: &str| {
        let mut rests = text.match_indices(&address).map(|(at, found)| &text[at + found.len()..]);
        rests.any(|rest| rest.is_empty() || rest.starts_with(['.', ':', '/']) || rest.starts_with(char::is_whitespace))
    };
    for (i, webhook) in spec.analysis.webhooks.iter().enumerate() {
        let sends = webhook.kind.as_deref().is_none_or(|kind| ["", "rollout"].contains(&kind));
        for (key, _) in webhook.metadata.iter().filter(|(_, value)| sends && calls(value)) {
            let text = format!(
                "calls {service} past the gateway, where no filter sees it: call the gateway's address with the host {host} (hey -host \
                 {host} http://GATEWAY/)"
            );
            p.remark(format!("spec.analysis.webhooks[{i}].metadata.{key}"), text);
        }
    }
}

fn check_timeout(field: &str, spec: &WebhookSpec, p: &mut Problems) {
    let Some(used) = p.keep(field, timeout(spec)) else { return };
    let given = spec.timeout.as_deref().and_then(|text| parse_duration(text).ok());
    if let Some(text) = spec.timeout.as_deref().filter(|_| given.is_some_and(|given| given > used)) {
        p.remark(field, format!("{text} is more than a webhook may take: {} s are used", used.0 / 1000));
    }
}
