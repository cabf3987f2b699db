//! What breaks, and what becomes of the traffic.

use weir_wire::Weight;

use super::world::*;
use crate::*;

#[test]
fn a_canary_that_fails_everything_is_taken_back_between_two_checks() {
    let mut world = World::initialized(Plan { interval: Span::seconds(60), ..plan() });
    world.canary_fails = 100;
    world.target = revision("v2");
    world.until(30, |world| world.phase() == Phase::Failed);
    assert_eq!(world.state.ended.as_ref().unwrap().reason, "EvidenceBad");
    assert!(world.failed_users <= 6, "{} users saw a failure", world.failed_users);
}

#[test]
fn a_canary_that_goes_bad_after_healthy_steps_is_taken_back() {
    let mut world = World::rolling(plan(), Phase::Progressing, 30.0);
    world.canary_fails = 100;
    world.until(10, |world| world.phase() == Phase::Failed);
    assert!(world.failed_users <= 12, "{} users saw a failure", world.failed_users);
}

#[test]
fn a_tripped_guard_is_a_verdict_of_its_run_only() {
    let mut world = World::rolling(plan(), Phase::Progressing, 10.0);
    world.gateways[0].tripped = world.state.traffic.epoch;
    drop(world.step());
    assert_eq!((world.phase(), world.code()), (Phase::Failed, "GuardTripped"));
    world.target = revision("v3");
    world.until(120, |world| world.phase() == Phase::Succeeded);
}

#[test]
fn an_unready_canary_gets_no_request_and_takes_its_step_again() {
    let mut world = World::rolling(plan(), Phase::Progressing, 20.0);
    world.canary_comes_up = false;
    world.canary = Workload {
        revision: Some(revision("v2")),
        readiness: Readiness::Unready("0 of 1".into()),
        ..Workload::default()
    };
    drop(world.step());
    assert_eq!((world.phase(), world.code()), (Phase::Progressing, "CanaryNotReady"));
    assert_eq!(world.state.traffic.weight, Weight::ZERO);
    world.canary_comes_up = true;
    world.until(20, |world| world.state.traffic.weight == weight(20.0));
    world.until(60, |world| world.phase() == Phase::Succeeded);
}

#[test]
fn a_canary_that_never_gets_ready_fails_at_the_deadline_without_a_request() {
    let mut world = World::initialized(plan());
    world.canary_comes_up = false;
    world.target = revision("v2");
    world.until(62, |world| world.phase() == Phase::Failed);
    assert_eq!(world.state.ended.as_ref().unwrap().reason, "ProgressDeadlineExceeded");
    assert_eq!(world.weights, [Weight::ZERO]);
}

#[test]
fn a_new_revision_takes_the_weight_away_at_once_and_starts_again() {
    let mut world = World::rolling(plan(), Phase::Progressing, 30.0);
    let run = world.state.run.clone().unwrap().id;
    world.target = revision("v3");
    drop(world.step());
    assert_eq!((world.phase(), world.state.traffic.weight), (Phase::Progressing, Weight::ZERO));
    assert_ne!(world.state.run.clone().unwrap().id, run);
    assert!(world.told("Restarting analysis for shop.prod"));
    world.until(120, |world| world.phase() == Phase::Succeeded);
    assert_eq!(world.primary.revision, Some(revision("v3")));
}

#[test]
fn a_target_back_at_the_primarys_revision_ends_the_rollout_at_once() {
    let mut world = World::rolling(plan(), Phase::Progressing, 30.0);
    world.target = revision("v1");
    drop(world.step());
    assert_eq!((world.phase(), world.code()), (Phase::Succeeded, "Reverted"));
    assert_eq!(world.state.traffic.weight, Weight::ZERO);
    world.run_for(5);
    assert_eq!(world.canary, Workload::default());
}

#[test]
fn a_fix_pushed_while_promoting_is_analysed_after_the_promotion() {
    let mut world = World::rolling(plan(), Phase::Progressing, 30.0);
    world.primary_comes_up = false;
    world.until(30, |world| world.phase() == Phase::Promoting);
    world.target = revision("v3");
    drop(world.step());
    world.primary_comes_up = true;
    world.until(120, |world| world.primary.revision == Some(revision("v3")) && world.phase() == Phase::Succeeded);
    assert_eq!(world.state.promoted, Some(revision("v3")));
}

