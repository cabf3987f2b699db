//! What the actions of one Canary have in common: whom they are for, and how an object is compared and written.

use std::sync::Arc;

use serde_json::Value;

use crate::api::{CanarySpec, GROUP, TargetKind};
use crate::kubernetes::api_server::apply::{ActError, Part, apply, apply_as, take_out};
use crate::kubernetes::api_server::cache::Cache;
use crate::kubernetes::api_server::cover::covers;
use crate::kubernetes::api_server::object::{Cached, Projection};
use crate::kubernetes::api_server::written::Written;
use crate::kubernetes::configs::TrackedRevision;
use crate::kubernetes::kinds::Target;
use crate::kubernetes::render::{ArmLabels, CANARY_LABEL, Names};
use crate::kubernetes::stores::Stores;

/// Carries out the actions of one Canary: its methods stand beside the objects that they write.
pub(crate) struct Executor<'a> {
    /// The cluster.
    pub(crate) stores: &'a Arc<Stores>,
    /// The objects' names.
    pub(crate) names: &'a Names,
    /// What the user wants.
    pub(crate) spec: &'a CanarySpec,
    /// The target, if it exists.
    pub(crate) target: Option<&'a Target>,
    /// What it declares, if that can be told.
    pub(crate) resolved: Option<&'a TrackedRevision>,
    /// What was written last.
    pub(crate) written: &'a Written,
}

impl Executor<'_> {
    /// Returns the labels of the arms, where the primary is of this pod template.
    pub(in crate::kubernetes) fn labels(
        &self,
        template: &Value,
        primary: Option<&Target>,
    ) -> Result<ArmLabels, ActError> {
        let pods = serde_json::from_value(template["metadata"]["labels"].clone()).unwrap_or_default();
        ArmLabels::new(self.names, self.target, primary, &pods).map_err(ActError::Precondition)
    }

    /// Writes an object where the live one is not what is wanted.
    pub(in crate::kubernetes) async fn ensure<V: Projection>(
        &self,
        cache: &Cache<V>,
        wanted: &Value,
    ) -> Result<(), ActError> {
        self.ensure_where(cache, wanted, |live| covers(live, &comparable(wanted))).await
    }

    /// Writes a workload where the live one is not what is wanted.
    pub(in crate::kubernetes) async fn ensure_target(&self, wanted: &Value) -> Result<(), ActError> {
        match self.names.kind {
            TargetKind::Deployment => self.ensure(&self.stores.deployments, wanted).await,
        }
    }

    /// Writes what is said of a workload, as one of Weir's field managers.
    pub(in crate::kubernetes) async fn apply_target(&self, manager: &str, object: &Value) -> Result<(), ActError> {
        let api = &self.stores.api;
        match self.names.kind {
            TargetKind::Deployment => {
                apply_as(api, manager, &self.stores.deployments, object, Part::Whole).await.map(drop)
            }
        }
    }

    /// Writes a service where the live one is not what is wanted. Ports that somebody else added to an adopted one stay.
    pub(in crate::kubernetes) async fn ensure_service(&self, wanted: &Value) -> Result<(), ActError> {
        self.ensure_where(&self.stores.services, wanted, |live| service_is(live, wanted)).await
    }

    async fn ensure_where<V: Projection>(
        &self,
        cache: &Cache<V>,
        wanted: &Value,
        is_so: impl Fn(&Value) -> bool,
    ) -> Result<(), ActError> {
        let (kind, name) = (V::KIND, wanted["metadata"]["name"].as_str().unwrap_or_default());
        let live = cache.get(&self.names.namespace, name);
        if name == self.names.apex {
            self.refuse_owned_by_other(live.as_deref())?;
        } else {
            refuse_foreign(live.as_deref(), self.names)?;
        }
        if let Some(live) = &live {
            if self.written.says(kind, name, wanted, live.version()) {
                return Ok(());
            }
            let settled = live.owners().is_some_and(|owners| owners.are_settled(wanted));
            if settled && self.additions(live, wanted).is_none() && is_so(&live.json()) {
                self.written.record(kind, name, wanted, live.version());
                return Ok(());
            }
        }
        let mut now = apply(&self.stores.api, cache, wanted).await?;
        if let Some(added) = self.additions(&now, wanted).filter(|_| self.written.may_clean::<V>(name)) {
            tracing::info!(kind, namespace = now.namespace(), name, %added, "takes out what somebody added");
            now = take_out(&self.stores.api, cache, &now, added).await?;
        }
        self.written.record(kind, name, wanted, now.version());
        Ok(())
    }

    /// Returns what must be taken out of an object that is Weir's own alone: what others added to its spec. The Service that
    /// users call is theirs to add to, whoever made it.
    fn additions<V: Projection>(&self, live: &Cached<V>, wanted: &Value) -> Option<Value> {
        let own = wanted["metadata"].get("ownerReferences").is_some();
        let users = V::KIND == "Service" && live.name() == self.names.apex;
        live.owners().filter(|_| own && !users)?.additions(&live.json(), wanted)
    }

    pub(in crate::kubernetes) fn refuse_owned_by_other<V: Projection>(
        &self,
        live: Option<&Cached<V>>,
    ) -> Result<(), ActError> {
        owned_by_other(self.stores, live, self.names).map_or(Ok(()), |problem| Err(ActError::Precondition(problem)))
    }
}

