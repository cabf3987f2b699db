//! The primary's copies: made when a revision is seen that may be promoted, gone when nothing can run it any more.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::Api;
use kube::api::{DynamicObject, PostParams};
use weir_engine::Revision;

use super::{TrackedRevision, recorded};
use crate::kubernetes::api_server::MANAGER;
use crate::kubernetes::api_server::apply::{ActError, delete, is_status, with_timeout};
use crate::kubernetes::api_server::cache::Cache;
use crate::kubernetes::api_server::object::{Cached, resource};
use crate::kubernetes::kinds::Target;
use crate::kubernetes::kinds::config::{Config, ConfigKind};
use crate::kubernetes::render::{self, CANARY_LABEL, Configs, Names, copy_name};
use crate::kubernetes::stores::Stores;
use crate::telemetry::Chain;

/// What is remembered of a Canary's copies between two passes.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    /// Copies that were needed at the last cleanup. The next one comes only when this set changes.
    pruned: Option<BTreeSet<String>>,
    /// Why the configs under analysis could not be copied.
    pub(crate) problem: Option<String>,
}

/// Returns a config of a revision that there is no copy of yet, if there is one.
#[must_use]
pub(crate) fn missing_copy(stores: &Stores, names: &Names, resolved: &TrackedRevision) -> Option<String> {
    let lacks = |(kind, config, content): &(ConfigKind, &str, &str)| match kind {
        ConfigKind::ConfigMap => !has(stores, &stores.config_maps, names, config, content),
        ConfigKind::Secret => !has(stores, &stores.secrets, names, config, content),
    };
    let missing = resolved.copied.then(|| existing(&resolved.configs).find(lacks))??;
    Some(format!("{} {}", missing.0.word(), missing.1))
}

impl Copies {
    /// Copies what a revision reads, as it is now. A canary whose configs cannot be copied is not analysed; nothing else
    /// waits for it, a rollback least of all.
    pub(crate) async fn copy(&mut self, stores: &Arc<Stores>, names: &Names, resolved: &TrackedRevision) {
        self.problem = ensure(stores, names, resolved).await.err().map(|error| Chain(&error).to_string());
    }

    /// Drops what none of the revisions reads that may still run.
    ///
    /// # Errors
    /// When the API refuses to delete a copy.
    pub(crate) async fn prune(
        &mut self,
        stores: &Arc<Stores>,
        names: &Names,
        resolved: &TrackedRevision,
        live: &[Revision],
    ) -> Result<(), ActError> {
        if !stores.settings.config_tracking {
            return Ok(());
        }
        let mut needed = BTreeSet::new();
        for revision in live {
            needed.extend(names_of(names, &configs_of(stores, names, resolved, revision)));
        }
        if self.pruned.as_ref() != Some(&needed) {
            let primary = stores.target(names.kind, &names.namespace, &names.primary());
            let in_use = delete_unneeded(stores, &stores.config_maps, names, &needed, primary.as_ref()).await?
                | delete_unneeded(stores, &stores.secrets, names, &needed, primary.as_ref()).await?;
            self.pruned = (!in_use).then_some(needed);
        }
        Ok(())
    }
}

fn configs_of(stores: &Stores, names: &Names, resolved: &TrackedRevision, revision: &Revision) -> Configs {
    match resolved.revision == *revision {
        true => resolved.configs.clone(),
        false => recorded(stores, names, revision).unwrap_or_default(),
    }
}

/// Makes what is missing of a revision's copies, from what is served now.
///
/// # Errors
/// When the API refuses it, or what is served is not what the revision is of.
pub(crate) async fn ensure(stores: &Stores, names: &Names, resolved: &TrackedRevision) -> Result<(), ActError> {
    if !resolved.copied || !stores.settings.config_tracking {
        return Ok(());
    }
    for (kind, config, content) in existing(&resolved.configs) {
        match kind {
            ConfigKind::ConfigMap => copy(stores, &stores.config_maps, names, config, content).await?,
            ConfigKind::Secret => copy(stores, &stores.secrets, names, config, content).await?,
        }
    }
    Ok(())
}

