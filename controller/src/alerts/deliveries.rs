//! What became of the alerts of one Canary.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::notifiers::Thread;
use crate::status_store::{AlertResult, StatusStore};

/// What became of the alerts of one Canary. Its reconciler stores the threads, and tells of the failures.
#[derive(Debug)]
pub(crate) struct Deliveries {
    content: Mutex<Content>,
    wake: Arc<Notify>,
    statuses: Arc<StatusStore>,
}

#[derive(Debug, Default)]
struct Content {
    threads: Vec<Thread>,
    failures: BTreeMap<String, String>,
}

impl Deliveries {
    /// Returns what became of no alert; `wake` is notified of changes.
    pub(crate) fn new(wake: Arc<Notify>, statuses: Arc<StatusStore>) -> Arc<Self> {
        Arc::new(Self { content: Mutex::default(), wake, statuses })
    }

    /// Takes over what another replica, or an earlier Weir, has begun.
    pub(crate) fn restore(&self, threads: &[Thread]) {
        self.content.lock().threads = threads.to_vec();
    }

    /// Returns the messages that later ones edit.
    pub(crate) fn threads(&self) -> Vec<Thread> {
        self.content.lock().threads.clone()
    }

    /// Returns why the newest alert did not arrive, by provider.
    pub(crate) fn failures(&self) -> BTreeMap<String, String> {
        self.content.lock().failures.clone()
    }

    /// Forgets the failures of providers that the Canary does not send to any more.
    pub(crate) fn retain(&self, is_named: impl Fn(&str) -> bool) {
        self.content.lock().failures.retain(|provider, _| {
            let stays = is_named(provider);
            if !stays {
                self.statuses.forget_receiver(provider);
            }
            stays
        });
    }

    pub(super) fn thread(&self, provider: &str, run: &str) -> Option<Thread> {
        let content = self.content.lock();
        content.threads.iter().find(|thread| thread.provider == provider && thread.run == run).cloned()
    }

    pub(super) fn set_thread(&self, thread: Thread) {
        let mut content = self.content.lock();
        content.threads.retain(|other| other.provider != thread.provider);
        content.threads.push(thread);
        self.wake.notify_one();
    }

    pub(super) fn done(&self, provider: &str, kind: &str, result: Result<(), String>) {
        let counted = if result.is_ok() { AlertResult::Sent } else { AlertResult::Failed };
        self.record(provider, kind, counted, result);
    }

    pub(super) fn dropped(&self, provider: &str, kind: &str) {
        let why = "an alert was left out, since too many wait for it".to_owned();
        self.record(provider, kind, AlertResult::Dropped, Err(why));
    }

    fn record(&self, provider: &str, kind: &str, counted: AlertResult, result: Result<(), String>) {
        self.statuses.count_alert((provider.to_owned(), kind.to_owned()), counted);
        let failures = &mut self.content.lock().failures;
        let news = match result {
            Ok(()) => failures.remove(provider).is_some(),
            Err(why) => failures.insert(provider.to_owned(), why.clone()) != Some(why),
        };
        if news {
            self.wake.notify_one();
        }
    }
}

impl Drop for Deliveries {
    fn drop(&mut self) {
        self.retain(|_| false);
    }
}
