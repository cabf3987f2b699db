//! Asks other programs on the engine's behalf: webhooks with Flagger's body, and metrics that a Prometheus answers.
//!
//! A call never holds anything up: it runs beside the engine, and its answer is one more thing to see when it is there.

mod client;
mod metric;
mod template;
mod webhook;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use self::metric::{Metric, Query};
use self::webhook::Call;
use crate::api::{CanarySpec, MetricTemplateSpec, Object, asked, webhook_names};
use crate::rollout::{Answer, Ask, Run, Span, State};

/// Of an answer's body so much is shown to people.
const SHOWN: usize = 300;

/// What is known of a MetricTemplate.
#[derive(Clone, Debug)]
pub(crate) enum Template {
    /// It is there.
    Found(MetricTemplateSpec),
    /// It is there, and cannot be read.
    Unread(String),
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

type Known = Arc<Mutex<BTreeMap<String, Answer>>>;

/// Why something has no answer that an edit took out of the spec while a rollout still waits for it.
const GONE: &str = "it is not in the spec any more";

/// What is asked, and what was answered.
#[derive(Debug)]
pub(crate) struct Answers {
    webhooks: BTreeMap<String, Call>,
    metrics: BTreeMap<String, Metric>,
    known: Known,
    asking: BTreeMap<String, Asking>,
    wake: Arc<Notify>,
}

impl Answers {
    /// Returns a place where nothing was asked yet; `wake` is notified of answers.
    pub(crate) fn new(wake: Arc<Notify>) -> Self {
        Self {
            webhooks: BTreeMap::new(),
            metrics: BTreeMap::new(),
            known: Arc::default(),
            asking: BTreeMap::new(),
            wake,
        }
    }

    /// Takes in the webhooks and metrics of a Canary, and what to tell them.
    pub(crate) fn update(&mut self, canary: &Object<CanarySpec>, state: &State, interval: Span) {
        let analysis = &canary.spec.analysis;
        let call = |hook| Call::of(canary, hook, state, interval);
        self.webhooks = webhook_names(&analysis.webhooks).into_iter().zip(analysis.webhooks.iter().map(call)).collect();
        let metric = |i: usize| Metric::of(canary, &analysis.metrics[i], interval);
        self.metrics = asked(&analysis.metrics).into_iter().map(|(i, name)| (name, metric(i))).collect();
    }

    /// Returns why a metric of a Canary can never be answered as things are, for a person who would rather know it before the
    /// next release than in the middle of it.
    pub(crate) fn unanswerable(
        canary: &Object<CanarySpec>,
        templates: impl Fn(&str, &str) -> Template,
    ) -> Option<String> {
        let questions = Self::questions(canary, templates).into_iter();
        let mut problems = questions.filter_map(|(i, query)| Some((i, query.err()?)));
        problems.next().map(|(i, why)| format!("spec.analysis.metrics[{i}]: {why}"))
    }

    /// Returns what is asked for each metric that others answer, by its place.
    pub(crate) fn questions(
        canary: &Object<CanarySpec>,
        templates: impl Fn(&str, &str) -> Template,
    ) -> Vec<(usize, Result<Option<Query>, String>)> {
        let metrics = &canary.spec.analysis.metrics;
        let query = |i: usize| Metric::of(canary, &metrics[i], Span::seconds(60)).query(&templates);
        asked(metrics).into_iter().map(|(i, _)| (i, query(i))).collect()
    }

    /// Returns every answer to what is asked.
    pub(crate) fn known(&self) -> BTreeMap<String, Answer> {
        lock(&self.known).clone()
    }

    /// Asks these things until they are answered. A gate is asked again and again until it is not among them; any other
    /// question that was asked once is let finish: a pass that waits for a gateway asks nothing, and a long test must not begin
    /// anew after it.
    pub(crate) fn ask(&mut self, asks: &[Ask], templates: impl Fn(&str, &str) -> Template) {
        let wanted = |key: &str| asks.iter().any(|ask| ask.key == key);
        self.asking.retain(|key, task| !task.call.is_finished() && (!task.repeats || wanted(key)));
        for ask in asks {
            if self.asking.contains_key(&ask.key) {
                continue;
            }
            let (known, wake, key) = (self.known.clone(), self.wake.clone(), ask.key.clone());
            let task = if ask.webhook.is_some() {
                let Some(call) = self.webhooks.get(&ask.name).cloned() else {
                    put(&known, &wake, &key, Answer::Failed(GONE.into()));
                    continue;
                };
                tokio::spawn(call_on(call, key, ask.repeat, known, wake))
            } else {
                let query = self.metrics.get(&ask.name).ok_or_else(|| GONE.to_owned());
                match query.and_then(|metric| metric.query(&templates)) {
                    Ok(Some(query)) => tokio::spawn(query_once(query, key, known, wake)),
                    Ok(None) => continue,
                    Err(why) => {
                        put(&known, &wake, &key, Answer::NoValue(why));
                        continue;
                    }
                }
            };
            self.asking.insert(ask.key.clone(), Asking { call: task.abort_handle(), repeats: ask.repeat });
        }
    }

    /// Forgets what no later decision looks up: all that was asked for other runs, or for earlier checks of this one.
    pub(crate) fn forget(&mut self, run: Option<&Run>) {
        let current = |key: &str| {
            let of_run = run.and_then(|run| Some((key.strip_prefix(run.id.as_str())?.strip_prefix('/')?, run.checks)));
            // What is asked only once in a run has the number 0.
            let number = |rest: &str| rest.split('/').nth(1).and_then(|number| number.parse::<u32>().ok());
            of_run.is_some_and(|(rest, checks)| number(rest).is_none_or(|number| number == 0 || number >= checks))
        };
        lock(&self.known).retain(|key, _| current(key));
        self.asking.retain(|key, _| current(key));
    }
}

async fn call_on(call: Call, key: String, repeats: bool, known: Known, wake: Arc<Notify>) {
    loop {
        put(&known, &wake, &key, call.ask().await);
        if !repeats {
            return;
        }
        tokio::time::sleep(call.interval).await;
    }
}

async fn query_once(query: Query, key: String, known: Known, wake: Arc<Notify>) {
    put(&known, &wake, &key, query.ask().await);
}

fn put(known: &Known, wake: &Notify, key: &str, answer: Answer) {
    lock(known).insert(key.to_owned(), answer);
    wake.notify_one();
}

/// Returns what people are shown of a text that others wrote.
fn shown(text: &str) -> String {
    text.trim().chars().take(SHOWN).collect()
}

fn lock(known: &Mutex<BTreeMap<String, Answer>>) -> MutexGuard<'_, BTreeMap<String, Answer>> {
    // Every change is one insert or one retain: a panic in between leaves a whole map.
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
