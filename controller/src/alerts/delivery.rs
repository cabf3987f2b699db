//! Delivers alerts: a queue and a task for each provider, so that one that hangs delays nobody but itself.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use weir_engine::Severity;

use super::AlertSettings;
use super::deliveries::Deliveries;
use super::message::Message;
use super::notifiers::{Account, Answer, Notifier, Outgoing, Thread, Verdict, notifier};
use crate::api::AlertProviderSpec;
use crate::outbound::Secrets;

/// Alerts that wait for one provider. A rollout has about a dozen.
const QUEUE: usize = 64;
/// Places in a queue that steps do not take: of those a later one says as much.
const RESERVED: usize = 16;
/// Alerts of one namespace that may wait for a provider of another one: who tells a lot silences nobody else.
const SHARE: usize = 24;
/// Time for one try. A chat answers within a second.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// Tries for one request, with 1, 2, 4 and 8 s between them.
const TRIES: u32 = 5;
/// After so long an alert is no news any more, whatever the service says when it wants to be asked again.
const STALE: Duration = Duration::from_secs(600);
/// Time that alerts have to arrive once the program ends. Kubernetes kills it after 20 s.
const LAST: Duration = Duration::from_secs(8);
/// A task that had nothing to do for so long ends.
const IDLE: Duration = Duration::from_secs(300);

/// Sends one request.
pub(crate) trait Transport: fmt::Debug + Send + Sync {
    /// Sends a request of a namespace's provider, through its proxy where it has one; an error says why there is no answer, without
    /// the address, which is a secret.
    fn send(
        &self,
        namespace: &str,
        outgoing: &Outgoing,
        token: Option<&str>,
        proxy: Option<&str>,
    ) -> BoxFuture<'static, Result<Answer, String>>;
}

/// One alert on its way.
#[derive(Debug)]
struct Job {
    name: String,
    spec: AlertProviderSpec,
    least: Severity,
    message: Arc<Message>,
    deliveries: Arc<Deliveries>,
}

impl Job {
    fn wanted(&self) -> bool {
        self.message.severity >= self.least
    }

    /// Returns the provider's namespace.
    fn namespace(&self) -> &str {
        self.name.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    /// Returns what alerts on their way are counted by.
    fn key(&self) -> (String, String) {
        (self.name.clone(), self.message.namespace.clone())
    }
}

/// Sends the alerts of all Canaries.
#[derive(Debug)]
pub(crate) struct Alerts {
    pub(super) settings: AlertSettings,
    secrets: Arc<dyn Secrets>,
    transport: Arc<dyn Transport>,
    queues: Mutex<BTreeMap<String, mpsc::Sender<Job>>>,
    /// Alerts on their way, by provider and by the namespace that tells; none of those that have none.
    pub(super) pending: Mutex<BTreeMap<(String, String), usize>>,
    arrived: Notify,
}

impl Alerts {
    /// Returns what has sent nothing yet.
    pub(crate) fn new(settings: AlertSettings, secrets: Arc<dyn Secrets>, transport: Arc<dyn Transport>) -> Arc<Self> {
        let (queues, pending, arrived) = (Mutex::default(), Mutex::default(), Notify::new());
        Arc::new(Self { settings, secrets, transport, queues, pending, arrived })
    }

    /// Puts an alert into its provider's queue.
    pub(super) fn send(
        self: &Arc<Self>,
        name: String,
        spec: AlertProviderSpec,
        least: Severity,
        message: &Arc<Message>,
        deliveries: &Arc<Deliveries>,
    ) {
        // Whether a service that may edit does, its account says, which is not known here.
        let may_edit = spec.secret_ref.is_some() && notifier(&spec.kind).is_some_and(Notifier::may_edit);
        if !may_edit && (message.step || message.severity < least) {
            return;
        }
        let (message, deliveries) = (message.clone(), deliveries.clone());
        let job = Job { name: name.clone(), spec, least, message, deliveries };
        let mut queues = self.queues.lock();
        let queue = queues.entry(name.clone()).or_insert_with(|| {
            let (sender, receiver) = mpsc::channel(QUEUE);
            tokio::spawn(self.clone().work(name, receiver));
            sender
        });
        let free = if job.message.step { RESERVED } else { 0 };
        let mut pending = self.pending.lock();
        let waiting = pending.get(&job.key()).copied().unwrap_or_default();
        if queue.capacity() <= free || waiting >= SHARE && job.namespace() != job.message.namespace {
            let Job { name, spec, deliveries, .. } = job;
            tracing::warn!(provider = name, "alert dropped: too many wait");
            deliveries.dropped(&name, &spec.kind);
        } else {
            pending.insert(job.key(), waiting + 1);
            // There is room, and the task is there as long as the queue is.
            let _ = queue.try_send(job);
        }
    }

