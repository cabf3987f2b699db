//! Asks other programs on the engine's behalf: webhooks with Flagger's body, and metrics that a Prometheus answers.
//!
//! A call never holds anything up: it runs beside the engine, and its answer is one more thing to see when it is there.

mod credentials;
mod events;
mod metric;
mod template;
mod unanswerable;
mod webhook;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use weir_engine::{CheckRequest, CheckResult, Event, Span, State, Timestamp, WebhookKind};

pub use self::unanswerable::{unanswerable, unanswerable_metrics};

use self::events::Events;
use self::metric::{Metric, Query};
use self::webhook::Call;
use crate::api::{CanarySpec, MetricTemplateSpec, Object, asked, webhook_names};
use crate::outbound::Outbound;
use crate::view::Replies;

/// What is known of a MetricTemplate.
#[derive(Clone, Debug)]
pub(crate) enum Template {
    /// It is there.
    Found(MetricTemplateSpec),
    /// It is there, and cannot be used.
    Unusable(String),
    /// There is none.
    Missing,
    /// Nobody has looked yet.
    NotKnownYet,
}

/// A question under way; it ends with this value.
#[derive(Debug)]
struct Asking {
    call: AbortHandle,
    repeats: bool,
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.call.abort();
    }
}

/// What each webhook said last, by its name, with its type.
pub(crate) type Outcomes = Arc<Mutex<BTreeMap<String, (String, CheckResult)>>>;

type Known = Arc<Mutex<BTreeMap<String, CheckResult>>>;

/// Why something has no answer that an edit took out of the spec while a rollout still waits for it.
const GONE: &str = "it is not in the spec any more";

/// What is asked, and what was answered.
#[derive(Debug)]
pub(crate) struct CheckRunner {
    webhooks: BTreeMap<String, Call>,
    metrics: BTreeMap<String, Metric>,
    known: Known,
    asking: BTreeMap<String, Asking>,
    wake: Arc<Notify>,
    outbound: Arc<Outbound>,
    events: Events,
    outcomes: Outcomes,
    /// What each metric had last.
    values: Arc<Mutex<BTreeMap<String, CheckResult>>>,
}

impl CheckRunner {
    /// Returns a place where nothing was asked yet; `wake` is notified of answers.
    pub(crate) fn new(wake: Arc<Notify>, outbound: Arc<Outbound>) -> Self {
        Self {
            webhooks: BTreeMap::new(),
            metrics: BTreeMap::new(),
            known: Arc::default(),
            asking: BTreeMap::new(),
            wake,
            outbound,
            events: Events::default(),
            outcomes: Outcomes::default(),
            values: Arc::default(),
        }
    }

    /// As it is, with the `event` webhook of Canaries that have none of their own.
    #[must_use]
    pub(crate) fn with_event_webhook(mut self, url: Option<String>) -> Self {
        self.events.default = url;
        self
    }

    /// Tells the `event` webhooks of an event; the Canary's phase and revision are told with it.
    pub(crate) fn tell(&mut self, event: &Event, phase: &str, checksum: &str, at: Timestamp) {
        self.events.tell(event, (phase, checksum), at, &self.outbound, &self.outcomes);
    }

    /// Returns what each webhook said last.
    pub(crate) fn outcomes(&self) -> BTreeMap<String, (String, CheckResult)> {
        let named = |name: &String| self.webhooks.contains_key(name) || self.events.names(name);
        let mut outcomes = self.outcomes.lock();
        outcomes.retain(|name, _| named(name));
        outcomes.clone()
    }

    /// Returns what webhooks and metrics said last, for people.
    pub(crate) fn replies(&self) -> Replies {
        let mut values = self.values.lock();
        values.retain(|name, _| self.metrics.contains_key(name));
        Replies { webhooks: self.outcomes(), metrics: values.clone() }
    }

    /// Takes in the webhooks and metrics of a Canary, and what to tell them.
    pub(crate) fn update(&mut self, canary: &Object<CanarySpec>, state: &State, interval: Span) {
        let analysis = &canary.spec.analysis;
        let call = |hook| Call::of(canary, hook, state, interval);
        self.webhooks = webhook_names(&analysis.webhooks).into_iter().zip(analysis.webhooks.iter().map(call)).collect();
        let metric = |i: usize| Metric::of(canary, &analysis.metrics[i], interval);
        self.events.update(canary, state);
        self.metrics = asked(&analysis.metrics).into_iter().map(|(i, name)| (name, metric(i))).collect();
    }

    /// Returns why a metric of a Canary can never be answered as things are, for a person who would rather know it before the
    /// next release than in the middle of it.
    pub(crate) fn validate(canary: &Object<CanarySpec>, templates: impl Fn(&str, &str) -> Template) -> Option<String> {
        let questions = Self::queries(canary, templates).into_iter();
        let mut problems = questions.filter_map(|(i, query)| Some((i, query.err()?)));
        problems.next().map(|(i, why)| format!("spec.analysis.metrics[{i}]: {why}"))
    }

