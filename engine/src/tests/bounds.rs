//! Bounds judged with their uncertainty: what passes, what is taken back, and what holds a step in between.

use super::world::*;
use crate::evidence::{Terms, Test};
use crate::*;

/// Twice as many failures as the bound allows, on both arms, and evidence that never suffices: a step that stays undecided.
fn undecided() -> World {
    let mut world = World::initialized(Plan { alpha: 1e-300, interval: Span::seconds(60), ..plan() });
    (world.canary_fails, world.primary_fails) = (2, 2);
    world.target = revision("v2");
    world.until(90, |world| world.code() == "Undecided");
    world
}

fn run(world: &World) -> &Run {
    world.state.run.as_ref().unwrap()
}

fn said(world: &World) -> String {
    world.last.as_ref().unwrap().reason.to_string()
}

#[test]
fn a_bound_that_is_not_met_and_not_shown_holds_the_step_and_is_no_failed_check() {
    let mut world = undecided();
    assert_eq!((run(&world).undecided, run(&world).failed_checks), (1, 0));
    let text = said(&world);
    assert!(text.starts_with("success rate 98.0") && text.contains("% < 99% ("), "{text}");
    assert!(text.contains("not shown: inside after ") && text.contains(" more requests without a failure, "), "{text}");
    assert!(text.ends_with("; advances after 9 more checks"), "{text}");
    let opened = run(&world).window;
    world.run_for(200);
    assert_eq!((world.state.traffic.weight, run(&world).window), (weight(10.0), opened), "its window goes on");
    assert_eq!((run(&world).undecided, run(&world).failed_checks, world.code()), (4, 0, "Undecided"));
    let told = world.events.iter().filter(|text| text.starts_with("Halt shop.prod advancement success rate 98.0"));
    assert_eq!(told.count(), 1, "people are told once: {:?}", world.events);
    world.canary_fails = 0;
    world.until(300, |world| world.state.traffic.weight == weight(20.0));
    assert_eq!((run(&world).undecided, run(&world).failed_checks), (0, 0));
    assert_eq!(run(&world).window, world.state.traffic.epoch, "what passed is not judged again");
}

#[test]
fn a_step_that_stays_undecided_advances_at_its_limit_with_a_warning_and_has_to_be_made_good_in_the_next() {
    let mut world = undecided();
    let opened = run(&world).window;
    world.until(700, |world| world.state.traffic.weight == weight(20.0));
    let warning = world.events.iter().find(|text| text.starts_with("Advancing shop.prod though success rate 98.0"));
    assert!(warning.is_some_and(|text| text.contains("after 10 checks")), "{:?}", world.events);
    assert_eq!((run(&world).window, run(&world).undecided), (opened, 0), "the window goes on over the next step");
    world.run_for(70);
    assert_eq!(world.code(), "Undecided");
    world.until(700, |world| world.state.traffic.weight == weight(30.0));
    world.until(700, |world| world.phase() == Phase::Succeeded);
    assert_eq!(world.events.iter().filter(|text| text.starts_with("Advancing shop.prod though")).count(), 3);
}

#[test]
fn webhooks_are_asked_anew_in_an_undecided_step_and_a_no_leaves_its_window() {
    let mut world = undecided();
    world.plan.webhooks = vec![Webhook { name: "load".into(), kind: WebhookKind::Rollout }];
    let (mut keys, opened) = (Vec::new(), run(&world).window);
    for answer in [CheckResult::Passed, CheckResult::Passed, CheckResult::Failed("503".into()), CheckResult::Passed] {
        let checks = run(&world).checks;
        world.until(70, |world| world.last.as_ref().unwrap().check_requests.iter().any(|ask| ask.name == "load"));
        let key = world.last.as_ref().unwrap().check_requests[0].key.clone();
        keys.push(key.clone());
        world.check_results.insert(key, answer);
        world.until(10, |world| run(world).checks > checks);
    }
    keys.dedup();
    assert_eq!(keys.len(), 4, "{keys:?}");
    assert_eq!((run(&world).window, run(&world).failed_checks, run(&world).undecided), (opened, 1, 4));
}

