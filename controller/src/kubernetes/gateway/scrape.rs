//! Asks one pod of a gateway what its filter counted.

use std::time::Duration;

use hyper::Request;
use hyper::header::ACCEPT;
use weir_engine::Timestamp;

use crate::http_client::{HttpClient, Limits};
use crate::kubernetes::api_server::clock::now;
use crate::scrape::{Report, ScrapeError};

/// pilot-agent's port, which passes the query on to Envoy.
const PORT: u16 = 15020;
/// Of Envoy's metrics only the filter's, the number of workers, and the counters of routes that have the filter on. The
/// expression sees Envoy's own names.
const PATH: &str = "/stats/prometheus?filter=%5E(wasmcustom%5C.weir_%7Cserver%5C.concurrency\
                    %7Cvhost%5C..*%5C.route%5C.weir_.*%5C.upstream_rq_total%24)";
/// A pod that does not answer by then is asked again in the next round. The body is more than a gateway of a thousand canaries says.
const LIMITS: Limits = Limits { timeout: Duration::from_millis(900), body: 64 << 20 };

type Answer = Result<Option<Report>, Box<dyn std::error::Error + Send + Sync>>;

/// Asks pods.
pub(super) struct Scraper {
    http: HttpClient,
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
        Self { http: HttpClient::persistent() }
    }

    /// Asks one pod.
    pub(super) fn scrape(&self, pod: &str, address: &str) -> impl Future<Output = Scraped> + use<> {
        let (http, pod, address) = (self.http.clone(), pod.to_owned(), address.to_owned());
        async move {
            let asked_at = now();
            let report = ask(&http, &address).await;
            let report = report.inspect_err(|error| tracing::debug!(pod, %error, "scrape failed")).ok();
            Scraped { pod, asked_at, report }
        }
    }
}

async fn ask(http: &HttpClient, address: &str) -> Answer {
    // An IPv6 address stands in brackets.
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    let request = Request::get(format!("http://{host}:{PORT}{PATH}"));
    // pilot-agent complains in its log of whoever names none.
    let request = request.header(ACCEPT, "text/plain").body(http_body_util::Full::default())?;
    let answer = http.send(request, LIMITS).await?;
    if !answer.status.is_success() {
        return Err(format!("status {}", answer.status).into());
    }
    match Report::parse(std::str::from_utf8(&answer.whole()?)?) {
        Ok(report) => Ok(Some(report)),
        Err(ScrapeError::NoFilter) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
