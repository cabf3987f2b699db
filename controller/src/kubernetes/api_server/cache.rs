//! What is known of one kind of object: a copy that a watch keeps up to date. Nothing else is ever read from the API.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::watcher::{Config, Event};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use parking_lot::RwLock;
use tokio::sync::watch;
use tracing::warn;

use crate::kubernetes::api_server::object::{Cached, Projection, resource};
use crate::telemetry::Chain;

type Objects<V> = BTreeMap<(Box<str>, Box<str>), Arc<Cached<V>>>;

/// A copy of all objects of one kind.
#[derive(Debug)]
pub(crate) struct Cache<V> {
    objects: RwLock<Objects<V>>,
    synced: watch::Sender<bool>,
}

impl<V: Projection> Cache<V> {
    /// Returns a copy that nothing fills yet.
    #[must_use]
    pub(crate) fn empty() -> Arc<Self> {
        Arc::new(Self { objects: RwLock::default(), synced: watch::channel(false).0 })
    }

    /// Returns one object.
    #[must_use]
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Arc<Cached<V>>> {
        self.read(|objects| objects.get(&(namespace.into(), name.into())).cloned())
    }

    /// Returns all objects of a namespace.
    #[must_use]
    pub(crate) fn of(&self, namespace: &str) -> Vec<Arc<Cached<V>>> {
        self.read(|objects| {
            let from = (namespace.into(), "".into());
            objects
                .range(from..)
                .take_while(|((ns, _), _)| **ns == *namespace)
                .map(|(_, object)| object.clone())
                .collect()
        })
    }

    /// Returns all objects.
    #[must_use]
    pub(crate) fn all(&self) -> Vec<Arc<Cached<V>>> {
        self.read(|objects| objects.values().cloned().collect())
    }

    /// Waits until every object that existed when the watch began is known.
    pub(crate) async fn wait_until_synced(&self) {
        // The sender lives as long as this cache, so waiting cannot fail.
        let _ = self.synced.subscribe().wait_for(|synced| *synced).await;
    }

    /// Returns whether every object that existed when the watch began is known.
    #[must_use]
    pub(crate) fn has_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// Keeps the copy up to date, for ever, in these namespaces, or everywhere where there are none; tells of every object that
    /// changed or went. A dispensable namespace whose first list is refused counts as empty until it answers: a Role goes with its namespace.
    pub(crate) async fn run(
        self: Arc<Self>,
        client: Client,
        selector: Option<&str>,
        namespaces: &[String],
        dispensable: &[String],
        mut changed: impl FnMut(&Cached<V>) + Send,
    ) {
        let everywhere = namespaces.is_empty().then_some(None);
        let scopes: Vec<Option<&str>> =
            everywhere.into_iter().chain(namespaces.iter().map(|namespace| Some(namespace.as_str()))).collect();
        let streams = scopes
            .iter()
            .enumerate()
            .map(|(at, scope)| events::<V>(client.clone(), selector, *scope).map(move |event| (at, event)).boxed());
        let mut events = futures::stream::select_all(streams);
        // By the place of its scope, what a watch has listed so far, and whether it has listed everything.
        let mut listed: Vec<(Objects<V>, bool)> = scopes.iter().map(|_| (Objects::new(), false)).collect();
        while let Some((at, event)) = events.next().await {
            match event {
                Ok(Event::Init) => listed[at].0.clear(),
                Ok(Event::InitApply(object)) => {
                    if let Some(object) = read(object) {
                        listed[at].0.insert(key(&object), object);
                    }
                }
                Ok(Event::InitDone) => {
                    let fresh = std::mem::take(&mut listed[at].0);
                    listed[at].1 = true;
                    let complete = listed.iter().all(|(_, done)| *done);
                    self.replace(scopes[at], fresh, complete, &mut changed);
                }
                Ok(Event::Apply(object)) => {
                    let Some(object) = read(object) else { continue };
                    let older = self.write(|objects| {
                        let older = objects.get(&key(&object)).cloned();
                        // An own write is in the cache before the watch tells of what came between.
                        if older.as_ref().is_none_or(|older| version(older) <= version(&object)) {
                            objects.insert(key(&object), object.clone());
                        }
                        older
                    });
                    if older.is_none_or(|older| object.fields.is_changed(&older.fields)) {
                        changed(&object);
                    }
                }
                Ok(Event::Delete(object)) => {
                    let Some(object) = read(object) else { continue };
                    self.write(|objects| objects.remove(&key(&object)));
                    changed(&object);
                }
                Err(error) => {
                    let dispensable = scopes[at].is_some_and(|scope| dispensable.iter().any(|it| it == scope));
                    if dispensable && !listed[at].1 && is_refused(&error) {
                        listed[at].1 = true;
                        let complete = listed.iter().all(|(_, done)| *done);
                        self.replace(scopes[at], Objects::new(), complete, &mut changed);
                    }
                    warn!(kind = V::KIND, namespace = scopes[at], error = %Chain(&error), "watch interrupted");
                }
            }
        }
    }

