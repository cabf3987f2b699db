//! Finds the gateway workloads, and those that a Canary's requests come through.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::workload::Workload;
use super::{scraper, writer};
use crate::api::CanarySpec;
use crate::kubernetes::kinds::{HttpRoute, Labels, VirtualService};
use crate::kubernetes::render::{FilterNames, Names};
use crate::kubernetes::world::World;

/// All gateway workloads.
#[derive(Default)]
pub(crate) struct Fleet {
    workloads: Mutex<HashMap<FilterNames, Arc<Workload>>>,
    selectors: Mutex<BTreeSet<Labels>>,
    tasks: Mutex<JoinSet<()>>,
    /// Told when gateways or their pods come or go.
    pub(crate) topology: Notify,
}

impl Fleet {
    /// Finds workloads whenever gateways or their pods change, and starts whoever looks after each. For ever.
    pub(crate) async fn follow(world: Arc<World>) {
        loop {
            world.fleet.find(&world);
            world.fleet.topology.notified().await;
        }
    }

    fn find(&self, world: &Arc<World>) {
        let selectors: BTreeSet<Labels> = world
            .gateways
            .all()
            .iter()
            .map(|gateway| gateway.view.spec.selector.clone())
            .filter(|selector| !selector.is_empty())
            .collect();
        let mut found = BTreeSet::new();
        for pod in world.pods.all() {
            for selector in selectors.iter().filter(|selector| selects(selector, pod.metadata.labels.as_ref())) {
                found.insert(FilterNames { namespace: pod.namespace().into(), selector: selector.clone() });
            }
        }
        *self.selectors.lock().unwrap_or_else(PoisonError::into_inner) = selectors;
        let mut workloads = self.workloads.lock().unwrap_or_else(PoisonError::into_inner);
        for names in found {
            if let Entry::Vacant(free) = workloads.entry(names) {
                let names = free.key().clone();
                tracing::info!(namespace = names.namespace, selector = ?names.selector, "gateway found");
                let workload = Arc::new(Workload::new(names, world));
                let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
                tasks.spawn(writer::write(world.clone(), workload.clone()));
                tasks.spawn(scraper::scrape(world.clone(), workload.clone()));
                free.insert(workload);
            }
        }
    }

    /// Stops everything that looks after gateways: they go on as they are.
    pub(crate) fn stop(&self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }

    /// Returns the workloads that a Canary's requests come through.
    #[must_use]
    pub(crate) fn of(&self, world: &World, names: &Names, spec: &CanarySpec) -> Vec<Arc<Workload>> {
        let selectors: BTreeSet<Labels> = gateways(world, names, spec)
            .into_iter()
            .filter_map(|(namespace, name)| world.gateways.get(&namespace, &name))
            .map(|gateway| gateway.view.spec.selector.clone())
            .collect();
        let workloads = self.workloads.lock().unwrap_or_else(PoisonError::into_inner);
        let mut of: Vec<_> =
            workloads.values().filter(|workload| selectors.contains(&workload.names.selector)).cloned().collect();
        of.sort_by(|a, b| a.names.cmp(&b.names));
        of
    }

    /// Returns all workloads.
    #[must_use]
    pub(crate) fn all(&self) -> Vec<Arc<Workload>> {
        self.workloads.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Takes note of a pod that came, changed or went.
    pub(crate) fn pod_changed(&self, labels: Option<&Labels>) {
        let selectors = self.selectors.lock().unwrap_or_else(PoisonError::into_inner);
        if selectors.iter().any(|selector| selects(selector, labels)) {
            drop(selectors);
            self.topology.notify_one();
            self.all().iter().for_each(|workload| workload.look_again());
        }
    }

    /// Takes note of a filter object that came, changed or went.
    pub(crate) fn filter_changed(&self, namespace: &str) {
        self.all().iter().filter(|workload| workload.names.namespace == namespace).for_each(|workload| workload.kick());
    }
}

/// Returns the gateways that a Canary's requests come through, by namespace and name. The mesh is none. A Canary that is
/// delegated to has those of whoever delegates.
#[must_use]
pub(crate) fn gateways(world: &World, names: &Names, spec: &CanarySpec) -> BTreeSet<(String, String)> {
    let own = |gateways: &[String], namespace: &str| {
        let gateways = gateways.iter().filter(|name| *name != "mesh");
        gateways.map(|name| resolve(name, namespace)).collect::<Vec<_>>()
    };
    if spec.service.delegation != Some(true) {
        return own(&spec.service.gateways, &names.namespace).into_iter().collect();
    }
    let all = world.virtual_services.all();
    let roots = all.iter().filter(|root| delegates(root, names).next().is_some());
    roots.flat_map(|root| own(&root.view.spec.gateways, root.namespace())).collect()
}

/// Returns the routes of a VirtualService that delegate to the Canary's.
pub(super) fn delegates<'a>(root: &'a VirtualService, names: &'a Names) -> impl Iterator<Item = &'a HttpRoute> {
    root.view.spec.http.iter().filter(|route| {
        let Some(delegate) = &route.delegate else { return false };
        let namespace = if delegate.namespace.is_empty() { root.namespace() } else { &delegate.namespace };
        namespace == names.namespace && delegate.name == names.apex
    })
}

/// Returns namespace and name of a gateway as an object in `namespace` names it: `namespace/name`, `name`, or the older
/// `name.namespace.svc.cluster.local`.
pub(super) fn resolve(name: &str, namespace: &str) -> (String, String) {
    if let Some((of, name)) = name.split_once('/') {
        let of = if of == "." { namespace } else { of };
        return (of.into(), name.into());
    }
    match name.split_once('.') {
        Some((name, rest)) => (rest.split('.').next().unwrap_or_default().into(), name.into()),
        None => (namespace.into(), name.into()),
    }
}

/// Returns whether a selector finds something with these labels.
pub(crate) fn selects(selector: &Labels, labels: Option<&Labels>) -> bool {
    labels.is_some_and(|labels| selector.iter().all(|(key, value)| labels.get(key) == Some(value)))
}
