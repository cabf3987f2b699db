//! The primary's autoscaler, and who says how many pods an arm has where there is one.
//!
//! The target's own autoscaler is left as it is: it sleeps while its workload has no pods, and goes on when a rollout gives it
//! some. The primary gets a twin, which from then on is the only one to size it: a promotion writes no number.

use std::sync::Arc;

use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use crate::kubernetes::api_server::apply::{ActError, apply, delete, guarded};
use crate::kubernetes::api_server::object::{View, resource};
use crate::kubernetes::executor::{Executor, refuse_foreign};
use crate::kubernetes::kinds::canary::Fault;
use crate::kubernetes::kinds::{Deployment, DeploymentView, HorizontalPodAutoscaler, ScalerView};
use crate::kubernetes::render::{self, ArmLabels, CANARY_LABEL, Names};
use crate::kubernetes::stores::World;

/// The field manager in whose hands the primary's size is left, until its autoscaler first changes it.
const CARETAKER: &str = "weir-autoscaled";

/// Returns what is wrong with the autoscaler that a Canary names.
#[must_use]
pub(in crate::kubernetes) fn unscaled(world: &World, names: &Names) -> Option<Fault> {
    let name = names.scaler.as_ref().filter(|name| world.scalers.get(&names.namespace, name).is_none())?;
    let problem = format!("HorizontalPodAutoscaler {name} does not exist in namespace {}", names.namespace);
    Some(("AutoscalerMissing", problem))
}

impl Executor<'_> {
    /// Returns whether an autoscaler sizes the primary.
    pub(in crate::kubernetes) fn autoscaled(&self) -> bool {
        self.targets_scaler().is_some() || self.twin_name().is_some_and(|name| self.scaler(&name).is_some())
    }

    /// Returns the least number of pods that the target's autoscaler would give it.
    pub(in crate::kubernetes) fn least(&self) -> Option<i64> {
        let spec = self.targets_scaler()?.view.spec();
        Some(spec["minReplicas"].as_i64().unwrap_or(1))
    }

    /// Makes the primary's autoscaler like the target's, and drops one that is wanted no more. One that exists is not touched
    /// during an analysis: what came with a revision takes effect with its promotion.
    ///
    /// # Errors
    /// When the API refuses a write.
    pub(in crate::kubernetes) async fn twin(&self, labels: &ArmLabels) -> Result<(), ActError> {
        let (world, names, twin) = (self.world, self.names, self.twin_name());
        for old in world.scalers.of(&names.namespace) {
            let own = old.label(CANARY_LABEL) == Some(&names.canary);
            if own && twin.as_deref() != Some(old.name()) && !old.deleted() {
                delete::<ScalerView>(&world.api, &names.namespace, old.name()).await?;
            }
        }
        let (Some(name), Some(targets)) = (twin, self.targets_scaler()) else { return Ok(()) };
        let live = self.scaler(&name);
        if live.is_some() && self.analysing {
            return Ok(());
        }
        let bounds = self.spec.autoscaler_ref.as_ref().and_then(|scaler| scaler.primary_scaler_replicas.clone());
        let wanted = render::scaler(names, &name, labels, &bounds.unwrap_or_default(), &targets.view.spec());
        refuse_foreign(live.as_deref(), self.names)?;
        // Both have been through the same server's defaults, so that whatever differs is a difference.
        if live.is_some_and(|live| live.view.spec() == wanted["spec"]) {
            return Ok(());
        }
        apply(&world.api, &world.scalers, &wanted).await.map(drop)
    }

    /// Takes the primary's size out of Weir's hands as it is now. A field that its only owner leaves out of the next write is
    /// removed, and a size that is not given is 1.
    ///
    /// # Errors
    /// When the API refuses the write: also when the size changed meanwhile.
    pub(in crate::kubernetes) async fn leave_size(&self, primary: &Deployment) -> Result<(), ActError> {
        let (name, namespace) = (primary.name(), primary.namespace());
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace},
            "spec": {"replicas": primary.view.spec.replicas},
        });
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.world.api.client.clone(), namespace, &resource::<DeploymentView>());
        // Not forced: the autoscaler's number is newer than ours.
        let params = PatchParams::apply(CARETAKER);
        guarded("apply", DeploymentView::KIND, name, api.patch(name, &params, &Patch::Apply(&object))).await.map(drop)
    }

    fn twin_name(&self) -> Option<String> {
        self.names.scaler.as_ref().map(|name| format!("{name}-primary"))
    }

    fn targets_scaler(&self) -> Option<Arc<HorizontalPodAutoscaler>> {
        self.scaler(self.names.scaler.as_deref()?)
    }

    fn scaler(&self, name: &str) -> Option<Arc<HorizontalPodAutoscaler>> {
        self.world.scalers.get(&self.names.namespace, name)
    }
}

impl ScalerView {
    fn spec(&self) -> Value {
        serde_json::from_str(&self.spec).unwrap_or_default()
    }
}
