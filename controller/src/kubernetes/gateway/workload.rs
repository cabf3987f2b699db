//! One gateway workload, as the Canaries see it: what they want of it goes in, what its pods say comes out.
//!
//! A task of its own ([`super::task`]) has everything else: what is desired, the writes and the scrapes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use weir_engine::{Gateway, Scrape, Span, Timestamp};

use super::reports::Reports;
use super::splitting::Splitting;
use crate::kubernetes::api_server::clock::now;
use crate::kubernetes::kinds::Pod;
use crate::kubernetes::kinds::canary::Fault;
use crate::kubernetes::render::{FilterNames, Proxies};
use crate::kubernetes::stores::{Key, Stores};
use crate::publisher::Desired;

/// One gateway workload.
pub(crate) struct GatewayWorkload {
    /// Its namespace and labels, and the names of the filter's objects.
    pub(crate) names: FilterNames,
    commands: mpsc::UnboundedSender<Command>,
    reports: watch::Receiver<Reports>,
    /// Whether any Canary wants something of it. Set before the task hears of it: no other filter may come meanwhile.
    used: AtomicBool,
    /// Which canaries its pods may send requests to. Known before the task hears of it, too: whoever leaves next is waited for.
    pub(super) splitting: Mutex<Splitting>,
    /// Since when it is looked after.
    since: Timestamp,
}

/// The oldest Istio whose gateways routes can switch the filter on in: that of the requirements.
const OLDEST: (u32, u32) = (1, 22);

/// A gateway that has the filter from before its namespace had to be allowed is kept for so long without a word of it.
const GRACE: Span = Span::seconds(600);

/// What the task of a workload is told.
pub(super) enum Command {
    /// What a Canary should have.
    SetDesired(Box<Desired>),
    /// A Canary is no more.
    Remove(Key, String),
    /// A Canary wants to know more.
    RequestScrape(Key, ScrapeRequest),
    /// Pods came, changed or went.
    PodsChanged,
    /// One of the filter's objects came, changed or went.
    ObjectsChanged,
}

/// What a Canary wants to know of its gateways.
#[derive(Clone, Debug)]
pub(super) struct ScrapeRequest {
    /// Its id in metrics.
    pub(super) id: String,
    /// How soon it wants to know more.
    pub(super) after: Span,
    /// When that is.
    pub(super) due: Timestamp,
    /// Its failures, as it knows them.
    pub(super) failures: u64,
}

impl GatewayWorkload {
    /// Returns a workload, and the ends of its task.
    pub(super) fn new(
        names: FilterNames,
        since: Timestamp,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Command>, watch::Sender<Reports>) {
        let (commands, received) = mpsc::unbounded_channel();
        let (sender, reports) = watch::channel(Reports::default());
        let (used, splitting) = (AtomicBool::new(false), Mutex::default());
        (Arc::new(Self { names, commands, reports, used, splitting, since }), received, sender)
    }

    /// Says what a Canary should have.
    pub(crate) fn set_desired(&self, desired: Desired) {
        self.set_used(true);
        self.splitting.lock().told(&desired.canary);
        self.send(Command::SetDesired(Box::new(desired)));
    }

    /// Takes a Canary out.
    pub(crate) fn remove(&self, key: &Key, id: &str) {
        self.send(Command::Remove(key.clone(), id.to_owned()));
    }

    /// Says how soon a Canary wants to know more.
    pub(crate) fn request_scrape(&self, key: &Key, id: &str, after: Span, now: Timestamp) {
        let failures = self.reports.borrow().failures(id);
        let request = ScrapeRequest { id: id.to_owned(), after, due: now + after, failures };
        self.send(Command::RequestScrape(key.clone(), request));
    }

    /// Says that pods came, changed or went.
    pub(super) fn pods_changed(&self) {
        self.send(Command::PodsChanged);
    }

    /// Says that one of the filter's objects came, changed or went.
    pub(super) fn objects_changed(&self) {
        self.send(Command::ObjectsChanged);
    }

    /// Returns whether any Canary wants something of the gateways.
    #[must_use]
    pub(super) fn is_used(&self) -> bool {
        self.used.load(Ordering::Acquire)
    }

    pub(super) fn set_used(&self, used: bool) {
        self.used.store(used, Ordering::Release);
    }

    /// Returns why the filter is on for all requests of the gateway, where it is.
    #[must_use]
    pub(crate) fn everywhere(&self) -> Option<String> {
        self.reports.borrow().everywhere.clone()
    }

    /// Returns whether its pods have acknowledged something, or may still be about to: it worked before its namespace had to be
    /// allowed, and goes on.
    #[must_use]
    pub(super) fn works(&self, now: Timestamp) -> bool {
        now.since(self.since) < GRACE || self.reports.borrow().any_heard()
    }

    /// Returns why a Canary has no place in the gateway's configuration, if it has none.
    #[must_use]
    pub(crate) fn left_out(&self, id: &str) -> Option<Fault> {
        self.reports.borrow().left_out.get(id).cloned()
    }

    /// Returns which write of the gateway's own objects the API server refuses, if it does.
    #[must_use]
    pub(crate) fn refused(&self) -> Option<Fault> {
        self.reports.borrow().refused.values().next().cloned()
    }

