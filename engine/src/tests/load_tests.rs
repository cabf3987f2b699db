//! Load tests: what a gateway sees of them, what is judged by them, and what is said where none of them is seen.

use weir_wire::Weight;
use weir_wire::names::{Arm, Cohort};

use super::strategies::{answer, hook};
use super::world::*;
use crate::evidence::Test;
use crate::*;

/// Blue/green whose load test calls the canary by a name that the gateway knows.
fn blue_green() -> Plan {
    let steps = Step::blue_green(2).into_iter().map(Step::with_load_tests).collect();
    let webhooks = vec![hook("load", WebhookKind::Rollout)];
    Plan { steps, webhooks, direct: vec!["shop-canary.prod".into()], ..plan() }
}

/// Runs with a load test that is content whenever it is asked.
fn until(world: &mut World, seconds: u64, mut done: impl FnMut(&World) -> bool) {
    for _ in 0..seconds * 10 {
        if done(world) {
            return;
        }
        drop(world.step());
        answer(world, "load", CheckResult::Passed);
    }
    panic!("{:?} {}: {:#?}", world.phase(), world.code(), world.events);
}

#[test]
fn an_idle_canary_is_judged_by_its_load_test_before_it_gets_any_traffic() {
    let mut world = World::initialized(blue_green());
    world.load = 10;
    world.target = revision("v2");
    until(&mut world, 10, |world| world.state.traffic.direct);
    assert!(
        !world.state.traffic.reaches_users() && !world.state.traffic.limits.is_empty(),
        "the guard watches them too"
    );
    until(&mut world, 120, |world| world.phase() == Phase::Succeeded);
    assert_eq!(world.weights, [0.0, 100.0, 0.0].map(weight));
    assert!(!world.state.traffic.direct, "over, and so are its load tests");
}

#[test]
fn an_idle_canary_that_fails_its_load_test_is_taken_back_and_no_user_has_met_it() {
    for fails in [5, 100] {
        let mut world = World::initialized(blue_green());
        world.load = 10;
        world.canary_fails = fails;
        world.target = revision("v2");
        until(&mut world, 120, |world| world.phase() == Phase::Failed);
        assert_eq!(world.state.ended.as_ref().unwrap().reason, "EvidenceBad", "{fails} %");
        assert_eq!((world.weights.as_slice(), world.failed_users), (&[Weight::ZERO][..], 0));
        assert!(!world.state.traffic.direct);
    }
}

#[test]
fn an_idle_canary_whose_load_test_no_gateway_sees_is_told_with_the_host_to_call_and_ends_at_the_deadline() {
    let mut world = World::initialized(blue_green());
    world.target = revision("v2");
    // Users' requests are no load test: they all go to the primary.
    until(&mut world, 30, |world| world.code() == "NoSyntheticLoad");
    let said = world.last.as_ref().unwrap().reason.to_string();
    assert!(said.contains("with the host shop-canary.prod (hey -host shop-canary.prod http://GATEWAY/)"), "{said}");
    until(&mut world, 90, |world| world.phase() == Phase::Failed);
    assert_eq!(world.state.ended.as_ref().unwrap().reason, "NoSyntheticLoad");
    assert_eq!(world.weights, [Weight::ZERO]);
}

#[test]
fn a_load_test_counts_for_the_bounds_and_the_least_number_of_requests_and_not_for_the_comparison() {
    let webhooks = vec![hook("load", WebhookKind::Rollout)];
    let steps = plan().steps.into_iter().map(Step::with_load_tests).collect();
    let plan = Plan { steps, webhooks, direct: vec!["shop-canary.prod".into()], ..plan() };
    let mut world = World::initialized(plan);
    (world.requests, world.load) = (0, 10);
    world.target = revision("v2");
    until(&mut world, 60, |world| world.state.traffic.weight == weight(20.0));
    let counted =
        world.gateways[0].slots.iter().map(|slot| slot.cell(Arm::Canary, Cohort::Direct).success).sum::<u64>();
    assert!(counted > 0);
    let run = world.state.run.as_ref().unwrap();
    let assessment = run.evidence.assess(&world.state.counters, &world.plan);
    assert!(assessment.finding(Test::Failures).unwrap().log_e.abs() < 1e-9, "one arm alone compares with nothing");
    assert!(assessment.finding(Test::Split).unwrap().log_e.abs() < 1e-9, "nobody has drawn them");
    until(&mut world, 120, |world| world.phase() == Phase::Succeeded);
}

#[test]
fn a_load_test_that_was_too_small_is_made_again_in_the_next_interval() {
    let webhooks = vec![hook("load", WebhookKind::Rollout)];
    let mut world = World::initialized(Plan { webhooks, ..plan() });
    (world.requests, world.target) = (0, revision("v2"));
    let mut asked = std::collections::BTreeSet::new();
    until(&mut world, 40, |world| {
        asked.extend(world.last.iter().flat_map(|last| &last.check_requests).map(|request| request.key.clone()));
        asked.len() > 3
    });
}

#[test]
fn a_load_test_that_has_only_begun_is_waited_for() {
    let webhooks = vec![hook("load", WebhookKind::Rollout)];
    let mut world = World::initialized(Plan { webhooks, ..plan() });
    (world.requests, world.target) = (0, revision("v2"));
    let made = |world: &World| world.state.run.as_ref().is_some_and(|run| run.load_made);
    until(&mut world, 20, |world| made(world) && world.code() == "Insufficient");
    world.requests = 10;
    until(&mut world, 60, |world| world.state.traffic.weight == weight(20.0));
    assert!(!world.told("no request was seen"), "{:#?}", world.events);
}

