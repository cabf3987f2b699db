//! A loop for every Canary, and another one where it has panicked.

use std::any::Any;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use backon::ExponentialBackoff;
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;
use tracing::error;
use weir_engine::{Event, Severity};

use super::events;
use super::reconciler::Reconciler;
use super::retry::delays;
use crate::kubernetes::api_server::clock::now;
use crate::kubernetes::gateway::GatewayRegistry;
use crate::kubernetes::kinds::canary::Canary;
use crate::kubernetes::stores::{Key, Stores};
use crate::status_store::StatusStore;

/// Time until a loop that panicked is started again; it doubles each time.
const MIN_DELAY: Duration = Duration::from_secs(1);
/// Longest such time: a Canary that makes its loop panic each time costs little, and is tried again after an upgrade anyway.
const MAX_DELAY: Duration = Duration::from_secs(300);
/// A loop that lasted so long has got over what it panicked about.
const RECOVERED: Duration = Duration::from_secs(600);

/// The loop of one Canary. It ends when the Canary is gone.
type Loop = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Returns what starts the loop of a Canary.
pub(crate) fn reconciler_of(
    stores: Arc<Stores>,
    registry: Arc<GatewayRegistry>,
    statuses: Arc<StatusStore>,
) -> impl Fn(&Key) -> Loop + Send + 'static {
    move |key| {
        let reconciler = Reconciler::new(stores.clone(), registry.clone(), statuses.clone(), key.clone());
        Box::pin(reconciler.run(stores.waker(key)))
    }
}

/// What is known of one Canary's loop.
struct Supervised {
    begun: Instant,
    delays: ExponentialBackoff,
    panics: u64,
}

/// Has a loop run for every Canary, for ever; first for those that are known.
pub(crate) async fn supervise(stores: Arc<Stores>, known: Vec<Arc<Canary>>, start: impl Fn(&Key) -> Loop + Send) {
    let mut supervised: HashMap<Key, Supervised> = HashMap::new();
    let mut keys: HashMap<Id, Key> = HashMap::new();
    let mut loops: JoinSet<()> = JoinSet::new();
    let mut new = known;
    new.extend(stores.canaries.all());
    loop {
        for canary in std::mem::take(&mut new) {
            let key = (canary.namespace().to_owned(), canary.name().to_owned());
            if let Entry::Vacant(vacant) = supervised.entry(key) {
                keys.insert(loops.spawn(start(vacant.key())).id(), vacant.key().clone());
                vacant.insert(Supervised { begun: Instant::now(), delays: delays(MIN_DELAY, MAX_DELAY), panics: 0 });
            }
        }
        let ended = tokio::select! {
            () = stores.canaries_changed.notified() => {
                new = stores.canaries.all();
                continue;
            }
            Some(ended) = loops.join_next_with_id(), if !loops.is_empty() => ended,
        };
        let id = ended.as_ref().map_or_else(tokio::task::JoinError::id, |(id, ())| *id);
        let Some(key) = keys.remove(&id) else { continue };
        let Err(panic) = ended else {
            supervised.remove(&key);
            // Another one of its name may have come since.
            new.extend(stores.canaries.get(&key.0, &key.1));
            continue;
        };
        let Some(known) = supervised.get_mut(&key) else { continue };
        if known.begun.elapsed() >= RECOVERED {
            known.delays = delays(MIN_DELAY, MAX_DELAY);
        }
        let delay = known.delays.next().unwrap_or(MAX_DELAY).min(MAX_DELAY);
        known.begun = Instant::now() + delay;
        known.panics += 1;
        let what = panic.try_into_panic().map_or_else(|error| error.to_string(), |payload| text_of(&*payload));
        report_panic(&stores, &key, &what, delay, known.panics);
        let again = start(&key);
        let again = async move {
            tokio::time::sleep(delay).await;
            again.await;
        };
        keys.insert(loops.spawn(again).id(), key);
    }
}

/// Says that the loop of a Canary panicked: that is a fault of Weir's, and nobody may think that the Canary is looked after.
fn report_panic(stores: &Stores, (namespace, name): &Key, what: &str, delay: Duration, number: u64) {
    error!(namespace, canary = name, what, again = ?delay, "the loop of a canary panicked");
    let Some(canary) = stores.canaries.get(namespace, name) else { return };
    let text = format!(
        "Weir failed while it looked after this Canary, and starts again in {} s; gateways go on as they are. This is a fault \
         of Weir: report it with this text: {what}",
        delay.as_secs()
    );
    let event = Event::new(Severity::Error, "InternalError", text);
    let client = stores.api.client.clone();
    tokio::spawn(async move { events::publish(client, &canary, &event, number, now()).await });
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a text".into())
}