/// Returns whose an object is, where it belongs to another Canary: two must not write one object in turn.
pub(in crate::kubernetes) fn owned_by_other<V: Projection>(
    stores: &Stores,
    live: Option<&Cached<V>>,
    names: &Names,
) -> Option<String> {
    let live = live?;
    let owner = live.label(CANARY_LABEL).filter(|owner| *owner != names.canary)?;
    stores.canaries.get(&names.namespace, owner)?;
    let (kind, name) = (V::KIND, live.name());
    Some(format!("{kind} {name} belongs to Canary {owner}: give one of the two another service.name"))
}

/// Returns whose an object is that must be the Canary's own alone, where it is not.
pub(in crate::kubernetes) fn foreign<V: Projection>(live: Option<&Cached<V>>, names: &Names) -> Option<String> {
    let live = live?;
    let (kind, name) = (V::KIND, live.name());
    let owners = live.metadata.owner_references.iter().flatten();
    let group = format!("{GROUP}/");
    let mut canaries = owners.clone().filter(|owner| owner.kind == "Canary" && owner.api_version.starts_with(&group));
    let labelled = live.label(CANARY_LABEL) == Some(&names.canary);
    let who = match canaries.next() {
        Some(owner) if owner.name == names.canary && labelled => return None,
        Some(owner) => format!("belongs to Canary {}", owner.name),
        None => match owners.clone().find(|owner| owner.controller == Some(true)) {
            Some(owner) => format!("belongs to {} {} ({})", owner.kind, owner.name, owner.api_version),
            None => "is not Weir's".to_owned(),
        },
    };
    Some(format!(
        "{kind} {name} {who}, but Canary {} needs the name: rename or delete it, or give the Canary another target or service.name",
        names.canary
    ))
}

/// Returns whose a workload is that must be the Canary's own alone, where it is not.
pub(in crate::kubernetes) fn foreign_target(live: Option<&Target>, names: &Names) -> Option<String> {
    match live? {
        Target::Deployment(live) => foreign(Some(live), names),
    }
}

/// Refuses to write over an object that must be the Canary's own alone and is not.
///
/// # Errors
/// In words.
pub(in crate::kubernetes) fn refuse_foreign<V: Projection>(
    live: Option<&Cached<V>>,
    names: &Names,
) -> Result<(), ActError> {
    foreign(live, names).map_or(Ok(()), |problem| Err(ActError::Precondition(problem)))
}

/// Returns what of a wanted object is compared: everything but what the API sets itself.
pub(crate) fn comparable(wanted: &Value) -> Value {
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
    // The selector is compared as a whole: one more label selects other pods.
    live.pointer("/spec/selector") == rest.pointer("/spec/selector")
        && covers(live, &rest)
        && ports.as_array().into_iter().flatten().all(|port| live_ports.iter().any(|live| covers(live, port)))
}
