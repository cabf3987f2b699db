//! Flagger's Canary beside Weir's: told to leave its objects alone before they are taken over and for as long as it is there, and left
//! as it was where the takeover is called off.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use kube::Api;
use kube::api::{ApiResource, DynamicObject};
use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::{debug, info, warn};
use weir_engine::Span;

use super::reconciler::Reconciler;
use crate::kubernetes::api_server::MANAGED_BY;
use crate::kubernetes::api_server::apply::{ActError, TAKE_OVER_MANAGER, change, is_status, with_timeout};
use crate::kubernetes::kinds::canary::{Canary, CanaryStatus};
use crate::kubernetes::render::{CANARY_LABEL, INHERITED, Names};
use crate::kubernetes::stores::Stores;
use crate::kubernetes::target::apart::beside;
use crate::kubernetes::target::flagger::{Around, Controlled, FLAGGER, TAKE_OVER, around, canaries};
use crate::telemetry::Chain;

/// Keeps Flagger's Canary until Flagger has given everything back: it must not.
const FLAGGERS_FINALIZER: &str = "finalizer.flagger.app";
/// Time between two looks at a Canary of Flagger's whose objects were taken over: as often as Flagger looks for new ones.
const RECHECK: Duration = Duration::from_secs(10);
/// The same where it was gone: a commit that is taken back brings it again, without its suspension.
const GONE_RECHECK: Duration = Duration::from_secs(60);
/// The same without the right to look, which an admin takes away when all is taken over.
const FORBIDDEN_RECHECK: Duration = Duration::from_secs(600);
/// Time to the next look at objects that are given back.
const BACK_RECHECK: Span = Span::seconds(1);

/// What is known of the controller whose objects are taken over.
#[derive(Debug, Default)]
pub(super) struct Former {
    /// Since when its Canary is known to be suspended.
    pub(super) suspended: Option<Instant>,
    /// Whether nothing of an earlier takeover is left with it.
    pub(super) is_free: bool,
    /// When it is looked at again after the takeover.
    due: Option<Instant>,
    /// Its Canary, as long as it is there after the takeover.
    left: Option<DynamicObject>,
}

impl Former {
    /// Says that the other controller's Canary is still there, and what would go with it.
    pub(super) fn hazard(&self, stores: &Stores, names: &Names) -> Option<String> {
        let kept = beside(stores, names, self.left.as_ref()?);
        let left = self.left.as_ref()?.metadata.name.as_deref().unwrap_or_default();
        if !kept.is_empty() {
            return Some(format!(
                "canaries.flagger.app {left} is still there, suspended, and what it controls goes with it: {}; take the ownerReferences out \
                 of what is to stay before you delete it",
                kept.join(", ")
            ));
        }
        Some(format!(
            "canaries.flagger.app {left} is still there, suspended, and controls nothing any more: delete it by kubectl -n {} delete \
             canaries.flagger.app {left}, or remove it from Git",
            names.namespace
        ))
    }
}

impl Reconciler {
    /// Leaves to Flagger what it controls, as it was before a takeover that nobody asks for any more.
    pub(super) async fn leave_to_flagger(
        &mut self,
        canary: &Arc<Canary>,
        names: &Names,
        controlled: &Controlled,
        finalized: bool,
    ) -> Result<Span, ActError> {
        // Flagger is told nothing before the finalizer stands.
        if finalized && !self.former.is_free {
            let is_half = !self.in_hand(canary, names).is_empty();
            match self.flaggers(names, &controlled.canary).await {
                Ok(Some(flaggers)) if controlled.is_of(&flaggers) => {
                    if self.call_off(canary, names, &flaggers).await? {
                        return Ok(BACK_RECHECK);
                    }
                }
                // What is left goes with Flagger's Canary, and what is Weir's with its own.
                Ok(_) => {}
                Err(error) if is_half => return Err(error),
                Err(error) => {
                    let (namespace, name) = (&self.key.0, &self.key.1);
                    warn!(namespace, canary = name, error = %Chain(&error), "Flagger's Canary is not known to go on");
                }
            }
            self.former.is_free = true;
        }
        self.refuse(canary, controlled.fault(names)).await
    }

