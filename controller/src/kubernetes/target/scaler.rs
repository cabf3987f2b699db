//! The primary's autoscaler, and who says how many pods an arm has where there is one.
//!
//! The target's own autoscaler is left as it is: it sleeps while its workload has no pods, and goes on when a rollout gives it
//! some. The primary gets a primary_hpa, which from then on is the only one to size it: a promotion writes no number.

use std::sync::Arc;

use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use weir_engine::Autoscaler;

use crate::kubernetes::api_server::apply::{ActError, apply, delete, with_timeout};
use crate::kubernetes::executor::{Executor, refuse_foreign};
use crate::kubernetes::kinds::canary::Fault;
use crate::kubernetes::kinds::{HorizontalPodAutoscaler, ScalerView, Target};
use crate::kubernetes::render::{self, ArmLabels, CANARY_LABEL, Names};
use crate::kubernetes::stores::Stores;

/// The field manager that holds the primary's `spec.replicas` until its autoscaler first changes it.
const REPLICAS_MANAGER: &str = "weir-autoscaled";

/// Returns what is wrong with the autoscaler that a Canary names.
#[must_use]
pub(in crate::kubernetes) fn missing_autoscaler(stores: &Stores, names: &Names) -> Option<Fault> {
    let name = names.scaler.as_ref().filter(|name| stores.scalers.get(&names.namespace, name).is_none())?;
    let problem = format!("HorizontalPodAutoscaler {name} does not exist in namespace {}", names.namespace);
    Some(("AutoscalerMissing", problem))
}

/// Returns what sizes the arms beside Weir.
#[must_use]
pub(in crate::kubernetes) fn autoscaler(stores: &Stores, names: &Names) -> Autoscaler {
    let spec = targets_scaler(stores, names).map(|scaler| scaler.fields.spec());
    let bound = |field: &str| {
        let bound = spec.as_ref().and_then(|spec| spec[field].as_u64());
        bound.and_then(|bound| u32::try_from(bound).ok())
    };
    let minimum = spec.is_some().then(|| bound("minReplicas").unwrap_or(1));
    Autoscaler { minimum, maximum: bound("maxReplicas"), sizes_primary: autoscaled(stores, names) }
}

/// Returns whether an autoscaler sizes the primary: the target's, Weir's own like it, or one that somebody made for the primary by its
/// name, KEDA's among them.
fn autoscaled(stores: &Stores, names: &Names) -> bool {
    targets_scaler(stores, names).is_some()
        || primary_hpa_name(names).is_some_and(|name| scaler(stores, names, &name).is_some())
        || is_sized(stores, names, &names.primary())
}

/// Returns whether an autoscaler has a workload of the target's kind as its own. KEDA makes such a one of a ScaledObject.
#[must_use]
pub(in crate::kubernetes) fn is_sized(stores: &Stores, names: &Names, workload: &str) -> bool {
    let of_namespace = stores.scalers.of(&names.namespace);
    // Of many of a namespace few name it: only those are parsed.
    let mut named = of_namespace.iter().filter(|it| !it.deleted() && it.fields.spec.contains(workload));
    named.any(|it| sizes(&it.fields.spec()["scaleTargetRef"], names.kind.word(), workload))
}

/// Returns whether an autoscaler's reference is to a workload.
#[must_use]
pub(super) fn sizes(reference: &Value, kind: &str, name: &str) -> bool {
    reference["name"] == name && (reference["kind"].is_null() || reference["kind"] == kind)
}

fn primary_hpa_name(names: &Names) -> Option<String> {
    names.scaler.as_ref().map(|name| format!("{name}-primary"))
}

fn targets_scaler(stores: &Stores, names: &Names) -> Option<Arc<HorizontalPodAutoscaler>> {
    scaler(stores, names, names.scaler.as_deref()?)
}

fn scaler(stores: &Stores, names: &Names, name: &str) -> Option<Arc<HorizontalPodAutoscaler>> {
    stores.scalers.get(&names.namespace, name)
}

impl Executor<'_> {
    /// Makes the primary's autoscaler, and drops one that is wanted no more. One that exists is made like the target's only
    /// where it is to `follow` that.
    ///
    /// # Errors
    /// When the API refuses a write.
    pub(in crate::kubernetes) async fn primary_hpa(&self, labels: &ArmLabels, follow: bool) -> Result<(), ActError> {
        let (stores, names, primary_hpa) = (self.stores, self.names, primary_hpa_name(self.names));
        for old in stores.scalers.of(&names.namespace) {
            let own = old.label(CANARY_LABEL) == Some(&names.canary);
            if own && primary_hpa.as_deref() != Some(old.name()) && !old.deleted() {
                delete::<ScalerView>(&stores.api, &names.namespace, old.name()).await?;
            }
        }
        let (Some(name), Some(targets)) = (primary_hpa, targets_scaler(stores, names)) else { return Ok(()) };
        let live = scaler(stores, names, &name);
        if live.is_some() && !follow {
            return Ok(());
        }
        let bounds = self.spec.autoscaler_ref.as_ref().and_then(|scaler| scaler.primary_scaler_replicas.clone());
        let wanted = render::scaler(names, &name, labels, &bounds.unwrap_or_default(), &targets.fields.spec());
        refuse_foreign(live.as_deref(), self.names)?;
        // Both have been through the same server's defaults, so that whatever differs is a difference.
        if live.is_some_and(|live| live.fields.spec() == wanted["spec"]) {
            return Ok(());
        }
        apply(&stores.api, &stores.scalers, &wanted).await.map(drop)
    }

    /// Hands `spec.replicas` to a second field manager before Weir stops applying it. Server-side apply removes a field when its
    /// last owner omits it, and the API server's default is 1 replica.
    ///
    /// # Errors
    /// When the API refuses the write: also when the size changed meanwhile.
    pub(in crate::kubernetes) async fn release_replicas(&self, primary: &Target) -> Result<(), ActError> {
        let (name, namespace) = (primary.name(), primary.namespace());
        let kind = primary.kind();
        let Some(replicas) = primary.replicas() else { return Ok(()) };
        let object = kind.object(json!({"name": name, "namespace": namespace}), kind.size(replicas));
        let api: Api<DynamicObject> = Api::namespaced_with(self.stores.api.client.clone(), namespace, &kind.resource());
        // Not forced: the autoscaler's number is newer than ours.
        let params = PatchParams::apply(REPLICAS_MANAGER);
        with_timeout("apply", kind.word(), name, api.patch(name, &params, &Patch::Apply(&object))).await.map(drop)
    }
}

impl ScalerView {
    pub(super) fn spec(&self) -> Value {
        serde_json::from_str(&self.spec).unwrap_or_default()
    }
}
