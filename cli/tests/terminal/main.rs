//! What the command line prints, against golden files. `UPDATE_GOLDEN=1 cargo test -p weir --test terminal` rewrites them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

mod tree;

use std::fs;
use std::path::Path;

use weir_controller::view::paint::{Paint, WIDTH};
use weir_controller::view::tree::Workloads;
use weir_controller::view::{
    self, Applied, ArmView, CanaryDetail, CanaryList, CanaryView, Checks, EndedView, EventView, EvidenceView,
    GatewayView, GuardView, History, LastView, MetricView, Particulars, PastView, PlannedStep, Quantile, RatioView,
    StepView, TestView, WebhookView, live, story, table, why,
};
use weir_engine::{Outcome, Phase, Severity, Timestamp};

/// 2026-08-01 14:03:07 UTC.
const DECIDED: Timestamp = Timestamp(1_785_592_987_000);
const NOW: Timestamp = Timestamp(DECIDED.0 + 12_000);

fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    for line in text.lines().filter(|_| name.ends_with(".txt")) {
        assert!(line.chars().count() <= WIDTH, "{name}: wider than {WIDTH}: {line}");
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{} differs; if that is right: UPDATE_GOLDEN=1", path.display());
}

fn arm(revision: &str, ended: u64, failed: u64, p99: f64) -> ArmView {
    ArmView {
        revision: Some(revision.into()),
        readiness: "ready".into(),
        requests: ended,
        ended,
        failed,
        abandoned: 0,
        p50: Some(Quantile { ms: 7.4, beyond: false }),
        p99: Some(Quantile { ms: p99, beyond: p99 >= 10_000.0 }),
    }
}

fn analysing() -> CanaryView {
    CanaryView {
        namespace: "shop".into(),
        name: "cart".into(),
        phase: Phase::Progressing,
        since: Timestamp(NOW.0 - 252_000),
        started: Some(Timestamp(NOW.0 - 252_000)),
        reason: "Analysing".into(),
        message: "next check in 3s".into(),
        run: "6f2c".into(),
        weight: 10.0,
        applied: Applied {
            gateways: 1,
            of: 1,
            weight: Some(5.0),
            missing: vec![],
            silent: 0,
            observed: Some(9.87),
            draws: 4_123,
        },
        step: Some(StepView { number: 2, of: 4, next: Some(20.0) }),
        checks: Checks { failed: 1, threshold: 5 },
        primary: arm("3f9a0c1144d2e4b8", 182_304, 214, 182.0),
        canary: ArmView { abandoned: 2, ..arm("8bb1e0aa44d2e4b8", 9_612, 14, 10_000.0) },
        evidence: Some(EvidenceView {
            verdict: "insufficient".into(),
            log_e: -1.1126,
            threshold: 200.0,
            good: 0.1234,
            tests: vec![
                TestView { test: "failures".into(), log_e: 0.2 },
                TestView { test: "absolute".into(), log_e: -2.0 },
                TestView { test: "latency".into(), log_e: -1.5 },
            ],
            ratio: Some(RatioView { low: 0.347, estimate: Some(1.243), high: Some(2.857) }),
        }),
        ended: None,
        paused: false,
        stalled: false,
        waiting: false,
        overdue: false,
        in_cluster: false,
        matching: false,
        only_matched: false,
    }
}

fn taken_back() -> CanaryView {
    let text = "the guard in envoy stopped the canary by its comparison table: canary failed 3 of 41 requests, primary 0 \
                of 792, at weight 5 %";
    CanaryView {
        phase: Phase::Failed,
        since: DECIDED,
        started: None,
        run: String::new(),
        reason: "GuardTripped".into(),
        message: "the target's revision was taken back; waiting for another one, or for the verb retry".into(),
        weight: 0.0,
        step: None,
        evidence: None,
        canary: ArmView { readiness: "absent".into(), ..ArmView::default() },
        ended: Some(EndedView {
            run: "6f2c".into(),
            revision: "8bb1e0aa44d2e4b8".into(),
            result: Outcome::RolledBack,
            reason: "GuardTripped".into(),
            message: text.into(),
            started: Timestamp(DECIDED.0 - 41_000),
            at: DECIDED,
            weight: 5.0,
            canary_ended: 41,
            canary_failed: 3,
            primary_ended: 792,
            primary_failed: 0,
        }),
        ..analysing()
    }
}

