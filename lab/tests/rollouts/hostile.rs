//! Hostile clients against good releases: whole rollouts, each request through the filter's own code.

use weir_engine::{Bounds, Check, Plan, Source};
use weir_lab::{End, Played, Scenario, Summary, play_against};

use super::forecasts::{plan, scenario};

/// Both revisions fail one request in a thousand, beside bounds on failures and on slow requests.
fn good() -> Scenario {
    let check = |name: &str, source, bounds| Check { name: name.into(), source, bounds };
    let checks = vec![
        check("request-success-rate", Source::SuccessRate, Bounds { min: Some(99.0), max: None }),
        check("request-duration", Source::Duration, Bounds { min: None, max: Some(500.0) }),
    ];
    scenario(Plan { checks, ..plan(&[500, 1000, 3000, 5000], 3) }, 80.0, 0.001, 0.001)
}

fn play_all(scenario: &Scenario, hostile: f64, runs: u64) -> Vec<Played> {
    let half = |parity: u64| (0..runs).filter(move |seed| seed % 2 == parity);
    let work = |parity| half(parity).map(|seed| play_against(scenario, hostile, 9_000_000 + seed)).collect::<Vec<_>>();
    std::thread::scope(|scope| {
        let threads = [0, 1].map(|parity| scope.spawn(move || work(parity)));
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn hostile_clients_at_a_fifth_of_the_traffic_take_none_of_a_hundred_good_releases_back() {
    let played = play_all(&good(), 0.2, 100);
    let summary = Summary::of(&played);
    assert_eq!(summary.ends.get(&End::Promoted), Some(&100), "{:?}", summary.ends);
}

#[test]
fn a_bad_release_is_found_among_hostile_clients_all_the_same() {
    let mut bad = good();
    bad.canary.errors = 0.2;
    let played = play_all(&bad, 0.2, 20);
    assert!(played.iter().all(|played| matches!(played.end, End::RolledBack(_))), "{:?}", Summary::of(&played).ends);
}

#[test]
fn requests_that_make_both_revisions_fail_are_no_verdict_of_the_comparison() {
    let mut failing = good();
    failing.plan.checks.clear();
    (failing.primary.errors, failing.canary.errors) = (0.1, 0.1);
    let played = play_all(&failing, 0.2, 40);
    assert_eq!(Summary::of(&played).by_evidence(), 0, "{:?}", Summary::of(&played).ends);
}
