//! The one task of a gateway workload: it has what is desired, makes the writes and the scrapes, and says when a Canary must
//! look again. It only does I/O; when to push what is [`Publisher`]'s.
//!
//! One write is under way at a time, since the next one needs its resource version; scrapes run beside it. So a push that
//! takes requests away from a canary waits for no scrape.

mod scrapes;
mod writes;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use weir_engine::{FilterMode, Span, Timestamp};
use weir_wire::Canary;

use super::objects::{Live, Objects};
use super::reach::Reach;
use super::registry::GatewayRegistry;
use super::reports::{PATIENCE, Reports};
use super::scrape::{Scraped, Scraper};
use super::workload::{Command, GatewayWorkload, ScrapeRequest};
use crate::kubernetes::api_server::clock::now;
use crate::kubernetes::render::Proxies;
use crate::kubernetes::stores::{Key, Stores};
use crate::publisher::{Desired, Publisher};
use writes::Written;

/// Time between two ordinary writes. istiod gathers changes for 0.1 s of quiet: constant writes would keep it waiting.
const DEBOUNCE: Span = Span(500);
/// Time from an event of a pod to the round that asks those that nobody has asked yet. Of thousands of callers some always come or go.
const NEWCOMERS: Span = Span::seconds(1);
/// How often gateways are scraped when no Canary asks for more.
const IDLE_SCRAPE: Span = Span::seconds(10);

struct Task {
    stores: Arc<Stores>,
    workload: Arc<GatewayWorkload>,
    reports: watch::Sender<Reports>,
    publisher: Publisher,
    objects: Objects,
    writing: Option<BoxFuture<'static, Written>>,
    /// How often in a row each object could not be written.
    failures: HashMap<&'static str, u32>,
    /// Whether the filter is off but on the routes of Canaries that need it.
    reach: Reach,
    /// No insertion is tried before.
    insert_at: Timestamp,
    /// What each Canary wants to know more of.
    requests: HashMap<Key, ScrapeRequest>,
    scraper: Scraper,
    scrapes: JoinSet<Scraped>,
    round_begun: Timestamp,
    next_round: Timestamp,
    /// When those are asked that came since the last round.
    newcomers_at: Option<Timestamp>,
}

/// Looks after a workload, for ever.
pub(super) async fn run(
    stores: Arc<Stores>,
    registry: Arc<GatewayRegistry>,
    workload: Arc<GatewayWorkload>,
    mut commands: mpsc::UnboundedReceiver<Command>,
    reports: watch::Sender<Reports>,
) {
    let objects = Objects::new(stores.clone(), registry, workload.names.clone());
    let mut task = Task::new(stores, objects, workload, reports);
    loop {
        while let Ok(command) = commands.try_recv() {
            task.ingest(command);
        }
        let at = now();
        task.settle(at);
        let due = task.write_if_due(at).min(task.scrape_if_due(at));
        let wait = Duration::from_millis(due.since(at).0.max(1));
        let Task { writing, scrapes, .. } = &mut task;
        tokio::select! {
            biased;
            written = finished(writing) => task.written(written, now()),
            Some(command) = commands.recv() => task.ingest(command),
            Some(scraped) = scrapes.join_next() => task.scraped(scraped.ok()),
            () = tokio::time::sleep(wait) => {}
        }
    }
}

async fn finished(writing: &mut Option<BoxFuture<'static, Written>>) -> Written {
    let Some(write) = writing else { return std::future::pending().await };
    let written = write.await;
    *writing = None;
    written
}

