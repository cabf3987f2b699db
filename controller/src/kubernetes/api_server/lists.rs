//! Objects that are asked for now and then, and not watched: kinds that matter at a release's beginning alone, of which there may be
//! very many, and which many clusters do not serve.
//!
//! All Canaries of a namespace share what was asked; a Canary at rest asks for nothing. What cannot be listed is not known: nobody takes
//! an error for "there are none".

mod kept;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::{Api, Client};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::debug;

pub(crate) use self::kept::OF_NAMESPACE;
use self::kept::{Room, chooses_namespaces, has_hosts, listed};
use super::apply::{ActError, is_status, with_timeout};
use crate::telemetry::Chain;

/// Objects of a list that are asked for at a time: each may be a megabyte, and is ten times as much once it is parsed.
const PAGE: u32 = 20;
/// Pages of one kind in one namespace that are looked at.
const PAGES: usize = 100;
/// The same of what has hosts, in a whole cluster: one tenant's thousands are not to hide everybody's.
const PAGES_OF_HOSTS: usize = 1_000;
/// Lists that are asked for at a time.
const CALLS: usize = 4;
/// What nobody has asked for so long is forgotten; a kind that is not served is asked for again after it, and what was known before an
/// error counts for as long.
const KEPT: Duration = Duration::from_secs(600);
/// Time until a list that failed is asked for again.
const RETRY: Duration = Duration::from_secs(30);

/// In place of a namespace: all of them. Of these, only what chooses namespaces is kept.
pub(crate) const EVERYWHERE: &str = "";

/// A kind that is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listable {
    /// API group; empty for the core group.
    pub(crate) group: &'static str,
    /// Version of the group.
    pub(crate) version: &'static str,
    /// The kind.
    pub(crate) kind: &'static str,
    /// The kind's name in paths.
    pub(crate) plural: &'static str,
}

/// Versions under which clusters served a kind before, newest first.
fn former_versions(kind: &str) -> &'static [&'static str] {
    match kind {
        "HTTPRoute" => &["v1beta1"],
        "GRPCRoute" => &["v1alpha2"],
        "TLSRoute" => &["v1alpha3", "v1alpha2"],
        _ => &[],
    }
}

/// An object that was listed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Listed {
    /// Its kind.
    pub(crate) kind: &'static str,
    /// Its namespace.
    pub(crate) namespace: Box<str>,
    /// Its name.
    pub(crate) name: Box<str>,
    /// What is asked of it.
    pub(crate) spec: Value,
}

/// What was answered to lists of some kinds.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// The objects.
    pub(crate) items: Vec<Listed>,
    /// Whether there was more than is looked at.
    pub(crate) cut: bool,
    /// Kinds that the API server does not serve, or not to Weir: of them nothing is known, and no answer will come.
    pub(crate) withheld: Vec<&'static str>,
    /// Kinds that nothing is known of for now, and why.
    pub(crate) failed: Vec<(&'static str, String)>,
    /// When each kind was listed last.
    heard: HashMap<&'static str, Instant>,
}

impl Answer {
    /// Returns why something is not known for now, if it is so.
    pub(crate) fn problem(&self) -> Option<String> {
        let each = self.failed.iter().map(|(kind, why)| format!("{kind} cannot be listed ({why})"));
        (!self.failed.is_empty()).then(|| each.collect::<Vec<_>>().join(", "))
    }

    /// Takes over what an earlier answer says of a kind, where that is not as old as this; returns whether it is not.
    fn keeps(&mut self, kind: &'static str, before: &Self, age: Duration) -> bool {
        let Some(at) = before.heard.get(kind).filter(|at| at.elapsed() < age) else { return false };
        self.items.extend(before.items.iter().filter(|listed| listed.kind == kind).cloned());
        self.cut |= before.cut;
        self.heard.insert(kind, *at);
        true
    }
}

