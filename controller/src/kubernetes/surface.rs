//! The surface is true: every field of the schema does something, is refused by name, or is remarked on as without effect.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use weir_engine::{Span, State};

use super::kinds::Labels;
use super::kinds::crd;
use super::render::{self, ArmLabels, Arms, Names, Ownership, Role};
use super::router::ownership_after_deletion;
use crate::alerts::recipients::recipients;
use crate::alerts::{AlertSettings, Provider, muted};
use crate::api::{self, AlertProviderSpec, CanarySpec, MetricTemplateSpec, Object, Problem};
use crate::checks::{CheckRunner, Template};
use crate::outbound::Outbound;

/// What the observer of the workloads reads, and whoever looks for callers: nothing is made of it that could be compared here.
const OBSERVED: [&str; 4] = [
    "analysis.primaryReadyThreshold",
    "analysis.canaryReadyThreshold",
    "service.callers.namespace",
    "service.callers.labels",
];

/// Specs that together have every field, each with a value that is not its default.
fn documents() -> Vec<Value> {
    let whole = json!({
        "targetRef": {"apiVersion": "apps/v1beta1", "kind": "Deployment", "name": "cart"},
        "autoscalerRef": {
            "apiVersion": "autoscaling/v2beta2", "kind": "HorizontalPodAutoscaler", "name": "scaler",
            "primaryScalerQueries": {"a": "b"}, "primaryScalerReplicas": {"minReplicas": 2, "maxReplicas": 3},
        },
        "progressDeadlineSeconds": 60, "skipAnalysis": true, "revertOnDeletion": true, "suspend": true,
        "observeAtRest": true,
        "service": {
            "name": "shop", "port": 80, "portName": "web", "targetPort": 8080, "appProtocol": "grpc",
            "trafficDistribution": "PreferClose", "portDiscovery": true, "headless": true, "timeout": "3s",
            "gateways": ["public"], "hosts": ["a.example.com"], "trafficPolicy": {"tls": {"mode": "SIMPLE"}},
            "match": [{"uri": {"prefix": "/a"}}], "rewrite": {"uri": "/", "authority": "b", "type": "c"},
            "retries": {"attempts": 3, "perTryTimeout": "1s", "retryOn": "5xx"},
            "headers": {"request": {"set": {"a": "b"}}}, "corsPolicy": {"allowMethods": ["GET"]},
            "apex": {"labels": {"a": "b"}, "annotations": {"a": "b"}},
            "primary": {"labels": {"a": "b"}, "annotations": {"a": "b"}},
            "canary": {"labels": {"a": "b"}, "annotations": {"a": "b"}},
            "unmanagedMetadata": {"labels": ["a"], "annotations": ["a"]},
            "backendTimeout": "3s", "gatewayRefs": [{"name": "a"}], "mirror": [{"backendRef": {"name": "a"}}],
        },
        "analysis": {
            "interval": "7s", "threshold": 3, "stepWeight": 5, "maxWeight": 50, "stepWeightPromotion": 25,
            "minRequests": 7, "insufficientDeadlineSeconds": 60, "alpha": 0.02, "latencyRatio": 3, "admission": 3,
            "matchAll": true,
            "primaryReadyThreshold": 50, "canaryReadyThreshold": 50, "mirrorWeight": 10,
            "match": [{"headers": {"a": {"exact": "b"}}, "cookies": {"a": {"exact": "b"}}, "queryParams": {"a": {"exact": "b"}}}],
            "metrics": [{
                "name": "errors", "interval": "3m", "thresholdRange": {"min": 1, "max": 2},
                "templateRef": {"name": "errors", "namespace": "lib"}, "templateVariables": {"a": "b"},
            }],
            "webhooks": [{
                "name": "test", "type": "pre-rollout", "url": "http://a/", "timeout": "5s", "retries": 2, "disableTLS": true,
                "muteAlert": true, "metadata": {"a": "b"},
            }],
            "alerts": [{"name": "a", "severity": "warn", "providerRef": {"name": "slack", "namespace": "b"}}],
            "sessionAffinity": {
                "cookieName": "a", "primaryCookieName": "b", "maxAge": 60, "domain": "example.com", "path": "/a",
                "httpOnly": true, "secure": true, "partitioned": true, "sameSite": "Strict",
            },
        },
    });
    let short = |service: Value, analysis: Value| {
        let mut spec = json!({
            "targetRef": {"kind": "Deployment", "name": "cart"},
            "service": {"port": 80}, "analysis": {"stepWeight": 5},
        });
        for (part, more) in [("service", service), ("analysis", analysis)] {
            let map = spec[part].as_object_mut().unwrap();
            map.extend(more.as_object().unwrap().clone());
        }
        spec
    };
    let with = |field: &str, value: Value| {
        let mut spec = short(json!({}), json!({}));
        spec[field] = value;
        spec
    };
    let none = || json!({});
    let mut asked = short(none(), json!({"metrics": [{"name": "a", "query": "up", "thresholdRange": {"max": 1}}]}));
    asked["metricsServer"] = "http://prometheus".into();
    let mut listed = short(none(), json!({"stepWeights": [1, 2]}));
    listed["analysis"].as_object_mut().unwrap().remove("stepWeight");
    let mut repeated = short(none(), json!({"iterations": 5}));
    repeated["analysis"].as_object_mut().unwrap().remove("stepWeight");
    vec![
        whole,
        asked,
        listed,
        repeated,
        short(none(), json!({"metrics": [{"name": "request-duration", "threshold": 500}]})),
        short(none(), json!({"plainBounds": true, "metrics": [{"name": "request-duration", "threshold": 500}]})),
        short(none(), json!({"mirror": true})),
        short(none(), json!({"match": [{"headers": {"a": {"exact": "b"}}, "sourceLabels": {"a": "b"}}]})),
        short(json!({"delegation": true}), none()),
        short(json!({"callers": [{"namespace": "web", "labels": {"app": "a"}}]}), none()),
        short(json!({"meshName": "a"}), none()),
        short(json!({"backends": ["a"]}), none()),
        with("provider", "nginx".into()),
        with("observeOnly", true.into()),
        with("ingressRef", json!({"name": "a"})),
        with("routeRef", json!({"name": "a"})),
        with("upstreamRef", json!({"name": "a"})),
    ]
}

