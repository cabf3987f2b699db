//! Finds the gateway workloads, and those that a Canary's requests come through.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::overlap::{Filter, Found, canonical_selectors, filter_of, inserted, is_kept_out};
use super::task;
use super::workload::GatewayWorkload;
use crate::api::CanarySpec;
use crate::kubernetes::api_server::clock::now;
use crate::kubernetes::kinds::canary::Canary;
use crate::kubernetes::kinds::{Labels, Pod, labels_text, selects};
use crate::kubernetes::render::{FilterNames, Names, Proxies, names_of};
use crate::kubernetes::router::{self, Callers};
use crate::kubernetes::stores::{GatewayListener, Key, Stores};

/// All gateway workloads.
#[derive(Default)]
pub(crate) struct GatewayRegistry {
    workloads: Mutex<HashMap<FilterNames, Arc<GatewayWorkload>>>,
    selectors: Mutex<BTreeSet<Labels>>,
    outside: Mutex<Outside>,
    /// Whoever any Canary is called by inside of the mesh.
    callers: Mutex<BTreeSet<FilterNames>>,
    /// Selectors that find the same pods share one filter. By namespace, for each selector the one that names the filter.
    canonical: Mutex<BTreeMap<(String, Proxies), BTreeMap<Labels, Labels>>>,
    tasks: Mutex<JoinSet<()>>,
    /// Notified when gateways or their pods come or go.
    gateways_changed: Notify,
}

impl GatewayRegistry {
    /// Finds workloads whenever gateways or their pods change. For ever.
    pub(crate) async fn run(self: Arc<Self>, stores: Arc<Stores>) {
        loop {
            self.gateways_changed.notified().await;
            self.refresh(&stores);
        }
    }

    /// Finds workloads now. No Canary may be looked after before: it would ask nothing of gateways that nobody has found.
    pub(crate) fn refresh(self: &Arc<Self>, stores: &Arc<Stores>) {
        self.discover(stores);
        if self.assign(stores) {
            stores.wake_all();
        }
    }

    /// Waits until the gateways that were found have said once what they run. A Canary that is looked after before says that
    /// none of them has taken its split over, and then the contrary.
    pub(crate) async fn scraped_once(&self) {
        for workload in self.all() {
            workload.scraped_once().await;
        }
    }

    /// Finds workloads, and starts whoever looks after each.
    fn discover(self: &Arc<Self>, stores: &Arc<Stores>) {
        let selectors = router::all_gateway_selectors(stores);
        // What is in a gateway is looked after though nobody names it any more.
        let live = stores.envoy_filters.all();
        let mut found: BTreeSet<FilterNames> = live.iter().filter_map(|live| names_of(live)).collect();
        let callers = all_callers(stores);
        let mut outside = Outside::default();
        let mut routers = Vec::new();
        let every = selectors.contains(&Labels::new());
        for pod in stores.pods.all() {
            let (namespace, labels) = (pod.namespace(), pod.metadata.labels.as_ref());
            found.extend(of_namespace(&callers, namespace).filter(|names| names.selects(&pod)).cloned());
            let selected: Vec<&Labels> =
                selectors.iter().filter(|selector| !selector.is_empty() && selects(selector, labels)).collect();
            if !stores.is_gateway_namespace(namespace) {
                selected.into_iter().for_each(|selector| outside.insert(selector, &pod));
            } else {
                if every && pod.fields.proxy.is_router() {
                    routers.push(pod.clone());
                }
                found.extend(selected.into_iter().map(|selector| gateway_of(namespace, selector.clone())));
            }
        }
        // A Gateway without a selector is for every gateway's pods, also those that no other one finds that can have a filter.
        for pod in routers {
            if !found.iter().any(|names| names.selects(&pod) && !is_kept_out(stores, names, &found)) {
                found.extend(own_labels(&pod).map(|selector| gateway_of(pod.namespace(), selector)));
            }
        }
        *self.selectors.lock() = selectors;
        *self.outside.lock() = outside;
        *self.callers.lock() = callers;
        let mut workloads = self.workloads.lock();
        for names in found {
            if let Entry::Vacant(free) = workloads.entry(names) {
                let names = free.key().clone();
                tracing::info!(namespace = names.namespace, proxies = ?names.proxies, selector = ?names.selector, "found");
                let (workload, commands, reports) = GatewayWorkload::new(names, now());
                let mut tasks = self.tasks.lock();
                tasks.spawn(task::run(stores.clone(), self.clone(), workload.clone(), commands, reports));
                free.insert(workload);
            }
        }
    }

