//! Events, as `kubectl describe canary` shows them: Flagger's reason `Synced`, with Weir's own word beside it.

use k8s_openapi::api::core::v1::{Event as ApiEvent, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::PostParams;
use kube::{Api, Client};
use weir_engine::{Event, Severity, Timestamp};

use crate::api::{GROUP, VERSION};
use crate::kubernetes::api_server::MANAGER;
use crate::kubernetes::kinds::canary::Canary;
use crate::telemetry::Chain;

/// Annotation of an event: Weir's own word for it.
pub(crate) const REASON: &str = "weir.dev/reason";

/// Tells of an event. It is news, not state: one that cannot be written is only logged.
pub(crate) async fn publish(client: Client, canary: &Canary, event: &Event, number: u64, now: Timestamp) {
    let metadata = &canary.metadata;
    let time =
        i64::try_from(now.0).ok().and_then(|ms| k8s_openapi::jiff::Timestamp::from_millisecond(ms).ok()).map(Time);
    let object = ApiEvent {
        metadata: ObjectMeta {
            name: Some(format!("{}.{:x}", canary.name(), now.0 * 1000 + number % 1000)),
            namespace: metadata.namespace.clone(),
            annotations: Some([(REASON.to_owned(), event.reason.to_owned())].into()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some(format!("{GROUP}/{VERSION}")),
            kind: Some("Canary".into()),
            name: metadata.name.clone(),
            namespace: metadata.namespace.clone(),
            uid: metadata.uid.clone(),
            resource_version: metadata.resource_version.clone(),
            ..ObjectReference::default()
        },
        reason: Some("Synced".into()),
        message: Some(event.text.clone()),
        type_: Some(if event.severity == Severity::Info { "Normal" } else { "Warning" }.into()),
        source: Some(EventSource { component: Some(MANAGER.into()), ..EventSource::default() }),
        reporting_component: Some(MANAGER.into()),
        first_timestamp: time.clone(),
        last_timestamp: time,
        count: Some(1),
        ..ApiEvent::default()
    };
    let api: Api<ApiEvent> = Api::namespaced(client, canary.namespace());
    if let Err(error) = api.create(&PostParams::default(), &object).await {
        tracing::warn!(error = %Chain(&error), "event not written");
    }
}
