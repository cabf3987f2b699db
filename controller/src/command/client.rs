//! The API of a running `weir standalone`, as the command line asks it.

use std::time::Duration;

use anyhow::{Context as _, bail};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::{Method, Request, Uri, header};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::http::PORT;

/// It answers from memory: an answer that takes longer does not come.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the API is.
#[derive(clap::Args, Clone, Debug)]
pub struct Server {
    /// Address of the running Weir.
    #[arg(long, env = "WEIR_SERVER", value_name = "URL", default_value_t = format!("http://127.0.0.1:{PORT}"))]
    pub server: String,
}

/// Asks one server.
pub struct Api {
    base: String,
    client: Client<HttpConnector, Empty<Bytes>>,
}

impl Api {
    /// Returns the way to a server. Nothing is sent yet.
    #[must_use]
    pub fn new(server: &Server) -> Self {
        let base = match server.server.trim_end_matches('/') {
            url if url.contains("://") => url.to_owned(),
            host => format!("http://{host}"),
        };
        Self { base, client: Client::builder(TokioExecutor::new()).build_http() }
    }

    /// Reads a path.
    ///
    /// # Errors
    /// When the server does not answer, refuses, or says something else than expected.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let body = self.send(Method::GET, path).await?;
        serde_json::from_slice(&body).with_context(|| format!("{} answers, but not as Weir does", self.base))
    }

    /// Asks for something to be done.
    ///
    /// # Errors
    /// When the server does not answer, or refuses.
    pub async fn post(&self, path: &str) -> anyhow::Result<()> {
        self.send(Method::POST, path).await.map(drop)
    }

    async fn send(&self, method: Method, path: &str) -> anyhow::Result<Bytes> {
        let base = &self.base;
        let uri: Uri = format!("{base}{path}").parse().with_context(|| format!("{base} is not an address"))?;
        if uri.scheme_str() != Some("http") {
            bail!("{base} is not an address that can be asked: begin with http://");
        }
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Empty::new())
            .context("make the request")?;
        let answer = async {
            let response = self.client.request(request).await?;
            let status = response.status();
            anyhow::Ok((status, response.into_body().collect().await?.to_bytes()))
        };
        let what_to_do =
            "is `weir standalone` running? Name the address that its --http says with --server or WEIR_SERVER";
        let Ok(answer) = tokio::time::timeout(PATIENCE, answer).await else {
            bail!("{base} does not answer within {} s; {what_to_do}", PATIENCE.as_secs());
        };
        let (status, body) = match answer {
            Ok(answer) => answer,
            Err(error) => bail!("{base} cannot be reached ({}); {what_to_do}", error.root_cause()),
        };
        if status.is_success() {
            return Ok(body);
        }
        let said: Value = serde_json::from_slice(&body).unwrap_or_default();
        match said.get("error").and_then(Value::as_str) {
            Some(said) => bail!("{said}"),
            None => bail!("{base} answers {status}, which Weir does not: is it the right port?"),
        }
    }
}
