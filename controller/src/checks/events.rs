//! The `event` webhooks: told of everything that happens to a Canary, in order, and waited for by nobody.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use weir_engine::{CheckResult, Event, Severity, Span, State, Timestamp};

use super::Outcomes;
use super::webhook::Call;
use crate::api::analysis::WebhookSpec;
use crate::api::{CanarySpec, Object, webhook_names};
use crate::outbound::Outbound;

/// Events that wait for one that is being told. A rollout has about a dozen.
const QUEUE: usize = 64;

/// One webhook, and what of its call is the same for all events.
#[derive(Clone, Debug)]
struct Hook {
    name: String,
    call: Call,
    metadata: BTreeMap<String, String>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// The one of all Canaries that have none of their own.
    pub(super) default: Option<String>,
    canary: (String, String),
    hooks: Vec<Hook>,
    queue: Option<Queue>,
}

#[derive(Debug)]
struct Queue {
    sender: mpsc::Sender<Hook>,
    task: AbortHandle,
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Events {
    /// Takes in the webhooks of a Canary.
    pub(super) fn update(&mut self, canary: &Object<CanarySpec>, state: &State) {
        let hook = |name: String, spec: &WebhookSpec| Hook {
            name,
            call: Call::of(canary, spec, state, Span::default()),
            metadata: spec.metadata.clone(),
        };
        let webhooks = &canary.spec.analysis.webhooks;
        let named = webhook_names(webhooks).into_iter().zip(webhooks);
        let own = named.filter(|(_, spec)| spec.kind.as_deref() == Some("event"));
        self.hooks = own.map(|(name, spec)| hook(name, spec)).collect();
        if self.hooks.is_empty()
            && let Some(url) = &self.default
        {
            let spec = WebhookSpec { name: "events".into(), url: url.clone(), ..WebhookSpec::default() };
            self.hooks.push(hook(spec.name.clone(), &spec));
        }
        self.canary = (canary.metadata.namespace.clone(), canary.metadata.name.clone());
    }

    /// Returns whether a webhook of this name is told.
    pub(super) fn names(&self, name: &str) -> bool {
        self.hooks.iter().any(|hook| hook.name == name)
    }

    /// Tells of an event.
    pub(super) fn tell(
        &mut self,
        event: &Event,
        (phase, checksum): (&str, &str),
        at: Timestamp,
        outbound: &Arc<Outbound>,
        outcomes: &Outcomes,
    ) {
        if self.hooks.is_empty() {
            return;
        }
        let queue = self.queue.get_or_insert_with(|| {
            let (sender, hooks) = mpsc::channel(QUEUE);
            let task = tokio::spawn(call_all(hooks, outbound.clone(), outcomes.clone()));
            Queue { sender, task: task.abort_handle() }
        });
        let (namespace, name) = &self.canary;
        for hook in &self.hooks {
            let mut metadata = hook.metadata.clone();
            let kind = if event.severity == Severity::Info { "Normal" } else { "Warning" };
            let own =
                [("eventMessage", event.text.clone()), ("eventType", kind.into()), ("timestamp", at.0.to_string())];
            metadata.extend(own.map(|(key, value)| (key.to_owned(), value)));
            let body = json!({
                "name": name, "namespace": namespace, "phase": phase, "checksum": checksum, "metadata": metadata,
            });
            let mut hook = hook.clone();
            hook.call.body = body.to_string();
            if queue.sender.try_send(hook).is_err() {
                tracing::warn!(
                    namespace,
                    canary = name,
                    reason = event.reason,
                    "event webhook not called: too many wait"
                );
            }
        }
    }
}

async fn call_all(mut hooks: mpsc::Receiver<Hook>, outbound: Arc<Outbound>, outcomes: Outcomes) {
    while let Some(Hook { name, call, .. }) = hooks.recv().await {
        let answer = call.ask(&outbound).await;
        if let CheckResult::Failed(why) = &answer {
            tracing::warn!(webhook = name, error = why, "event webhook failed");
        }
        outcomes.lock().insert(name, ("event".to_owned(), answer));
    }
}
