//! Takes over what Flagger controls, while its Canary is there and suspended: the same objects, and no pod of the primary is restarted.
//!
//! ```text
//!  can all be had? ─> Flagger at rest? ─> Weir's finalizer ─> suspend Flagger's Canary ─> its last look is over
//!      ─> what the primary runs: remembered ─> each object: Flagger's reference becomes Weir's, in one write ─> an ordinary pass
//! ```
//!
//! Each step can be the last one of a controller that dies: the next one begins anew, and finds what is done as done. An object that is
//! still Flagger's keeps all others from being written, so no two controllers write one Canary's objects. Until the last one has changed
//! hands the takeover can be called off: by whoever asked for it, or because it turns out that not all can be had.

use std::sync::Arc;
use std::time::Duration;

use kube::api::{ApiResource, DynamicObject};
use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::info;
use weir_engine::{Event, Revision, Severity, Span, State};

use super::former::{leave_alone, suspended_by_weir};
use super::reconciler::Reconciler;
use super::status::{conditions, faulty};
use super::subject::Subject;
use crate::api::{GROUP, VERSION};
use crate::kubernetes::api_server::apply::{ActError, change, is_status};
use crate::kubernetes::api_server::cache::Cache;
use crate::kubernetes::api_server::clock::{now, rfc3339};
use crate::kubernetes::api_server::object::resource;
use crate::kubernetes::api_server::{MANAGED_BY, MANAGER};
use crate::kubernetes::configs::{plain, resolve_revision};
use crate::kubernetes::kinds::canary::{Canary, CanaryStatus, Fault, TakenOver};
use crate::kubernetes::kinds::config::{Config, ConfigMapView, SecretView};
use crate::kubernetes::render::{CANARY_LABEL, INHERITED, Names, references, template_of};
use crate::kubernetes::router::{own_endpoints, routes_by_others, shares_with_canary};
use crate::kubernetes::target::apart::{apart, beside};
use crate::kubernetes::target::flagger::{
    Around, CONTROLLED, Controlled, changed_since, controller_of, reowned, runs_target, under_way,
};
use crate::kubernetes::target::revision::keep_inherited;

