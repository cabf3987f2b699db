//! What bad revisions cost, in simulation: the numbers that Weir promises.

use std::sync::atomic::{AtomicU64, Ordering};

use weir_engine::{Bounds, Check, Plan, Source, Span, Step};
use weir_lab::{Behaviour, End, Fidelity, Latency, Onset, Played, Scenario, Summary, play};
use weir_wire::Weight;

pub(crate) fn plan(weights: &[u32], seconds: u64) -> Plan {
    Plan {
        steps: weights.iter().map(|weight| Step::weight(Weight::new(*weight).unwrap(), false)).collect(),
        interval: Span::seconds(seconds),
        threshold: 5,
        checks: Vec::new(),
        progress_deadline: Span::seconds(600),
        ..Plan::example()
    }
}

fn check(name: &str, source: Source, bounds: Bounds) -> Check {
    Check { name: name.into(), source, bounds }
}

/// One gateway of two workers; half of the answers take more than 20 ms.
pub(crate) fn scenario(plan: Plan, rps: f64, primary: f64, canary: f64) -> Scenario {
    let behaviour = |errors| Behaviour { errors, client_errors: 0.0, latency: Latency { median: 20.0, p99: 80.0 } };
    Scenario {
        plan,
        rps,
        primary: behaviour(primary),
        canary: behaviour(canary),
        onset: Onset::FirstRequest,
        gateways: 1,
        workers: 2,
        matching: 0.1,
        fidelity: Fidelity::Sums,
    }
}

/// Plays rollouts on two threads.
pub(crate) fn play_all(scenario: &Scenario, runs: u64) -> Vec<Played> {
    let next = AtomicU64::new(0);
    let work = || {
        let seeds = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed)).take_while(|seed| *seed < runs);
        seeds.map(|seed| play(scenario, 7_000_000 + seed)).collect::<Vec<_>>()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

/// Every one of these is taken back by evidence, and costs at most so many failed requests.
fn assert_costs_at_most(failures: u64, scenario: &Scenario, runs: u64) {
    for played in play_all(scenario, runs) {
        assert!(matches!(&played.end, End::RolledBack(_)), "{played:?}");
        assert!(played.canary_failed <= failures, "{failures} were promised: {played:?}");
    }
}

#[test]
fn a_canary_that_fails_everything_from_its_first_request_costs_at_most_five() {
    for fidelity in [Fidelity::Sums, Fidelity::Requests] {
        let scenario = Scenario { fidelity, ..scenario(plan(&[1000, 3000, 5000], 30), 100.0, 0.0, 1.0) };
        assert_costs_at_most(5, &scenario, 30);
    }
}

#[test]
fn an_ab_test_without_bounds_whose_canary_fails_everything_costs_at_most_five() {
    for fidelity in [Fidelity::Sums, Fidelity::Requests] {
        let conditions = serde_json::from_str(r#"[{"headers": {"x-simulated-match": {"exact": "1"}}}]"#).unwrap();
        let ab = Plan { steps: Step::ab_test(10), conditions, ..plan(&[], 30) };
        let scenario = Scenario { fidelity, matching: 0.5, ..scenario(ab, 10.0, 0.0, 1.0) };
        assert_costs_at_most(5, &scenario, 30);
    }
}

#[test]
fn a_canary_that_fails_everything_costs_at_most_limit_and_admission_at_any_rate() {
    for fidelity in [Fidelity::Sums, Fidelity::Requests] {
        let scenario = Scenario { fidelity, ..scenario(plan(&[1000], 5), 5000.0, 0.0, 1.0) };
        // Two workers let out ten each; the limit is 3.
        assert_costs_at_most(23, &scenario, 10);
    }
}

#[test]
fn a_canary_that_goes_bad_at_thirty_percent_after_healthy_steps_costs_at_most_ten() {
    let onset = Onset::Weight(Weight::new(3000).unwrap());
    for (fidelity, runs) in [(Fidelity::Sums, 30), (Fidelity::Requests, 5)] {
        let scenario = Scenario { fidelity, onset, ..scenario(plan(&[500, 1000, 3000], 30), 100.0, 0.0, 1.0) };
        assert_costs_at_most(10, &scenario, runs);
    }
}

#[test]
fn a_canary_that_goes_bad_in_the_middle_of_a_step_is_caught() {
    let onset = Onset::After(Span::seconds(45));
    let scenario = Scenario { onset, ..scenario(plan(&[1000, 3000], 30), 100.0, 0.001, 1.0) };
    assert_costs_at_most(15, &scenario, 20);
}

#[test]
fn sums_and_single_requests_forecast_the_same() {
    let scenario = scenario(plan(&[1000, 3000, 5000], 20), 100.0, 0.01, 0.06);
    let [sums, requests] = [Fidelity::Sums, Fidelity::Requests].map(|fidelity| {
        let summary = Summary::of(&play_all(&Scenario { fidelity, ..scenario.clone() }, 60));
        assert!(summary.rolled_back.rollouts >= 50, "{summary:?}");
        summary.rolled_back
    });
    let apart = (sums.canary_failures.median - requests.canary_failures.median).abs();
    assert!(apart <= 0.35 * requests.canary_failures.median.max(8.0), "{sums:?} {requests:?}");
}

#[test]
fn a_slow_canary_is_caught_by_its_latency() {
    let mut slow = plan(&[1000, 3000, 5000], 30);
    slow.checks = vec![check("request-duration", Source::Duration, Bounds { min: None, max: Some(100.0) })];
    let mut scenario = scenario(slow, 100.0, 0.0, 0.0);
    scenario.canary.latency = Latency { median: 60.0, p99: 400.0 };
    for played in play_all(&scenario, 10) {
        assert!(matches!(&played.end, End::RolledBack(_)), "{played:?}");
    }
    scenario.canary.latency = scenario.primary.latency;
    assert!(play_all(&scenario, 10).iter().all(|played| played.end == End::Promoted));
}

#[test]
fn the_same_seed_gives_the_same_rollout() {
    for fidelity in [Fidelity::Sums, Fidelity::Requests] {
        let scenario = Scenario { fidelity, gateways: 2, ..scenario(plan(&[1000, 3000], 5), 100.0, 0.01, 0.03) };
        assert_eq!(play(&scenario, 11), play(&scenario, 11));
    }
}
