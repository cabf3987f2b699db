//! The API of a running Weir, as the command line asks it: at an address, or in a cluster.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Request, Uri, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use weir_controller::http::PORT;
use weir_controller::http_client::{HttpClient, HttpError, Limits};
use weir_controller::kubernetes::{Cluster, Read};
use weir_controller::page::Seen;
use weir_controller::text::printable;
use weir_controller::view::tree::Workloads;
use weir_controller::view::{CanaryDetail, CanaryList, Changes};

/// What a part of a path has to be written otherwise for.
const UNSAFE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');

/// Weir answers from memory: an answer that takes longer does not come. Ten thousand Canaries have 20 MB.
const LIMITS: Limits = Limits { timeout: Duration::from_secs(5), body: 64 << 20 };

/// Where the API is.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Server {
    /// Address of the running Weir. Default: this machine's at port 8090; as `kubectl weir`, the one in the cluster.
    #[arg(long, env = "WEIR_SERVER", value_name = "URL")]
    pub(crate) server: Option<String>,
    /// Ask the Weir in the cluster of this context of the kubeconfig.
    #[arg(long, conflicts_with = "server")]
    pub(crate) context: Option<String>,
    /// Namespace of the Weir in a cluster.
    #[arg(long, env = "WEIR_NAMESPACE", default_value = "weir-system")]
    pub(crate) weir_namespace: String,
}

/// Asks one Weir.
pub(crate) enum Api {
    /// At an address.
    Address(Address),
    /// In a cluster.
    Cluster(Cluster),
}

impl Api {
    /// Returns the way to a Weir. Nothing is asked of it yet.
    ///
    /// # Errors
    /// When there is no cluster to be found.
    pub(crate) async fn reach(server: &Server) -> anyhow::Result<Self> {
        if server.server.is_none() && (server.context.is_some() || is_plugin()) {
            return Ok(Self::Cluster(Cluster::find(server.context.clone(), &server.weir_namespace).await?));
        }
        let address = server.server.clone().unwrap_or_else(|| format!("127.0.0.1:{PORT}"));
        Ok(Self::Address(Address::new(&address)))
    }

    /// Reads the version of the Weir that is asked.
    ///
    /// # Errors
    /// When it does not answer, or is too old to say.
    pub(crate) async fn version(&self) -> anyhow::Result<String> {
        let answer: Value = match self {
            Self::Address(address) => address.read("/api/v1/version").await?,
            Self::Cluster(cluster) => shown(cluster.version().await?),
        };
        Ok(answer["version"].as_str().context("Weir answers otherwise than expected")?.to_owned())
    }

    /// Reads every Canary; `namespace` is the only one of interest, if there is one.
    ///
    /// # Errors
    /// When Weir does not answer, refuses, or says something else than expected.
    pub(crate) async fn list(&self, namespace: Option<&str>) -> anyhow::Result<CanaryList> {
        match self {
            Self::Address(address) => address.read("/api/v1/canaries").await,
            Self::Cluster(cluster) => told(cluster.list(namespace).await?),
        }
    }

    /// Reads one Canary and what happened to it.
    ///
    /// # Errors
    /// As [`Api::list`], and when there is no such Canary.
    pub(crate) async fn detail(&self, namespace: &str, name: &str) -> anyhow::Result<CanaryDetail> {
        match self {
            Self::Address(address) => address.read(&path(namespace, name)).await,
            Self::Cluster(cluster) => told(cluster.detail(namespace, name).await?),
        }
    }

    /// Reads what changed of the Canaries since a cursor was given, once something did or after `wait`. A Weir that is too old to wait
    /// answers at once; one that is too old to say gives all.
    ///
    /// # Errors
    /// As [`Api::list`].
    pub(crate) async fn changes(
        &self,
        cursor: &str,
        namespace: Option<&str>,
        wait: Duration,
    ) -> anyhow::Result<Seen<Changes>> {
        match self {
            Self::Address(address) => {
                let cursor: String = form_urlencoded::byte_serialize(cursor.as_bytes()).collect();
                let value =
                    match address.read(&format!("/api/v1/summaries?since={cursor}&wait={}", wait.as_secs())).await {
                        Ok(changes) => changes,
                        Err(error) => {
                            let list: CanaryList = address.read("/api/v1/canaries").await.map_err(|_| error)?;
                            list.as_changes()
                        }
                    };
                Ok(Seen { value, partial: None })
            }
            Self::Cluster(cluster) => match cluster.changes(cursor, wait).await {
                Ok(Some(value)) => Ok(Seen { value, partial: None }),
                _ => {
                    let Read { value, partial } = cluster.list(namespace).await?;
                    Ok(Seen { value: value.as_changes(), partial })
                }
            },
        }
    }

