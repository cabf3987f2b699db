//! Asks one pod of a gateway what its filter counted.

use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, HeaderValue};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use weir_engine::Timestamp;

use crate::kubernetes::api_server::clock::now;
use crate::scrape::{Report, ScrapeError};

/// pilot-agent's port, which passes the query on to Envoy.
const PORT: u16 = 15020;
/// Of Envoy's metrics only the filter's, the number of workers, and the counters of routes that have the filter on. The
/// expression sees Envoy's own names.
const PATH: &str = "/stats/prometheus?filter=%5E(wasmcustom%5C.weir_%7Cserver%5C.concurrency\
                    %7Cvhost%5C..*%5C.route%5C.weir_.*%5C.upstream_rq_total%24)";
/// A pod that does not answer by then is asked again in the next round.
const TIMEOUT: Duration = Duration::from_millis(900);
/// More than a gateway of a thousand canaries says.
const MAX_BODY: usize = 64 << 20;

type Http = Client<HttpConnector, Empty<Bytes>>;
type Answer = Result<Option<Report>, Box<dyn std::error::Error + Send + Sync>>;

/// Asks pods.
pub(super) struct Scraper {
    http: Http,
}

/// What a pod said.
pub(super) struct Scraped {
    pub(super) pod: String,
    pub(super) asked_at: Timestamp,
    /// Nothing where it did not answer; nothing within where its filter does not run.
    pub(super) report: Option<Option<Report>>,
}

impl Scraper {
    pub(super) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(TIMEOUT));
        connector.set_nodelay(true);
        Self { http: Client::builder(TokioExecutor::new()).build(connector) }
    }

    /// Asks one pod.
    pub(super) fn scrape(&self, pod: &str, address: &str) -> impl Future<Output = Scraped> + use<> {
        let (http, pod, address) = (self.http.clone(), pod.to_owned(), address.to_owned());
        async move {
            let asked_at = now();
            let report = match tokio::time::timeout(TIMEOUT, ask(&http, &address)).await {
                Ok(Ok(report)) => Some(report),
                Ok(Err(error)) => {
                    tracing::debug!(pod, %error, "scrape failed");
                    None
                }
                Err(_) => {
                    tracing::debug!(pod, "scrape not answered in time");
                    None
                }
            };
            Scraped { pod, asked_at, report }
        }
    }
}

async fn ask(http: &Http, address: &str) -> Answer {
    // An IPv6 address stands in brackets.
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = format!("http://{host}:{PORT}{PATH}").parse()?;
    // pilot-agent complains in its log of whoever names none.
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static("text/plain"));
    let answer = http.request(request).await?;
    if !answer.status().is_success() {
        return Err(format!("status {}", answer.status()).into());
    }
    let body = Limited::new(answer.into_body(), MAX_BODY).collect().await?.to_bytes();
    match Report::parse(std::str::from_utf8(&body)?) {
        Ok(report) => Ok(Some(report)),
        Err(ScrapeError::NoFilter) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
