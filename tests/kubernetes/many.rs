//! Very many Canaries at once.

use weir_demo::tally::GATEWAY;

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
    let (mut requests, mut unavailable) = (0, 0);
    for (traffic, bad) in traffic {
        let tally = traffic.finish().await;
        requests += tally.totals().0;
        unavailable += tally.of(GATEWAY).failed;
        let served = tally.of("v1").ok > 0 && (bad || tally.of("v2").ok > 0);
        // Two processors that start a hundred pods keep requests waiting: some for longer than a client does, and some in a pod
        // that is replaced and was to be left alone 3 s before its end (the gateway's 503, `UC`: seven were the most of some
        // thousand). Neither is about a revision, and more than one in a hundred of the latter would be Weir's.
        let errors = tally.of("v1").failed + if bad { 0 } else { tally.of("v2").failed };
        assert!(served && errors == 0, "bad: {bad}: {:?}", tally.summary());
    }
    assert!(unavailable * 100 <= requests, "the gateway had no answer for {unavailable} of {requests}");
    fleet.strike();
}