    /// Gives back to Flagger what has changed hands of a takeover that is not over, and then has Flagger go on. Returns whether something
    /// was given back: caches do not know it yet.
    pub(super) async fn call_off(
        &mut self,
        canary: &Arc<Canary>,
        names: &Names,
        flaggers: &DynamicObject,
    ) -> Result<bool, ActError> {
        let in_hand = self.in_hand(canary, names);
        for Around { resource, kind, metadata } in &in_hand {
            let name = metadata.name.as_deref().unwrap_or_default();
            let live = self.read_any(names, resource, kind, name).await?;
            if let Some(live) = live.filter(|live| is_owned_by(&live.metadata, &names.uid)) {
                change(&self.stores.api, resource, kind, &live, given_back(names, &live, flaggers)).await?;
            }
        }
        if let Some(patch) = go_on(flaggers) {
            self.tell_flagger(names, flaggers, patch).await?;
        }
        self.former.suspended = None;
        if self.is_half_taken(canary) {
            let status = self.last_status(canary).clone();
            self.store(canary, CanaryStatus { taken_over: None, ..status }).await?;
        }
        Ok(!in_hand.is_empty())
    }

    /// Returns whether a takeover has begun to change whose the objects are, and no pass has followed it.
    fn is_half_taken(&self, canary: &Canary) -> bool {
        let status = self.last_status(canary);
        status.taken_over.is_some() && status.state.is_none()
    }

    /// Returns what is Weir's already of a takeover that is not over.
    pub(super) fn in_hand(&self, canary: &Canary, names: &Names) -> Vec<Around> {
        if !self.is_half_taken(canary) {
            return Vec::new();
        }
        let (stores, namespace) = (&self.stores, &names.namespace);
        let mut all = around(stores, names);
        all.extend(Around::all(&stores.config_maps, namespace));
        all.extend(Around::all(&stores.secrets, namespace));
        all.retain(|it| is_owned_by(&it.metadata, &names.uid));
        all
    }

    fn last_status<'a>(&'a self, canary: &'a Canary) -> &'a CanaryStatus {
        self.stored.as_ref().map_or(&canary.fields.status, |(status, _)| status)
    }

    /// Keeps Flagger's Canary suspended as long as it is there, and whenever it comes back: what applies it from Git may not know that it
    /// must be. No pass waits for a success of this.
    pub(super) async fn keep_suspended(&mut self, canary: &Canary, names: &Names) {
        let status = self.last_status(canary);
        let from = status.taken_over.as_ref().and_then(|it| it.from.strip_prefix("canaries.flagger.app "));
        let asked = canary.annotation(TAKE_OVER) == Some(FLAGGER) && !canary.deleted();
        let is_due = self.former.due.is_none_or(|due| due <= Instant::now());
        let Some(name) = from.filter(|_| asked && is_due).map(str::to_owned) else { return };
        self.former.left = None;
        let (recheck, kept) = match self.flaggers(names, &name).await {
            Ok(Some(flaggers)) => {
                let kept = match leave_alone(&flaggers) {
                    Some(patch) => self.tell_flagger(names, &flaggers, patch).await,
                    None => Ok(()),
                };
                self.former.left = Some(flaggers);
                (RECHECK, kept)
            }
            Ok(None) => (GONE_RECHECK, Ok(())),
            // As the documents say: the right is given for the time of the takeover.
            Err(ActError::Write { source, .. }) if is_status(&source, 403) => {
                debug!(namespace = self.key.0, canary = self.key.1, "no right to look at Flagger's Canary any more");
                (FORBIDDEN_RECHECK, Ok(()))
            }
            Err(error) => (RECHECK, Err(error)),
        };
        self.former.due = Some(Instant::now() + recheck);
        if let Err(error) = kept {
            let (namespace, name) = (&self.key.0, &self.key.1);
            warn!(namespace, canary = name, error = %Chain(&error), "Flagger's Canary is not known to be suspended");
        }
    }

    pub(super) async fn flaggers(&self, names: &Names, name: &str) -> Result<Option<DynamicObject>, ActError> {
        self.read_any(names, &canaries(), "canaries.flagger.app", name).await
    }

