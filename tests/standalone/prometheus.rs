//! A real Prometheus beside a site.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::site::{PATIENCE, Site, free_address, get, pause};

/// A Prometheus that scrapes a site's Weir; it ends with this value.
pub(crate) struct Prometheus {
    server: Child,
    /// Where it answers.
    pub(crate) address: SocketAddr,
}

impl Prometheus {
    /// Starts one with these files of rules, where the machine has it: `PROMETHEUS` is its path. `make test` finds or fetches
    /// it, and says if it cannot.
    pub(crate) fn of(site: &Site, rules: &[PathBuf]) -> Option<Self> {
        let program = std::env::var_os("PROMETHEUS")?;
        let address = free_address();
        let config = serde_json::json!({
            "global": {"evaluation_interval": "1s"},
            "rule_files": rules,
            "scrape_configs": [{
                "job_name": "weir", "scrape_interval": "1s", "scrape_timeout": "1s",
                // As the Prometheus operator labels what it scrapes, and as the chart's monitors have it.
                "honor_labels": true,
                "static_configs": [{"targets": [site.http.to_string()], "labels": {"namespace": "weir-system"}}],
            }],
        });
        // JSON is YAML.
        site.write("prometheus.conf", &config.to_string());
        let server = Command::new(program)
            .arg(format!("--config.file={}", site.path("prometheus.conf").display()))
            .arg(format!("--storage.tsdb.path={}", site.path("prometheus").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self { server, address })
    }

    /// Returns the series that a query has now; none while nobody answers.
    ///
    /// # Panics
    /// When the query is refused.
    pub(crate) async fn series(&self, query: &str) -> Vec<Value> {
        self.ask(&format!("query?query={}", escaped(query)), query).await
    }

    /// Returns the series that a query had from one time to another, in seconds since the Unix epoch; none while nobody answers.
    ///
    /// # Panics
    /// When the query is refused.
    pub(crate) async fn range(&self, query: &str, (from, to): (f64, f64)) -> Vec<Value> {
        let path = format!("query_range?query={}&start={from}&end={to}&step=0.5", escaped(query));
        self.ask(&path, query).await
    }

    async fn ask(&self, path: &str, query: &str) -> Vec<Value> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            // A server that starts says so in plain text, or not at all; one that is busy says nothing in time.
            let answer = get(self.address, &format!("/api/v1/{path}"), &[]).await;
            if let Some(answer) = answer.and_then(|answer| serde_json::from_str::<Value>(&answer.body).ok()) {
                assert!(answer["status"] == "success", "{query}: {answer}");
                return answer["data"]["result"].as_array().cloned().unwrap_or_default();
            }
            pause().await;
        }
        panic!("Prometheus does not answer {query}");
    }
}

fn escaped(query: &str) -> String {
    query.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