impl Task {
    /// Goes on with what the gateways were told last, without Canaries that are gone.
    fn new(
        stores: Arc<Stores>,
        objects: Objects,
        workload: Arc<GatewayWorkload>,
        reports: watch::Sender<Reports>,
    ) -> Self {
        let is_alive = |canary: &Canary| {
            let (namespace, name) = canary.name.split_once('/').unwrap_or_default();
            stores.canaries.get(namespace, name).is_some()
        };
        let proxies = workload.names.proxies;
        let publisher = match objects.live_config() {
            None => Publisher::new(DEBOUNCE),
            Some(Live { config, switched }) => {
                reports.send_modify(|reports| reports.epochs.record(&config));
                Publisher::resume(DEBOUNCE, config, switched, is_alive)
            }
        };
        let publisher = match proxies {
            Proxies::Gateways => publisher,
            Proxies::Sidecars => publisher.with_patience(PATIENCE),
        };
        let reach = Reach::new(objects.live_everywhere(), proxies);
        reports.send_modify(|reports| {
            reports.proxies = proxies;
            reports.everywhere = reach.everywhere().map(str::to_owned);
        });
        workload.set_used(!publisher.is_empty());
        let pushed = publisher.last_pushed().into_iter().flat_map(|pushed| &pushed.canaries);
        pushed.for_each(|canary| workload.splitting.lock().told(canary));
        Self {
            stores,
            workload,
            reports,
            publisher,
            objects,
            writing: None,
            failures: HashMap::new(),
            reach,
            insert_at: Timestamp(0),
            requests: HashMap::new(),
            scraper: Scraper::new(proxies),
            scrapes: JoinSet::new(),
            round_begun: Timestamp(0),
            next_round: Timestamp(0),
            newcomers_at: None,
        }
    }

    fn ingest(&mut self, command: Command) {
        match command {
            Command::SetDesired(desired) => self.set_desired(*desired),
            Command::Remove(key, id) => {
                self.requests.remove(&key);
                if self.publisher.remove(&id) && !self.workload.splitting.lock().contains(&id) {
                    self.forget(&id);
                }
            }
            Command::RequestScrape(key, request) => {
                let after = request.after;
                if self.requests.insert(key, request).is_none_or(|old| after < old.after) {
                    self.scrape_soon();
                }
            }
            Command::PodsChanged => self.pods_changed(),
            // The loop looks at them anyway.
            Command::ObjectsChanged => {}
        }
        self.workload.set_used(!self.publisher.is_empty());
    }

    fn forget(&self, id: &str) {
        self.reports.send_modify(|reports| {
            reports.epochs.forget(id);
            reports.switch(id, false, now());
        });
    }

    /// Takes note of the canaries that no pod sends to any more.
    fn settle(&self, now: Timestamp) {
        if self.workload.splitting.lock().ids().next().is_none() {
            return;
        }
        let pushed = self.publisher.last_pushed();
        let of_push = |id: &str| pushed.and_then(|pushed| pushed.canaries.iter().find(|canary| canary.id == id));
        let reaches = |id: &str| {
            let told = self.publisher.desired(id).into_iter().chain(of_push(id));
            told.into_iter().any(Canary::reaches_canary)
        };
        let pods = self.workload.pods(&self.stores);
        let runs = |generation| pods.iter().all(|pod| self.reports.borrow().has(pod.name(), generation));
        let over = self.workload.splitting.lock().settle(reaches, self.publisher.generation(), runs, now);
        over.iter().filter(|id| self.publisher.desired(id).is_none()).for_each(|id| self.forget(id));
    }

    /// Wakes every Canary that asks anything of the gateway.
    fn wake_all(&self) {
        self.requests.keys().for_each(|key| self.stores.wake(key));
    }

    fn set_desired(&mut self, desired: Desired) {
        let Desired { canary, filter, .. } = &desired;
        self.workload.splitting.lock().told(canary);
        self.reports.send_if_modified(|reports| {
            reports.switch(&canary.id, *filter == FilterMode::On, now());
            false
        });
        let absent = !canary.reaches_canary() && self.publisher.left_out().contains_key(&canary.id);
        if (*filter == FilterMode::Off || absent)
            && let Some(generation) = self.publisher.generation_without(&canary.id)
        {
            let (id, epoch) = (canary.id.clone(), canary.epoch);
            self.reports.send_if_modified(|reports| reports.epochs.record_off(&id, epoch, generation));
        }
        self.publisher.set_desired(desired);
    }
}
