//! The page as the controller serves it: who looks brings a token of the cluster, and the API server says whose it is and what
//! he may.
//!
//! Who may `get` Canaries of a namespace sees them; who may `patch` one asks for verbs, which Weir then writes into its
//! annotations as he would himself. Whoever brings no token is told nothing but names, phases and weights.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use futures::future::try_join_all;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tracing::info;
use weir_engine::Verb;

use crate::api::GROUP;
use crate::kubernetes::api_server::apply::with_timeout;
use crate::kubernetes::client::Cluster;
use crate::page::{Refused, Seen, Source};
use crate::status_store::{Name, StatusStore};
use crate::view::{Attention, CanaryDetail, CanaryView, Changes, Summary};

/// What the API server said of somebody holds so long: each page asks again and again. A right that was taken away is gone after it.
const HOLDS: Duration = Duration::from_secs(30);
/// Answers that are kept. Who sends more tokens than that has each looked up.
const KEPT: usize = 1024;

/// Said to whoever brings a token that is none, or none any more.
const UNKNOWN: &str =
    "the API server does not know this token: make a new one, for instance by kubectl create token NAME";

/// Said to whoever brings no token.
const STRANGER: &str = "Without a token names, phases and weights are shown, and no more.";

/// Questions to the API server at a time: whoever reaches the port may make some, and the controller has its own to ask there. Whose a
/// token is, is asked apart from what those may whose tokens are known: invented tokens hold up nobody who is in.
const QUESTIONS: usize = 4;

/// Who and what was asked, and the answer.
type Known<T> = Mutex<BTreeMap<String, (Instant, T)>>;

/// The page of the controller.
pub(crate) struct Shared {
    client: Client,
    statuses: Arc<StatusStore>,
    users: Known<UserInfo>,
    /// Tokens that the API server does not know.
    invented: Known<()>,
    rights: Known<bool>,
    reviews: Semaphore,
    questions: Semaphore,
}

/// Who looks.
pub(crate) enum Viewer {
    /// Nobody knows.
    Anybody,
    /// Somebody whom the API server knows.
    User(Box<User>),
}

/// Who brought a token, and what all of his is looked up by.
pub(crate) struct User {
    token: String,
    key: String,
    info: UserInfo,
}

impl User {
    fn name(&self) -> &str {
        self.info.username.as_deref().unwrap_or_default()
    }
}

impl Shared {
    pub(crate) fn new(client: Client, statuses: Arc<StatusStore>) -> Self {
        Self {
            client,
            statuses,
            users: Known::default(),
            invented: Known::default(),
            rights: Known::default(),
            reviews: Semaphore::new(QUESTIONS),
            questions: Semaphore::new(QUESTIONS),
        }
    }

    /// Returns whose token this is; nobody's where the API server does not know it.
    async fn user(&self, token: &str, key: &str) -> Result<Option<UserInfo>, Refused> {
        if let Some(user) = remembered(&self.users, key) {
            return Ok(Some(user));
        }
        if remembered(&self.invented, key).is_some() {
            return Ok(None);
        }
        let spec = TokenReviewSpec { token: Some(token.to_owned()), ..TokenReviewSpec::default() };
        let review = TokenReview { spec, ..TokenReview::default() };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let _turn = self.reviews.acquire().await;
        let answer = with_timeout("create", "TokenReview", "", api.create(&PostParams::default(), &review)).await;
        let status = answer.map_err(unanswered)?.status.unwrap_or_default();
        let user = status.user.filter(|_| status.authenticated == Some(true));
        match &user {
            Some(user) => remember(&self.users, key.to_owned(), user.clone()),
            None => remember(&self.invented, key.to_owned(), ()),
        }
        Ok(user)
    }

    /// Returns whether somebody may do this with Canaries of a namespace (of all where it is empty), or with one of them.
    async fn may(&self, viewer: &Viewer, verb: &str, namespace: &str, name: Option<&str>) -> Result<bool, Refused> {
        let Viewer::User(user) = viewer else { return Ok(false) };
        let (key, user) = (&user.key, &user.info);
        let question = format!("{key} {verb} {namespace}/{}", name.unwrap_or_default());
        if let Some(may) = remembered(&self.rights, &question) {
            return Ok(may);
        }
        let attributes = ResourceAttributes {
            group: Some(GROUP.to_owned()),
            resource: Some("canaries".to_owned()),
            verb: Some(verb.to_owned()),
            namespace: Some(namespace.to_owned()),
            name: name.map(str::to_owned),
            ..ResourceAttributes::default()
        };
        let spec = SubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            user: user.username.clone(),
            uid: user.uid.clone(),
            groups: user.groups.clone(),
            extra: user.extra.clone(),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let _turn = self.questions.acquire().await;
        let answer =
            with_timeout("create", "SubjectAccessReview", "", api.create(&PostParams::default(), &review)).await;
        let may = answer.map_err(unanswered)?.status.is_some_and(|status| status.allowed);
        remember(&self.rights, question, may);
        Ok(may)
    }

    async fn sees(&self, viewer: &Viewer, namespace: &str) -> Result<bool, String> {
        let all = self.may(viewer, "get", "", None).await.map_err(|refused| refused.text)?;
        Ok(all || self.may(viewer, "get", namespace, None).await.map_err(|refused| refused.text)?)
    }
}

impl Source for Shared {
    type Viewer = Viewer;

    fn title(&self) -> String {
        "this cluster".to_owned()
    }