/// A rollout whose promotion failed, with some of the primary's former pods still there, or none.
fn stranded(some: bool) -> World {
    let mut world = World::rolling(plan(), Phase::Progressing, 30.0);
    world.primary_comes_up = false;
    world.until(30, |world| world.phase() == Phase::Promoting);
    world.primary.available = some;
    world.until(90, |world| world.phase() == Phase::Failed);
    assert_eq!(world.code(), "PromotionFailed");
    world
}

#[test]
fn a_primary_that_breaks_during_promotion_gets_its_former_revision_back_while_the_healthy_canary_serves() {
    for (some, share) in [(true, weight(30.0)), (false, Weight::FULL)] {
        let mut world = stranded(some);
        world.run_for(30);
        assert_eq!(world.primary.revision, Some(revision("v1")));
        assert_eq!((world.code(), world.state.traffic.weight), ("PromotionFailed", share));
        assert_eq!(world.canary.readiness, Readiness::Ready, "the canary is kept");
        world.primary_comes_up = true;
        world.until(10, |world| world.state.run.is_none());
        assert_eq!((world.phase(), world.state.traffic.weight), (Phase::Failed, Weight::ZERO));
        assert_eq!(world.state.promoted, Some(revision("v1")));
        assert_eq!(world.state.ended.as_ref().unwrap().reason, "PromotionFailed");
        // The fix is analysed from the first step.
        world.target = revision("v3");
        world.until(30, |world| world.state.traffic.weight == weight(10.0));
        world.until(60, |world| world.phase() == Phase::Succeeded);
        assert_eq!(world.primary.revision, Some(revision("v3")));
    }
}

#[test]
fn a_fix_of_a_failed_promotion_gets_no_request_unanalysed_where_anything_of_the_primary_serves() {
    let mut world = stranded(true);
    world.target = revision("v3");
    drop(world.step());
    assert_eq!(world.state.traffic.weight, Weight::ZERO);
    world.run_for(20);
    assert_eq!((world.code(), world.state.traffic.weight), ("PrimaryNotReady", Weight::ZERO));
    world.primary_comes_up = true;
    world.until(60, |world| world.phase() == Phase::Succeeded);
    assert_eq!(world.primary.revision, Some(revision("v3")));
}

#[test]
fn a_fix_of_a_failed_promotion_is_judged_with_all_traffic_where_nothing_else_serves_and_promoted() {
    let mut world = stranded(false);
    world.target = revision("v3");
    world.run_for(3);
    assert_eq!((world.phase(), world.state.traffic.weight), (Phase::Progressing, Weight::FULL));
    world.until(60, |world| world.phase() == Phase::Promoting);
    world.primary_comes_up = true;
    world.until(60, |world| world.phase() == Phase::Succeeded);
    assert_eq!(world.primary.revision, Some(revision("v3")));
    assert_eq!(world.state.traffic.weight, Weight::ZERO);
}

#[test]
fn a_target_that_goes_back_after_a_failed_promotion_is_not_analysed() {
    let mut world = stranded(true);
    world.target = revision("v1");
    world.run_for(5);
    assert_eq!((world.phase(), world.state.traffic.weight), (Phase::Failed, Weight::ZERO));
    world.primary_comes_up = true;
    world.until(10, |world| world.phase() == Phase::Succeeded);
    assert_eq!(world.code(), "Reverted");
}

#[test]
fn a_canary_that_serves_alone_keeps_the_traffic_when_its_canary_object_is_deleted() {
    let mut world = stranded(false);
    (world.canary.readiness, world.canary_comes_up) =
        (Readiness::Unready("1 of 2 replicas are available".into()), false);
    world.deleted = true;
    world.run_for(5);
    assert_eq!((world.phase(), world.state.traffic.weight), (Phase::Terminating, Weight::FULL));
    world.canary_comes_up = true;
    world.until(20, |world| world.phase() == Phase::Terminated);
}