    /// Decides anew which selectors stand for others; returns whether any Canary's gateways may be others now.
    fn assign(&self, stores: &Stores) -> bool {
        let mut used = BTreeSet::new();
        for canary in stores.canaries.all() {
            let Ok(spec) = &canary.fields.spec else { continue };
            used.extend(router::gateway_selectors(
                stores,
                &Names::new(canary.namespace(), canary.name(), "", spec),
                spec,
            ));
        }
        let mut found: BTreeMap<(String, Proxies), Found> = BTreeMap::new();
        let all = self.all();
        let every = used.contains(&Labels::new());
        let callers = self.callers.lock().clone();
        let unread = stores.canaries.all().iter().any(|canary| canary.fields.spec.is_err());
        let counts = |of: &FilterNames| match of.proxies {
            Proxies::Gateways => every || used.contains(&of.selector) || inserted(stores, of),
            // Whom nobody names any more leaves; where what a Canary says cannot be read, its callers are not known.
            Proxies::Sidecars => callers.contains(of) || (unread && inserted(stores, of)),
        };
        for workload in all.iter().filter(|workload| counts(&workload.names)) {
            let FilterNames { namespace, selector, proxies } = &workload.names;
            let pods = workload.pods(stores).iter().map(|pod| pod.name().to_owned()).collect();
            found.entry((namespace.clone(), *proxies)).or_default().insert(selector.clone(), pods);
        }
        let mut canonical = self.canonical.lock();
        let assigned = found.iter().map(|(of, found)| {
            let names = |selector: &Labels| {
                let (namespace, proxies) = of.clone();
                FilterNames { namespace, selector: selector.clone(), proxies }
            };
            let before = canonical.get(of).cloned().unwrap_or_default();
            // Alone it stands for itself, whatever it has.
            let filter = |selector: &Labels| match found.len() {
                1 => Filter::Absent,
                _ => filter_of(stores, &names(selector)),
            };
            (of.clone(), canonical_selectors(found, &before, filter))
        });
        let assigned = assigned.collect();
        let changed = *canonical != assigned;
        *canonical = assigned;
        changed
    }

    /// Returns the selector that stands for another one; none where it was not decided yet.
    fn canonical_selector(&self, names: &FilterNames) -> Option<FilterNames> {
        let canonical = self.canonical.lock();
        let selector = canonical.get(&(names.namespace.clone(), names.proxies))?.get(&names.selector)?;
        Some(FilterNames { selector: selector.clone(), ..names.clone() })
    }

    /// Returns another workload that has its filter in some of a workload's pods, or will have it before this one.
    pub(super) fn conflict(&self, stores: &Stores, workload: &GatewayWorkload) -> Option<Arc<GatewayWorkload>> {
        let mut all = self.all();
        all.retain(|it| it.names.namespace == workload.names.namespace && it.names.proxies == workload.names.proxies);
        if all.len() < 2 {
            return None;
        }
        let pods = workload.pods(stores);
        let is_in = inserted(stores, &workload.names);
        let comes_before = |other: &GatewayWorkload| {
            let comes = !is_in && other.is_used() && other.names < workload.names;
            comes && !is_kept_out(stores, &other.names, all.iter().map(|it| &it.names))
        };
        let mut others =
            all.iter().filter(|other| other.names != workload.names && pods.iter().any(|pod| other.names.selects(pod)));
        others.find(|other| inserted(stores, &other.names) || comes_before(other)).cloned()
    }

