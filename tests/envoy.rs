//! The real module in a real Envoy: one test for each rule of the contract.
//!
//! `cargo test -p weir-tests --features envoy --test envoy`, after `filter/build`.

mod harness;

use harness::client::Client;
use harness::config::{canary, config};
use harness::envoy::Gateway;
use weir_wire::names::{Arm, Cohort, Kind};

#[tokio::test(flavor = "multi_thread")]
async fn splits_within_three_sigma_of_the_weight() {
    let gateway = Gateway::start(&config(vec![canary(0)])).await;
    let mut client = Client::connect(gateway.address).await;
    let mut before = 0;
    for (epoch, parts, n) in [(2, 1, 60_000), (3, 100, 20_000), (4, 1_000, 10_000), (5, 5_000, 10_000)] {
        let mut canary = canary(parts);
        canary.epoch = epoch;
        gateway.push(&config(vec![canary])).await;
        for _ in 0..n {
            assert_eq!(client.get("/").await.status, 200);
        }
        let slot = epoch as u8;
        let metrics = gateway
            .metrics_when("all are counted", |metrics| {
                Arm::ALL.map(|arm| metrics.slot(slot, arm, Cohort::Draw, Kind::Success)).iter().sum::<u64>() == n
            })
            .await;
        let chosen = metrics.slot(slot, Arm::Canary, Cohort::Draw, Kind::Assigned);
        let p = f64::from(parts) / 10_000.0;
        let sigma = (n as f64 * p * (1.0 - p)).sqrt();
        assert!((chosen as f64 - n as f64 * p).abs() <= 3.0 * sigma, "{chosen} of {n} at {parts}/10,000");
        let arrived = gateway.canary.seen.requests();
        assert_eq!(arrived - before, chosen, "what was chosen is what arrived");
        before = arrived;
    }
}