/// A namespace, and the first of the kinds that are asked for together.
type Key = (String, &'static str);

/// What was listed.
pub(crate) struct Lists {
    known: Mutex<HashMap<Key, Known>>,
    /// When what nobody asks for was last forgotten.
    swept: Mutex<Option<Instant>>,
    /// Kinds that the API server does not serve, and since when that is known.
    unserved: Mutex<HashMap<&'static str, Instant>>,
    calls: Semaphore,
}

#[derive(Default)]
struct Known {
    answer: Option<Arc<Answer>>,
    at: Option<Instant>,
    asking: bool,
}

impl Lists {
    /// Returns lists of nothing yet.
    #[must_use]
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            known: Mutex::default(),
            swept: Mutex::default(),
            unserved: Mutex::default(),
            calls: Semaphore::new(CALLS),
        })
    }

    /// Returns the objects of some kinds in a namespace, or in all of them where it is empty, as they were asked for last; nothing as long as
    /// there is no answer. What is older than `fresh` is asked for again, what failed sooner, and `wake` is called with the answer.
    pub(crate) fn of(
        self: &Arc<Self>,
        client: &Client,
        namespace: &str,
        kinds: &'static [Listable],
        fresh: Duration,
        wake: impl FnOnce() + Send + 'static,
    ) -> Option<Arc<Answer>> {
        let key: Key = (namespace.to_owned(), kinds.first()?.plural);
        let mut known = self.known.lock();
        let mut swept = self.swept.lock();
        if swept.is_none_or(|swept| swept.elapsed() >= KEPT / 10) {
            *swept = Some(Instant::now());
            known.retain(|_, known| known.asking || known.at.is_some_and(|at| at.elapsed() < KEPT));
        }
        let found = known.entry(key.clone()).or_default();
        let failed = found.answer.as_ref().is_some_and(|answer| !answer.failed.is_empty());
        let due = if failed { fresh.min(RETRY) } else { fresh };
        if !found.asking && found.at.is_none_or(|at| at.elapsed() >= due) {
            found.asking = true;
            let (lists, client, before) = (self.clone(), client.clone(), found.answer.clone());
            tokio::spawn(async move {
                let answer = lists.ask(&client, &key.0, kinds, &before.unwrap_or_default(), fresh).await;
                let known = Known { answer: Some(Arc::new(answer)), at: Some(Instant::now()), asking: false };
                lists.known.lock().insert(key, known);
                wake();
            });
        }
        found.answer.clone()
    }

    async fn ask(
        &self,
        client: &Client,
        namespace: &str,
        kinds: &[Listable],
        before: &Answer,
        fresh: Duration,
    ) -> Answer {
        let mut answer = Answer::default();
        let mut room = Room::of(namespace, "");
        for listable in kinds {
            let Listable { kind, plural, .. } = *listable;
            if self.unserved.lock().get(plural).is_some_and(|at| at.elapsed() < KEPT) {
                answer.withheld.push(kind);
                continue;
            }
            // Beside one that failed the others are asked for no sooner than they would be.
            if answer.keeps(kind, before, fresh) {
                continue;
            }
            let _turn = self.calls.acquire().await;
            if namespace == EVERYWHERE {
                room = Room::of(namespace, kind);
            }
            match any_version(client, namespace, listable, &mut room).await {
                Ok((list, more)) => {
                    answer.items.extend(list);
                    answer.cut |= more;
                    answer.heard.insert(kind, Instant::now());
                }
                Err(ActError::Write { source, .. }) if is_status(&source, 404) => {
                    self.unserved.lock().insert(plural, Instant::now());
                    answer.withheld.push(kind);
                }
                Err(ActError::Write { source, .. }) if is_status(&source, 403) => {
                    debug!(kind, namespace, "Weir may not list it");
                    answer.withheld.push(kind);
                }
                Err(error) => {
                    debug!(kind, namespace, error = %Chain(&error), "not listed");
                    if !answer.keeps(kind, before, KEPT) {
                        answer.failed.push((kind, why(&error)));
                    }
                }
            }
        }
        answer
    }
}

/// Returns why something is not listed, in words that stay the same as long as it is so.
fn why(error: &ActError) -> String {
    match error {
        ActError::Write { source, .. } => match &**source {
            kube::Error::Api(status) => format!("the API server answers {}", status.code),
            _ => "the API server is not reached".to_owned(),
        },
        _ => "the API server does not answer".to_owned(),
    }
}

/// Returns the objects of a kind under the newest version that is served.
async fn any_version(
    client: &Client,
    namespace: &str,
    listable: &Listable,
    room: &mut Room,
) -> Result<(Vec<Listed>, bool), ActError> {
    let Listable { group, version, kind, plural } = *listable;
    let mut former = former_versions(kind).iter();
    let mut next = Some(version);
    while let Some(version) = next {
        let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        let (group, version, words) = (group.to_owned(), version.to_owned(), (kind.to_owned(), plural.to_owned()));
        let resource = ApiResource { group, version, api_version, kind: words.0, plural: words.1 };
        let api: Api<DynamicObject> = match namespace {
            EVERYWHERE => Api::all_with(client.clone(), &resource),
            namespace => Api::namespaced_with(client.clone(), namespace, &resource),
        };
        next = former.next().copied();
        match pages(&api, kind, namespace, room).await {
            Err(ActError::Write { source, .. }) if is_status(&source, 404) && next.is_some() => {}
            other => return other,
        }
    }
    Ok((Vec::new(), false))
}

/// Kinds of which a whole cluster's are listed for what they say of other namespaces.
const POLICIES: [&str; 2] = ["NetworkPolicy", "CiliumNetworkPolicy"];

/// Returns the objects of a kind as far as there is `room` for them, and whether there are more.
async fn pages(
    api: &Api<DynamicObject>,
    kind: &'static str,
    namespace: &str,
    room: &mut Room,
) -> Result<(Vec<Listed>, bool), ActError> {
    let (mut items, mut params) = (Vec::new(), ListParams::default().limit(PAGE));
    let most = if has_hosts(kind) { PAGES_OF_HOSTS } else { PAGES };
    for _ in 0..most {
        let list = with_timeout("list", kind, namespace, api.list(&params)).await?;
        // Of all the cluster's policies those that are about their own namespace alone say nothing to others.
        let about_own = POLICIES.contains(&kind) && namespace == EVERYWHERE;
        let told = list.items.into_iter().filter(|it| !about_own || chooses_namespaces(&it.data["spec"]));
        items.extend(told.filter_map(|it| listed(kind, it, room)));
        if room.all == 0 {
            break;
        }
        let Some(next) = list.metadata.continue_.filter(|next| !next.is_empty()) else { return Ok((items, false)) };
        params = params.continue_token(&next);
    }
    debug!(kind, namespace, "not all are looked at");
    Ok((items, true))
}