    /// Returns why a workload's requests are not split as they should be, where some of its pods are another's: it gets no filter, or
    /// those pods have two, as when their labels came to be found by both.
    #[must_use]
    pub(crate) fn excluded(&self, stores: &Stores, workload: &GatewayWorkload) -> Option<String> {
        let names = &workload.names;
        let other = self.conflict(stores, workload)?;
        // One that nobody stands for any more is about to leave.
        if self.canonical_selector(&other.names).as_ref() != Some(&other.names) {
            return None;
        }
        // The other one may be free to go by now.
        self.gateways_changed.notify_one();
        let (what, whom) = match names.proxies {
            Proxies::Gateways => ("Gateway selectors", "the two Gateways one selector"),
            Proxies::Sidecars => ("Labels of callers", "the callers of both Canaries the same labels, or none"),
        };
        Some(format!(
            "{what} {} and {} find some pods of namespace {} both, and one pod can have one filter only: who has it keeps it. Give \
             {whom}",
            labels_text(&names.selector),
            labels_text(&other.names.selector),
            names.namespace
        ))
    }

    /// Stops everything that looks after gateways: they go on as they are.
    pub(crate) fn stop(&self) {
        self.tasks.lock().abort_all();
    }

    /// Returns the workloads that a Canary's requests come through: its gateways, and the sidecars of its callers.
    #[must_use]
    pub(crate) fn of(
        &self,
        stores: &Stores,
        names: &Names,
        spec: &CanarySpec,
        callers: Option<&Callers>,
    ) -> Vec<Arc<GatewayWorkload>> {
        let selectors = router::gateway_selectors(stores, names, spec);
        let every = selectors.contains(&Labels::new());
        let nobody = BTreeSet::new();
        let callers = callers.map_or(&nobody, |callers| &callers.taking_part);
        if !callers.is_subset(&self.callers.lock()) {
            self.gateways_changed.notify_one();
        }
        let mut all = self.all();
        all.retain(|workload| self.admits(stores, workload));
        let through = all.iter().filter(|workload| {
            let exists = || {
                let names = &workload.names;
                let comes =
                    || !workload.pods(stores).is_empty() && !is_kept_out(stores, names, all.iter().map(|it| &it.names));
                inserted(stores, names) || comes()
            };
            match workload.names.proxies {
                Proxies::Gateways => selectors.contains(&workload.names.selector) || (every && exists()),
                Proxies::Sidecars => callers.contains(&workload.names),
            }
        });
        let mut decided: BTreeSet<FilterNames> = BTreeSet::new();
        for workload in through {
            let representative = self.canonical_selector(&workload.names).unwrap_or_else(|| {
                // No Canary has used it yet. Its filter stays away from pods that have another until that is decided.
                self.gateways_changed.notify_one();
                workload.names.clone()
            });
            decided.insert(representative);
        }
        let mut of: Vec<_> = all.into_iter().filter(|workload| decided.contains(&workload.names)).collect();
        of.sort_by(|a, b| a.names.cmp(&b.names));
        of
    }

    /// Returns whether a workload is one of gateways: its namespace is allowed, or it has had the filter since before that was
    /// asked for, and works.
    #[must_use]
    fn admits(&self, stores: &Stores, workload: &GatewayWorkload) -> bool {
        let names = &workload.names;
        // Who may have callers is the Canary's to say, and the namespace's: the router knows.
        let callers = names.proxies == Proxies::Sidecars;
        callers || stores.is_gateway_namespace(&names.namespace) || (inserted(stores, names) && workload.works(now()))
    }

    /// Returns pods that a Canary's Gateways select in namespaces that are not allowed: namespace and name, one of each namespace.
    #[must_use]
    pub(super) fn outside(&self, stores: &Stores, names: &Names, spec: &CanarySpec) -> Vec<(String, String)> {
        let selectors = router::gateway_selectors(stores, names, spec);
        let admitted: BTreeSet<String> = self
            .all()
            .iter()
            .filter(|it| it.names.proxies == Proxies::Gateways && self.admits(stores, it))
            .map(|it| it.names.namespace.clone())
            .collect();
        let outside = self.outside.lock();
        let found = selectors.iter().filter_map(|selector| outside.0.get(selector)).flatten();
        let found: BTreeMap<&String, &String> = found.filter(|(namespace, _)| !admitted.contains(*namespace)).collect();
        found.into_iter().map(|(namespace, pod)| (namespace.clone(), pod.clone())).collect()
    }

