//! What counts, of which request, when, and for whom.

#![allow(clippy::unwrap_used, reason = "a test's helpers are tests")]

mod vm;

use vm::{ID, Vm, canary, config, to};
use weir_filter::Choice;
use weir_wire::names::{Arm, Cohort, Kind, Metric};
use weir_wire::{Canary, Limits};

#[test]
fn counts_reach_the_proxy_on_the_tick_and_failures_at_once() {
    let mut vm = Vm::running(&config(1, vec![canary(10_000)]));
    let (last, _) = vm.begin("shop.example.com");
    vm.exchange("200");
    assert_eq!(vm.counter(1, Arm::Canary, Kind::Assigned), 0);
    vm.exchange("500");
    assert_eq!(vm.counter(1, Arm::Canary, Kind::Assigned), 3, "a failure hands over all there is");
    assert_eq!(vm.counter(1, Arm::Canary, Kind::Failure), 1);
    vm.exchange("200");
    assert_eq!(vm.counter(1, Arm::Canary, Kind::Success), 1);
    vm.filter.tick(&mut vm.host);
    assert_eq!(vm.counter(1, Arm::Canary, Kind::Success), 2);
    vm.end(last, "200");
    assert_eq!(vm.counter(1, Arm::Canary, Kind::Latency(0)), 4);
}

#[test]
fn a_vm_that_goes_takes_no_count_with_it() {
    let other = Canary { id: "b".repeat(16), hosts: vec!["other.example.com".into()], ..canary(0) };
    let mut vm = Vm::running(&config(1, vec![canary(10_000), other]));
    let streams = ["shop.example.com", "other.example.com", "shop.example.com"].map(|host| vm.begin(host).0);
    for stream in streams {
        vm.end(stream, "200");
    }
    let Vm { host, .. } = vm;
    let kept = |id: &str, arm, kind| {
        let metric = Metric::Requests { id, slot: 1, arm, cohort: Cohort::Draw, kind };
        host.metrics().get(&metric.to_string()).copied()
    };
    for kind in [Kind::Assigned, Kind::Success] {
        assert_eq!(kept(ID, Arm::Canary, kind), Some(2));
        assert_eq!(kept(&"b".repeat(16), Arm::Primary, kind), Some(1));
    }
}

#[test]
fn a_stream_is_counted_in_its_own_epoch_and_after_eight_of_them_only_as_late() {
    let mut vm = Vm::running(&config(1, vec![canary(10_000)]));
    let streams: Vec<u32> = (0..2).map(|_| vm.begin("shop.example.com").0).collect();
    for (generation, epoch) in [(2, 8), (3, 9)] {
        vm.configure(&config(generation, vec![Canary { epoch, ..canary(10_000) }])).unwrap();
        vm.end(streams[generation as usize - 2], "200");
    }
    vm.filter.tick(&mut vm.host);
    assert_eq!((vm.counter(1, Arm::Canary, Kind::Success), vm.metric(Metric::Late(ID))), (1, 1));
}

#[test]
fn a_canary_that_leaves_the_configuration_is_counted_to_its_last_stream() {
    let mut vm = Vm::running(&config(1, vec![canary(10_000)]));
    let (stream, _) = vm.begin("shop.example.com");
    vm.configure(&config(2, vec![])).unwrap();
    vm.filter.tick(&mut vm.host);
    assert_eq!(vm.begin("shop.example.com").1, None);
    vm.end(stream, "200");
    vm.filter.tick(&mut vm.host);
    assert_eq!(vm.counter(1, Arm::Canary, Kind::Success), 1);
    vm.configure(&config(3, vec![canary(10_000)])).unwrap();
    vm.exchange("200");
    vm.filter.tick(&mut vm.host);
    assert_eq!(vm.counter(1, Arm::Canary, Kind::Success), 2, "and goes on when it comes back");
}

