//! Session affinity: the gateway makes other VMs for the Canary that needs it, while others release.

use crate::site::{ANALYSIS, Site, canary, get};

/// Returns how many requests of the Canary `shop` on its canary Weir knows of, and how many of them ended well.
async fn counted(site: &Site) -> [u64; 2] {
    let metrics = get(site.http, "/metrics", &[]).await.map(|answer| answer.body).unwrap_or_default();
    let of_canary = r#"namespace="default",canary="shop",arm="canary",cohort="draw""#;
    let assigned = format!("weir_requests_assigned_total{{{of_canary}}} ");
    let success = format!("weir_requests_total{{{of_canary},outcome=\"success\"}} ");
    [assigned, success].map(|start| {
        let value = metrics.lines().find_map(|line| line.strip_prefix(&start)?.parse().ok());
        value.unwrap_or_default()
    })
}

#[tokio::test]
async fn a_canary_with_affinity_added_beside_a_running_rollout_gives_cookies_and_loses_no_count() {
    let site = Site::serving().await;
    let load = site.load();
    // It stays at this weight for longer than the test takes: all of v2's requests are the canary's.
    let slow = ANALYSIS.replace("interval: 1s", "interval: 600s").replace("[10, 30]", "[30]");
    site.write("shop.yaml", &format!("{}---\n{}", site.process("shop", "v2", ""), canary("shop", "*", &slow)));
    site.until("at the weight", |view| view["weight"] == 30.0 && view["applied"]["gateways"] == 1).await;
    site.eventually("served by both", async || load.tally().of("v2").ok > 50).await;

    let sticky = ANALYSIS.replace("interval: 1s", "interval: 1s, sessionAffinity: {cookieName: weir-cart}");
    let cart = |version: &str| {
        let process = site.process("cart", version, "");
        site.write("cart.yaml", &format!("{process}---\n{}", canary("cart", "cart", &sticky)));
    };
    cart("v1");
    site.eventually("the cart is initialized", async || {
        site.view_of("cart").await.is_some_and(|view| view["phase"] == "Initialized")
    })
    .await;
    cart("v2");
    site.eventually("clients of the cart get a cookie", async || {
        let answer = get(site.listen, "/", &["host: cart"]).await;
        answer.is_some_and(|answer| answer.head.contains("set-cookie: weir-cart="))
    })
    .await;
    assert!(!site.get(&[]).await.unwrap().head.contains("set-cookie"), "the shop has no affinity");

    let before = load.tally().of("v2").ok;
    site.eventually("served on by both", async || load.tally().of("v2").ok > before + 50).await;
    let tally = load.finish().await;
    assert_eq!(tally.totals().1, 0, "{:?}\n{}", tally.summary(), site.log());
    // What was answered before, between and after, and nothing twice; the request above may have been one of them.
    let answered = tally.of("v2").ok;
    site.eventually("all of it is counted", async || {
        let [assigned, success] = counted(&site).await;
        assigned == success && (answered..=answered + 1).contains(&success)
    })
    .await;
}

#[tokio::test]
async fn each_arm_has_its_cookie_during_a_release_and_both_are_ended_at_rest() {
    let affinity = "interval: 600s, sessionAffinity: {cookieName: arm, primaryCookieName: home}";
    let analysis = ANALYSIS.replace("interval: 1s", affinity).replace("[10, 30]", "[50]");
    let mut site = Site::new();
    let declare = |site: &Site, version: &str| {
        let canary = canary("shop", "*", &analysis);
        site.write("shop.yaml", &format!("{}---\n{canary}", site.process("shop", version, "")));
    };
    declare(&site, "v1");
    site.start();
    site.until("initialized", |view| view["phase"] == "Initialized").await;
    let bring = async |cookie: &str| site.get(&[&format!("cookie: {cookie}")]).await.unwrap();
    let ending = |name: &str| format!("set-cookie: {name}=ended; Max-Age=-1; Path=/");
    let head = bring("a=b; home=0000000000000001").await.head;
    assert!(head.contains(&ending("arm")) && head.contains(&ending("home")), "{head}");
    assert!(!bring("a=home").await.head.contains("set-cookie"), "nobody else's");

    declare(&site, "v2");
    site.until("at the weight", |view| view["weight"] == 50.0 && view["applied"]["gateways"] == 1).await;
    for (revision, name) in [("v1", "home"), ("v2", "arm")] {
        let mut given = String::new();
        while given.is_empty() {
            let answer = site.get(&[]).await.unwrap();
            let cookie = answer.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap_or_default();
            if answer.body.trim() == revision {
                given = cookie.split(';').next().unwrap().to_owned();
                assert!(given.starts_with(&format!("{name}=")), "{}", answer.head);
            }
        }
        for _ in 0..5 {
            let answer = bring(&given).await;
            assert_eq!((answer.body.trim(), answer.head.contains("Max-Age=-1")), (revision, false), "{}", answer.head);
        }
    }
}
