//! The objects under the name that users call, the Service and the router's: made or adopted when the Canary comes, given back when
//! it goes.
//!
//! What existed before Weir is never deleted by it, and is made what it was again. What Weir made goes with its Canary, unless
//! `revertOnDeletion` says that the requests go on: then it leads to the target, and is nobody's.

use std::sync::Arc;

use serde_json::{Value, json};

use super::own_endpoints::{endpoints, own_endpoints};
use crate::api::{CanarySpec, GROUP};
use crate::kubernetes::api_server::MANAGED_BY;
use crate::kubernetes::api_server::apply::{ActError, apply, is_status, take_out};
use crate::kubernetes::api_server::cache::Cache;
use crate::kubernetes::api_server::object::{Cached, Projection, resource};
use crate::kubernetes::executor::{Executor, owned_by_other, standing};
use crate::kubernetes::kinds::Target;
use crate::kubernetes::kinds::canary::Fault;
use crate::kubernetes::kinds::selects;
use crate::kubernetes::render::{self, CANARY_LABEL, Names, ORIGINAL, Ownership, Role};
use crate::kubernetes::stores::Stores;
use crate::kubernetes::target::conflicts::served_beside;

/// Whose an object is, by what it says itself.
pub(super) enum Origin {
    /// There is none.
    Missing,
    /// Weir made it.
    Made,
    /// Somebody else's, and Weir has not touched it, or has given it back.
    Foreign,
    /// Somebody else's, adopted by Weir; with what it was, unless somebody removed that.
    Adopted(Option<String>),
}

/// Returns whose the objects are that Weir made under the apex's name, once the Canary is being deleted.
#[must_use]
pub(in crate::kubernetes) fn ownership_after_deletion(spec: &CanarySpec) -> Ownership {
    if spec.revert_on_deletion == Some(true) { Ownership::Released } else { Ownership::Owned }
}

pub(super) fn origin<V: Projection>(live: Option<&Cached<V>>, names: &Names) -> Origin {
    let Some(live) = live else { return Origin::Missing };
    let mut owners = live.metadata.owner_references.iter().flatten();
    let is_own = owners.any(|owner| owner.kind == "Canary" && owner.api_version.starts_with(GROUP));
    if is_own || names.takes_over(&live.metadata) {
        return Origin::Made;
    }
    if let Some(original) = original_of(live) {
        return Origin::Adopted(Some(original.to_owned()));
    }
    match live.label(CANARY_LABEL) == Some(&names.canary) {
        true => Origin::Adopted(None),
        false => Origin::Foreign,
    }
}

/// Returns the spec that an object had before Weir; nothing where Weir made it.
pub(super) fn spec_before<V: Projection>(live: &Cached<V>, names: &Names) -> Value {
    match origin(Some(live), names) {
        Origin::Foreign => live.body()["spec"].take(),
        Origin::Adopted(Some(original)) => {
            serde_json::from_str::<Value>(&original).map(|mut original| original["spec"].take()).unwrap_or_default()
        }
        Origin::Adopted(None) | Origin::Made | Origin::Missing => Value::Null,
    }
}

/// Returns what an object was before Weir, where Weir itself has written that down: restored with Weir's rights, it must be
/// nobody else's word.
fn original_of<V: Projection>(live: &Cached<V>) -> Option<&str> {
    live.annotation(ORIGINAL).filter(|_| live.owners().is_some_and(|owners| owners.wrote_annotation(ORIGINAL)))
}

/// Returns why an object under the apex's name can be neither made nor adopted: one word, and a sentence.
pub(crate) fn apex_conflict(stores: &Stores, names: &Names, spec: &CanarySpec) -> Option<Fault> {
    let service = stores.services.get(&names.namespace, &names.apex);
    if let Some(problem) = owned_by_other(stores, service.as_deref(), names) {
        return Some(("NameTaken", problem));
    }
    if let Some(service) = service.filter(|service| service.body()["spec"]["type"] == "ExternalName") {
        let problem = format!(
            "Service {} is a name for another host (type ExternalName) and leads to no pods: give the Canary another service.name",
            service.name()
        );
        return Some(("NameTaken", problem));
    }
    leads_to_others(stores, names).or_else(|| super::routes_conflict(stores, names, spec))
}

