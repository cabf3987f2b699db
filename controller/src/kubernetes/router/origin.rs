//! Whose an object under a Canary's own names is, by what it says itself.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::Value;

use crate::api::GROUP;
use crate::kubernetes::api_server::object::{Cached, Projection};
use crate::kubernetes::kinds::canary::Fault;
use crate::kubernetes::render::{CANARY_LABEL, Names, ORIGINAL};
use crate::kubernetes::stores::Stores;

/// Whose an object is, by what it says itself.
pub(super) enum Origin {
    /// There is none.
    Missing,
    /// Weir made it.
    Made,
    /// Weir made it, and somebody has applied an object of his own over it since: it is his from now on.
    Claimed,
    /// Somebody else's, and Weir has not touched it, or has given it back.
    Foreign,
    /// Somebody else's, adopted by Weir; with what it was, unless somebody removed that.
    Adopted(Option<String>),
}

/// Returns whose an object is.
pub(super) fn origin<V: Projection>(live: Option<&Cached<V>>, names: &Names) -> Origin {
    let Some(live) = live else { return Origin::Missing };
    if names.takes_over(&live.metadata) {
        return Origin::Made;
    }
    if live.metadata.owner_references.iter().flatten().any(is_canary) {
        return if is_claimed(live, names) { Origin::Claimed } else { Origin::Made };
    }
    if let Some(original) = original_of(live) {
        return Origin::Adopted(Some(original.to_owned()));
    }
    match live.label(CANARY_LABEL) == Some(&names.canary) {
        true => Origin::Adopted(None),
        false => Origin::Foreign,
    }
}

fn is_canary(owner: &OwnerReference) -> bool {
    owner.kind == "Canary" && owner.api_version.starts_with(GROUP)
}

/// Returns whether an object that Weir made says what somebody else applied. Who edits it says no object of his own, and who applies what Weir
/// has made of it has routes of Weir's.
fn is_claimed<V: Projection>(live: &Cached<V>, names: &Names) -> bool {
    let field = if V::KIND == "Service" { "selector" } else { "http" };
    live.owners().is_some_and(|owners| owners.others_applied(field)) && !live.mentions(&names.primary_route())
}

/// Returns which controller of somebody else's an object belongs to: it would undo what Weir writes.
fn controlled_by_other<V: Projection>(live: &Cached<V>, names: &Names) -> Option<String> {
    let mut owners = live.metadata.owner_references.iter().flatten();
    let owner = owners.find(|owner| owner.controller == Some(true) && !is_canary(owner))?;
    Some(format!(
        "{} {} is controlled by {} {} ({}), which says itself what it is to be: give Canary {} another service.name",
        V::KIND,
        live.name(),
        owner.kind,
        owner.name,
        owner.api_version,
        names.canary
    ))
}

/// Returns why an object is not adopted that another controller has made.
pub(super) fn refuse_controlled<V: Projection>(live: Option<&Cached<V>>, names: &Names) -> Option<Fault> {
    let live = live.filter(|live| matches!(origin(Some(live), names), Origin::Foreign))?;
    Some(("NameTaken", controlled_by_other(live, names)?))
}

/// Returns what of an object that was adopted before this was a rule another controller may undo.
pub(super) fn controlled_since<V: Projection>(live: Option<&Cached<V>>, names: &Names) -> Option<String> {
    let live = live.filter(|live| matches!(origin(Some(live), names), Origin::Adopted(_)))?;
    controlled_by_other(live, names)
}

/// Returns which objects under the apex's name another controller may undo, a sentence each.
pub(crate) fn controlled_apex(stores: &Stores, names: &Names) -> Vec<String> {
    let service = stores.services.get(&names.namespace, &names.apex);
    let service = controlled_since(service.as_deref(), names);
    service.into_iter().chain(super::controlled_routes(stores, names)).collect()
}

/// Returns the spec that an object had before Weir; nothing where Weir made it.
pub(super) fn spec_before<V: Projection>(live: &Cached<V>, names: &Names) -> Value {
    match origin(Some(live), names) {
        Origin::Foreign | Origin::Claimed => live.body()["spec"].take(),
        Origin::Adopted(Some(original)) => {
            serde_json::from_str::<Value>(&original).map(|mut original| original["spec"].take()).unwrap_or_default()
        }
        Origin::Adopted(None) | Origin::Made | Origin::Missing => Value::Null,
    }
}

/// Returns what an object was before Weir, where Weir itself has written that down: restored with Weir's rights, it must be
/// nobody else's word.
pub(super) fn original_of<V: Projection>(live: &Cached<V>) -> Option<&str> {
    live.annotation(ORIGINAL).filter(|_| live.owners().is_some_and(|owners| owners.wrote_annotation(ORIGINAL)))
}
