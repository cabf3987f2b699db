//! Looks at the pods of one gateway workload: one scrape of each for all Canaries, as often as any of them wants.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, HeaderValue};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::workload::Workload;
use crate::kubernetes::api_server::clock::now;
use crate::kubernetes::stores::World;
use crate::rollout::Timestamp;
use crate::scrape::{Report, ScrapeError};

/// The agent's port, which passes the query on to Envoy.
const PORT: u16 = 15020;
/// Of Envoy's metrics only the filter's and the number of workers. The expression sees Envoy's own names.
const PATH: &str = "/stats/prometheus?filter=%5E(wasmcustom%5C.weir_%7Cserver%5C.concurrency)";
/// A gateway that does not answer by then is asked again in the next round.
const PATIENCE: Duration = Duration::from_millis(900);
/// More than a gateway of a thousand canaries says.
const LARGEST: usize = 64 << 20;

type Http = Client<HttpConnector, Empty<Bytes>>;

/// Looks at the pods, for ever.
pub(super) async fn scrape(world: Arc<World>, workload: Arc<Workload>) {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(PATIENCE));
    connector.set_nodelay(true);
    let http: Http = Client::builder(TokioExecutor::new()).build(connector);
    loop {
        let begun = now();
        round(&world, &workload, &http).await;
        workload.was_looked_at();
        workload.curious(now()).iter().for_each(|key| world.wake(key));
        // A look that is asked for while one is under way follows it at once.
        let rest = workload.cadence().0.saturating_sub(now().since(begun).0).max(20);
        tokio::select! {
            () = workload.looks.notified() => tokio::time::sleep(Duration::from_millis(20)).await,
            () = tokio::time::sleep(Duration::from_millis(rest)) => {}
        }
    }
}

async fn round(world: &World, workload: &Workload, http: &Http) {
    let pods = workload.pods(world);
    workload.forget_but(&pods);
    let looks = pods.iter().filter_map(|pod| Some((pod.name(), pod.view.status.pod_ip.as_deref()?))).map(
        |(name, address)| async move {
            match tokio::time::timeout(PATIENCE, look(http, address)).await {
                Ok(Ok((begun, report))) => workload.report(name, begun, report),
                Ok(Err(error)) => tracing::debug!(pod = name, %error, "scrape failed"),
                Err(_) => tracing::debug!(pod = name, "scrape not answered in time"),
            }
        },
    );
    futures::future::join_all(looks).await;
}

type Looked = Result<(Timestamp, Option<Report>), Box<dyn std::error::Error + Send + Sync>>;

async fn look(http: &Http, address: &str) -> Looked {
    let begun = now();
    // An IPv6 address stands in brackets.
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = format!("http://{host}:{PORT}{PATH}").parse()?;
    // The agent complains in its log of whoever names none.
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static("text/plain"));
    let answer = http.request(request).await?;
    if !answer.status().is_success() {
        return Err(format!("status {}", answer.status()).into());
    }
    let body = Limited::new(answer.into_body(), LARGEST).collect().await?.to_bytes();
    match Report::parse(std::str::from_utf8(&body)?) {
        Ok(report) => Ok((begun, Some(report))),
        Err(ScrapeError::NoFilter) => Ok((begun, None)),
        Err(error) => Err(error.into()),
    }
}
