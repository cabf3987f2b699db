//! What the running platform shows to the outside: it writes, the API and the metrics read. And the other way, what people
//! ask of it.
//!
//! One lock around everything: every access copies a little and never waits for anything.

mod totals;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use weir_engine::{Event, Outcome, Scrape, Span, Timestamp, Verb};

use self::totals::Totals;
use crate::metrics::verdicts::Verdicts;
use crate::view::why::advice;
use crate::view::{
    CanaryDetail, CanaryList, CanaryView, Changes, EventView, GuardView, History, LastView, MetricView, Particulars,
    Summaries, Summary, is_overdue,
};

/// Events kept of each Canary: a rollout tells about ten, so these are the last few rollouts.
const EVENTS: usize = 100;
/// Verbs on their way to the platform. More are refused: the platform takes them at each pass.
const VERBS: usize = 64;

/// Who a Canary is.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Its namespace.
    pub namespace: String,
    /// Its name in there.
    pub name: String,
}

/// What the running platform shows to the outside.
#[derive(Debug)]
pub struct StatusStore {
    verbs: mpsc::Sender<Call>,
    /// Whether this program looks after the Canaries: of several replicas one does.
    acts: AtomicBool,
    content: Mutex<Content>,
    /// The number of the last change that somebody may see.
    news: watch::Sender<u64>,
}

/// A person's wish, on its way to the platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The Canary.
    pub name: Name,
    /// What to do.
    pub verb: Verb,
    /// Differs from every other call's: makes the `id` of the engine's `VerbRequest`.
    pub id: String,
}

#[derive(Debug, Default)]
struct Content {
    canaries: BTreeMap<Name, Entry>,
    summaries: Summaries,
    details: BTreeMap<Name, Detail>,
    verdicts: BTreeMap<(String, Outcome), Verdicts>,
    events: BTreeMap<Name, VecDeque<EventView>>,
    parts: BTreeMap<String, Option<String>>,
    problems: Vec<String>,
    alerts: BTreeMap<Receiver, AlertCounts>,
}

/// What a page shows of one Canary beside its view.
#[derive(Clone, Debug, Default)]
struct Detail {
    particulars: Particulars,
    history: History,
    last: LastView,
}

impl Content {
    fn forget_failing(&mut self, provider: &str) {
        self.alerts.iter_mut().filter(|((of, _), _)| of == provider).for_each(|(_, counts)| counts.failing = false);
    }
}

/// Who is sent alerts: the provider's `namespace/name`, and its kind.
pub(crate) type Receiver = (String, String);

/// What became of the alerts of one receiver.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AlertCounts {
    pub(crate) sent: u64,
    pub(crate) failed: u64,
    pub(crate) dropped: u64,
    /// Whether the newest one did not arrive.
    pub(crate) failing: bool,
}

/// What became of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AlertResult {
    /// The receiver took it.
    Sent,
    /// It refused it, or did not answer.
    Failed,
    /// It was never sent, since too many wait.
    Dropped,
}

/// Everything that is shown of one Canary.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    pub(crate) view: CanaryView,
    /// When this program saw the reason first that the view has.
    reason_since: Option<Instant>,
    pub(crate) edges_ms: Vec<u32>,
    pub(crate) totals: Totals,
    pub(crate) rollouts: BTreeMap<(Outcome, String), u64>,
    /// The newest weight that every gateway used, once one was.
    pub(crate) applied: Option<f64>,
    pub(crate) guard: Option<GuardView>,
    pub(crate) metrics: Vec<MetricView>,
}

impl StatusStore {
    /// Returns an empty store, and where the platform hears what people ask.
    #[must_use]
    pub fn new() -> (Arc<Self>, mpsc::Receiver<Call>) {
        let (verbs, calls) = mpsc::channel(VERBS);
        (
            Arc::new(Self {
                verbs,
                acts: AtomicBool::new(false),
                content: Mutex::default(),
                news: watch::Sender::default(),
            }),
            calls,
        )
    }

    /// Says that this program looks after the Canaries from now on, and shows all that there are: whoever asks before is told of none.
    pub fn set_acting(&self) {
        self.acts.store(true, Ordering::Relaxed);
    }

    /// Shows a Canary as another program left it, until this one has looked at it.
    pub fn inherit(&self, inherited: CanaryDetail) {
        let CanaryDetail { view, particulars, .. } = inherited;
        let name = Name { namespace: view.namespace.clone(), name: view.name.clone() };
        let mut content = self.content();
        content.summaries.put(Summary::from(&view));
        content.details.entry(name.clone()).or_default().particulars = particulars;
        content.canaries.entry(name).or_default().view = view;
        self.tell(&content);
    }

