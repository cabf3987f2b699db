//! Writes of the Canary's own object: its status, its events, and the finalizer that keeps it until all is given back.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tracing::{info, warn};
use weir_engine::{Event, Severity, Span, Timestamp};

use super::events;
use super::reconciler::{DELETION_RECHECK, FINALIZER, Reconciler};
use super::status::{alerts_failing, missing, newly_stalled, stalled};
use crate::api::{GROUP, VERSION};
use crate::kubernetes::api_server::apply::{ActError, apply, apply_status, is_status, read};
use crate::kubernetes::api_server::clock::now;
use crate::kubernetes::kinds::canary::{Canary, CanaryStatus, Fault};
use crate::kubernetes::router::restore_all;
use crate::status_store::Name;
use crate::telemetry::Chain;
use crate::view::CanaryView;

/// Writes of one status, where others edit the object meanwhile. Each follows a read at once.
const STATUS_TRIES: usize = 5;

/// Time to the next look at an object that cannot work: what would mend it wakes it sooner.
const REFUSED: Span = Span::seconds(10);

impl Reconciler {
    /// Says that the object cannot work as it is, or that something it refers to is waited for; lets it go if it is being deleted.
    pub(super) async fn refuse(&mut self, canary: &Canary, (reason, mut problem): Fault) -> Result<Span, ActError> {
        if canary.deleted() {
            if self.awaits_target().await? {
                return Ok(DELETION_RECHECK);
            }
            restore_all(&self.stores, &self.key.0, &self.key.1).await?;
            self.finalizer(canary, false).await?;
            return Ok(DELETION_RECHECK);
        }
        if self.withhold_unread(canary) {
            problem += "; until it can be read all requests go to the primary";
        }
        let old = self.stored.as_ref().map_or(&canary.fields.status, |(status, _)| status);
        let fault = (reason, problem);
        let left = self.grace.left(Some(&fault), old, now());
        let said = if left.is_some() { missing } else { stalled };
        let new = said(old, reason, &fault.1, canary.metadata.generation.unwrap_or_default(), now());
        let old = old.clone();
        if old != new {
            warn!(namespace = self.key.0, canary = self.key.1, reason, problem = fault.1, "canary cannot work");
            let event = if left.is_none() { newly_stalled(&old, &fault) } else { None };
            self.store(canary, new).await?;
            if let Some(event) = event {
                self.emit(&Arc::new(canary.clone()), &event);
            }
        }
        self.show_refused(old.phase.as_deref(), &fault, left.is_none());
        Ok(left.unwrap_or(REFUSED).min(REFUSED))
    }

    /// Shows an object that cannot work to whoever asks Weir, as it was seen last.
    fn show_refused(&self, phase: Option<&str>, (reason, problem): &Fault, stalled: bool) {
        let who = Name { namespace: self.key.0.clone(), name: self.key.1.clone() };
        let known = self.statuses.detail(&who).map(|detail| detail.view).unwrap_or_else(|| CanaryView {
            namespace: who.namespace,
            name: who.name,
            phase: phase.and_then(|word| word.parse().ok()).unwrap_or_default(),
            since: now(),
            in_cluster: true,
            ..CanaryView::default()
        });
        self.statuses.set(CanaryView { stalled, waiting: !stalled, ..known.stalled_by(reason, problem) }, &[]);
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
            && let Err(error) = self.store(canary, new).await
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

    /// Writes the status on top of the one that the decision began from. The engine's state is in it, so two controllers that both
    /// think they lead must not write it in turn.
    ///
    /// The resource version says so to the API server, which refuses a late write of a former leader. It also refuses one after any
    /// edit by a user: then the newest object shows whether the status is still that one, and the status is written on top of
    /// the edit. So edits cost one more call, and never a decision.
    ///
    /// # Errors
    /// When the API refuses the write, or another controller has written the status.
    pub(super) async fn store(&mut self, canary: &Canary, status: CanaryStatus) -> Result<(), ActError> {
        let (namespace, name) = self.key.clone();
        let before = self.stored.as_ref().map_or(&canary.fields.status, |(status, _)| status).state.clone();
        let decided_on = |live: &Canary| {
            // An erased status is nobody's decision: it is written again.
            let state = live.fields.status.state.as_ref();
            live.metadata.uid == canary.metadata.uid && state.is_none_or(|state| before.as_ref() == Some(state))
        };
        let mut newest = self.stores.canaries.get(&namespace, &name);
        for _ in 0..STATUS_TRIES {
            let Some(live) = newest.filter(|live| decided_on(live)) else { break };
            let object = json!({
                "apiVersion": format!("{GROUP}/{VERSION}"), "kind": "Canary",
                "metadata": {"name": name, "namespace": namespace, "resourceVersion": live.version()}, "status": status,
            });
            match apply_status(&self.stores.api, &self.stores.canaries, &object).await {
                Err(ActError::Write { source, .. }) if is_status(&source, 409) => {
                    newest = read(&self.stores.api, &self.stores.canaries, &namespace, &name).await?;
                }
                other => {
                    other?;
                    self.stored = Some((status, now()));
                    return Ok(());
                }
            }
        }
        // What is remembered here is older than what is stored: the next pass begins from that.
        (self.state, self.stored) = (None, None);
        Err(ActError::Superseded(format!("the status of Canary {name} is no longer the one that was decided on")))
    }
}
