//! Asks Envoy's admin endpoint.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::Full;
use hyper::{Method, Request};

use crate::http_client::{HttpClient, Limits};

/// Envoy answers from its main thread, which may compile a module for a while. The body is far above what a thousand Canaries say.
const LIMITS: Limits = Limits { timeout: Duration::from_secs(5), body: 64 << 20 };

/// What is scraped: the filter's metrics, and the few of Envoy's own that tell how many VMs there must be, whether the
/// filter was taken, and on which routes it is on. The expression sees Envoy's raw names.
const STATS: &str = "/stats/prometheus?filter=%5E(wasmcustom%5C.weir_%7Cserver%5C.concurrency%24%7C\
                     extension_config_discovery%5C.http_filter%5C.weir%5C.update_rejected%24%7C\
                     vhost%5C..*%5C.route%5C.weir_.*%5C.upstream_rq_total%24%7C\
                     http%5C.weir%5C.downstream_rq_active%24)";

/// Envoy's admin endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    address: SocketAddr,
    client: HttpClient,
}

/// Envoy's admin endpoint did not answer.
#[derive(Debug, thiserror::Error)]
#[error("ask Envoy for {path}: {problem}")]
pub(crate) struct AdminError {
    path: String,
    problem: String,
}

/// How many hosts a cluster has, and what they are busy with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Host {
    /// Its port.
    pub(crate) port: u16,
    /// Envoy gives it no new request.
    pub(crate) draining: bool,
    /// Requests under way.
    pub(crate) active: u64,
}

impl Admin {
    /// Returns the endpoint at an address.
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self { address, client: HttpClient::persistent() }
    }

    /// Returns where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the metrics in Prometheus' text form.
    pub(crate) async fn stats(&self) -> Result<String, AdminError> {
        self.ask(Method::GET, STATS).await
    }

    /// Returns what Envoy knows of every cluster, to be read with [`hosts`].
    pub(crate) async fn clusters(&self) -> Result<String, AdminError> {
        self.ask(Method::GET, "/clusters").await
    }

    /// Asks Envoy to take no new connection, and to end those it has after their next response.
    pub(crate) async fn drain(&self) -> Result<(), AdminError> {
        self.ask(Method::POST, "/drain_listeners").await.map(drop)
    }

    async fn ask(&self, method: Method, path: &str) -> Result<String, AdminError> {
        let error = |problem: String| AdminError { path: path.split('?').next().unwrap_or(path).to_owned(), problem };
        let request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        let request = request.body(Full::default()).map_err(|source| error(source.to_string()))?;
        let answer = self.client.send(request, LIMITS).await.map_err(|source| error(source.to_string()))?;
        let status = answer.status;
        let body = answer.whole().map_err(|source| error(source.to_string()))?;
        let text = String::from_utf8_lossy(&body).into_owned();
        if status.is_success() { Ok(text) } else { Err(error(format!("{status}: {}", text.trim()))) }
    }
}

/// Returns the hosts of a cluster, or nothing if Envoy does not know the cluster. `clusters` is what [`Admin::clusters`]
/// returned: lines like `shop/cart/canary::127.0.0.1:4000::rq_active::0`.
pub(crate) fn hosts(clusters: &str, cluster: &str) -> Option<Vec<Host>> {
    let mut hosts: Vec<Host> = Vec::new();
    let mut known = false;
    for line in clusters.lines() {
        let Some(rest) = line.strip_prefix(cluster).and_then(|rest| rest.strip_prefix("::")) else { continue };
        known = true;
        let mut fields = rest.splitn(3, "::");
        let (Some(address), Some(key), Some(value)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let Some(port) = address.strip_prefix("127.0.0.1:").and_then(|port| port.parse().ok()) else { continue };
        let index = hosts.iter().position(|host| host.port == port).unwrap_or_else(|| {
            hosts.push(Host { port, ..Host::default() });
            hosts.len() - 1
        });
        match key {
            "rq_active" => hosts[index].active = value.parse().unwrap_or_default(),
            "health_flags" => hosts[index].draining = value.contains("eds_status"),
            _ => {}
        }
    }
    known.then_some(hosts)
}

/// Returns the requests that Envoy has not answered yet. `stats` is what [`Admin::stats`] returned.
pub(crate) fn active_requests(stats: &str) -> u64 {
    let line = stats.lines().find(|line| line.starts_with("envoy_http_downstream_rq_active"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_by_cluster() {
        let clusters = "a/b/canary::observability_name::a/b/canary\n\
                        a/b/canary::127.0.0.1:4000::cx_active::1\n\
                        a/b/canary::127.0.0.1:4000::rq_active::2\n\
                        a/b/canary::127.0.0.1:4000::health_flags::healthy\n\
                        a/b/canary::127.0.0.1:4001::health_flags::/eds_status_draining\n\
                        a/b/canary-2::127.0.0.1:4002::rq_active::7\n\
                        a/b/primary::observability_name::a/b/primary\n";
        let host = |port, draining, active| Host { port, draining, active };
        assert_eq!(hosts(clusters, "a/b/canary"), Some(vec![host(4000, false, 2), host(4001, true, 0)]));
        assert_eq!(hosts(clusters, "a/b/primary"), Some(vec![]));
        assert_eq!(hosts(clusters, "a/b"), None);
    }
}
