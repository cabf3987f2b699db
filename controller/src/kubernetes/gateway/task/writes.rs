//! The writes of a gateway workload's task: one at a time, what takes requests away from a canary first.

use tracing::{debug, info, warn};
use weir_engine::{Span, Timestamp};
use weir_wire::Config;

use super::{IDLE_SCRAPE, Task};
use crate::kubernetes::api_server::apply::{ActError, is_status};
use crate::kubernetes::gateway::objects::{Insertion, Live};
use crate::publisher::{Next, Push, PushReason};
use crate::telemetry::Chain;

/// Time to the next try of an insertion that failed, or is blocked by another workload's filter.
const INSERTION_RETRY: Span = Span::seconds(1);

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

    pub(super) fn written(&mut self, written: Written, now: Timestamp) {
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
}

/// What canaries are given, for the log.
fn weights(config: &Config) -> String {
    let reached = config.canaries.iter().filter(|canary| canary.reaches_canary());
    reached.map(|canary| format!("{}={}", canary.name, canary.weight)).collect::<Vec<_>>().join(" ")
}
