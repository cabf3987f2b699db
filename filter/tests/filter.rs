//! The filter from outside, on a simulated host: what it does over a configuration's and a request's whole life.

#![allow(clippy::unwrap_used, reason = "a test's helpers are tests")]

mod vm;

use vm::{ID, Vm, canary, config, to};
use weir_filter::simulated::SimulatedHost;
use weir_filter::{Choice, Refusal};
use weir_wire::names::{Arm, Cohort, Kind, Metric};
use weir_wire::{Canary, Condition, Config, Limits, Lookup, MatchedSplit, TOKEN_HEADER, Weight};

#[test]
fn nothing_happens_before_a_configuration() {
    let mut vm = Vm::new(SimulatedHost::default());
    assert_eq!(vm.exchange("200"), None);
    vm.filter.tick(&mut vm.host);
    assert_eq!((vm.host.request.len(), vm.host.metrics().len()), (1, 0));
}

#[test]
fn a_request_to_the_canary_gets_the_token_and_no_other_request_is_touched() {
    let mut vm = Vm::running(&config(1, vec![canary(10_000)]));
    assert_eq!(vm.exchange("200"), to(Arm::Canary));
    assert_eq!(vm.host.request[1], (TOKEN_HEADER.into(), "t0ken".into()));
    assert_eq!(vm.begin("other.example.com").1, None);
    assert_eq!(vm.host.request.len(), 1);
    let mut idle = Vm::running(&config(1, vec![canary(0)]));
    assert_eq!(idle.exchange("200"), to(Arm::Primary));
    assert_eq!(idle.host.request.len(), 1);
}

