//! Which revision a workload declares, and the templates of revisions that may still be promoted.
//!
//! A promotion writes the template that was analysed, whatever the target says by then. It is kept as a `ControllerRevision`:
//! the kind that exists for this, immutable by the API's own rules, owned by the Canary, and out of reach of the target's
//! `revisionHistoryLimit`, which may be 0.

use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::act::{ActError, apply, delete};
use super::kinds::{ControllerRevision, Deployment, RevisionView};
use super::render::{CANARY_LABEL, Names, owned, snapshot, template_of};
use super::world::World;
use crate::rollout::{Revision, State};

/// Returns the identity of what a target declares: a hash of its pod template with sorted keys.
#[must_use]
pub(crate) fn revision(target: &Deployment) -> Revision {
    let body = target.body();
    let template = template_of(&body["spec"]).to_string();
    Revision(Sha256::digest(template)[..5].iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Keeps the target's template where the state speaks of its revision, and drops those that nothing speaks of any more.
pub(crate) async fn keep(
    world: &Arc<World>,
    names: &Names,
    target: &Deployment,
    seen: &Revision,
    state: &State,
) -> Result<(), ActError> {
    let spoken_of = |revision: &Revision| {
        state.installed.as_ref() == Some(revision)
            || state.promoted.as_ref() == Some(revision)
            || state.run.as_ref().is_some_and(|run| run.revision == *revision)
    };
    let kept: Vec<Arc<ControllerRevision>> = world
        .revisions
        .of(&names.namespace)
        .into_iter()
        .filter(|kept| kept.label(CANARY_LABEL) == Some(&names.canary))
        .collect();
    let name = names.snapshot(&seen.0);
    if spoken_of(seen) && !kept.iter().any(|kept| kept.name() == name) {
        let data = snapshot(&target.body()["spec"]);
        let object = json!({
            "apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": owned(names, &name),
            "data": data, "revision": target.metadata.generation.unwrap_or(1),
        });
        apply(world, &world.revisions, &object).await?;
    }
    for old in kept {
        let revision = old.name().strip_prefix(&format!("{}-", names.canary)).unwrap_or_default().to_owned();
        if !spoken_of(&Revision(revision.clone())) && revision != seen.0 && !old.deleted() {
            delete::<RevisionView>(world, &names.namespace, old.name()).await?;
        }
    }
    Ok(())
}

/// Returns what was kept of a revision: from the target if it still declares it, else from its own object.
#[must_use]
pub(crate) fn recall(world: &World, names: &Names, target: Option<&Deployment>, wanted: &Revision) -> Option<Value> {
    if let Some(target) = target
        && revision(target) == *wanted
    {
        return Some(snapshot(&target.body()["spec"]));
    }
    let kept = world.revisions.get(&names.namespace, &names.snapshot(&wanted.0))?;
    Some(kept.view.data.clone())
}
