//! Takes over what Flagger controls, while its Canary is there and suspended: the same objects, and no pod of the primary is restarted.
//!
//! ```text
//!  Flagger at rest? ─> suspend its Canary ─> its last look is over ─> what the primary runs: remembered
//!      ─> each object: Flagger's reference becomes Weir's, in one write ─> an ordinary pass
//! ```
//!
//! Each step can be the last one of a controller that dies: the next one begins anew, and finds what is done as done. An object that is
//! still Flagger's keeps all others from being written, so no two controllers write one Canary's objects.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::Api;
use kube::api::{ApiResource, DynamicObject};
use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::{info, warn};
use weir_engine::{Event, Revision, Severity, Span, State};

use super::reconciler::Reconciler;
use super::status::{conditions, faulty};
use crate::api::{GROUP, VERSION};
use crate::kubernetes::api_server::apply::{ActError, TAKE_OVER_MANAGER, change, is_status, with_timeout};
use crate::kubernetes::api_server::cache::Cache;
use crate::kubernetes::api_server::clock::{now, rfc3339};
use crate::kubernetes::api_server::object::resource;
use crate::kubernetes::api_server::{MANAGED_BY, MANAGER};
use crate::kubernetes::configs::{plain, resolve_revision};
use crate::kubernetes::kinds::Target;
use crate::kubernetes::kinds::canary::{Canary, CanaryStatus, Fault, TakenOver};
use crate::kubernetes::kinds::config::{Config, ConfigMapView, SecretView};
use crate::kubernetes::render::{CANARY_LABEL, INHERITED, Names, references, template_of};
use crate::kubernetes::router::shares_with_canary;
use crate::kubernetes::stores::Stores;
use crate::kubernetes::target::apart::{apart, beside};
use crate::kubernetes::target::flagger::{
    Around, CONTROLLED, Controlled, FLAGGER, TAKE_OVER, canaries, changed_since, controller_of, reowned, runs_target,
    under_way,
};
use crate::kubernetes::target::revision::keep_inherited;
use crate::telemetry::Chain;

/// The reason of a Canary that takes over what another controller controls.
const TAKING_OVER: &str = "TakingOver";
/// Keeps Flagger's Canary until Flagger has given everything back: it must not.
const FLAGGERS_FINALIZER: &str = "finalizer.flagger.app";
/// Time that a look of Flagger takes which began before its Canary was suspended. At rest it is a dozen calls; whatever it decides
/// after that is undone, since the routes are not written by the look that finds a new revision.
const LAST_LOOK: Duration = Duration::from_secs(3);
/// Time to the next look while Flagger is waited for.
const RECHECK: Span = Span::seconds(1);
/// Time between two looks at a Canary of Flagger's whose objects were taken over: as often as Flagger looks for new ones.
const FORMER_RECHECK: Duration = Duration::from_secs(10);
/// The same where it was gone: a commit that is taken back brings it again, without its suspension.
const GONE_RECHECK: Duration = Duration::from_secs(60);
/// The same without the right to look, which an admin takes away when all is taken over.
const FORBIDDEN_RECHECK: Duration = Duration::from_secs(600);

