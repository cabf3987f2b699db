//! Metrics that a Prometheus answers: a MetricTemplate with the Canary's words filled in, asked at the end of each interval.

use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use serde::Deserialize;
use weir_engine::{CheckResult, Span};

use super::Template;
use super::credentials::authorization;
use super::template::Words;
use crate::api::analysis::MetricSpec;
use crate::api::{CanarySpec, MetricProvider, MetricTemplateSpec, Object, Problem, parse_duration};
use crate::http_client::Certificates;
use crate::outbound::Outbound;
use crate::text::excerpt;

/// Least time that a query looks back where the metric gives none; Flagger's for its own queries.
pub(super) const LOOKS_BACK: Span = Span::seconds(60);
/// Time for an answer; Flagger's.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A metric of a Canary that the gateway's own counters do not answer.
#[derive(Clone, Debug)]
pub(super) struct Metric {
    /// The Canary's.
    pub(super) namespace: String,
    pub(super) source: Source,
    pub(super) words: Words,
}

#[derive(Clone, Debug)]
pub(super) enum Source {
    /// A MetricTemplate, by its namespace and name.
    Template(String, String),
    /// What the Canary says itself, by the deprecated `query` and `metricsServer`.
    Own(MetricTemplateSpec),
}

/// A question that is complete.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    /// Namespace that asks.
    namespace: String,
    uri: Uri,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Namespace and name of the Secret with the credentials.
    secret: Option<(String, String)>,
    certificates: Certificates,
    /// As people are shown it.
    address: String,
    text: String,
}

/// Words of a query that stand for a Canary's own.
pub(super) const WORDS: [&str; 7] = ["name", "namespace", "service", "ingress", "route", "target", "interval"];

fn milliseconds(span: Span) -> String {
    format!("{}ms", span.0)
}

impl Metric {
    /// Takes in a metric as the user wrote it. `interval` is that of the analysis.
    pub(super) fn of(canary: &Object<CanarySpec>, metric: &MetricSpec, interval: Span) -> Self {
        let spec = &canary.spec;
        let target = spec.target_ref.name.clone();
        let service = spec.service.name.clone().unwrap_or_else(|| target.clone());
        let looks_back = match &metric.interval {
            // Go reads fractions, a Prometheus does not.
            Some(text) if text.contains('.') => parse_duration(text).map_or_else(|_| text.clone(), milliseconds),
            Some(text) => text.clone(),
            // A rate needs two scrapes, which are up to half a minute apart.
            None => milliseconds(interval.max(LOOKS_BACK)),
        };
        let own = [
            ("name", canary.metadata.name.clone()),
            ("namespace", canary.metadata.namespace.clone()),
            ("service", service),
            ("ingress", target.clone()),
            ("route", target.clone()),
            ("target", target),
            ("interval", looks_back),
        ];
        let source = match &metric.template_ref {
            Some(template) => {
                let namespace = template.namespace.clone().filter(|namespace| !namespace.is_empty());
                Source::Template(namespace.unwrap_or_else(|| canary.metadata.namespace.clone()), template.name.clone())
            }
            None => Source::Own(MetricTemplateSpec {
                provider: MetricProvider { address: spec.metrics_server.clone(), ..MetricProvider::default() },
                query: metric.query.clone(),
            }),
        };
        let namespace = canary.metadata.namespace.clone();
        let foreign = matches!(&source, Source::Template(of, _) if *of != namespace);
        Self {
            namespace,
            source,
            words: Words { own: own.into(), variables: metric.template_variables.clone(), foreign },
        }
    }

    /// Returns what to ask; nothing while it is not known yet which MetricTemplates there are.
    ///
    /// # Errors
    /// Why it cannot be asked, for people.
    pub(super) fn query(&self, templates: impl Fn(&str, &str) -> Template) -> Result<Option<Query>, String> {
        let (template, of) = match &self.source {
            Source::Own(template) => (template.clone(), String::new()),
            Source::Template(namespace, name) => match templates(namespace, name) {
                Template::Found(template) => (template, format!("MetricTemplate {namespace}/{name}: ")),
                Template::Unusable(problem) => return Err(format!("MetricTemplate {namespace}/{name}: {problem}")),
                Template::Missing => {
                    return Err(format!(
                        "there is no MetricTemplate {namespace}/{name}; add it, or correct templateRef"
                    ));
                }
                Template::NotKnownYet => return Ok(None),
            },
        };
        self.filled_in(&template).map(Some).map_err(|problem| format!("{of}{}", problem.text))
    }

