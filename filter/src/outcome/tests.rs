//! Endings, one row for each rule.

use super::*;
use crate::simulated::SimulatedHost;

const ENDED: Body = Body { ended: true, bytes: 9, first_message: None, last_byte_ns: 0 };
const OPEN: Body = Body { ended: false, bytes: 0, first_message: None, last_byte_ns: 0 };
const LARGE: Body = Body { bytes: BUFFER, ..OPEN };
const LATER: u64 = PATIENCE_NS;

fn host(headers: &[(&str, &str)], trailers: &[(&str, &str)], flags: u64) -> SimulatedHost {
    let owned = |pairs: &[(&str, &str)]| pairs.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
    let mut host = SimulatedHost::default();
    (host.response, host.trailers, host.flags) = (owned(headers), owned(trailers), flags);
    host
}

fn outcome(headers: &[(&str, &str)], trailers: &[(&str, &str)], flags: u64, body: Body) -> Outcome {
    judge(&mut host(headers, trailers, flags), body, LATER).outcome
}

#[test]
fn a_status_of_500_and_above_is_a_failure_and_any_other_is_not() {
    for (status, expected) in [
        ("200", Outcome::Success),
        ("404", Outcome::Success),
        ("429", Outcome::Success),
        ("499", Outcome::Success),
        ("500", Outcome::Failure),
        ("503", Outcome::Failure),
        ("599", Outcome::Failure),
    ] {
        assert_eq!(outcome(&[(":status", status)], &[], 0, ENDED), expected, "{status}");
        assert_eq!(outcome(&[(":status", status)], &[], 0, OPEN), expected, "{status} without body");
    }
}

#[test]
fn a_server_that_does_not_know_the_clients_method_has_not_failed() {
    for (method, status, expected) in [
        ("PROPFIND", "501", (Outcome::Success, true)),
        ("get", "501", (Outcome::Success, true)),
        ("GET", "501", (Outcome::Failure, false)),
        ("POST", "501", (Outcome::Failure, false)),
        ("PROPFIND", "500", (Outcome::Failure, false)),
    ] {
        let mut host = host(&[(":status", status)], &[], 0);
        host.request = vec![(":method".to_owned(), method.to_owned())];
        let ending = judge(&mut host, ENDED, LATER);
        assert_eq!((ending.outcome, ending.client_error), expected, "{method} {status}");
    }
}

#[test]
fn a_response_that_breaks_off_is_a_failure_and_one_that_is_left_is_abandoned() {
    let ok = [(":status", "200")];
    assert_eq!(outcome(&ok, &[], 0x40, OPEN), Outcome::Failure);
    assert_eq!(outcome(&ok, &[], 0x10, OPEN), Outcome::Failure);
    assert_eq!(outcome(&ok, &[], 0x10000, OPEN), Outcome::Failure);
    assert_eq!(outcome(&ok, &[], 0x40 | Flags::CLIENT_GONE, OPEN), Outcome::Failure);
    assert_eq!(outcome(&ok, &[], Flags::CLIENT_GONE, OPEN), Outcome::Abandoned);
    assert_eq!(outcome(&ok, &[], Flags::CLIENT_RESET, OPEN), Outcome::Abandoned);
    assert_eq!(outcome(&ok, &[], Flags::CLIENT_GONE, ENDED), Outcome::Success);
    assert_eq!(outcome(&[(":status", "500")], &[], Flags::CLIENT_GONE, OPEN), Outcome::Failure);
}

