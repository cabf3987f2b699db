//! Writes by server-side apply, and what can go wrong with them.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use super::cache::Cache;
use super::object::{Cached, Projection, resource};
use super::{ApiServer, MANAGER};

/// A write that takes longer is given up, and tried again by the next pass.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Why an action was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ActError {
    /// The API refused a write.
    #[error("{verb} {kind} {name}")]
    Write {
        /// What was tried.
        verb: &'static str,
        /// On what kind.
        kind: &'static str,
        /// On which object.
        name: String,
        /// What it said.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API did not answer.
    #[error("{verb} {kind} {name}: no answer within {} s", CALL_TIMEOUT.as_secs())]
    Timeout {
        /// What was tried.
        verb: &'static str,
        /// On what kind.
        kind: &'static str,
        /// On which object.
        name: String,
    },
    /// Something of the cluster is not as it must be.
    #[error("{0}")]
    Precondition(String),
    /// Another controller has written the same since this was decided.
    #[error("{0}")]
    Superseded(String),
    /// Something takes its time.
    #[error("{0}")]
    Waiting(String),
}

/// A write without an answer is told from the second time on: the first is an API server that starts anew.
const TIMEOUTS_UNTIL_REPORT: u32 = 2;
/// A conflict, and a server that is busy, are told from the third time on in a row.
const PASSING_UNTIL_REPORT: u32 = 3;

impl ActError {
    /// Returns whether the namespace of a write is gone, or goes: then nothing is written there any more.
    pub(crate) fn is_of_a_namespace_that_goes(&self) -> bool {
        let Self::Write { source, .. } = self else { return false };
        let kube::Error::Api(status) = &**source else { return false };
        let goes = || status.message.contains("is being terminated");
        let gone = || status.message.starts_with("namespaces \"") && status.message.ends_with("not found");
        (status.code == 403 && goes()) || (status.code == 404 && gone())
    }

    /// Returns whether somebody else has written the same meanwhile.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Self::Write { source, .. } if is_status(source, 409))
    }

    /// Returns what a person must know of it after so many failures in a row: one word, and the API server's own sentence. What passes by
    /// itself as a rule is told once it lasts.
    pub(crate) fn fault(&self, failures: u32) -> Option<(&'static str, String)> {
        match self {
            Self::Write { source, .. } => {
                let kube::Error::Api(status) = &**source else {
                    return (failures >= PASSING_UNTIL_REPORT).then(|| ("NoAnswer", format!("{self}: {source}")));
                };
                // Somebody else was quicker; the server is busy.
                let passes = [409, 429, 503, 504].contains(&status.code);
                let text = match status.message.is_empty() {
                    true => format!("{self}: {}", status.code),
                    false => format!("{self}: {}", status.message),
                };
                (!passes || failures >= PASSING_UNTIL_REPORT).then_some(("WriteRefused", text))
            }
            Self::Timeout { .. } if failures < TIMEOUTS_UNTIL_REPORT => None,
            Self::Timeout { .. } => Some(("NoAnswer", self.to_string())),
            Self::Precondition(problem) => Some(("Blocked", problem.clone())),
            Self::Superseded(_) | Self::Waiting(_) => None,
        }
    }
}

/// What of an object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The object.
    Whole,
    /// Its status.
    Status,
}

/// Writes an object by server-side apply, with Weir as the owner of what it says.
///
/// # Errors
/// When the API refuses it or does not answer.
pub(crate) async fn apply<V: Projection>(
    api: &ApiServer,
    cache: &Cache<V>,
    object: &Value,
) -> Result<Arc<Cached<V>>, ActError> {
    apply_as(api, MANAGER, cache, object, Part::Whole).await
}

/// Writes an object's status by server-side apply: where `object` has a resource version, that version's alone.
///
/// # Errors
/// When the API refuses it or does not answer.
pub(crate) async fn apply_status<V: Projection>(
    api: &ApiServer,
    cache: &Cache<V>,
    object: &Value,
) -> Result<(), ActError> {
    apply_as(api, MANAGER, cache, object, Part::Status).await.map(drop)
}

pub(crate) async fn apply_as<V: Projection>(
    api: &ApiServer,
    manager: &str,
    cache: &Cache<V>,
    object: &Value,
    part: Part,
) -> Result<Arc<Cached<V>>, ActError> {
    into_cache(cache, patch(api, manager, &resource::<V>(), (V::KIND, V::URGENT), object, part).await?)
}

