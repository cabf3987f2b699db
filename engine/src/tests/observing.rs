//! `observeOnly`: judged and told, and left to people.

use weir_wire::Weight;

use super::world::*;
use crate::*;

fn observed() -> Plan {
    Plan { observe_only: true, ..plan() }
}

fn ask(world: &mut World, verb: Verb) {
    world.verb = Some(VerbRequest { verb, id: format!("{verb} 1") });
}

#[test]
fn a_good_canary_that_is_observed_stays_at_its_first_step_and_what_would_be_done_is_told_once() {
    let mut world = World::initialized(observed());
    world.target = revision("v2");
    world.until(120, |world| world.code() == "Observing");
    world.run_for(120);
    assert_eq!((world.phase(), world.code()), (Phase::Progressing, "Observing"));
    assert_eq!(world.weights, [0.0, 10.0].map(weight));
    let told = world.events.iter().filter(|text| text.contains("would")).collect::<Vec<_>>();
    assert_eq!(told, ["Observing shop.prod: would advance to weight 20 %"]);
    // A person promotes.
    ask(&mut world, Verb::Promote);
    world.until(120, |world| world.phase() == Phase::Succeeded);
    assert_eq!(world.state.promoted, Some(revision("v2")));
}

#[test]
fn a_bad_canary_that_is_observed_is_taken_back_by_a_person_alone() {
    let mut world = World::initialized(observed());
    world.canary_fails = 100;
    world.target = revision("v2");
    world.until(120, |world| world.told("would take the canary back"));
    world.run_for(120);
    assert_eq!((world.phase(), world.code()), (Phase::Progressing, "Observing"));
    assert_eq!(world.state.traffic.weight, weight(10.0));
    assert!(world.state.traffic.limits.is_empty(), "a guard in a gateway would take it back");
    let told = world.events.iter().filter(|text| text.contains("would take")).count();
    assert_eq!(told, 1, "{:#?}", world.events);
    ask(&mut world, Verb::Abort);
    world.until(60, |world| world.phase() == Phase::Failed);
    assert_eq!(world.state.traffic.weight, Weight::ZERO);
    assert_eq!(world.state.ended.as_ref().unwrap().reason, "Aborted");
}

#[test]
fn checks_that_fail_too_often_are_told_and_go_on() {
    let mut world = World::initialized(Plan { plain_bounds: true, alpha: 1e-9, ..observed() });
    world.canary_fails = 10;
    world.target = revision("v2");
    world.until(120, |world| world.told("would take the canary back"));
    world.run_for(60);
    assert_eq!((world.phase(), world.state.traffic.weight), (Phase::Progressing, weight(10.0)));
    assert!(world.state.run.as_ref().unwrap().failed_checks > plan().threshold);
}

#[test]
fn the_release_goes_on_from_where_it_stands_once_it_is_observed_no_more() {
    let mut world = World::initialized(observed());
    world.target = revision("v2");
    world.until(120, |world| world.code() == "Observing");
    world.plan.observe_only = false;
    world.until(120, |world| world.phase() == Phase::Succeeded);
    assert_eq!(world.weights, [0.0, 10.0, 20.0, 30.0, 0.0].map(weight));
}

#[test]
fn what_skips_its_analysis_is_promoted_by_people_too() {
    let mut world = World::initialized(Plan { skip_analysis: true, ..observed() });
    world.target = revision("v2");
    world.run_for(120);
    assert_eq!((world.phase(), world.code()), (Phase::Progressing, "Observing"));
}
