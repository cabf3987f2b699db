//! One Canary as a tree, in windows of any size.

use weir_controller::view::paint::Paint;
use weir_controller::view::tree::{self, PodView, ReplicaSetView, Workloads};
use weir_controller::view::{
    CanaryDetail, GatewayView, GuardView, MetricView, Particulars, WebhookView, live, story, why,
};
use weir_engine::Timestamp;

use super::{COLORED, DECIDED, NOW, PLAIN, analysing, detail, golden, held, list, taken_back};

/// What runs of a Canary in the middle of its release: one pod of the canary does not come up.
fn running() -> Workloads {
    let pod = |name: &str, status: &str, ready, restarts| PodView {
        name: name.into(),
        made: Timestamp(DECIDED.0 - 250_000),
        status: status.into(),
        ready: [ready, 1],
        restarts,
    };
    let set = |name: &str, before: u64, ready, pods| ReplicaSetView {
        name: name.into(),
        made: Timestamp(DECIDED.0 - before),
        desired: 2,
        ready,
        available: ready,
        images: vec![format!("registry.example.com/cart:v{}", if before > 300_000 { 41 } else { 42 })],
        pods,
    };
    let primary = vec![
        pod("cart-primary-65fb5ffc84-9wf5r", "Running", 1, 0),
        pod("cart-primary-65fb5ffc84-w8x2k", "Running", 1, 2),
    ];
    let canary =
        vec![pod("cart-877894d5b-4jc2p", "Running", 1, 0), pod("cart-877894d5b-hn7qd", "CrashLoopBackOff", 0, 14)];
    Workloads {
        primary: vec![set("cart-primary-65fb5ffc84", 600_000_000, 2, primary)],
        canary: vec![set("cart-877894d5b", 250_000, 1, canary)],
        unknown: None,
    }
}

pub(crate) fn particulars() -> Particulars {
    let gateway =
        |name: &str, acknowledged, waits| GatewayView { name: name.into(), acknowledged, silent: false, waits };
    let metric = |name: &str, value, result: &str| MetricView {
        name: name.into(),
        unit: "%".into(),
        value,
        result: result.into(),
        ..MetricView::default()
    };
    Particulars {
        guard: Some(GuardView { gateway: "ingressgateway-7c9".into(), failed: 3, limit: 7 }),
        gateways: vec![gateway("ingressgateway-5d8", true, 1), gateway("ingressgateway-7c9", false, 0)],
        metrics: vec![metric("request-success-rate", Some(99.64), "inside"), metric("queue", None, "unknown")],
        webhooks: vec![WebhookView { name: "qa".into(), kind: "confirm-promotion".into(), ..WebhookView::default() }],
        ..Particulars::default()
    }
}

#[test]
fn a_tree_shows_arms_replica_sets_pods_gateways_and_checks() {
    let whole = CanaryDetail { particulars: particulars(), ..detail(analysing()) };
    let text = tree::tree(&whole, &running(), NOW, PLAIN);
    golden("tree.txt", &text);
    let colored = tree::tree(&whole, &running(), NOW, COLORED);
    assert!(colored.contains("\x1b[31m✖ CrashLoopBackOff"), "{colored}");
    let forbidden = Workloads { unknown: Some("pods is forbidden".into()), ..Workloads::default() };
    let text = tree::tree(&detail(taken_back()), &forbidden, NOW, PLAIN);
    assert!(text.ends_with("⚠ what runs is not known: pods is forbidden\n"), "{text}");
    let cause = taken_back().ended.unwrap().message;
    assert!(text.contains(&cause[..40]), "{cause}\n{text}");
}

#[test]
fn in_a_low_window_what_is_well_is_told_in_numbers_and_what_is_not_stays_in_sight() {
    let whole = CanaryDetail { particulars: particulars(), ..detail(analysing()) };
    let mut many = running();
    let pod = many.primary[0].pods[0].clone();
    many.primary[0].pods = (0..40).map(|i| PodView { name: format!("{}{i}", pod.name), ..pod.clone() }).collect();
    let roomy = tree::fitted(&whole, &many, NOW, PLAIN, 200);
    assert_eq!(roomy, tree::tree(&whole, &many, NOW, PLAIN));
    let low = tree::fitted(&whole, &many, NOW, PLAIN, 26);
    println!("{low}");
    assert!(low.lines().count() <= 26, "{low}");
    for seen in [
        "└──… 40 of them",
        "CrashLoopBackOff",
        "Evidence:",
        "ingressgateway-7c9",
        "└──α checks",
        "request-success-rate",
    ] {
        assert!(low.contains(seen), "{seen} is not in\n{low}");
    }
}

#[test]
fn in_a_narrow_window_no_sentence_is_cut_and_in_a_wide_one_names_have_more_room() {
    let narrow = Paint { color: false, width: 80 };
    let whole = CanaryDetail { particulars: particulars(), ..detail(analysing()) };
    let cause = taken_back().ended.unwrap().message;
    for (text, sentence) in [
        (live::screen(&list(), NOW, narrow), held().message),
        (live::screen(&list(), NOW, narrow), cause.clone()),
        (story::story(&detail(held()), NOW, narrow), held().message),
        (why::why(&detail(taken_back()), NOW, narrow), cause.clone()),
        (tree::tree(&detail(taken_back()), &running(), NOW, narrow), cause),
        (tree::tree(&whole, &running(), NOW, narrow), "of the way to bad".into()),
    ] {
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words(&text).contains(&words(&sentence)), "{sentence}\n{text}");
    }
    let long = "a-name-of-the-greatest-length-that-kubernetes-lets-anybody-choose";
    let mut workloads = running();
    workloads.primary[0].name = long.into();
    assert!(!tree::tree(&whole, &workloads, NOW, PLAIN).contains(long));
    assert!(tree::tree(&whole, &workloads, NOW, Paint { color: false, width: 140 }).contains(long));
}
