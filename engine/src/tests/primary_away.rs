//! A primary that cannot serve, while its promotion is under way, is undone, or its Canary is deleted.

use weir_wire::Weight;

use super::world::*;
use crate::*;

/// A rollout whose primary has given way: its update has stopped its last pod.
fn given_way() -> World {
    let mut world = World::initialized(plan());
    (world.update_stops_primary, world.target) = (true, revision("v2"));
    world.until(120, |world| world.primary.revision == Some(revision("v2")));
    assert!(!world.primary.available && world.phase() == Phase::Promoting);
    assert_eq!(world.failed_users, 0);
    world
}

fn abort(world: &mut World) {
    world.verb = Some(VerbRequest { verb: Verb::Abort, id: "abort".into() });
}

#[test]
fn a_canary_taken_back_while_its_primary_has_no_pod_serves_until_the_former_revision_does() {
    let mut world = given_way();
    world.primary_comes_up = false;
    abort(&mut world);
    drop(world.step());
    assert_eq!((world.phase(), world.code()), (Phase::Failed, "Aborted"));
    world.run_for(100);
    assert_eq!((world.code(), world.state.traffic.weight), ("PrimaryNotReady", Weight::FULL));
    assert_eq!(world.primary.revision, Some(revision("v1")));
    assert!(world.told("shop.prod serves until the primary has its former revision back"));
    assert!(!world.told("advancement"), "nothing advances: {:#?}", world.events);
    world.primary_comes_up = true;
    world.until(20, |world| world.state.run.is_none());
    assert_eq!((world.phase(), world.state.traffic.weight), (Phase::Failed, Weight::ZERO));
    assert_eq!(world.state.ended.as_ref().unwrap().reason, "Aborted");
    assert_eq!((world.state.promoted.clone(), world.failed_users), (Some(revision("v1")), 0));
}

#[test]
fn a_promotion_that_is_undone_once_the_primary_has_pods_again_takes_these_from_nobody() {
    let mut world = given_way();
    world.primary_comes_up = false;
    (world.primary.available, world.primary.readiness) =
        (true, Readiness::Unready("1 of 2 replicas are available".into()));
    abort(&mut world);
    drop(world.step());
    // The former revision stops them, as the new one did.
    assert_eq!((world.state.traffic.weight, world.primary.available), (Weight::FULL, false));
    drop(world.step());
    // What serves from here on is the former revision, and the canary was taken back.
    world.primary.available = true;
    drop(world.step());
    assert_eq!(world.state.traffic.weight, Weight::ZERO);
    world.primary_comes_up = true;
    world.until(20, |world| world.state.run.is_none());
    assert_eq!((world.phase(), world.failed_users), (Phase::Failed, 0));
}

#[test]
fn a_guard_stops_no_canary_whose_primary_has_no_pod() {
    let mut world = given_way();
    world.primary_comes_up = false;
    drop(world.step());
    assert!(world.gateways.iter().all(|pod| pod.traffic.fallback && pod.traffic.run.is_empty()), "nothing to trip for");
    // The evidence is a verdict all the same, and what is worse than the canary is nobody.
    world.canary_fails = 30;
    world.until(60, |world| world.phase() == Phase::Failed);
    assert_eq!(world.state.traffic.weight, Weight::FULL);
    world.primary_comes_up = true;
    world.until(20, |world| world.state.traffic.weight == Weight::ZERO);
}

#[test]
fn a_deletion_whose_target_cannot_start_is_held_while_nothing_but_the_primary_serves() {
    let mut world = World::initialized(plan());
    (world.canary_comes_up, world.deleted) = (false, true);
    world.run_for(5);
    let said = |world: &World| world.last.as_ref().map(|last| last.reason.to_string()).unwrap_or_default();
    assert!(said(&world).contains("the target to serve again (0 of 1 replicas are available)"), "{}", said(&world));
    world.run_for(600);
    assert_eq!((world.phase(), world.state.unrouted), (Phase::Terminating, None));
    assert!(said(&world).contains("repair shop.prod, or delete it too"), "{}", said(&world));
    let told = world.events.iter().filter(|text| text.contains("The deletion of shop.prod is held")).count();
    assert_eq!((told, world.failed_users), (1, 0));
    world.canary_comes_up = true;
    world.until(20, |world| world.phase() == Phase::Terminated);
}

#[test]
fn a_deletion_is_held_no_longer_than_the_deadline_where_the_target_is_deleted_or_serves_in_part_or_the_primary_is_gone()
{
    for which in 0..3 {
        let mut world = World::initialized(plan());
        (world.canary_comes_up, world.deleted) = (false, true);
        world.run_for(5);
        match which {
            0 => world.target_is_deleted = true,
            1 => world.canary.available = true,
            _ => (world.primary.available, world.primary_comes_up) = (false, false),
        }
        drop(world.step());
        let said = world.last.as_ref().map(|last| last.reason.to_string()).unwrap_or_default();
        assert!(said.contains("the target to serve again, for 1m00s at most"), "{said}");
        world.until(90, |world| world.phase() == Phase::Terminated);
    }
}