/// The reason of a Canary that takes over what another controller controls.
const TAKING_OVER: &str = "TakingOver";
/// Time that a look of Flagger takes which began before its Canary was suspended. At rest it is a dozen calls; whatever it decides
/// after that is undone, since the routes are not written by the look that finds a new revision.
const LAST_LOOK: Duration = Duration::from_secs(3);
/// Time to the next look while Flagger is waited for.
const RECHECK: Span = Span::seconds(1);
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
        subject: &mut Subject,
        controlled: &Controlled,
        finalized: bool,
    ) -> Result<Span, ActError> {
        self.former.is_free = false;
        let flaggers = match self.flaggers(&subject.names, &controlled.canary).await {
            Ok(Some(flaggers)) if controlled.is_of(&flaggers) => flaggers,
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
        if subject.asking {
            return Ok(RECHECK);
        }
        subject.names.former = Some(controlled.uid.clone());
        let is_begun = !self.in_hand(canary, &subject.names).is_empty();
        let mut declared = None;
        let fault = match self.apart(&subject.names, &flaggers) {
            None if is_begun => None,
            None => match self.declared(canary, subject, controlled).await? {
                Ok(revision) => {
                    declared = Some(revision);
                    None
                }
                Err(fault) => Some(fault),
            },
            fault => fault,
        };
        let names = &subject.names;
        if let Some(fault) = fault {
            self.call_off(canary, names, &flaggers).await?;
            return self.refuse(canary, fault).await;
        }
        if let Some(why) = self.busy(&flaggers, names) {
            let paused = flaggers.data["spec"]["suspend"] == true && !suspended_by_weir(&flaggers);
            // It was in the middle of something that nobody could see yet: it goes on.
            self.call_off(canary, names, &flaggers).await?;
            let remedy = if paused { ": it is suspended, so set its spec.suspend to false" } else { "" };
            let text = format!("waiting for a rollout of Flagger's to end, {why}{remedy}");
            return self.wait_for_flagger(canary, &text).await;
        }
        if !finalized {
            // What changes hands would go with a Canary that nothing holds. One that is gone meanwhile has no next pass.
            self.finalizer(canary, true).await?;
            return Ok(RECHECK);
        }
        if let Some(patch) = leave_alone(&flaggers) {
            self.tell_flagger(names, &flaggers, patch).await?;
            self.former.suspended = Some(Instant::now());
        }
        if self.former.suspended.get_or_insert_with(Instant::now).elapsed() < LAST_LOOK {
            return self.wait_for_flagger(canary, "Flagger is told to leave the objects alone").await;
        }
        self.take(canary, subject, declared, &flaggers, controlled).await?;
        Ok(RECHECK)
    }

    /// Returns why what Flagger's Canary controls cannot all change hands: the rest would go with it.
    fn apart(&self, names: &Names, flaggers: &DynamicObject) -> Option<Fault> {
        let kept = beside(&self.stores, names, flaggers);
        let also = || {
            format!(
                "also controls {}, which go with it: take the ownerReferences out of what is to stay",
                kept.join(", ")
            )
        };
        let why = apart(&flaggers.data, names)
            .or_else(|| routes_by_others(&self.stores, names, &flaggers.data["spec"]))
            .or_else(|| (!kept.is_empty()).then(also))?;
        let name = flaggers.metadata.name.as_deref().unwrap_or_default();
        Some((CONTROLLED, format!("canaries.flagger.app {name} {why}")))
    }

    /// Returns the revision that the target declares, or what would keep the Canary from looking after what it took: Flagger is
    /// told nothing then.
    async fn declared(
        &self,
        canary: &Canary,
        subject: &Subject,
        controlled: &Controlled,
    ) -> Result<Result<Revision, Fault>, ActError> {
        let (stores, names) = (&self.stores, &subject.names);
        let Some(target) = &subject.target else {
            let text =
                format!("canaries.flagger.app {} releases {}, which is not there", controlled.canary, names.target);
            return Ok(Err((CONTROLLED, text)));
        };
        let resolved = resolve_revision(stores, names, Some(target), &State::default());
        let fault = subject
            .unusable(self, canary)
            .or_else(|| subject.taken(self, canary, None))
            .or(own_endpoints(stores, names).await?)
            .or_else(|| self.copies_go(names))
            .or_else(|| resolved.as_ref().err().cloned());
        Ok(fault.map_or_else(|| resolved.map(|declared| declared.revision), Err))
    }

    /// Says that the primary reads what goes with Flagger's Canary, where nobody may take it.
    fn copies_go(&self, names: &Names) -> Option<Fault> {
        let primary = self.stores.target(names.kind, &names.namespace, &names.primary())?;
        controller_of(primary.metadata())?;
        let copies = references(&primary.template()).iter().any(|config| config.name.ends_with("-primary"));
        (copies && !self.stores.settings.config_tracking).then(|| {
            let text = format!(
                "{} {} reads copies of Flagger's, which go with its Canary: install Weir's chart with configTracking.enabled=true",
                names.kind.word(),
                primary.name()
            );
            (CONTROLLED, text)
        })
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
        subject: &Subject,
        declared: Option<Revision>,
        flaggers: &DynamicObject,
        controlled: &Controlled,
    ) -> Result<(), ActError> {
        let names = &subject.names;
        let primary = self.stores.target(names.kind, &names.namespace, &names.primary());
        let primary = primary.filter(|primary| controller_of(primary.metadata()).is_some());
        if let Some(((primary, target), declared)) = primary.zip(subject.target.as_ref()).zip(declared) {
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
        Ok(())
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
}

/// Returns the configs that a Canary of Flagger's controls.
fn owned_by<V: Config>(cache: &Cache<V>, names: &Names, uid: &str) -> Vec<String> {
    let all = cache.of(&names.namespace);
    let owned = all.iter().filter(|it| controller_of(&it.metadata).is_some_and(|(_, owner)| owner == uid));
    owned.map(|it| it.name().to_owned()).collect()
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