#[test]
fn an_unready_primary_holds_the_advance_but_not_the_rollback() {
    let mut world = World::rolling(plan(), Phase::Progressing, 10.0);
    world.primary_comes_up = false;
    world.primary.readiness = Readiness::Unready("1 of 2 replicas are available".into());
    world.run_for(20);
    assert_eq!((world.code(), world.state.traffic.weight), ("PrimaryNotReady", weight(10.0)));
    world.canary_fails = 100;
    world.until(10, |world| world.phase() == Phase::Failed);
    assert_eq!(world.state.traffic.weight, Weight::ZERO);
}

#[test]
fn no_weight_is_given_before_every_gateway_uses_the_last_one() {
    let mut world = World::initialized(plan());
    world.gateways.push(Pod::new("gateway-1", 8));
    world.target = revision("v2");
    world.until(30, |world| world.state.traffic.weight == weight(10.0));
    world.acknowledge = false;
    world.gateways.push(Pod::new("gateway-2", 9));
    world.run_for(30);
    assert_eq!((world.code(), world.state.traffic.weight), ("NotAcknowledged", weight(10.0)));
    world.acknowledge = true;
    world.until(60, |world| world.phase() == Phase::Succeeded);
}

#[test]
fn a_gateway_that_restarts_or_vanishes_loses_no_count() {
    let mut world = World::initialized(Plan { steps: vec![Step::weight(weight(10.0), false)], ..plan() });
    world.gateways.push(Pod::new("gateway-1", 8));
    world.target = revision("v2");
    world.until(30, |world| world.state.traffic.weight == weight(10.0));
    world.run_for(2);
    let counted = |world: &World| {
        let run = world.state.run.as_ref().unwrap();
        run.evidence.total(&world.state.counters).arm(weir_wire::names::Arm::Canary).assigned
    };
    let before = counted(&world);
    assert!(before > 0);
    world.gateways[0] = Pod { traffic: world.gateways[0].traffic.clone(), ..Pod::new("gateway-0", 70) };
    world.gateways.pop();
    drop(world.pass());
    assert_eq!(counted(&world), before);
    world.run_for(1);
    assert!(counted(&world) > before);
}

#[test]
fn the_canary_is_kept_until_every_gateway_has_stopped_sending_to_it() {
    let mut world = World::rolling(plan(), Phase::Progressing, 20.0);
    world.acknowledge = false;
    world.canary_fails = 100;
    world.until(10, |world| world.phase() == Phase::Failed);
    world.run_for(700);
    assert_eq!(world.code(), "Draining");
    assert_eq!(world.canary.readiness, Readiness::Ready);
    assert_eq!(world.events.iter().filter(|event| event.contains("the canary is kept")).count(), 1);
    world.acknowledge = true;
    world.run_for(2);
    assert_eq!(world.canary, Workload::default());
}

#[test]
fn verbs_are_carried_out_once() {
    let mut world = World::rolling(plan(), Phase::Progressing, 10.0);
    let say = |world: &mut World, verb, id: &str| world.verb = Some(VerbRequest { verb, id: id.into() });
    say(&mut world, Verb::Pause, "1");
    world.run_for(30);
    assert_eq!((world.code(), world.state.traffic.weight), ("Paused", weight(10.0)));
    say(&mut world, Verb::Resume, "2");
    world.until(20, |world| world.state.traffic.weight == weight(20.0));
    say(&mut world, Verb::Abort, "3");
    drop(world.step());
    assert_eq!((world.phase(), world.code()), (Phase::Failed, "Aborted"));
    world.run_for(20);
    assert_eq!(world.phase(), Phase::Failed, "the same revision is not tried again by itself");
    say(&mut world, Verb::Retry, "4");
    world.until(20, |world| world.state.traffic.weight == weight(10.0));
    say(&mut world, Verb::Promote, "5");
    world.until(20, |world| world.phase() == Phase::Succeeded);
    assert_eq!(world.primary.revision, Some(revision("v2")));
}

#[test]
fn a_paused_or_suspended_canary_is_still_taken_back() {
    for suspend in [false, true] {
        let mut world = World::rolling(plan(), Phase::Progressing, 10.0);
        world.plan.suspend = suspend;
        world.state.paused = !suspend;
        world.canary_fails = 100;
        world.until(20, |world| world.phase() == Phase::Failed);
    }
}

