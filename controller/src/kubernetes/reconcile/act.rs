//! Carries out one action: renders the object, compares it with the live one, and writes it where they differ.

use std::sync::Arc;
use std::time::Duration;

use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use tracing::warn;

use crate::kubernetes::router::apex::stranger;
use crate::kubernetes::api_server::cache::Cache;
use crate::kubernetes::configs::{Declared, ensure};
use crate::kubernetes::api_server::cover::covers;
use crate::kubernetes::kinds::{Deployment, EnvoyFilterView, Service};
use crate::kubernetes::kinds::object::{Kept, View, resource};
use crate::kubernetes::render::{self, Configs, MANAGER, Names, REVISION, Role, STARTED_WITH};
use crate::kubernetes::target::revision::recall;
use crate::kubernetes::stores::World;
use crate::api::CanarySpec;
use crate::rollout::{Revision, Scale};

/// A write that takes longer is given up, and tried again by the next pass.
const PATIENCE: Duration = Duration::from_secs(10);

/// The field manager of the mark on a target's pods: a writer's next apply takes back what it does not repeat, and the target's
/// size is written without the mark.
const MARKER: &str = "weir-configs";

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
    #[error("{verb} {kind} {name}: no answer within {} s", PATIENCE.as_secs())]
    Silence {
        /// What was tried.
        verb: &'static str,
        /// On what kind.
        kind: &'static str,
        /// On which object.
        name: String,
    },
    /// Something of the cluster is not as it must be.
    #[error("{0}")]
    Impossible(String),
}

/// Everything that actions of one Canary need.
pub(crate) struct Hands<'a> {
    /// The cluster.
    pub(crate) world: &'a Arc<World>,
    /// The objects' names.
    pub(crate) names: &'a Names,
    /// What the user wants.
    pub(crate) spec: &'a CanarySpec,
    /// The target, if it exists.
    pub(crate) target: Option<&'a Arc<Deployment>>,
    /// What it declares, if that can be told.
    pub(crate) declared: Option<&'a Declared>,
    /// How the target's pods must be marked that are started from now on, where they are not.
    pub(crate) mark: Option<String>,
    /// Whether a revision is under analysis: nothing of it is for the primary yet.
    pub(crate) analysing: bool,
    /// Whether the target takes the traffic back for good.
    pub(crate) leaving: bool,
}

/// What of an object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// The object.
    Whole,
    /// Its status.
    Status,
}

/// Writes an object by server-side apply, with Weir as the owner of what it says.
///
/// # Errors
/// When the API refuses it or does not answer.
pub(crate) async fn apply<V: View>(world: &World, cache: &Cache<V>, object: &Value) -> Result<Arc<Kept<V>>, ActError> {
    apply_as(world, MANAGER, cache, object, Part::Whole).await
}

/// Writes an object's status by server-side apply.
///
/// # Errors
/// When the API refuses it or does not answer.
pub(crate) async fn apply_status<V: View>(world: &World, cache: &Cache<V>, object: &Value) -> Result<(), ActError> {
    apply_as(world, MANAGER, cache, object, Part::Status).await.map(drop)
}

async fn apply_as<V: View>(
    world: &World,
    manager: &str,
    cache: &Cache<V>,
    object: &Value,
    part: Part,
) -> Result<Arc<Kept<V>>, ActError> {
    let written = patch(world, manager, &resource::<V>(), V::KIND, object, part).await?;
    let written =
        Kept::new(written).map_err(|error| ActError::Impossible(format!("read what was written: {error}")))?;
    let written = Arc::new(written);
    cache.learn(written.clone());
    Ok(written)
}

async fn patch(
    world: &World,
    manager: &str,
    resource: &ApiResource,
    kind: &'static str,
    object: &Value,
    part: Part,
) -> Result<DynamicObject, ActError> {
    let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
    let (namespace, name) = (text("namespace"), text("name"));
    let api: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), namespace, resource);
    let (params, patch) = (PatchParams::apply(manager).force(), Patch::Apply(object));
    // What takes requests away from a canary never waits for others: the status that says so, and the gateways' filter.
    let waits = part == Part::Whole && kind != EnvoyFilterView::KIND;
    let _turn = if waits { world.turns.acquire().await.ok() } else { None };
    tracing::debug!(kind, namespace, name, ?part, "apply");
    match part {
        Part::Whole => guarded("apply", kind, name, api.patch(name, &params, &patch)).await,
        Part::Status => guarded("apply status of", kind, name, api.patch_status(name, &params, &patch)).await,
    }
}

