//! One gateway workload: what its Canaries want it to do, what it was told, and what its pods say.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, watch};
use weir_wire::{Canary, Config, Weight};

use super::fleet::selects;
use crate::kubernetes::kinds::Pod;
use crate::kubernetes::render::{FilterNames, config_of};
use crate::kubernetes::stores::{Key, World};
use crate::rollout::{Gateway, Scrape, Span, Timestamp};
use crate::scrape::Report;

/// How often gateways are looked at when nobody asks for more.
const RESTING: Span = Span::seconds(10);
/// Canaries that want to know more within this time are rolling out.
const ROLLING: Span = Span::seconds(1);
/// A Canary whose time comes so soon hears of a look now: it would find nothing newer then.
const SOON: Span = Span(100);
/// Pushes of one canary that are remembered: older ones no gateway can still be on for long.
const REMEMBERED: usize = 64;

/// One gateway workload.
pub(crate) struct Workload {
    /// Its namespace and labels, and the names of the filter's objects.
    pub(crate) names: FilterNames,
    inner: Mutex<Inner>,
    /// Told when there may be something to write.
    pub(super) writes: Notify,
    /// Told when its pods should be looked at sooner.
    pub(super) looks: Notify,
    /// Whether each of its pods was asked once.
    looked: watch::Sender<bool>,
}

#[derive(Default)]
struct Inner {
    /// What each Canary wants, by id.
    wanted: BTreeMap<String, Canary>,
    /// Whether something of it cannot wait.
    urgent: bool,
    /// What the small object says, as far as is known.
    told: Option<Config>,
    /// When that was written.
    told_at: Timestamp,
    /// By id of the canary, the generation that first carried an epoch.
    history: HashMap<String, Vec<(u64, u64)>>,
    /// What each Canary wants to know more of.
    wishes: HashMap<Key, Wish>,
    /// When pods were asked, and what they said last: nothing where the filter does not run.
    reports: BTreeMap<String, (Timestamp, Option<Report>)>,
}

/// What a Canary wants to know of its gateways.
struct Wish {
    /// Its id in metrics.
    id: String,
    /// How soon it wants to know more.
    after: Span,
    /// When that is.
    due: Timestamp,
    /// Its requests that ended badly, as it was told last.
    trouble: u64,
}

/// What the writer has to do.
pub(super) struct Order {
    /// The Canaries' entries.
    pub(crate) canaries: Vec<Canary>,
    /// Whether they cannot wait.
    pub(crate) urgent: bool,
    /// What the gateways were told last.
    pub(crate) told: Option<Config>,
    /// When.
    pub(crate) told_at: Timestamp,
}

impl Workload {
    /// Returns a workload that goes on with what its gateways were told last, without Canaries that are gone.
    pub(super) fn new(names: FilterNames, world: &World) -> Self {
        let live = world.envoy_filters.get(&names.namespace, &names.config());
        let told = live.and_then(|live| config_of(&live));
        let mut inner = Inner::default();
        if let Some(config) = told {
            inner.record(&config);
            let alive = |canary: &Canary| {
                let (namespace, name) = canary.name.split_once('/').unwrap_or_default();
                world.canaries.get(namespace, name).is_some()
            };
            inner.wanted = config.canaries.iter().filter(|canary| alive(canary)).map(by_id).collect();
            inner.told = Some(config);
        }
        Self {
            names,
            inner: Mutex::new(inner),
            writes: Notify::new(),
            looks: Notify::new(),
            looked: watch::channel(false).0,
        }
    }

    /// Takes in what a Canary wants of the gateways.
    pub(crate) fn ask(&self, entry: Canary) {
        let changed = self.with(|inner| {
            let old = inner.wanted.get(&entry.id);
            if old == Some(&entry) {
                return false;
            }
            let reaches = |canary: &Canary| (canary.weight, !canary.conditions.is_empty());
            let (weight, matching) = old.map_or((Weight::ZERO, false), reaches);
            inner.urgent |= entry.weight < weight || (matching && entry.conditions.is_empty());
            inner.wanted.insert(entry.id.clone(), entry);
            true
        });
        if changed {
            self.writes.notify_one();
        }
    }

    /// Takes a Canary out.
    pub(crate) fn dismiss(&self, key: &Key, id: &str) {
        let known = self.with(|inner| {
            inner.wishes.remove(key);
            inner.wanted.remove(id).is_some()
        });
        if known {
            self.writes.notify_one();
        }
    }

    /// Takes note of how soon a Canary wants to know more.
    pub(crate) fn want(&self, key: &Key, id: &str, after: Span, now: Timestamp) {
        let sooner = self.with(|inner| {
            let trouble = inner.trouble(id);
            let wish = Wish { id: id.to_owned(), after, due: now + after, trouble };
            inner.wishes.insert(key.clone(), wish).is_none_or(|old| after < old.after)
        });
        if sooner {
            self.looks.notify_one();
        }
    }

    /// Returns whether any Canary wants something of the gateways.
    #[must_use]
    pub(super) fn busy(&self) -> bool {
        self.with(|inner| !inner.wanted.is_empty())
    }

    /// Takes note that each pod was asked.
    pub(super) fn was_looked_at(&self) {
        self.looked.send_replace(true);
    }

