//! Load tests that call the canary's own Service through the gateway.

use weir_demo::load::{Load, Running};

use crate::site::{Site, canary};

/// Sends 50 requests a second to the canary's own Service.
fn load_test(site: &Site) -> Running {
    let url = format!("http://{}/", site.listen).parse().unwrap();
    let headers = vec![("host".parse().unwrap(), "shop-canary.default".parse().unwrap())];
    Load { url, rate: 50.0, headers, timeout_ms: 60_000, ..Load::default() }.start()
}

/// Declares blue/green with a webhook that is content: what it would start runs already.
fn declare(site: &Site, version: &str) {
    let analysis = format!(
        "{{interval: 1s, threshold: 2, iterations: 2, webhooks: [{{name: load, url: \"http://{}/\"}}], \
         metrics: [{{name: request-success-rate, thresholdRange: {{min: 99}}}}]}}",
        site.listen
    );
    let canary = canary("shop", "*\", \"shop-canary.default", &analysis);
    site.write("shop.yaml", &format!("{}---\n{canary}", site.process("shop", version, "")));
}

#[tokio::test]
async fn an_idle_canary_is_judged_by_its_load_test_before_any_user_meets_it() {
    let mut site = Site::new();
    declare(&site, "v1");
    site.start();
    site.until("initialized", |view| view["phase"] == "Initialized").await;
    let (users, tests) = (site.load(), load_test(&site));
    site.switch(r#"{"failure_ratio": 1}"#);
    declare(&site, "v2");
    let view = site.until_ended("Failed").await;
    assert!(["GuardTripped", "EvidenceBad"].iter().any(|reason| view["ended"]["reason"] == *reason), "{view:#}");
    assert_eq!(view["ended"]["weight"], 0.0, "idle to its end");
    site.switch("{}");
    declare(&site, "v3");
    site.until("the next release", |view| view["run"] != "" && view["phase"] != "Failed").await;
    site.until_ended("Succeeded").await;
    let users = users.finish().await;
    assert_eq!(users.totals().1, 0, "{:?}\n{}", users.summary(), site.log());
    let tests = tests.finish().await;
    assert!(tests.of("v2").failed > 0 && tests.of("v3").ok > 0, "{:?}", tests.summary());
}

#[tokio::test]
async fn an_idle_canary_whose_load_test_no_gateway_sees_is_told_what_to_call() {
    let mut site = Site::new();
    declare(&site, "v1");
    site.start();
    site.until("initialized", |view| view["phase"] == "Initialized").await;
    let _users = site.load();
    declare(&site, "v2");
    let view = site.until("told", |view| view["reason"] == "NoSyntheticLoad").await;
    let told = view["message"].as_str().unwrap();
    assert!(told.contains("http://shop-canary.default passes no gateway"), "{told}");
    assert!(told.contains("hey -host shop-canary"), "{told}");
    let _tests = load_test(&site);
    site.until_ended("Succeeded").await;
}
