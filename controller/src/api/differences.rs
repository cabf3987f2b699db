//! What works with Flagger and otherwise with Weir: an entry for each field that an object uses of those that docs/flagger.md says differ.
//! What Weir refuses, and what has no effect, is told by whoever reads the spec.

use weir_engine::Span;

use super::analysis::{AnalysisSpec, MetricSpec, WebhookSpec};
use super::canary::CanarySpec;
use super::checks::is_built_in;
use super::duration::parse_duration;
use super::kinds::PROCESS;
use super::object::Object;
use super::problem::Problem;
use super::providers::{AlertProviderSpec, MetricTemplateSpec};
use super::read::{Known, Parsed};

/// Flagger waits so long where less is asked for.
const SHORTEST: Span = Span::seconds(10);

/// Returns what of an object is done otherwise than Flagger does it.
#[must_use]
pub fn differences(parsed: &Parsed) -> Vec<Problem> {
    match &parsed.object {
        // No Flagger releases a Process.
        Known::Canary(canary) if canary.spec.target_ref.kind == PROCESS => Vec::new(),
        Known::Canary(canary) => of_canary(canary, parsed.namespace()),
        Known::MetricTemplate(template) => of_template(&template.spec),
        Known::AlertProvider(provider) => of_provider(&provider.spec),
        Known::Process(_) | Known::Secret(_) | Known::Other => Vec::new(),
    }
}

/// Returns what of a Canary is done otherwise; its namespace is known where the document gives one.
fn of_canary(canary: &Object<CanarySpec>, namespace: Option<&str>) -> Vec<Problem> {
    let spec = &canary.spec;
    let mut found = Found::default();
    let text = "starts and advances nothing, and still takes a bad canary back; Flagger does nothing at all";
    found.add_if(spec.suspend == Some(true), "spec.suspend", text);
    let service = &spec.service;
    if service.gateways.iter().all(|gateway| gateway == "mesh") && service.delegation != Some(true) {
        let text = "names no gateway: requests are split in the sidecars of callers in the Canary's namespace; name callers elsewhere in \
                    service.callers";
        found.add("spec.service.gateways", text);
    }
    let text =
        "makes the apex alone headless for requests from inside of the mesh: a sidecar would split nothing otherwise";
    found.add_if(service.headless == Some(true) && service.is_on_mesh(), "spec.service.headless", text);
    analysis(&spec.analysis, &mut found);
    for (i, metric) in spec.analysis.metrics.iter().enumerate() {
        of_metric(&format!("spec.analysis.metrics[{i}]"), metric, &spec.analysis, &mut found);
    }
    for (i, webhook) in spec.analysis.webhooks.iter().enumerate() {
        of_webhook(&format!("spec.analysis.webhooks[{i}]"), webhook, &mut found);
    }
    for (i, alert) in spec.analysis.alerts.iter().enumerate() {
        let of = alert.provider_ref.namespace.as_deref().filter(|of| !of.is_empty() && Some(*of) != namespace);
        if let Some(of) = of {
            let name = &alert.provider_ref.name;
            let when = if namespace.is_none() {
                format!(", for a Canary of another namespace than {of},")
            } else {
                String::new()
            };
            let text = format!(
                "is not delivered{when} until {of} allows it: annotate the AlertProvider {name} there with weir.dev/shared: \"true\", or name {of} \
                 in the chart's calls.sharedNamespaces (Weir's own namespace needs neither)"
            );
            found.add(format!("spec.analysis.alerts[{i}].providerRef.namespace"), text);
        }
    }
    if let Some(affinity) = &spec.analysis.session_affinity {
        let text = "is one cookie for both arms, true to the weight; Flagger's keeps whoever has met the canary there";
        found.add("spec.analysis.sessionAffinity.cookieName", text);
        let text = "is the primary's clients' cookie, true to the weight; it ends where no release is under way";
        let primary = affinity.primary_cookie_name.is_some();
        found.add_if(primary, "spec.analysis.sessionAffinity.primaryCookieName", text);
    }
    found.0
}

