//! The one task of a gateway workload: it has what is desired, makes the writes and the scrapes, and says when a Canary must
//! look again. It only does I/O; when to push what is [`Publisher`]'s.
//!
//! One write is under way at a time, since the next one needs its resource version; scrapes run beside it. So a push that
//! takes requests away from a canary waits for no scrape.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{debug, info, warn};
use weir_engine::{FilterMode, Span, Timestamp};
use weir_wire::{Canary, Config};

use super::objects::{Insertion, Live, Objects};
use super::reach::Reach;
use super::reports::Reports;
use super::scrape::{Scraped, Scraper};
use super::workload::{Command, GatewayWorkload, ScrapeRequest};
use crate::kubernetes::api_server::apply::{ActError, is_status};
use crate::kubernetes::api_server::clock::now;
use crate::kubernetes::stores::{Key, Stores};
use crate::publisher::{Desired, Next, Publisher, Push, PushReason};
use crate::telemetry::Chain;

/// Time between two ordinary writes. istiod gathers changes for 0.1 s of quiet: constant writes would keep it waiting.
const DEBOUNCE: Span = Span(500);
/// How often gateways are scraped when no Canary asks for more.
const IDLE_SCRAPE: Span = Span::seconds(10);
/// How often while a push is not acknowledged, which a switch of the filter may wait for.
const UNACKNOWLEDGED_SCRAPE: Span = Span::seconds(1);
/// Time between two rounds of scrapes, at least.
const SCRAPE_GAP: Span = Span(20);
/// Canaries that want to know more within this time are rolling out.
const ROLLING: Span = Span::seconds(1);
/// A Canary is woken this much before its time, rather than have the gateways scraped once more for it alone.
const DUE_SLACK: Span = Span(100);
/// Time to the next try of an insertion that failed, or is blocked by another workload's filter.
const INSERTION_RETRY: Span = Span::seconds(1);

/// What became of a write.
enum Written {
    Pushed(Box<Push>, Result<Option<String>, ActError>),
    Read(Result<(Option<String>, Option<Live>), ActError>),
    Inserted(Result<(), ActError>),
    FilterRemoved(Result<(), ActError>),
    ConfigRemoved(Result<(), ActError>),
}

struct Task {
    stores: Arc<Stores>,
    workload: Arc<GatewayWorkload>,
    reports: watch::Sender<Reports>,
    publisher: Publisher,
    objects: Objects,
    writing: Option<BoxFuture<'static, Written>>,
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
}