    /// Returns the question, or the field for which there is none and why.
    pub(super) fn filled_in(&self, template: &MetricTemplateSpec) -> Result<Query, Problem> {
        let provider = &template.provider;
        if !["", "prometheus"].contains(&provider.kind.as_str()) {
            let text = format!("provider type {} is not supported: use prometheus", provider.kind);
            return Err(Problem::new("spec.provider.type", text));
        }
        let secret = match (&provider.secret_ref, &self.source) {
            (Some(secret), Source::Template(own, _)) => {
                if secret.namespace.as_ref().is_some_and(|namespace| !namespace.is_empty() && namespace != own) {
                    let text =
                        format!("provider.secretRef: a Secret of the template's own namespace {own} is read alone");
                    return Err(Problem::new("spec.provider.secretRef.namespace", text));
                }
                Some((own.clone(), secret.name.clone()))
            }
            _ => None,
        };
        let address = provider.address.clone().filter(|address| !address.is_empty());
        let of_address = |text: String| Problem::new("spec.provider.address", text);
        let none = match &self.source {
            Source::Own(_) => {
                "no address of a Prometheus is given for a metric with a query of its own: set metricsServer"
            }
            Source::Template(..) => "no address of a Prometheus is given: set provider.address",
        };
        let address = address.ok_or_else(|| of_address(none.into()))?;
        let of_query = |text: String| Problem::new("spec.query", text);
        let text = self.words.fill(template.query.as_deref().unwrap_or_default().trim()).map_err(of_query)?;
        if text.is_empty() {
            return Err(of_query("the query is empty".into()));
        }
        let asked = form_urlencoded::Serializer::new(String::new()).append_pair("query", &text).finish();
        if address.contains('@') {
            // Not shown: it may hold a password.
            let text = "the address holds a user's name: give secretRef, or headers, authorization for instance";
            return Err(of_address(text.into()));
        }
        let uri = format!("{}/api/v1/query?{asked}", address.trim_end_matches('/')).parse::<Uri>().ok();
        let uri = uri.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && !address.contains(['?', '#']));
        let uri = uri.ok_or_else(|| {
            of_address(format!(
                "{address:?} is not an address: begin with http:// or https://, and leave out what follows ? or #"
            ))
        })?;
        let mut headers = Vec::new();
        for (name, values) in &provider.headers {
            for value in values {
                let header = name.parse().ok().zip(value.parse().ok());
                headers.push(header.ok_or_else(|| {
                    let text = format!("provider.headers: {name} is no header, or has no valid value");
                    Problem::new("spec.provider.headers", text)
                })?);
            }
        }
        let certificates = match provider.insecure_skip_verify {
            Some(true) => Certificates::Any,
            _ => Certificates::Verified,
        };
        Ok(Query { namespace: self.namespace.clone(), uri, headers, secret, certificates, address, text })
    }
}

impl Query {
    /// Asks once.
    pub(super) async fn ask(&self, outbound: &Outbound) -> CheckResult {
        let no_value = |why| CheckResult::NoValue(format!("{}: {why}", self.address));
        self.value(outbound).await.map_or_else(no_value, CheckResult::Value)
    }

