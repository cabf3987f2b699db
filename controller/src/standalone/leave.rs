//! The end, when a person asks for it: requests under way are answered, then Envoy stops, then the processes. What was decided
//! stays on the disk, and the next start goes on with it.

use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::envoy::admin::active_requests;
use super::release::CanaryRuntime;
use super::replica::Surroundings;
use super::supervisor::Supervisor;
use crate::telemetry::Chain;

/// Requests under way may take so long.
const DRAIN: Duration = Duration::from_secs(10);
/// Envoy ends within this time of SIGTERM, or is killed.
const ENVOY_ENDS: Duration = Duration::from_secs(5);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(20);

impl Supervisor {
    /// Ends everything that runs; without waiting for requests as soon as `hurry` says so.
    pub(super) async fn leave(&mut self, hurry: &Notify) {
        tracing::info!("stopping; a second signal does not wait for requests under way");
        let now = self.clock.now();
        for release in self.releases.values_mut().filter(|release| release.frozen.is_none()) {
            if let Err(error) = release.save(now) {
                tracing::error!(error = %Chain(&error), "state not written");
            }
        }
        tokio::select! {
            ((), ()) = async { tokio::join!(self.drain(), self.alerts.finish()) } => {}
            () = hurry.notified() => {}
        }
        self.server.signal(Signal::TERM);
        if timeout(ENVOY_ENDS, self.server.ended()).await.is_err() {
            self.server.signal(Signal::KILL);
            self.server.ended().await;
        }
        self.end_processes().await;
        self.remember_processes();
        tracing::info!("stopped");
    }

    /// Takes no new requests and waits for those under way.
    async fn drain(&self) {
        let Some(admin) = self.server.admin() else { return };
        if admin.drain().await.is_err() {
            return;
        }
        let drained = async {
            while admin.stats().await.is_ok_and(|stats| active_requests(&stats) > 0) {
                sleep(LOOK).await;
            }
        };
        let _ = timeout(DRAIN, drained).await;
    }

    async fn end_processes(&mut self) {
        let now = self.clock.now();
        self.releases.values_mut().flat_map(CanaryRuntime::arms).for_each(|arm| arm.stop_now(now));
        loop {
            let around = Surroundings { marker: &self.marker, wake: &self.wake, now: self.clock.now() };
            let mut left = false;
            for arm in self.releases.values_mut().flat_map(CanaryRuntime::arms) {
                arm.advance(&around);
                left |= !arm.is_empty();
            }
            if !left {
                return;
            }
            sleep(LOOK).await;
        }
    }
}
