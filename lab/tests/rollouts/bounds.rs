//! Declared bounds, judged with their uncertainty: whole rollouts of the real engine, guards included.
//!
//! Requests are independent and end at once; both revisions are as good as each other unless said otherwise. The numbers of
//! `docs/evidence.md` come from longer runs of the same: `weir simulate FILE --runs 25000`.

use weir_engine::{Bounds, Check, Plan, Source};
use weir_lab::{Behaviour, End, Fidelity, Latency, Played, Scenario, Summary, lower_bound};

use super::forecasts::{plan, play_all, scenario};

/// Steps of 10, 30 and 50 % for 10 s each, and a bound on the success rate in percent.
fn bounded(min: f64) -> Plan {
    let bounds = Bounds { min: Some(min), max: None };
    let check = Check { name: "request-success-rate".into(), source: Source::SuccessRate, bounds };
    Plan { checks: vec![check], threshold: 1, ..plan(&[1000, 3000, 5000], 10) }
}

/// Both revisions fail the same share of their requests.
fn equal(min: f64, rps: f64, errors: f64) -> Scenario {
    scenario(bounded(min), rps, errors, errors)
}

fn promoted(played: &[Played]) -> usize {
    played.iter().filter(|rollout| rollout.end == End::Promoted).count()
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values[values.len() / 2]
}

#[test]
fn equal_revisions_inside_of_the_bound_are_never_taken_back_at_a_threshold_of_one() {
    for fidelity in [Fidelity::Sums, Fidelity::Requests] {
        let played = play_all(&Scenario { fidelity, ..equal(99.0, 100.0, 0.005) }, 20);
        assert_eq!(promoted(&played), 20, "{:?}", Summary::of(&played).ends);
    }
}

#[test]
fn a_canary_that_fails_five_percent_at_ten_percent_costs_ten_failed_requests() {
    // Request by request through the filter, beside a primary that fails half of what the bound allows.
    let scenario = scenario(Plan { threshold: 10, ..bounded(99.0) }, 100.0, 0.005, 0.05);
    let played = play_all(&Scenario { fidelity: Fidelity::Requests, ..scenario }, 40);
    assert_eq!(promoted(&played), 0);
    let failed = median(played.iter().map(|rollout| rollout.canary_failed).collect());
    assert!(failed <= 10, "half of the rollouts cost {failed} failed requests and more");
}

#[test]
fn revisions_at_the_bound_or_inside_are_taken_back_as_seldom_as_promised_for_any_cause() {
    let (mut taken_back, mut runs) = (0, 0);
    for (min, rps, share, count) in [
        (90.0, 100.0, 1.0, 15),
        (99.0, 10.0, 1.0, 15),
        (99.0, 100.0, 1.0, 20),
        (99.0, 100.0, 0.5, 60),
        (99.9, 100.0, 1.0, 15),
        (99.0, 1000.0, 0.5, 20),
    ] {
        let played = play_all(&equal(min, rps, (1.0 - min / 100.0) * share), count);
        let back = count - promoted(&played) as u64;
        assert!(lower_bound(back, count, 0.99) <= 0.01, "min {min} at {rps}/s: {:?}", Summary::of(&played).ends);
        (taken_back, runs) = (taken_back + back, runs + count);
    }
    let least = lower_bound(taken_back, runs, 0.99);
    assert!(least <= 0.01, "{taken_back} of {runs} are more than one in a hundred");
}

#[test]
fn a_canary_at_twice_the_bound_is_taken_back_and_one_at_half_of_it_promoted() {
    let good = play_all(&equal(99.0, 100.0, 0.005), 60);
    assert!(promoted(&good) >= 59, "{:?}", Summary::of(&good).ends);
    let bad = play_all(&equal(99.0, 100.0, 0.02), 60);
    assert!(promoted(&bad) <= 2, "{:?}", Summary::of(&bad).ends);
    let failures = median(bad.iter().map(|rollout| rollout.canary_failed).collect());
    assert!((33..=43).contains(&failures), "a verdict took {failures} failures, and 38 are what the tests need");
}

#[test]
fn a_share_of_slow_requests_is_judged_as_a_share_and_not_by_an_interpolated_quantile() {
    let bounds = Bounds { min: None, max: Some(100.0) };
    let check = Check { name: "request-duration".into(), source: Source::Duration, bounds };
    let with = |p99: f64| {
        let latency = Latency { median: 20.0, p99 };
        let behaviour = Behaviour { errors: 0.0, client_errors: 0.0, latency };
        let plan = Plan { checks: vec![check.clone()], ..bounded(99.0) };
        Scenario { primary: behaviour, canary: behaviour, ..scenario(plan, 100.0, 0.0, 0.0) }
    };
    // 0.5 % of the answers take more than 100 ms, then 3 %.
    let inside = play_all(&with(82.5), 30);
    assert!(promoted(&inside) >= 29, "{:?}", Summary::of(&inside).ends);
    let outside = play_all(&with(154.0), 15);
    assert!(promoted(&outside) <= 1, "{:?}", Summary::of(&outside).ends);
}

#[test]
fn a_release_that_answers_404_to_everything_is_taken_back_within_few_requests() {
    for fidelity in [Fidelity::Sums, Fidelity::Requests] {
        let mut scenario = Scenario { fidelity, ..scenario(bounded(99.0), 100.0, 0.0, 0.0) };
        (scenario.primary.client_errors, scenario.canary.client_errors) = (0.02, 1.0);
        for played in play_all(&scenario, 20) {
            assert_eq!(played.end, End::RolledBack("EvidenceBad".into()));
            assert!(played.canary_requests <= 60, "{played:?}");
        }
    }
}

#[test]
fn equal_shares_of_4xx_are_taken_back_as_seldom_as_promised() {
    let mut scenario = scenario(bounded(99.0), 100.0, 0.001, 0.001);
    for share in [0.02, 0.3] {
        (scenario.primary.client_errors, scenario.canary.client_errors) = (share, share);
        let played = play_all(&scenario, 60);
        let back = 60 - promoted(&played) as u64;
        assert!(lower_bound(back, 60, 0.99) <= 0.01, "{:?}", Summary::of(&played).ends);
    }
}