    /// Returns whether this program looks after the Canaries.
    #[must_use]
    pub fn is_acting(&self) -> bool {
        self.acts.load(Ordering::Relaxed)
    }

    /// Shows a Canary as it stands. `edges_ms` are its plan's, for the latency histogram; none if
    /// it has no plan now.
    pub fn set(&self, mut view: CanaryView, edges_ms: &[u32]) {
        let name = Name { namespace: view.namespace.clone(), name: view.name.clone() };
        let mut content = self.content();
        let Content { canaries, summaries, verdicts, .. } = &mut *content;
        let known = canaries.contains_key(&name);
        let entry = canaries.entry(name).or_default();
        if let Some(ended) = &view.ended
            && known
            && entry.view.ended.as_ref().is_none_or(|before| before.run != ended.run)
        {
            *entry.rollouts.entry((ended.result, ended.reason.clone())).or_default() += 1;
            verdicts.entry((view.namespace.clone(), ended.result)).or_default().count(ended);
        }
        if view.applied.gateways > 0 && view.applied.missing.len() == view.applied.silent {
            entry.applied = Some(view.weight);
        }
        // An object that cannot be used has no plan: what was counted before keeps its edges.
        if !edges_ms.is_empty() && entry.edges_ms != edges_ms {
            entry.totals.change_edges();
            entry.edges_ms = edges_ms.to_vec();
        }
        view.applied.weight = entry.applied;
        if entry.view.reason != view.reason {
            entry.reason_since = None;
        }
        let lasted = entry.reason_since.get_or_insert_with(Instant::now).elapsed().as_millis();
        view.overdue = is_overdue(&view.reason, Span(u64::try_from(lasted).unwrap_or(u64::MAX)));
        if entry.view != view {
            entry.view = view;
            summaries.touch();
        }
        summaries.put(Summary::from(&entry.view));
        self.tell(&content);
    }

    /// Shows what a page has of a Canary that is shown, beside its view, and takes the view into the line of its rollout.
    pub fn set_particulars(&self, name: &Name, particulars: Particulars, at: Timestamp) {
        let mut content = self.content();
        let Content { canaries, details, summaries, .. } = &mut *content;
        let Some(entry) = canaries.get_mut(name) else { return };
        entry.guard.clone_from(&particulars.guard);
        entry.metrics.clone_from(&particulars.metrics);
        let detail = details.entry(name.clone()).or_default();
        if detail.particulars != particulars || !entry.view.run.is_empty() {
            summaries.touch();
        }
        detail.history.record(&entry.view, at);
        detail.last.record(&entry.view, &particulars.metrics);
        detail.particulars = particulars;
        self.tell(&content);
    }

    /// Takes in what a gateway counted of a Canary that is shown, for the metrics.
    pub fn count(&self, name: &Name, scrape: &Scrape) {
        if let Some(entry) = self.content().canaries.get_mut(name) {
            entry.totals.absorb(scrape);
        }
    }

    /// Forgets gateways by name that are no more, and none of what they counted: callers come and go by the thousand.
    pub fn forget_gateways(&self, name: &Name, is_there: impl Fn(&str) -> bool) {
        if let Some(entry) = self.content().canaries.get_mut(name) {
            entry.totals.forget(is_there);
        }
    }

    /// Says what happened to a Canary, shown or not yet, instead of what was said before.
    pub fn set_events(&self, name: &Name, events: VecDeque<EventView>) {
        self.content().events.insert(name.clone(), events);
    }

    /// Tells what happened to a Canary that is shown.
    pub fn record(&self, name: &Name, at: Timestamp, events: &[Event]) {
        let mut content = self.content();
        if !content.canaries.contains_key(name) {
            return;
        }
        append(content.events.entry(name.clone()).or_default(), at, events);
        content.summaries.touch();
        self.tell(&content);
    }

    /// Shows a Canary no more: it is gone.
    pub fn forget(&self, name: &Name) {
        let mut content = self.content();
        content.canaries.remove(name);
        content.details.remove(name);
        content.summaries.remove(&name.namespace, &name.name);
        content.events.remove(name);
        self.tell(&content);
    }

    /// Says whether a part of the platform works; `problem` is why not. Ready is who has parts, all of which work.
    pub fn set_health(&self, part: &str, problem: Option<String>) {
        self.content().parts.insert(part.to_owned(), problem);
    }

    /// Says what is wrong with objects that cannot be used, instead of what was said before.
    pub fn set_problems(&self, problems: Vec<String>) {
        let mut content = self.content();
        content.summaries.set_problems(&problems);
        content.problems = problems;
        self.tell(&content);
    }