    /// Reads what runs of a Canary. At an address nobody knows.
    ///
    /// # Errors
    /// As [`Api::detail`].
    pub(crate) async fn workloads(&self, namespace: &str, name: &str) -> anyhow::Result<Workloads> {
        match self {
            Self::Address(_) => Ok(Workloads::default()),
            Self::Cluster(cluster) => {
                Ok(serde_json::from_value(shown(serde_json::to_value(cluster.workloads(namespace, name).await?)?))?)
            }
        }
    }

    /// Returns what a person types to ask the same Weir.
    pub(crate) fn program(&self) -> &'static str {
        match self {
            Self::Address(_) => "weir",
            Self::Cluster(_) => "kubectl weir",
        }
    }

    /// Returns what is asked, in a few words.
    pub(crate) fn title(&self) -> String {
        match self {
            Self::Address(address) => address.base.trim_start_matches("http://").to_owned(),
            Self::Cluster(cluster) => cluster.title(),
        }
    }

    /// Asks for a verb on a Canary.
    ///
    /// # Errors
    /// When Weir or the cluster does not answer, or refuses.
    pub(crate) async fn ask(&self, namespace: &str, name: &str, verb: &str) -> anyhow::Result<()> {
        match self {
            Self::Address(address) => {
                address.send(Method::POST, &format!("{}/{verb}", path(namespace, name))).await.map(drop)
            }
            Self::Cluster(cluster) => cluster.annotate(namespace, name, verb).await,
        }
    }
}

/// Returns what a cluster told; says once if that is not all.
fn told<T: Serialize + DeserializeOwned>(read: Read<T>) -> anyhow::Result<T> {
    static SAID: AtomicBool = AtomicBool::new(false);
    if let Some(why) = read.partial
        && !SAID.swap(true, Ordering::Relaxed)
    {
        let why = printable(&why);
        eprintln!("weir: shown is the Canaries' own status: the Weir that acts cannot be asked for the rest ({why})");
    }
    Ok(serde_json::from_value(shown(serde_json::to_value(read.value)?))?)
}

/// Returns a Canary's path in the API.
fn path(namespace: &str, name: &str) -> String {
    // The API server lets letters, digits, dots and dashes into a name; an address may be of anything.
    let part = |text| utf8_percent_encode(text, UNSAFE);
    format!("/api/v1/canaries/{}/{}", part(namespace), part(name))
}

/// Returns whether this program was started by `kubectl weir`, which looks for it under this name.
#[must_use]
pub(crate) fn is_plugin() -> bool {
    let program = std::env::args_os().next().unwrap_or_default();
    std::path::Path::new(&program).file_name().is_some_and(|name| name.to_string_lossy().starts_with("kubectl-weir"))
}

/// A Weir at an address.
pub(crate) struct Address {
    base: String,
    client: HttpClient,
}

impl Address {
    /// Returns the way to an address. Nothing is sent yet.
    #[must_use]
    pub(crate) fn new(address: &str) -> Self {
        let base = match address.trim_end_matches('/') {
            url if url.contains("://") => url.to_owned(),
            host => format!("http://{host}"),
        };
        Self { base, client: HttpClient::persistent() }
    }

    async fn read<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let body = self.send(Method::GET, path).await?;
        let read = serde_json::from_slice::<Value>(&body).and_then(|value| serde_json::from_value(shown(value)));
        read.with_context(|| format!("{} answers, but not as Weir does", self.base))
    }

    async fn send(&self, method: Method, path: &str) -> anyhow::Result<Bytes> {
        let base = &self.base;
        let uri: Uri = format!("{base}{path}").parse().with_context(|| format!("{base} is not an address"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            bail!("{base} is not an address that can be asked: begin with http:// or https://");
        }
        let request = Request::builder().method(method).uri(uri).header(header::CONTENT_TYPE, "application/json");
        let request = request.body(Full::default()).context("make the request")?;
        let what_to_do =
            "is `weir standalone` running? Name the address that its --http says with --server or WEIR_SERVER";
        let answer = match self.client.send(request, LIMITS).await {
            Ok(answer) => answer,
            Err(HttpError::Timeout(time)) => bail!("{base} does not answer within {} s; {what_to_do}", time.as_secs()),
            Err(error) => bail!("{base} cannot be reached ({error}); {what_to_do}"),
        };
        let status = answer.status;
        if status.is_success() {
            return answer.whole().with_context(|| format!("read what {base} says"));
        }
        let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        match said.get("error").and_then(Value::as_str) {
            Some(said) => bail!("{}", printable(said)),
            None => bail!("{base} answers {status}, which Weir does not: is it the right port?"),
        }
    }
}

/// Returns an answer with every text as a terminal may be shown it: users and other programs wrote some of them.
fn shown(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(printable(&text)),
        Value::Array(values) => Value::Array(values.into_iter().map(shown).collect()),
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(key, value)| (printable(&key), shown(value))).collect())
        }
        plain => plain,
    }
}