/// A Service that is adopted leads to the primary alone: whoever else it finds would get none of its requests any more.
fn leads_to_others(stores: &Stores, names: &Names) -> Option<Fault> {
    let service = stores.services.get(&names.namespace, &names.apex)?;
    let selector = &service.fields.spec.selector;
    if !matches!(origin(Some(&service), names), Origin::Foreign) || selector.is_empty() {
        return None;
    }
    let other = served_beside(stores, names, selector)?;
    let apex = &names.apex;
    let problem = format!(
        "Service {apex} leads to the pods of {other}, and would lead to those of {} alone: give the Canary another service.name, or \
         let the Service select the pods of {} only",
        names.primary(),
        names.target
    );
    Some(("RoutesElsewhere", problem))
}

impl Executor<'_> {
    /// Makes the routes: the token to the canary, everything else to the primary.
    ///
    /// # Errors
    /// When the API refuses a write.
    pub(crate) async fn route(&self) -> Result<(), ActError> {
        let Some(target) = self.target else { return Ok(()) };
        let template = target.template();
        let live = self.stores.target(self.names.kind, &self.names.namespace, &self.names.primary());
        // Of what the primary's pods are now.
        let kept = live.as_ref().map_or_else(|| template.clone(), Target::template);
        let labels = self.labels(&kept, live.as_ref())?;
        let mut speech = self.speech(&template);
        if let Some(serving) = standing(self.stores, self.names).or(live) {
            speech = self.spoken(&serving, &speech);
        }
        let ports = render::ports(self.spec, &kept, &speech.main_port());
        let service =
            |ownership| render::service(self.names, self.spec, Role::Apex(ownership), &labels.primary, &ports);
        // The routes first: once they lead to the arms' own services, nobody depends on what the apex selects.
        self.make_routes(&ports).await?;
        if let Some((_, problem)) = own_endpoints(self.stores, self.names).await? {
            return Err(ActError::Precondition(problem));
        }
        self.ensure_service(&self.held(&self.stores.services, service)?).await
    }

    /// Renders an apex object as what it is to Weir.
    pub(super) fn held<V: Projection>(
        &self,
        cache: &Cache<V>,
        render: impl Fn(Ownership) -> Value,
    ) -> Result<Value, ActError> {
        let live = cache.get(&self.names.namespace, &self.names.apex);
        match (origin(live.as_deref(), self.names), live) {
            (Origin::Foreign, Some(live)) => {
                if let Some((_, problem)) = apex_conflict(self.stores, self.names, self.spec) {
                    return Err(ActError::Precondition(problem));
                }
                let wanted = render(Ownership::Adopted);
                let conditions = render::union_of_conditions(&live.body()["spec"]);
                let original = render::remember(&self.unreleased(&live), &wanted, conditions);
                let original = original.map_err(ActError::Precondition)?;
                tracing::info!(kind = V::KIND, namespace = live.namespace(), name = live.name(), "adopted");
                Ok(render::adopt(wanted, Some(&original)))
            }
            (Origin::Adopted(original), _) => Ok(render::adopt(render(Ownership::Adopted), original.as_deref())),
            (Origin::Missing | Origin::Made | Origin::Foreign, _) => Ok(render(Ownership::Owned)),
        }
    }

    fn unreleased<V: Projection>(&self, live: &Cached<V>) -> Value {
        let Some(target) = self.target else { return live.json() };
        let primary = self.stores.target(self.names.kind, &self.names.namespace, &self.names.primary());
        let pods = primary.as_ref().map(Target::pod_labels);
        render::unreleased(live.json(), V::KIND, self.names, target.selector(), pods)
    }

    /// Makes the routes lead to the target again, or to wherever they led before Weir.
    ///
    /// # Errors
    /// When the API refuses a write.
    pub(crate) async fn unroute(&self) -> Result<(), ActError> {
        let Some(target) = self.target else { return Ok(()) };
        let selector = target.selector();
        let template = target.template();
        let ports = render::ports(self.spec, &template, &self.speech(&template).main_port());
        let service = |ownership| render::service(self.names, self.spec, Role::Apex(ownership), selector, &ports);
        // The Service first: the routes will lead to it.
        self.give_back(&self.stores.services, service).await?;
        self.give_back_routes(ports.len() > 1).await
    }

    pub(super) async fn give_back<V: Projection>(
        &self,
        cache: &Cache<V>,
        render: impl Fn(Ownership) -> Value,
    ) -> Result<(), ActError> {
        let Some(live) = cache.get(&self.names.namespace, &self.names.apex) else { return Ok(()) };
        match origin(Some(&live), self.names) {
            Origin::Missing | Origin::Foreign => Ok(()),
            Origin::Made if ownership_after_deletion(self.spec) == Ownership::Owned => {
                self.ensure(cache, &render(Ownership::Owned)).await
            }
            // Applied even where nothing differs: this apply is there to remove the fields that it leaves out.
            Origin::Made | Origin::Adopted(None) => {
                let live = apply(&self.stores.api, cache, &render(Ownership::Released)).await?;
                self.disown(cache, &live).await
            }
            Origin::Adopted(Some(original)) => restore(self.stores, cache, &live, &original).await,
        }
    }

    /// Takes out of an object what still says that it goes with its Canary: of one that was taken over, an apply takes out nothing that
    /// the takeover wrote.
    async fn disown<V: Projection>(&self, cache: &Cache<V>, live: &Cached<V>) -> Result<(), ActError> {
        let owners = live.metadata.owner_references.clone().unwrap_or_default();
        let others: Vec<_> = owners.iter().filter(|owner| owner.uid != self.names.uid).collect();
        if others.len() == owners.len() && live.label(CANARY_LABEL).is_none() {
            return Ok(());
        }
        let labels = json!({MANAGED_BY: null, CANARY_LABEL: null});
        let patch = json!({"metadata": {"ownerReferences": others, "labels": labels}});
        take_out(&self.stores.api, cache, live, patch).await.map(drop)
    }

    /// Makes sure that nobody who calls the apex still ends at the primary, which goes with the Canary.
    ///
    /// # Errors
    /// While some do.
    pub(crate) async fn traffic_left_primary(&self) -> Result<(), ActError> {
        let (namespace, apex) = (&self.names.namespace, &self.names.apex);
        let primary = self.stores.target(self.names.kind, namespace, &self.names.primary());
        let (Some(_), Some(service), Some(primary)) = (self.target, self.stores.services.get(namespace, apex), primary)
        else {
            return Ok(());
        };
        if selects(&service.fields.spec.selector, Some(primary.pod_labels())) {
            // What it was before Weir finds the primary's pods too, and loses them as it would any pod.
            return Ok(());
        }
        let primary = format!("{}-", self.names.primary());
        let leads_there = endpoints(self.stores, namespace, apex).await?.into_iter().any(|endpoint| {
            endpoint.target_ref.and_then(|pod| pod.name).is_some_and(|name| name.starts_with(&primary))
        });
        match leads_there {
            true => Err(ActError::Waiting(format!("Service {apex} still leads to {primary}*"))),
            false => Ok(()),
        }
    }
}