    async fn value(&self, outbound: &Outbound) -> Result<f64, String> {
        let mut request = Request::builder().method(Method::GET).uri(self.uri.clone());
        if let Some(headers) = request.headers_mut() {
            headers.extend(self.headers.iter().cloned());
        }
        let mut request = request.body(Full::default()).map_err(|error| error.to_string())?;
        if let Some((namespace, name)) = &self.secret {
            let content = outbound.secret(namespace, name).await;
            let header = content.and_then(|content| authorization(&content));
            let header = header.map_err(|why| format!("Secret {namespace}/{name}: {why}"))?;
            request.headers_mut().insert(AUTHORIZATION, header);
        }
        let answer = outbound.call(&self.namespace, request, self.certificates, TIMEOUT).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let problem = |why: String| format!("{why} ({})", excerpt(&self.text));
        let status = answer.status;
        let body = answer.whole().map_err(|error| problem(format!("{error}: aggregate the query to one result")))?;
        if status.is_success() { value(&body).map_err(problem) } else { Err(problem(refusal(status, &body))) }
    }
}

/// What a Prometheus answers to a query of one moment.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answered {
    error: String,
    data: Data,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: serde_json::Value,
}

/// Returns why a query was refused, in the words of a Prometheus. What anybody else says may be a page that only the controller
/// can read, so of that there is the status alone.
fn refusal(status: StatusCode, body: &Bytes) -> String {
    let answered = serde_json::from_slice::<Answered>(body).map(|answered| answered.error).unwrap_or_default();
    format!("{status} {}", excerpt(&answered)).trim().to_owned()
}

