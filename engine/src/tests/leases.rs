//! Many processes: each waits after its lease of failures until a pass has seen them.

use std::collections::BTreeMap;

use super::world::*;
use crate::*;

/// A rollout under way through three processes, at 10 %.
fn through_three() -> World {
    let mut world = World::new(plan());
    world.gateways.extend([Pod::new("web/a", 11), Pod::new("web/b", 12)]);
    world.requests = 30;
    world.until(60, |world| world.state.phase == Phase::Initialized);
    world.target = revision("v2");
    world.until(200, |world| world.phase() == Phase::Progressing && world.state.traffic.weight >= weight(10.0));
    world
}

#[test]
fn one_process_judges_by_tables_and_many_have_a_lease_of_one_failure_each() {
    let alone = World::rolling(plan(), Phase::Progressing, 10.0).state.traffic;
    assert_eq!((alone.lease, alone.limits.is_empty()), (0, false));
    let many = through_three().state.traffic;
    assert_eq!((many.lease, many.limits.len()), (1, 0));
}

#[test]
fn among_many_those_with_an_earlier_module_have_tables_beside_the_leases_of_the_others() {
    let mut world = through_three();
    world.splits_matched = false;
    world.until(200, |world| world.state.traffic.weight >= weight(30.0));
    let traffic = &world.state.traffic;
    assert_eq!((traffic.lease, traffic.limits.first().map(|limits| limits.epoch)), (1, Some(traffic.epoch)));
}

#[test]
fn what_waits_is_told_that_its_failures_were_seen_once_a_second_and_only_while_the_canary_stays() {
    let mut world = through_three();
    world.gateways[1].held = 1;
    assert_eq!(world.pass().state.traffic.seen, BTreeMap::from([(11, 1)]));
    let told = world.now;
    world.gateways[2].held = 4;
    // What was said is in memory alone, which these passes write down and read again.
    let mut after = |span: Span| {
        (world.state.traffic.seen_at, world.state.traffic.seen) = (told, [(11, 1)].into());
        world.now = told + span;
        world.pass().state.traffic.seen
    };
    assert_eq!(after(Span(900)), BTreeMap::from([(11, 1)]));
    assert_eq!(after(Span(1_000)), BTreeMap::from([(11, 1), (12, 4)]));
    // A canary that is taken back is not gone on with.
    let mut bad = through_three();
    bad.canary_fails = 100;
    bad.until(30, |world| world.phase() == Phase::Failed);
    bad.gateways[1].held = 9;
    assert_eq!(bad.pass().state.traffic.seen, BTreeMap::new());
}

#[test]
fn a_canary_that_serves_because_the_primary_cannot_has_no_lease() {
    let mut world = through_three();
    world.update_stops_primary = true;
    world.until(300, |world| world.state.traffic.fallback);
    assert_eq!(world.state.traffic.lease, 0);
}

#[test]
fn a_second_process_that_takes_part_gets_a_lease_at_once_and_not_a_lone_ones_tables() {
    let mut world = World::rolling(plan(), Phase::Progressing, 10.0);
    world.requests = 9;
    world.run_for(2);
    assert_eq!(world.state.traffic.lease, 0);
    let epoch = world.state.traffic.epoch;
    world.gateways.push(Pod::new("gateway-1", 61));
    world.run_for(1);
    assert_eq!((world.state.traffic.lease, world.state.traffic.epoch), (1, epoch + 1), "once, and no epoch more");
    // Where nothing guards, nothing is leased, and no epoch follows another.
    let mut world = World::rolling(Plan { observe_only: true, ..plan() }, Phase::Progressing, 10.0);
    let epoch = world.state.traffic.epoch;
    world.gateways.push(Pod::new("gateway-1", 61));
    world.run_for(1);
    assert_eq!((world.state.traffic.lease, world.state.traffic.epoch), (0, epoch));
}