/// Collects an object's fields that have no fields themselves, lists seen through: `analysis.metrics.name`.
fn leaves(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    if schema.get("items").is_some() {
        return leaves(&schema["items"], path, found);
    }
    let Some(fields) = schema["properties"].as_object() else {
        found.insert(path.to_owned());
        return;
    };
    for (name, field) in fields {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        leaves(field, &path, found);
    }
}

/// Returns a document without a field, if it has it.
fn without(document: &Value, path: &str) -> Option<Value> {
    let mut document = document.clone();
    let (parents, last) = path.rsplit_once('.').map_or((None, path), |(parents, last)| (Some(parents), last));
    let mut at = &mut document;
    for name in parents.into_iter().flat_map(|parents| parents.split('.')) {
        at = at.get_mut(name)?;
        at = if at.is_array() { at.get_mut(0)? } else { at };
    }
    at.as_object_mut()?.remove(last)?;
    Some(document)
}

/// What becomes of a spec: the plan, every object that is made of it, and every call to others.
fn effects(spec: &Value) -> Result<String, Vec<Problem>> {
    let read: CanarySpec =
        serde_json::from_value(spec.clone()).map_err(|error| vec![Problem::new("spec", error.to_string())])?;
    let plan = api::plan_of("shop", "cart", &read)?;
    let names = Names::new("shop", "cart", "uid", &read);
    let template = json!({"spec": {"containers": [{"name": "a", "ports": [{"name": "more", "containerPort": 9000}]}]}});
    let main = render::main_port(&read, &template, &[], &[]);
    let ports = render::ports(&read, &template, &main);
    let pods = Labels::from([("app".to_owned(), "cart".to_owned())]);
    let labels = ArmLabels::new(&names, None, None, &pods).map_err(|text| vec![Problem::new("spec", text)])?;
    let service = |role| render::service(&names, &read, role, &pods, &ports);
    let services =
        [Role::Apex(Ownership::Owned), Role::Apex(ownership_after_deletion(&read)), Role::Primary, Role::Canary]
            .map(service);
    let routes = render::virtual_service(&names, &read, Arms::Both, Ownership::Owned, false, &Map::new());
    let rule = render::destination_rule(&names, &read, None, &names.primary_service());
    let bounds = read.autoscaler_ref.as_ref().and_then(|scaler| scaler.primary_scaler_replicas.clone());
    let scaler = render::scaler(&names, "cart", &labels, &bounds.unwrap_or_default(), &json!({}));
    let mut checks = CheckRunner::new(Arc::default(), Outbound::new(None));
    let metadata = api::Metadata { name: "cart".into(), namespace: "shop".into(), ..Default::default() };
    let canary = Object { metadata, spec: read, ..Object::default() };
    checks.update(&canary, &State::default(), Span::seconds(60));
    let (analysis, settings) = (&canary.spec.analysis, AlertSettings::default());
    let alerts = (recipients("shop", analysis, &settings, |_, _| Provider::Missing), muted(analysis));
    Ok(format!("{plan:?} {names:?} {services:?} {routes} {rule} {scaler} {checks:?} {alerts:?}"))
}

/// Returns whether a problem or remark is about a field, or about all of the part that it belongs to.
fn is_about(problem: &Problem, path: &str) -> bool {
    let named: String =
        problem.field.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest)).collect();
    let field = format!("spec.{path}");
    field == named || field.strip_prefix(&named).is_some_and(|rest| rest.starts_with('.'))
}

/// What a field does in a document that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Does {
    Nothing,
    Remarked,
    Refused,
    Something,
}

