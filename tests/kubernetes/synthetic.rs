//! Load tests of an idle canary through the real gateway, and cookies that end at rest.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::STEPS;
use super::kubectl::until;
use super::stage::{Release, Stage, gateway, open};

/// Asks the gateway once, with a cookie; returns the head of its answer.
fn head(host: &str, cookie: &str) -> Option<String> {
    let address = gateway();
    let address = if address.contains(':') { address } else { format!("{address}:80") };
    let mut stream = TcpStream::connect(address).ok()?;
    let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\ncookie: {cookie}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let head = answer.split("\r\n\r\n").next()?;
    head.starts_with("HTTP/1.1 200").then(|| head.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_canary_is_judged_by_its_load_test_before_any_user_meets_it() {
    let stage = Stage::bare("synthetic").await;
    let own = format!("shop-canary.{}", stage.namespace);
    open(&stage.namespace, "loads", "{istio: ingressgateway}", &own);
    stage.release(&Release::good("v1"));
    let service =
        format!("{{port: 80, targetPort: 8080, gateways: [public, loads], hosts: [{}, {own}]}}", stage.host());
    // What the webhook would start runs already: it is only asked.
    let analysis = format!(
        "{{interval: 2s, threshold: 2, iterations: 3, webhooks: [{{name: load, url: \"http://shop-primary.{}/\"}}], \
         metrics: [{{name: request-success-rate, thresholdRange: {{min: 99}}}}]}}",
        stage.namespace
    );
    stage.canary_of(&service, "progressDeadlineSeconds: 120", &analysis);
    stage.phase("Initialized").await;
    let users = stage.traffic(50.0);
    stage.release(&Release { arguments: &["--failure-ratio", "1"], ..Release::good("v2") });
    let told = until("a load test that nobody sees is told", || {
        let status = stage.status();
        (status["reason"] == "NoSyntheticLoad").then(|| status["message"].as_str().unwrap_or_default().to_owned())
    })
    .await;
    assert!(told.contains(&format!("hey -host {own} http://GATEWAY/")), "{told}");

    let tests = stage.traffic_to("/", 20.0, &[("host", &own)]);
    let status = stage.phase("Failed").await;
    assert_eq!(status["canaryWeight"].as_f64(), Some(0.0), "{status}");
    stage.rested().await;
    stage.release(&Release::good("v3"));
    stage.phase("Succeeded").await;
    stage.rested().await;
    let (users, tests) = (users.finish().await, tests.finish().await);
    println!("users: {:?}\ntests: {:?}", users.summary(), tests.summary());
    assert_eq!((users.totals().1, users.of("v2").ok), (0, 0), "{:?}", users.summary());
    assert!(tests.of("v2").failed > 0 && tests.of("v3").ok > 0, "{:?}", tests.summary());
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_ends_both_cookies_at_rest_and_gives_each_arm_its_own_during_a_release() {
    let affinity = "interval: 600s, sessionAffinity: {cookieName: arm, primaryCookieName: home}";
    let analysis = STEPS.replace("interval: 2s", affinity).replace("[10, 30, 50]", "[50]");
    let stage = Stage::set("cookies", &analysis).await;
    let ending = |name: &str| format!("set-cookie: {name}=ended; Max-Age=-1; Path=/");
    let ended = |head: &str| head.contains(&ending("arm")) && head.contains(&ending("home"));
    let ask = |cookie: &str| head(stage.host(), cookie);
    until("both are ended", || ask("a=b; home=0000000000000001").filter(|head| ended(head))).await;
    let without = ask("a=home").unwrap_or_default();
    assert!(!without.contains("set-cookie"), "{without}");

    stage.release_into_traffic(&Release::good("v2")).await;
    for (revision, name) in [("v1", "home"), ("v2", "arm")] {
        let given = until(&format!("a client of {revision} has a cookie"), || {
            let head = ask("a=b")?;
            let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: "))?.split(';').next()?.to_owned();
            head.contains(&format!("x-revision: {revision}")).then_some(cookie)
        })
        .await;
        assert!(given.starts_with(&format!("{name}=")), "{given}");
        for _ in 0..5 {
            let head = until("it is answered", || ask(&given)).await;
            assert!(head.contains(&format!("x-revision: {revision}")) && !head.contains("Max-Age=-1"), "{head}");
        }
    }
    stage.strike();
}
