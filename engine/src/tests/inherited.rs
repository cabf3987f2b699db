//! A primary that another controller made: in production already.

use super::world::*;
use crate::*;

fn world(declared: &str, failed: bool) -> World {
    let mut world = World::new(plan());
    world.target = revision(declared);
    world.inherited = Some(Inherited { revision: revision("v1"), failed });
    world.primary = Workload {
        revision: Some(revision("v1")),
        readiness: Readiness::Ready,
        available: true,
        routable_since: Some(START),
        replicas: Some(1),
    };
    world
}

#[test]
fn what_is_in_production_is_neither_made_nor_analysed() {
    let mut world = world("v1", false);
    world.until(30, |world| world.phase() == Phase::Initialized);
    world.run_for(30);
    assert_eq!((world.phase(), world.code()), (Phase::Initialized, "UpToDate"));
    assert_eq!(world.state.promoted, Some(revision("v1")));
}

#[test]
fn what_the_target_declares_since_is_analysed_before_it_is_in_production() {
    let mut world = world("v2", false);
    world.until(60, |world| world.phase() == Phase::Progressing);
    assert_eq!(world.state.installed, Some(revision("v1")));
    world.until(120, |world| world.phase() == Phase::Succeeded);
    assert_eq!(world.weights, [0.0, 10.0, 20.0, 30.0, 0.0].map(weight));
    assert_eq!(world.primary.revision, Some(revision("v2")));
}

#[test]
fn what_another_controller_took_back_is_not_tried_again_by_itself() {
    let mut world = world("v2", true);
    world.until(30, |world| world.phase() == Phase::Failed);
    world.run_for(60);
    assert_eq!((world.phase(), world.code()), (Phase::Failed, "FailedRevision"));
    assert_eq!(world.primary.revision, Some(revision("v1")));
    world.target = revision("v3");
    world.until(120, |world| world.phase() == Phase::Succeeded);
}