    /// Returns what is asked for each metric that others answer, by its place.
    pub(crate) fn queries(
        canary: &Object<CanarySpec>,
        templates: impl Fn(&str, &str) -> Template,
    ) -> Vec<(usize, Result<Option<Query>, String>)> {
        let metrics = &canary.spec.analysis.metrics;
        let query = |i: usize| Metric::of(canary, &metrics[i], Span::seconds(60)).query(&templates);
        asked(metrics).into_iter().map(|(i, _)| (i, query(i))).collect()
    }

    /// Returns every answer to what is asked.
    pub(crate) fn results(&self) -> BTreeMap<String, CheckResult> {
        lock(&self.known).clone()
    }

    /// Asks these things until they are answered. A gate is asked again and again until it is not among them; any other
    /// question that was asked once is let finish: a pass that waits for a gateway asks nothing, and a long test must not begin
    /// anew after it.
    pub(crate) fn request(&mut self, requests: &[CheckRequest], templates: impl Fn(&str, &str) -> Template) {
        let wanted = |key: &str| requests.iter().any(|request| request.key == key);
        self.asking.retain(|key, task| !task.call.is_finished() && (!task.repeats || wanted(key)));
        for ask in requests {
            if self.asking.contains_key(&ask.key) {
                continue;
            }
            let (known, wake, key) = (self.known.clone(), self.wake.clone(), ask.key.clone());
            let outbound = self.outbound.clone();
            let task = if ask.webhook.is_some() {
                let Some(call) = self.webhooks.get(&ask.name).cloned() else {
                    put(&known, &wake, &key, CheckResult::Failed(GONE.into()));
                    continue;
                };
                let (name, outcomes) = (ask.name.clone(), self.outcomes.clone());
                let record = move |answer| drop(outcomes.lock().insert(name.clone(), answer));
                tokio::spawn(call_on(call, outbound, key, ask.repeat, known, wake, record))
            } else {
                let query = self.metrics.get(&ask.name).ok_or_else(|| GONE.to_owned());
                match query.and_then(|metric| metric.query(&templates)) {
                    Ok(Some(query)) => {
                        let (name, values) = (ask.name.clone(), self.values.clone());
                        let record = move |answer| drop(values.lock().insert(name.clone(), answer));
                        tokio::spawn(query_once(query, outbound, key, known, wake, record))
                    }
                    Ok(None) => continue,
                    Err(why) => {
                        put(&known, &wake, &key, CheckResult::NoValue(why));
                        continue;
                    }
                }
            };
            self.asking.insert(ask.key.clone(), Asking { call: task.abort_handle(), repeats: ask.repeat });
        }
    }

    /// Forgets what no later decision looks up: all that was asked for other runs, or for earlier checks of this one.
    pub(crate) fn forget(&mut self, state: &State) {
        let run = state.run.as_ref();
        let pending = state.ended.as_ref().filter(|ended| ended.post_rollout_pending);
        let current = |key: &str| {
            if pending.is_some_and(|ended| key.starts_with(&format!("{}/{:?}/", ended.run, WebhookKind::PostRollout))) {
                return true;
            }
            let of_run = run.and_then(|run| Some((key.strip_prefix(run.id.as_str())?.strip_prefix('/')?, run.checks)));
            // What is asked only once in a run has the number 0.
            let number = |rest: &str| rest.split('/').nth(1).and_then(|number| number.parse::<u32>().ok());
            of_run.is_some_and(|(rest, checks)| number(rest).is_none_or(|number| number == 0 || number >= checks))
        };
        lock(&self.known).retain(|key, _| current(key));
        self.asking.retain(|key, _| current(key));
    }
}

async fn call_on(
    call: Call,
    outbound: Arc<Outbound>,
    key: String,
    repeats: bool,
    known: Known,
    wake: Arc<Notify>,
    record: impl Fn((String, CheckResult)),
) {
    loop {
        let answer = call.ask(&outbound).await;
        record((call.kind.clone(), answer.clone()));
        put(&known, &wake, &key, answer);
        if !repeats {
            return;
        }
        tokio::time::sleep(call.interval).await;
    }
}

async fn query_once(
    query: Query,
    outbound: Arc<Outbound>,
    key: String,
    known: Known,
    wake: Arc<Notify>,
    record: impl Fn(CheckResult),
) {
    let answer = query.ask(&outbound).await;
    record(answer.clone());
    put(&known, &wake, &key, answer);
}

fn put(known: &Known, wake: &Notify, key: &str, answer: CheckResult) {
    lock(known).insert(key.to_owned(), answer);
    wake.notify_one();
}

fn lock(known: &Mutex<BTreeMap<String, CheckResult>>) -> MutexGuard<'_, BTreeMap<String, CheckResult>> {
    // Every change is one insert or one retain: a panic in between leaves a whole map.
    known.lock()
}

#[cfg(test)]
mod tests;