#[test]
fn where_all_callers_hang_a_primary_that_must_give_way_is_promoted_after_ten_minutes_and_people_are_told() {
    let skipped = Plan { skip_analysis: true, ..plan() };
    for plan in [plan(), skipped] {
        let mut world = match plan.skip_analysis {
            true => World::initialized(plan),
            false => World::rolling(plan, Phase::Progressing, 30.0),
        };
        (world.update_stops_primary, world.target) = (true, revision("v2"));
        if !world.plan.skip_analysis {
            world.until(60, |world| world.phase() == Phase::Promoting);
        }
        world.acknowledge = false;
        world.gateways = vec![Pod { silent: true, ..Pod::new("caller-0", 30) }];
        world.run_for(500);
        assert_eq!(world.primary.revision, Some(revision("v1")), "it may yet take over what it is told");
        world.until(1_400, |world| world.primary.revision == Some(revision("v2")));
        assert!(world.told("the primary is updated all the same"));
        world.until(1_400, |world| world.phase() == Phase::Succeeded);
    }
}

#[test]
fn a_canary_is_as_large_as_the_primary_before_it_takes_all_of_the_traffic() {
    let size = |world: &World, seen: &Observation| {
        let actions = decide(&world.plan, &world.state, seen, world.now).actions;
        actions.into_iter().find_map(|action| match action {
            Action::Canary { replicas, .. } => Some(replicas),
            _ => None,
        })
    };
    let sized = |world: &World, primary, canary, minimum| {
        let mut seen = world.observation();
        (seen.primary.replicas, seen.canary.replicas, seen.autoscaler.minimum) = (Some(primary), Some(canary), minimum);
        seen
    };
    let mut world = World::rolling(plan(), Phase::Progressing, 10.0);
    // What was kept for a gateway that nobody hears of is Weir's own number; the others are not.
    for (by, least, expected) in [
        (Sizer::Weir, None, Replicas::Exactly(30)),
        (Sizer::Cluster, None, Replicas::Declared),
        (Sizer::Cluster, Some(1), Replicas::Declared),
        (Sizer::User, None, Replicas::Declared),
    ] {
        let seen = Observation { sized_by: by, ..sized(&world, 30, 1, least) };
        assert_eq!(size(&world, &seen), Some(expected), "{by:?} {least:?}");
    }
    // It takes all of the traffic, since the primary gives way.
    world.state.run.as_mut().unwrap().stage = Stage::Relieving;
    world.state.run.as_mut().unwrap().since = world.now;
    let small = sized(&world, 30, 2, Some(2));
    let before = decide(&world.plan, &world.state, &small, world.now);
    assert!(before.reason.to_string().contains("the canary to be as large as the primary"), "{}", before.reason);
    assert_eq!((before.state.traffic.weight, size(&world, &small)), (weight(10.0), Some(Replicas::Exactly(30))));
    let capped = Observation { autoscaler: Autoscaler { maximum: Some(9), ..small.autoscaler }, ..small };
    assert_eq!(size(&world, &capped), Some(Replicas::Exactly(9)));
    let large = sized(&world, 30, 30, Some(2));
    assert_eq!(decide(&world.plan, &world.state, &large, world.now).state.traffic.weight, Weight::FULL);
    // Or since its Canary goes.
    world.deleted = true;
    let theirs = Observation { sized_by: Sizer::User, ..sized(&world, 30, 2, None) };
    assert!(decide(&world.plan, &world.state, &theirs, world.now).state.unrouted.is_some());
    let small = sized(&world, 30, 2, Some(2));
    let going = decide(&world.plan, &world.state, &small, world.now);
    assert_eq!((going.state.phase, going.state.unrouted), (Phase::Terminating, None));
    assert_eq!(size(&world, &small), Some(Replicas::Exactly(30)));
    let large = sized(&world, 30, 30, Some(2));
    assert!(decide(&world.plan, &world.state, &large, world.now).state.unrouted.is_some());
}

#[test]
fn a_canary_whose_spec_cannot_be_read_loses_its_weight_and_gets_it_again_with_one_that_can() {
    let mut world = World::rolling(plan(), Phase::Progressing, 20.0);
    (world.plan.suspend, world.unplanned) = (true, true);
    drop(world.step());
    assert_eq!((world.phase(), world.state.traffic.weight), (Phase::Progressing, Weight::ZERO));
    world.run_for(60);
    assert_eq!((world.phase(), world.state.traffic.weight), (Phase::Progressing, Weight::ZERO));
    (world.plan.suspend, world.unplanned) = (false, false);
    world.until(20, |world| world.state.traffic.weight == weight(20.0));
    world.until(60, |world| world.phase() == Phase::Succeeded);
    assert_eq!(world.primary.revision, Some(revision("v2")));
}

#[test]
fn a_primary_without_a_pod_gets_nothing_back_in_steps_until_it_has_one() {
    let returning = Plan { promotion_step: Some(weight(10.0)), ..plan() };
    let mut world = World::rolling(returning, Phase::Finalising, 20.0);
    let share = world.state.traffic.weight;
    world.primary_comes_up = false;
    (world.primary.available, world.primary.readiness) = (false, Readiness::Unready("0 of 2".into()));
    world.run_for(60);
    assert_eq!((world.code(), world.state.traffic.weight), ("PrimaryNotReady", share));
    world.primary_comes_up = true;
    world.until(60, |world| world.phase() == Phase::Succeeded);
}