    async fn viewer(&self, token: Option<&str>) -> Result<Viewer, Refused> {
        if !self.statuses.is_acting() {
            let text = "this replica of Weir has just begun, or waits for its turn; another one may be asked next. By \
                        kubectl port-forward it is always this one: forward the pod that the Lease weir-leader names";
            return Err(Refused { status: StatusCode::SERVICE_UNAVAILABLE, text: text.to_owned() });
        }
        let Some(token) = token else { return Ok(Viewer::Anybody) };
        // No token is kept longer than an answer goes on.
        let key: String = Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect();
        let unknown = || Refused { status: StatusCode::UNAUTHORIZED, text: UNKNOWN.to_owned() };
        let info = self.user(token, &key).await?.ok_or_else(unknown)?;
        Ok(Viewer::User(Box::new(User { token: token.to_owned(), key, info })))
    }

    fn is_stranger(&self, viewer: &Viewer) -> bool {
        matches!(viewer, Viewer::Anybody)
    }

    fn news(&self) -> watch::Receiver<u64> {
        self.statuses.news()
    }

    async fn changes(&self, viewer: &Viewer, cursor: &str) -> Result<Seen<Changes>, String> {
        if let Viewer::User(user) = viewer
            && self.user(&user.token, &user.key).await.map_err(|refused| refused.text)?.is_none()
        {
            return Err(UNKNOWN.to_owned());
        }
        let mut changes = self.statuses.changes(cursor);
        if !self.may(viewer, "get", "", None).await.map_err(|refused| refused.text)? {
            // They are about objects of any namespace.
            changes.problems.clear();
            let namespaces: BTreeSet<String> = changes.items.iter().map(|item| item.namespace.clone()).collect();
            // There may be a thousand: so many are asked for at a time as questions have room.
            let asked = namespaces.iter().map(|namespace| self.sees(viewer, namespace));
            let seen: Vec<bool> = try_join_all(asked).await?;
            let seen: BTreeMap<_, _> = namespaces.iter().zip(seen).collect();
            for item in &mut changes.items {
                if !seen.get(&item.namespace).is_some_and(|may| *may) {
                    *item = outside_of(item);
                }
            }
        }
        let partial = matches!(viewer, Viewer::Anybody).then(|| STRANGER.to_owned());
        Ok(Seen { value: changes, partial })
    }

    async fn detail(&self, viewer: &Viewer, namespace: &str, name: &str) -> Result<Seen<Option<CanaryDetail>>, String> {
        let known = self.statuses.detail(&Name { namespace: namespace.to_owned(), name: name.to_owned() });
        if self.sees(viewer, namespace).await? {
            return Ok(Seen { value: known, partial: None });
        }
        let partial = match viewer {
            Viewer::Anybody => STRANGER.to_owned(),
            Viewer::User(user) => {
                let who = user.name();
                format!(
                    "{who} may not get canaries.{GROUP} in namespace {namespace}: shown are name, phase and weight, and no more."
                )
            }
        };
        Ok(Seen { value: known.map(|detail| outside_of_all(&detail.view)), partial: Some(partial) })
    }

    async fn ask(&self, viewer: &Viewer, namespace: &str, name: &str, verb: Verb) -> Result<(), Refused> {
        if !self.may(viewer, "patch", namespace, Some(name)).await? {
            let who = match viewer {
                Viewer::Anybody => "whoever has no token".to_owned(),
                Viewer::User(user) => user.name().to_owned(),
            };
            let text = format!("{who} may not patch canaries.{GROUP} {name} in namespace {namespace}");
            return Err(Refused { status: StatusCode::FORBIDDEN, text });
        }
        if let Viewer::User(user) = viewer {
            let user = user.name();
            info!(namespace, canary = name, user, verb = verb.as_str(), "verb asked for on the page");
        }
        let cluster = Cluster::of(self.client.clone(), "");
        let written = cluster.annotate(namespace, name, verb.as_str()).await;
        written.map_err(|error| Refused { status: StatusCode::BAD_GATEWAY, text: format!("{error:#}") })
    }
}

/// Returns what everybody may know of a Canary.
fn outside_of(item: &Summary) -> Summary {
    Summary {
        namespace: item.namespace.clone(),
        name: item.name.clone(),
        phase: item.phase,
        weight: item.weight,
        attention: if item.weight > 0.0 { Attention::Moving } else { Attention::Resting },
        restricted: true,
        ..Summary::default()
    }
}

/// As [`outside_of`], of one Canary in full.
fn outside_of_all(view: &CanaryView) -> CanaryDetail {
    let view = CanaryView {
        namespace: view.namespace.clone(),
        name: view.name.clone(),
        phase: view.phase,
        weight: view.weight,
        ..CanaryView::default()
    };
    CanaryDetail { view, ..CanaryDetail::default() }
}

fn unanswered(error: impl std::fmt::Display) -> Refused {
    let text = format!("the API server cannot be asked who you are ({error})");
    Refused { status: StatusCode::SERVICE_UNAVAILABLE, text }
}

fn remembered<T: Clone>(known: &Known<T>, key: &str) -> Option<T> {
    let known = known.lock();
    known.get(key).filter(|(at, _)| at.elapsed() < HOLDS).map(|(_, value)| value.clone())
}

fn remember<T>(known: &Known<T>, key: String, value: T) {
    let mut known = known.lock();
    if known.len() >= KEPT {
        known.retain(|_, (at, _)| at.elapsed() < HOLDS);
    }
    if known.len() < KEPT {
        known.insert(key, (Instant::now(), value));
    }
}
