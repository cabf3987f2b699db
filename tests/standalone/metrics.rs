//! Metrics that a real Prometheus answers.

use crate::prometheus::Prometheus;
use crate::site::{ANALYSIS, Site, canary, get};

/// Releases a version whose every check asks the Prometheus for a multiple of the weight.
fn release(site: &Site, version: &str, factor: u32) {
    let metric = format!(
        "metrics: [{{name: weight, templateRef: {{name: weight}}, templateVariables: {{factor: \"{factor}\"}}, thresholdRange: {{max: 50}}}}, "
    );
    let process = site.process("shop", version, "");
    let canary = canary("shop", "*", &ANALYSIS.replace("metrics: [", &metric));
    site.write("shop.yaml", &format!("{process}---\n{canary}"));
}

#[tokio::test]
async fn a_metric_of_a_prometheus_lets_a_release_go_on_or_takes_it_back() {
    let site = Site::serving().await;
    let Some(prometheus) = Prometheus::of(&site, &[]) else { return };
    site.write(
        "weight.yaml",
        &format!(
            "apiVersion: weir.dev/v1beta1\nkind: MetricTemplate\nmetadata: {{name: weight}}\nspec:\n  \
             provider: {{type: prometheus, address: \"http://{}\"}}\n  \
             query: max(weir_weight{{namespace=\"{{{{ namespace }}}}\",canary=\"{{{{ name }}}}\",kind=\"applied\"}}) * {{{{ variables.factor }}}}\n",
            prometheus.address
        ),
    );
    site.eventually("the prometheus knows the weight", async || {
        let answer = get(prometheus.address, "/api/v1/query?query=weir_weight", &[]).await;
        answer.is_some_and(|answer| answer.body.contains("applied"))
    })
    .await;
    let load = site.load();
    release(&site, "v2", 1);
    site.until_ended("Succeeded").await;
    release(&site, "v3", 10);
    let view = site.until("Failed", |view| view["phase"] == "Failed" && view["run"] == "").await;
    assert_eq!(view["ended"]["reason"], "ChecksFailed", "{view:#}");
    // What was broken, with its numbers; the filter found nothing wrong with either.
    let message = view["ended"]["message"].as_str().unwrap();
    assert!(message.contains("weight ") && message.contains(".00 > 50"), "{message}");
    assert_eq!(load.finish().await.totals().1, 0);
}

#[tokio::test]
async fn a_metric_that_cannot_be_asked_fails_the_check_and_says_why() {
    let site = Site::serving().await;
    let _load = site.load();
    release(&site, "v2", 1);
    let view = site.until_ended("Failed").await;
    let message = view["ended"]["message"].as_str().unwrap();
    let why = "there is no MetricTemplate default/weight; add it";
    assert!(message.contains(&format!("no values found for metric weight: {why}")), "{message}");
    // Known before a release is spoilt by it, too.
    let problems = site.list().await.unwrap()["problems"].to_string();
    assert!(problems.contains(&format!("default/shop: spec.analysis.metrics[0]: {why}")), "{problems}");
}
