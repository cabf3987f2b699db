//! The promises under long random stories, for every strategy and one to three gateways; and under states that no story
//! leads to.

use proptest::prelude::*;

use super::explore;
use super::play::{Happening::*, *};
use super::world::{START, World, revision, weight};
use crate::*;

fn plans() -> impl Strategy<Value = Plan> {
    let steps = prop_oneof![
        Just(Step::canary(weight(10.0), weight(30.0), false)),
        Just([1.0, 5.0, 25.0].map(|percent| Step::weight(weight(percent), false)).to_vec()),
        Just(Step::ab_test(2)),
        Just(Step::blue_green(2)),
        Just(Step::canary(weight(20.0), weight(50.0), true)),
        Just(Step::canary(weight(50.0), weight(100.0), false).into_iter().map(Step::of_matched).collect()),
    ];
    let kinds = prop::sample::subsequence(explore::KINDS.to_vec(), 0..=explore::KINDS.len());
    let back = prop::option::of(prop_oneof![Just(weight(10.0)), Just(weight(50.0))]);
    (steps, kinds, back, prop::bool::weighted(0.1)).prop_map(|(steps, kinds, promotion_step, skip_analysis)| {
        let plan = explore::with_webhooks(explore::plan(steps), &kinds);
        Plan { promotion_step, skip_analysis, ..plan }
    })
}

/// A plan and a story under it. Time passes more often than anything else happens.
fn stories() -> impl Strategy<Value = (Plan, Vec<Happening>, usize)> {
    plans().prop_flat_map(|plan| {
        let story = prop::collection::vec(
            prop_oneof![3 => Just(explore::TICK), 2 => prop::sample::select(explore::happenings(&plan))],
            1..60,
        );
        (Just(plan), story, 0..3_usize)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn every_story_keeps_the_promises_and_ends_once_all_is_well((plan, story, more) in stories()) {
        let mut play = Play::new(plan);
        (0..more).for_each(|_| play.happen(GatewayJoins));
        for happening in story {
            play.happen(happening);
        }
        play.is_the_same_after_a_restart();
        prop_assert!(play.comes_to_rest());
        explore::is_taken_back_at_once(&play);
        play.heal();
        play.until_settled("all is well");
    }

    #[test]
    fn what_is_pushed_last_ends_in_production_or_taken_back((plan, story, _) in stories()) {
        let mut play = Play::new(plan);
        for happening in story.into_iter().filter(|happening| *happening != Deleted) {
            play.happen(happening);
        }
        play.happen(Target("v9"));
        play.heal();
        play.until_settled("all is well");
        let State { promoted, ended, .. } = &play.world.state;
        let dealt_with = ended.as_ref().is_some_and(|ended| ended.revision == revision("v9"));
        prop_assert!(*promoted == Some(revision("v9")) || dealt_with, "swallowed: {:?}", play.world.state);
    }
}

/// Every phase with every stage, with and without what belongs to it.
#[test]
fn no_state_at_all_makes_a_pass_panic_or_never_rest() {
    use Phase::*;
    use Stage::*;
    let phases = [
        Initializing,
        Initialized,
        Waiting,
        Progressing,
        WaitingPromotion,
        Phase::Promoting,
        Finalising,
        Succeeded,
        Failed,
        Terminating,
        Terminated,
    ];
    let stages = [Gated, Starting, Checking, Confirming, Analysing, Stage::Promoting, Returning, Draining, Stranded];
    let runs: Vec<Option<Run>> = stages
        .into_iter()
        .flat_map(|stage| [0, 99].map(|step| Some(Run { stage, step, ..Run::default() })))
        .chain([None])
        .collect();
    let mut judged = 0;
    for plan in [explore::plan(Step::canary(weight(10.0), weight(20.0), true)), explore::plan(Vec::new())] {
        for (phase, run, known, home, gone) in phases.into_iter().flat_map(|phase| {
            runs.iter()
                .flat_map(move |run| (0..8).map(move |bits| (phase, run, bits & 1 > 0, bits & 2 > 0, bits & 4 > 0)))
        }) {
            let mut play = Play::of(World::new(plan.clone()));
            let revision = known.then(|| revision("v1"));
            play.world.state = State {
                phase,
                run: run.clone(),
                promoted: revision.clone(),
                installed: revision,
                canary_is_fallback: home,
                traffic: Traffic { epoch: u64::from(known) * 7, weight: weight(55.0), ..Traffic::default() },
                ..State::default()
            };
            if gone {
                play.world.gateways.clear();
                play.world.now = START;
            }
            assert!(play.comes_to_rest(), "{phase:?} {run:?} {known} {home} {gone}");
            judged += 1;
        }
    }
    println!("{judged} states");
}
