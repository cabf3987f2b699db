//! What the actions of one Canary have in common: whom they are for, and how an object is compared and written.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::api::{CanarySpec, GROUP, TargetKind};
use crate::kubernetes::api_server::apply::{ActError, Part, apply, apply_as, take_out};
use crate::kubernetes::api_server::cache::Cache;
use crate::kubernetes::api_server::cover::covers;
use crate::kubernetes::api_server::object::{Cached, Projection};
use crate::kubernetes::api_server::written::Written;
use crate::kubernetes::configs::TrackedRevision;
use crate::kubernetes::kinds::Target;
use crate::kubernetes::kinds::selects;
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
    /// Whether the canary stands in for a primary that cannot serve: routes lead there, whether or not a gateway has the filter.
    pub(crate) stands_in: bool,
    /// Whether the spec has changed a moment ago: a revision that goes with it may be on its way.
    pub(crate) is_fresh: bool,
    /// Whether there may be objects of the Canary under an earlier name.
    pub(crate) renamed: bool,
}

/// Annotation of a Service by which Istio is told which namespaces know it, as a list with commas.
const EXPORT_TO: &str = "networking.istio.io/exportTo";

/// Writes what is said of a workload, as one of Weir's field managers.
pub(in crate::kubernetes) async fn apply_workload(
    stores: &Stores,
    kind: TargetKind,
    manager: &str,
    object: &Value,
) -> Result<(), ActError> {
    match kind {
        TargetKind::Deployment => {
            apply_as(&stores.api, manager, &stores.deployments, object, Part::Whole).await.map(drop)
        }
    }
}

impl Executor<'_> {
    /// Has those namespaces know an object that leads to the arms that know the service which users call, where somebody has said which.
    pub(in crate::kubernetes) fn export(&self, object: &mut Value) {
        let given = self.spec.service.apex.as_ref().and_then(|extra| extra.annotations.get(EXPORT_TO).cloned());
        let live = || {
            let live = self.stores.services.get(&self.names.namespace, &self.names.apex)?;
            live.annotation(EXPORT_TO).map(str::to_owned)
        };
        let Some(export_to) = given.or_else(live) else { return };
        if object["kind"] != "Service" {
            object["spec"]["exportTo"] = export_to.split(',').map(str::trim).collect();
        } else if object["metadata"]["annotations"].get(EXPORT_TO).is_none() {
            object["metadata"]["annotations"][EXPORT_TO] = export_to.into();
        }
    }

    /// Returns the labels of the arms, where the primary is of this pod template.
    pub(in crate::kubernetes) fn labels(
        &self,
        template: &Value,
        primary: Option<&Target>,
    ) -> Result<ArmLabels, ActError> {
        let pods = serde_json::from_value(template["metadata"]["labels"].clone()).unwrap_or_default();
        let labels = ArmLabels::new(self.names, self.target, primary, &pods).map_err(ActError::Precondition)?;
        let live = self.stores.services.get(&self.names.namespace, &self.names.primary_service());
        let selector = live.as_deref().map(|live| &live.fields.spec.selector);
        match selector.filter(|_| standing(self.stores, self.names).is_some()) {
            Some(selector) => Ok(ArmLabels { primary: selector.clone(), ..labels }),
            None => Ok(labels.keeping_narrow(selector, primary, &pods)),
        }
    }

    /// Writes an object where the live one is not what is wanted.
    pub(in crate::kubernetes) async fn ensure<V: Projection>(
        &self,
        cache: &Cache<V>,
        wanted: &Value,
    ) -> Result<(), ActError> {
        self.ensure_where(cache, wanted, false, |live| covers(live, &comparable(wanted))).await
    }

    /// Writes a workload where the live one is not what is wanted. `keeps_pods` is whether what others added to its pods stays.
    pub(in crate::kubernetes) async fn ensure_target(&self, wanted: &Value, keeps_pods: bool) -> Result<(), ActError> {
        let is_so = |live: &Value| covers(live, &comparable(wanted));
        match self.names.kind {
            TargetKind::Deployment => self.ensure_where(&self.stores.deployments, wanted, keeps_pods, is_so).await,
        }
    }

    /// Writes what is said of a workload, as one of Weir's field managers.
    pub(in crate::kubernetes) async fn apply_target(&self, manager: &str, object: &Value) -> Result<(), ActError> {
        apply_workload(self.stores, self.names.kind, manager, object).await
    }

    /// Writes a service where the live one is not what is wanted. Ports that somebody else added to an adopted one stay.
    pub(in crate::kubernetes) async fn ensure_service(&self, wanted: &Value) -> Result<(), ActError> {
        self.ensure_where(&self.stores.services, wanted, false, |live| service_is(live, wanted)).await
    }

    /// Writes an object that the Canary has under an earlier name of its own, whether it was made or adopted.
    pub(in crate::kubernetes) async fn ensure_earlier<V: Projection>(
        &self,
        cache: &Cache<V>,
        wanted: &Value,
    ) -> Result<(), ActError> {
        let is_so = |live: &Value| match V::KIND {
            "Service" => service_is(live, wanted),
            _ => covers(live, &comparable(wanted)),
        };
        self.write_where(cache, wanted, false, is_so).await
    }

    async fn ensure_where<V: Projection>(
        &self,
        cache: &Cache<V>,
        wanted: &Value,
        keeps_pods: bool,
        is_so: impl Fn(&Value) -> bool,
    ) -> Result<(), ActError> {
        let name = wanted["metadata"]["name"].as_str().unwrap_or_default();
        let live = cache.get(&self.names.namespace, name);
        if name == self.names.apex {
            self.refuse_owned_by_other(live.as_deref())?;
        } else {
            refuse_foreign(live.as_deref(), self.names)?;
        }
        self.write_where(cache, wanted, keeps_pods, is_so).await
    }

    async fn write_where<V: Projection>(
        &self,
        cache: &Cache<V>,
        wanted: &Value,
        keeps_pods: bool,
        is_so: impl Fn(&Value) -> bool,
    ) -> Result<(), ActError> {
        let (kind, name) = (V::KIND, wanted["metadata"]["name"].as_str().unwrap_or_default());
        let live = cache.get(&self.names.namespace, name);
        if let Some(live) = &live {
            if self.written.says(kind, name, wanted, live.version()) {
                return Ok(());
            }
            let settled = live.owners().is_some_and(|owners| owners.are_settled(wanted));
            if settled && self.additions(live, wanted, keeps_pods).is_none() && is_so(&live.json()) {
                self.written.record(kind, name, wanted, live.version());
                return Ok(());
            }
        }
        let mut now = apply(&self.stores.api, cache, wanted).await?;
        let owners = now.metadata.owner_references.clone().unwrap_or_default();
        if wanted["metadata"].get("ownerReferences").is_none() && owners.iter().any(|owner| owner.uid == self.names.uid)
        {
            // It outlives the Canary from now on. Of what was taken over, an apply takes out nothing that the takeover wrote.
            let others: Vec<_> = owners.iter().filter(|owner| owner.uid != self.names.uid).collect();
            now = take_out(&self.stores.api, cache, &now, json!({"metadata": {"ownerReferences": others}})).await?;
        }
        if let Some(added) = self.additions(&now, wanted, keeps_pods).filter(|_| self.written.may_clean::<V>(name)) {
            tracing::info!(kind, namespace = now.namespace(), name, %added, "takes out what somebody added");
            // Refused where the object has changed meanwhile: the next pass tries again.
            now = take_out(&self.stores.api, cache, &now, added).await?;
            self.written.record_cleaned::<V>(name);
        }
        self.written.record(kind, name, wanted, now.version());
        Ok(())
    }

    /// Returns what must be taken out of an object that is Weir's own alone: what others added to its spec. The Service that
    /// users call is theirs to add to, whoever made it.
    fn additions<V: Projection>(&self, live: &Cached<V>, wanted: &Value, keeps_pods: bool) -> Option<Value> {
        let own = wanted["metadata"].get("ownerReferences").is_some();
        let of_arms = [self.names.primary_service(), self.names.canary_service()];
        let users = V::KIND == "Service" && !of_arms.iter().any(|name| name == live.name());
        let mut added = live.owners().filter(|_| own && !users)?.additions(&live.json(), wanted)?;
        let spec = added["spec"].as_object_mut()?;
        if keeps_pods {
            spec.remove("template");
        }
        (!spec.is_empty()).then_some(added)
    }

    pub(in crate::kubernetes) fn refuse_owned_by_other<V: Projection>(
        &self,
        live: Option<&Cached<V>>,
    ) -> Result<(), ActError> {
        owned_by_other(self.stores, live, self.names).map_or(Ok(()), |problem| Err(ActError::Precondition(problem)))
    }
}