fn does(document: &Value, path: &str) -> Option<Does> {
    let (with, without) = (effects(document), effects(&without(document, path)?));
    let refused = |problems: &[Problem]| problems.iter().any(|problem| is_about(problem, path));
    let remarks = || {
        let read: CanarySpec = serde_json::from_value(document.clone()).unwrap();
        api::reading("shop", "cart", &read).remarks
    };
    Some(match (with, without) {
        (Err(problems), Ok(_)) if refused(&problems) => Does::Refused,
        (Ok(with), Ok(without)) if with == without => match remarks().iter().any(|remark| is_about(remark, path)) {
            true => Does::Remarked,
            false => Does::Nothing,
        },
        // A field that something else needs is read too.
        (Ok(_), _) => Does::Something,
        (Err(_), _) => Does::Nothing,
    })
}

fn spec_of(kind: &str) -> Value {
    let (_, definition) = crd::definitions().into_iter().find(|(name, _)| *name == kind).unwrap();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
}

/// Returns a field's description, and that of everything it is part of.
fn described(schema: &Value, path: &str) -> String {
    let mut at = schema;
    let mut text = String::new();
    for name in path.split('.') {
        at = &at["properties"][name];
        text += at["description"].as_str().unwrap_or_default();
        at = at.get("items").unwrap_or(at);
        text += at["description"].as_str().unwrap_or_default();
    }
    text
}

#[test]
fn every_field_of_a_canary_does_something_or_is_refused_or_remarked_on() {
    let schema = spec_of("canaries.yaml");
    let documents = documents();
    let mut fields = BTreeSet::new();
    leaves(&schema, "", &mut fields);
    assert!(fields.len() > 90, "{fields:#?}");
    let mut wrong = Vec::new();
    for path in fields.iter().filter(|path| !OBSERVED.contains(&path.as_str())) {
        let text = described(&schema, path).to_lowercase();
        match documents.iter().filter_map(|document| does(document, path)).max() {
            None => wrong.push(format!("{path} is in no document of this test: add it")),
            Some(Does::Nothing) => wrong.push(format!("{path} is accepted, does nothing, and nobody is told")),
            Some(Does::Remarked) if !text.contains("no effect") => {
                wrong.push(format!("{path} has no effect, and kubectl explain does not say so"));
            }
            Some(Does::Refused)
                if !["refused", "not supported", "only `istio`"].iter().any(|word| text.contains(word)) =>
            {
                wrong.push(format!("{path} is refused, and kubectl explain does not say so"));
            }
            Some(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_field_of_a_metric_template_is_asked_with_or_refused_or_remarked_on() {
    let whole = json!({
        "provider": {
            "type": "prometheus", "address": "http://prometheus", "headers": {"a": ["b"]}, "insecureSkipVerify": true,
        },
        "query": "up",
    });
    let mut documents = [whole.clone(), whole.clone(), whole];
    documents[1]["provider"]["secretRef"] = json!({"name": "a", "namespace": "b"});
    documents[2]["provider"]["region"] = "b".into();
    let canary: Object<CanarySpec> = serde_json::from_value(json!({
        "apiVersion": "weir.dev/v1beta1", "kind": "Canary", "metadata": {"name": "cart"},
        "spec": {"targetRef": {"kind": "Deployment", "name": "cart"}, "analysis": {"metrics": [
            {"name": "errors", "templateRef": {"name": "errors"}}
        ]}},
    }))
    .unwrap();
    let asked = |document: &Value| match serde_json::from_value::<MetricTemplateSpec>(document.clone()) {
        Ok(template) => {
            let queries = CheckRunner::queries(&canary, |_, _| Template::Found(template.clone()));
            format!("{queries:?} {:?}", template.remarks())
        }
        Err(error) => error.to_string(),
    };
    let mut fields = BTreeSet::new();
    leaves(&spec_of("metrictemplates.yaml"), "", &mut fields);
    let secret = |path: &String| path.starts_with("provider.secretRef.");
    for path in fields.iter().filter(|path| !secret(path)).map(String::as_str).chain(["provider.secretRef"]) {
        let mut pairs = documents.iter().filter_map(|document| Some((document, without(document, path)?))).peekable();
        assert!(pairs.peek().is_some(), "{path} is in no document of this test: add it");
        assert!(pairs.any(|(with, without)| asked(with) != asked(&without)), "{path} does nothing, and nobody is told");
    }
}

#[test]
fn every_field_of_an_alert_provider_changes_what_is_sent_or_where() {
    // The services that have a channel and a sender's name are among them.
    let documents = ["slack", "webhook"].map(|kind| {
        json!({
            "type": kind, "address": "http://chat/a", "channel": "b", "username": "c", "proxy": "http://proxy:3128",
            "secretRef": {"name": "chat"},
        })
    });
    let mut fields = BTreeSet::new();
    leaves(&spec_of("alertproviders.yaml"), "", &mut fields);
    let sent = |document: &Value| match serde_json::from_value::<AlertProviderSpec>(document.clone()) {
        Ok(spec) => crate::alerts::tests::sent(&spec),
        Err(error) => error.to_string(),
    };
    for path in &fields {
        let mut pairs = documents.iter().filter_map(|document| Some((document, without(document, path)?))).peekable();
        assert!(pairs.peek().is_some(), "{path} is in no document of this test: add it");
        assert!(pairs.any(|(with, without)| sent(with) != sent(&without)), "{path} does nothing, and nobody is told");
    }
}
