//! Each strategy, from the first request to the last.

use weir_wire::Weight;

use super::world::*;
use crate::*;

pub(super) fn hook(name: &str, kind: WebhookKind) -> Webhook {
    Webhook { name: name.into(), kind }
}

pub(super) fn answer(world: &mut World, name: &str, answer: CheckResult) {
    for request in world.last.clone().unwrap().check_requests.into_iter().filter(|request| request.name == name) {
        world.check_results.insert(request.key, answer.clone());
    }
}

#[test]
fn an_ab_test_sends_matching_requests_only_for_its_iterations() {
    let mut world = World::initialized(Plan { steps: Step::ab_test(3), ..plan() });
    world.target = revision("v2");
    world.until(120, |world| world.phase() == Phase::Succeeded);
    assert_eq!(world.weights, [Weight::ZERO]);
    for i in 1..=3 {
        assert!(world.told(&format!("Advance shop.prod canary iteration {i}/3")));
    }
}

#[test]
fn an_ab_test_takes_back_a_canary_that_fails_every_matching_request() {
    let mut world = World::initialized(Plan { steps: Step::ab_test(10), ..plan() });
    world.canary_fails = 100;
    world.target = revision("v2");
    world.until(30, |world| world.phase() == Phase::Failed);
    assert_eq!(world.state.ended.as_ref().unwrap().reason, "EvidenceBad");
    assert!(world.failed_users <= 10, "{}", world.failed_users);
}

#[test]
fn blue_green_checks_the_idle_canary_then_switches_once_and_is_promoted() {
    let mut world = World::initialized(Plan { steps: Step::blue_green(2), ..plan() });
    world.target = revision("v2");
    world.until(120, |world| world.phase() == Phase::Succeeded);
    assert_eq!(world.weights, [0.0, 100.0, 0.0].map(weight));
    assert!(world.told("Advance shop.prod canary iteration 2/2"));
    assert!(world.told("Routing all traffic to canary"));
}

#[test]
fn weights_and_match_work_together() {
    let mut world = World::initialized(Plan { steps: Step::canary(weight(10.0), weight(20.0), true), ..plan() });
    world.target = revision("v2");
    world.until(60, |world| world.state.traffic.weight == weight(10.0));
    assert!(world.state.traffic.matching);
    world.until(120, |world| world.phase() == Phase::Succeeded);
    assert!(!world.state.traffic.matching);
}

#[test]
fn promotion_gives_the_weight_back_in_steps() {
    let mut world = World::initialized(Plan { promotion_step: Some(weight(20.0)), ..plan() });
    world.target = revision("v2");
    world.until(200, |world| world.phase() == Phase::Succeeded);
    assert_eq!(world.weights, [0.0, 10.0, 20.0, 30.0, 10.0, 0.0].map(weight));
}

#[test]
fn a_skipped_analysis_promotes_a_ready_canary_without_a_request() {
    let mut world = World::initialized(Plan { skip_analysis: true, ..plan() });
    world.target = revision("v2");
    world.until(30, |world| world.phase() == Phase::Succeeded);
    assert_eq!(world.weights, [Weight::ZERO]);
    assert_eq!(world.primary.revision, Some(revision("v2")));
    assert!(world.told("Canary analysis was skipped for shop.prod"));
}

#[test]
fn an_analysis_that_is_skipped_from_now_on_ends_with_the_promotion_of_what_is_ready_and_says_how_it_was() {
    let mut world = World::rolling(plan(), Phase::Progressing, 10.0);
    // A person's pause holds it, and what has no pods is not promoted.
    world.plan.skip_analysis = true;
    world.state.paused = true;
    world.run_for(5);
    assert_eq!((world.phase(), world.code()), (Phase::Progressing, "Paused"));
    world.state.paused = false;
    world.canary.readiness = Readiness::Unready("1 of 2".into());
    world.canary_comes_up = false;
    drop(world.step());
    assert_eq!(world.phase(), Phase::Progressing);
    world.canary_comes_up = true;
    world.until(10, |world| world.phase() == Phase::Promoting);
    world.plan.skip_analysis = false;
    world.until(60, |world| world.phase() == Phase::Succeeded);
    assert!(world.told("Canary analysis was skipped for shop.prod"));
    assert_eq!(world.state.ended.as_ref().map(|ended| ended.reason.as_str()), Some("Skipped"));
    // What passed its analysis was not skipped, whatever the plan says by then.
    let mut world = World::rolling(plan(), Phase::Promoting, 30.0);
    world.plan.skip_analysis = true;
    world.until(60, |world| world.phase() == Phase::Succeeded);
    assert_eq!(world.state.ended.as_ref().map(|ended| ended.reason.as_str()), Some("Promoted"));
}