#[test]
fn a_deleted_canary_gives_the_traffic_back_in_order() {
    for phase in [Phase::Progressing, Phase::Promoting] {
        let mut world = World::rolling(plan(), phase, 10.0);
        world.deleted = true;
        drop(world.step());
        assert_eq!((world.phase(), world.state.traffic.weight), (Phase::Terminating, Weight::ZERO));
        world.until(20, |world| world.phase() == Phase::Terminated);
        let last = world.pass();
        assert_eq!(last.actions.last(), Some(&Action::Release));
        assert!(matches!(last.actions.first(), Some(Action::Unroute)));
    }
}

#[test]
fn what_still_ends_at_the_primary_holds_a_deletion_no_longer_than_the_deadline() {
    let mut world = World::rolling(plan(), Phase::Progressing, 10.0);
    world.deleted = true;
    world.until(20, |world| world.phase() == Phase::Terminated);
    assert_eq!(world.pass().actions[2..], [Action::Handover, Action::Release]);
    world.now = world.now + world.plan.progress_deadline;
    assert_eq!(world.pass().actions[2..], [Action::Release]);
}

#[test]
fn sizes_are_the_users_once_set_and_the_autoscalers_where_there_is_one() {
    let sizes = |world: &World, seen: &Observation| {
        let mut sizes = Vec::new();
        for action in decide(&world.plan, &world.state, seen, world.now).actions {
            match action {
                Action::Primary { replicas, .. } | Action::Canary { replicas, .. } => sizes.push(replicas),
                _ => {}
            }
        }
        sizes
    };
    let mut world = World::initialized(plan());
    world.target = revision("v2");
    drop(world.step());
    let mut seen = world.observation();
    assert_eq!(sizes(&world, &seen), [Replicas::Exactly(2), Replicas::Declared], "it was started, and is the user's");
    seen.canary = Workload { replicas: Some(0), ..Workload::default() };
    assert_eq!(sizes(&world, &seen), [Replicas::Exactly(2), Replicas::Exactly(2)], "as large as the primary");
    seen.autoscaler = Autoscaler { minimum: Some(3), maximum: None, sizes_primary: true };
    assert_eq!(sizes(&world, &seen), [Replicas::Declared, Replicas::Exactly(3)]);
    seen.primary = Workload { replicas: Some(7), ..seen.primary };
    seen.deleted = true;
    assert_eq!(sizes(&world, &seen), [Replicas::Exactly(7), Replicas::Declared], "all of the traffic comes at once");
}

#[test]
fn a_split_that_was_lost_by_a_controller_that_died_has_its_number_to_itself() {
    let mut world = World::rolling(plan(), Phase::Progressing, 10.0);
    let stored = world.state.clone();
    world.canary.available = false;
    let lost = decide(&world.plan, &world.state, &world.observation(), world.now);
    lost.protect.into_iter().for_each(|action| world.apply(action));
    assert!(world.gateways.iter().all(|pod| pod.traffic.epoch > stored.traffic.epoch && !pod.traffic.reaches_canary()));
    // It died, and the canary is well again.
    world.canary.available = true;
    let lost = world.gateways[0].traffic.epoch;
    drop(world.pass());
    assert!(world.state.traffic.epoch > lost && world.state.traffic.weight == stored.traffic.weight);
    world.until(60, |world| world.phase() == Phase::Succeeded);
}

#[test]
fn equal_revisions_that_both_fail_are_not_taken_back_by_evidence() {
    let mut world = World::initialized(Plan { checks: Vec::new(), ..plan() });
    (world.canary_fails, world.primary_fails) = (3, 3);
    world.run_for(60);
    world.target = revision("v2");
    world.until(120, |world| world.phase() == Phase::Succeeded);
}

#[test]
fn a_canary_that_goes_bad_while_the_primary_takes_over_is_taken_back_and_the_promotion_undone() {
    let mut world = World::rolling(plan(), Phase::Progressing, 30.0);
    world.primary_comes_up = false;
    world.until(30, |world| world.phase() == Phase::Promoting);
    assert_eq!(world.primary.revision, Some(revision("v2")));
    world.canary_fails = 100;
    world.until(10, |world| world.phase() == Phase::Failed);
    assert_eq!(world.state.traffic.weight, Weight::ZERO);
    world.primary_comes_up = true;
    world.run_for(5);
    assert_eq!(world.primary.revision, Some(revision("v1")));
    assert_eq!(world.state.promoted, Some(revision("v1")));
}
