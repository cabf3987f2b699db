//! Asks one pod of a gateway what its filter counted.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::header::ACCEPT;
use tokio::sync::Semaphore;
use weir_engine::{Span, Timestamp};

use crate::http_client::{HttpClient, Limits};
use crate::kubernetes::api_server::clock::now;
use crate::kubernetes::kinds::Pod;
use crate::kubernetes::render::Proxies;
use crate::scrape::{Reader, Report, ScrapeError};

/// The port at which Envoy alone answers. pilot-agent's passes the query on to Envoy too, and adds what an application says.
const ENVOY: u16 = 15090;
/// A pod that is read at its agent's port is tried at Envoy's again after this.
const AGENT_FOR: Span = Span::seconds(60);
/// Envoy's own port answers by then, or the agent's is asked.
const ENVOY_TIMEOUT: Duration = Duration::from_millis(400);
/// Of Envoy's metrics only the filter's, the number of workers, and the counters of routes that have the filter on. The
/// expression sees Envoy's own names.
const PATH: &str = "/stats/prometheus?filter=%5E(wasmcustom%5C.weir_%7Cserver%5C.concurrency\
                    %7Cvhost%5C..*%5C.route%5C.weir_.*%5C.upstream_rq_total%24)";
/// A pod that does not answer by then is asked again in the next round. The body is more than a gateway says that has met
/// thousands of canaries in its life; nothing is kept of it but what is of canaries that are known now.
const LIMITS: Limits = Limits { timeout: Duration::from_millis(900), body: 64 << 20 };

type Answer = Result<Option<Report>, Box<dyn std::error::Error + Send + Sync>>;

/// Pods that are asked at a time, of all workloads together: hundreds of callers take their turns.
static TURNS: Semaphore = Semaphore::const_new(256);

/// Asks pods.
pub(super) struct Scraper {
    http: HttpClient,
    /// What the pods are. A sidecar's agent passes on what the application beside it says, so only Envoy itself is asked.
    proxies: Proxies,
    /// Pods that are read at their agent's port, until when.
    agents: HashMap<String, Timestamp>,
}

/// What a pod said.
pub(super) struct Scraped {
    pub(super) pod: String,
    pub(super) asked_at: Timestamp,
    /// Why it is not known, where it did not answer; nothing where its filter does not run.
    pub(super) report: Result<Option<Report>, String>,
    /// Whether it was read at its agent's port.
    by_agent: bool,
}

impl Scraper {
    pub(super) fn new(proxies: Proxies) -> Self {
        Self { http: HttpClient::persistent(), proxies, agents: HashMap::new() }
    }

    /// Takes note of how a pod was read.
    pub(super) fn note(&mut self, scraped: &Scraped) {
        if scraped.by_agent && scraped.report.is_ok() {
            self.agents.entry(scraped.pod.clone()).or_insert(scraped.asked_at + AGENT_FOR);
        }
        self.agents.retain(|_, until| *until > scraped.asked_at);
    }

    /// Asks one pod for what is of these canaries.
    pub(super) fn scrape(
        &self,
        pod: &Pod,
        address: &str,
        known: &Arc<HashSet<String>>,
    ) -> impl Future<Output = Scraped> + use<> {
        let (http, known, agent) = (self.http.clone(), known.clone(), pod.agent_port());
        let (pod, address) = (pod.name().to_owned(), address.to_owned());
        let only_agent = self.agents.get(&pod).is_some_and(|until| *until > now());
        let only_envoy = self.proxies == Proxies::Sidecars;
        async move {
            // Turns end with the process alone.
            let _turn = TURNS.acquire().await;
            let asked_at = now();
            if only_envoy {
                let report = ask(&http, &address, ENVOY, &known).await;
                let report = report.map_err(|error| format!("its metrics cannot be read at port {ENVOY}: {error}"));
                return Scraped { pod, asked_at, report, by_agent: false };
            }
            let envoy = match only_agent {
                true => None,
                false => tokio::time::timeout(ENVOY_TIMEOUT, ask(&http, &address, ENVOY, &known)).await.ok(),
            };
            if let Some(Ok(report)) = envoy {
                return Scraped { pod, asked_at, report: Ok(report), by_agent: false };
            }
            let report = ask(&http, &address, agent, &known).await;
            let report =
                report.map_err(|error| format!("its metrics cannot be read at port {ENVOY} or {agent}: {error}"));
            if let Err(problem) = &report {
                tracing::debug!(pod, problem, "scrape failed");
            }
            Scraped { pod, asked_at, report, by_agent: true }
        }
    }
}

async fn ask(http: &HttpClient, address: &str, port: u16, known: &HashSet<String>) -> Answer {
    // An IPv6 address stands in brackets.
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    let request = Request::get(format!("http://{host}:{port}{PATH}"));
    // pilot-agent complains in its log of whoever names none.
    let request = request.header(ACCEPT, "text/plain").body(http_body_util::Full::default())?;
    let answer = http.send(request, LIMITS).await?;
    if !answer.status.is_success() {
        return Err(format!("status {}", answer.status).into());
    }
    let mut reader = Reader::of(Some(known));
    reader.read(&answer.whole()?)?;
    match reader.finish() {
        Ok(report) => Ok(Some(report)),
        Err(ScrapeError::NoFilter) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