    pub(super) async fn read_any(
        &self,
        names: &Names,
        resource: &ApiResource,
        kind: &'static str,
        name: &str,
    ) -> Result<Option<DynamicObject>, ActError> {
        let client = self.stores.api.client.clone();
        let objects: Api<DynamicObject> = Api::namespaced_with(client, &names.namespace, resource);
        with_timeout("get", kind, name, objects.get_opt(name)).await
    }

    pub(super) async fn tell_flagger(
        &self,
        names: &Names,
        flaggers: &DynamicObject,
        patch: Value,
    ) -> Result<(), ActError> {
        info!(namespace = names.namespace, canary = names.canary, %patch, "changes Flagger's Canary");
        change(&self.stores.api, &canaries(), "canaries.flagger.app", flaggers, patch).await.map(drop)
    }
}

fn is_owned_by(metadata: &ObjectMeta, uid: &str) -> bool {
    metadata.owner_references.iter().flatten().any(|owner| owner.uid == uid)
}

/// Returns what Flagger's Canary lacks to be left alone and to go without giving anything back, if it lacks something.
pub(super) fn leave_alone(flaggers: &DynamicObject) -> Option<Value> {
    let spec = &flaggers.data["spec"];
    let finalizers = flaggers.metadata.finalizers.clone().unwrap_or_default();
    let others: Vec<&String> = finalizers.iter().filter(|it| *it != FLAGGERS_FINALIZER).collect();
    let mut patch = json!({});
    if spec["suspend"] != true {
        patch["spec"]["suspend"] = true.into();
    }
    if spec["revertOnDeletion"] == true {
        patch["spec"]["revertOnDeletion"] = false.into();
    }
    if others.len() < finalizers.len() {
        patch["metadata"]["finalizers"] = json!(others);
    }
    (patch != json!({})).then_some(patch)
}

/// Returns what takes back from Flagger's Canary what Weir has said of it, if it has said anything. Flagger adds its finalizer itself.
fn go_on(flaggers: &DynamicObject) -> Option<Value> {
    let mut patch = json!({});
    if suspended_by_weir(flaggers) {
        patch["spec"]["suspend"] = Value::Null;
    }
    // Weir says `false` where it was true, and nothing else.
    if flaggers.data["spec"]["revertOnDeletion"] == false && is_said_by_weir(flaggers, "f:revertOnDeletion") {
        patch["spec"]["revertOnDeletion"] = true.into();
    }
    (patch != json!({})).then_some(patch)
}

/// Returns whether Weir, and nobody else, has said that Flagger's Canary is suspended.
pub(super) fn suspended_by_weir(flaggers: &DynamicObject) -> bool {
    flaggers.data["spec"]["suspend"] == true && is_said_by_weir(flaggers, "f:suspend")
}

/// Returns whether Weir alone has said a field of a spec.
fn is_said_by_weir(flaggers: &DynamicObject, field: &str) -> bool {
    let says = |entry: &&ManagedFieldsEntry| {
        entry.fields_v1.as_ref().is_some_and(|fields| fields.0["f:spec"].get(field).is_some())
    };
    let mut who = flaggers.metadata.managed_fields.iter().flatten().filter(says).peekable();
    who.peek().is_some() && who.all(|entry| entry.manager.as_deref() == Some(TAKE_OVER_MANAGER))
}

/// Returns the patch that makes an object Flagger's again.
fn given_back(names: &Names, live: &DynamicObject, flaggers: &DynamicObject) -> Value {
    let owners = live.metadata.owner_references.iter().flatten();
    let others = owners.filter(|owner| owner.uid != names.uid).map(|owner| json!(owner));
    let theirs = json!({
        "apiVersion": canaries().api_version, "kind": "Canary", "name": flaggers.metadata.name, "uid": flaggers.metadata.uid,
        "controller": true, "blockOwnerDeletion": true,
    });
    json!({"metadata": {
        "ownerReferences": others.chain([theirs]).collect::<Vec<_>>(),
        "labels": {MANAGED_BY: null, CANARY_LABEL: null},
        "annotations": {INHERITED: null},
    }})
}
