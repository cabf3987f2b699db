//! Which requests go to the canary.

use weir_wire::names::{Arm, Cohort, Kind};
use weir_wire::{Affinity, Canary, Lookup, MatchedSplit, Weight};

use crate::harness::client::{self, Client};
use crate::harness::config::{TOKEN, canary, config};
use crate::harness::envoy::{Gateway, Options};

/// Sends requests at a weight, in an epoch of its own, and returns how many standard deviations the canary's share is off.
async fn deviation(gateway: &Gateway, epoch: u64, parts: u32, n: u64) -> f64 {
    let before = gateway.canary.seen.requests();
    let mut canary = canary(parts);
    canary.epoch = epoch;
    gateway.push(&config(vec![canary])).await;
    client::many(gateway.address, "/", n).await;
    let slot = epoch as u8;
    let metrics = gateway
        .metrics_when("all are counted", |metrics| {
            Arm::ALL.map(|arm| metrics.slot(slot, arm, Cohort::Draw, Kind::Success)).iter().sum::<u64>() == n
        })
        .await;
    let chosen = metrics.slot(slot, Arm::Canary, Cohort::Draw, Kind::Assigned);
    assert_eq!(gateway.canary.seen.requests() - before, chosen, "what was chosen is what arrived");
    let (n, p) = (n as f64, f64::from(parts) / 10_000.0);
    (chosen as f64 - n * p).abs() / (n * p * (1.0 - p)).sqrt()
}