/// What is known of the controller whose objects are taken over.
#[derive(Debug, Default)]
pub(super) struct Former {
    /// Since when its Canary is known to be suspended.
    suspended: Option<Instant>,
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

/// Returns the status of a Canary that takes over what another controller controls: in progress, however long that one is busy.
fn taking_over(old: &CanaryStatus, message: &str, generation: i64) -> CanaryStatus {
    let said = [("Ready", "Unknown", TAKING_OVER, message.to_owned())];
    faulty(old, (TAKING_OVER, message), generation, conditions(old, generation, now(), said))
}

impl Reconciler {
    /// Makes the next step of a takeover; returns when to look again.
    pub(super) async fn take_over(
        &mut self,
        canary: &Arc<Canary>,
        names: &Names,
        target: Option<&Target>,
        controlled: &Controlled,
    ) -> Result<Span, ActError> {
        let flaggers = match self.flaggers(names, &controlled.canary).await {
            Ok(Some(flaggers)) if flaggers.metadata.uid.as_deref() == Some(controlled.uid.as_str()) => flaggers,
            Ok(_) => {
                let text =
                    format!("canaries.flagger.app {} is gone, and what it controls goes with it", controlled.canary);
                return self.refuse(canary, (CONTROLLED, text)).await;
            }
            Err(ActError::Write { source, .. }) if is_status(&source, 403) => {
                let text = "Weir has no right to take over what Flagger controls: install its chart with takeOver.flagger=true";
                return self.refuse(canary, (CONTROLLED, text.into())).await;
            }
            Err(error) => return Err(error),
        };
        let kept = beside(&self.stores, names, &flaggers);
        let also = || {
            format!(
                "also controls {}, which go with it: take the ownerReferences out of what is to stay",
                kept.join(", ")
            )
        };
        let none = || format!("releases {}, which is not there", names.target);
        let why = apart(&flaggers.data, names).or_else(|| (!kept.is_empty()).then(also));
        let target = match (why, target) {
            (None, Some(target)) => target,
            (why, _) => {
                let text = format!("canaries.flagger.app {} {}", controlled.canary, why.unwrap_or_else(none));
                return self.refuse(canary, (CONTROLLED, text)).await;
            }
        };
        if let Some(why) = self.busy(&flaggers, names) {
            self.former.suspended = None;
            if suspended_by_weir(&flaggers) {
                // It was in the middle of something that nobody could see yet: it goes on.
                self.tell_flagger(names, &flaggers, json!({"spec": {"suspend": null}})).await?;
            }
            let paused = flaggers.data["spec"]["suspend"] == true && !suspended_by_weir(&flaggers);
            let remedy = if paused { ": it is suspended, so set its spec.suspend to false" } else { "" };
            let text = format!("waiting for a rollout of Flagger's to end, {why}{remedy}");
            return self.wait_for_flagger(canary, &text).await;
        }
        if let Some(patch) = leave_alone(&flaggers) {
            self.tell_flagger(names, &flaggers, patch).await?;
            self.former.suspended = Some(Instant::now());
        }
        if self.former.suspended.get_or_insert_with(Instant::now).elapsed() < LAST_LOOK {
            return self.wait_for_flagger(canary, "Flagger is told to leave the objects alone").await;
        }
        if let Err(fault) = self.take(canary, names, target, &flaggers, controlled).await? {
            return self.refuse(canary, fault).await;
        }
        Ok(RECHECK)
    }

    /// Returns why nothing can be taken over now.
    fn busy(&self, flaggers: &DynamicObject, names: &Names) -> Option<String> {
        let shared = || shares_with_canary(&self.stores, names).then(|| "requests still go to its canary".to_owned());
        under_way(&flaggers.data).or_else(shared)
    }

    async fn wait_for_flagger(&mut self, canary: &Arc<Canary>, text: &str) -> Result<Span, ActError> {
        let old = self.stored.as_ref().map_or(&canary.fields.status, |(status, _)| status);
        let new = taking_over(old, text, canary.metadata.generation.unwrap_or_default());
        if *old != new {
            info!(namespace = self.key.0, canary = self.key.1, "{text}");
            self.store(canary, new).await?;
        }
        Ok(RECHECK)
    }

