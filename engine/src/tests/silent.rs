//! A gateway pod that has never acknowledged anything: it may be starting, unreachable, or no gateway at all.

use super::world::*;
use crate::*;

/// A rollout under way, with a second pod that says nothing.
fn with_silent(mut world: World) -> World {
    world.gateways.truncate(1);
    let traffic = world.gateways[0].traffic.clone();
    world.gateways.push(Pod { traffic, silent: true, ..Pod::new("evil/fake", 99) });
    world
}

#[test]
fn a_pod_that_never_acknowledged_anything_holds_no_advance_and_no_first_release() {
    let mut world = with_silent(World::new(plan()));
    world.until(60, |world| world.phase() == Phase::Initialized);
    world.target = revision("v2");
    world.until(200, |world| world.state.traffic.weight >= weight(30.0));
    assert!(!world.told("evil/fake"));
}

#[test]
fn before_the_canary_goes_a_silent_pod_counts_for_ten_minutes_and_is_then_told_by_name() {
    let mut world = with_silent(World::rolling(plan(), Phase::Progressing, 10.0));
    world.canary_fails = 100;
    world.until(30, |world| world.phase() == Phase::Failed);
    world.run_for(590);
    assert_eq!((world.code(), world.canary.available), ("Draining", true));
    assert!(!world.told("evil/fake"));
    world.until(60, |world| world.told("evil/fake"));
    world.run_for(60);
    assert_eq!(world.code(), "FailedRevision", "the release is over");
    let last = world.last.as_ref().unwrap();
    let kept = last.actions.iter().find_map(|action| match action {
        Action::Canary { replicas, .. } => Some(*replicas),
        _ => None,
    });
    assert_eq!(kept, Some(Replicas::Exactly(1)), "it may be a real gateway that still sends there");
    world.gateways.pop();
    world.run_for(20);
    assert!(!world.canary.available, "the pod is gone, and so is the reason");
}

#[test]
fn a_pod_that_starts_while_nothing_of_the_canary_runs_starts_none_of_it() {
    let mut world = with_silent(World::initialized(plan()));
    world.run_for(30);
    assert!(!world.canary.available);
}

#[test]
fn before_the_primary_gives_way_a_silent_pod_counts_for_ten_minutes() {
    let mut world = World::rolling(plan(), Phase::Progressing, 30.0);
    world.update_stops_primary = true;
    let mut world = with_silent(world);
    world.until(200, |world| world.phase() == Phase::Promoting);
    world.run_for(590);
    assert!(world.primary.available && world.last.as_ref().unwrap().reason.to_string().contains("evil/fake"));
    world.until(60, |world| world.told("evil/fake"));
    world.until(60, |world| world.state.installed == Some(revision("v2")));
}

#[test]
fn a_canary_is_deleted_ten_minutes_after_a_silent_pod_was_asked_for_the_last_time() {
    let mut world = with_silent(World::initialized(plan()));
    world.deleted = true;
    world.run_for(590);
    assert_eq!(world.phase(), Phase::Terminating);
    world.until(120, |world| world.phase() == Phase::Terminated);
    assert!(world.told("evil/fake"));
}

#[test]
fn where_every_gateway_is_silent_nothing_advances() {
    let mut world = World::initialized(plan());
    world.gateways.iter_mut().for_each(|pod| pod.silent = true);
    world.target = revision("v2");
    world.run_for(300);
    assert!(!world.state.traffic.reaches_canary());
    assert_eq!(world.code(), "NotAcknowledged");
}

#[test]
fn a_gateway_that_never_answers_keeps_no_canary_at_rest_busy() {
    let revision = Revision("v1".into());
    let primary = Workload {
        revision: Some(revision.clone()),
        readiness: Readiness::Ready,
        available: true,
        ..Workload::default()
    };
    let gateway = Gateway { name: "edge".into(), silent: true, ..Gateway::default() };
    let seen = Observation {
        target: revision.clone(),
        primary,
        canary: Workload { revision: Some(revision.clone()), ..Workload::default() },
        gateways: vec![gateway],
        ..Observation::default()
    };
    let [promoted, installed, applied] = [(); 3].map(|()| Some(revision.clone()));
    let traffic = Traffic { epoch: 7, since: Timestamp(1_000), ..Traffic::default() };
    let state = State { phase: Phase::Initialized, promoted, installed, applied, traffic, ..State::default() };
    let looks = |after: u64| decide(&Plan::example(), &state, &seen, Timestamp(1_000 + after * 1_000)).recheck_after;
    assert!(looks(1) < Span::seconds(1), "it may be about to");
    assert_eq!(looks(30), Span::seconds(10), "and there may be thousands of Canaries");
}

#[test]
fn the_canary_goes_ten_minutes_after_a_callers_sidecar_was_asked_in_vain_and_people_are_told() {
    let mut world = with_silent(World::rolling(plan(), Phase::Progressing, 10.0));
    world.gateways[1].caller = true;
    world.canary_fails = 100;
    world.until(30, |world| world.phase() == Phase::Failed);
    world.run_for(590);
    assert!(world.canary.available && !world.told("evil/fake"));
    world.until(60, |world| world.told("evil/fake"));
    world.run_for(20);
    assert_eq!((world.code(), world.canary.available), ("FailedRevision", false));
    assert!(!world.told("least size"), "{:#?}", world.events);
}

#[test]
fn where_all_callers_are_silent_a_canary_is_initialized_after_ten_minutes_and_holds_its_first_release() {
    let mut world = World::new(plan());
    world.gateways = vec![Pod { silent: true, caller: true, ..Pod::new("shop/client", 9) }];
    world.run_for(590);
    assert_eq!((world.phase(), world.code()), (Phase::Initializing, "NotAcknowledged"));
    world.until(60, |world| world.phase() == Phase::Initialized);
    assert!(world.told("shop/client") && world.told("the primary serves all the same"), "{:#?}", world.events);
    world.target = revision("v2");
    world.run_for(300);
    assert!(!world.state.traffic.reaches_canary());
    world.gateways[0].silent = false;
    world.until(300, |world| world.state.traffic.weight >= weight(10.0));
}

#[test]
fn a_caller_that_answers_without_the_filter_holds_neither_a_release_nor_its_end() {
    // It is silent, and what it runs is as good as the newest split.
    let unfiltered = |world: &World| {
        let mut seen = world.observation();
        let acknowledged = Some(world.state.traffic.epoch);
        seen.gateways.push(Gateway {
            name: "web/bare".into(),
            caller: true,
            silent: true,
            acknowledged,
            ..Gateway::default()
        });
        seen
    };
    let mut world = World::rolling(plan(), Phase::Progressing, 10.0);
    world.canary_fails = 100;
    for _ in 0..600 {
        world.traffic();
        world.now = world.now + Span(100);
        let decision = decide(&world.plan, &world.state, &unfiltered(&world), world.now);
        decision.protect.into_iter().chain(decision.actions).for_each(|action| world.apply(action));
        world.state = decision.state;
    }
    assert_eq!(world.phase(), Phase::Failed);
    assert!(world.state.run.is_none() && !world.canary.available, "nobody waits ten minutes for it");
}