async fn copy<V: Config>(
    stores: &Stores,
    cache: &Cache<V>,
    names: &Names,
    config: &str,
    content: &str,
) -> Result<(), ActError> {
    if has(stores, cache, names, config, content) {
        return Ok(());
    }
    let (name, namespace) = (copy_name(names, config, content), names.namespace.as_str());
    if let Some(other) = cache.get(namespace, &name) {
        refuse_owned_by_other(&other, names)?;
        // A former Canary's of the same name, which goes with its owner; or somebody's who wrote something else into it.
        delete::<V>(&stores.api, namespace, &name).await?;
    }
    let api: Api<DynamicObject> = Api::namespaced_with(stores.api.client.clone(), namespace, &resource::<V>());
    let served = with_timeout("read", V::KIND, config, api.get(config)).await?;
    let unreadable = |error| ActError::Precondition(format!("read {} {config}: {error}", V::KIND));
    let wanted = render::copy(names, V::CONFIG, config, content, &served.data);
    let seen: Cached<V> = Cached::new(served).map_err(unreadable)?;
    if !seen.tracked().is_some_and(|seen| seen.has_hash(content, stores.hash_key.get())) {
        // The watch will tell: then this is another revision.
        return Err(ActError::Waiting(format!("{} {config} has changed since it was looked at", V::KIND)));
    }
    let object: DynamicObject = serde_json::from_value(wanted).map_err(unreadable)?;
    let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
    match with_timeout("create", V::KIND, &name, api.create(&params, &object)).await {
        // Made by the last pass, and not heard of yet: its content will be compared when it is.
        Err(ActError::Write { source, .. }) if is_status(&source, 409) => Ok(()),
        other => other.map(drop),
    }
}

fn refuse_owned_by_other<V: Config>(copy: &Cached<V>, names: &Names) -> Result<(), ActError> {
    match copy.label(CANARY_LABEL) == Some(&names.canary) {
        true => Ok(()),
        false => Err(ActError::Precondition(format!(
            "{} {} is not Weir's, but has the name of a copy: rename or delete it",
            V::KIND,
            copy.name()
        ))),
    }
}

/// Returns whether the Canary has a copy with this content.
fn has<V: Config>(stores: &Stores, cache: &Cache<V>, names: &Names, config: &str, content: &str) -> bool {
    let Some(copy) = cache.get(&names.namespace, &copy_name(names, config, content)) else { return false };
    let own = copy.metadata.owner_references.iter().flatten().any(|owner| owner.uid == names.uid);
    own && !copy.deleted() && copy.fields.has_hash(content, stores.hash_key.get())
}

/// Deletes the Canary's copies that are not needed; returns whether one stays because the primary still refers to it.
async fn delete_unneeded<V: Config>(
    stores: &Stores,
    cache: &Cache<V>,
    names: &Names,
    needed: &BTreeSet<String>,
    primary: Option<&Target>,
) -> Result<bool, ActError> {
    let mut in_use = false;
    for copy in cache.of(&names.namespace) {
        if copy.label(CANARY_LABEL) != Some(&names.canary) || needed.contains(copy.name()) || copy.deleted() {
            continue;
        }
        if primary.is_some_and(|primary| primary.mentions(copy.name())) {
            in_use = true;
        } else {
            delete::<V>(&stores.api, &names.namespace, copy.name()).await?;
        }
    }
    Ok(in_use)
}

fn names_of(names: &Names, configs: &Configs) -> Vec<String> {
    existing(configs).map(|(_, config, content)| copy_name(names, config, content)).collect()
}

/// Returns the kind, name and content of every config that exists.
fn existing(configs: &Configs) -> impl Iterator<Item = (ConfigKind, &str, &str)> {
    configs.iter().filter(|(_, content)| !content.is_empty()).filter_map(|(key, content)| {
        let (kind, name) = key.split_once('/')?;
        let kind = if kind == "secret" { ConfigKind::Secret } else { ConfigKind::ConfigMap };
        Some((kind, name, content.as_str()))
    })
}