/// Gives back whatever a Canary has adopted, where its target is gone and nobody can be waited for.
///
/// # Errors
/// When the API refuses a write.
pub(crate) async fn restore_all(stores: &Stores, namespace: &str, canary: &str) -> Result<(), ActError> {
    restore_of(stores, &stores.services, namespace, canary).await?;
    super::restore_routes(stores, namespace, canary).await
}

pub(super) async fn restore_of<V: Projection>(
    stores: &Stores,
    cache: &Cache<V>,
    namespace: &str,
    canary: &str,
) -> Result<(), ActError> {
    for live in cache.of(namespace).iter().filter(|live| live.label(CANARY_LABEL) == Some(canary)) {
        let Some(original) = original_of(live) else { continue };
        match restore(stores, cache, live, original).await {
            // Gone already, or going with its namespace.
            Err(ActError::Write { source, .. }) if [403, 404, 409].iter().any(|code| is_status(&source, *code)) => {}
            other => other?,
        }
    }
    Ok(())
}

async fn restore<V: Projection>(
    stores: &Stores,
    cache: &Cache<V>,
    live: &Arc<Cached<V>>,
    original: &str,
) -> Result<(), ActError> {
    let version = resource::<V>().api_version;
    let metadata = live.json()["metadata"].take();
    let restored = render::restored(&(&version, V::KIND), &metadata, original).map_err(ActError::Precondition)?;
    apply(&stores.api, cache, &restored).await?;
    tracing::info!(kind = V::KIND, namespace = live.namespace(), name = live.name(), "given back");
    Ok(())
}
