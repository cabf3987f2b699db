//! ConfigMaps and Secrets as a part of a target's revision.
//!
//! ```text
//!  Deployment, hashes of configs ──resolve_revision──> TrackedRevision ──decide──> run
//!  run ──copy──> copies of what it analyses, in objects of the same kind ──promotion──> the primary refers to them
//! ```
//!
//! Of every ConfigMap and Secret a hash is known and nothing else; content is read only to be copied, and never leaves its
//! kind. The revision of a target that tracks nothing is the hash of its pod template alone. A revision that was stored before
//! Weir tracked configs is that hash too. It stays valid until the template or a config changes; the next promotion gives the
//! primary copies of its own.

mod copies;

use std::collections::BTreeSet;

use serde_json::Value;
use sha2::{Digest, Sha256};
use weir_engine::{Revision, State};

use crate::kubernetes::api_server::hash_key::HashKey;
use crate::kubernetes::kinds::Target;
use crate::kubernetes::kinds::canary::Fault;
use crate::kubernetes::kinds::config::Config as _;
use crate::kubernetes::kinds::config::ConfigKind::{ConfigMap, Secret};
use crate::kubernetes::render::{CONFIGS, Configs, Names, STARTED_WITH, digest, mark, references, template_of};
use crate::kubernetes::stores::Stores;

pub(crate) use copies::{Copies, ensure, missing_copy};

/// Bytes of a hash that name a revision, as ever: with others, an upgrade would release every Canary anew.
const SHORT: usize = 5;
/// As many as name one whose short name another one has.
const LONG: usize = 8;

/// A revision of the target, and the configs that are part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TrackedRevision {
    /// Its identity.
    pub(crate) revision: Revision,
    /// What its pods read.
    pub(crate) configs: Configs,
    /// The same with hashes of Secrets as they were before these had a key, where it is known.
    pub(crate) former: Configs,
    /// Whether that is part of the identity, so that the primary has copies of it.
    pub(crate) copied: bool,
}

impl TrackedRevision {
    /// Returns those configs that exist, where they are tracked.
    pub(crate) fn tracked(&self, stores: &Stores) -> Configs {
        if !stores.settings.config_tracking {
            return Configs::new();
        }
        self.configs.iter().filter(|(_, content)| !content.is_empty()).map(|(k, v)| (k.clone(), v.clone())).collect()
    }
}

/// Returns the revision that the target asks for: by its name in the state, where the state knows it.
///
/// # Errors
/// When it, or something that its pods do not start without, does not exist.
pub(crate) fn resolve_revision(
    stores: &Stores,
    names: &Names,
    target: Option<&Target>,
    state: &State,
) -> Result<TrackedRevision, Fault> {
    let Some(target) = target else {
        let (kind, name) = (names.kind.word(), &names.target);
        let problem = format!("{kind} {name} does not exist in namespace {}", names.namespace);
        return Err(("TargetMissing", problem));
    };
    let template = template_of(&target.spec());
    let plain = plain(&template);
    if !stores.settings.config_tracking {
        // What has copies keeps its name until its template changes.
        let same = |revision: &&Revision| {
            let kept = stores.revisions.get(&names.namespace, &names.snapshot(&revision.0));
            kept.is_some_and(|kept| kept.data()["template"] == template)
        };
        return Ok(match state.live_revisions().find(same) {
            Some(revision) => recorded_revision(stores, names, revision, &template),
            None => {
                let found =
                    TrackedRevision { revision: plain, configs: Configs::new(), former: Configs::new(), copied: false };
                told_apart(stores, names, found, &template)
            }
        });
    }
    let known = state.revisions().any(|revision| *revision == plain);
    let recorded = recorded(stores, names, &plain);
    let under = |key| {
        let configs = resolve_configs(stores, names, &template, key).map_err(|problem| ("ConfigMissing", problem))?;
        Ok::<_, Fault>(named(&template, configs, known, recorded.clone()))
    };
    let resolved = under(stores.hash_key.get())?;
    // A revision whose name is from before hashes of Secrets had a key is still that revision, with the names of its copies.
    let former = under(None)?;
    let is_known = |resolved: &TrackedRevision| state.revisions().any(|revision| *revision == resolved.revision);
    let mut found = if !is_known(&resolved) && is_known(&former) { former.clone() } else { resolved };
    found.former = former.configs;
    Ok(told_apart(stores, names, found, &template))
}