    /// Takes every object, that of the primary first: what it runs is known from it alone.
    async fn take(
        &mut self,
        canary: &Arc<Canary>,
        names: &Names,
        target: &Target,
        flaggers: &DynamicObject,
        controlled: &Controlled,
    ) -> Result<Result<(), Fault>, ActError> {
        let primary = self.stores.target(names.kind, &names.namespace, &names.primary());
        if let Some(primary) = primary.filter(|primary| controller_of(primary.metadata()).is_some()) {
            let copies = references(&primary.template()).iter().any(|config| config.name.ends_with("-primary"));
            if copies && !self.stores.settings.config_tracking {
                let text = format!(
                    "{} {} reads copies of Flagger's, which go with its Canary: install Weir's chart with configTracking.enabled=true",
                    names.kind.word(),
                    primary.name()
                );
                return Ok(Err((CONTROLLED, text)));
            }
            let declared = match resolve_revision(&self.stores, names, Some(target), &State::default()) {
                Ok(declared) => declared.revision,
                Err(fault) => return Ok(Err(fault)),
            };
            let is_same = runs_target(&self.stores, target, &primary);
            let revision = if is_same { declared } else { plain(&template_of(&primary.spec())) };
            if !is_same {
                keep_inherited(&self.stores, names, &primary, &revision).await?;
            }
            let failed = !is_same && self.is_known_bad(names, flaggers).await?;
            self.remember(canary, flaggers, &revision, failed).await?;
            self.take_primary(names, &revision).await?;
        }
        // Before the last of the objects: from then on nothing shows that something is left to be taken.
        let mut changed = self.take_copies(names, &controlled.uid).await?;
        let is_primary = |it: &&Around| it.name() == names.primary() && it.kind == names.kind.word();
        for Around { resource, kind, metadata } in controlled.objects.iter().filter(|it| !is_primary(it)) {
            let name = metadata.name.as_deref().unwrap_or_default();
            changed |= self.take_object(names, resource, kind, name, true).await?;
        }
        if changed {
            let text =
                format!("Took over what canaries.flagger.app {} controlled; its Canary may go", controlled.canary);
            self.emit(canary, &Event::new(Severity::Info, "TakenOver", text));
        }
        Ok(Ok(()))
    }

    /// Returns whether Flagger took back what the target declares: it failed, and nobody has changed the target since.
    async fn is_known_bad(&self, names: &Names, flaggers: &DynamicObject) -> Result<bool, ActError> {
        if flaggers.data["status"]["phase"] != "Failed" {
            return Ok(false);
        }
        let live = self.read_any(names, &names.kind.resource(), names.kind.word(), &names.target).await?;
        let since = flaggers.data["status"]["lastTransitionTime"].as_str();
        Ok(!changed_since(live.and_then(|live| live.metadata.managed_fields).as_deref().unwrap_or_default(), since))
    }

    async fn remember(
        &mut self,
        canary: &Arc<Canary>,
        flaggers: &DynamicObject,
        revision: &Revision,
        failed: bool,
    ) -> Result<(), ActError> {
        let old = self.stored.as_ref().map_or(&canary.fields.status, |(status, _)| status).clone();
        let from = format!("canaries.flagger.app {}", flaggers.metadata.name.as_deref().unwrap_or_default());
        let taken_over = TakenOver { from, revision: revision.0.clone(), failed, time: rfc3339(now()) };
        let told = taking_over(&old, "the objects change hands", canary.metadata.generation.unwrap_or_default());
        self.store(canary, CanaryStatus { taken_over: Some(taken_over), ..told }).await
    }

    /// Takes the primary, and with it what Flagger wrote of its spec, as if Weir had applied it: the next promotion takes out what it says no
    /// more in the same write. The pods stay as they are.
    async fn take_primary(&self, names: &Names, revision: &Revision) -> Result<(), ActError> {
        let (resource, kind, name) = (names.kind.resource(), names.kind.word(), names.primary());
        let Some(live) = self.read_any(names, &resource, kind, &name).await? else { return Ok(()) };
        if controller_of(&live.metadata).is_none() {
            return Ok(());
        }
        let mut patch = taken(names, &live, true);
        patch["metadata"]["annotations"] = json!({INHERITED: revision.0});
        patch["metadata"]["managedFields"] = reowned(live.metadata.managed_fields.as_deref().unwrap_or_default());
        change(&self.stores.api, &resource, kind, &live, patch).await.map(drop)
    }

    async fn take_object(
        &self,
        names: &Names,
        resource: &ApiResource,
        kind: &'static str,
        name: &str,
        is_labelled: bool,
    ) -> Result<bool, ActError> {
        let live = self.read_any(names, resource, kind, name).await?;
        let Some(live) = live.filter(|live| controller_of(&live.metadata).is_some()) else { return Ok(false) };
        change(&self.stores.api, resource, kind, &live, taken(names, &live, is_labelled)).await.map(|_| true)
    }

