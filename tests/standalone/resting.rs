//! The filter is off but for the requests of Canaries that are being released.

use weir_demo::load::Load;

use crate::site::{ANALYSIS, Site, canary, get};

/// Returns how many requests of a Canary were given an arm, as Weir knows.
async fn assigned(site: &Site, canary: &str) -> u64 {
    let metrics = get(site.http, "/metrics", &[]).await.map(|answer| answer.body).unwrap_or_default();
    let start = "weir_requests_assigned_total{";
    let of_canary = format!("canary=\"{canary}\"");
    let lines = metrics.lines().filter(|line| line.starts_with(start) && line.contains(&of_canary));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// Returns how many Canaries have the filter on, as Envoy was told last.
fn switched(site: &Site) -> usize {
    let routes = std::fs::read_to_string(site.path(".weir/envoy/routes.json")).unwrap_or_default();
    routes.matches("RBACPerRoute").count() / 2
}

#[tokio::test]
async fn requests_are_counted_from_a_new_revision_on_until_its_end_and_at_no_other_time() {
    let site = Site::serving().await;
    let load = site.load();
    site.eventually("served at rest", async || load.tally().of("v1").ok > 100 && switched(&site) == 0).await;
    assert_eq!(assigned(&site, "shop").await, 0, "a Canary at rest is not counted");

    // A canary that is not ready: the primary's requests are counted while its processes start.
    site.switch(r#"{"ready": false}"#);
    site.release("v2", "");
    site.eventually("counted before the first weight", async || assigned(&site, "shop").await > 50).await;
    assert_eq!(site.view_of("shop").await.unwrap()["weight"], 0.0);
    site.switch(r#"{"ready": true}"#);
    site.until_ended("Succeeded").await;
    site.eventually("switched off", async || switched(&site) == 0).await;
    // Requests that were under way, and a scrape that was, come late.
    site.eventually("two hundred are served and none is counted", async || {
        let (counted, served) = (assigned(&site, "shop").await, load.tally().totals().0);
        site.eventually("served at rest", async || load.tally().totals().0 > served + 200).await;
        assigned(&site, "shop").await == counted
    })
    .await;
    let tally = load.finish().await;
    assert_eq!(tally.totals().1, 0, "switching costs no request: {:?}\n{}", tally.summary(), site.log());
}

#[tokio::test]
async fn a_second_release_under_load_counts_nothing_for_the_wrong_canary() {
    let site = Site::serving().await;
    let cart = |version: &str| {
        let process = site.process("cart", version, "");
        site.write("cart.yaml", &format!("{process}---\n{}", canary("cart", "cart", ANALYSIS)));
    };
    cart("v1");
    site.eventually("the cart is initialized", async || {
        site.view_of("cart").await.is_some_and(|view| view["phase"] == "Initialized")
    })
    .await;
    // The shop has every host but the cart's, and gets no request at all.
    let slow = ANALYSIS.replace("interval: 1s", "interval: 600s");
    site.write("shop.yaml", &format!("{}---\n{}", site.process("shop", "v2", ""), canary("shop", "*", &slow)));
    site.until("at its first weight", |view| view["weight"] == 10.0 && view["applied"]["gateways"] == 1).await;
    let url = format!("http://{}/", site.listen).parse().unwrap();
    let headers = vec![("host".parse().unwrap(), "cart".parse().unwrap())];
    let load = Load { url, headers, timeout_ms: 60_000, ..Load::default() }.start();
    site.eventually("the cart is served", async || load.tally().of("v1").ok > 100).await;
    assert_eq!((assigned(&site, "shop").await, assigned(&site, "cart").await), (0, 0), "a Canary at rest beside it");
    cart("v2");
    site.eventually("the cart is released", async || {
        site.view_of("cart").await.is_some_and(|view| view["phase"] == "Succeeded" && view["run"] == "")
    })
    .await;
    let tally = load.finish().await;
    assert_eq!(tally.totals().1, 0, "{:?}\n{}", tally.summary(), site.log());
    assert_eq!(assigned(&site, "shop").await, 0, "not one of the cart's requests is the shop's");
    assert!(assigned(&site, "cart").await > 100);
}

#[tokio::test]
async fn a_canary_that_is_observed_at_rest_is_counted() {
    let site = Site::serving().await;
    let observed = canary("shop", "*", ANALYSIS) + "  observeAtRest: true\n";
    site.write("shop.yaml", &format!("{}---\n{observed}", site.process("shop", "v1", "")));
    let load = site.load();
    site.eventually("counted at rest", async || assigned(&site, "shop").await > 100).await;
    assert_eq!(load.finish().await.totals().1, 0, "{}", site.log());
}