    /// Takes over a complete list of a namespace, or of all, and tells of what is not as it was. `complete` says whether nothing is
    /// unknown any more.
    fn replace(
        &self,
        namespace: Option<&str>,
        fresh: Objects<V>,
        complete: bool,
        changed: &mut impl FnMut(&Cached<V>),
    ) {
        let old = self.write(|objects| {
            let is_listed = |(of, _): &(Box<str>, Box<str>)| namespace.is_none_or(|namespace| **of == *namespace);
            let (old, others): (Objects<V>, Objects<V>) =
                std::mem::take(objects).into_iter().partition(|(key, _)| is_listed(key));
            *objects = others;
            objects.extend(fresh.clone());
            old
        });
        if complete {
            self.synced.send_replace(true);
        }
        let version = |object: &Arc<Cached<V>>| object.metadata.resource_version.clone();
        for (key, object) in &fresh {
            if old.get(key).map(version) != Some(version(object)) {
                changed(object);
            }
        }
        old.iter().filter(|(key, _)| !fresh.contains_key(key)).for_each(|(_, object)| changed(object));
    }

    /// Takes in what the API answered to a write, so that the next pass does not act on what it was before.
    pub(crate) fn insert_if_newer(&self, object: Arc<Cached<V>>) {
        self.write(|objects| {
            let key = key(&object);
            // Only objects that the watch knows: one that was deleted meanwhile must not come back to life here.
            if objects.get(&key).is_some_and(|old| version(old) < version(&object)) {
                objects.insert(key, object);
            }
        });
    }

    fn read<T>(&self, read: impl FnOnce(&Objects<V>) -> T) -> T {
        read(&self.objects.read())
    }

    fn write<T>(&self, write: impl FnOnce(&mut Objects<V>) -> T) -> T {
        write(&mut self.objects.write())
    }
}

fn events<V: Projection>(
    client: Client,
    selector: Option<&str>,
    namespace: Option<&str>,
) -> BoxStream<'static, Result<Event<DynamicObject>, watcher::Error>> {
    let config = Config {
        label_selector: selector.map(str::to_owned),
        field_selector: V::FIELDS.map(str::to_owned),
        page_size: Some(V::PAGE),
        ..Config::default()
    };
    watch(client, &resource::<V>(), namespace, config)
}

/// Compiled once, and not once for each kind.
fn watch(
    client: Client,
    resource: &ApiResource,
    namespace: Option<&str>,
    config: Config,
) -> BoxStream<'static, Result<Event<DynamicObject>, watcher::Error>> {
    let api = match namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, resource),
        None => Api::all_with(client, resource),
    };
    watcher(api, config).default_backoff().boxed()
}

/// Returns whether a first list was refused: the rights are missing, or what they are for.
fn is_refused(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if [403, 404].contains(&status.code))
}

/// One object that cannot be read must not stop the watch of all.
fn read<V: Projection>(object: DynamicObject) -> Option<Arc<Cached<V>>> {
    let name = object.metadata.name.clone();
    match Cached::new(object) {
        Ok(object) => Some(Arc::new(object)),
        Err(error) => {
            warn!(kind = V::KIND, name, %error, "object not readable");
            None
        }
    }
}

/// Resource versions are opaque to most; comparing them as numbers is what the API server itself has promised since 1.35.
fn version<V>(object: &Cached<V>) -> u64 {
    object.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

fn key<V: Projection>(object: &Cached<V>) -> (Box<str>, Box<str>) {
    (object.namespace().into(), object.name().into())
}
