//! What is shown is what was said last, and who waits for it is told.

use super::*;
use crate::view::Attention;
use weir_engine::{Phase, Severity};
use weir_wire::names::{Arm, Cohort, Kind};

fn name() -> Name {
    Name { namespace: "shop".into(), name: "cart".into() }
}

fn view() -> CanaryView {
    CanaryView { namespace: "shop".into(), name: "cart".into(), ..CanaryView::default() }
}

fn event(n: usize) -> Event {
    Event::new(Severity::Info, "Advanced", n.to_string())
}

#[test]
fn the_newest_events_are_kept_and_leave_with_their_canary() {
    let (statuses, _calls) = StatusStore::new();
    statuses.record(&name(), Timestamp(0), &[event(0)]);
    assert_eq!(statuses.detail(&name()), None, "nothing is told of a Canary that is not shown");
    statuses.set(view(), &[]);
    for n in 0..EVENTS + 5 {
        statuses.record(&name(), Timestamp(0), &[event(n)]);
    }
    let events = statuses.detail(&name()).unwrap().events;
    assert_eq!((events.len(), events[0].text.as_str()), (EVENTS, "5"));
    statuses.forget(&name());
    statuses.set(view(), &[]);
    assert_eq!(statuses.detail(&name()).unwrap().events, []);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_changes_is_told_each_as_it_comes_and_nothing_of_a_look_without_one() {
    let (statuses, _calls) = StatusStore::new();
    statuses.set(view(), &[]);
    statuses.set_particulars(&name(), Particulars::default(), Timestamp(0));
    let cursor = statuses.changes("").cursor;
    statuses.set(view(), &[]);
    statuses.set_particulars(&name(), Particulars::default(), Timestamp(1));
    let next = |cursor: String| {
        let statuses = statuses.clone();
        async move { statuses.next_changes(&cursor, Duration::from_secs(5)).await }
    };
    assert_eq!(next(cursor.clone()).await.cursor, cursor, "a Canary at rest is no news");
    let guard = Some(GuardView { limit: 3, ..GuardView::default() });
    let changes: [&dyn Fn(); 4] = [
        &|| statuses.set(CanaryView { weight: 10.0, ..view() }, &[]),
        &|| {
            statuses.set_particulars(
                &name(),
                Particulars { guard: guard.clone(), ..Particulars::default() },
                Timestamp(2),
            )
        },
        &|| statuses.record(&name(), Timestamp(3), &[event(0)]),
        &|| statuses.forget(&name()),
    ];
    for (n, change) in changes.iter().enumerate() {
        let cursor = statuses.changes("").cursor;
        let waiting = tokio::spawn(next(cursor.clone()));
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "{n}");
        change();
        assert_ne!(waiting.await.unwrap().cursor, cursor, "{n}");
    }
}

#[test]
fn a_gateway_that_is_gone_stays_in_the_sums_and_not_in_memory() {
    let (statuses, _calls) = StatusStore::new();
    statuses.set(view(), &[]);
    for n in 0..50 {
        let mut scrape = Scrape { gateway: format!("shop/job-{n}"), boot: n, ..Scrape::default() };
        scrape.slots[0].cell_mut(Arm::Primary, Cohort::Draw).count(Kind::Success, 3);
        statuses.count(&name(), &scrape);
        statuses.forget_gateways(&name(), |gateway| gateway == format!("shop/job-{n}"));
    }
    let totals = statuses.entries()[&name()].totals.clone();
    assert_eq!((totals.live.len(), totals.sum().cell(Arm::Primary, Cohort::Draw).success), (1, 150));
}

#[test]
fn a_wish_that_nobody_hears_is_refused() {
    let (statuses, calls) = StatusStore::new();
    assert!(statuses.send(name(), Verb::Pause).is_some());
    drop(calls);
    assert_eq!(statuses.send(name(), Verb::Pause), None);
}

#[test]
fn a_canary_without_a_plan_keeps_its_edges() {
    let (statuses, _calls) = StatusStore::new();
    statuses.set(view(), &[1, 5]);
    statuses.set(view(), &[]);
    assert_eq!(statuses.entries()[&name()].edges_ms, [1, 5]);
}

#[tokio::test(start_paused = true)]
async fn a_reason_that_lasts_longer_than_where_all_is_well_is_overdue_until_another_one_comes() {
    let (statuses, _calls) = StatusStore::new();
    let seen = |reason: &str| {
        let view = CanaryView { phase: Phase::Progressing, run: "r".into(), reason: reason.into(), ..view() };
        statuses.set(view, &[]);
        let line = statuses.changes("").items.remove(0);
        (statuses.detail(&name()).unwrap().view.overdue, line.attention)
    };
    assert_eq!(seen("FilterOff"), (false, Attention::Moving));
    tokio::time::advance(Duration::from_secs(59)).await;
    assert_eq!(seen("FilterOff"), (false, Attention::Moving));
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(seen("FilterOff"), (true, Attention::Person));
    assert_eq!(seen("Analysing"), (false, Attention::Moving));
    assert_eq!(seen("FilterOff"), (false, Attention::Moving), "it begins anew");
}
