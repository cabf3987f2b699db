//! Grafana's boards and the rules of the chart, against a real Prometheus that scrapes real rollouts.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::drawing;
use crate::prometheus::Prometheus;
use crate::site::{ANALYSIS, PATIENCE, Site, canary, pause};

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/chart").canonicalize().unwrap()
}

fn boards() -> Vec<Value> {
    let entries = fs::read_dir(chart().join("dashboards")).unwrap();
    entries.map(|entry| serde_json::from_slice(&fs::read(entry.unwrap().path()).unwrap()).unwrap()).collect()
}

fn panels(board: &Value) -> impl Iterator<Item = &Value> {
    board["panels"].as_array().unwrap().iter()
}

fn targets(panel: &Value) -> impl Iterator<Item = &Value> {
    panel["targets"].as_array().into_iter().flatten()
}

/// Returns a query as Grafana would send it for the site's Canary.
fn query(target: &Value) -> String {
    let query = target["expr"].as_str().unwrap();
    query.replace("$__rate_interval", "10s").replace("$namespace", "default").replace("$canary", "shop")
}

/// Every query of every panel, by board and title.
fn queries() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for board in boards() {
        for panel in panels(&board) {
            assert!(panel["type"] == "row" || targets(panel).next().is_some(), "{panel} shows nothing");
            for target in targets(panel) {
                let title = format!("{}: {} {}", board["title"], panel["title"], target["refId"]);
                found.insert(title, query(target));
            }
        }
    }
    found
}

/// Returns the seconds since the Unix epoch.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// Draws every board with what Prometheus has had since then, for people to look at: `target/boards`, or `WEIR_SCREENSHOTS`.
async fn draw(prometheus: &Prometheus, from: f64) {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/boards");
    let folder = std::env::var_os("WEIR_SCREENSHOTS").map_or(target, PathBuf::from);
    fs::create_dir_all(&folder).unwrap();
    let range = (from, now());
    for board in boards() {
        let mut drawn = Vec::new();
        for panel in panels(&board) {
            let mut series = Vec::new();
            for target in targets(panel) {
                // What has ended by now is no value of now.
                let is_now = ["stat", "table", "bargauge"].iter().any(|kind| panel["type"] == *kind);
                assert_eq!(target["instant"] == true, is_now, "{}: of now or of a range?", panel["title"]);
                let result = match is_now {
                    true => prometheus.series(&query(target)).await,
                    false => prometheus.range(&query(target), range).await,
                };
                let legend = target["legendFormat"].as_str().unwrap_or_default();
                series.extend(drawing::read(&result, legend));
            }
            let is_empty = series.iter().all(|series| series.values.is_empty());
            assert!(panel["type"] == "row" || !is_empty, "nothing to draw in {}", panel["title"]);
            drawn.push((panel, series));
        }
        let name = format!("{}.svg", board["uid"].as_str().unwrap());
        fs::write(folder.join(name), drawing::board(&board, &drawn, range)).unwrap();
    }
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
async fn every_panel_and_every_rule_has_data_in_a_real_rollout_and_is_drawn() {
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
    // It takes longer to start than the first release.
    site.eventually("scraped", async || !prometheus.series("weir_phase").await.is_empty()).await;
    let from = now();
    let mut awaited = Awaited { prometheus: &prometheus, queries };
    let _load = site.load();
    // All queries are asked one after the other in each look.
    let slow = ANALYSIS.replace("interval: 1s", "interval: 4s");
    for (version, more) in [("v2", ""), ("v3", ", --failure-ratio, \"0.5\"")] {
        let process = site.process("shop", version, more);
        site.write("shop.yaml", &format!("{process}---\n{}", canary("shop", "*", &slow)));
        awaited.through_a_rollout(&site).await;
    }
    let began = Instant::now();
    while !awaited.queries.is_empty() && began.elapsed() < PATIENCE {
        awaited.look().await;
        pause().await;
    }
    assert!(awaited.queries.is_empty(), "without data: {:#?}", awaited.queries);
    draw(&prometheus, from).await;
}