#[test]
fn gates_hold_and_open_in_their_places() {
    let webhooks = vec![
        hook("approve", WebhookKind::ConfirmRollout),
        hook("smoke", WebhookKind::PreRollout),
        hook("more", WebhookKind::ConfirmTrafficIncrease),
        hook("ship", WebhookKind::ConfirmPromotion),
    ];
    let mut world = World::initialized(Plan { webhooks, ..plan() });
    world.target = revision("v2");
    world.run_for(20);
    assert_eq!((world.phase(), world.code()), (Phase::Waiting, "WaitingForGate"));
    assert_eq!(world.canary, Workload::default(), "nothing is started before the gate opens");
    answer(&mut world, "approve", CheckResult::Passed);
    world.run_for(5);
    assert_eq!((world.phase(), world.code()), (Phase::Progressing, "WaitingForAnswer"));
    answer(&mut world, "smoke", CheckResult::Passed);
    world.run_for(5);
    assert_eq!((world.code(), world.state.traffic.weight), ("WaitingForGate", Weight::ZERO));
    for (held, next) in [(0.0, 10.0), (10.0, 20.0), (20.0, 30.0)] {
        world.run_for(20);
        assert_eq!(
            (world.code(), world.state.traffic.weight),
            ("WaitingForGate", weight(held)),
            "a yes is for one increase"
        );
        answer(&mut world, "more", CheckResult::Passed);
        world.until(10, |world| world.state.traffic.weight == weight(next));
    }
    world.until(60, |world| world.phase() == Phase::WaitingPromotion);
    assert_eq!(world.state.traffic.weight, weight(30.0), "the status is true while promotion waits");
    world.run_for(60);
    assert_eq!(world.phase(), Phase::WaitingPromotion);
    answer(&mut world, "ship", CheckResult::Passed);
    world.until(30, |world| world.phase() == Phase::Succeeded);
    assert!(world.told("Halt shop.prod advancement waiting for promotion approval ship"));
}

#[test]
fn a_closed_gate_never_delays_a_rollback() {
    for kind in [WebhookKind::ConfirmTrafficIncrease, WebhookKind::ConfirmPromotion] {
        let mut world = World::initialized(Plan { webhooks: vec![hook("gate", kind)], ..plan() });
        world.target = revision("v2");
        if kind == WebhookKind::ConfirmTrafficIncrease {
            world.until(10, |world| world.code() == "WaitingForGate");
            answer(&mut world, "gate", CheckResult::Passed);
            world.until(10, |world| world.state.traffic.weight == weight(10.0));
            answer(&mut world, "gate", CheckResult::Failed("closed".into()));
        } else {
            world.until(60, |world| world.phase() == Phase::WaitingPromotion);
        }
        world.canary_fails = 100;
        world.until(5, |world| world.phase() == Phase::Failed);
        assert_eq!(world.state.traffic.weight, Weight::ZERO);
    }
}

#[test]
fn a_pre_rollout_check_that_fails_is_repeated_and_ends_the_rollout_at_the_threshold() {
    let mut world = World::initialized(Plan { webhooks: vec![hook("smoke", WebhookKind::PreRollout)], ..plan() });
    world.target = revision("v2");
    for _ in 0..2 {
        world.until(20, |world| world.last.as_ref().is_some_and(|last| !last.check_requests.is_empty()));
        answer(&mut world, "smoke", CheckResult::Failed("404".into()));
        drop(world.step());
        drop(world.step());
    }
    assert_eq!(world.phase(), Phase::Failed);
    assert!(world.told("Halt shop.prod advancement external check smoke failed 404"));
    assert_eq!(world.weights, [Weight::ZERO], "no request reached it");
}

#[test]
fn post_rollout_webhooks_are_told_once_how_a_rollout_ended_and_nothing_waits_for_them() {
    let webhooks = vec![hook("mail", WebhookKind::PostRollout), hook("chart", WebhookKind::PostRollout)];
    for (fails, end) in [(0, Phase::Succeeded), (100, Phase::Failed)] {
        let mut world = World::initialized(Plan { webhooks: webhooks.clone(), ..plan() });
        world.target = revision("v2");
        world.canary_fails = fails;
        world.until(100, |world| world.phase() == end);
        let asked = |world: &World| world.last.as_ref().map(|last| last.check_requests.clone()).unwrap_or_default();
        world.until(2, |world| asked(world).len() == 2);
        // Neither has answered, and the next rollout begins and ends.
        world.canary_fails = 0;
        world.target = revision("v3");
        world.until(100, |world| world.phase() == Phase::Succeeded && world.state.promoted == Some(revision("v3")));
        let run = world.state.ended.as_ref().unwrap().run.clone();
        world.until(2, |world| asked(world).iter().all(|request| request.key.starts_with(&run)));
        answer(&mut world, "mail", CheckResult::Failed("500".into()));
        drop(world.step());
        assert!(!world.told("Post-rollout"), "the other one has not answered");
        answer(&mut world, "chart", CheckResult::Passed);
        drop(world.step());
        assert!(world.told("Post-rollout check chart passed"), "{:?}", world.events);
        assert!(world.told("Post-rollout hook mail failed 500"), "{:?}", world.events);
        world.run_for(30);
        let told = world.events.iter().filter(|event| event.contains("Post-rollout check")).count();
        assert_eq!((told, asked(&world).len()), (1, 0));
    }
}