/// Deletes an object; one that is gone already is as good.
///
/// # Errors
/// When the API refuses it or does not answer.
pub(crate) async fn delete<V: View>(world: &World, namespace: &str, name: &str) -> Result<(), ActError> {
    let api: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), namespace, &resource::<V>());
    let params = DeleteParams::default();
    match guarded("delete", V::KIND, name, api.delete(name, &params)).await {
        Err(ActError::Write { source, .. }) if is_status(&source, 404) => Ok(()),
        other => other.map(drop),
    }
}

/// Awaits a call to the API for as long as anybody should.
///
/// # Errors
/// When the API refuses it or does not answer.
pub(crate) async fn guarded<T>(
    verb: &'static str,
    kind: &'static str,
    name: &str,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, ActError> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(ActError::Write { verb, kind, name: name.to_owned(), source: Box::new(source) }),
        Err(_) => Err(ActError::Silence { verb, kind, name: name.to_owned() }),
    }
}

/// Returns whether the API answered with this status code.
#[must_use]
pub(crate) fn is_status(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

impl Hands<'_> {
    /// Makes the primary run a revision, with its services.
    ///
    /// # Errors
    /// When the API refuses a write, or nothing is known of the revision.
    pub(crate) async fn primary(&self, revision: &Revision) -> Result<(), ActError> {
        let (world, names) = (self.world, self.names);
        let target = self.target.map(|target| &**target).zip(self.declared);
        let (kept, declared) = recall(world, names, target, revision).ok_or_else(|| {
            ActError::Impossible(format!("the pod template of revision {revision} is not known any more"))
        })?;
        let selector = self.selector(&kept)?;
        let live = world.deployments.get(&names.namespace, &names.primary());
        let runs =
            |live: &Arc<Deployment>| live.view.spec.template.metadata.annotations.get(REVISION) == Some(&revision.0);
        match ensure(world, names, &declared).await {
            // A copy that somebody deleted, of what has changed since: pods that run have read it.
            Err(error) if live.as_ref().is_some_and(runs) => {
                warn!(%error, "the primary's pods cannot be started again")
            }
            other => other?,
        }
        let copied = if declared.copied { declared.configs } else { Configs::new() };
        let replicas = match (&live, self.target) {
            (Some(_), _) if self.autoscaled() => None,
            (Some(live), _) => live.view.spec.replicas,
            (None, Some(target)) => Some(target.view.spec.replicas.unwrap_or(1).max(1)),
            (None, None) => Some(1),
        };
        self.arms(&selector, &kept["template"]).await?;
        let wanted = render::primary(names, &selector, &revision.0, &kept, &copied, replicas);
        let is_so = |live: &Arc<Deployment>| covers(&live.json(), &comparable(&wanted));
        if let Some(live) = live.filter(|live| replicas.is_none() && !is_so(live)) {
            self.leave_size(&live).await?;
        }
        self.ensure(&world.deployments, &wanted).await?;
        self.twin(&selector).await
    }

    /// Makes the services and policies of both arms.
    async fn arms(&self, (key, value): &(String, String), template: &Value) -> Result<(), ActError> {
        let (world, names, spec) = (self.world, self.names, self.spec);
        let ports = render::ports(spec, template);
        let own = format!("{value}-primary");
        for (role, value, name) in
            [(Role::Primary, &own, names.primary_service()), (Role::Canary, value, names.canary_service())]
        {
            self.ensure_service(&render::service(names, spec, role, (key, value), &ports)).await?;
            self.ensure(&world.destination_rules, &render::destination_rule(names, spec, &name)).await?;
        }
        Ok(())
    }

    /// Gives the canary its size.
    ///
    /// # Errors
    /// When the API refuses the write.
    pub(crate) async fn scale(&self, scale: Scale) -> Result<(), ActError> {
        let Some(target) = self.target else { return Ok(()) };
        if let Some(mark) = self.mark.as_ref().filter(|_| scale == Scale::Full) {
            self.restart(target, mark).await?;
        }
        let now = target.view.spec.replicas.unwrap_or(1);
        let wanted = match scale {
            Scale::Zero if now != 0 => 0,
            // A number that somebody has set is left alone: it is the user's, or an autoscaler's.
            Scale::Full if now == 0 => {
                let primary = self.world.deployments.get(&self.names.namespace, &self.names.primary());
                let primary = primary.and_then(|primary| primary.view.spec.replicas);
                // An autoscaler adds to its least as the traffic comes; one that takes all of it back at once needs more.
                let least = if self.leaving { self.least().max(primary) } else { self.least().or(primary) };
                least.unwrap_or(1).max(1)
            }
            _ => return Ok(()),
        };
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": self.names.target, "namespace": self.names.namespace}, "spec": {"replicas": wanted},
        });
        apply(self.world, &self.world.deployments, &object).await.map(drop)
    }

    /// Has the target's pods replaced, since what they read has changed.
    async fn restart(&self, target: &Deployment, mark: &str) -> Result<(), ActError> {
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": target.name(), "namespace": target.namespace()},
            "spec": {"template": {"metadata": {"annotations": {STARTED_WITH: mark}}}},
        });
        apply_as(self.world, MARKER, &self.world.deployments, &object, Part::Whole).await.map(drop)
    }

    fn selector(&self, kept: &Value) -> Result<(String, String), ActError> {
        match self.target {
            Some(target) => self.selector_of(&target.view.spec.selector.match_labels),
            None => {
                let labels = serde_json::from_value(kept["template"]["metadata"]["labels"].clone()).unwrap_or_default();
                self.selector_of(&labels)
            }
        }
    }

    pub(in crate::kubernetes) fn selector_of(&self, labels: &crate::kubernetes::kinds::Labels) -> Result<(String, String), ActError> {
        self.names.selector(labels).map_err(ActError::Impossible)
    }

    /// Writes an object where the live one is not what is wanted.
    pub(in crate::kubernetes) async fn ensure<V: View>(&self, cache: &Cache<V>, wanted: &Value) -> Result<(), ActError> {
        let name = wanted["metadata"]["name"].as_str().unwrap_or_default();
        let live = cache.get(&self.names.namespace, name);
        self.refuse_stranger(live.as_deref())?;
        if live.is_some_and(|live| covers(&live.json(), &comparable(wanted))) {
            return Ok(());
        }
        apply(self.world, cache, wanted).await.map(drop)
    }

    /// Writes a service where the live one is not what is wanted. Ports that somebody else added stay.
    pub(in crate::kubernetes) async fn ensure_service(&self, wanted: &Value) -> Result<(), ActError> {
        let name = wanted["metadata"]["name"].as_str().unwrap_or_default();
        let live = self.world.services.get(&self.names.namespace, name);
        self.refuse_stranger(live.as_deref())?;
        if live.is_some_and(|live: Arc<Service>| service_is(&live.json(), wanted)) {
            return Ok(());
        }
        apply(self.world, &self.world.services, wanted).await.map(drop)
    }

    pub(in crate::kubernetes) fn refuse_stranger<V: View>(&self, live: Option<&Kept<V>>) -> Result<(), ActError> {
        stranger(self.world, live, self.names).map_or(Ok(()), |problem| Err(ActError::Impossible(problem)))
    }
}

/// Returns what of a wanted object is compared: everything but what the API sets itself.
fn comparable(wanted: &Value) -> Value {
    let mut wanted = wanted.clone();
    if let Some(map) = wanted.as_object_mut() {
        map.remove("apiVersion");
        map.remove("kind");
    }
    wanted
}

fn service_is(live: &Value, wanted: &Value) -> bool {
    let mut rest = comparable(wanted);
    let ports = rest["spec"].as_object_mut().and_then(|spec| spec.remove("ports")).unwrap_or_default();
    let live_ports = live.pointer("/spec/ports").and_then(Value::as_array).cloned().unwrap_or_default();
    // The selector is one value: a label more selects other pods.
    live.pointer("/spec/selector") == rest.pointer("/spec/selector")
        && covers(live, &rest)
        && ports.as_array().into_iter().flatten().all(|port| live_ports.iter().any(|live| covers(live, port)))
}