fn promoted() -> CanaryView {
    let ended = EndedView {
        result: Outcome::Promoted,
        reason: "Promoted".into(),
        message: "the revision passed its analysis and is in production".into(),
        weight: 50.0,
        canary_ended: 5_000,
        canary_failed: 0,
        ..taken_back().ended.unwrap()
    };
    CanaryView {
        name: "search".into(),
        phase: Phase::Succeeded,
        reason: "UpToDate".into(),
        message: "the primary runs what the target declares".into(),
        ended: Some(ended),
        ..taken_back()
    }
}

fn held() -> CanaryView {
    CanaryView {
        name: "a-long-name-of-a-service".into(),
        reason: "NotAcknowledged".into(),
        message: "2 of 3 gateways use the split that was asked for; ingressgateway-7c9 does not yet".into(),
        weight: 0.0,
        matching: true,
        applied: Applied {
            gateways: 2,
            of: 3,
            weight: None,
            missing: vec!["ingressgateway-7c9".into()],
            silent: 0,
            observed: None,
            draws: 0,
        },
        evidence: None,
        step: Some(StepView { number: 10, of: 10, next: None }),
        ..analysing()
    }
}

fn list() -> CanaryList {
    let problems = vec![
        "shop.yaml, document 2, line 14: spec.analysis.stepWeight: 120 is out of range: give percent, \
                         from 0.01 to 100"
            .into(),
    ];
    CanaryList { items: vec![held(), analysing(), taken_back(), promoted()], problems }
}

fn detail(view: CanaryView) -> CanaryDetail {
    let event = |before: u64, severity, reason: &str, text: &str| EventView {
        at: Timestamp(DECIDED.0 - before),
        severity,
        reason: reason.into(),
        text: text.into(),
    };
    let message = taken_back().ended.unwrap().message;
    let events = vec![
        event(86_400_000, Severity::Info, "Initialized", "Initialization done! cart.shop"),
        event(41_000, Severity::Info, "NewRevision", "New revision detected! Scaling up cart.shop"),
        event(20_000, Severity::Info, "Advanced", "Advance cart.shop canary weight 5"),
        event(4_000, Severity::Warning, "Halted", "Halt cart.shop advancement success rate 92.68% < 99%"),
        event(0, Severity::Error, "GuardTripped", &format!("Rolling back cart.shop {message}")),
    ];
    CanaryDetail { view, events, ..CanaryDetail::default() }
}

const PLAIN: Paint = Paint { color: false, width: WIDTH };
const COLORED: Paint = Paint { color: true, width: WIDTH };

/// What a page has of a rollout when it was decided.
fn last() -> LastView {
    let mut last = LastView::default();
    last.record(&analysing(), &tree::particulars().metrics);
    last
}

fn stalled() -> CanaryView {
    promoted().stalled_by("InvalidSpec", "spec.analysis.stepWeight: 120 is out of range")
}

#[test]
fn what_cannot_work_is_nowhere_shown_as_a_success() {
    let list = CanaryList { items: vec![stalled()], problems: vec![] };
    for text in [
        table::table(&list, NOW, false, PLAIN),
        live::screen(&list, NOW, PLAIN),
        view::tree::tree(&detail(stalled()), &Workloads::default(), NOW, PLAIN),
        story::story(&detail(stalled()), NOW, PLAIN),
        table::change(&stalled(), NOW),
    ] {
        assert!(text.contains("Stalled") && !text.contains("✔ S") && !text.contains("Succeeded"), "{text}");
    }
}

