//! The Weir in a cluster, as `kubectl weir` asks it: through the API server, with the rights of whoever asks.
//!
//! The replica that acts knows most. It tells that on its pod's loopback only, where the API server's port-forward leads: who may
//! forward ports of Weir's pods sees every Canary with its numbers. Everybody else is shown the Canaries' own status, as far as
//! he may read them. A verb is written as an annotation, so that the rights on the Canary decide who may.

pub(crate) mod from_status;
mod workloads;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow, bail};
use http_body_util::Full;
use hyper::{Request, StatusCode};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::http::PORT;
use crate::http_client::{Connection, Limits};
use crate::kubernetes::api_server::apply::{is_status, with_timeout};
use crate::kubernetes::api_server::lease::holder;
use crate::kubernetes::api_server::object::{Cached, Projection, resource};
use crate::kubernetes::kinds::canary::CanaryView;
use crate::kubernetes::reconcile::observe::VERB;
use crate::view::tree::Workloads;
use crate::view::{CanaryDetail, CanaryList, Changes};

/// Weir answers from memory. Ten thousand Canaries have 20 MB.
const LIMITS: Limits = Limits { timeout: Duration::from_secs(10), body: 64 << 20 };

/// Said of a Weir that has no path for its version.
const OLDER: &str = "it is too old to say its version";

/// A Weir in a cluster.
pub struct Cluster {
    client: Client,
    context: String,
    namespace: String,
    /// Connections to the replica that acts, while there are any: one for what is answered at once, one for what is waited for.
    forwarded: [Mutex<Option<Connection>>; 2],
}

/// What was read, and why it is not all that Weir knows, if so.
#[derive(Debug)]
pub struct Read<T> {
    /// What was read.
    pub value: T,
    /// Why the replica that acts could not be asked.
    pub partial: Option<String>,
}

impl Cluster {
    /// Returns the way to the Weir in a namespace. Nothing is asked of it yet.
    ///
    /// # Errors
    /// When the kubeconfig leads to no cluster.
    pub async fn find(context: Option<String>, namespace: &str) -> anyhow::Result<Self> {
        let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
        let config = Config::from_kubeconfig(&options).await.context("read the kubeconfig")?;
        let current = || Kubeconfig::read().ok()?.current_context;
        let context = options.context.clone().or_else(current).unwrap_or_default();
        Ok(Self { context, ..Self::of(Client::try_from(config).context("use the kubeconfig")?, namespace) })
    }

    pub(crate) fn of(client: Client, namespace: &str) -> Self {
        Self { client, context: String::new(), namespace: namespace.to_owned(), forwarded: Default::default() }
    }

    /// Returns which cluster it is, in a few words.
    #[must_use]
    pub fn title(&self) -> String {
        format!("context {}", self.context)
    }

    /// Reads the version of the replica that acts.
    ///
    /// # Errors
    /// When it cannot be asked, or is too old to say.
    pub async fn version(&self) -> anyhow::Result<Value> {
        self.ask("/api/v1/version").await?.context(OLDER)
    }

    /// Reads every Canary; `namespace` is the only one of interest, if there is one.
    ///
    /// # Errors
    /// When neither Weir nor the API server tells.
    pub async fn list(&self, namespace: Option<&str>) -> anyhow::Result<Read<CanaryList>> {
        match self.ask("/api/v1/canaries").await {
            Ok(Some(value)) => Ok(Read { value, partial: None }),
            Ok(None) => bail!("Weir does not know what is asked: is it of another version?"),
            Err(why) => {
                let (value, only) = self.list_by_status(namespace).await?;
                let only = only.map(|only| {
                    format!(
                        "; these are of namespace {only} alone, since you may not list others': name one by --namespace"
                    )
                });
                Ok(Read { value, partial: Some(format!("{why:#}{}", only.unwrap_or_default())) })
            }
        }
    }

    /// Reads one Canary and what happened to it.
    ///
    /// # Errors
    /// When neither Weir nor the API server tells, or there is no such Canary.
    pub async fn detail(&self, namespace: &str, name: &str) -> anyhow::Result<Read<CanaryDetail>> {
        let unknown = || anyhow!("no Canary {namespace}/{name} is known here");
        match self.ask(&format!("/api/v1/canaries/{namespace}/{name}")).await {
            Ok(value) => Ok(Read { value: value.ok_or_else(unknown)?, partial: None }),
            Err(why) => {
                let object =
                    with_timeout("get", CanaryView::KIND, name, self.canaries(namespace).get_opt(name)).await?;
                let canary = Cached::new(object.ok_or_else(unknown)?).context("read the Canary")?;
                let events = from_status::events(&self.client, namespace, name).await;
                let value = from_status::detail(&canary, events);
                Ok(Read { value, partial: Some(format!("{why:#}")) })
            }
        }
    }

