//! What is read of a report, and what of it is believed.

use std::collections::HashSet;

use super::*;
use proptest::prelude::*;
use weir_wire::names::{Cohort, Kind};

const ID: &str = "a3f09c11d2e4b877";
const TEXT: &str = "\
# TYPE envoy_http_rq_total counter
envoy_http_rq_total{envoy_http_conn_manager_prefix=\"ingress\"} 12
# TYPE weir_a3f09c11d2e4b877_1_canary_draw_assigned counter
weir_a3f09c11d2e4b877_1_canary_draw_assigned{} 41
weir_a3f09c11d2e4b877_1_canary_draw_failure{} 3
weir_a3f09c11d2e4b877_1_canary_draw_le_2{} 7
weir_a3f09c11d2e4b877_1_canary_draw_success{} 38
weir_a3f09c11d2e4b877_1_primary_sticky_success{} 1e+06
weir_a3f09c11d2e4b877_late{} 1
weir_a3f09c11d2e4b877_refused{} 2
weir_a3f09c11d2e4b877_some_day{} x
# TYPE envoy_server_concurrency gauge
envoy_server_concurrency{} 2
envoy_server_concurrency_of_others{} many
weir_a3f09c11d2e4b877_trip_test{} 1
weir_a3f09c11d2e4b877_tripped{} 9
weir_boot{} 4242
weir_disarmed{} 0
weir_generation_2{} 1002
weir_generation_3{} 1003
weir_vms_2{} 1
weir_vms_3{} 3
# TYPE envoy_http_rq_time histogram
envoy_http_rq_time_bucket{le=\"0.5\"} 0
";

#[test]
fn a_report_holds_what_the_filter_wrote() {
    let report = Report::parse(TEXT).unwrap();
    let scrape = report.scrape(ID, "envoy", Timestamp(5));
    let mut expected = Scrape {
        gateway: "envoy".into(),
        boot: 4242,
        begun: Timestamp(5),
        late: 1,
        refused: 2,
        tripped: 9,
        trip_test: 1,
        ..Scrape::default()
    };
    let cell = expected.slots[1].cell_mut(Arm::Canary, Cohort::Draw);
    for (kind, n) in [(Kind::Assigned, 41), (Kind::Failure, 3), (Kind::Latency(2), 7), (Kind::Success, 38)] {
        cell.count(kind, n);
    }
    expected.slots[1].cell_mut(Arm::Primary, Cohort::Sticky).count(Kind::Success, 1_000_000);
    assert_eq!(scrape, expected);
    assert_eq!(report.scrape("0000000000000000", "envoy", Timestamp(5)).slots, <[Counts; 8]>::default());
    // Three failures, and the epoch whose table tripped the guard.
    assert_eq!((report.trouble(ID), report.trouble("0000000000000000")), (3 + 9, 0));
}

#[test]
fn a_generation_runs_when_every_worker_and_the_main_thread_have_it() {
    let report = Report::parse(TEXT).unwrap();
    assert_eq!((report.vms(1002), report.vms(1003), report.vms(1011)), (1, 3, 0));
    assert_eq!([1002, 1003, 1011].map(|generation| report.runs(generation)), [false, true, false]);
    assert_eq!(report.generation(), Some(1003));
}

#[test]
fn a_gateway_without_the_filter_is_no_gateway_with_zeros() {
    for text in ["", "\n", "envoy_server_concurrency{} 2\n"] {
        assert_eq!(Report::parse(text), Err(ScrapeError::NoFilter), "{text:?}");
    }
}

#[test]
fn a_value_that_is_no_number_is_refused() {
    for line in ["weir_boot{}", "weir_boot{} x", "weir_boot{} -1", "weir_boot{} NaN", "weir_boot"] {
        let text = TEXT.replace("weir_boot{} 4242", line);
        assert_eq!(Report::parse(&text), Err(ScrapeError::Value(line.into())));
    }
}

#[test]
fn a_text_cut_anywhere_before_the_filters_last_line_is_refused() {
    let whole = Report::parse(TEXT).unwrap();
    let end = TEXT.find("weir_vms_3{} 3\n").unwrap() + "weir_vms_3{} 3\n".len();
    for cut in 0..end {
        assert!(Report::parse(&TEXT[..cut]).is_err(), "cut at {cut}: {:?}", &TEXT[..cut]);
    }
    assert_eq!(Report::parse(&TEXT[..end]), Ok(whole));
}

#[test]
fn the_counter_of_a_route_shows_that_the_filter_is_on_for_it() {
    let prefix = stat_prefix(ID, Arm::Primary);
    let other = stat_prefix("b3f09c11d2e4b877", Arm::Canary);
    let rows = [
        format!("envoy_vhost_route_upstream_rq_total{{envoy_virtual_host=\"shop/cart\",envoy_route=\"{prefix}\"}} 0"),
        format!("envoy_vhost_shop_example_com_80_route_{prefix}_upstream_rq_total{{}} 0"),
        format!("envoy_vhost_weir_example_com_80_route_{prefix}_upstream_rq_total{{}} 12"),
    ];
    for row in rows {
        let report = Report::parse(&format!("{row}\n{TEXT}")).unwrap();
        assert!(report.is_filtering(ID), "{row}");
        let routed = report.scrape(ID, "g", Timestamp(0)).routed;
        assert_eq!(routed, if row.ends_with(" 12") { 12 } else { 0 }, "the gateway's own count: {row}");
    }
    for row in [format!("envoy_vhost_x_route_{other}_upstream_rq_total{{}} 0"), "envoy_vhost_weir_".into()] {
        let report = Report::parse(&format!("{row}\n{TEXT}")).unwrap();
        assert!(!report.is_filtering(ID) && !report.is_filtering("b3f09c11d2e4b877"), "{row}");
    }
}

#[test]
fn only_canaries_that_are_known_are_kept_however_much_is_sent() {
    let known = HashSet::from([ID.to_owned()]);
    let mut reader = Reader::of(Some(&known));
    for n in 0..100_000u64 {
        reader.read(format!("weir_{n:016x}_late 1\n").as_bytes()).unwrap();
    }
    // In pieces that end anywhere.
    TEXT.as_bytes().chunks(7).for_each(|piece| reader.read(piece).unwrap());
    let report = reader.finish().unwrap();
    assert_eq!(report, Report::parse(TEXT).unwrap());
    let mut reader = Reader::of(Some(&known));
    assert_eq!(reader.read(&vec![b'x'; reader::LINE + 1]), Err(ScrapeError::Line));
}

#[test]
fn what_was_never_handed_out_is_not_believed() {
    let mut report = Report::parse(TEXT).unwrap();
    report.believe(|generation| generation == 1003, |id, epoch| id == ID && epoch <= 9);
    assert_eq!((report.generation(), report.scrape(ID, "", Timestamp(0)).tripped), (Some(1003), 9));
    report.believe(|generation| generation < 1003, |_, epoch| epoch < 9);
    assert_eq!((report.generation(), report.scrape(ID, "", Timestamp(0)).tripped), (None, 0));
}

#[test]
fn more_requests_than_one_process_can_have_served_are_not_believed() {
    let report = |boot: u64, requests: u64| {
        let text = TEXT.replace("weir_boot{} 4242", &format!("weir_boot{{}} {boot}"));
        Report::parse(&text.replace("draw_assigned{} 41", &format!("draw_assigned{{}} {requests}"))).unwrap()
    };
    let second = Span::seconds(1);
    assert_eq!(report(1, 1_000_000).implausible(&report(1, 41), second), None);
    assert_eq!(report(1, u64::MAX).implausible(&report(1, 41), second), Some(ID));
    assert_eq!(report(1, 50_000_000).implausible(&report(1, 41), Span::seconds(600)), None);
    assert_eq!(report(2, 50_000_000).implausible(&report(1, 41), second), None, "a process of its own");
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(lines in prop::collection::vec("(weir_[a-f0-9_]{0,20}|envoy_server_concurrency|weir_boot|.{0,9})[ {}]{0,3}.{0,8}\n?", 0..20)) {
        let _ = Report::parse(&lines.concat());
    }
}

#[test]
fn a_thousand_canaries_are_read() {
    let mut text = String::new();
    let id = |n: u64| format!("{n:016x}");
    for n in 0..1000 {
        for kind in ["assigned", "success", "failure", "le_0", "le_5", "le_16"] {
            for slot in 0..8 {
                text += &format!("weir_{}_{slot}_canary_draw_{kind}{{}} {n}\n", id(n));
            }
        }
    }
    text += "weir_boot{} 1\nweir_generation_0{} 8\nweir_vms_0{} 2\n";
    let report = Report::parse(&text).unwrap();
    assert_eq!(report.scrape(&id(999), "envoy", Timestamp(0)).slots[7].arm(Arm::Canary).failure, 999);
}
