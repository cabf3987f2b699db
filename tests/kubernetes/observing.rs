//! `observeOnly` in a team's first week, and what a script asks of a release.

use super::STEPS;
use super::kubectl::until;
use super::people::{ask, plugin};
use super::stage::{Release, Stage};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_observed_only_is_judged_and_told_and_left_to_people() {
    let stage = Stage::bare("observed").await;
    stage.release(&Release::good("v1"));
    stage.canary_with("observeOnly: true", STEPS);
    stage.phase("Initialized").await;
    let status = |timeout: &str| {
        let output = plugin(&["status", "shop", "--namespace", &stage.namespace, "--timeout", timeout]);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let version = until("both say their version", || {
        let output = plugin(&["version"]);
        output.status.success().then_some(output)
    })
    .await;
    let said = String::from_utf8(version.stdout).unwrap();
    let own = env!("CARGO_PKG_VERSION");
    assert_eq!((version.status.code(), said), (Some(0), format!("client: {own}\ncontroller: {own}\n")));
    // A bad one stays where it is, and what Weir would do is said.
    let traffic = stage.traffic(100.0);
    stage.release_into_traffic(&Release { arguments: &["--failure-ratio", "1"], ..Release::good("v2") }).await;
    until("Weir would take it back", || {
        let status = stage.status();
        let says = status["message"].as_str().is_some_and(|text| text.contains("take the canary back"));
        (status["reason"] == "Observing" && says).then_some(())
    })
    .await;
    let (code, said) = status("5s");
    assert_eq!((code, stage.status()["canaryWeight"].as_f64()), (Some(2), Some(10.0)), "{said}");
    assert!(stage.events().iter().any(|text| text.contains("would take the canary back")), "{:?}", stage.events());
    ask(&stage, "abort", 1);
    let (code, said) = status("2m");
    assert!(code == Some(1) && said.contains("taken back"), "{code:?} {said}");
    stage.rested().await;
    traffic.finish().await;
    // A good one waits for a person too.
    let traffic = stage.traffic(100.0);
    stage.release_into_traffic(&Release::good("v3")).await;
    until("Weir would go on", || {
        let status = stage.status();
        let says = status["message"].as_str().is_some_and(|text| text.contains("advance"));
        (status["reason"] == "Observing" && says).then_some(())
    })
    .await;
    ask(&stage, "promote", 2);
    let (code, said) = status("2m");
    assert_eq!(code, Some(0), "{said}");
    stage.rested().await;
    let tally = traffic.finish().await;
    assert_eq!(tally.totals().1, 0, "{:?}", tally.summary());
    stage.strike();
}