async fn patch(
    api: &ApiServer,
    manager: &str,
    resource: &ApiResource,
    (kind, urgent): (&'static str, bool),
    object: &Value,
    part: Part,
) -> Result<DynamicObject, ActError> {
    let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
    let (namespace, name) = (text("namespace"), text("name"));
    let objects: Api<DynamicObject> = Api::namespaced_with(api.client.clone(), namespace, resource);
    let (params, patch) = (PatchParams::apply(manager).force(), Patch::Apply(object));
    // What takes requests away from a canary never waits for others: the status that says so, and the gateways' filter.
    let waits = part == Part::Whole && !urgent;
    let _turn = if waits { api.write_permits.acquire().await.ok() } else { None };
    tracing::debug!(kind, namespace, name, ?part, "apply");
    match part {
        Part::Whole => with_timeout("apply", kind, name, objects.patch(name, &params, &patch)).await,
        Part::Status => with_timeout("apply status of", kind, name, objects.patch_status(name, &params, &patch)).await,
    }
}

/// Takes fields out of an object by a merge patch: apply takes nothing that somebody else wrote.
///
/// # Errors
/// When the API refuses it or does not answer.
pub(crate) async fn take_out<V: Projection>(
    api: &ApiServer,
    cache: &Cache<V>,
    live: &Cached<V>,
    mut patch: Value,
) -> Result<Arc<Cached<V>>, ActError> {
    let (namespace, name) = (live.namespace(), live.name());
    let objects: Api<DynamicObject> = Api::namespaced_with(api.client.clone(), namespace, &resource::<V>());
    patch["metadata"]["resourceVersion"] = json!(live.version());
    let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
    into_cache(cache, with_timeout("patch", V::KIND, name, objects.patch(name, &params, &Patch::Merge(&patch))).await?)
}

/// Reads an object from the API server, and takes it into the cache.
///
/// # Errors
/// When the API refuses it or does not answer.
pub(crate) async fn read<V: Projection>(
    api: &ApiServer,
    cache: &Cache<V>,
    namespace: &str,
    name: &str,
) -> Result<Option<Arc<Cached<V>>>, ActError> {
    let objects: Api<DynamicObject> = Api::namespaced_with(api.client.clone(), namespace, &resource::<V>());
    let live = with_timeout("get", V::KIND, name, objects.get_opt(name)).await?;
    live.map(|live| into_cache(cache, live)).transpose()
}

/// Changes an object of any kind by a merge patch, where it is still the version that is given.
///
/// # Errors
/// When the API refuses it or does not answer.
pub(crate) async fn change(
    api: &ApiServer,
    resource: &ApiResource,
    kind: &'static str,
    live: &DynamicObject,
    mut patch: Value,
) -> Result<DynamicObject, ActError> {
    let ObjectMeta { namespace, name, resource_version, .. } = &live.metadata;
    let (namespace, name) = (namespace.as_deref().unwrap_or_default(), name.as_deref().unwrap_or_default());
    let objects: Api<DynamicObject> = Api::namespaced_with(api.client.clone(), namespace, resource);
    patch["metadata"]["resourceVersion"] = json!(resource_version);
    let params = PatchParams { field_manager: Some(TAKE_OVER_MANAGER.into()), ..PatchParams::default() };
    with_timeout("patch", kind, name, objects.patch(name, &params, &Patch::Merge(&patch))).await
}

/// The field manager of what Weir changes of another controller's objects. Its own applies would take out what they leave out.
pub(crate) const TAKE_OVER_MANAGER: &str = "weir-take-over";

fn into_cache<V: Projection>(cache: &Cache<V>, written: DynamicObject) -> Result<Arc<Cached<V>>, ActError> {
    let written = Cached::new(written)
        .map_err(|error| ActError::Precondition(format!("read what the API server answered: {error}")))?;
    let written = Arc::new(written);
    cache.insert_if_newer(written.clone());
    Ok(written)
}

/// Deletes an object; one that is gone already is as good.
///
/// # Errors
/// When the API refuses it or does not answer.
pub(crate) async fn delete<V: Projection>(api: &ApiServer, namespace: &str, name: &str) -> Result<(), ActError> {
    let objects: Api<DynamicObject> = Api::namespaced_with(api.client.clone(), namespace, &resource::<V>());
    let params = DeleteParams::default();
    match with_timeout("delete", V::KIND, name, objects.delete(name, &params)).await {
        Err(ActError::Write { source, .. }) if is_status(&source, 404) => Ok(()),
        other => other.map(drop),
    }
}

/// Awaits a call to the API for as long as anybody should.
///
/// # Errors
/// When the API refuses it or does not answer.
pub(crate) async fn with_timeout<T>(
    verb: &'static str,
    kind: &'static str,
    name: &str,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, ActError> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(ActError::Write { verb, kind, name: name.to_owned(), source: Box::new(source) }),
        Err(_) => Err(ActError::Timeout { verb, kind, name: name.to_owned() }),
    }
}

/// Returns whether the API answered with this status code.
#[must_use]
pub(crate) fn is_status(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}