/// Returns the one number of an answer. Flagger takes the last of several series, which is any of them.
fn value(body: &Bytes) -> Result<f64, String> {
    let Ok(answered) = serde_json::from_slice::<Answered>(body) else {
        return Err("not an answer of a Prometheus".into());
    };
    if !answered.error.is_empty() {
        return Err(excerpt(&answered.error));
    }
    let result = &answered.data.result;
    let sample = match (answered.data.result_type.as_str(), result.as_array().map(Vec::len)) {
        ("scalar", _) => &result[1],
        ("vector", Some(1)) => &result[0]["value"][1],
        ("vector", Some(0)) => return Err("the query has no result".into()),
        ("vector", Some(many)) => {
            return Err(format!("the query has {many} results: aggregate them to one, by sum or max"));
        }
        ("matrix" | "string", _) => {
            let kind = &answered.data.result_type;
            return Err(format!("the query's result is a {kind}: ask for one value of one moment"));
        }
        _ => return Err("not an answer of a Prometheus".into()),
    };
    let number = sample.as_str().and_then(|text| text.parse::<f64>().ok());
    let number = number.ok_or("the query's result is not a number")?;
    if number.is_nan() { Err("the query's result is NaN, as 0/0 is".into()) } else { Ok(number) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(data: &str) -> Result<f64, String> {
        value(&Bytes::from(format!(r#"{{"status": "success", "data": {data}}}"#)))
    }

    #[test]
    fn an_answer_is_one_number_or_says_why_it_is_none() {
        let vector = |values: &str| answer(&format!(r#"{{"resultType": "vector", "result": [{values}]}}"#));
        let series = |value: &str| format!(r#"{{"metric": {{}}, "value": [1.5, "{value}"]}}"#);
        assert_eq!(vector(&series("31.5")), Ok(31.5));
        assert_eq!(vector(&series("+Inf")), Ok(f64::INFINITY));
        assert_eq!(answer(r#"{"resultType": "scalar", "result": [1.5, "3"]}"#), Ok(3.0));
        assert_eq!(vector("").unwrap_err(), "the query has no result");
        assert!(vector(&series("NaN")).unwrap_err().contains("0/0"));
        assert!(vector(&format!("{},{}", series("1"), series("2"))).unwrap_err().contains("2 results: aggregate"));
        assert!(answer(r#"{"resultType": "matrix", "result": []}"#).unwrap_err().contains("matrix"));
        let refused = Bytes::from(r#"{"status": "error", "errorType": "bad_data", "error": "parse error at char 3"}"#);
        assert_eq!(value(&refused).unwrap_err(), "parse error at char 3");
    }

    #[test]
    fn only_a_prometheus_is_quoted_and_only_its_error() {
        let told = |body: &'static str| refusal(StatusCode::FORBIDDEN, &Bytes::from(body));
        assert_eq!(told(r#"{"status": "error", "error": "too many samples"}"#), "403 Forbidden too many samples");
        assert_eq!(told(r#"{"message": "ami-id"}"#), "403 Forbidden");
        assert_eq!(told("ami-id"), "403 Forbidden");
        assert_eq!(told(""), "403 Forbidden");
        let long = format!(r#"{{"error": "{}"}}"#, "a\\u001b[31m ".repeat(1000));
        let shown = refusal(StatusCode::FORBIDDEN, &Bytes::from(long));
        assert!(shown.len() < 200 && !shown.contains('\u{1b}'), "{shown}");
        for body in ["<html>ami-id", r#"{"data": {"resultType": "ami-id", "result": 1}}"#, r#"{"data": "ami-id"}"#] {
            assert_eq!(value(&Bytes::from(body)).unwrap_err(), "not an answer of a Prometheus");
        }
        let odd = answer(r#"{"resultType": "scalar", "result": [1, "ami-id"]}"#);
        assert_eq!(odd.unwrap_err(), "the query's result is not a number");
    }

    fn metric(metric: &str) -> Metric {
        let spec = r#"{"targetRef": {"kind": "Deployment", "name": "cart"}, "analysis": {}}"#;
        let object = format!(
            r#"{{"apiVersion": "weir.dev/v1beta1", "kind": "Canary", "metadata": {{"name": "shop", "namespace": "prod"}}, "spec": {spec}}}"#
        );
        Metric::of(&serde_json::from_str(&object).unwrap(), &serde_json::from_str(metric).unwrap(), Span(1500))
    }

    fn template(yaml: &str) -> impl Fn(&str, &str) -> Template {
        let spec: MetricTemplateSpec = serde_saphyr::from_str(yaml).unwrap();
        move |namespace, name| match (namespace, name) {
            ("prod", "errors") => Template::Found(spec.clone()),
            _ => Template::Missing,
        }
    }

    #[test]
    fn a_query_is_asked_at_the_templates_address_with_the_canarys_words() {
        let yaml = "{provider: {type: prometheus, address: 'http://prom:9090/base/', headers: {X-Scope-OrgID: [a]}}, query: 'up{w=\"{{ target }}\"}[{{ interval }}]'}";
        let errors = metric(r#"{"name": "errors", "templateRef": {"name": "errors"}}"#);
        let query = errors.query(template(yaml)).unwrap().unwrap();
        assert_eq!(query.uri.path(), "/base/api/v1/query");
        assert_eq!(query.text, "up{w=\"cart\"}[60000ms]");
        assert_eq!(query.uri.query(), Some("query=up%7Bw%3D%22cart%22%7D%5B60000ms%5D"));
        assert_eq!(query.headers.len(), 1);
    }

    #[test]
    fn what_cannot_be_asked_says_why() {
        let errors = metric(r#"{"name": "errors", "templateRef": {"name": "errors"}}"#);
        let problem = |yaml: &str| errors.query(template(yaml)).unwrap_err();
        assert!(problem("{provider: {type: datadog}}").contains("type datadog is not supported: use prometheus"));
        assert!(problem("{provider: {type: prometheus}, query: up}").contains("set provider.address"));
        assert!(problem("{provider: {type: prometheus, address: prom}, query: up}").contains("begin with http://"));
        assert!(problem("{provider: {type: prometheus, address: 'http://p'}}").contains("query is empty"));
        let password = problem("{provider: {type: prometheus, address: 'http://me:secret@p'}, query: up}");
        assert!(password.contains("give secretRef") && !password.contains("secret@"), "{password}");
        assert!(problem("{provider: {type: prometheus, address: 'http://p/?a=b'}, query: up}").contains("leave out"));
        let elsewhere = problem(
            "{provider: {type: prometheus, address: 'http://p', secretRef: {name: a, namespace: b}}, query: up}",
        );
        assert!(elsewhere.contains("own namespace prod is read alone"), "{elsewhere}");
        let other = metric(r#"{"name": "b", "templateRef": {"name": "b", "namespace": "lib"}}"#);
        assert!(other.query(template("{provider: {type: x}}")).unwrap_err().contains("no MetricTemplate lib/b"));
        assert!(matches!(errors.query(|_, _| Template::NotKnownYet), Ok(None)));
    }
}
