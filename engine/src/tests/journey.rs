//! Whole rollouts, as people see them.

use weir_wire::Weight;

use super::world::*;
use crate::*;

#[test]
fn a_good_revision_walks_its_steps_and_is_promoted() {
    let mut world = World::initialized(plan());
    world.target = revision("v2");
    world.until(120, |world| world.phase() == Phase::Succeeded);
    world.run_for(5);
    assert_eq!(world.weights, [0.0, 10.0, 20.0, 30.0, 0.0].map(weight));
    use Phase::*;
    assert_eq!(world.phases, [Initializing, Initialized, Progressing, Promoting, Finalising, Succeeded]);
    assert_eq!(world.state.promoted, Some(revision("v2")));
    assert_eq!(world.primary.revision, Some(revision("v2")));
    assert_eq!(world.canary, Workload::default(), "the canary is scaled down");
    assert_eq!(world.failed_users, 0);
    assert_eq!(
        world.events,
        [
            "Initialization done! shop.prod",
            "New revision detected! Scaling up shop.prod",
            "Starting canary analysis for shop.prod",
            "Advance shop.prod canary weight 10",
            "Advance shop.prod canary weight 20",
            "Advance shop.prod canary weight 30",
            "Copying shop.prod template spec to shop.prod-primary",
            "Routing all traffic to primary",
            "Promotion completed! Scaling down shop.prod",
        ]
    );
    assert_eq!(world.state.ended.as_ref().unwrap().result, Outcome::Promoted);
}

#[test]
fn a_revision_that_fails_a_plain_bound_is_taken_back_at_the_threshold() {
    let mut world = World::initialized(Plan { plain_bounds: true, ..plan() });
    world.plan.alpha = 1e-9;
    world.canary_fails = 10;
    world.target = revision("v2");
    world.until(60, |world| world.phase() == Phase::Failed);
    assert_eq!(world.state.ended.as_ref().unwrap().reason, "ChecksFailed");
    assert!(world.told("Halt shop.prod advancement success rate 9"));
    assert!(world.told("Rolling back shop.prod failed checks threshold reached 2"));
    assert_eq!(world.weights, [0.0, 10.0, 0.0].map(weight));
    world.run_for(30);
    assert_eq!((world.phase(), world.code()), (Phase::Failed, "FailedRevision"));
    assert_eq!(world.canary, Workload::default());
    assert_eq!(world.primary.revision, Some(revision("v1")));
}

#[test]
fn a_canary_that_crashes_gets_no_request_and_ends_the_rollout() {
    let mut world = World::rolling(plan(), Phase::Progressing, 20.0);
    world.canary.readiness = Readiness::Broken("CrashLoopBackOff".into());
    world.canary.available = false;
    drop(world.step());
    assert_eq!((world.phase(), world.state.traffic.weight), (Phase::Failed, Weight::ZERO));
    assert_eq!(world.code(), "CanaryBroken");
}

#[test]
fn the_last_ten_rollouts_are_remembered_in_two_hundred_bytes_each() {
    let mut world = World::initialized(plan());
    for n in 0..Past::KEPT + 2 {
        // As long as the hash of a pod template is.
        let declared = format!("5c6b9d7f{n:02}");
        world.target = revision(&declared);
        world
            .until(240, |world| world.phase() == Phase::Succeeded && world.state.promoted == Some(revision(&declared)));
        world.run_for(5);
    }
    let past = &world.state.past;
    let newest = world.state.ended.clone().unwrap();
    assert_eq!(past.len(), Past::KEPT);
    assert_eq!((&past[0].revision, &past[9].revision), (&revision("5c6b9d7f02"), &newest.revision));
    assert_eq!((past[9].result, past[9].at, past[9].canary), (Outcome::Promoted, newest.at, newest.canary));
    assert!(past[9].canary[0] > 0 && past[9].started < past[9].at, "{:?}", past[9]);
    for of in past {
        let text = serde_json::to_string(of).unwrap();
        assert!(text.len() <= 200, "{} {text}", text.len());
        assert_eq!(serde_json::from_str::<Past>(&text).unwrap(), *of);
    }
}
