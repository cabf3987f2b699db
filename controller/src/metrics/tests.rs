//! What a statuses becomes on `/metrics`.

use super::*;
use crate::view::{Applied, CanaryView, EndedView, EvidenceView, GuardView, MetricView, Particulars};
use std::io::Write as _;
use std::process::{Command, Stdio};
use weir_engine::{Scrape, Timestamp};
use weir_wire::names::Kind;

fn name() -> Name {
    Name { namespace: "shop".into(), name: "cart".into() }
}

fn view() -> CanaryView {
    CanaryView {
        namespace: "shop".into(),
        name: "cart".into(),
        phase: Phase::Progressing,
        reason: "Analysing".into(),
        weight: 10.0,
        applied: Applied {
            gateways: 1,
            of: 2,
            weight: None,
            missing: vec!["b".into()],
            silent: 0,
            observed: Some(9.5),
            draws: 400,
        },
        evidence: Some(EvidenceView { threshold: 200.0, good: 0.25, ..EvidenceView::default() }),
        ..CanaryView::default()
    }
}

fn statuses() -> Arc<StatusStore> {
    let (statuses, _) = StatusStore::new();
    statuses.set_health("envoy", None);
    statuses.set(view(), &[100, 500]);
    let mut scrape = Scrape { gateway: "a".into(), boot: 1, ..Scrape::default() };
    let cell = scrape.slots[1].cell_mut(Arm::Canary, Cohort::Draw);
    for (kind, n) in [
        (Kind::Assigned, 6),
        (Kind::Success, 3),
        (Kind::Failure, 2),
        (Kind::Latency(0), 3),
        (Kind::Latency(1), 1),
        (Kind::Latency(2), 1),
    ] {
        cell.count(kind, n);
    }
    statuses.count(&name(), &scrape);
    statuses
}

fn line(text: &str, start: &str) -> String {
    let found: Vec<_> = text.lines().filter(|line| line.starts_with(start)).collect();
    assert_eq!(found.len(), 1, "{start}: {found:?} in\n{text}");
    found[0].to_owned()
}

#[test]
fn the_board_is_told_in_numbers() {
    let text = render(&statuses(), Format::Prometheus).unwrap();
    for expected in [
        r#"weir_ready 1"#,
        r#"weir_canaries 1"#,
        r#"weir_requests_total{namespace="shop",canary="cart",arm="canary",cohort="draw",outcome="failure"} 2"#,
        r#"weir_requests_assigned_total{namespace="shop",canary="cart",arm="canary",cohort="draw"} 6"#,
        r#"weir_phase{namespace="shop",canary="cart",phase="Progressing"} 1"#,
        r#"weir_phase{namespace="shop",canary="cart",phase="Failed"} 0"#,
        r#"weir_gateways{namespace="shop",canary="cart",state="acknowledged"} 1"#,
        r#"weir_weight{namespace="shop",canary="cart",kind="asked"} 10.0"#,
        r#"weir_weight{namespace="shop",canary="cart",kind="observed"} 9.5"#,
        r#"weir_request_duration_seconds_bucket{le="0.5",namespace="shop",canary="cart",arm="canary"} 4"#,
        r#"weir_request_duration_seconds_bucket{le="+Inf",namespace="shop",canary="cart",arm="canary"} 5"#,
        r#"weir_request_duration_seconds_count{namespace="shop",canary="cart",arm="canary"} 5"#,
    ] {
        assert_eq!(line(&text, expected), expected);
    }
    assert!(!text.contains("cohort=\"sticky\""), "cohorts without requests are left out");
}