#[test]
fn a_split_of_matching_requests_draws_among_them_and_leaves_everybody_else_on_the_primary() {
    let conditions: Vec<Condition> = serde_json::from_str(r#"[{"headers": {"x-beta": {"exact": "1"}}}]"#).unwrap();
    let matched = |parts| Some(MatchedSplit { weight: Weight::new(parts).unwrap(), conditions: conditions.clone() });
    let mut vm = Vm::running(&config(1, vec![Canary { matched: matched(5_000), ..canary(0) }]));
    let beta = |vm: &mut Vm| {
        vm.next += 1;
        vm.host.request = vec![(":authority".into(), "shop.example.com".into()), ("x-beta".into(), "1".into())];
        let choice = vm.filter.request(&mut vm.host, vm.next);
        vm.end(vm.next, "200");
        choice
    };
    let drawn: Vec<_> = (0..400).map(|_| beta(&mut vm)).collect();
    let to_canary = drawn.iter().filter(|choice| **choice == to(Arm::Canary)).count();
    assert!(
        (140..260).contains(&to_canary)
            && drawn.iter().all(|choice| [to(Arm::Canary), to(Arm::Primary)].contains(choice))
    );
    let others: Vec<_> = (0..100).map(|_| vm.exchange("500")).collect();
    let left = Some(Choice::Given { arm: Arm::Primary, cohort: Cohort::Match, cookie: None });
    assert!(others.iter().all(|choice| *choice == left), "no draws: the comparison is one of matching requests");
    vm.filter.tick(&mut vm.host);
    let counted = |arm, cohort, kind| vm.metric(Metric::Requests { id: ID, slot: 1, arm, cohort, kind });
    assert_eq!(counted(Arm::Canary, Cohort::Draw, Kind::Assigned), to_canary as u64);
    assert_eq!(counted(Arm::Primary, Cohort::Draw, Kind::Assigned), 400 - to_canary as u64);
    assert_eq!(counted(Arm::Primary, Cohort::Match, Kind::Failure), 100, "that nothing matches is nobody's choice");
    assert_eq!(vm.metric(Metric::Level), weir_wire::names::LEVEL);
    vm.configure(&config(2, vec![Canary { matched: matched(10_000), epoch: 2, ..canary(0) }])).unwrap();
    assert!((0..20).all(|_| beta(&mut vm) == to(Arm::Canary)));
}

#[test]
fn an_ordinary_request_takes_four_host_calls() {
    let mut vm = Vm::running(&config(1, vec![canary(0)]));
    vm.exchange("200");
    let before = vm.host.calls;
    vm.exchange("200");
    assert_eq!(vm.host.calls - before, 4, ":authority, clock; clock; headers");
    let before = vm.host.calls;
    let (stream, _) = vm.begin("other.example.com");
    vm.end(stream, "200");
    assert_eq!(vm.host.calls - before, 1, ":authority");
}

#[test]
fn streams_of_an_earlier_run_do_not_count_for_the_next_ones_admission() {
    let with =
        |generation, run: &str| config(generation, vec![Canary { run: run.into(), admission: 1, ..canary(10_000) }]);
    let mut vm = Vm::running(&with(1, "r1"));
    let (stream, _) = vm.begin("shop.example.com");
    vm.configure(&with(2, "r2")).unwrap();
    assert_eq!(vm.begin("shop.example.com").1, to(Arm::Canary));
    vm.end(stream, "200");
    assert_eq!(vm.begin("shop.example.com").1, Some(Choice::Refused));
}

#[test]
fn a_cookie_says_nothing_of_later_draws() {
    let affinity = weir_wire::Affinity { cookie: "weir".into(), ..weir_wire::Affinity::default() };
    let sticky = Canary { affinity: Some(affinity), ..canary(5_000) };
    let numbers = |draws: usize| -> Vec<Option<u64>> {
        let mut vm = Vm::running(&config(
            1,
            vec![sticky.clone(), Canary { id: "b".repeat(16), hosts: vec!["b".into()], ..canary(5_000) }],
        ));
        (0..20)
            .map(|_| {
                for _ in 0..draws {
                    vm.begin("b");
                }
                match vm.begin("shop.example.com").1 {
                    Some(Choice::Given { cookie, .. }) => cookie,
                    _ => None,
                }
            })
            .collect()
    };
    assert_eq!(numbers(0), numbers(3), "the proxy's randomness, whatever the generator has drawn meanwhile");
    assert!(numbers(0).iter().all(Option::is_some));
}

#[test]
fn the_guard_stops_every_vm_and_only_its_own_run() {
    let limits = Limits { epoch: 1, comparison: vec![[0, 2]], absolute: vec![], end: [9, 0], ..Limits::default() };
    let guarded = Canary { limits: vec![limits], ..canary(10_000) };
    let mut one = Vm::running(&config(1, vec![guarded.clone()]));
    let mut two = Vm::new(one.host.another_vm());
    two.configure(&config(1, vec![guarded.clone()])).unwrap();
    assert_eq!((one.exchange("500"), two.exchange("500")), (to(Arm::Canary), to(Arm::Canary)));
    assert_eq!((one.exchange("200"), two.exchange("200")), (to(Arm::Primary), to(Arm::Primary)));
    assert_eq!((one.metric(Metric::Tripped(ID)), one.metric(Metric::TripTest(ID))), (1, 1));
    one.configure(&config(2, vec![Canary { weight: Weight::FULL, epoch: 2, ..guarded.clone() }])).unwrap();
    assert_eq!(one.exchange("200"), to(Arm::Primary), "the same run");
    one.configure(&config(3, vec![Canary { run: "r2".into(), epoch: 3, ..guarded }])).unwrap();
    assert_eq!(one.exchange("200"), to(Arm::Canary), "another run");
    one.filter.tick(&mut one.host);
    assert_eq!(one.metric(Metric::Tripped(ID)), 0);
}

#[test]
fn a_canary_that_nobody_serves_is_left_alone_by_every_vm_for_a_second() {
    let no_endpoint = weir_filter::outcome::Flags::NO_ENDPOINT;
    let mut one = Vm::running(&config(1, vec![canary(10_000)]));
    let mut two = Vm::new(one.host.another_vm());
    two.configure(&config(1, vec![canary(10_000)])).unwrap();
    assert_eq!(one.exchange("503"), to(Arm::Canary), "a server's own error");
    one.host.flags = no_endpoint;
    assert_eq!(one.exchange("503"), to(Arm::Canary), "that is found out by the first request");
    one.host.flags = 0;
    for vm in [&mut one, &mut two] {
        assert_eq!(vm.exchange("200"), Some(Choice::Refused));
        vm.host.now_ns += 1_000_000_000;
        assert_eq!(vm.exchange("200"), to(Arm::Canary), "then the next one tries");
    }
    assert_eq!((one.counter(1, Arm::Canary, Kind::Failure), one.metric(Metric::Refused(ID))), (2, 2));
}

#[test]
fn a_primary_that_nobody_serves_changes_nothing() {
    let mut vm = Vm::running(&config(1, vec![canary(0)]));
    vm.host.flags = weir_filter::outcome::Flags::NO_ENDPOINT;
    assert_eq!((vm.exchange("503"), vm.exchange("503")), (to(Arm::Primary), to(Arm::Primary)));
    vm.configure(&config(2, vec![canary(10_000)])).unwrap();
    assert_eq!(vm.exchange("200"), to(Arm::Canary));
}

#[test]
fn failures_of_an_earlier_run_do_not_stop_the_next() {
    let limits = |epoch| Limits { epoch, comparison: vec![[0, 1]], absolute: vec![], end: [9, 0], ..Limits::default() };
    let in_run = |generation, run: &str, epoch: u64| {
        let limits = vec![limits(epoch), limits(1)];
        config(generation, vec![Canary { run: run.into(), epoch, limits, ..canary(10_000) }])
    };
    let mut vm = Vm::running(&in_run(1, "r1", 1));
    let (stream, _) = vm.begin("shop.example.com");
    vm.configure(&in_run(2, "r2", 2)).unwrap();
    vm.end(stream, "500");
    assert_eq!(vm.exchange("200"), to(Arm::Canary));
}

#[test]
fn a_canary_gets_nothing_once_its_configuration_has_expired_until_a_newer_generation() {
    let until = |generation, expires_at| Config { expires_at, ..config(generation, vec![canary(10_000)]) };
    let mut vm = Vm::running(&until(1, 1_600));
    vm.host.unix_seconds = 1_600;
    vm.filter.tick(&mut vm.host);
    assert_eq!(vm.exchange("200"), to(Arm::Canary));
    vm.host.unix_seconds = 1_601;
    vm.filter.tick(&mut vm.host);
    assert_eq!(vm.exchange("200"), to(Arm::Primary));
    assert_eq!(vm.metric(Metric::Disarmed), 1);
    vm.configure(&until(2, 2_200)).unwrap();
    assert_eq!(vm.exchange("200"), to(Arm::Canary));
    vm.configure(&until(3, 0)).unwrap();
    vm.host.unix_seconds = 1_000_000;
    vm.filter.tick(&mut vm.host);
    assert_eq!(vm.exchange("200"), to(Arm::Canary), "an older controller knows no such time");
}

#[test]
fn a_canary_that_serves_because_the_primary_cannot_keeps_its_requests_whoever_is_away() {
    let served = vec![Canary { fallback: true, ..canary(10_000) }];
    let mut vm = Vm::running(&Config { expires_at: 1_600, ..config(1, served.clone()) });
    vm.host.unix_seconds = 5_000;
    vm.filter.tick(&mut vm.host);
    assert_eq!(vm.exchange("200"), to(Arm::Canary), "it runs on");
    let mut restarted = Vm::new(SimulatedHost::default());
    restarted.host.unix_seconds = 5_000;
    restarted.configure(&Config { expires_at: 1_600, ..config(1, served) }).unwrap();
    restarted.filter.tick(&mut restarted.host);
    assert_eq!(restarted.exchange("200"), to(Arm::Canary), "and after a restart");
}

#[test]
fn a_late_start_sends_nothing_to_the_canary_until_a_newer_generation() {
    let mut vm = Vm::new(SimulatedHost::default());
    vm.host.unix_seconds = 2_000;
    vm.configure(&config(5, vec![canary(10_000)])).unwrap();
    assert_eq!(vm.exchange("200"), to(Arm::Primary));
    vm.filter.tick(&mut vm.host);
    assert_eq!(vm.metric(Metric::Disarmed), 1);
    vm.configure(&config(6, vec![canary(10_000)])).unwrap();
    assert_eq!(vm.exchange("200"), to(Arm::Canary));
    vm.filter.tick(&mut vm.host);
    assert_eq!(vm.metric(Metric::Disarmed), 0);
}

#[test]
fn a_throw_away_vm_refuses_what_is_older_and_a_worker_only_ignores_it() {
    let mut worker = Vm::running(&config(5, vec![canary(10_000)]));
    let mut throw_away = Vm::new(worker.host.another_vm());
    assert!(matches!(throw_away.configure(&config(4, vec![canary(0)])), Err(Refusal::Older { found: 4, newest: 5 })));
    assert!(matches!(throw_away.configure(&config(5, vec![canary(0)])), Err(Refusal::Different(5))));
    assert_eq!(throw_away.host.log.len(), 2);
    worker.configure(&config(4, vec![canary(0)])).unwrap();
    assert_eq!((worker.filter.generation(), worker.exchange("200")), (5, to(Arm::Canary)));
    worker.configure(&config(5, vec![canary(10_000)])).unwrap();
    assert_eq!(worker.host.log, ["weir: generation 4 ignored, 5 runs here"]);
}

#[test]
fn a_vm_reports_a_generation_once_and_after_its_first_tick() {
    let mut vm = Vm::running(&config(9, vec![]));
    assert_eq!(vm.metric(Metric::Vms(1)), 0);
    for _ in 0..3 {
        vm.filter.tick(&mut vm.host);
        assert_eq!((vm.metric(Metric::Vms(1)), vm.metric(Metric::Generation(1))), (1, 9));
    }
    vm.configure(&config(9, vec![])).unwrap();
    vm.filter.tick(&mut vm.host);
    assert_eq!(vm.metric(Metric::Vms(1)), 1, "the same configuration again");
    assert!(vm.metric(Metric::Boot) > 0);
}

#[test]
fn the_number_of_vms_never_goes_back_whatever_runs_at_the_same_time() {
    // Three VMs take a generation; while the first one ticks, the others tick just before one of its host calls, whichever.
    use std::{cell::RefCell, rc::Rc};
    let generation = 9;
    let slot = (generation % weir_wire::SLOTS) as u8;
    let (vms, of) = (Metric::Vms(slot).to_string(), Metric::Generation(slot).to_string());
    let calls_of_a_tick = {
        let mut vm = Vm::running(&config(generation, vec![]));
        let before = vm.host.calls;
        vm.filter.tick(&mut vm.host);
        vm.host.calls - before
    };
    for at in 0..=calls_of_a_tick {
        // A generation that owned the slot before had more VMs.
        let mut first = Vm::running(&config(generation - weir_wire::SLOTS, vec![]));
        let others: Vec<Vm> = (0..2).map(|_| Vm::new(first.host.another_vm())).collect();
        let others = Rc::new(RefCell::new(others));
        let tick = |vms: &mut Vec<Vm>| vms.iter_mut().for_each(|vm| vm.filter.tick(&mut vm.host));
        others
            .borrow_mut()
            .iter_mut()
            .for_each(|vm| vm.configure(&config(generation - weir_wire::SLOTS, vec![])).unwrap());
        first.filter.tick(&mut first.host);
        tick(&mut others.borrow_mut());
        assert_eq!(first.metric(Metric::Vms(slot)), 3);
        let former = first.host.records().len();

        first.configure(&config(generation, vec![])).unwrap();
        others.borrow_mut().iter_mut().for_each(|vm| vm.configure(&config(generation, vec![])).unwrap());
        let (meanwhile, start) = (Rc::clone(&others), first.host.calls);
        first.host.meanwhile = weir_filter::simulated::Meanwhile::new(move |call| {
            if call == start + at {
                tick(&mut meanwhile.borrow_mut());
            }
        });
        first.filter.tick(&mut first.host);
        first.host.meanwhile = Default::default();
        // Whoever found another one publishing ticks again.
        tick(&mut others.borrow_mut());
        first.filter.tick(&mut first.host);

        let (mut owner, mut counts) = (0, vec![]);
        for (name, value) in &first.host.records()[former..] {
            if *name == of {
                owner = *value;
            } else if *name == vms && owner == generation {
                counts.push(*value);
            }
        }
        assert!(counts.is_sorted() && counts.last() == Some(&3), "before call {at}: {counts:?}");
    }
}

#[test]
fn ticks_are_quicker_during_a_run() {
    let idle = Canary { run: String::new(), ..canary(0) };
    for (canary, period) in [(canary(0), weir_wire::RUN_TICK_MS), (idle, weir_wire::TICK_MS)] {
        let mut vm = Vm::running(&config(1, vec![canary]));
        vm.filter.tick(&mut vm.host);
        assert_eq!(vm.host.tick_ms, period);
    }
}

#[test]
fn a_configuration_is_acknowledged_without_waiting_for_the_tick_of_the_one_before() {
    let mut vm = Vm::running(&config(1, vec![canary(0)]));
    vm.filter.tick(&mut vm.host);
    vm.configure(&config(2, vec![canary(0)])).unwrap();
    assert_eq!(vm.host.tick_ms, 1);
    vm.filter.tick(&mut vm.host);
    assert_eq!(vm.host.tick_ms, weir_wire::RUN_TICK_MS);
}

#[test]
fn a_refused_configuration_names_the_field_and_changes_nothing() {
    let mut vm = Vm::running(&config(1, vec![canary(10_000)]));
    let bad = serde_json::json!([{"headers": {"x": {"regex": "["}}}]);
    let mut bad_config = serde_json::to_value(config(2, vec![canary(0)])).unwrap();
    bad_config["canaries"][0]["match"] = bad;
    vm.filter.configure(&mut vm.host, bad_config.to_string().as_bytes()).unwrap_err();
    assert!(
        vm.host.log[0].contains("canaries[0] (shop/cart): match[0].headers.x: regular expression"),
        "{:?}",
        vm.host.log
    );
    assert_eq!((vm.filter.generation(), vm.exchange("200")), (1, to(Arm::Canary)));
}

#[test]
fn a_route_is_read_only_where_it_decides() {
    let by_route = Canary { lookup: Lookup::Route, routes: vec!["shop/cart".into()], ..canary(10_000) };
    let mut vm = Vm::running(&config(1, vec![by_route]));
    vm.host.route = "shop/cart".into();
    assert_eq!(vm.exchange("200"), to(Arm::Canary));
    vm.host.route = "shop/other".into();
    assert_eq!(vm.exchange("200"), None);
    vm.host.route = "shop/cart".into();
    assert_eq!(vm.begin("other.example.com").1, None);
}