    /// Waits until each pod was asked once, which takes no longer than a pod that does not answer is waited for.
    pub(super) async fn looked_at(&self) {
        // The sender lives as long as the workload, so waiting cannot fail.
        let _ = self.looked.subscribe().wait_for(|looked| *looked).await;
    }

    /// Has the writer look again.
    pub(crate) fn kick(&self) {
        self.writes.notify_one();
    }

    /// Has the scraper look again.
    pub(crate) fn look_again(&self) {
        self.looks.notify_one();
    }

    /// Returns the pods that serve, terminating ones included.
    #[must_use]
    pub(crate) fn pods(&self, world: &World) -> Vec<Arc<Pod>> {
        let mut pods = world.pods.of(&self.names.namespace);
        pods.retain(|pod| {
            selects(&self.names.selector, pod.metadata.labels.as_ref())
                && pod.view.status.phase == "Running"
                && (pod.view.ready() || pod.deleted())
        });
        pods
    }

    /// Returns what the pods are known to use and have counted, for one Canary.
    #[must_use]
    pub(crate) fn seen(&self, world: &World, id: &str) -> (Vec<Gateway>, Vec<Scrape>) {
        let pods = self.pods(world);
        self.with(|inner| {
            let none = Vec::new();
            let history = inner.history.get(id).unwrap_or(&none);
            let mut gateways = Vec::new();
            let mut scrapes = Vec::new();
            for pod in pods {
                let name = format!("{}/{}", pod.namespace(), pod.name());
                let report = inner.reports.get(pod.name()).and_then(|(begun, report)| Some((begun, report.as_ref()?)));
                let generation = report.and_then(|(_, report)| report.generation());
                let acknowledged = generation
                    .and_then(|generation| history.iter().rev().find(|(first, _)| *first <= generation))
                    .map(|(_, epoch)| *epoch);
                scrapes.extend(report.map(|(begun, report)| report.scrape(id, &name, *begun)));
                gateways.push(Gateway { name, acknowledged });
            }
            (gateways, scrapes)
        })
    }

    /// Returns the pods that do not run `generation`, of those that have answered after `since`. One that does not answer
    /// would not by another push either.
    pub(super) fn behind(&self, world: &World, generation: u64, since: Timestamp) -> Vec<String> {
        let pods = self.pods(world);
        self.with(|inner| {
            let behind = |pod: &&Arc<Pod>| {
                let report = inner.reports.get(pod.name()).filter(|(begun, _)| *begun >= since);
                report.is_some_and(|(_, report)| !report.as_ref().is_some_and(|report| report.runs(generation)))
            };
            pods.iter().filter(behind).map(|pod| pod.name().to_owned()).collect()
        })
    }

    pub(super) fn order(&self) -> Order {
        self.with(|inner| Order {
            canaries: inner.wanted.values().cloned().collect(),
            urgent: inner.urgent,
            told: inner.told.clone(),
            told_at: inner.told_at,
        })
    }

    /// Takes note of what was written.
    pub(super) fn told(&self, config: Config, at: Timestamp) {
        self.with(|inner| {
            inner.record(&config);
            inner.urgent = inner.wanted.values().ne(config.canaries.iter()) && inner.urgent;
            inner.told = Some(config);
            inner.told_at = at;
        });
        self.looks.notify_one();
    }

    /// Takes note that the small object is gone.
    pub(super) fn untold(&self) {
        self.with(|inner| inner.told = None);
    }

    pub(super) fn cadence(&self) -> Span {
        self.with(|inner| inner.wishes.values().map(|wish| wish.after).min().unwrap_or(RESTING).min(RESTING))
    }

    /// Returns the Canaries of a rollout that must hear of the last look: those whose time it is anyway, and those of which
    /// more requests ended badly. All others wait for their own time: a look may have been for the sake of one of them alone.
    pub(super) fn curious(&self, now: Timestamp) -> Vec<Key> {
        self.with(|inner| {
            let often = inner.wishes.iter().filter(|(_, wish)| wish.after <= ROLLING);
            let told = often.filter(|(_, wish)| wish.due <= now + SOON || inner.trouble(&wish.id) != wish.trouble);
            told.map(|(key, _)| key.clone()).collect()
        })
    }

    pub(super) fn report(&self, pod: &str, begun: Timestamp, report: Option<Report>) {
        self.with(|inner| inner.reports.insert(pod.to_owned(), (begun, report)));
    }

    pub(super) fn forget_but(&self, pods: &[Arc<Pod>]) {
        self.with(|inner| inner.reports.retain(|name, _| pods.iter().any(|pod| pod.name() == name)));
    }

    fn with<T>(&self, with: impl FnOnce(&mut Inner) -> T) -> T {
        with(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inner {
    /// Returns how many requests of a canary ended badly, with the guards' own verdicts, as all pods together say.
    fn trouble(&self, id: &str) -> u64 {
        self.reports.values().filter_map(|(_, report)| report.as_ref()).map(|report| report.trouble(id)).sum()
    }

    fn record(&mut self, config: &Config) {
        for canary in &config.canaries {
            let history = self.history.entry(canary.id.clone()).or_default();
            if history.last().is_none_or(|(_, epoch)| *epoch != canary.epoch) {
                history.push((config.generation, canary.epoch));
                let surplus = history.len().saturating_sub(REMEMBERED);
                history.drain(..surplus);
            }
        }
    }
}

fn by_id(canary: &Canary) -> (String, Canary) {
    (canary.id.clone(), canary.clone())
}