#[test]
fn a_gate_that_is_closed_keeps_what_passed_whatever_the_next_intervals_say() {
    let webhooks = vec![Webhook { name: "ship".into(), kind: WebhookKind::ConfirmPromotion }];
    let plan = Plan { webhooks, alpha: 1e-30, steps: Step::canary(weight(10.0), weight(10.0), false), ..plan() };
    let mut world = World::initialized(plan);
    world.target = revision("v2");
    world.until(60, |world| world.phase() == Phase::WaitingPromotion);
    (world.canary_fails, world.primary_fails) = (2, 2);
    world.run_for(600);
    assert_eq!((world.phase(), world.code()), (Phase::WaitingPromotion, "WaitingForGate"));
    assert!(run(&world).check_passed && run(&world).failed_checks == 0);
}

#[test]
fn what_is_shown_to_be_outside_is_taken_back_with_both_arms_numbers_whatever_the_threshold() {
    let mut world = World::initialized(Plan { threshold: 100, ..plan() });
    (world.canary_fails, world.primary_fails) = (5, 5);
    world.target = revision("v2");
    world.until(300, |world| world.phase() == Phase::Failed);
    let ended = world.state.ended.clone().unwrap();
    assert_eq!((ended.reason.as_str(), run(&world).failed_checks), ("EvidenceBad", 0));
    let text = ended.text;
    assert!(text.starts_with("success rate 9") && text.contains("% < 99% is shown: "), "{text}");
    assert!(text.contains(", primary ") && text.contains("; evidence ") && text.ends_with("(needed 400)"), "{text}");
    assert!(world.told(&format!("Rolling back shop.prod {text}")));
}

#[test]
fn a_primary_outside_of_the_bound_is_told_before_the_first_weight() {
    let mut world = World::new(Plan { observe_at_rest: true, ..plan() });
    world.primary_fails = 3;
    world.until(60, |world| world.phase() == Phase::Initialized);
    world.target = revision("v2");
    world.until(60, |world| world.state.traffic.weight == weight(10.0));
    let place = |text: &str| world.events.iter().position(|event| event.contains(text));
    let warned =
        place("the primary itself is outside of its bound, and so an equal canary is taken back: success rate 97");
    assert!(warned.is_some() && warned < place("Advance shop.prod canary weight 10"), "{:?}", world.events);
    let mut good = World::initialized(plan());
    good.target = revision("v2");
    good.until(60, |world| world.state.traffic.weight == weight(10.0));
    assert!(!good.told("the primary itself"));
}

#[test]
fn one_failure_breaks_a_bound_of_a_hundred_percent_and_counts() {
    let bounds = Bounds { min: Some(100.0), max: None };
    let check = Check { name: "request-success-rate".into(), source: Source::SuccessRate, bounds };
    let mut world = World::initialized(Plan { checks: vec![check], threshold: 1, alpha: 1e-30, ..plan() });
    (world.canary_fails, world.primary_fails) = (2, 2);
    world.target = revision("v2");
    world.until(60, |world| world.phase() == Phase::Failed);
    assert_eq!(world.state.ended.as_ref().unwrap().reason, "ChecksFailed");
    assert!(world.told("Halt shop.prod advancement success rate 9"));
}

/// An A/B test with a bound of 500 ms on the 99th percentile: nothing to compare, the canary's own share is all there is.
fn with_duration() -> World {
    let bounds = Bounds { min: None, max: Some(500.0) };
    let check = Check { name: "request-duration".into(), source: Source::Duration, bounds };
    World::initialized(Plan { steps: Step::ab_test(3), checks: vec![check], interval: Span::seconds(20), ..plan() })
}

#[test]
fn a_duration_is_judged_by_the_share_of_slow_requests_once_the_canary_is_warm() {
    let mut world = with_duration();
    world.target = revision("v2");
    world.until(120, |world| world.phase() == Phase::Succeeded);

    let mut world = with_duration();
    world.plan.interval = Span::seconds(3);
    world.target = revision("v2");
    world.until(30, |world| world.code() == "Insufficient");
    assert!(said(&world).contains("none since the canary has been ready for 10s"), "{}", said(&world));
    world.until(120, |world| world.phase() == Phase::Succeeded);

    let mut world = with_duration();
    world.canary_slow = 5;
    world.target = revision("v2");
    world.until(60, |world| world.code() == "Undecided");
    assert!(
        said(&world).contains("% of ") && said(&world).contains(" requests above 500ms > 1% ("),
        "{}",
        said(&world)
    );
    assert!(said(&world).contains("without a slow one, shown after "), "{}", said(&world));
    world.until(300, |world| world.phase() == Phase::Failed);
    let ended = world.state.ended.clone().unwrap();
    assert!(ended.reason == "EvidenceBad" && ended.text.contains("requests above 500ms > 1% is shown: "), "{ended:?}");
}