#[test]
fn what_the_gateway_answers_by_itself_counts_for_no_arm_and_opens_nothing() {
    let limits =
        Limits { epoch: 1, comparison: vec![[0, 1]], absolute: vec![[1, 1]], end: [9, 9], ..Limits::default() };
    let guarded = Canary { limits: vec![limits], admission: 2, ..canary(10_000) };
    let mut vm = Vm::running(&config(1, vec![guarded]));
    for (status, details) in [("301", "direct_response"), ("503", "direct_response"), ("403", "rbac_access_denied")] {
        for _ in 0..10 {
            let (stream, choice) = vm.begin("shop.example.com");
            assert_eq!(choice, to(Arm::Canary));
            vm.host.response = vec![(":status".into(), status.into())];
            vm.host.details = details.into();
            vm.filter.ended(&mut vm.host, stream);
        }
    }
    let counted = [Kind::Assigned, Kind::Unjudged, Kind::Success, Kind::Failure, Kind::Abandoned, Kind::Latency(0)];
    assert_eq!(counted.map(|kind| vm.counter(1, Arm::Canary, kind)), [30, 30, 0, 0, 0, 0]);
    assert_eq!(vm.metric(Metric::Tripped(ID)), 0);
    assert_eq!((vm.begin("shop.example.com").1, vm.begin("shop.example.com").1), (to(Arm::Canary), to(Arm::Canary)));
    assert_eq!(vm.begin("shop.example.com").1, Some(Choice::Refused), "nothing of the canary has been seen yet");
}

#[test]
fn an_arms_answer_that_ends_early_is_not_taken_for_the_gateways() {
    let ended = [
        ("101", "", Kind::Success),
        ("101", "downstream_remote_disconnect", Kind::Success),
        ("200", "downstream_remote_reset", Kind::Success),
        ("200", "upstream_reset_after_response_started{connection_termination}", Kind::Success),
        ("200", "direct_response", Kind::Unjudged),
    ];
    for (status, details, kind) in ended {
        let mut vm = Vm::running(&config(1, vec![canary(10_000)]));
        let (stream, _) = vm.begin("shop.example.com");
        vm.host.response = vec![(":status".into(), status.into())];
        vm.host.details = details.into();
        vm.filter.ended(&mut vm.host, stream);
        vm.filter.tick(&mut vm.host);
        assert_eq!(vm.counter(1, Arm::Canary, kind), 1, "{status} {details}");
    }
}

#[test]
fn an_upgrade_is_counted_when_it_is_accepted_and_only_once() {
    let mut vm = Vm::running(&config(1, vec![Canary { admission: 1, ..canary(10_000) }]));
    let (stream, _) = vm.begin("shop.example.com");
    vm.host.request.push(("upgrade".into(), "websocket".into()));
    vm.filter.goes_on(&mut vm.host, stream);
    vm.filter.tick(&mut vm.host);
    assert_eq!(vm.counter(1, Arm::Canary, Kind::Success), 0, "not accepted yet");
    vm.host.statuses.insert(stream, 101);
    for _ in 0..2 {
        vm.filter.tick(&mut vm.host);
        assert_eq!(vm.counter(1, Arm::Canary, Kind::Success), 1);
    }
    assert_eq!(vm.begin("shop.example.com").1, to(Arm::Canary), "its place is free");
    vm.host.response = vec![(":status".into(), "101".into())];
    vm.filter.ended(&mut vm.host, stream);
    vm.filter.tick(&mut vm.host);
    let kinds = [Kind::Success, Kind::Latency(0), Kind::Latency(1), Kind::Latency(2)];
    assert_eq!(kinds.map(|kind| vm.counter(1, Arm::Canary, kind)), [1, 0, 0, 0]);
}

#[test]
fn a_latency_ends_with_the_upstreams_last_byte_however_slowly_the_client_reads() {
    let mut vm = Vm::running(&config(1, vec![canary(10_000)]));
    let (stream, _) = vm.begin("shop.example.com");
    vm.host.now_ns += 5_000_000;
    vm.filter.response_body(&mut vm.host, stream, 500, true);
    vm.host.now_ns += 60_000_000_000;
    vm.host.response = vec![(":status".into(), "200".into())];
    vm.filter.ended(&mut vm.host, stream);
    let (slow, _) = vm.begin("shop.example.com");
    vm.host.now_ns += 50_000_000;
    vm.end(slow, "200");
    vm.filter.tick(&mut vm.host);
    assert_eq!([0, 1, 2].map(|edge| vm.counter(1, Arm::Canary, Kind::Latency(edge))), [1, 1, 0]);
}