#[test]
fn a_table_has_a_line_for_each_canary() {
    golden("get.txt", &table::table(&list(), NOW, false, PLAIN));
}

#[test]
fn changes_are_told_in_a_line_each() {
    let lines: Vec<String> = list().items.iter().map(|view| table::change(view, NOW)).collect();
    assert_eq!(lines[1], "14:03:19Z shop/cart Progressing weight=10 Analysing: next check in 3s");
}

#[test]
fn the_live_view_draws_what_moves() {
    golden("live.txt", &live::screen(&list(), NOW, PLAIN));
}

#[test]
fn a_story_has_everything_and_its_events() {
    golden(
        "describe.txt",
        &(story::story(&detail(analysing()), NOW, PLAIN) + &story::story(&detail(held()), NOW, PLAIN)),
    );
}

#[test]
fn why_fits_a_screen_and_says_what_to_do() {
    for (name, view, code) in [
        ("rolled-back", taken_back(), 1),
        ("promoted", promoted(), 0),
        ("analysing", analysing(), 2),
        ("held", held(), 2),
    ] {
        let text = why::why(&detail(view.clone()), NOW, PLAIN);
        assert!(text.lines().count() <= 24, "{text}");
        assert_eq!(why::Standing::of(&view).code(), code);
        golden(&format!("why-{name}.txt"), &text);
    }
}

#[test]
fn after_a_failed_promotion_a_retry_is_offered_once_the_primary_is_back() {
    for (run, offered) in [("6f2c", false), ("", true)] {
        let view = CanaryView { reason: "PromotionFailed".into(), run: run.into(), ..taken_back() };
        let text = why::why(&detail(view), NOW, PLAIN);
        assert_eq!(text.contains("weir retry"), offered, "{text}");
    }
}

#[test]
fn colours_change_no_text() {
    let colored = live::screen(&list(), NOW, COLORED) + &table::table(&list(), NOW, false, COLORED);
    assert!(colored.contains("\x1b[31m"));
    let mut plain = String::new();
    let mut rest = colored.as_str();
    while let Some((before, after)) = rest.split_once("\x1b[") {
        plain += before;
        rest = after.split_once('m').unwrap().1;
    }
    plain += rest;
    assert_eq!(plain, live::screen(&list(), NOW, PLAIN) + &table::table(&list(), NOW, false, PLAIN));
}

#[test]
fn the_json_reads_back_as_itself() {
    let whole = CanaryDetail {
        particulars: Particulars {
            advice: "wait".into(),
            steps: vec![PlannedStep { weight: 5.0, matching: true, waits: vec!["10s".into()], state: "now".into() }],
            gateways: vec![GatewayView {
                name: "ingressgateway-7c9".into(),
                acknowledged: false,
                silent: true,
                waits: 2,
            }],
            guard: Some(GuardView { gateway: "ingressgateway-7c9".into(), failed: 3, limit: 7 }),
            metrics: vec![MetricView {
                name: "errors".into(),
                unit: "%".into(),
                value: Some(98.5),
                min: Some(99.0),
                max: Some(100.0),
                result: "outside".into(),
                message: "no value".into(),
            }],
            webhooks: vec![WebhookView {
                name: "gate".into(),
                kind: "confirm-promotion".into(),
                result: "Failed".into(),
                message: "closed".into(),
            }],
            rollouts: vec![PastView { revision: "5c6b".into(), reason: "GuardTripped".into(), ..PastView::default() }],
        },
        history: Some({
            let mut history = History::default();
            history.record(&analysing(), DECIDED);
            history
        }),
        last: Some(last()),
        ..detail(CanaryView { stalled: true, ..analysing() })
    };
    let json = serde_json::to_string(&whole).unwrap();
    assert_eq!(serde_json::from_str::<CanaryDetail>(&json).unwrap(), whole);
    golden("canary.json", &(serde_json::to_string_pretty(&whole).unwrap() + "\n"));
}