#[test]
fn requests_that_never_end_are_slow_once_they_are_slower_than_the_bound_for_sure() {
    let mut world = with_duration();
    world.plan.min_requests = 0;
    world.canary_hangs = true;
    world.target = revision("v2");
    world.until(120, |world| world.phase() == Phase::Failed);
    let ended = world.state.ended.clone().unwrap();
    assert_eq!(ended.reason, "EvidenceBad", "{ended:?}");

    // A gateway that is gone takes what was under way with it: nobody will hear how it ended.
    let mut world = with_duration();
    world.target = revision("v2");
    world.until(60, |world| world.state.traffic.matching);
    world.canary_hangs = true;
    world.run_for(1);
    world.canary_hangs = false;
    let pod = world.gateways[0].clone();
    world.gateways[0] = Pod { traffic: pod.traffic, ..Pod::new(&pod.name, 8) };
    world.until(120, |world| world.phase() == Phase::Succeeded);
}

#[test]
fn a_release_that_answers_404_to_everything_is_taken_back_within_few_requests() {
    let mut world = World::initialized(plan());
    world.not_found = [0, 100];
    world.target = revision("v2");
    world.until(30, |world| world.phase() == Phase::Failed);
    let ended = world.state.ended.clone().unwrap();
    assert!(ended.reason == "EvidenceBad" && ended.canary[0] <= 20, "{ended:?}");
    assert!(
        ended
            .text
            .contains("the evidence of client_error is a verdict: answers that the client is at fault (4xx): canary ")
    );
}

#[test]
fn equal_shares_of_4xx_are_no_evidence_and_a_module_that_does_not_count_them_changes_nothing() {
    for not_found in [[30, 30], [100, 100], [40, 10], [0, 0]] {
        let mut world = World::initialized(plan());
        world.not_found = not_found;
        world.target = revision("v2");
        world.until(120, |world| world.phase() == Phase::Succeeded);
    }
    let mut world = World::rolling(plan(), Phase::Progressing, 20.0);
    drop(world.step());
    let assessment = run(&world).evidence.assess(&world.state.counters, &world.plan);
    assert!(assessment.finding(Test::ClientErrors).unwrap().log_e.abs() < 1e-12);
}

#[test]
fn a_run_that_an_older_weir_began_ends_by_the_shares_it_began_with() {
    let mut world = World::rolling(plan(), Phase::Progressing, 20.0);
    let mut stored = serde_json::to_value(&world.state).unwrap();
    let run_of = |state: &mut serde_json::Value| state["run"].as_object_mut().unwrap().clone();
    let mut older = run_of(&mut stored);
    for field in ["window_retired_warm", "window_kept", "undecided"] {
        assert!(older.remove(field).is_some(), "{field}");
    }
    let proof = older["proof"].as_object_mut().unwrap();
    for block in proof["blocks"].as_object_mut().unwrap().values_mut() {
        assert!(block.as_object_mut().unwrap().remove("bound").is_some());
        block.as_object_mut().unwrap().remove("ended");
    }
    let tests = proof["tests"].as_object_mut().unwrap();
    for field in ["slow", "clientErrors"] {
        assert!(tests.remove(field).is_some() && tests["terms"].as_object_mut().unwrap().remove(field).is_some());
    }
    tests["absolute"]["logMass"].as_array_mut().unwrap().truncate(5);
    stored["run"] = older.into();
    world.state = serde_json::from_value(stored).unwrap();
    let weights = |world: &World| {
        let findings = run(world).evidence.assess(&world.state.counters, &world.plan).findings;
        findings.map(|finding| (finding.weight * 100.0).round())
    };
    assert_eq!(weights(&world), [55.0, 20.0, 15.0, 0.0, 10.0, 0.0, 0.0]);
    let before = run(&world).evidence.assess(&world.state.counters, &world.plan).log_e;
    world.until(60, |world| world.state.traffic.weight == weight(30.0));
    let after = run(&world).evidence.assess(&world.state.counters, &world.plan).log_e;
    assert!(after <= before + 0.1, "no evidence comes from a larger grid: {before} {after}");
    world.until(60, |world| world.phase() == Phase::Succeeded);
    assert_eq!(Terms::new(true, None).weight(Test::ClientErrors), 0.05);
}