/// Returns whether a service has an address that takes requests.
#[must_use]
pub(in crate::kubernetes) fn any_endpoint(stores: &Stores, namespace: &str, service: &str) -> bool {
    let slices = stores.slices.of(namespace);
    slices
        .iter()
        .filter(|slice| slice.label("kubernetes.io/service-name") == Some(service))
        .any(|slice| slice.fields.any_ready())
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
    let live = live.filter(|live| !names.takes_over(&live.metadata))?;
    let (kind, name) = (V::KIND, live.name());
    let owners = live.metadata.owner_references.iter().flatten();
    let group = format!("{GROUP}/");
    let mut canaries = owners.clone().filter(|owner| owner.kind == "Canary" && owner.api_version.starts_with(&group));
    let labelled = live.label(CANARY_LABEL) == Some(&names.canary);
    let who = match canaries.next() {
        // One that was taken over has its label from the same write, and one that Weir made from its own.
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

/// Returns the primary of an earlier `targetRef` that serves in place of the one that a Canary is to have: the Service that leads to it
/// stays, and its selector moves once the new one's pods are there. If they never come, the earlier one serves for good.
#[must_use]
pub(in crate::kubernetes) fn standing(stores: &Stores, names: &Names) -> Option<Target> {
    let service = stores.services.get(&names.namespace, &names.primary_service())?;
    let selector = &service.fields.spec.selector;
    let finds = |target: &Target| selects(selector, Some(target.pod_labels()));
    let next = stores.target(names.kind, &names.namespace, &names.primary());
    let is_had = |next: &Target| finds(next) || next.progress().is_up();
    if selector.is_empty() || foreign(Some(&service), names).is_some() || next.as_ref().is_some_and(is_had) {
        return None;
    }
    stores.targets_of(&names.namespace).into_iter().find(|other| {
        let earlier = other.kind() == names.kind && other.name() != names.primary();
        earlier && finds(other) && other.progress().available > 0 && foreign_target(Some(other), names).is_none()
    })
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
