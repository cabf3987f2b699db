//! The writes of a gateway workload's task: one at a time, what takes requests away from a canary first.

use std::collections::BTreeSet;

use tracing::{debug, info, warn};
use weir_engine::{Span, Timestamp};
use weir_wire::Config;

use super::{IDLE_SCRAPE, Task};
use crate::kubernetes::api_server::apply::ActError;
use crate::kubernetes::gateway::objects::{Insertion, Live};
use crate::kubernetes::render::Proxies;
use crate::publisher::{Next, Push, PushReason};
use crate::telemetry::Chain;

/// Time to the next try of an insertion that failed, or is blocked by another workload's filter.
const INSERTION_RETRY: Span = Span::seconds(1);

/// The two objects, in what is told of refused writes.
const FILTER: &str = "filter";
const CONFIG: &str = "configuration";

/// What became of a write.
pub(super) enum Written {
    Pushed(Box<Push>, Result<Option<String>, ActError>),
    Read(Result<(Option<String>, Option<Live>), ActError>),
    Inserted(Result<(), ActError>),
    FilterRemoved(Result<(), ActError>),
    ConfigRemoved(Result<(), ActError>),
}

impl Task {
    /// Begins the write that is due; returns when to look again.
    pub(super) fn write_if_due(&mut self, now: Timestamp) -> Timestamp {
        if self.writing.is_some() {
            return now + IDLE_SCRAPE;
        }
        self.advance_reach(now);
        // A rollback does not wait for the filter's insertion: without the filter no request goes to a canary.
        if !self.publisher.is_empty() && !self.publisher.is_urgent() && now >= self.insert_at {
            match self.objects.insertion(&self.workload, self.reach.everywhere(), now) {
                Insertion::Done => {}
                Insertion::Blocked => {
                    self.insert_at = now + INSERTION_RETRY;
                }
                // Where pods may not be gateways it stays until its Canaries have left, and comes no more.
                Insertion::Missing
                    if self.workload.names.proxies == Proxies::Gateways
                        && !self.stores.is_gateway_namespace(&self.workload.names.namespace) => {}
                Insertion::Missing | Insertion::Needed => {
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
        let next = self.publisher.next(now);
        self.report_left_out();
        let names = &self.workload.names;
        self.writing = Some(match next {
            Next::Wait(until) => return until,
            Next::Push(push) => {
                self.report_outdated(&push);
                // Whether or not the answer to the write is heard.
                self.reports.send_modify(|reports| reports.epochs.record(&push.config));
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

    /// Decides whether the filter is on for all requests, and tells the Canaries whose routes are not seen.
    fn advance_reach(&mut self, now: Timestamp) {
        let (workload, stores) = (&self.workload, &self.stores);
        let unable = || workload.is_unable(stores);
        if self.reach.advance(&self.publisher, &self.reports.borrow(), unable, now) {
            let why = self.reach.everywhere().map(str::to_owned);
            info!(namespace = workload.names.namespace, everywhere = why, "the filter's reach changes");
            self.reports.send_modify(|reports| reports.everywhere = why);
        }
        self.publisher.find_by_route(self.reach.everywhere().is_some());
        let missing: BTreeSet<String> = self.reach.missing(now).cloned().collect();
        if self.reports.borrow().missing != missing {
            self.reports.send_modify(|reports| reports.missing = missing);
            self.wake_all();
        }
    }

    /// Tells the Canaries that have no place in the configuration, and those that have one again.
    fn report_left_out(&self) {
        let left_out = self.publisher.left_out();
        // To a gateway that does not know it a canary that gets nothing is off.
        for canary in left_out.keys().filter_map(|id| self.publisher.desired(id)).filter(|it| !it.reaches_canary()) {
            if let Some(generation) = self.publisher.generation_without(&canary.id) {
                let (id, epoch) = (&canary.id, canary.epoch);
                self.reports.send_if_modified(|reports| reports.epochs.record_off(id, epoch, generation));
            }
        }
        if self.reports.borrow().left_out == *left_out {
            return;
        }
        for (id, (reason, problem)) in left_out {
            let canary = self.publisher.desired(id).map(|canary| canary.name.as_str());
            warn!(
                namespace = self.workload.names.namespace,
                canary, reason, problem, "canary left out of the gateway's configuration"
            );
        }
        self.reports.send_modify(|reports| reports.left_out.clone_from(left_out));
        self.wake_all();
    }

    /// Tells everybody what the API server refuses of the gateway's own objects, until it does no more.
    fn report_write(&mut self, what: &'static str, error: Option<&ActError>) {
        let failures = self.failures.entry(what).or_default();
        *failures = if error.is_some() { *failures + 1 } else { 0 };
        let fault = error.and_then(|error| error.fault(*failures));
        let namespace = &self.workload.names.namespace;
        let fault =
            fault.map(|(reason, text)| (reason, format!("{text} (in namespace {namespace}, for the gateway there)")));
        let changed = self.reports.send_if_modified(|reports| {
            let before = match fault {
                Some(fault) => reports.refused.insert(what, fault),
                // What passes by itself says nothing about what was refused before.
                None if error.is_some() => return false,
                None => reports.refused.remove(what),
            };
            before.as_ref() != reports.refused.get(what)
        });
        if changed {
            self.wake_all();
        }
    }

    fn report_outdated(&self, push: &Push) {
        let namespace = &self.workload.names.namespace;
        if push.reason == PushReason::NotAcknowledged {
            let pods = self.publisher.outdated().collect::<Vec<_>>().join(", ");
            warn!(namespace, pods, generation = self.publisher.generation(), "push not acknowledged, pushing again");
        }
    }

    /// Takes note that nothing can be written into a namespace that goes: what there was goes with it.
    fn namespace_goes(&mut self, now: Timestamp) {
        debug!(namespace = self.workload.names.namespace, "the namespace goes, and the filter with it");
        self.report_write(FILTER, None);
        self.report_write(CONFIG, None);
        if self.publisher.is_empty() {
            self.objects.set_version(None);
            self.publisher.config_removed();
        } else {
            self.publisher.failed(now);
            self.insert_at = now + INSERTION_RETRY;
        }
    }

    pub(super) fn written(&mut self, written: Written, now: Timestamp) {
        let names = self.workload.names.clone();
        let (namespace, selector) = (&names.namespace, &names.selector);
        let failed = |what: &str, error: &ActError| warn!(namespace, error = %Chain(error), "{what}");
        match written {
            Written::Pushed(push, Ok(version)) => {
                let (generation, reason) = (push.config.generation, push.reason.as_str());
                debug!(namespace, generation, reason, weights = weights(&push.config), "pushed");
                self.objects.set_version(version);
                self.report_write(CONFIG, None);
                self.publisher.pushed(*push, now);
                self.scrape_soon();
            }
            Written::Pushed(_, Err(error)) if error.is_conflict() => {
                // Somebody wrote in between: what is live now is what the next push replaces.
                self.report_write(CONFIG, Some(&error));
                self.publisher.failed(now);
                let read = self.objects.read();
                self.writing = Some(Box::pin(async move { Written::Read(read.await) }));
            }
            Written::Pushed(_, Err(error)) if error.is_of_a_namespace_that_goes() => self.namespace_goes(now),
            Written::Inserted(Err(error)) if error.is_of_a_namespace_that_goes() => self.namespace_goes(now),
            Written::Pushed(_, Err(error)) => {
                failed("push failed", &error);
                self.report_write(CONFIG, Some(&error));
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
            Written::Read(Err(error)) => {
                failed("push failed", &error);
                self.report_write(CONFIG, Some(&error));
            }
            Written::Inserted(Ok(())) => {
                info!(namespace, ?selector, "filter inserted");
                self.objects.set_inserted(now);
                self.report_write(FILTER, None);
            }
            Written::Inserted(Err(error)) => {
                failed("filter not inserted", &error);
                self.report_write(FILTER, Some(&error));
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
                failed("filter not removed", &error);
                self.report_write(CONFIG, Some(&error));
                self.publisher.failed(now);
            }
        }
    }
}

/// What canaries are given, for the log.
fn weights(config: &Config) -> String {
    let reached = config.canaries.iter().filter(|canary| canary.reaches_canary());
    reached.map(|canary| format!("{}={}", canary.name, canary.weight)).collect::<Vec<_>>().join(" ")
}