#[test]
fn one_connection_cannot_fail_an_arm_that_it_chooses_and_many_can() {
    let limits = Limits { epoch: 1, comparison: vec![], absolute: vec![[1, 5]], end: [0, 1_000], ..Limits::default() };
    let conditions = serde_json::from_str(r#"[{"headers": {"x-beta": {"exact": "1"}}}]"#).unwrap();
    let mut vm = Vm::running(&config(1, vec![Canary { conditions, limits: vec![limits], ..canary(0) }]));
    let fail = |vm: &mut Vm, connection| {
        vm.host.request =
            [(":authority", "shop.example.com"), ("x-beta", "1")].map(|(n, v)| (n.into(), v.into())).to_vec();
        let choice = vm.filter.request(&mut vm.host, 1);
        vm.host.connection = connection;
        vm.end(1, "500");
        choice
    };
    for _ in 0..20 {
        assert!(matches!(fail(&mut vm, 7), Some(Choice::Given { arm: Arm::Canary, cohort: Cohort::Match, .. })));
    }
    let of =
        |vm: &Vm, kind| vm.metric(Metric::Requests { id: ID, slot: 1, arm: Arm::Canary, cohort: Cohort::Match, kind });
    assert_eq!([of(&vm, Kind::Failure), of(&vm, Kind::Unjudged), vm.metric(Metric::Tripped(ID))], [3, 17, 0]);
    for connection in 8..10 {
        fail(&mut vm, connection);
    }
    assert_eq!(vm.metric(Metric::Tripped(ID)), 1, "three clients are no accident");
}

#[test]
fn slow_uploads_of_one_connection_say_little_of_how_long_an_arm_that_it_chooses_takes() {
    let conditions = serde_json::from_str(r#"[{"headers": {"x-beta": {"exact": "1"}}}]"#).unwrap();
    let mut vm = Vm::running(&config(1, vec![Canary { conditions, ..canary(0) }]));
    let took = |vm: &mut Vm, connection, has_body: bool, ms: u64| {
        vm.host.request =
            [(":authority", "shop.example.com"), ("x-beta", "1")].map(|(n, v)| (n.into(), v.into())).to_vec();
        vm.filter.request(&mut vm.host, 1);
        if has_body {
            vm.filter.goes_on(&mut vm.host, 1);
        }
        vm.host.connection = connection;
        vm.host.now_ns += ms * 1_000_000;
        vm.end(1, "200");
        vm.filter.tick(&mut vm.host);
        let of = |kind| vm.metric(Metric::Requests { id: ID, slot: 1, arm: Arm::Canary, cohort: Cohort::Match, kind });
        [of(Kind::Success), of(Kind::Latency(0)), of(Kind::Latency(1)), of(Kind::Latency(2))]
    };
    let mut last = [0; 4];
    for _ in 0..10 {
        last = took(&mut vm, 7, true, 5_000);
    }
    assert_eq!(last, [10, 0, 0, 3], "all are successes, and three of them took long");
    assert_eq!(took(&mut vm, 7, true, 5), [11, 1, 0, 3], "what arrives at once is judged");
    assert_eq!(took(&mut vm, 7, false, 5_000), [12, 1, 0, 4], "what has no body has arrived when its time begins");
    assert_eq!(took(&mut vm, 8, true, 50), [13, 1, 1, 4], "another client");
}

#[test]
fn answers_that_a_client_can_cause_are_counted_beside_success() {
    let mut vm = Vm::running(&config(1, vec![canary(10_000)]));
    for status in ["200", "404", "429", "500"] {
        vm.exchange(status);
    }
    vm.filter.tick(&mut vm.host);
    let kinds = [Kind::Success, Kind::ClientError, Kind::Failure];
    assert_eq!(kinds.map(|kind| vm.counter(1, Arm::Canary, kind)), [3, 2, 1]);
}