#[test]
fn an_event_names_the_webhook_that_it_is_about() {
    let about = |kind, said: CheckResult| {
        let mut world = World::initialized(Plan { webhooks: vec![hook("hook", kind)], ..plan() });
        world.target = revision("v2");
        for _ in 0..600 {
            if world.last.as_ref().is_some_and(|last| !last.check_requests.is_empty()) {
                answer(&mut world, "hook", said.clone());
            }
            let decision = world.step();
            if let Some(event) = decision.events.iter().find(|event| event.webhook.is_some()) {
                return (event.reason, event.webhook.clone().unwrap());
            }
        }
        panic!("{:?}", world.events);
    };
    let closed = || CheckResult::Failed("closed".into());
    for kind in [WebhookKind::ConfirmRollout, WebhookKind::ConfirmTrafficIncrease, WebhookKind::ConfirmPromotion] {
        assert_eq!(about(kind, closed()), ("WaitingForGate", "hook".into()), "{kind:?}");
    }
    for kind in [WebhookKind::PreRollout, WebhookKind::Rollout] {
        assert_eq!(about(kind, closed()), ("Halted", "hook".into()), "{kind:?}");
    }
    assert_eq!(about(WebhookKind::PostRollout, closed()), ("PostRolloutFailed", "hook".into()));
}

#[test]
fn a_rollback_webhook_that_passes_takes_the_canary_back() {
    let webhooks = vec![hook("undo", WebhookKind::Rollback)];
    let mut world = World::rolling(Plan { webhooks, ..plan() }, Phase::Progressing, 10.0);
    drop(world.step());
    answer(&mut world, "undo", CheckResult::Passed);
    drop(world.step());
    assert_eq!((world.phase(), world.code()), (Phase::Failed, "RollbackWebhook"));
}

#[test]
fn too_few_requests_hold_for_ever_unless_a_deadline_says_otherwise() {
    let mut world = World::rolling(plan(), Phase::Progressing, 10.0);
    world.requests = 0;
    world.run_for(600);
    assert_eq!((world.phase(), world.code()), (Phase::Progressing, "Insufficient"));
    world.plan.insufficient_deadline = Some(Span::seconds(30));
    world.until(40, |world| world.phase() == Phase::Failed);
    assert_eq!(world.state.ended.as_ref().unwrap().reason, "InsufficientDeadlineExceeded");
}

#[test]
fn a_load_test_that_no_gateway_sees_is_told_with_what_to_call_and_ends_at_the_deadline() {
    let webhooks = vec![hook("load", WebhookKind::Rollout)];
    let mut world = World::rolling(Plan { webhooks, ..plan() }, Phase::Progressing, 10.0);
    world.requests = 0;
    world.until(20, |world| world.last.as_ref().unwrap().check_requests.iter().any(|ask| ask.name == "load"));
    answer(&mut world, "load", CheckResult::Passed);
    world.until(20, |world| world.code() == "NoSyntheticLoad");
    let said = world.last.as_ref().unwrap().reason.to_string();
    assert!(said.contains("http://shop-canary.prod passes no gateway") && said.contains("taken back in "), "{said}");
    world.until(70, |world| world.phase() == Phase::Failed);
    assert_eq!(world.state.ended.as_ref().unwrap().reason, "NoSyntheticLoad");
}

#[test]
fn a_canary_that_gets_nothing_of_what_the_gateways_serve_is_a_fault_of_the_split() {
    let mut world = World::rolling(plan(), Phase::Progressing, 10.0);
    world.unsplit = true;
    world.until(60, |world| world.phase() == Phase::Failed);
    let ended = world.state.ended.clone().unwrap();
    assert!(
        ended.reason == "EvidenceBad" && ended.text.contains(": the split is at fault, not the revision"),
        "{ended:?}"
    );
}

#[test]
fn a_canary_with_webhooks_only_advances_on_time() {
    let mut world = World::initialized(Plan { checks: Vec::new(), ..plan() });
    world.requests = 0;
    world.target = revision("v2");
    world.until(60, |world| world.phase() == Phase::Succeeded);
}

