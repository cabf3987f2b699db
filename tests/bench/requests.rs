//! Requests of users, each with the moment of its end and who answered it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use weir_demo::load::{Load, Running};

/// One request's end.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) at: Instant,
    /// The revision that answered, or `gateway`, `none`, `timeout`.
    pub(crate) revision: String,
    pub(crate) failed: bool,
    /// From the moment it was due.
    pub(crate) took: Duration,
}

impl End {
    /// Returns whether the request was under way at some moment between two.
    pub(crate) fn was_under_way(&self, from: Instant, to: Instant) -> bool {
        self.at - self.took <= to && self.at >= from
    }
}

/// Traffic that runs until this is dropped.
pub(crate) struct Requests {
    ends: Arc<Mutex<Vec<End>>>,
    running: Running,
}

impl Requests {
    /// Starts the traffic.
    pub(crate) fn start(load: &Load) -> Self {
        let ends: Arc<Mutex<Vec<End>>> = Arc::default();
        let all = ends.clone();
        let running = load.start_telling(move |ended| {
            let failed = !(1..500).contains(&ended.status);
            let end = End { at: Instant::now(), revision: ended.revision.clone(), failed, took: ended.took };
            all.lock().unwrap().push(end);
        });
        Self { ends, running }
    }

    /// Returns what ended since a moment, in order.
    pub(crate) fn since(&self, moment: Instant) -> Vec<End> {
        self.ends.lock().unwrap().iter().filter(|end| end.at >= moment).cloned().collect()
    }

    /// Sends no more; returns everything that ended, once all has.
    pub(crate) async fn finish(self) -> Vec<End> {
        self.running.finish().await;
        std::mem::take(&mut *self.ends.lock().unwrap())
    }
}