#[test]
fn a_weight_is_applied_once_every_gateway_that_ran_the_filter_uses_it_and_unknown_before() {
    let (statuses, _) = StatusStore::new();
    let with = |gateways, silent| CanaryView {
        applied: Applied { gateways, of: 3, missing: vec![String::new(); 3 - gateways], silent, ..Applied::default() },
        ..view()
    };
    for (gateways, silent, applied) in [(0, 0, None), (0, 3, None), (1, 1, None), (2, 1, Some("10.0"))] {
        statuses.set(with(gateways, silent), &[]);
        let text = render(&statuses, Format::Prometheus).unwrap();
        let found =
            text.lines().find(|line| line.contains(r#"kind="applied""#)).and_then(|line| line.rsplit(' ').next());
        assert_eq!(found, applied, "{gateways} of 3, of which {silent} are silent");
        let counted = format!(r#"weir_gateways{{namespace="shop",canary="cart",state="silent"}} {silent}"#);
        assert_eq!(line(&text, &counted), counted);
    }
}

#[test]
fn a_canary_that_cannot_go_on_is_told_beside_its_reason() {
    let (statuses, _) = StatusStore::new();
    for (view, stalled) in [(view(), 0), (view().stalled_by("WriteRefused", "no"), 1)] {
        statuses.set(view, &[]);
        let expected = format!(r#"weir_stalled{{namespace="shop",canary="cart"}} {stalled}"#);
        assert_eq!(line(&render(&statuses, Format::Prometheus).unwrap(), "weir_stalled{"), expected);
    }
}

#[test]
fn who_has_to_do_something_and_who_acts_are_told() {
    let (statuses, _) = StatusStore::new();
    for (view, who) in [(view(), "moving"), (view().stalled_by("WriteRefused", "no"), "person")] {
        statuses.set(view, &[]);
        let text = render(&statuses, Format::Prometheus).unwrap();
        assert_eq!(line(&text, "weir_acting "), "weir_acting 0");
        let expected = format!(r#"weir_attention{{namespace="shop",canary="cart",who="{who}"}} 1"#);
        assert_eq!(line(&text, "weir_attention{"), expected);
    }
    statuses.set_acting();
    assert_eq!(line(&render(&statuses, Format::Prometheus).unwrap(), "weir_acting "), "weir_acting 1");
}

#[test]
fn the_evidence_is_told_as_the_way_to_the_verdict_that_the_page_shows() {
    let (statuses, _) = StatusStore::new();
    let evidence = EvidenceView { log_e: 400_f64.ln() / 2.0, threshold: 400.0, ..EvidenceView::default() };
    statuses.set(CanaryView { evidence: Some(evidence), ..view() }, &[]);
    let expected = r#"weir_evidence{namespace="shop",canary="cart",verdict="bad"} 0.5"#;
    assert_eq!(line(&render(&statuses, Format::Prometheus).unwrap(), expected), expected);
}

#[test]
fn latencies_between_other_edges_are_counted_anew() {
    let statuses = statuses();
    statuses.set(view(), &[100, 250, 500]);
    let bucket = r#"weir_request_duration_seconds_bucket{le="+Inf",namespace="shop",canary="cart",arm="canary"}"#;
    let text = render(&statuses, Format::Prometheus).unwrap();
    assert_eq!(
        line(&text, bucket),
        format!("{bucket} 0"),
        "what was counted between 0.1 and 0.5 s is in no new bucket"
    );
    let failures =
        r#"weir_requests_total{namespace="shop",canary="cart",arm="canary",cohort="draw",outcome="failure"} 2"#;
    assert_eq!(line(&text, failures), failures);
    let mut scrape = Scrape { gateway: "b".into(), boot: 7, ..Scrape::default() };
    scrape.slots[1].cell_mut(Arm::Canary, Cohort::Draw).count(Kind::Latency(1), 4);
    statuses.count(&name(), &scrape);
    let bucket = r#"weir_request_duration_seconds_bucket{le="0.25",namespace="shop",canary="cart",arm="canary"}"#;
    assert_eq!(line(&render(&statuses, Format::Prometheus).unwrap(), bucket), format!("{bucket} 4"));
}

#[test]
fn counters_never_go_down_when_a_gateway_starts_again() {
    let statuses = statuses();
    statuses.count(&name(), &Scrape { gateway: "a".into(), boot: 2, ..Scrape::default() });
    let text = render(&statuses, Format::OpenMetrics).unwrap();
    let start = r#"weir_requests_total{namespace="shop",canary="cart",arm="canary",cohort="draw",outcome="failure"}"#;
    assert_eq!(line(&text, start), format!("{start} 2"));
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn a_rollout_is_counted_when_it_ends_and_not_when_weir_starts() {
    let ended = |run: &str| CanaryView {
        ended: Some(EndedView {
            run: run.into(),
            result: Outcome::RolledBack,
            reason: "GuardTripped".into(),
            ..EndedView::default()
        }),
        ..view()
    };
    let (statuses, _) = StatusStore::new();
    statuses.set(ended("old"), &[]);
    assert!(!render(&statuses, Format::Prometheus).unwrap().contains("weir_rollouts_total{"));
    statuses.set(ended("new"), &[]);
    statuses.set(ended("new"), &[]);
    let start = r#"weir_rollouts_total{namespace="shop",canary="cart",result="rolled_back",reason="GuardTripped"} 1"#;
    line(&render(&statuses, Format::Prometheus).unwrap(), start);
}

#[test]
fn the_time_and_the_requests_to_a_verdict_are_spread_over_their_edges() {
    let (statuses, _) = StatusStore::new();
    statuses.set(view(), &[]);
    for (run, seconds, requests) in [("a", 3, 4), ("b", 40, 500)] {
        let ended = EndedView {
            run: run.into(),
            result: Outcome::RolledBack,
            started: Timestamp(1_000),
            at: Timestamp(1_000 + seconds * 1_000),
            canary_ended: requests,
            ..EndedView::default()
        };
        statuses.set(CanaryView { ended: Some(ended), ..view() }, &[]);
    }
    let text = render(&statuses, Format::Prometheus).unwrap();
    for expected in [
        r#"weir_rollout_duration_seconds_sum{namespace="shop",result="rolled_back"} 43.0"#,
        r#"weir_rollout_duration_seconds_bucket{le="5.0",namespace="shop",result="rolled_back"} 1"#,
        r#"weir_rollout_duration_seconds_bucket{le="60.0",namespace="shop",result="rolled_back"} 2"#,
        r#"weir_rollout_canary_requests_bucket{le="300.0",namespace="shop",result="rolled_back"} 1"#,
        r#"weir_rollout_canary_requests_bucket{le="+Inf",namespace="shop",result="rolled_back"} 2"#,
    ] {
        assert_eq!(line(&text, expected), expected);
    }
}

#[test]
fn the_guard_and_the_metrics_of_checks_are_told_with_their_bounds() {
    let statuses = statuses();
    let rate =
        MetricView { name: "request-success-rate".into(), value: Some(99.5), min: Some(99.0), ..MetricView::default() };
    let guard = Some(GuardView { gateway: "a".into(), failed: 2, limit: 5 });
    let particulars = Particulars { guard, metrics: vec![rate], ..Particulars::default() };
    statuses.set_particulars(&name(), particulars, Timestamp(1));
    let text = render(&statuses, Format::Prometheus).unwrap();
    for expected in [
        r#"weir_guard_failures{namespace="shop",canary="cart",kind="failed"} 2"#,
        r#"weir_guard_failures{namespace="shop",canary="cart",kind="limit"} 5"#,
        r#"weir_check_metric{namespace="shop",canary="cart",metric="request-success-rate",kind="value"} 99.5"#,
        r#"weir_check_metric{namespace="shop",canary="cart",metric="request-success-rate",kind="min"} 99.0"#,
    ] {
        assert_eq!(line(&text, expected), expected);
    }
    assert!(!text.contains("kind=\"max\""), "there is no such bound");
}

#[test]
fn a_deleted_canary_leaves_no_series() {
    let statuses = statuses();
    statuses.forget(&name());
    assert!(!render(&statuses, Format::Prometheus).unwrap().contains("cart"));
}

#[test]
fn promtool_finds_nothing_wrong() {
    // `make test` finds it, and says so where it can't: this level must run on machines that have none.
    let Some(promtool) = std::env::var_os("PROMTOOL") else { return };
    let mut promtool = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let text = render(&statuses(), Format::Prometheus).unwrap();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}\n{text}");
}