fn analysis(spec: &AnalysisSpec, found: &mut Found) {
    let interval = spec.interval.as_deref().and_then(|text| parse_duration(text).ok());
    if let Some(interval) = interval.filter(|interval| *interval < SHORTEST) {
        found.add("spec.analysis.interval", format!("is {interval} here; Flagger takes 10s for anything shorter"));
    }
    let judged = spec.metrics.iter().any(|metric| is_judged(metric, spec));
    let text = "counts webhooks, templates and a success rate of min: 100; any other bound of a built-in metric is judged with its \
                uncertainty, and fails no check (analysis.plainBounds: true has it fail checks, as with Flagger)";
    found.add_if(spec.threshold.is_some() && judged, "spec.analysis.threshold", text);
    let built_in = spec.metrics.iter().any(|metric| is_built_in(&metric.name));
    let text = "of blue/green: the built-in metrics are judged while the canary is idle where a gateway or a sidecar sees the load test, and \
                elsewhere from the switch on";
    let blue_green = spec.iterations.is_some() && spec.r#match.is_empty();
    found.add_if(blue_green && built_in, "spec.analysis.iterations", text);
    if let Some((steps, beyond)) = overshoot(spec) {
        let text = format!("is the last step exactly: {steps} %; Flagger goes on to {beyond} %");
        found.add("spec.analysis.maxWeight", text);
    }
}

/// Returns the weights, and the last one that Flagger has, where it goes beyond `maxWeight`.
fn overshoot(spec: &AnalysisSpec) -> Option<(String, f64)> {
    let (by, max) = (spec.step_weight?, spec.max_weight?);
    if !spec.step_weights.is_empty() || spec.iterations.is_some() || by < 1.0 || !(by..100.0).contains(&max) {
        return None;
    }
    let steps = (max / by).ceil();
    let beyond = (steps * by).min(100.0);
    let weights: Vec<f64> = (1..).map(|n| f64::from(n) * by).take_while(|weight| *weight < max).chain([max]).collect();
    // The last ones say how it ends. Weights are multiples of 0.01; what a binary fraction adds to them is nobody's number.
    let from = weights.len().saturating_sub(4);
    let last = weights.iter().skip(from).map(|weight| ((weight * 100.0).round() / 100.0).to_string());
    let shown: Vec<String> = (from > 0).then(|| "…".to_owned()).into_iter().chain(last).collect();
    (beyond > max).then(|| (shown.join(", "), (beyond * 100.0).round() / 100.0))
}

/// Returns whether a metric has a bound that is judged with its uncertainty.
fn is_judged(metric: &MetricSpec, analysis: &AnalysisSpec) -> bool {
    let exact = metric.threshold_range.is_some_and(|range| range.min == Some(100.0));
    let bound = metric.threshold_range.is_some() || metric.threshold.is_some();
    is_built_in(&metric.name) && bound && !exact && analysis.plain_bounds != Some(true)
}

fn of_metric(at: &str, metric: &MetricSpec, analysis: &AnalysisSpec, found: &mut Found) {
    if !is_built_in(&metric.name) {
        return;
    }
    let text = "is two checks: the gateway's own counters, and the template";
    found.add_if(metric.template_ref.is_some(), format!("{at}.name"), text);
    // One that is given is told as what has no effect.
    let text = "is none: the gateway counts since the step began; Flagger asks for the last minute";
    found.add_if(metric.interval.is_none() && metric.template_ref.is_none(), format!("{at}.interval"), text);
    if is_judged(metric, analysis) && metric.threshold_range.is_some() {
        let text = "holds the weight while the value is outside (Undecided), and takes the canary back once that is shown; with Flagger each \
                    value outside is a failed check";
        found.add(format!("{at}.thresholdRange"), text);
    }
}

fn of_webhook(at: &str, webhook: &WebhookSpec, found: &mut Found) {
    let gate = webhook.kind.as_deref() == Some("confirm-traffic-increase");
    let text = "asks a question of its own for each increase, and also before the first step of an A/B test and the switch of blue/green";
    found.add_if(gate, format!("{at}.type"), text);
    let text = "mutes the alerts of its failed checks too, which Flagger tells nobody of";
    found.add_if(webhook.mute_alert == Some(true), format!("{at}.muteAlert"), text);
}

/// Returns what of a MetricTemplate is done otherwise, or has no effect.
fn of_template(template: &MetricTemplateSpec) -> Vec<Problem> {
    let mut found = Found::default();
    let query = template.query.as_deref().unwrap_or_default();
    let text = "must have one result, where Flagger takes any of several: aggregate it, by sum(…) for instance";
    // What others ask in their own language is told to be none of Weir's.
    let is_ours = ["", "prometheus"].contains(&template.provider.kind.as_str());
    found.add_if(is_ours && may_have_several(query), "spec.query", text);
    found.0
}