#[tokio::test(flavor = "multi_thread")]
async fn splits_within_three_sigma_of_the_weight() {
    let gateway = Gateway::start(&config(vec![canary(0)])).await;
    // A true split is off by more than that once in some hundred times, so a second attempt may vouch for it.
    for (epoch, parts, n) in [(0, 1, 60_000), (2, 100, 20_000), (4, 1_000, 10_000), (6, 5_000, 10_000)] {
        let first = deviation(&gateway, epoch, parts, n).await;
        if first > 3.0 {
            let second = deviation(&gateway, epoch + 1, parts, n).await;
            assert!(second <= 3.0, "{first} and {second} sigma off at {parts}/10,000");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn primary_bound_requests_are_untouched_and_the_token_stays_inside() {
    let gateway = Gateway::start(&config(vec![canary(5_000)])).await;
    let mut client = Client::connect(gateway.address).await;
    for _ in 0..200 {
        let answer = client.get("/").await;
        assert_eq!(answer.status, 200);
        let names: Vec<_> = answer.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert!(!names.contains(&"set-cookie") && !names.contains(&weir_wire::TOKEN_HEADER), "{names:?}");
    }
    for service in [&gateway.primary, &gateway.canary] {
        assert!(service.seen.requests() > 50);
        assert_eq!(service.seen.tokens(), 0, "no upstream sees the token");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_the_token_gains_nothing() {
    let forged = [(weir_wire::TOKEN_HEADER, TOKEN)];
    let with_filter = Gateway::start(&config(vec![canary(0)])).await;
    let options = Options { filter: false, ..Options::default() };
    let without_filter = Gateway::start_with(options, &config(vec![canary(10_000)])).await;
    for gateway in [with_filter, without_filter] {
        let mut client = Client::connect(gateway.address).await;
        for host in ["shop.example.com", "elsewhere.example.com"] {
            assert_eq!(client.ask(host, "/", &forged).await.served_by(), "primary");
        }
        assert_eq!(gateway.canary.seen.requests() + gateway.primary.seen.tokens(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_hosts_and_other_routes_are_left_alone() {
    let gateway = Gateway::start(&config(vec![canary(10_000)])).await;
    let mut client = Client::connect(gateway.address).await;
    assert_eq!(client.ask("SHOP.example.com", "/", &[]).await.served_by(), "canary");
    assert_eq!(client.ask("shop.example.com:8080", "/", &[]).await.served_by(), "canary");
    assert_eq!(client.ask("elsewhere.example.com", "/", &[]).await.served_by(), "primary");

    let mut by_route = canary(10_000);
    (by_route.lookup, by_route.hosts, by_route.routes) = (Lookup::Route, vec![], vec!["shop".into()]);
    gateway.push(&config(vec![by_route])).await;
    assert_eq!(client.ask("shop.example.com", "/", &[]).await.served_by(), "canary");
    assert_eq!(client.ask("elsewhere.example.com", "/", &[]).await.served_by(), "primary");
    let metrics = gateway.metrics_when("three are counted", |metrics| metrics.arm(Arm::Canary)[1] == 3).await;
    assert_eq!(metrics.arm(Arm::Primary), [0; 4], "what belongs to no canary is not counted");
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_send_what_they_match_to_the_canary_whatever_the_weight() {
    let mut canary = canary(0);
    canary.conditions = serde_json::from_str(
        r#"[{"headers": {"x-insider": {"regex": "yes|sure"}}, "queryParams": {"v": {"exact": "2"}}},
            {"cookies": {"beta": {"prefix": "al"}}}]"#,
    )
    .unwrap();
    let gateway = Gateway::start(&config(vec![canary])).await;
    let mut client = Client::connect(gateway.address).await;
    for (path, headers, expected) in [
        ("/?v=2", &[("X-Insider", "sure")][..], "canary"),
        ("/?v=2", &[("x-insider", "surely")], "primary"),
        ("/", &[("x-insider", "yes")], "primary"),
        ("/?v=2", &[], "primary"),
        ("/", &[("cookie", "a=b; beta=always")], "canary"),
        ("/", &[("cookie", "a=beta; beta=no")], "primary"),
    ] {
        assert_eq!(client.ask("shop.example.com", path, headers).await.served_by(), expected, "{path} {headers:?}");
    }
    let metrics = gateway.metrics_when("all are counted", |metrics| metrics.arm(Arm::Primary)[1] == 4).await;
    assert_eq!(metrics.sum(Arm::Canary, Cohort::Match, Kind::Success), 2);
    assert_eq!(metrics.sum(Arm::Primary, Cohort::Draw, Kind::Success), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_split_of_matching_requests_leaves_everybody_else_on_the_primary() {
    let conditions = serde_json::from_str(r#"[{"headers": {"x-insider": {"exact": "yes"}}}]"#).unwrap();
    let mut canary = canary(0);
    canary.matched = Some(MatchedSplit { weight: Weight::new(5_000).unwrap(), conditions });
    let gateway = Gateway::start(&config(vec![canary])).await;
    let mut client = Client::connect(gateway.address).await;
    for _ in 0..100 {
        assert_eq!(client.ask("shop.example.com", "/", &[]).await.served_by(), "primary");
        client.ask("shop.example.com", "/", &[("x-insider", "yes")]).await;
    }
    let metrics = gateway
        .metrics_when("all are counted", |metrics| metrics.arm(Arm::Primary)[1] + metrics.arm(Arm::Canary)[1] == 200)
        .await;
    let insiders = Arm::ALL.map(|arm| metrics.sum(arm, Cohort::Draw, Kind::Success));
    assert!(insiders[0] + insiders[1] == 100 && (20..=80).contains(&insiders[1]), "{insiders:?}");
    assert_eq!(metrics.sum(Arm::Primary, Cohort::Match, Kind::Success), 100, "no draws");
    assert_eq!(metrics.sum(Arm::Canary, Cohort::Match, Kind::Assigned), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_calls_the_canarys_own_service_through_the_gateway_gets_the_canary_and_is_no_draw() {
    let mut canary = canary(0);
    canary.hosts.push("*".into());
    canary.direct = vec!["shop-canary".into(), "shop-canary.prod".into()];
    let gateway = Gateway::start(&config(vec![canary.clone()])).await;
    let mut client = Client::connect(gateway.address).await;
    for (host, expected) in [
        ("shop-canary.prod", "canary"),
        ("Shop-Canary:9898", "canary"),
        ("shop-canary.prod.svc", "primary"),
        ("shop.example.com", "primary"),
    ] {
        assert_eq!(client.ask(host, "/", &[]).await.served_by(), expected, "{host}");
    }
    let metrics = gateway.metrics_when("all are counted", |metrics| metrics.arm(Arm::Primary)[1] == 2).await;
    let of_canary = [Cohort::Direct, Cohort::Draw].map(|cohort| metrics.sum(Arm::Canary, cohort, Kind::Success));
    assert_eq!(of_canary, [2, 0]);

    // A configuration without the names takes them away, as a rollback does.
    let taken = Canary { direct: Vec::new(), epoch: 2, ..canary };
    gateway.push(&config(vec![taken])).await;
    assert_eq!(client.ask("shop-canary.prod", "/", &[]).await.served_by(), "primary");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sticky_client_stays_and_clients_are_true_to_the_weight() {
    let sticky = |parts, epoch| {
        let mut canary = canary(parts);
        canary.affinity = Some(Affinity {
            cookie: "weir-shop".into(),
            attributes: "; Path=/; HttpOnly".into(),
            ..Affinity::default()
        });
        canary.epoch = epoch;
        canary
    };
    let gateway = Gateway::start(&config(vec![sticky(3_000, 1)])).await;
    let mut client = Client::connect(gateway.address).await;
    let mut clients = Vec::new();
    for _ in 0..1_000 {
        let answer = client.get("/").await;
        let (cookie, attributes) = answer.header("set-cookie").split_once(';').unwrap();
        assert_eq!(attributes, " Path=/; HttpOnly");
        clients.push((cookie.to_owned(), answer.served_by().to_owned()));
    }
    let chosen = clients.iter().filter(|(_, arm)| arm == "canary").count() as f64;
    assert!((chosen - 300.0).abs() <= 5.0 * 210_f64.sqrt(), "{chosen} of 1000 at 30 %");
    for (cookie, arm) in &clients {
        let answer = client.ask("shop.example.com", "/", &[("cookie", &format!("a=b; {cookie}"))]).await;
        assert_eq!((answer.served_by(), answer.header("set-cookie")), (arm.as_str(), ""));
    }
    let metrics =
        gateway.metrics_when("all are counted", |m| m.arm(Arm::Primary)[1] + m.arm(Arm::Canary)[1] == 2_000).await;
    let [draws, returned] = [Cohort::Draw, Cohort::Sticky].map(|c| metrics.sum(Arm::Canary, c, Kind::Assigned));
    assert_eq!([draws, returned], [chosen as u64; 2]);

    gateway.push(&config(vec![sticky(5_000, 2)])).await;
    for (cookie, _) in clients.iter().filter(|(_, arm)| arm == "canary") {
        let answer = client.ask("shop.example.com", "/", &[("cookie", cookie)]).await;
        assert_eq!(answer.served_by(), "canary", "a rising weight takes nobody off the canary");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn until_the_first_ones_end_only_a_few_canary_requests_are_outstanding() {
    let mut canary = canary(10_000);
    canary.admission = 5;
    let options = Options { timeout: "60s", ..Options::default() };
    let gateway = Gateway::start_with(options, &config(vec![canary])).await;
    let waiting: Vec<_> = (0..12)
        .map(|_| {
            let address = gateway.address;
            tokio::spawn(async move { Client::connect(address).await.get("/delay/15000").await.served_by().to_owned() })
        })
        .collect();
    gateway.metrics_when("all have arrived", |metrics| metrics.refused() + metrics.arm(Arm::Canary)[0] == 12).await;
    assert_eq!(gateway.canary.seen.requests(), 5);
    for one in waiting {
        one.await.unwrap();
    }
    let metrics = gateway.metrics_when("all have ended", |metrics| metrics.arm(Arm::Canary)[1] == 5).await;
    assert_eq!(metrics.refused(), 7);
    assert_eq!(metrics.arm(Arm::Primary), [0; 4], "a refused draw is in no arm");
    client::many(gateway.address, "/", 50).await;
    let metrics = gateway.metrics_when("all are counted", |metrics| metrics.arm(Arm::Canary)[1] == 55).await;
    assert_eq!(metrics.refused(), 7, "five have ended, so all are admitted");
}