#[test]
fn a_client_that_is_slow_or_does_not_wait_says_nothing_of_the_arm() {
    let ok = [(":status", "200")];
    for flags in [0x4, 0x1_0000, 0x8_0000, 0x40_0000] {
        assert_eq!(outcome(&ok, &[], flags, OPEN), Outcome::Failure, "{flags:x}: the gateway had room for more");
        assert_eq!(outcome(&ok, &[], flags, LARGE), Outcome::Unjudged, "{flags:x}: the client may not have read");
    }
    assert_eq!(outcome(&ok, &[], Flags::CLIENT_RESET, LARGE), Outcome::Unjudged);
    assert_eq!(outcome(&ok, &[], 0x40, LARGE), Outcome::Failure, "an upstream that breaks off is what it is");
    let at_once = judge(&mut host(&ok, &[], Flags::CLIENT_RESET), OPEN, LATER - 1);
    assert_eq!(at_once.outcome, Outcome::Unjudged, "after the headers, which name the arm");
    let waiting = judge(&mut host(&[], &[], Flags::CLIENT_RESET), OPEN, LATER - 1);
    assert_eq!(waiting.outcome, Outcome::Abandoned, "before them no client knows its arm");
}

#[test]
fn what_the_gateway_answers_by_itself_says_nothing_of_the_arm_unless_the_way_to_it_failed() {
    let by = |details: &str, status: &str, flags: u64, headers: &[(&str, &str)]| {
        let all: Vec<_> = headers.iter().copied().chain([(":status", status)]).collect();
        let mut host = host(&all, &[], flags);
        host.details = details.into();
        judge(&mut host, ENDED, 0).outcome
    };
    for (details, status, flags, expected) in [
        ("direct_response", "301", 0, Outcome::Unjudged),
        ("direct_response", "200", 0, Outcome::Unjudged),
        ("direct_response", "503", 0, Outcome::Unjudged),
        ("rbac_access_denied_matched_policy[none]", "403", 0x2000, Outcome::Unjudged),
        ("route_not_found", "404", 0x100, Outcome::Unjudged),
        ("request_overall_timeout", "408", 0x1_0000, Outcome::Unjudged),
        ("stream_idle_timeout", "504", 0x1_0000, Outcome::Failure),
        ("no_healthy_upstream", "503", 0x2, Outcome::Failure),
        ("cluster_not_found", "503", 0x100_0000, Outcome::Failure),
        ("upstream_reset_before_response_started{connection_failure}", "503", 0x20, Outcome::Failure),
        ("response_timeout", "504", 0x4, Outcome::Failure),
        ("overflow", "503", 0x80, Outcome::Failure),
        ("via_upstream", "200", 0, Outcome::Success),
        ("via_upstream", "503", 0, Outcome::Failure),
    ] {
        assert_eq!(by(details, status, flags, &[]), expected, "{details} {status}");
    }
    let service_time = [("x-envoy-upstream-service-time", "3")];
    assert_eq!(by("not asked", "200", 0, &service_time), Outcome::Success, "the header says enough");
    assert_eq!(by("response_timeout", "504", 0x4, &[]), Outcome::Failure);
    let mut own_deadline = host(&[(":status", "200"), ("grpc-status", "4")], &[], 0x4);
    own_deadline.details = "response_timeout".into();
    own_deadline.request = vec![("grpc-timeout".into(), "1m".into())];
    let ending = judge(&mut own_deadline, OPEN, 0);
    assert_eq!((ending.outcome, ending.client_error), (Outcome::Success, true));
}

#[test]
fn answers_that_a_client_can_cause_are_told_apart() {
    let client_error =
        |headers: &[(&str, &str)]| judge(&mut host(headers, &[], 0), Body { ended: headers.len() == 1, ..OPEN }, 0);
    for (status, expected) in
        [("200", false), ("399", false), ("400", true), ("404", true), ("499", true), ("500", false)]
    {
        assert_eq!(client_error(&[(":status", status)]).client_error, expected, "{status}");
    }
    for status in 0..=16 {
        let (text, expected) = (status.to_string(), ![0, 1, 2, 4, 13, 14, 15].contains(&status));
        let grpc = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", text.as_str())];
        assert_eq!(client_error(&grpc).client_error, expected, "grpc {status}");
    }
}