#[test]
fn requests_that_the_gateway_serves_and_the_filter_does_not_know_are_a_fault_of_the_split() {
    let webhooks = vec![hook("load", WebhookKind::Rollout)];
    let mut world = World::initialized(Plan { webhooks, ..plan() });
    (world.requests, world.target) = (0, revision("v2"));
    for _ in 0..1_000 {
        world.gateways[0].routed += 10;
        drop(world.step());
        answer(&mut world, "load", CheckResult::Passed);
    }
    let said = world.last.as_ref().unwrap().reason.to_string();
    assert!(said.contains("0 canary requests so far, though the gateways served "), "{said}");
    assert!(said.contains(" meanwhile: the split is at fault, not the traffic"), "{said}");
    assert_eq!((world.phase(), world.code()), (Phase::Progressing, "Insufficient"), "a load test is seen");
}

/// Blue/green inside of the mesh: whether a load test is seen is the tester's, by his sidecar.
fn blue_green_inside() -> Plan {
    let steps = Step::blue_green(2).into_iter().map(Step::with_load_tests_perhaps).collect();
    Plan { steps, ..blue_green() }
}

#[test]
fn inside_of_the_mesh_an_idle_canary_is_judged_by_a_load_test_that_a_sidecar_sees() {
    // One failure breaks a bound of 100 %, and is far from showing anything to the evidence.
    let mut plan = blue_green_inside();
    plan.checks[0].bounds.min = Some(100.0);
    for (fails, ends) in [(0, Phase::Succeeded), (1, Phase::Failed)] {
        let mut world = World::initialized(plan.clone());
        (world.load, world.canary_fails) = (10, fails);
        world.target = revision("v2");
        until(&mut world, 120, |world| world.phase() == ends);
        assert_eq!(world.weights.contains(&Weight::FULL), fails == 0, "{:?}", world.weights);
        assert!(
            !world.told("no sidecar has seen") && world.told("success rate 99") == (fails > 0),
            "{:#?}",
            world.events
        );
    }
}

#[test]
fn inside_of_the_mesh_an_idle_canary_whose_load_test_no_sidecar_sees_is_held_by_nothing_and_its_author_is_told_once() {
    for load in [0, 1] {
        let mut world = World::initialized(Plan { min_requests: 1000, ..blue_green_inside() });
        (world.load, world.requests) = (load, 200);
        world.target = revision("v2");
        until(&mut world, 120, |world| world.state.traffic.weight == Weight::FULL);
        let told = |text: &&String| text.contains("no sidecar has seen the 1000 requests to http://shop-canary.prod");
        assert_eq!(world.events.iter().filter(told).count(), 1, "{load}: {:#?}", world.events);
        until(&mut world, 120, |world| world.phase() == Phase::Succeeded);
    }
}

#[test]
fn a_module_that_does_not_know_the_canarys_own_name_holds_an_idle_canary_and_no_other() {
    let mut world = World::initialized(blue_green());
    world.load = 10;
    world.splits_matched = false;
    world.target = revision("v2");
    until(&mut world, 30, |world| world.code() == "ModuleTooOld");
    let said = world.last.as_ref().unwrap().reason.to_string();
    assert!(said.contains("too old to know load tests by the canary's own name"), "{said}");
    world.splits_matched = true;
    until(&mut world, 120, |world| world.phase() == Phase::Succeeded);

    let steps = plan().steps.into_iter().map(Step::with_load_tests).collect();
    let mut world = World::initialized(Plan { steps, direct: vec!["shop-canary".into()], ..plan() });
    world.splits_matched = false;
    world.target = revision("v2");
    world.until(120, |world| world.phase() == Phase::Succeeded);
}

#[test]
fn a_test_before_the_first_weight_meets_the_canary_and_not_the_primary() {
    let webhooks = vec![hook("conformance", WebhookKind::PreRollout)];
    let direct = vec!["shop-canary.prod".into()];
    let mut world = World::initialized(Plan { webhooks, direct, ..plan() });
    world.target = revision("v2");
    let asked = |world: &World| world.last.as_ref().is_some_and(|last| !last.check_requests.is_empty());
    for _ in 0..300 {
        drop(world.step());
        if asked(&world) {
            break;
        }
        assert_eq!(world.state.traffic.weight, Weight::ZERO);
    }
    assert!(asked(&world) && world.gateways[0].traffic.direct, "{}", world.code());
    answer(&mut world, "conformance", CheckResult::Passed);
    world.until(10, |world| world.state.traffic.weight == weight(10.0));
    assert!(!world.state.traffic.direct, "no rollout webhook makes load tests");
    world.until(120, |world| world.phase() == Phase::Succeeded);

    // Where nobody could lead them there, the test is made all the same.
    let webhooks = vec![hook("conformance", WebhookKind::PreRollout)];
    let mut world = World::initialized(Plan { webhooks, direct: vec!["shop-canary".into()], ..plan() });
    world.gateways.clear();
    world.target = revision("v2");
    world.until(30, |world| asked(world));
}
