//! Grafana's boards and the rules of the chart, against a real Prometheus that scrapes real rollouts.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;

use crate::prometheus::Prometheus;
use crate::site::{PATIENCE, Site, pause};

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/chart").canonicalize().unwrap()
}

/// Every query of every panel, by board and title, as Grafana would send it for the site's Canary.
fn queries() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(chart().join("dashboards")).unwrap() {
        let path = entry.unwrap().path();
        let board: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for panel in board["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let title = format!("{}: {} {}", board["title"], panel["title"], target["refId"]);
                let query = target["expr"].as_str().unwrap();
                let query = query.replace("$__rate_interval", "10s").replace("$namespace", "default");
                found.insert(title, query.replace("$canary", "shop"));
            }
        }
    }
    found
}

/// What is still to be seen of some queries.
struct Awaited<'a> {
    prometheus: &'a Prometheus,
    queries: BTreeMap<String, String>,
}

impl Awaited<'_> {
    /// Drops the queries that have data now.
    async fn look(&mut self) {
        for (title, query) in self.queries.clone() {
            let series = self.prometheus.series(&query).await;
            if series.iter().any(|series| series["value"][1] != "NaN") {
                self.queries.remove(&title);
            }
        }
    }

    /// Looks until the rollout that begins now has ended, however.
    async fn through_a_rollout(&mut self, site: &Site) {
        let under_way = |view: &Value| view["run"] != "";
        site.until("begun", under_way).await;
        let began = Instant::now();
        while under_way(&site.view_of("shop").await.unwrap_or_default()) {
            assert!(began.elapsed() < PATIENCE, "never ended\n{}", site.log());
            self.look().await;
            pause().await;
        }
    }
}

#[tokio::test]
async fn every_panel_and_every_rule_has_data_in_a_real_rollout() {
    let site = Site::serving().await;
    let rules = chart().join("rules/weir.yaml");
    let Some(prometheus) = Prometheus::of(&site, std::slice::from_ref(&rules)) else { return };
    let mut queries = queries();
    assert!(queries.len() > 20, "{queries:#?}");
    for line in fs::read_to_string(&rules).unwrap().lines() {
        if let Some(name) = line.trim().strip_prefix("- record: ") {
            queries.insert(format!("recorded: {name}"), name.to_owned());
        }
    }
    // The phase that a rollout taken back leaves behind; the alert waits for a minute before it fires.
    queries.insert("alert".into(), r#"ALERTS{alertname="WeirReleaseTakenBack", canary="shop"}"#.into());
    let mut awaited = Awaited { prometheus: &prometheus, queries };
    let _load = site.load();
    site.release("v2", "");
    awaited.through_a_rollout(&site).await;
    site.release("v3", ", --failure-ratio, \"0.5\"");
    awaited.through_a_rollout(&site).await;
    let began = Instant::now();
    while !awaited.queries.is_empty() && began.elapsed() < PATIENCE {
        awaited.look().await;
        pause().await;
    }
    assert!(awaited.queries.is_empty(), "without data: {:#?}", awaited.queries);
}