    /// Takes Flagger's copies of ConfigMaps and Secrets, which the primary's pods read. Without Weir's label, by which it drops copies of its
    /// own that nobody needs: these go with the Canary.
    async fn take_copies(&self, names: &Names, uid: &str) -> Result<bool, ActError> {
        let stores = &self.stores;
        let mut changed = false;
        for name in owned_by(&stores.config_maps, names, uid) {
            changed |= self.take_object(names, &resource::<ConfigMapView>(), "ConfigMap", &name, false).await?;
        }
        for name in owned_by(&stores.secrets, names, uid) {
            changed |= self.take_object(names, &resource::<SecretView>(), "Secret", &name, false).await?;
        }
        Ok(changed)
    }

    /// Keeps Flagger's Canary suspended as long as it is there, and whenever it comes back: what applies it from Git may not know that it
    /// must be. No pass waits for a success of this.
    pub(super) async fn keep_suspended(&mut self, canary: &Canary, names: &Names) {
        let status = self.stored.as_ref().map_or(&canary.fields.status, |(status, _)| status);
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
                (FORMER_RECHECK, kept)
            }
            Ok(None) => (GONE_RECHECK, Ok(())),
            Err(error) => match &error {
                ActError::Write { source, .. } if is_status(source, 403) => (FORBIDDEN_RECHECK, Err(error)),
                _ => (FORMER_RECHECK, Err(error)),
            },
        };
        self.former.due = Some(Instant::now() + recheck);
        if let Err(error) = kept {
            let (namespace, name) = (&self.key.0, &self.key.1);
            warn!(namespace, canary = name, error = %Chain(&error), "Flagger's Canary is not known to be suspended");
        }
    }

    async fn flaggers(&self, names: &Names, name: &str) -> Result<Option<DynamicObject>, ActError> {
        self.read_any(names, &canaries(), "canaries.flagger.app", name).await
    }

    async fn read_any(
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

    async fn tell_flagger(&self, names: &Names, flaggers: &DynamicObject, patch: Value) -> Result<(), ActError> {
        info!(namespace = names.namespace, canary = names.canary, %patch, "changes Flagger's Canary");
        change(&self.stores.api, &canaries(), "canaries.flagger.app", flaggers, patch).await.map(drop)
    }
}

/// Returns the configs that a Canary of Flagger's controls.
fn owned_by<V: Config>(cache: &Cache<V>, names: &Names, uid: &str) -> Vec<String> {
    let all = cache.of(&names.namespace);
    let owned = all.iter().filter(|it| controller_of(&it.metadata).is_some_and(|(_, owner)| owner == uid));
    owned.map(|it| it.name().to_owned()).collect()
}

/// Returns what Flagger's Canary lacks to be left alone and to go without giving anything back, if it lacks something.
fn leave_alone(flaggers: &DynamicObject) -> Option<Value> {
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

/// Returns whether Weir, and nobody else, has said that Flagger's Canary is suspended.
fn suspended_by_weir(flaggers: &DynamicObject) -> bool {
    let says = |entry: &&ManagedFieldsEntry| {
        entry.fields_v1.as_ref().is_some_and(|fields| fields.0["f:spec"].get("f:suspend").is_some())
    };
    let mut who = flaggers.metadata.managed_fields.iter().flatten().filter(says).peekable();
    flaggers.data["spec"]["suspend"] == true
        && who.peek().is_some()
        && who.all(|entry| entry.manager.as_deref() == Some(TAKE_OVER_MANAGER))
}

/// Returns the patch that makes an object Weir's in Flagger's place.
fn taken(names: &Names, live: &DynamicObject, is_labelled: bool) -> Value {
    let owners = live.metadata.owner_references.iter().flatten();
    let others = owners.filter(|owner| owner.controller != Some(true)).map(|owner| json!(owner));
    let own = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"), "kind": "Canary", "name": names.canary, "uid": names.uid,
        "controller": true, "blockOwnerDeletion": true,
    });
    let mut patch = json!({"metadata": {"ownerReferences": others.chain([own]).collect::<Vec<_>>()}});
    if is_labelled {
        patch["metadata"]["labels"] = json!({MANAGED_BY: MANAGER, CANARY_LABEL: names.canary});
    }
    patch
}
