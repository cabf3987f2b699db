//! Equally good revisions are taken back at most once in 1/α rollouts: 10,000 whole rollouts of the real engine, guards
//! included, with changing weights.
//!
//! A seed fails here when the one-sided 99 % lower bound of its share of false rollbacks exceeds α (statistics.md §12).

use weir_lab::{End, Fidelity, Scenario, Summary, lower_bound, upper_bound};

use super::forecasts::{plan, play_all, scenario};

/// Up and down again, two steps at some weights.
const WEIGHTS: [u32; 8] = [500, 1000, 300, 2000, 2000, 5000, 1000, 3000];

fn equal(errors: f64, gateways: u32) -> Scenario {
    Scenario { gateways, ..scenario(plan(&WEIGHTS, 2), 800.0, errors, errors) }
}

/// Asserts the promise, and prints what is known of the true share.
fn assert_promise_is_kept(what: &str, alpha: f64, summary: &Summary) {
    let (taken_back, runs) = (summary.by_evidence(), summary.runs);
    let [least, most] = [lower_bound, upper_bound].map(|bound| bound(taken_back, runs, 0.99));
    println!("{what}: {taken_back} of {runs} taken back; the true share is between {least:.5} and {most:.5}");
    assert!(least <= alpha, "{what}: {taken_back} of {runs} is more than {alpha}: {:?}", summary.ends);
    let promoted = summary.ends.get(&End::Promoted).copied().unwrap_or_default();
    assert_eq!(promoted + taken_back, runs, "{what}: {:?}", summary.ends);
}

fn prove(gateways: u32) {
    let mut all = Vec::new();
    for (errors, runs) in [(0.0, 500), (0.005, 2500), (0.05, 2000)] {
        let played = play_all(&equal(errors, gateways), runs);
        let what = format!("{gateways} gateways, {} % failed requests", errors * 100.0);
        assert_promise_is_kept(&what, 0.01, &Summary::of(&played));
        all.extend(played);
    }
    assert_promise_is_kept(&format!("{gateways} gateways"), 0.01, &Summary::of(&all));
}

#[test]
fn equal_revisions_behind_one_gateway_are_taken_back_as_seldom_as_promised() {
    prove(1);
}

#[test]
fn equal_revisions_behind_three_gateways_are_taken_back_as_seldom_as_promised() {
    prove(3);
}

#[test]
fn equal_revisions_are_taken_back_as_seldom_request_by_request_through_the_filter() {
    let scenario = Scenario { fidelity: Fidelity::Requests, rps: 200.0, ..equal(0.05, 1) };
    assert_promise_is_kept("request by request", 0.01, &Summary::of(&play_all(&scenario, 200)));
}