    /// Returns every Canary.
    #[must_use]
    pub fn list(&self) -> CanaryList {
        let content = self.content();
        CanaryList {
            items: content.canaries.values().map(|entry| entry.view.clone()).collect(),
            problems: content.problems.clone(),
        }
    }

    /// Returns one Canary and what happened to it.
    #[must_use]
    pub fn detail(&self, name: &Name) -> Option<CanaryDetail> {
        let content = self.content();
        let entry = content.canaries.get(name)?;
        let events = content.events.get(name).into_iter().flatten().cloned().collect();
        let Detail { mut particulars, history, last } = content.details.get(name).cloned().unwrap_or_default();
        particulars.advice = advice(&entry.view);
        let history = Some(history).filter(|history| !history.points.is_empty());
        let last = Some(last).filter(|last| entry.view.run.is_empty() && !last.run.is_empty());
        Some(CanaryDetail { view: entry.view.clone(), particulars, from_status: false, history, last, events })
    }

    /// Returns what changed of the Canaries since a cursor was given.
    #[must_use]
    pub fn changes(&self, cursor: &str) -> Changes {
        self.content().summaries.since(cursor)
    }

    /// Returns what changes whenever something does that somebody may see.
    #[must_use]
    pub fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Returns what changed since a cursor was given, once there is something, or after `longest`.
    pub async fn next_changes(&self, cursor: &str, longest: Duration) -> Changes {
        let mut news = self.news();
        let changed = async {
            loop {
                let changes = self.changes(cursor);
                if changes.cursor != cursor || news.changed().await.is_err() {
                    return changes;
                }
            }
        };
        tokio::time::timeout(longest, changed).await.unwrap_or_else(|_| self.changes(cursor))
    }

    /// Tells who waits for it that there is something new, if there is.
    fn tell(&self, content: &Content) {
        let number = content.summaries.number();
        self.news.send_if_modified(|known| std::mem::replace(known, number) != number);
    }

    /// Returns why the platform is not ready; nothing if it is.
    #[must_use]
    pub fn unready(&self) -> Vec<String> {
        let content = self.content();
        if content.parts.is_empty() {
            return vec!["still starting".into()];
        }
        content.parts.iter().filter_map(|(part, problem)| Some(format!("{part}: {}", problem.as_ref()?))).collect()
    }

    /// Hands a person's wish to the platform; returns its id, or nothing when the platform does not listen.
    #[must_use]
    pub fn send(&self, name: Name, verb: Verb) -> Option<String> {
        let id = format!("{:016x}", rand::random::<u64>());
        self.verbs.try_send(Call { name, verb, id: id.clone() }).ok()?;
        Some(id)
    }

    /// Counts an alert.
    pub(crate) fn count_alert(&self, receiver: Receiver, result: AlertResult) {
        let mut content = self.content();
        if result == AlertResult::Sent {
            // A provider that was of another kind before is well too.
            content.forget_failing(&receiver.0);
        }
        let counts = content.alerts.entry(receiver).or_default();
        match result {
            AlertResult::Sent => counts.sent += 1,
            AlertResult::Failed => counts.failed += 1,
            AlertResult::Dropped => counts.dropped += 1,
        }
        counts.failing = result != AlertResult::Sent;
    }

    /// Says that a Canary whose alerts did not arrive sends none to a provider any more.
    pub(crate) fn forget_receiver(&self, provider: &str) {
        self.content().forget_failing(provider);
    }

    /// Returns how rollouts came to their verdicts, for the metrics.
    pub(crate) fn verdicts(&self) -> BTreeMap<(String, Outcome), Verdicts> {
        self.content().verdicts.clone()
    }

    /// Returns what became of all alerts, for the metrics.
    pub(crate) fn alerts(&self) -> BTreeMap<Receiver, AlertCounts> {
        self.content().alerts.clone()
    }

    /// Returns a copy of everything, for the metrics.
    pub(crate) fn entries(&self) -> BTreeMap<Name, Entry> {
        self.content().canaries.clone()
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        // A panic while the lock was held left a whole value: every change is one insert.
        self.content.lock()
    }
}

/// Adds what happened now to what is kept of a Canary, at the expense of the oldest.
pub(crate) fn append(kept: &mut VecDeque<EventView>, at: Timestamp, events: &[Event]) {
    for Event { severity, reason, text, .. } in events {
        if kept.len() >= EVENTS {
            kept.pop_front();
        }
        kept.push_back(EventView { at, severity: *severity, reason: (*reason).to_owned(), text: text.clone() });
    }
}

#[cfg(test)]
mod tests;