#[test]
fn a_stream_of_events_is_a_success_without_latency_unless_the_server_breaks_it_off() {
    let events = [(":status", "200"), ("content-type", "text/event-stream; charset=utf-8")];
    for (flags, body, expected) in [
        (0, ENDED, Outcome::Success),
        (Flags::CLIENT_GONE, OPEN, Outcome::Success),
        (0x1_0000, OPEN, Outcome::Success),
        (0x4, OPEN, Outcome::Success),
        (0x40, OPEN, Outcome::Failure),
    ] {
        let ending = judge(&mut host(&events, &[], flags), body, LATER);
        assert_eq!((ending.outcome, ending.timing), (expected, Timing::Open), "{flags:x}");
    }
    assert_eq!(outcome(&[(":status", "500"), events[1]], &[], 0, ENDED), Outcome::Failure);
    for (kind, timing) in [
        ("Text/Event-Stream", Timing::Open),
        ("multipart/x-mixed-replace; boundary=frame", Timing::Open),
        ("application/x-ndjson", Timing::Open),
        ("application/stream+json", Timing::Open),
        ("application/json", Timing::Latency),
        ("text/event", Timing::Latency),
    ] {
        let ending = judge(&mut host(&[(":status", "200"), ("content-type", kind)], &[], 0), ENDED, LATER);
        assert_eq!((ending.outcome, ending.timing), (Outcome::Success, timing), "{kind}");
    }
}

#[test]
fn no_response_is_a_failure_unless_the_client_left() {
    assert_eq!(outcome(&[], &[], 0, OPEN), Outcome::Failure);
    assert_eq!(outcome(&[], &[], 0x20, OPEN), Outcome::Failure);
    assert_eq!(outcome(&[], &[], Flags::CLIENT_GONE, OPEN), Outcome::Abandoned);
    assert_eq!(outcome(&[(":status", "x")], &[], 0, ENDED), Outcome::Failure);
}

#[test]
fn grpc_statuses_count_in_trailers_and_trailers_only_where_the_response_is_grpc() {
    let grpc = [(":status", "200"), ("content-type", "application/grpc+proto")];
    for status in 0..=16 {
        let text = status.to_string();
        let expected = if [2, 4, 13, 14, 15].contains(&status) { Outcome::Failure } else { Outcome::Success };
        assert_eq!(outcome(&grpc, &[("grpc-status", &text)], 0, OPEN), expected, "trailers {status}");
        let only = [grpc[0], grpc[1], ("grpc-status", &text)];
        assert_eq!(outcome(&only, &[], 0, OPEN), expected, "trailers-only {status}");
        let plain = [(":status", "200"), ("content-type", "text/html"), ("grpc-status", &text)];
        assert_eq!(outcome(&plain, &[], 0, OPEN), Outcome::Success, "not grpc {status}");
    }
    let mut own_deadline = host(&grpc, &[("grpc-status", "4")], 0);
    own_deadline.request = vec![("grpc-timeout".into(), "10m".into())];
    assert_eq!(judge(&mut own_deadline, OPEN, 0).outcome, Outcome::Success, "its own deadline");
}

#[test]
fn upgrades_and_streams_of_messages_have_no_latency() {
    let grpc = [(":status", "200"), ("content-type", "application/grpc")];
    let timing = |bytes, first_message, status: &str| {
        let body = Body { bytes, first_message, ..OPEN };
        judge(&mut host(&grpc, &[("grpc-status", status)], 0), body, 0).timing
    };
    assert_eq!(timing(25, Some(25), "0"), Timing::Latency);
    assert_eq!(timing(50, Some(25), "0"), Timing::Open);
    assert_eq!(timing(0, None, "0"), Timing::Open);
    assert_eq!(timing(0, None, "14"), Timing::Latency);
    assert_eq!(timing(25, None, "0"), Timing::Open);
    let upgraded = judge(&mut host(&[(":status", "101")], &[], 0x40), OPEN, 0);
    assert_eq!(upgraded, Ending::open(Outcome::Success));
}

#[test]
fn the_first_message_is_as_long_as_its_frame_says() {
    let mut host = host(&[], &[], 0);
    host.body = vec![0, 0, 0, 1, 2, 99];
    assert_eq!(first_message(&mut host), Some(5 + 258));
    host.body = vec![0, 0];
    assert_eq!(first_message(&mut host), None);
}
