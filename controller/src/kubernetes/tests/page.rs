//! The page of the controller: the API server says who somebody is and what he may.

use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use weir_engine::{Phase, Verb};

use crate::kubernetes::api_server::object::Cached;
use crate::kubernetes::kinds::canary::CanaryView as CanaryFields;
use crate::kubernetes::page::Shared;
use crate::kubernetes::run::inherit;
use crate::page::Source as _;
use crate::status_store::StatusStore;
use crate::view::{CanaryView, Particulars};

/// What was asked of the API server.
type Asked = Arc<Mutex<Vec<(String, Value)>>>;

/// An API server that knows the token of ann, who may get Canaries of `shop` and patch `cart` there.
fn client(asked: Asked) -> Client {
    let answer = move |request: Request<Body>| {
        let asked = asked.clone();
        async move {
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let body: Value = serde_json::from_slice(&body).unwrap_or_default();
            let answer = match path.as_str() {
                "/apis/authentication.k8s.io/v1/tokenreviews" => {
                    // Eve's is taken away after the first look at it.
                    let again = asked.lock().unwrap().iter().any(|(_, before)| *before == body);
                    let token = body["spec"]["token"].as_str();
                    let known = token == Some("of ann") || token == Some("of eve") && !again;
                    json!({"metadata": {}, "spec": {}, "status": {"authenticated": known, "user": {"username": "ann", "groups": ["dev"]}}})
                }
                "/apis/authorization.k8s.io/v1/subjectaccessreviews" => {
                    let wanted = &body["spec"]["resourceAttributes"];
                    assert_eq!((&wanted["group"], &wanted["resource"]), (&json!("weir.dev"), &json!("canaries")));
                    let is_hers = body["spec"]["user"] == "ann" && wanted["namespace"] == "shop";
                    let allowed =
                        is_hers && (wanted["verb"] == "get" || wanted["verb"] == "patch" && wanted["name"] == "cart");
                    json!({"metadata": {}, "spec": {}, "status": {"allowed": allowed}})
                }
                _ => {
                    json!({"apiVersion": "weir.dev/v1beta1", "kind": "Canary", "metadata": {"name": "cart", "namespace": "shop"}})
                }
            };
            asked.lock().unwrap().push((path, body));
            Ok::<_, std::convert::Infallible>(Response::new(Body::from(Bytes::from(answer.to_string()))))
        }
    };
    Client::new(tower::service_fn(answer), "default")
}

fn page() -> (Shared, Asked, Arc<StatusStore>) {
    let (statuses, _calls) = StatusStore::new();
    for namespace in ["shop", "bank"] {
        let view = CanaryView {
            namespace: namespace.into(),
            name: "cart".into(),
            phase: Phase::Progressing,
            reason: "Analysing".into(),
            message: "a secret of the trade".into(),
            weight: 20.0,
            ..CanaryView::default()
        };
        let name = crate::status_store::Name { namespace: namespace.into(), name: "cart".into() };
        statuses.set(view, &[]);
        statuses.set_particulars(&name, Particulars::default(), weir_engine::Timestamp(1));
    }
    statuses.set_problems(vec!["of anybody".into()]);
    statuses.set_acting();
    let asked = Asked::default();
    (Shared::new(client(asked.clone()), statuses.clone()), asked, statuses)
}

#[tokio::test]
async fn who_brings_no_token_is_told_names_phases_and_weights_and_asks_for_nothing() {
    let (page, asked, _) = page();
    let anybody = page.viewer(None).await.unwrap();
    let seen = page.changes(&anybody, "").await.unwrap();
    let told: Vec<_> = seen.value.items.iter().map(|item| (item.name.as_str(), item.phase, item.weight)).collect();
    assert_eq!(told, [("cart", Phase::Progressing, 20.0), ("cart", Phase::Progressing, 20.0)]);
    let detail = page.detail(&anybody, "shop", "cart").await.unwrap().value.unwrap();
    let text = format!("{}{}", serde_json::to_string(&seen.value).unwrap(), serde_json::to_string(&detail).unwrap());
    assert!(!text.contains("secret") && !text.contains("Analysing") && !text.contains("of anybody"), "{text}");
    let refused = page.ask(&anybody, "shop", "cart", Verb::Promote).await.unwrap_err();
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(asked.lock().unwrap().is_empty(), "nobody is asked about nobody");
}

