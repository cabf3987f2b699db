//! What a statuses becomes on `/metrics`.

use super::*;
use crate::view::{Applied, CanaryView, EndedView, EvidenceView};
use std::io::Write as _;
use std::process::{Command, Stdio};
use weir_engine::Scrape;
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
        applied: Applied { gateways: 1, of: 2, missing: vec!["b".into()], observed: Some(9.5), draws: 400 },
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
        r#"weir_weight{namespace="shop",canary="cart",kind="applied"} 0.0"#,
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
