//! The objects under the name that users call, the Service and the router's: made or adopted when the Canary comes, given back when
//! it goes.
//!
//! What existed before Weir is never deleted by it, and is made what it was again. What Weir made goes with its Canary, unless
//! `revertOnDeletion` says that the requests go on: then it leads to the target, and is nobody's.

use std::sync::Arc;

use k8s_openapi::api::discovery::v1::Endpoint;
use serde_json::{Value, json};

use super::origin::{Origin, origin, original_of, refuse_controlled};
use super::own_endpoints::{endpoints, own_endpoints};
use crate::api::CanarySpec;
use crate::kubernetes::api_server::MANAGED_BY;
use crate::kubernetes::api_server::apply::{ActError, apply, is_status, take_out};
use crate::kubernetes::api_server::cache::Cache;
use crate::kubernetes::api_server::object::{Cached, Projection, resource};
use crate::kubernetes::executor::{Executor, any_endpoint, owned_by_other, standing};
use crate::kubernetes::kinds::Target;
use crate::kubernetes::kinds::canary::Fault;
use crate::kubernetes::kinds::selects;
use crate::kubernetes::render::{self, CANARY_LABEL, Names, Ownership, Role, Serving};
use crate::kubernetes::stores::Stores;
use crate::kubernetes::target::conflicts::served_beside;

/// Returns whose the objects are that Weir made under the apex's name, once the Canary is being deleted.
#[must_use]
pub(in crate::kubernetes) fn ownership_after_deletion(spec: &CanarySpec) -> Ownership {
    if spec.revert_on_deletion == Some(true) { Ownership::Released } else { Ownership::Owned }
}

/// Returns why an object under the apex's name can be neither made nor adopted: one word, and a sentence.
pub(crate) fn apex_conflict(stores: &Stores, names: &Names, spec: &CanarySpec) -> Option<Fault> {
    service_conflict(stores, names).or_else(|| super::routes_conflict(stores, names, spec))
}

fn service_conflict(stores: &Stores, names: &Names) -> Option<Fault> {
    let service = stores.services.get(&names.namespace, &names.apex);
    if let Some(problem) = owned_by_other(stores, service.as_deref(), names) {
        return Some(("NameTaken", problem));
    }
    if let Some(fault) = refuse_controlled(service.as_deref(), names) {
        return Some(fault);
    }
    if let Some(service) = service.filter(|service| service.body()["spec"]["type"] == "ExternalName") {
        let problem = format!(
            "Service {} is a name for another host (type ExternalName) and leads to no pods: give the Canary another service.name",
            service.name()
        );
        return Some(("NameTaken", problem));
    }
    leads_to_others(stores, names)
}