    /// Waits a little for the alerts on their way, before the program ends, and says which providers' are lost.
    pub(crate) async fn finish(&self) {
        let all = async {
            loop {
                let arrived = self.arrived.notified();
                if self.pending.lock().is_empty() {
                    return;
                }
                arrived.await;
            }
        };
        if timeout(LAST, all).await.is_err() {
            for ((provider, namespace), alerts) in self.pending.lock().iter() {
                tracing::warn!(provider, namespace, alerts, "alerts lost: they had not arrived when the program ended");
            }
        }
    }

    fn forget(&self, job: &Job) {
        let mut pending = self.pending.lock();
        if let Some(alerts) = pending.get_mut(&job.key()) {
            *alerts = alerts.saturating_sub(1);
        }
        pending.retain(|_, alerts| *alerts > 0);
        self.arrived.notify_waiters();
    }

    /// Delivers what comes for one provider, until nothing has come for long.
    async fn work(self: Arc<Self>, name: String, mut jobs: mpsc::Receiver<Job>) {
        let mut waiting = VecDeque::new();
        let mut next = Instant::now();
        loop {
            if waiting.is_empty() {
                match timeout(IDLE, jobs.recv()).await {
                    Ok(Some(job)) => waiting.push_back(job),
                    Ok(None) => return,
                    Err(_) => {
                        // Under the lock nobody sends.
                        let mut queues = self.queues.lock();
                        let Ok(job) = jobs.try_recv() else {
                            queues.remove(&name);
                            return;
                        };
                        waiting.push_back(job);
                    }
                }
            }
            while waiting.len() < QUEUE
                && let Ok(job) = jobs.try_recv()
            {
                waiting.push_back(job);
            }
            let Some(job) = waiting.pop_front() else { continue };
            let same = |other: &Job| {
                let of = |job: &Job| (job.message.namespace.clone(), job.message.name.clone(), job.message.run.clone());
                of(other) == of(&job)
            };
            let newer = waiting.iter().any(same);
            match self.deliver(&job, newer, &mut next).await {
                Ok(false) => {}
                Ok(true) => job.deliveries.done(&job.name, &job.spec.kind, Ok(())),
                Err(why) => {
                    let Message { namespace, name: canary, reason, .. } = &*job.message;
                    tracing::warn!(provider = job.name, namespace, canary, reason, error = why, "alert not delivered");
                    job.deliveries.done(&job.name, &job.spec.kind, Err(why));
                }
            }
            self.forget(&job);
        }
    }

    /// Delivers one alert; returns whether anything was sent. `newer` is whether a newer one of the same rollout waits.
    async fn deliver(&self, job: &Job, newer: bool, next: &mut Instant) -> Result<bool, String> {
        let until = Instant::now() + STALE;
        let Some(notifier) = notifier(&job.spec.kind) else { return Ok(false) };
        let account = self.account(job, notifier, until).await?;
        let edits = notifier.edits(&account);
        if !edits && (job.message.step || !job.wanted()) {
            return Ok(false);
        }
        let run = &job.message.run;
        let mut thread = job.deliveries.thread(&job.name, run).filter(|_| edits && !run.is_empty());
        let mut sent = false;
        'again: loop {
            if thread.is_none() && job.message.only_edits() {
                return Ok(sent);
            }
            for outgoing in notifier.outgoing(&account, &job.message, thread.as_ref()) {
                // An edit calls nobody, so it is made whatever the severity.
                if if outgoing.replaceable { newer } else { !job.wanted() } {
                    continue;
                }
                sent = true;
                match self.ask(job, notifier, &account, &outgoing, until, next).await? {
                    Verdict::Posted(channel, timestamp) if thread.is_none() && !run.is_empty() => {
                        let (provider, run) = (job.name.clone(), run.clone());
                        job.deliveries.set_thread(Thread { provider, run, channel, timestamp });
                    }
                    Verdict::Gone if thread.is_some() => {
                        // Somebody has deleted it: there is another one.
                        thread = None;
                        continue 'again;
                    }
                    Verdict::Gone => return Err("it has no such message".into()),
                    _ => {}
                }
            }
            return Ok(sent);
        }
    }

