//! The templates of revisions that may still be promoted, and what their pods read.
//!
//! A promotion writes the template that was analysed, whatever the target says by then. It is kept as a `ControllerRevision`:
//! the kind that exists for this, immutable by the API's own rules, owned by the Canary, and out of reach of the target's
//! `revisionHistoryLimit`, which may be 0.

use std::sync::Arc;

use serde_json::{Value, json};
use weir_engine::Revision;

use crate::kubernetes::api_server::apply::{ActError, apply, delete};
use crate::kubernetes::configs::{TrackedRevision, recorded_revision};
use crate::kubernetes::kinds::{ControllerRevision, RevisionView, Target};
use crate::kubernetes::render::{CANARY_LABEL, CONFIGS, Names, owned, snapshot};
use crate::kubernetes::stores::Stores;

/// Keeps the target's template under the name of its revision.
///
/// # Errors
/// When the API refuses the write.
pub(crate) async fn keep(
    stores: &Arc<Stores>,
    names: &Names,
    target: &Target,
    resolved: &TrackedRevision,
) -> Result<(), ActError> {
    let name = names.snapshot(&resolved.revision.0);
    let old =
        stores.revisions.get(&names.namespace, &name).filter(|old| old.label(CANARY_LABEL) == Some(&names.canary));
    let tracks = stores.settings.config_tracking;
    // One from before anything was tracked gets what its pods read now: from here on a change of that is another revision.
    let noted =
        |old: &Arc<ControllerRevision>| !tracks || resolved.configs.is_empty() || old.annotation(CONFIGS).is_some();
    if old.as_ref().is_some_and(noted) {
        return Ok(());
    }
    let mut metadata = owned(names, &name);
    if tracks {
        metadata.insert("annotations".into(), json!({CONFIGS: json!(resolved.configs).to_string()}));
    }
    // Immutable: what was kept stays, though the target says the rest otherwise by now.
    let data = old.map_or_else(|| snapshot(target.kind(), &target.spec()), |old| old.data());
    let object = json!({
        "apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": metadata,
        "data": data, "revision": target.metadata().generation.unwrap_or(1),
    });
    apply(&stores.api, &stores.revisions, &object).await.map(drop)
}

/// Keeps what a primary runs that another controller made of a template which the target declares no more.
///
/// # Errors
/// When the API refuses the write.
pub(crate) async fn keep_inherited(
    stores: &Arc<Stores>,
    names: &Names,
    primary: &Target,
    revision: &Revision,
) -> Result<(), ActError> {
    let object = json!({
        "apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": owned(names, &names.snapshot(&revision.0)),
        "data": snapshot(primary.kind(), &primary.spec()), "revision": primary.metadata().generation.unwrap_or(1),
    });
    apply(&stores.api, &stores.revisions, &object).await.map(drop)
}

/// Drops every kept template but those of these revisions.
///
/// # Errors
/// When the API refuses to delete one.
pub(crate) async fn prune(stores: &Arc<Stores>, names: &Names, needed: &[Revision]) -> Result<(), ActError> {
    for stored in stores.revisions.of(&names.namespace) {
        if stored.label(CANARY_LABEL) != Some(&names.canary) || stored.deleted() {
            continue;
        }
        let revision = stored.name().strip_prefix(&format!("{}-", names.canary)).unwrap_or_default();
        if !needed.iter().any(|needed| needed.0 == revision) {
            delete::<RevisionView>(&stores.api, &names.namespace, stored.name()).await?;
        }
    }
    Ok(())
}

/// Returns what was kept of a revision, and what its pods read: from the target if it still declares it, else from its own
/// object.
#[must_use]
pub(crate) fn load(
    stores: &Stores,
    names: &Names,
    target: Option<(&Target, &TrackedRevision)>,
    wanted: &Revision,
) -> Option<(Value, TrackedRevision)> {
    if let Some((target, resolved)) = target.filter(|(_, resolved)| resolved.revision == *wanted) {
        return Some((snapshot(target.kind(), &target.spec()), resolved.clone()));
    }
    let snapshot = stores.revisions.get(&names.namespace, &names.snapshot(&wanted.0))?.data();
    let recorded = recorded_revision(stores, names, wanted, &snapshot["template"]);
    Some((snapshot, recorded))
}