    /// Returns the pods that have never acknowledged anything though they had the time, by namespace and name, each with why.
    #[must_use]
    pub(super) fn silent(&self, stores: &Stores, now: Timestamp) -> Vec<(String, String)> {
        let (pods, namespace) = (self.pods(stores), &self.names.namespace);
        let reports = self.reports.borrow();
        let serving = reports.silent(now).filter(|(silent, _)| pods.iter().any(|pod| pod.name() == *silent));
        serving.map(|(pod, why)| (format!("{namespace}/{pod}"), why.to_owned())).collect()
    }

    /// Returns the callers that are known to split nothing for a canary, by namespace and name.
    #[must_use]
    pub(crate) fn unsplit(&self, stores: &Stores, id: &str) -> Vec<Key> {
        if self.names.proxies == Proxies::Gateways {
            return Vec::new();
        }
        let silent = self.silent(stores, now()).into_iter().map(|(pod, _)| pod);
        let all = silent.chain(self.unrouted(stores, id));
        all.filter_map(|pod| pod.split_once('/').map(|(of, pod)| (of.to_owned(), pod.to_owned()))).collect()
    }

    /// Waits until each pod was asked once, which takes no longer than a pod that does not answer is waited for.
    pub(super) async fn scraped_once(&self) {
        // It fails only where the task has ended, and then there is nothing to wait for.
        let _ = self.reports.clone().wait_for(|reports| reports.complete).await;
    }

    /// Returns whether there is a pod of it, ready or not: a gateway that starts anew is no news.
    #[must_use]
    pub(crate) fn has_pod(&self, stores: &Stores) -> bool {
        let pods = stores.pods.of(&self.names.namespace);
        pods.iter().any(|pod| self.names.selects(pod))
    }

    /// Returns the pods that serve, terminating ones included. A caller sends requests before and after it is ready, too.
    #[must_use]
    pub(crate) fn pods(&self, stores: &Stores) -> Vec<Arc<Pod>> {
        serving(stores, &self.names)
    }

    /// Returns whether a pod's proxy is known to be older than what routes can switch the filter on in.
    #[must_use]
    pub(super) fn is_unable(&self, stores: &Stores) -> bool {
        let istio = |pod: &Arc<Pod>| pod.fields.proxy.istio();
        self.pods(stores).iter().filter_map(istio).any(|istio| istio < OLDEST)
    }

    /// Returns whether pods acknowledged that a canary's routes are switched on, and have not shown them for some time.
    #[must_use]
    pub(super) fn shows_no_route(&self, id: &str) -> bool {
        self.reports.borrow().missing.contains(id)
    }

    /// Returns the callers that have no route to a canary's service.
    #[must_use]
    pub(super) fn unrouted(&self, stores: &Stores, id: &str) -> Vec<String> {
        let (pods, reports, now) = (self.pods(stores), self.reports.borrow(), now());
        let unrouted = pods.iter().map(|pod| pod.name()).filter(|pod| reports.is_unrouted(pod, id, now));
        unrouted.map(|pod| format!("{}/{pod}", self.names.namespace)).collect()
    }

    /// Returns what the pods are known to use and have counted, for one Canary.
    #[must_use]
    pub(crate) fn seen(&self, stores: &Stores, id: &str) -> (Vec<Gateway>, Vec<Scrape>) {
        let pods = self.pods(stores);
        let (reports, now) = (self.reports.borrow(), now());
        let (mut gateways, mut scrapes) = (Vec::new(), Vec::new());
        for pod in pods {
            let (gateway, scrape) = reports.of(pod.name(), format!("{}/{}", pod.namespace(), pod.name()), id, now);
            gateways.push(gateway);
            scrapes.extend(scrape);
        }
        (gateways, scrapes)
    }

    /// As [`GatewayWorkload::seen`], of one that a Canary has named once and names no more: nothing else of it is waited for than that its pods
    /// send nothing to the canary any more.
    #[must_use]
    pub(crate) fn seen_leaving(&self, stores: &Stores, id: &str) -> (Vec<Gateway>, Vec<Scrape>) {
        let (mut gateways, scrapes) = self.seen(stores, id);
        for gateway in &mut gateways {
            (gateway.filtering, gateway.unrouted, gateway.level) = (true, true, u64::MAX);
        }
        (gateways, scrapes)
    }

    fn send(&self, command: Command) {
        // The task ends with the controller alone, and then nothing is to be done any more.
        let _ = self.commands.send(command);
    }
}

/// Returns the pods of a workload that serve. Labels may find others beside gateways, as `istio.io/rev` finds istiod: where some of
/// the pods run Istio's router, those alone are gateways.
#[must_use]
pub(super) fn serving(stores: &Stores, names: &FilterNames) -> Vec<Arc<Pod>> {
    let mut pods = stores.pods.of(&names.namespace);
    pods.retain(|pod| names.selects(pod));
    if names.proxies == Proxies::Gateways && pods.iter().any(|pod| pod.fields.proxy.is_router()) {
        pods.retain(|pod| pod.fields.proxy.is_router());
    }
    pods.retain(|pod| {
        let serves = names.proxies == Proxies::Sidecars || pod.fields.ready() || pod.deleted();
        // A sidecar among the init containers routes what those after it send.
        let starts = || names.proxies == Proxies::Sidecars && pod.fields.starts_with_proxy();
        serves && (pod.fields.status.phase == "Running" || starts())
    });
    pods
}