    /// Returns the workloads but these whose pods may still send a canary requests.
    #[must_use]
    pub(crate) fn leaving(&self, id: &str, but: &[Arc<GatewayWorkload>]) -> Vec<Arc<GatewayWorkload>> {
        let mut leaving = self.all();
        leaving.retain(|workload| {
            workload.splitting.lock().contains(id) && !but.iter().any(|kept| Arc::ptr_eq(kept, workload))
        });
        leaving
    }

    /// Takes a Canary out of every workload but these.
    pub(crate) fn remove_but(&self, key: &Key, id: &str, kept: &[Arc<GatewayWorkload>]) {
        for workload in self.all().iter().filter(|workload| !kept.iter().any(|kept| Arc::ptr_eq(kept, workload))) {
            workload.remove(key, id);
        }
    }

    /// Returns all workloads.
    #[must_use]
    pub(crate) fn all(&self) -> Vec<Arc<GatewayWorkload>> {
        self.workloads.lock().values().cloned().collect()
    }
}

impl GatewayListener for GatewayRegistry {
    fn gateway_changed(&self) {
        self.gateways_changed.notify_one();
    }

    fn pod_changed(&self, pod: &Pod) {
        // One without labels selects every gateway.
        let selected = |selector: &Labels| match selector.is_empty() {
            true => pod.fields.proxy.is_router(),
            false => selects(selector, pod.metadata.labels.as_ref()),
        };
        let callers = of_namespace(&self.callers.lock(), pod.namespace()).filter(|names| names.selects(pod)).count();
        let gateway = self.selectors.lock().iter().any(selected);
        if !gateway && callers == 0 {
            return;
        }
        let all = self.all();
        let mut known = all.iter().filter(|workload| workload.names.selects(pod)).peekable();
        // Callers come and go: only where two selectors may find one of them is anything decided anew.
        if gateway || callers > 1 || known.peek().is_none() {
            self.gateways_changed.notify_one();
        }
        known.for_each(|workload| workload.pods_changed());
    }

    fn filter_changed(&self, namespace: &str) {
        self.all()
            .iter()
            .filter(|workload| workload.names.namespace == namespace)
            .for_each(|workload| workload.objects_changed());
    }
}

/// Returns whoever any Canary is called by inside of the mesh.
fn all_callers(stores: &Stores) -> BTreeSet<FilterNames> {
    let canaries = stores.canaries.all();
    let of = |canary: &Arc<Canary>| {
        let spec = canary.fields.spec.as_ref().ok()?;
        Some(router::callers(stores, &Names::new(canary.namespace(), canary.name(), "", spec), spec)?.taking_part)
    };
    canaries.iter().filter_map(of).flatten().collect()
}

/// Returns those of a namespace.
fn of_namespace<'a>(all: &'a BTreeSet<FilterNames>, namespace: &'a str) -> impl Iterator<Item = &'a FilterNames> {
    let first = gateway_of(namespace, Labels::new());
    all.range(first..).take_while(move |names| names.namespace == namespace)
}

fn gateway_of(namespace: &str, selector: Labels) -> FilterNames {
    FilterNames { namespace: namespace.into(), selector, proxies: Proxies::Gateways }
}

/// Pods that Gateways select in namespaces that are not allowed: by selector and namespace one of them.
#[derive(Default)]
struct Outside(BTreeMap<Labels, BTreeMap<String, String>>);

impl Outside {
    fn insert(&mut self, selector: &Labels, pod: &Pod) {
        if pod.fields.status.phase == "Running" {
            let of = self.0.entry(selector.clone()).or_default();
            of.entry(pod.namespace().to_owned()).or_insert_with(|| pod.name().to_owned());
        }
    }
}

/// Labels by which gateways' workloads are told apart, the most usual first.
const OWN_LABELS: [&str; 5] = [
    "istio",
    "app",
    "app.kubernetes.io/name",
    "gateway.networking.k8s.io/gateway-name",
    "service.istio.io/canonical-name",
];

/// Returns what selects the pods of a gateway that no Gateway's selector finds.
fn own_labels(pod: &Pod) -> Option<Labels> {
    let key = OWN_LABELS.into_iter().find(|key| pod.label(key).is_some())?;
    Some(Labels::from([(key.to_owned(), pod.label(key)?.to_owned())]))
}
