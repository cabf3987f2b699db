//! Alerts: news of rollouts for people who look at a chat and not at a cluster.
//!
//! ```text
//!  Event, how the Canary stands ─ message ─> Message ─ recipients ─> who wants it ─ delivery ─> a queue for each provider
//!                                                                                    │
//!  status <─ Deliveries (threads, failures) <────────────────────────────────────────┴─ notifiers ─> HTTP
//! ```
//!
//! Nothing here holds a decision up: sending is putting into a queue, and a queue that is full drops what is least worth. What
//! became of an alert is one more thing to see in a later pass, as an answer to a webhook is.

pub(crate) mod deliveries;
pub(crate) mod delivery;
pub(crate) mod http;
pub(crate) mod message;
pub(crate) mod notifiers;
pub(crate) mod recipients;
mod superseded;

use std::collections::BTreeSet;
use std::sync::Arc;

use weir_engine::{Event, Severity, Timestamp};

pub(crate) use self::deliveries::Deliveries;
pub(crate) use self::delivery::{Alerts, Transport};
use self::message::Message;
pub(crate) use self::message::{Situation, images};
pub(crate) use self::notifiers::Thread;
pub(crate) use self::recipients::Provider;
use self::recipients::{Recipient, recipients};
use crate::api::rules::ALERT_KINDS;
use crate::api::{AlertProviderSpec, AnalysisSpec, Problem, webhook_names};

/// How alerts of all Canaries are sent.
#[derive(Clone, Debug, Default)]
pub struct AlertSettings {
    /// The cluster's name, which every alert shows.
    pub cluster: Option<String>,
    /// The AlertProvider of the Canaries that have no alerts of their own, `NAMESPACE/NAME`.
    pub provider: Option<String>,
    /// Least severity that it is sent.
    pub severity: Option<String>,
}

/// Returns the events that only say how far a rollout is.
#[must_use]
pub fn steps() -> &'static [&'static str] {
    &message::STEPS
}

/// Says why nothing can be sent to a provider as it is written.
#[must_use]
pub fn unsendable(spec: &AlertProviderSpec) -> Option<Problem> {
    recipients::usable(spec).err()
}

/// Returns the kinds of service that show alerts.
#[must_use]
pub fn services() -> &'static [&'static str] {
    &ALERT_KINDS
}

/// What one Canary has told.
#[derive(Debug)]
pub(crate) struct CanaryAlerts {
    alerts: Arc<Alerts>,
    deliveries: Arc<Deliveries>,
    /// The rollout, and what was told of it that is told once.
    told: (String, BTreeSet<&'static str>),
}

impl CanaryAlerts {
    /// Returns one that has told nothing.
    pub(crate) fn new(alerts: Arc<Alerts>, deliveries: Arc<Deliveries>) -> Self {
        Self { alerts, deliveries, told: (String::new(), BTreeSet::new()) }
    }

    /// Returns what became of its alerts.
    pub(crate) fn deliveries(&self) -> &Deliveries {
        &self.deliveries
    }

    /// Tells of an event whoever wants to know.
    pub(crate) fn tell(
        &mut self,
        event: &Event,
        situation: &Situation,
        at: Timestamp,
        analysis: &AnalysisSpec,
        providers: impl Fn(&str, &str) -> Provider,
    ) {
        if event.webhook.as_ref().is_some_and(|about| muted(analysis).contains(about)) {
            return;
        }
        let alerts = self.alerts.clone();
        let settings = &alerts.settings;
        let Some(mut message) = Message::of(event, situation, settings.cluster.as_deref(), at) else { return };
        message.step |= self.is_repeated(event, &message.run);
        let superseded = Message::of_superseded(event, situation, settings.cluster.as_deref(), at);
        let messages: Vec<Arc<Message>> = superseded.into_iter().chain([message]).map(Arc::new).collect();
        for (least, recipient) in recipients(&messages[0].namespace, analysis, settings, providers) {
            // Who cannot be sent anything is told of in the status, on every pass.
            let Ok(Recipient { name, spec }) = recipient else { continue };
            for message in &messages {
                alerts.send(name.clone(), spec.clone(), least, message, &self.deliveries);
            }
        }
    }

    /// Returns whether an event says again what was told of its rollout: the first failed check is news, and a second event of
    /// the same end is none.
    fn is_repeated(&mut self, event: &Event, run: &str) -> bool {
        if self.told.0 != run {
            self.told = (run.to_owned(), BTreeSet::new());
        }
        let first = self.told.1.insert(event.reason);
        let end = event.severity == Severity::Error || event.text.starts_with("Canary failed!");
        !first && (end || event.reason == "Halted")
    }

    /// Returns why alerts of a Canary are not delivered, one line for each recipient; nothing where all is well.
    pub(crate) fn problems(
        &self,
        namespace: &str,
        analysis: &AnalysisSpec,
        providers: impl Fn(&str, &str) -> Provider,
    ) -> Vec<String> {
        let found = recipients(namespace, analysis, &self.alerts.settings, providers);
        let named = |provider: &str| {
            let known = |recipient: &Recipient| recipient.name == provider;
            // One that nobody has looked at yet may be the one.
            found.iter().any(|(_, it)| it.as_ref().map_or_else(String::is_empty, known))
        };
        self.deliveries.retain(named);
        let failures = self.deliveries.failures();
        let problem = |(_, recipient): (Severity, Result<Recipient, String>)| match recipient {
            Err(problem) if problem.is_empty() => None,
            Err(problem) => Some(problem),
            Ok(Recipient { name, .. }) => failures.get(&name).map(|why| format!("AlertProvider {name}: {why}")),
        };
        found.into_iter().filter_map(problem).collect()
    }
}

/// Returns the webhooks of which no alerts are sent, by `muteAlert`.
pub(crate) fn muted(analysis: &AnalysisSpec) -> Vec<String> {
    let webhooks = webhook_names(&analysis.webhooks).into_iter().zip(&analysis.webhooks);
    webhooks.filter(|(_, webhook)| webhook.mute_alert == Some(true)).map(|(name, _)| name).collect()
}

#[cfg(test)]
pub(crate) mod tests;