#[test]
fn a_template_without_a_value_is_a_failed_check_not_a_pass() {
    let check = Check { name: "errors".into(), source: Source::Template, bounds: Bounds { min: None, max: Some(1.0) } };
    let mut world = World::rolling(Plan { checks: vec![check], threshold: 1, ..plan() }, Phase::Progressing, 10.0);
    world.until(20, |world| world.code() == "WaitingForAnswer");
    answer(&mut world, "errors", CheckResult::NoValue("no series".into()));
    drop(world.step());
    assert_eq!(world.phase(), Phase::Failed);
    assert!(world.told("no values found for metric errors: no series"));
}

#[test]
fn a_template_is_asked_once_everything_else_of_its_check_has_passed() {
    let bounds = Bounds { min: None, max: Some(1.0) };
    let errors = Check { name: "errors".into(), source: Source::Template, bounds };
    let mut checks = plan().checks;
    checks.push(errors);
    let webhooks = vec![hook("load", WebhookKind::Rollout)];
    let mut world = World::rolling(Plan { checks, webhooks, ..plan() }, Phase::Progressing, 10.0);
    let asked = |world: &World| world.last.as_ref().unwrap().check_requests.iter().any(|ask| ask.name == "errors");
    world.requests = 0;
    world.run_for(120);
    assert!(world.code() == "Insufficient" && !asked(&world));
    world.requests = 100;
    world.until(60, |world| world.code() == "WaitingForAnswer");
    assert!(!asked(&world));
    answer(&mut world, "load", CheckResult::Passed);
    drop(world.step());
    assert!(asked(&world));
    answer(&mut world, "errors", CheckResult::Value(0.5));
    let before = world.state.clone();
    drop(world.step());
    assert!(world.state.run.as_ref().unwrap().checks > before.run.unwrap().checks);
}

#[test]
fn the_guard_of_an_ab_test_is_not_silent_though_nothing_was_counted_at_rest() {
    let mut world = World::new(Plan { steps: Step::ab_test(3), checks: Vec::new(), ..plan() });
    world.requests = 0;
    world.until(60, |world| world.phase() == Phase::Initialized);
    world.target = revision("v2");
    world.until(60, |world| world.state.traffic.matching);
    let limits = &world.state.traffic.limits[0];
    assert_eq!(limits.absolute_limit(4), Some(4), "four failures, no success, and no request of the primary yet");
    assert!(limits.absolute_limit(1_000_000).is_some(), "however long the epoch lasts");
}

#[test]
fn a_rollout_begins_with_what_the_last_one_knew_of_the_primary() {
    let ab = || Plan { steps: Step::ab_test(3), checks: Vec::new(), ..plan() };
    let mut world = World::new(ab());
    world.requests = 0;
    world.until(60, |world| world.phase() == Phase::Initialized);
    world.state.ended = Some(Ended { primary: [1_000, 300], ..Ended::default() });
    world.target = revision("v2");
    world.until(60, |world| world.state.traffic.matching);
    assert_eq!(
        world.state.traffic.limits[0].absolute_limit(40),
        None,
        "a third of its requests fails: so may the canary's"
    );
}

#[test]
fn a_promotion_whose_primary_cannot_keep_a_pod_costs_no_request() {
    let skipped = Plan { skip_analysis: true, ..plan() };
    let returning = Plan { promotion_step: Some(weight(25.0)), ..plan() };
    for plan in [plan(), skipped, returning, Plan { steps: Step::ab_test(2), ..plan() }] {
        let mut world = World::initialized(plan);
        world.update_stops_primary = true;
        world.target = revision("v2");
        world.until(120, |world| world.primary.revision == Some(revision("v2")));
        assert_eq!(world.state.traffic.weight, Weight::FULL, "before the primary is touched");
        assert!(world.state.traffic.fallback && !world.primary.available);
        world.until(120, |world| world.phase() == Phase::Succeeded);
        assert_eq!(world.failed_users, 0);
    }
}

#[test]
fn a_primary_that_has_no_pod_left_during_its_promotion_leaves_all_to_the_canary() {
    let mut world = World::rolling(plan(), Phase::Progressing, 30.0);
    world.primary_comes_up = false;
    world.until(30, |world| world.phase() == Phase::Promoting && world.primary.revision == Some(revision("v2")));
    world.primary.available = false;
    drop(world.step());
    assert_eq!(world.state.traffic.weight, Weight::FULL);
    world.primary_comes_up = true;
    world.until(30, |world| world.phase() == Phase::Succeeded);
    assert_eq!(world.state.traffic.weight, Weight::ZERO);
}