/// Looks after a workload, for ever.
pub(super) async fn run(
    stores: Arc<Stores>,
    workload: Arc<GatewayWorkload>,
    mut commands: mpsc::UnboundedReceiver<Command>,
    reports: watch::Sender<Reports>,
) {
    let mut task = Task::new(stores, workload, reports);
    loop {
        while let Ok(command) = commands.try_recv() {
            task.ingest(command);
        }
        let at = now();
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
    fn new(stores: Arc<Stores>, workload: Arc<GatewayWorkload>, reports: watch::Sender<Reports>) -> Self {
        let objects = Objects::new(stores.clone(), workload.names.clone());
        let is_alive = |canary: &Canary| {
            let (namespace, name) = canary.name.split_once('/').unwrap_or_default();
            stores.canaries.get(namespace, name).is_some()
        };
        let publisher = match objects.live_config() {
            None => Publisher::new(DEBOUNCE),
            Some(Live { config, switched }) => {
                reports.send_modify(|reports| reports.epochs.record(&config));
                Publisher::resume(DEBOUNCE, config, switched, is_alive)
            }
        };
        let reach = Reach::new(objects.live_everywhere());
        reports.send_modify(|reports| reports.everywhere = reach.everywhere().map(str::to_owned));
        workload.set_used(!publisher.is_empty());
        Self {
            stores,
            workload,
            reports,
            publisher,
            objects,
            writing: None,
            reach,
            insert_at: Timestamp(0),
            requests: HashMap::new(),
            scraper: Scraper::new(),
            scrapes: JoinSet::new(),
            round_begun: Timestamp(0),
            next_round: Timestamp(0),
        }
    }

    fn ingest(&mut self, command: Command) {
        match command {
            Command::SetDesired(desired) => self.set_desired(*desired),
            Command::Remove(key, id) => {
                self.requests.remove(&key);
                if self.publisher.remove(&id) {
                    self.reports.send_modify(|reports| reports.epochs.forget(&id));
                }
            }
            Command::RequestScrape(key, request) => {
                let after = request.after;
                if self.requests.insert(key, request).is_none_or(|old| after < old.after) {
                    self.scrape_soon();
                }
            }
            Command::PodsChanged => self.scrape_soon(),
            // The loop looks at them anyway.
            Command::ObjectsChanged => {}
        }
        self.workload.set_used(!self.publisher.is_empty());
    }

    fn set_desired(&mut self, desired: Desired) {
        let Desired { canary, filter, .. } = &desired;
        if *filter == FilterMode::Off
            && let Some(generation) = self.publisher.generation_without(&canary.id)
        {
            let (id, epoch) = (canary.id.clone(), canary.epoch);
            self.reports.send_if_modified(|reports| reports.epochs.record_off(&id, epoch, generation));
        }
        self.publisher.set_desired(desired);
    }

    // === Writes ===

    /// Begins the write that is due; returns when to look again.
    fn write_if_due(&mut self, now: Timestamp) -> Timestamp {
        if self.writing.is_some() {
            return now + IDLE_SCRAPE;
        }
        if self.reach.advance(&self.publisher, &self.reports.borrow(), now) {
            let why = self.reach.everywhere().map(str::to_owned);
            let namespace = &self.workload.names.namespace;
            info!(namespace, everywhere = why, "the filter's reach changes");
            self.reports.send_modify(|reports| reports.everywhere = why);
        }
        // A rollback does not wait for the filter's insertion: without the filter no request goes to a canary.
        if !self.publisher.is_empty() && !self.publisher.is_urgent() && now >= self.insert_at {
            match self.objects.insertion(&self.workload, self.reach.everywhere(), now) {
                Insertion::Done => {}
                Insertion::Blocked => {
                    self.insert_at = now + INSERTION_RETRY;
                }
                Insertion::Needed => {
                    let insert = self.objects.insert(self.reach.everywhere());
                    self.writing = Some(Box::pin(async move { Written::Inserted(insert.await) }));
                    return now + IDLE_SCRAPE;
                }
            }
        }
        if now < self.insert_at && !self.publisher.is_urgent() {
            return self.insert_at;
        }
        let pushed_at = self.publisher.pushed_at();
        if let Some(pushed) = self.publisher.last_pushed()
            && !self.publisher.is_empty()
            && self.objects.has_drifted(pushed, self.publisher.last_switched(), pushed_at, now)
        {
            self.publisher.mark_drifted();
        }
        let names = &self.workload.names;
        self.writing = Some(match self.publisher.next(now) {
            Next::Wait(until) => return until,
            Next::Push(push) => {
                self.report_problems(&push);
                let write = self.objects.push(&push.config, &push.switched);
                Box::pin(async move { Written::Pushed(Box::new(push), write.await) })
            }
            Next::RemoveFilter => {
                let delete = self.objects.delete(names.listener());
                Box::pin(async move { Written::FilterRemoved(delete.await) })
            }
            Next::RemoveConfig => {
                let delete = self.objects.delete(names.config());
                Box::pin(async move { Written::ConfigRemoved(delete.await) })
            }
        });
        now + IDLE_SCRAPE
    }

    fn report_problems(&self, push: &Push) {
        let namespace = &self.workload.names.namespace;
        if push.reason == PushReason::NotAcknowledged {
            let pods = self.publisher.outdated().collect::<Vec<_>>().join(", ");
            warn!(namespace, pods, generation = self.publisher.generation(), "push not acknowledged, pushing again");
        }
        for problem in &push.left_out {
            warn!(namespace, problem, "canary left out of the gateway's configuration");
        }
    }

    fn written(&mut self, written: Written, now: Timestamp) {
        let names = self.workload.names.clone();
        let (namespace, selector) = (&names.namespace, &names.selector);
        let failed = |what: &str, error: ActError| warn!(namespace, error = %Chain(&error), "{what}");
        match written {
            Written::Pushed(push, Ok(version)) => {
                let (generation, reason) = (push.config.generation, push.reason.as_str());
                debug!(namespace, generation, reason, weights = weights(&push.config), "pushed");
                self.objects.set_version(version);
                self.reports.send_modify(|reports| reports.epochs.record(&push.config));
                self.publisher.pushed(*push, now);
                self.scrape_soon();
            }
            Written::Pushed(_, Err(ActError::Write { source, .. })) if is_status(&source, 409) => {
                // Somebody wrote in between: what is live now is what the next push replaces.
                self.publisher.failed(now);
                let read = self.objects.read();
                self.writing = Some(Box::pin(async move { Written::Read(read.await) }));
            }
            Written::Pushed(_, Err(error)) => {
                failed("push failed", error);
                self.publisher.failed(now);
            }
            Written::Read(Ok((version, live))) => {
                self.objects.set_version(version);
                let (config, switched) = live.map(|live| (live.config, live.switched)).unzip();
                if let Some(config) = &config {
                    self.reports.send_modify(|reports| reports.epochs.record(config));
                }
                self.publisher.resync(config, switched.unwrap_or_default(), now);
            }
            Written::Read(Err(error)) => failed("push failed", error),
            Written::Inserted(Ok(())) => {
                info!(namespace, ?selector, "filter inserted");
                self.objects.set_inserted(now);
            }
            Written::Inserted(Err(error)) => {
                failed("filter not inserted", error);
                self.insert_at = now + INSERTION_RETRY;
            }
            Written::FilterRemoved(Ok(())) => {
                self.objects.set_inserted(Timestamp(0));
                self.publisher.filter_removed(now);
            }
            Written::ConfigRemoved(Ok(())) => {
                info!(namespace, ?selector, "filter removed");
                self.objects.set_version(None);
                self.publisher.config_removed();
            }
            Written::FilterRemoved(Err(error)) | Written::ConfigRemoved(Err(error)) => {
                failed("filter not removed", error);
                self.publisher.failed(now);
            }
        }
    }

    // === Scrapes ===

    fn scrape_soon(&mut self) {
        self.next_round = self.next_round.min(now() + SCRAPE_GAP);
    }

    /// Begins a round of scrapes where one is due; returns when to look again.
    fn scrape_if_due(&mut self, now: Timestamp) -> Timestamp {
        if !self.scrapes.is_empty() {
            return now + IDLE_SCRAPE;
        }
        if now < self.next_round {
            return self.next_round;
        }
        self.round_begun = now;
        let pods = self.workload.pods(&self.stores);
        let is_known = |name: &str| pods.iter().any(|pod| pod.name() == name);
        self.reports.send_if_modified(|reports| {
            reports.retain(is_known);
            false
        });
        self.publisher.retain_gateways(is_known);
        for pod in &pods {
            if let Some(address) = pod.fields.status.pod_ip.as_deref() {
                self.scrapes.spawn(self.scraper.scrape(pod.name(), address));
            }
        }
        if self.scrapes.is_empty() {
            self.end_round(now);
        } else {
            // What is asked for while the round is under way follows it at once.
            self.next_round = now + self.scrape_interval();
        }
        self.next_round
    }

    fn scraped(&mut self, scraped: Option<Scraped>) {
        if let Some(Scraped { pod, asked_at, report: Some(report) }) = scraped {
            let generation = report.as_ref().and_then(crate::scrape::Report::generation);
            self.publisher.acknowledged(&pod, asked_at, generation);
            self.reports.send_modify(|reports| reports.insert(pod, asked_at, report));
            self.wake(|request, failures| request.failures != failures);
        }
        if self.scrapes.is_empty() {
            self.end_round(now());
        }
    }

    fn end_round(&mut self, now: Timestamp) {
        self.reports.send_if_modified(|reports| !std::mem::replace(&mut reports.complete, true));
        // All others wait for their own time: the round may have been for one of them alone.
        self.wake(|request, _| request.due <= now + DUE_SLACK);
        let usual = self.round_begun + self.scrape_interval();
        self.next_round = self.next_round.min(usual).max(now + SCRAPE_GAP);
    }

    /// Wakes the Canaries of a rollout that should look now, by their request and their failures.
    fn wake(&self, should_look: impl Fn(&ScrapeRequest, u64) -> bool) {
        let reports = self.reports.borrow();
        let rolling = self.requests.iter().filter(|(_, request)| request.after <= ROLLING);
        for (key, _) in rolling.filter(|(_, request)| should_look(request, reports.failures(&request.id))) {
            self.stores.wake(key);
        }
    }

    fn scrape_interval(&self) -> Span {
        let acknowledged = self.publisher.is_acknowledged(self.publisher.generation());
        let longest = if acknowledged { IDLE_SCRAPE } else { UNACKNOWLEDGED_SCRAPE };
        self.requests.values().map(|request| request.after).min().unwrap_or(longest).min(longest)
    }
}

/// What canaries are given, for the log.
fn weights(config: &Config) -> String {
    let reached = config.canaries.iter().filter(|canary| canary.reaches_canary());
    reached.map(|canary| format!("{}={}", canary.name, canary.weight)).collect::<Vec<_>>().join(" ")
}