/// Has a template that has a kept one's name, and is another one, be called by more of its hash: its name is short enough that somebody
/// could make two that share it, and the second one would pass for analysed.
fn told_apart(stores: &Stores, names: &Names, mut found: TrackedRevision, template: &Value) -> TrackedRevision {
    let Some(kept) = stores.revisions.get(&names.namespace, &names.snapshot(&found.revision.0)) else { return found };
    let recorded = recorded(stores, names, &found.revision).unwrap_or_default();
    if shares_name(&found.revision, template, &template_of(&kept.data()), &recorded) {
        let digest = found.copied.then(|| digest(&found.configs));
        let texts: Vec<String> = std::iter::once(template.to_string()).chain(digest).collect();
        found.revision = hashed(&texts.iter().map(String::as_str).collect::<Vec<_>>(), LONG);
    }
    found
}

/// Returns whether a kept template is called so, as its hash says, and is not this one.
fn shares_name(revision: &Revision, template: &Value, kept: &Value, recorded: &Configs) -> bool {
    let named = || plain(kept) == *revision || short(&[&kept.to_string(), &digest(recorded)]) == *revision;
    kept != template && named()
}

/// Gives what a target declares its name. `known` is whether the state speaks of its template alone, and `recorded` what was
/// read with that.
fn named(template: &Value, configs: Configs, known: bool, recorded: Option<Configs>) -> TrackedRevision {
    if configs.is_empty() || (known && recorded.is_none_or(|recorded| recorded == configs)) {
        return TrackedRevision { revision: plain(template), configs, former: Configs::new(), copied: false };
    }
    let revision = short(&[&template.to_string(), &digest(&configs)]);
    TrackedRevision { revision, configs, former: Configs::new(), copied: true }
}

/// Says which configs are not as they were, where any were known. `former` are the new ones with hashes as they were once.
#[must_use]
pub(crate) fn changed(old: &Configs, new: &Configs, former: &Configs) -> Option<String> {
    let same = |key: &String| {
        let before = old.get(key);
        before == new.get(key) || before.is_some() && before == former.get(key)
    };
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).filter(|key| !same(key)).collect();
    let keys: Vec<&str> = keys.into_iter().map(String::as_str).collect();
    let known = !old.is_empty() && !new.is_empty() && !keys.is_empty();
    known.then(|| format!("Configuration changed: {}", keys.join(", ")))
}

/// Returns how the target's pods must be marked for a rollout, where they are not.
#[must_use]
pub(crate) fn unmarked(stores: &Stores, target: &Target, resolved: &TrackedRevision, run: &str) -> Option<String> {
    let marked = target.pod_annotation(STARTED_WITH);
    let tracked = resolved.copied && stores.settings.config_tracking;
    tracked.then(|| mark(marked, &resolved.configs, run))?
}

/// Returns what is known of a revision whose template is kept.
#[must_use]
pub(crate) fn recorded_revision(
    stores: &Stores,
    names: &Names,
    revision: &Revision,
    template: &Value,
) -> TrackedRevision {
    let configs = recorded(stores, names, revision).unwrap_or_default();
    TrackedRevision {
        revision: revision.clone(),
        configs,
        former: Configs::new(),
        copied: *revision != plain(template) && *revision != hashed(&[&template.to_string()], LONG),
    }
}

/// Returns what a revision's pods read, if that was recorded: not where nothing was tracked then.
pub(super) fn recorded(stores: &Stores, names: &Names, revision: &Revision) -> Option<Configs> {
    let kept = stores.revisions.get(&names.namespace, &names.snapshot(&revision.0))?;
    serde_json::from_str(kept.annotation(CONFIGS)?).ok()
}

/// Returns the revision of a pod template that is what it is: nothing that it refers to is tracked.
#[must_use]
pub(crate) fn plain(template: &Value) -> Revision {
    short(&[&template.to_string()])
}

fn short(texts: &[&str]) -> Revision {
    hashed(texts, SHORT)
}

