//! A Canary that is deleted while its state or its spec cannot be read: the target serves before anything is let go.

use serde_json::json;
use weir_engine::{Phase, Revision, State};

use super::reconciler::Reconciler;
use super::status::stored_state;
use crate::kubernetes::api_server::MANAGER;
use crate::kubernetes::api_server::apply::ActError;
use crate::kubernetes::api_server::clock::now;
use crate::kubernetes::executor::apply_workload;
use crate::kubernetes::kinds::Target;
use crate::kubernetes::kinds::canary::Canary;
use crate::kubernetes::render::{CANARY_LABEL, Names, revision_of};
use crate::kubernetes::stores::Stores;

/// Ends the name of a primary.
const PRIMARY: &str = "-primary";

/// Returns what the engine remembered. One that goes is given back by what is live where that cannot be read.
///
/// # Errors
/// When it cannot be read, and the Canary is to stay.
pub(super) fn stored_or_live(stores: &Stores, names: &Names, canary: &Canary) -> Result<State, ActError> {
    let status = &canary.fields.status;
    let taken_over = status.taken_over.as_ref().filter(|_| canary.deleted() && status.state.is_none());
    if let Some(taken_over) = taken_over {
        // Nothing was decided yet, and all that was taken over is to be given back.
        let installed = Some(Revision(taken_over.revision.clone()));
        let (promoted, applied) = (installed.clone(), installed.clone());
        return Ok(State { phase: Phase::Initialized, since: now(), promoted, installed, applied, ..State::default() });
    }
    stored_state(status).or_else(|problem| {
        if !canary.deleted() {
            return Err(ActError::Precondition(problem));
        }
        let promoted = status.last_promoted_spec.clone().map(Revision);
        let primary = stores.target(names.kind, &names.namespace, &names.primary());
        let runs = primary.as_ref().and_then(revision_of).map(|revision| Revision(revision.into()));
        let applied = status.last_applied_spec.clone().map(Revision);
        let installed = runs.or_else(|| promoted.clone());
        Ok(State { phase: Phase::Initialized, since: now(), promoted, installed, applied, ..State::default() })
    })
}

impl Reconciler {
    /// Takes the canary's requests from a Canary whose spec cannot be read and by which no plan is known, as after a restart: nobody could
    /// judge them. Not where the canary serves for a primary that cannot. Returns whether it did.
    pub(super) fn withhold_unread(&self, canary: &Canary) -> bool {
        let (namespace, name) = &self.key;
        let state = canary.fields.status.state.as_deref().and_then(|text| serde_json::from_str::<State>(text).ok());
        let moves = state.is_some_and(|state| state.traffic.reaches_canary() && !state.canary_is_fallback);
        if canary.fields.spec.is_ok() || self.reading.plan().is_some() || !moves {
            return false;
        }
        let of_namespace = self.stores.targets_of(namespace);
        let mine = |it: &&Target| it.metadata().labels.as_ref().and_then(|all| all.get(CANARY_LABEL)) == Some(name);
        let serves = of_namespace.iter().filter(mine).any(|primary| primary.progress().available > 0);
        if serves {
            // What no entry names goes where the routes lead, to the primary.
            self.registry.remove_but(&self.key, &self.id, &[]);
        }
        serves
    }

    /// Has the target of a Canary without a readable spec serve again, where a primary of Weir's serves for it; returns whether that is
    /// still waited for. The primary goes with its Canary.
    ///
    /// # Errors
    /// When the API refuses the write.
    pub(super) async fn awaits_target(&self) -> Result<bool, ActError> {
        let (namespace, name) = &self.key;
        let of_namespace = self.stores.targets_of(namespace);
        let mine =
            |it: &&Target| it.metadata().labels.as_ref().and_then(|labels| labels.get(CANARY_LABEL)) == Some(name);
        for primary in of_namespace.iter().filter(mine) {
            let Some(target) = primary.name().strip_suffix(PRIMARY) else { continue };
            let Some(target) = self.stores.target(primary.kind(), namespace, target) else { continue };
            if target.deleted() || primary.progress().available == 0 {
                continue;
            }
            let (kind, wanted) = (target.kind(), primary.replicas().unwrap_or(1).max(1));
            let progress = target.progress();
            if progress.wanted < wanted && target.declared_replicas().is_none_or(|declared| declared == 0) {
                let metadata = json!({"name": target.name(), "namespace": namespace});
                let object = kind.object(metadata, kind.size(wanted));
                apply_workload(&self.stores, kind, MANAGER, &object).await?;
                return Ok(true);
            }
            if !progress.observed || progress.available < progress.wanted.max(1) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