#[tokio::test]
async fn who_may_get_canaries_of_a_namespace_sees_those_and_no_others() {
    let (page, asked, _) = page();
    let ann = page.viewer(Some("of ann")).await.unwrap();
    for _ in 0..3 {
        let items = page.changes(&ann, "").await.unwrap().value.items;
        let told: Vec<_> = items.iter().map(|item| (item.namespace.as_str(), item.message.as_str())).collect();
        assert_eq!(told, [("bank", ""), ("shop", "a secret of the trade")]);
    }
    assert_eq!(page.detail(&ann, "shop", "cart").await.unwrap().value.unwrap().view.reason, "Analysing");
    let outside = page.detail(&ann, "bank", "cart").await.unwrap();
    assert_eq!(outside.value.unwrap().view.reason, "");
    assert!(outside.partial.unwrap().starts_with("ann may not get canaries.weir.dev in namespace bank"));
    assert!(page.detail(&ann, "shop", "card").await.unwrap().value.is_none());
    // One for the token, and one each for everywhere, shop and bank.
    assert_eq!(asked.lock().unwrap().len(), 4, "an answer holds for a while");
    let refused = page.viewer(Some("of somebody else")).await.err().unwrap();
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn who_may_patch_a_canary_asks_for_verbs_of_that_one_alone() {
    let (page, asked, _) = page();
    let ann = page.viewer(Some("of ann")).await.unwrap();
    page.ask(&ann, "shop", "cart", Verb::Pause).await.unwrap();
    let written = asked.lock().unwrap().last().cloned().unwrap();
    assert_eq!(written.0, "/apis/weir.dev/v1beta1/namespaces/shop/canaries/cart");
    let verb = written.1["metadata"]["annotations"]["weir.dev/verb"].as_str().unwrap().to_owned();
    assert!(verb.starts_with("pause "), "{verb}");
    for (namespace, name) in [("shop", "card"), ("bank", "cart")] {
        let refused = page.ask(&ann, namespace, name, Verb::Promote).await.unwrap_err();
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
        assert!(refused.text.starts_with("ann may not patch"), "{}", refused.text);
    }
    let writes = asked.lock().unwrap().iter().filter(|(path, _)| path.contains("/canaries/")).count();
    assert_eq!(writes, 1);
}

#[tokio::test]
async fn strangers_take_no_place_of_whoever_has_a_token() {
    let router = crate::page::router(Arc::new(page().0), crate::page::Hosts::Any);
    let open = async |token: Option<&str>| {
        let request = Request::get("/page/stream").header("host", "weir");
        let request = token.iter().fold(request, |request, token| request.header("authorization", *token));
        let request = request.body(axum::body::Body::empty()).unwrap();
        router.clone().oneshot(request).await.unwrap()
    };
    let mut told = Vec::new();
    let refused = loop {
        let answer = open(None).await;
        if answer.status() != StatusCode::OK {
            break answer.status();
        }
        told.push(answer);
    };
    assert_eq!((refused, told.len()), (StatusCode::SERVICE_UNAVAILABLE, 16));
    assert_eq!(open(Some("Bearer of ann")).await.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn who_sees_some_of_many_namespaces_is_asked_about_a_few_at_a_time_and_told_what_is_kept_from_her() {
    let (page, asked, statuses) = page();
    for n in 0..100 {
        let namespace = format!("team-{n}");
        statuses.set(CanaryView { namespace, name: "cart".into(), phase: Phase::Failed, ..CanaryView::default() }, &[]);
    }
    let ann = page.viewer(Some("of ann")).await.unwrap();
    let items = page.changes(&ann, "").await.unwrap().value.items;
    let (hers, kept): (Vec<_>, Vec<_>) = items.iter().partition(|item| item.namespace == "shop");
    assert!(hers.iter().all(|item| !item.restricted) && kept.iter().all(|item| item.restricted), "{items:?}");
    assert_eq!((hers.len(), kept.len()), (1, 101));
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 1 + 1 + 102, "each once");
}

#[tokio::test]
async fn after_a_failover_every_canary_stands_as_the_replica_before_left_it_until_it_is_looked_at() {
    let canary = |name: &str, phase: &str| {
        let object = json!({
            "apiVersion": "weir.dev/v1beta1", "kind": "Canary", "metadata": {"name": name, "namespace": "shop"},
            "spec": {"targetRef": {"kind": "Deployment", "name": name}, "service": {"port": 80},
                     "analysis": {"interval": "1m", "threshold": 2, "stepWeights": [10]}},
            "status": {"phase": phase, "reason": "GuardTripped", "message": "stopped"},
        });
        Arc::new(Cached::<CanaryFields>::new(serde_json::from_value(object).unwrap()).unwrap())
    };
    let statuses = StatusStore::new().0;
    let page = Shared::new(client(Asked::default()), statuses.clone());
    inherit(&[canary("cart", "Failed"), canary("search", "Succeeded")], &statuses);
    let ann = page.viewer(Some("of ann")).await.unwrap();
    let told = page.changes(&ann, "").await.unwrap().value;
    let rows: Vec<_> = told.items.iter().map(|item| (item.name.as_str(), item.reason.as_str())).collect();
    assert!(told.whole);
    assert_eq!(rows, [("cart", "GuardTripped"), ("search", "GuardTripped")]);
    assert!(page.detail(&ann, "shop", "cart").await.unwrap().value.is_some(), "it is not gone");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_has_ended_shows_nothing_more_though_the_page_is_open() {
    let (page, ..) = page();
    let eve = page.viewer(Some("of eve")).await.unwrap();
    assert!(page.changes(&eve, "").await.is_ok());
    tokio::time::advance(std::time::Duration::from_secs(31)).await;
    let why = page.changes(&eve, "").await.unwrap_err();
    assert!(why.contains("does not know this token"), "{why}");
}

#[tokio::test]
async fn a_replica_that_waits_for_its_turn_sends_everybody_to_the_one_that_acts() {
    let statuses = StatusStore::new().0;
    let page = Shared::new(client(Asked::default()), statuses);
    let refused = page.viewer(Some("of ann")).await.err().unwrap();
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
}
