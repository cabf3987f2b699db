//! The Weir in a cluster, as `kubectl weir` asks it: through the API server, with the rights of whoever asks.
//!
//! What is known is read from the replica that acts, by the API server's proxy to its pod; the others know nothing. A verb is
//! written as an annotation, so that the rights on the Canary decide who may.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow, bail};
use http_body_util::BodyExt as _;
use hyper::Request;
use hyper::body::Bytes;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::client::Body;
use kube::config::KubeConfigOptions;
use kube::{Api, Client, Config};
use serde_json::{Value, json};

use crate::kubernetes::api_server::apply::with_timeout;
use crate::kubernetes::api_server::lease::holder;
use crate::kubernetes::api_server::object::{Projection, resource};
use crate::kubernetes::kinds::canary::CanaryView;
use crate::kubernetes::reconcile::observe::VERB;

/// The controller's port (the chart's).
const PORT: u16 = 8080;

/// A Weir in a cluster.
pub struct Cluster {
    client: Client,
    namespace: String,
    /// Name of the replica that acts.
    pub pod: String,
}

impl Cluster {
    /// Finds the replica that acts.
    ///
    /// # Errors
    /// When the kubeconfig leads to no cluster, or no Weir acts in it.
    pub async fn find(context: Option<String>, namespace: &str) -> anyhow::Result<Self> {
        let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
        let config = Config::from_kubeconfig(&options).await.context("read the kubeconfig")?;
        let client = Client::try_from(config).context("use the kubeconfig")?;
        let pod = holder(client.clone(), namespace).await.context("find the Weir that acts")?;
        let Some(pod) = pod else {
            bail!("no Weir acts in namespace {namespace}: is it installed there? Name another with --weir-namespace");
        };
        Ok(Self { client, namespace: namespace.to_owned(), pod })
    }

    /// Reads a path of the API of the replica that acts.
    pub async fn get(&self, path: &str) -> anyhow::Result<Bytes> {
        let Self { namespace, pod, .. } = self;
        let uri = format!("/api/v1/namespaces/{namespace}/pods/{pod}:{PORT}/proxy{path}");
        let request = Request::get(uri).body(Body::empty()).context("make the request")?;
        let answer = with_timeout("ask", "Pod", pod, self.client.send(request)).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await.context("read the answer")?.to_bytes();
        if status.is_success() {
            return Ok(body);
        }
        // Weir says it as `error`, the API server as `message`.
        let said: Value = serde_json::from_slice(&body).unwrap_or_default();
        let said = ["error", "message"].into_iter().find_map(|key| said[key].as_str());
        let what_to_do = "whoever asks needs the right to get pods/proxy there";
        Err(anyhow!("{}", said.unwrap_or("no reason given")))
            .with_context(|| format!("pod {pod} of namespace {namespace} cannot be asked ({status}; {what_to_do})"))
    }

    /// Writes a verb into a Canary's annotations.
    pub async fn annotate(&self, namespace: &str, name: &str, verb: &str) -> anyhow::Result<()> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &resource::<CanaryView>());
        // Anything that differs from the last time.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let patch = json!({"metadata": {"annotations": {VERB: format!("{verb} {now}")}}});
        let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
        Ok(with_timeout("annotate", CanaryView::KIND, name, api.patch(name, &params, &patch)).await.map(drop)?)
    }
}