fn hashed(texts: &[&str], bytes: usize) -> Revision {
    let mut hash = Sha256::new();
    texts.iter().for_each(|text| hash.update(text));
    Revision(hash.finalize()[..bytes].iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Looks at what a pod template refers to.
fn resolve_configs(stores: &Stores, names: &Names, template: &Value, key: Option<&HashKey>) -> Result<Configs, String> {
    let mut configs = Configs::new();
    let namespace = &names.namespace;
    let mut missing = Vec::new();
    for reference in references(template) {
        let found = match reference.kind {
            ConfigMap => {
                stores.config_maps.get(namespace, &reference.name).map(|it| it.tracked().map(|it| it.hash(key)))
            }
            Secret => stores.secrets.get(namespace, &reference.name).map(|it| it.tracked().map(|it| it.hash(key))),
        };
        match found {
            Some(Some(content)) => drop(configs.insert(reference.key(), content)),
            Some(None) => {}
            None if reference.required => missing.push(format!("{} {}", reference.kind.word(), reference.name)),
            None => drop(configs.insert(reference.key(), String::new())),
        }
    }
    missing.sort();
    missing.dedup();
    match missing.as_slice() {
        [] => Ok(configs),
        missing => Err(format!(
            "{} {} refers to what does not exist in namespace {namespace}: {}; create it, or mark the reference optional",
            names.kind.word(),
            names.target,
            missing.join(", ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn template() -> Value {
        json!({"metadata": {"labels": {"app": "cart"}}, "spec": {"containers": [{"name": "cart"}]}})
    }

    fn configs(content: &str) -> Configs {
        [("configmap/settings".to_owned(), content.to_owned())].into()
    }

    #[test]
    fn a_target_that_tracks_nothing_keeps_the_revision_that_it_always_had() {
        // Of the template's text with sorted keys: whoever changes this has every Canary released anew by an upgrade.
        let resolved = named(&template(), Configs::new(), false, None);
        assert_eq!((resolved.revision.0.as_str(), resolved.copied), ("1d2736cb7a", false));
    }

    #[test]
    fn what_runs_already_is_adopted_and_its_next_change_is_released() {
        let first = named(&template(), configs("a"), true, None);
        assert_eq!((&first.revision, first.copied), (&plain(&template()), false));
        assert_eq!(named(&template(), configs("a"), true, Some(configs("a"))), first);
        let changed = named(&template(), configs("b"), true, Some(configs("a")));
        assert!(changed.copied && changed.revision != first.revision);
        // Once nothing speaks of it any more, what it read is as new as anything.
        assert!(named(&template(), configs("a"), false, None).copied);
    }

    #[test]
    fn two_templates_with_one_short_name_are_two_revisions() {
        // Found by trying a million.
        let [one, other] = [131_920, 662_156].map(|number| {
            let container = json!({"image": format!("cart:{number}"), "name": "cart"});
            json!({"metadata": {"labels": {"app": "cart"}}, "spec": {"containers": [container]}})
        });
        let none = Configs::new();
        let name = plain(&one);
        assert_eq!((name.0.as_str(), &name), ("dd0a4d4a9b", &plain(&other)));
        assert!(shares_name(&name, &other, &one, &none) && !shares_name(&name, &one, &one, &none));
        assert_ne!(hashed(&[&one.to_string()], LONG), hashed(&[&other.to_string()], LONG));
        // What is kept in another form than today's was not named by it: that is no news.
        assert!(!shares_name(&name, &one, &template(), &none));
    }

    #[test]
    fn people_are_told_which_config_changed() {
        let (a, b) = (configs("a"), configs("b"));
        let none = Configs::new();
        assert_eq!(changed(&a, &b, &none).unwrap(), "Configuration changed: configmap/settings");
        assert_eq!((changed(&a, &a, &none), changed(&none, &a, &none)), (None, None));
        assert_eq!(changed(&a, &b, &a), None, "the same content with another hash");
    }

    #[test]
    fn every_content_is_a_revision_and_the_same_one_is_the_same() {
        let of = |configs: Configs| named(&template(), configs, false, None).revision;
        assert_eq!(of(configs("a")), of(configs("a")));
        assert_ne!(of(configs("a")), of(configs("b")));
        // One that is optional and does not exist yet.
        assert_ne!(of(configs("a")), of(configs("")));
        assert_ne!(of(configs("")), of(Configs::new()));
    }
}