    /// Reads what runs of a Canary, as far as whoever asks may read it.
    ///
    /// # Errors
    /// When there is no such Canary, or the API server does not tell.
    pub async fn workloads(&self, namespace: &str, name: &str) -> anyhow::Result<Workloads> {
        let object = with_timeout("get", CanaryView::KIND, name, self.canaries(namespace).get(name)).await?;
        let canary = Cached::<CanaryView>::new(object).context("read the Canary")?;
        let target = canary.fields.spec.as_ref().map(|spec| spec.target_ref.name.clone()).unwrap_or_default();
        let found = workloads::workloads(&self.client, namespace, &target).await;
        let unknown = |error| Workloads { unknown: Some(format!("{error}")), ..Workloads::default() };
        Ok(found.unwrap_or_else(unknown))
    }

    /// Reads what changed of the Canaries since a cursor was given, once something did or after `wait`; nothing where Weir is too old
    /// to say.
    ///
    /// # Errors
    /// When the replica that acts cannot be asked.
    pub async fn changes(&self, cursor: &str, wait: Duration) -> anyhow::Result<Option<Changes>> {
        let cursor: String = form_urlencoded::byte_serialize(cursor.as_bytes()).collect();
        let path = format!("/api/v1/summaries?since={cursor}&wait={}", wait.as_secs());
        self.ask_over(&self.forwarded[1], &path).await
    }

    /// Writes a verb into a Canary's annotations.
    ///
    /// # Errors
    /// When the API server refuses or does not answer.
    pub async fn annotate(&self, namespace: &str, name: &str, verb: &str) -> anyhow::Result<()> {
        // Anything that differs from the last time.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let patch = json!({"metadata": {"annotations": {VERB: format!("{verb} {now}")}}});
        let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
        let api = self.canaries(namespace);
        Ok(with_timeout("annotate", CanaryView::KIND, name, api.patch(name, &params, &patch)).await.map(drop)?)
    }

    fn canaries(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &resource::<CanaryView>())
    }

    /// Reads the status of the Canaries of one namespace; without one of all, or where that is not allowed of the context's, which it
    /// names then.
    async fn list_by_status(&self, namespace: Option<&str>) -> anyhow::Result<(CanaryList, Option<String>)> {
        let mut only = None;
        let all: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource::<CanaryView>());
        let params = ListParams::default();
        let found = match namespace {
            Some(namespace) => self.canaries(namespace).list(&params).await,
            None => match all.list(&params).await {
                Err(error) if is_status(&error, 403) => {
                    let namespace = self.client.default_namespace();
                    only = Some(namespace.to_owned());
                    self.canaries(namespace).list(&params).await
                }
                found => found,
            },
        };
        let canaries = found.context("list Canaries")?.items.into_iter().filter_map(|object| Cached::new(object).ok());
        let mut items: Vec<_> = canaries.map(|canary| from_status::view(&canary)).collect();
        items.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        Ok((CanaryList { items, problems: Vec::new() }, only))
    }

    /// Asks the replica that acts; nothing where it does not know what is asked.
    async fn ask<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<Option<T>> {
        self.ask_over(&self.forwarded[0], path).await
    }

    async fn ask_over<T: DeserializeOwned>(
        &self,
        forwarded: &Mutex<Option<Connection>>,
        path: &str,
    ) -> anyhow::Result<Option<T>> {
        let mut forwarded = forwarded.lock().await;
        let request = || Request::get(path).header("host", "localhost").body(Full::default());
        // The connection of the last time may have ended, with the replica even.
        let kept = match forwarded.as_mut() {
            Some(connection) => connection.send(request()?, LIMITS).await.ok(),
            None => None,
        };
        let answer = match kept {
            Some(answer) => answer,
            None => forwarded.insert(self.forward().await?).send(request()?, LIMITS).await?,
        };
        let (status, body) = (answer.status, answer.whole()?);
        let said: Value = serde_json::from_slice(&body).unwrap_or_default();
        match status {
            StatusCode::OK => Ok(Some(serde_json::from_value(said).context("Weir answers otherwise than expected")?)),
            StatusCode::NOT_FOUND => Ok(None),
            _ => bail!("Weir answers {status}: {}", said["error"].as_str().unwrap_or("no reason given")),
        }
    }

    /// Opens a connection to the replica that acts.
    async fn forward(&self) -> anyhow::Result<Connection> {
        let namespace = &self.namespace;
        let pod = holder(self.client.clone(), namespace).await.context("find the Weir that acts")?;
        let Some(pod) = pod else {
            bail!("no Weir acts in namespace {namespace}: is it installed there? Name another with --weir-namespace");
        };
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let what_to_do = || {
            format!(
                "forward a port of pod {pod} of namespace {namespace}, for which one needs get and create on pods/portforward"
            )
        };
        let forwarder = with_timeout("forward a port of", "Pod", &pod, pods.portforward(&pod, &[PORT])).await;
        let stream = forwarder.with_context(what_to_do)?.take_stream(PORT).with_context(what_to_do)?;
        Ok(Connection::over(stream).await?)
    }
}
