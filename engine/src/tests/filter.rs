//! The filter in the gateways is on while a rollout needs it, and no request is split without it.

use weir_wire::Weight;

use super::world::*;
use crate::*;

#[test]
fn no_weight_is_given_where_the_filter_is_off() {
    let mut world = World::initialized(plan());
    world.switches = false;
    world.target = revision("v2");
    world.run_for(60);
    assert_eq!((world.code(), world.state.traffic.weight), ("FilterOff", Weight::ZERO));
    world.switches = true;
    world.until(60, |world| world.phase() == Phase::Succeeded);
}

#[test]
fn a_caller_that_has_no_route_to_the_service_holds_nobody_as_long_as_another_one_has() {
    let mut world = World::initialized(plan());
    world.gateways.push(Pod { unrouted: true, ..Pod::new("hidden", 8) });
    world.gateways[0].unrouted = true;
    world.target = revision("v2");
    world.run_for(60);
    assert_eq!((world.code(), world.state.traffic.weight), ("FilterOff", Weight::ZERO), "nobody has one");
    world.gateways[0].unrouted = false;
    world.until(60, |world| world.phase() == Phase::Succeeded);
}

#[test]
fn the_filter_is_on_from_a_new_revision_on_until_its_last_weight_is_acknowledged_as_0() {
    let mut world = World::initialized(plan());
    world.run_for(20);
    assert_eq!(world.state.traffic.filter, FilterMode::Off, "at rest");
    world.canary_comes_up = false;
    world.target = revision("v2");
    drop(world.step());
    assert_eq!((world.state.traffic.filter, world.state.traffic.weight), (FilterMode::On, Weight::ZERO), "it starts");
    world.canary_comes_up = true;
    world.until(60, |world| world.state.traffic.weight >= weight(30.0));
    world.acknowledge = false;
    world.canary_fails = 100;
    world.until(60, |world| world.phase() == Phase::Failed);
    world.run_for(20);
    assert_eq!(
        (world.state.traffic.filter, world.state.traffic.weight),
        (FilterMode::On, Weight::ZERO),
        "some may send"
    );
    world.acknowledge = true;
    world.until(30, |world| world.state.run.is_none());
    assert_eq!(world.state.traffic.filter, FilterMode::Off, "at rest again");
    let observed = World::initialized(Plan { observe_at_rest: true, ..plan() });
    assert_eq!(observed.state.traffic.filter, FilterMode::On);
}
