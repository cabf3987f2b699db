//! One of many processes: it lets out a few failures, and waits until the controller has seen them.

#![allow(clippy::unwrap_used, reason = "a test's helpers are tests")]

mod vm;

use vm::{ID, Vm, canary, config, to};
use weir_filter::Choice;
use weir_wire::names::{Arm, Kind, Metric};
use weir_wire::{Canary, Limits};

fn leased(lease: u32, seen: Vec<[u64; 2]>) -> Canary {
    // Tables are for modules that know no lease: these would trip at once.
    let limits = vec![Limits { epoch: 1, absolute: vec![[1, 1]], end: [0, 1_000], ..Limits::default() }];
    Canary { lease, seen, limits, ..canary(10_000) }
}

#[test]
fn after_its_first_failure_a_process_sends_no_more_to_the_canary_until_the_controller_has_seen_it() {
    let mut vm = Vm::running(&config(1, vec![leased(1, vec![])]));
    let mut other = Vm::new(vm.host.another_vm());
    other.configure(&config(1, vec![leased(1, vec![])])).unwrap();
    assert_eq!((vm.exchange("200"), vm.metric(Metric::Held(ID))), (to(Arm::Canary), 0));
    assert_eq!(vm.exchange("500"), to(Arm::Canary));
    assert_eq!(vm.metric(Metric::Held(ID)), 1, "whoever reads the failure reads that it waits");
    assert_eq!(vm.counter(1, Arm::Canary, Kind::Failure), 1);
    assert_eq!(vm.exchange("200"), Some(Choice::Refused));
    assert_eq!(other.exchange("200"), Some(Choice::Refused), "all workers wait");
    vm.filter.tick(&mut vm.host);
    assert_eq!(vm.metric(Metric::Tripped(ID)), 0, "no verdict");
    let boot = vm.metric(Metric::Boot);
    vm.configure(&config(2, vec![leased(1, vec![[boot + 1, 1]])])).unwrap();
    assert_eq!(vm.exchange("200"), Some(Choice::Refused), "another process's failures were seen");
    vm.configure(&config(3, vec![leased(1, vec![[boot, 1]])])).unwrap();
    assert_eq!((vm.exchange("200"), other.exchange("500")), (to(Arm::Canary), to(Arm::Canary)));
    // A configuration that does not name it any more takes nothing back.
    vm.configure(&config(4, vec![leased(1, vec![])])).unwrap();
    assert_eq!((vm.exchange("200"), other.metric(Metric::Held(ID))), (Some(Choice::Refused), 2));
    vm.configure(&config(5, vec![leased(1, vec![[boot, 2]])])).unwrap();
    vm.filter.tick(&mut vm.host);
    other.filter.tick(&mut other.host);
    assert_eq!((vm.exchange("200"), vm.metric(Metric::Held(ID))), (to(Arm::Canary), 0));
}

#[test]
fn a_longer_lease_lets_out_more_and_another_run_begins_anew() {
    let mut vm = Vm::running(&config(1, vec![leased(3, vec![])]));
    let sent = (0..10).filter(|_| vm.exchange("500") == to(Arm::Canary)).count();
    assert_eq!(sent, 3);
    vm.configure(&config(2, vec![Canary { run: "r2".into(), ..leased(1, vec![]) }])).unwrap();
    assert_eq!((vm.exchange("500"), vm.exchange("500")), (to(Arm::Canary), Some(Choice::Refused)));
}

#[test]
fn a_canary_that_serves_because_the_primary_cannot_is_not_waited_for() {
    let fallback = Canary { fallback: true, ..leased(1, vec![]) };
    let mut vm = Vm::running(&config(1, vec![fallback]));
    assert!((0..10).all(|_| vm.exchange("500") == to(Arm::Canary)));
}

#[test]
fn an_older_controller_that_knows_no_lease_has_its_tables_judged() {
    let limits = vec![Limits { epoch: 1, absolute: vec![[1, 2]], end: [0, 1_000], ..Limits::default() }];
    let mut vm = Vm::running(&config(1, vec![Canary { limits, ..canary(10_000) }]));
    assert_eq!((0..10).filter(|_| vm.exchange("500") == to(Arm::Canary)).count(), 2);
    assert_eq!((vm.metric(Metric::Tripped(ID)), vm.metric(Metric::Held(ID))), (1, 0));
}
