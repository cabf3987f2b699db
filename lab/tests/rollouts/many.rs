//! Releases through many processes, the callers of a service inside of the mesh: what bad ones cost, and what waiting costs good ones.

use weir_lab::{End, Fidelity, Onset, Scenario, Summary};
use weir_wire::Weight;

use super::forecasts::{plan, play_all, scenario};

/// The same through so many callers.
fn through(callers: u32, scenario: &Scenario) -> Scenario {
    Scenario { gateways: callers, workers: 1, ..scenario.clone() }
}

/// Plays a bad release; returns how many failed requests the worst and the middle one cost.
fn harm(callers: u32, scenario: &Scenario, runs: u64) -> (f64, f64) {
    let summary = Summary::of(&play_all(&through(callers, scenario), runs));
    assert_eq!(summary.rolled_back.rollouts, runs, "{:?}", summary.ends);
    let failures = summary.rolled_back.canary_failures;
    println!("{callers} callers at {}/s: {failures:?}", scenario.rps);
    (failures.max, failures.median)
}

#[test]
fn a_canary_that_fails_everything_costs_each_caller_one_request_at_most_and_all_of_them_a_few_more() {
    for (callers, runs) in [(2, 20), (10, 20), (100, 10), (1000, 2)] {
        let (most, _) = harm(callers, &scenario(plan(&[1000, 3000], 30), 100.0, 0.0, 1.0), runs);
        assert!(most <= f64::from(callers) + 4.0 && most <= 25.0, "{callers} callers: {most}");
        // At a hundred times as many requests what is on its way comes to it, and each has let out its one before anybody could look.
        let (most, _) = harm(callers, &scenario(plan(&[1000, 3000], 30), 10_000.0, 0.0, 1.0), runs.min(5));
        assert!(most <= f64::from(callers) * 11.0, "{callers} callers: {most}");
    }
    let requests = Scenario { fidelity: Fidelity::Requests, ..scenario(plan(&[1000], 30), 100.0, 0.0, 1.0) };
    let (most, _) = harm(10, &requests, 5);
    assert!(most <= 14.0, "{most}");
}

#[test]
fn a_canary_that_goes_bad_at_thirty_percent_costs_each_caller_one_request_at_most_and_all_of_them_a_few_more() {
    let onset = Onset::Weight(Weight::new(3000).unwrap());
    for (callers, runs) in [(10, 10), (100, 10), (1000, 2)] {
        let bad = Scenario { onset, ..scenario(plan(&[500, 1000, 3000], 30), 100.0, 0.0, 1.0) };
        let (most, _) = harm(callers, &bad, runs);
        assert!(most <= f64::from(callers) + 10.0 && most <= 60.0, "{callers} callers: {most}");
    }
}

/// Asserts that a good release that fails as its primary does takes at most a tenth longer than through one gateway, and that its canary
/// gets at least nine tenths of the requests.
fn assert_no_slower(rps: f64, interval: u64, counts: &[u32], runs: u64) {
    let good = scenario(plan(&[1000, 3000, 5000], interval), rps, 0.005, 0.005);
    let figures = |callers| {
        let summary = Summary::of(&play_all(&through(callers, &good), runs));
        assert!(summary.ends.get(&End::Promoted) >= Some(&(runs * 9 / 10)), "{callers}: {:?}", summary.ends);
        (summary.promoted.minutes.median, summary.promoted.canary_requests.median)
    };
    let (alone, requests) = figures(1);
    for callers in counts {
        let (minutes, of_canary) = figures(*callers);
        println!(
            "{callers} callers at {rps}/s: {:.3} of the time, {:.3} of the requests",
            minutes / alone,
            of_canary / requests
        );
        assert!(minutes <= 1.1 * alone, "{callers} callers: {minutes} minutes instead of {alone}");
        assert!(of_canary >= 0.9 * requests, "{callers} callers: {of_canary} requests instead of {requests}");
    }
}

#[test]
fn a_good_release_through_many_callers_is_no_slower_than_through_one_gateway() {
    assert_no_slower(100.0, 30, &[2, 10, 100], 10);
    assert_no_slower(1000.0, 30, &[2, 10, 300], 5);
    assert_no_slower(1000.0, 5, &[10], 10);
}

#[test]
fn equal_revisions_behind_many_callers_are_taken_back_as_seldom_as_promised() {
    for (callers, runs) in [(10, 200), (300, 5)] {
        let good = scenario(plan(&[500, 1000, 300, 2000, 2000, 5000], 2), 800.0, 0.02, 0.02);
        let summary = Summary::of(&play_all(&through(callers, &good), runs));
        let [taken_back, runs] = [summary.by_evidence(), summary.runs];
        assert!(weir_lab::lower_bound(taken_back, runs, 0.99) <= 0.01, "{callers}: {:?}", summary.ends);
    }
}