/// Returns whether a query of a Prometheus may have several results: it is aggregated nowhere, or by a label.
fn may_have_several(query: &str) -> bool {
    let one = ["sum", "avg", "min", "max", "count", "scalar", "quantile", "vector", "absent"];
    let words = || query.split(|c: char| !c.is_alphanumeric() && c != '_');
    let by = words().any(|word| word == "by" || word == "without") && !query.contains("histogram_quantile");
    by || !words().any(|word| one.contains(&word))
}

/// Returns what of an AlertProvider is done otherwise.
fn of_provider(provider: &AlertProviderSpec) -> Vec<Problem> {
    let mut found = Found::default();
    let kind = provider.kind.as_str();
    let given = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    let named = ["slack", "rocket", "discord"].contains(&kind);
    found.add_if(
        named && !given(&provider.username),
        "spec.username",
        "is none: messages come from weir, and not from flagger",
    );
    let text = "is sent an Adaptive Card: give a webhook of Workflows, since the connectors that read Flagger's messages are retired";
    found.add_if(kind == "msteams", "spec.address", text);
    let both = given(&provider.address) && provider.secret_ref.is_some() && kind != "msteams";
    let text = "holds beside a Secret without the key address, where Flagger sends nothing";
    found.add_if(both, "spec.address", text);
    found.add_if(given(&provider.proxy), "spec.proxy", "is asked by CONNECT, for http:// addresses too");
    let text = "with the key token alone it is a bot of Slack's own API: one message for each rollout, edited in place";
    found.add_if(kind == "slack" && provider.secret_ref.is_some(), "spec.secretRef.name", text);
    found.0
}

#[derive(Default)]
struct Found(Vec<Problem>);

impl Found {
    fn add(&mut self, field: impl Into<String>, text: impl Into<String>) {
        self.0.push(Problem::new(field, text));
    }

    fn add_if(&mut self, is: bool, field: impl Into<String>, text: &str) {
        if is {
            self.add(field, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(analysis: Value) -> Vec<String> {
        told_in(Some("shop"), analysis)
    }

    fn told_in(namespace: Option<&str>, analysis: Value) -> Vec<String> {
        let spec = json!({"targetRef": {"kind": "Deployment", "name": "cart"}, "service": {"port": 80, "gateways": ["public"]},
                          "analysis": analysis});
        let canary = json!({"apiVersion": "weir.dev/v1beta1", "kind": "Canary", "metadata": {"name": "cart", "namespace": "shop"},
                            "spec": spec});
        of_canary(&serde_json::from_value(canary).unwrap(), namespace).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn weights_that_flagger_overshoots_are_named_with_both() {
        let said = "spec.analysis.maxWeight: is the last step exactly: 20, 40, 50 %; Flagger goes on to 60 %";
        assert_eq!(told(json!({"stepWeight": 20, "maxWeight": 50})), [said]);
        let said = "spec.analysis.maxWeight: is the last step exactly: …, 21, 24, 27, 29 %; Flagger goes on to 30 %";
        assert_eq!(told(json!({"stepWeight": 3, "maxWeight": 29})), [said]);
        // Both stop at all of it, and where the steps meet it.
        for same in
            [json!({"stepWeight": 30}), json!({"stepWeight": 10, "maxWeight": 50}), json!({"stepWeights": [30, 50]})]
        {
            assert_eq!(told(same.clone()), [""; 0], "{same}");
        }
    }

    #[test]
    fn an_alert_that_nobody_would_get_is_named_with_what_to_do() {
        let alert = |namespace: &str| json!({"stepWeight": 10, "alerts": [{"name": "a", "providerRef": {"name": "chat", "namespace": namespace}}]});
        let said = told(alert("ops"));
        assert!(said[0].starts_with("spec.analysis.alerts[0].providerRef.namespace: is not delivered"), "{said:?}");
        assert!(said[0].contains("weir.dev/shared"), "{said:?}");
        assert_eq!(told(alert("shop")), [""; 0]);
        assert_eq!(told(alert("")), [""; 0]);
        // Whoever applies it says where it goes.
        let said = told_in(None, alert("shop"));
        assert!(said[0].contains("is not delivered, for a Canary of another namespace than shop, until"), "{said:?}");
    }

    #[test]
    fn a_query_that_may_have_several_results_is_named() {
        for (query, several) in [
            ("up", true),
            ("rate(errors[1m])", true),
            ("sum(rate(errors[1m])) by (pod)", true),
            ("sum(rate(errors[1m]))", false),
            ("histogram_quantile(0.99, sum(rate(t_bucket[1m])) by (le))", false),
        ] {
            assert_eq!(may_have_several(query), several, "{query}");
        }
    }
}
