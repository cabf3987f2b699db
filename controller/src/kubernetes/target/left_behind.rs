//! What a Canary has under names that its spec had once: what goes with it, what is given back then, and what stands still since.

use crate::kubernetes::executor::standing;
use crate::kubernetes::kinds::Target;
use crate::kubernetes::render::{CANARY_LABEL, Names};
use crate::kubernetes::router;
use crate::kubernetes::stores::Stores;

/// Returns what Weir made for a Canary, or adopted, under another name, before its spec had the one that it has, a sentence each. The primary
/// of an earlier target that still serves has one of its own, and so has a target that Weir scaled down and looks after no more. Also returns
/// whether people may call something by an earlier name.
pub(crate) fn left_behind(stores: &Stores, names: &Names) -> (Vec<String>, bool) {
    let (namespace, canary, apex) = (&names.namespace, &names.canary, &names.apex);
    let standing = standing(stores, names);
    let stands = |it: &Target| standing.as_ref().is_some_and(|standing| standing.name() == it.name());
    let is_ours =
        |it: &Target| it.metadata().labels.as_ref().and_then(|labels| labels.get(CANARY_LABEL)) == Some(canary);
    let mut primaries = stores.targets_of(namespace);
    primaries.retain(|it| is_ours(it) && it.name() != names.primary() && !stands(it));
    let earlier = router::left_behind(stores, names);
    let renamed = !earlier.is_empty();
    let (adopted, made): (Vec<_>, Vec<_>) = earlier.into_iter().partition(|earlier| earlier.adopted);
    let primaries_text = primaries.iter().map(|it| format!("{} {}", it.kind().word(), it.name()));
    let made: Vec<String> = made.into_iter().map(|it| it.what).chain(primaries_text).collect();
    let made = (!made.is_empty()).then(|| {
        format!(
            "{} is of an earlier service.name or targetRef of this Canary, and goes with it alone: delete it once nobody uses it",
            made.join(", ")
        )
    });
    let adopted: Vec<String> = adopted.into_iter().map(|it| it.what).collect();
    let adopted = (!adopted.is_empty()).then(|| {
        format!(
            "{} was adopted under an earlier service.name of this Canary: it leads where {apex} does, and is given back when the Canary is \
             deleted",
            adopted.join(", ")
        )
    });
    let stands = standing.map(|it| {
        let (kind, name, primary) = (it.kind().word(), it.name(), names.primary());
        format!("{kind} {name}, of an earlier targetRef, serves all requests of the primary until {primary} can: leave it until then")
    });
    let still = primaries.iter().filter_map(|primary| {
        let former = stores.target(primary.kind(), namespace, primary.name().strip_suffix("-primary")?)?;
        let is_still = former.name() != names.target && former.sized_by_weir() && former.progress().wanted == 0;
        let (kind, name) = (former.kind().word(), former.name());
        is_still.then(|| {
            format!("{kind} {name}, an earlier targetRef, has 0 replicas, as Weir left it: scale it up, or delete it")
        })
    });
    (made.into_iter().chain(adopted).chain(stands).chain(still).collect(), renamed)
}
