//! Very many Canaries at once.

use super::fleet::Fleet;

/// Steps that few requests can pass: the machine has two processors for everything.
const QUICK: &str = "{interval: 2s, threshold: 2, minRequests: 2, stepWeights: [50], metrics: [{name: request-success-rate, thresholdRange: {min: 99}}]}";

#[tokio::test(flavor = "multi_thread")]
async fn fifty_canaries_roll_out_at_once() {
    let fleet = Fleet::set("fifty", 50, QUICK).await;
    let traffic: Vec<_> = fleet.members().map(|member| (fleet.load(&member, 2.0).start(), member.bad)).collect();
    fleet.release();
    fleet.ended().await;
    fleet.rested().await;
    for (traffic, bad) in traffic {
        let tally = traffic.finish().await;
        let served = tally.of("v1").ok > 0 && (bad || tally.of("v2").ok > 0);
        // Two processors that start a hundred pods keep some requests waiting for longer than a client does: no answer is an
        // error of Weir's only if a gateway or a revision gave one.
        let errors = tally.totals().1 - tally.of("timeout").failed;
        assert!(served && (bad || errors == 0), "bad: {bad}: {:?}", tally.summary());
    }
    fleet.strike();
}
