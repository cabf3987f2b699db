//! Weights that split the requests which meet a condition, and leave everybody else's alone.

use weir_wire::Weight;

use super::strategies::{answer, hook};
use super::world::*;
use crate::*;

#[test]
fn weights_of_matching_requests_leave_everybody_else_on_the_primary() {
    let steps = Step::canary(weight(40.0), weight(80.0), false).into_iter().map(Step::of_matched).collect();
    let mut world = World::initialized(Plan { steps, promotion_step: Some(weight(40.0)), ..plan() });
    world.requests = 100;
    world.target = revision("v2");
    let mut seen = Vec::new();
    world.until(300, |world| {
        let traffic = &world.state.traffic;
        assert!(!traffic.matching && (traffic.only_matched || traffic.weight == Weight::ZERO), "{traffic:?}");
        if seen.last() != Some(&traffic.weight) {
            seen.push(traffic.weight);
        }
        world.phase() == Phase::Succeeded
    });
    assert_eq!(seen, [0.0, 40.0, 80.0, 40.0, 0.0].map(weight));
    // A tenth of the requests match, and half of them at most were the canary's.
    assert!(world.served[1] * 10 < world.served[0], "{:?}", world.served);
}

#[test]
fn a_bad_canary_for_matching_requests_is_found_by_the_comparison_among_them() {
    let steps = vec![Step::weight(weight(30.0), false).of_matched()];
    let mut world = World::initialized(Plan { steps, checks: Vec::new(), ..plan() });
    (world.requests, world.canary_fails) = (100, 100);
    world.target = revision("v2");
    world.until(60, |world| world.phase() == Phase::Failed);
    assert!(
        world.state.ended.as_ref().unwrap().reason == "EvidenceBad" && world.failed_users <= 20,
        "{}",
        world.failed_users
    );
}

#[test]
fn a_module_that_cannot_split_matching_requests_alone_is_named_before_the_first_weight() {
    let steps = vec![Step::weight(weight(30.0), false).of_matched()];
    let mut world = World::initialized(Plan { steps, ..plan() });
    world.splits_matched = false;
    world.target = revision("v2");
    world.run_for(30);
    assert_eq!((world.code(), world.state.traffic.weight), ("ModuleTooOld", Weight::ZERO));
    assert!(world.told("Halt shop.prod advancement the filter in gateway gateway-0 is too old"));
    world.splits_matched = true;
    world.requests = 100;
    world.until(90, |world| world.phase() == Phase::Succeeded);
}

#[test]
fn an_edit_from_matching_requests_to_everybodys_is_an_increase_and_one_back_takes_requests_away_at_once() {
    let steps = vec![Step::weight(weight(30.0), false).of_matched()];
    let webhooks = vec![hook("more", WebhookKind::ConfirmTrafficIncrease)];
    let mut world = World::initialized(Plan { steps: steps.clone(), webhooks, interval: Span::seconds(600), ..plan() });
    world.target = revision("v2");
    world.until(30, |world| world.code() == "WaitingForGate");
    answer(&mut world, "more", CheckResult::Passed);
    world.until(30, |world| world.state.traffic.weight == weight(30.0));
    world.plan.steps = vec![Step::weight(weight(30.0), false)];
    world.run_for(10);
    assert!(world.code() == "WaitingForGate" && world.state.traffic.only_matched, "{}", world.code());
    answer(&mut world, "more", CheckResult::Passed);
    world.until(10, |world| !world.state.traffic.only_matched);
    world.plan.steps = steps;
    let decision = world.step();
    assert!(world.state.traffic.only_matched && matches!(decision.protect[..], [Action::Traffic(_)]), "{decision:?}");
}
