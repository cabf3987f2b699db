//! Writes of the Canary's own object: its status, its events, and the finalizer that keeps it until all is given back.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tracing::{info, warn};
use weir_engine::{Event, Severity, Span, Timestamp};

use super::events;
use super::reconciler::{DELETION_RECHECK, FINALIZER, Reconciler};
use super::status::{alerts_failing, newly_stalled, stalled};
use crate::api::{GROUP, VERSION};
use crate::kubernetes::api_server::apply::{ActError, apply, apply_status, is_status};
use crate::kubernetes::api_server::clock::now;
use crate::kubernetes::kinds::canary::{Canary, CanaryStatus, Fault};
use crate::kubernetes::router::apex::restore_all;
use crate::status_store::Name;
use crate::telemetry::Chain;

impl Reconciler {
    /// Says that the object cannot work as it is; lets it go if it is being deleted.
    pub(super) async fn refuse(&mut self, canary: &Canary, (reason, problem): Fault) -> Result<Span, ActError> {
        if canary.deleted() {
            restore_all(&self.stores, &self.key.0, &self.key.1).await?;
            self.finalizer(canary, false).await?;
            return Ok(DELETION_RECHECK);
        }
        let old = self.stored.as_ref().map_or(&canary.fields.status, |(status, _)| status);
        let new = stalled(old, reason, &problem, canary.metadata.generation.unwrap_or_default(), now());
        if *old != new {
            warn!(namespace = self.key.0, canary = self.key.1, reason, problem, "canary cannot work");
            let event = newly_stalled(old, &(reason, problem));
            self.store(new).await?;
            if let Some(event) = event {
                self.emit(&Arc::new(canary.clone()), &event);
            }
        }
        Ok(Span::seconds(10))
    }

    /// Reports a failed pass, where a person must know of it; returns the time until the next try.
    pub(super) async fn failed(&mut self, canary: &Arc<Canary>, error: &ActError) -> Duration {
        let (namespace, name) = (&self.key.0, &self.key.1);
        let (delay, fault) = self.retry.failed(error);
        warn!(namespace, canary = name, error = %Chain(error), again = ?delay, "pass failed");
        let Some((reason, problem)) = fault else { return delay };
        self.emit(canary, &Event::new(Severity::Error, reason, problem.clone()));
        let old = self.stored.as_ref().map_or(&canary.fields.status, |(status, _)| status);
        let new = stalled(old, reason, &problem, canary.metadata.generation.unwrap_or_default(), now());
        if *old != new
            && let Err(error) = self.store(new).await
        {
            warn!(namespace = self.key.0, canary = self.key.1, error = %Chain(&error), "refusal not written to the status");
        }
        delay
    }

    /// Emits an event, on the Canary and to whoever asks Weir.
    pub(super) fn emit(&mut self, canary: &Arc<Canary>, event: &Event) {
        let (namespace, name) = &self.key;
        let Event { severity, reason, text, .. } = event;
        info!(namespace, canary = name, ?severity, reason, "{text}");
        let who = Name { namespace: namespace.clone(), name: name.clone() };
        self.statuses.record(&who, now(), std::slice::from_ref(event));
        self.events_emitted += 1;
        let analysis = canary.fields.spec.as_ref().map(|spec| spec.analysis.clone()).unwrap_or_default();
        let stores = self.stores.clone();
        let provider = |of: &str, provider: &str| stores.alert_provider(namespace, of, provider);
        self.checks.tell(event, self.situation.phase(), self.situation.checksum(), now());
        self.alerts.tell(event, &self.situation, now(), &analysis, provider);
        let (client, object, event) = (self.stores.api.client.clone(), canary.clone(), event.clone());
        let number = self.events_emitted;
        tokio::spawn(async move { events::publish(client, &object, &event, number, now()).await });
    }

    /// Says in a status which alerts are not delivered; returns the event where that is news.
    pub(super) fn alerts_failing(
        &self,
        canary: &Canary,
        old: &CanaryStatus,
        new: &mut CanaryStatus,
        generation: i64,
        now: Timestamp,
    ) -> Option<Event> {
        let spec = canary.fields.spec.as_ref().ok()?;
        let namespace = &self.key.0;
        let provider = |of: &str, provider: &str| self.stores.alert_provider(namespace, of, provider);
        let problems = self.alerts.problems(namespace, &spec.analysis, provider);
        alerts_failing(old, new, &problems, generation, now)
    }

    pub(super) async fn finalizer(&self, canary: &Canary, keep: bool) -> Result<(), ActError> {
        let finalizers: &[&str] = if keep { &[FINALIZER] } else { &[] };
        let object = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"), "kind": "Canary",
            "metadata": {"name": canary.name(), "namespace": canary.namespace(), "uid": canary.metadata.uid, "finalizers": finalizers},
        });
        match apply(&self.stores.api, &self.stores.canaries, &object).await {
            // The uid keeps a Canary that is gone from being made again by this.
            Err(ActError::Write { source, .. }) if is_status(&source, 409) || is_status(&source, 404) => Ok(()),
            other => other.map(drop),
        }
    }

    pub(super) async fn store(&mut self, status: CanaryStatus) -> Result<(), ActError> {
        let (namespace, name) = &self.key;
        let object = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"), "kind": "Canary",
            "metadata": {"name": name, "namespace": namespace}, "status": status,
        });
        apply_status(&self.stores.api, &self.stores.canaries, &object).await?;
        self.stored = Some((status, now()));
        Ok(())
    }
}