    /// Returns the account of a provider, with what its Secret says now: one that was rotated is used at once.
    async fn account(&self, job: &Job, notifier: &dyn Notifier, until: Instant) -> Result<Account, String> {
        let mut account = Account {
            address: job.spec.address.clone().unwrap_or_default(),
            token: None,
            channel: job.spec.channel.clone().filter(|text| !text.is_empty()),
            username: job.spec.username.clone().filter(|text| !text.is_empty()),
        };
        if let Some(secret) = &job.spec.secret_ref {
            let mut tries = 0;
            let mut content = loop {
                tries += 1;
                match self.secrets.read(job.namespace(), &secret.name).await {
                    Ok(content) => break content,
                    Err(why) if tries == TRIES => return Err(format!("Secret {}: {why}", secret.name)),
                    Err(why) => self.wait(delay(tries), until, &why).await?,
                }
            };
            let mut take =
                |key: &str| content.remove(key).map(|text| text.trim().to_owned()).filter(|it| !it.is_empty());
            account.token = take("token");
            account.address = take("address").unwrap_or(account.address);
            if account.token.is_none() && account.address.is_empty() {
                return Err(format!("Secret {} has neither the key address nor the key token", secret.name));
            }
        }
        if account.address.is_empty() {
            let address = notifier.address().filter(|_| account.token.is_some());
            account.address = address.ok_or("no address is given")?.to_owned();
        }
        Ok(account)
    }

    /// Asks until the service has taken or refused it, or it is no news any more.
    async fn ask(
        &self,
        job: &Job,
        notifier: &dyn Notifier,
        account: &Account,
        outgoing: &Outgoing,
        until: Instant,
        next: &mut Instant,
    ) -> Result<Verdict, String> {
        let mut tries = 0;
        loop {
            tries += 1;
            sleep_until(*next).await;
            let (token, proxy) =
                (account.token.as_deref(), job.spec.proxy.as_deref().filter(|proxy| !proxy.is_empty()));
            let sent = timeout(TIMEOUT, self.transport.send(job.namespace(), outgoing, token, proxy)).await;
            *next = Instant::now() + notifier.pace();
            let (why, after) = match sent {
                Err(_) => (format!("no answer within {TIMEOUT:?}"), None),
                Ok(Err(why)) => (why, None),
                Ok(Ok(answer)) => match notifier.verdict(&answer) {
                    Verdict::Later(why) => (why, answer.retry_after),
                    Verdict::Refused(why) => return Err(why),
                    verdict => return Ok(verdict),
                },
            };
            if tries >= TRIES {
                return Err(why);
            }
            let wait = after.unwrap_or_default().max(delay(tries));
            // Nobody else's alert may be sent to it earlier either.
            *next = (*next).max(Instant::now() + after.unwrap_or_default().min(STALE));
            self.wait(wait, until, &why).await?;
        }
    }

    async fn wait(&self, wait: Duration, until: Instant, why: &str) -> Result<(), String> {
        if Instant::now() + wait >= until {
            return Err(format!("{why}; given up after {} minutes", STALE.as_secs() / 60));
        }
        sleep(wait).await;
        Ok(())
    }
}

/// Returns the time after so many tries.
fn delay(tries: u32) -> Duration {
    Duration::from_secs(1 << tries.saturating_sub(1).min(4))
}