/// A Service that is adopted leads to the primary alone: whoever else it finds would get none of its requests any more.
fn leads_to_others(stores: &Stores, names: &Names) -> Option<Fault> {
    let service = stores.services.get(&names.namespace, &names.apex)?;
    let selector = &service.fields.spec.selector;
    if !matches!(origin(Some(&service), names), Origin::Foreign | Origin::Claimed) || selector.is_empty() {
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
        let serving = standing(self.stores, self.names).or(live);
        if let Some(serving) = &serving {
            speech = self.spoken(serving, &speech);
        }
        let ports = render::ports(self.spec, &kept, &speech.main_port());
        let service =
            |ownership| render::service(self.names, self.spec, Role::Apex(ownership), &labels.primary, &ports);
        let found = self.stores.services.get(&self.names.namespace, &self.names.apex);
        let found = origin(found.as_deref(), self.names);
        let serves = any_endpoint(self.stores, &self.names.namespace, &self.names.primary_service());
        let is_empty = serving.is_some_and(|primary| primary.progress().wanted == 0);
        if matches!(found, Origin::Foreign) && !(serves || self.stands_in || is_empty) {
            let (apex, primary) = (&self.names.apex, self.names.primary());
            return Err(ActError::Waiting(format!("Service {apex} stays as it is until {primary} serves")));
        }
        // The routes first: once they lead to the arms' own services, nobody depends on what the apex selects.
        let routed = self.make_routes(&ports).await;
        match found {
            // Its users' own routes may lead to it: it leads to the primary, whatever becomes of those.
            Origin::Made | Origin::Claimed | Origin::Adopted(_) => {}
            Origin::Missing | Origin::Foreign if routed.is_err() => return routed,
            Origin::Missing | Origin::Foreign => {
                if let Some((_, problem)) = own_endpoints(self.stores, self.names).await? {
                    return Err(ActError::Precondition(problem));
                }
            }
        }
        self.ensure_service(&self.held(&self.stores.services, service)?).await?;
        routed?;
        if self.renamed && (serves || self.stands_in) {
            self.lead_earlier(&ports, &labels.primary).await?;
        }
        Ok(())
    }

    /// Renders an apex object as what it is to Weir.
    pub(super) fn held<V: Projection>(
        &self,
        cache: &Cache<V>,
        render: impl Fn(Ownership) -> Value,
    ) -> Result<Value, ActError> {
        let live = cache.get(&self.names.namespace, &self.names.apex);
        match (origin(live.as_deref(), self.names), live) {
            (origin @ (Origin::Foreign | Origin::Claimed), Some(live)) => {
                let conflict = match origin {
                    // It leads to the primary, whatever becomes of the routes.
                    Origin::Claimed if V::KIND == "Service" => service_conflict(self.stores, self.names),
                    _ => apex_conflict(self.stores, self.names, self.spec),
                };
                if let Some((_, problem)) = conflict {
                    return Err(ActError::Precondition(problem));
                }
                let wanted = render(Ownership::Adopted);
                let conditions = render::union_of_conditions(&live.body()["spec"]);
                let mut before = self.unreleased(&live);
                if matches!(origin, Origin::Claimed) {
                    let exports = live.owners().is_some_and(|owners| owners.others_wrote("exportTo"));
                    render::without_own(&mut before, &wanted, exports);
                }
                let original = render::remember(&before, &wanted, conditions);
                let original = original.map_err(ActError::Precondition)?;
                tracing::info!(kind = V::KIND, namespace = live.namespace(), name = live.name(), "adopted");
                Ok(render::adopt(wanted, Some(&original)))
            }
            (Origin::Adopted(original), live) => {
                let wanted = render(Ownership::Adopted);
                let original = original
                    .map(|original| live.and_then(|live| extended(&original, &live, &wanted)).unwrap_or(original));
                Ok(render::adopt(wanted, original.as_deref()))
            }
            (Origin::Missing | Origin::Made | Origin::Foreign | Origin::Claimed, _) => Ok(render(Ownership::Owned)),
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
        // The Services first: the routes will lead to them.
        if let Some(live) = self.stores.services.get(&self.names.namespace, &self.names.apex) {
            self.give_back(&self.stores.services, &live, service).await?;
        }
        self.give_back_earlier_services(&ports, selector).await?;
        self.give_back_routes(ports.len() > 1).await
    }

    pub(super) async fn give_back<V: Projection>(
        &self,
        cache: &Cache<V>,
        live: &Arc<Cached<V>>,
        render: impl Fn(Ownership) -> Value,
    ) -> Result<(), ActError> {
        match origin(Some(live), self.names) {
            Origin::Missing | Origin::Foreign => Ok(()),
            Origin::Claimed => self.disown(cache, live).await,
            Origin::Made if ownership_after_deletion(self.spec) == Ownership::Owned => {
                self.ensure(cache, &render(Ownership::Owned)).await
            }
            // Applied even where nothing differs: this apply is there to remove the fields that it leaves out.
            Origin::Made | Origin::Adopted(None) => {
                let live = apply(&self.stores.api, cache, &render(Ownership::Released)).await?;
                self.disown(cache, &live).await
            }
            Origin::Adopted(Some(original)) => {
                let Some(target) = self.target else { return restore(self.stores, cache, live, &original, None).await };
                let template = target.template();
                let ports = render::ports(self.spec, &template, &self.speech(&template).main_port());
                let (selector, pods) = (target.selector(), target.pod_labels());
                let serving = Serving { selector, pods, template: &template, port: &ports[0] };
                restore(self.stores, cache, live, &original, Some(&serving)).await
            }
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
        let (Some(target), Some(service), Some(primary)) =
            (self.target, self.stores.services.get(namespace, apex), primary)
        else {
            return Ok(());
        };
        if selects(&service.fields.spec.selector, Some(primary.pod_labels())) {
            // What it was before Weir finds the primary's pods too, and loses them as it would any pod.
            return Ok(());
        }
        let primary = format!("{}-", self.names.primary());
        let endpoints = endpoints(self.stores, namespace, apex).await?;
        let is_ready = |endpoint: &Endpoint| endpoint.conditions.as_ref().and_then(|it| it.ready) != Some(false);
        let serves = endpoints.iter().any(is_ready);
        let leads_there = endpoints.into_iter().any(|endpoint| {
            endpoint.target_ref.and_then(|pod| pod.name).is_some_and(|name| name.starts_with(&primary))
        });
        if leads_there {
            return Err(ActError::Waiting(format!("Service {apex} still leads to {primary}*")));
        }
        // Without a selector it led to nobody before.
        if !serves && target.progress().available > 0 && !service.fields.spec.selector.is_empty() {
            return Err(ActError::Waiting(format!("Service {apex} leads to no pod of {} yet", target.name())));
        }
        Ok(())
    }
}

/// Returns what an adopted object was, with what of it is about to be changed for the first time.
fn extended<V: Projection>(original: &str, live: &Cached<V>, wanted: &Value) -> Option<String> {
    let owners = live.owners()?;
    render::extended(original, &live.json(), wanted, |path| owners.wrote(path))
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
        match restore(stores, cache, live, original, None).await {
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
    serving: Option<&Serving<'_>>,
) -> Result<(), ActError> {
    let version = resource::<V>().api_version;
    let metadata = live.json()["metadata"].take();
    let restored =
        render::restored(&(&version, V::KIND), &metadata, original, serving).map_err(ActError::Precondition)?;
    apply(&stores.api, cache, &restored).await?;
    tracing::info!(kind = V::KIND, namespace = live.namespace(), name = live.name(), "given back");
    Ok(())
}
