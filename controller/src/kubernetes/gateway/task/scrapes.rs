//! The scrapes of a gateway workload's task: rounds over its pods, as often as its Canaries ask, and whom a round wakes.

use std::sync::Arc;

use tracing::warn;
use weir_engine::{Span, Timestamp};

use super::{IDLE_SCRAPE, NEWCOMERS, Task};
use crate::kubernetes::api_server::clock::now;
use crate::kubernetes::gateway::scrape::Scraped;
use crate::kubernetes::gateway::workload::ScrapeRequest;
use crate::kubernetes::kinds::Pod;
use crate::kubernetes::render::Proxies;
use crate::scrape::Report;

/// How often while a push is not acknowledged, which a switch of the filter may wait for.
const UNACKNOWLEDGED_SCRAPE: Span = Span::seconds(1);
/// Time between two rounds of scrapes, at least.
const SCRAPE_GAP: Span = Span(20);
/// Canaries that want to know more within this time are rolling out.
const ROLLING: Span = Span::seconds(1);
/// A Canary is woken this much before its time, rather than have the gateways scraped once more for it alone.
const DUE_SLACK: Span = Span(100);

impl Task {
    pub(super) fn scrape_soon(&mut self) {
        self.next_round = self.next_round.min(now() + SCRAPE_GAP);
    }

    /// Has all pods asked in a release, as one that goes has counted something, and at rest those that nobody has asked yet.
    pub(super) fn pods_changed(&mut self) {
        if self.requests.values().any(|request| request.after <= ROLLING) {
            self.scrape_soon();
        } else {
            self.newcomers_at.get_or_insert(now() + NEWCOMERS);
        }
    }

    /// Begins a round of scrapes where one is due; returns when to look again.
    pub(super) fn scrape_if_due(&mut self, now: Timestamp) -> Timestamp {
        if !self.scrapes.is_empty() {
            return now + IDLE_SCRAPE;
        }
        let newcomers_alone = now < self.next_round;
        let due = self.newcomers_at.unwrap_or(self.next_round).min(self.next_round);
        if now < due {
            return due;
        }
        self.newcomers_at = None;
        let pods = self.workload.pods(&self.stores);
        let is_known = |name: &str| pods.iter().any(|pod| pod.name() == name);
        self.reports.send_if_modified(|reports| {
            reports.retain(is_known);
            false
        });
        self.publisher.retain_gateways(|name| is_known(name) && !self.reports.borrow().is_given_up(name, now));
        let mut known = self.publisher.known();
        known.extend(self.workload.splitting.lock().ids().cloned());
        let known = Arc::new(known);
        let is_asked = |pod: &&Arc<Pod>| {
            let reports = self.reports.borrow();
            !(reports.is_left_alone(pod.name(), now) || newcomers_alone && reports.is_known(pod.name()))
        };
        for pod in pods.iter().filter(is_asked) {
            if let Some(address) = pod.fields.status.pod_ip.as_deref() {
                self.scrapes.spawn(self.scraper.scrape(pod, address, &known));
            }
        }
        if newcomers_alone {
            return self.next_round;
        }
        self.round_begun = now;
        // What is asked for while the round is under way follows it at once.
        self.next_round = now + self.scrape_interval();
        if self.scrapes.is_empty() {
            self.end_round(now);
        }
        self.next_round
    }

    pub(super) fn scraped(&mut self, scraped: Option<Scraped>) {
        if let Some(scraped) = scraped {
            self.scraper.note(&scraped);
            let Scraped { pod, asked_at, report, .. } = scraped;
            match report.and_then(|report| self.believed(&pod, asked_at, report)) {
                Ok(report) => {
                    let generation = match &report {
                        Some(report) => report.generation(),
                        // What it was told is the stand-in, which says nothing.
                        None if self.workload.names.proxies == Proxies::Sidecars => {
                            self.publisher.generation_of_none(asked_at)
                        }
                        None => None,
                    };
                    self.publisher.acknowledged(&pod, asked_at, generation);
                    let heard = self.publisher.is_heard(&pod);
                    let runs = generation.filter(|generation| self.publisher.is_handed_out(*generation));
                    let due = self.publisher.arrived(asked_at);
                    self.reports.send_modify(|reports| reports.insert(pod, asked_at, report, runs, (heard, due)));
                    self.wake(|request, failures| request.failures != failures);
                }
                Err(problem) => self.reports.send_modify(|reports| reports.unanswered(pod, asked_at, problem)),
            }
        }
        if self.scrapes.is_empty() {
            self.end_round(now());
        }
    }

    /// Returns of a report what its pod can know; or why none of it is believed.
    fn believed(&self, pod: &str, asked_at: Timestamp, report: Option<Report>) -> Result<Option<Report>, String> {
        let Some(mut report) = report else { return Ok(None) };
        let reports = self.reports.borrow();
        report.believe(
            |generation| self.publisher.is_handed_out(generation),
            |id, epoch| reports.epochs.is_handed_out(id, epoch),
        );
        if let Some((last, last_asked_at)) = reports.last(pod)
            && let Some(id) = report.implausible(last, asked_at.since(last_asked_at))
        {
            let namespace = &self.workload.names.namespace;
            warn!(
                namespace,
                pod, id, "a report counts more requests than one gateway can have served, and is not believed"
            );
            return Err("it counts more requests than one gateway can have served".into());
        }
        Ok(Some(report))
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
