//! What is pushed, when, and why: each row is one gateway's life under a clock that the row moves.

use weir_wire::Weight;

use super::*;

const ID: &str = "a3f09c11d2e4b877";
const OTHER: &str = "b3f09c11d2e4b877";
const NOW: Timestamp = Timestamp(1_795_395_000_000);
const DEBOUNCE: Span = Span(500);

fn canary(id: &str, epoch: u64, weight: u32) -> Canary {
    let weight = Weight::new(weight).unwrap();
    let host = format!("{id}.example.com");
    Canary { id: id.into(), name: id.into(), hosts: vec![host], token: "t".into(), epoch, weight, ..Canary::default() }
}

fn named(canary: Canary) -> Desired {
    Desired { canary, filter: FilterMode::Named, routes: RouteNames::default(), since: Timestamp(0) }
}

/// A gateway with one pod that acknowledges every push 100 ms after it was made, unless it is told to be stuck.
struct Life {
    publisher: Publisher,
    epochs: Epochs,
    stuck: bool,
    now: Timestamp,
}

impl Life {
    fn begin() -> Self {
        Self { publisher: Publisher::new(DEBOUNCE), epochs: Epochs::default(), stuck: false, now: NOW }
    }

    /// Lets time pass until `ms` after the beginning, and returns what was done, each with its time.
    fn until(&mut self, ms: u64) -> Vec<(u64, String)> {
        let mut done = Vec::new();
        while self.now <= NOW + Span(ms) {
            let publisher = &mut self.publisher;
            let asked_at = self.now;
            if !self.stuck && asked_at.since(publisher.pushed_at()) >= Span(100) {
                let generation = publisher.last_pushed().map(|last| last.generation);
                publisher.acknowledged("pod", asked_at, generation);
            } else if self.stuck {
                publisher.acknowledged("pod", asked_at, Some(1));
            }
            let at = self.now.since(NOW).0;
            match publisher.next(self.now) {
                Next::Push(push) => {
                    let weights: Vec<String> =
                        push.config.canaries.iter().map(|canary| canary.weight.to_string()).collect();
                    done.push((at, format!("{} [{}]", push.reason.as_str(), weights.join(" "))));
                    self.epochs.record(&push.config);
                    publisher.pushed(push, self.now);
                }
                Next::RemoveFilter => {
                    done.push((at, "remove filter".into()));
                    publisher.filter_removed(self.now);
                }
                Next::RemoveConfig => {
                    done.push((at, "remove configuration".into()));
                    publisher.config_removed();
                }
                Next::Wait(until) => assert!(until > self.now, "a caller that waits for the past never rests"),
            }
            self.now = self.now + Span(50);
        }
        done
    }

    fn set(&mut self, id: &str, epoch: u64, weight: u32) -> &mut Self {
        self.publisher.set_desired(named(canary(id, epoch, weight)));
        self
    }
}

fn rows(rows: &[(u64, &str)]) -> Vec<(u64, String)> {
    rows.iter().map(|(at, text)| (*at, (*text).to_owned())).collect()
}

#[test]
fn the_first_canary_is_pushed_at_once_and_nothing_twice() {
    let mut life = Life::begin();
    life.set(ID, 1, 0);
    assert_eq!(life.until(600_000), rows(&[(0, "first [0]")]));
    life.set(ID, 1, 0);
    assert_eq!(life.until(1_200_000), []);
}

#[test]
fn changes_of_many_canaries_are_gathered_into_one_push() {
    let mut life = Life::begin();
    life.set(ID, 1, 0);
    life.until(0);
    life.set(ID, 2, 500);
    assert_eq!(life.until(300), []);
    life.set(OTHER, 1, 700);
    assert_eq!(life.until(900), rows(&[(500, "changed [5 7]")]));
    assert_eq!(life.epochs.acknowledged(ID, life.publisher.generation()), Some(2));
}

#[test]
fn a_rollback_is_pushed_at_once_and_carries_all_that_waits() {
    let taken_back: [fn() -> Canary; 2] = [|| canary(ID, 3, 0), || canary(ID, 3, 400)];
    for less in taken_back {
        let mut life = Life::begin();
        life.set(ID, 1, 0).until(0);
        life.set(ID, 2, 500).until(600);
        life.set(OTHER, 1, 700);
        life.publisher.set_desired(named(less()));
        let weight = less().weight;
        assert_eq!(life.until(700), vec![(650, format!("changed [{weight} 7]"))]);
    }
}

#[test]
fn conditions_that_are_taken_away_are_a_rollback() {
    let mut life = Life::begin();
    let matching = Canary { conditions: vec![weir_wire::Condition::default()], ..canary(ID, 2, 0) };
    life.publisher.set_desired(named(matching));
    life.until(50);
    life.set(ID, 3, 0);
    assert_eq!(life.until(150), rows(&[(100, "changed [0]")]));
}

#[test]
fn what_is_changed_back_before_it_was_pushed_is_not_pushed() {
    let mut life = Life::begin();
    life.set(ID, 1, 300).until(0);
    life.set(ID, 2, 500).until(200);
    life.set(ID, 1, 300);
    assert_eq!(life.until(10_000), []);
}

#[test]
fn a_change_during_a_write_waits_for_the_next_one() {
    let mut life = Life::begin();
    life.set(ID, 1, 500);
    let Next::Push(push) = life.publisher.next(NOW) else { panic!("nothing to push") };
    life.set(ID, 2, 0);
    life.publisher.pushed(push, NOW);
    assert_eq!(life.until(0), rows(&[(0, "changed [0]")]), "a rollback stays urgent");
}

#[test]
fn a_write_that_failed_is_tried_again_soon_but_not_at_once() {
    let mut life = Life::begin();
    life.set(ID, 1, 500);
    assert!(matches!(life.publisher.next(NOW), Next::Push(_)));
    life.publisher.failed(NOW);
    assert_eq!(life.publisher.next(NOW), Next::Wait(NOW + Span(200)));
    assert_eq!(life.until(300), rows(&[(200, "first [5]")]));
}

#[test]
fn a_split_is_renewed_before_new_gateway_processes_stop_trusting_it() {
    let mut life = Life::begin();
    life.set(ID, 1, 500);
    // Armed for whole seconds from the push on; half of them are left at each renewal.
    assert_eq!(life.until(70_000), rows(&[(0, "first [5]"), (30_000, "renewal [5]"), (60_000, "renewal [5]")]));
    let armed_until = life.publisher.last_pushed().unwrap().armed_until;
    assert_eq!(armed_until, (NOW + Span::seconds(120)).0 / 1000);
    life.set(ID, 2, 0).until(71_000);
    assert_eq!(life.until(600_000), [], "without a split nothing needs to be trusted");
}

#[test]
fn what_is_not_acknowledged_is_pushed_again_and_ever_more_rarely() {
    let table: [(u32, &[u64]); 2] = [(500, &[0, 2, 6, 14, 30, 60]), (0, &[0, 2, 6, 14, 30, 62, 126, 254])];
    for (weight, expected) in table {
        let mut life = Life::begin();
        life.stuck = true;
        life.set(ID, 1, weight);
        let pushes: Vec<u64> = life.until(expected.last().unwrap() * 1000).iter().map(|(at, _)| at / 1000).collect();
        assert_eq!(pushes, expected, "weight {weight}");
        // It runs again: the next push that is not acknowledged is waited for as at first.
        life.stuck = false;
        let end = life.now.since(NOW).0 + 400_000;
        life.until(end);
        life.stuck = true;
        life.set(ID, 2, 100);
        let end = life.now.since(NOW).0;
        assert_eq!(life.until(end + 3_000).len(), 2, "weight {weight}");
    }
}

#[test]
fn a_gateway_that_does_not_answer_is_not_pushed_to_again() {
    let mut publisher = Publisher::new(DEBOUNCE);
    publisher.acknowledged("pod", NOW, Some(7));
    publisher.set_desired(named(canary(ID, 1, 0)));
    let Next::Push(push) = publisher.next(NOW) else { panic!("nothing to push") };
    publisher.pushed(push, NOW);
    for ms in (0..60_000).step_by(1000) {
        assert!(matches!(publisher.next(NOW + Span(ms)), Next::Wait(_)));
    }
}

#[test]
fn what_somebody_else_wrote_is_written_over() {
    let mut life = Life::begin();
    life.set(ID, 4, 500).until(10_000);
    life.publisher.mark_drifted();
    assert_eq!(life.until(10_500), rows(&[(10_050, "drifted [5]")]));
    // A write that met another's: what is live now is compared with what is desired.
    let live = Config { generation: life.publisher.generation() + 8, ..Config::default() };
    life.publisher.resync(Some(live.clone()), BTreeMap::new(), life.now);
    assert_eq!(life.until(12_000), rows(&[(10_550, "changed [5]")]));
    assert!(life.publisher.generation() > live.generation);
    life.publisher.resync(None, BTreeMap::new(), life.now);
    assert_eq!(life.until(13_000), rows(&[(12_050, "first [5]")]));
}

#[test]
fn a_later_controller_goes_on_with_what_was_pushed() {
    let mut life = Life::begin();
    life.set(ID, 9, 300).set(OTHER, 1, 0);
    life.until(0);
    let pushed = life.publisher.last_pushed().unwrap().clone();
    life.epochs = Epochs::default();
    life.epochs.record(&pushed);
    assert_eq!(life.epochs.acknowledged(ID, pushed.generation), Some(9));
    assert_eq!(life.epochs.acknowledged(ID, pushed.generation - 1), None);
    life.publisher = Publisher::resume(DEBOUNCE, pushed.clone(), BTreeMap::new(), |_| true);
    life.set(ID, 9, 300);
    assert_eq!(life.until(10_000), []);
    // One of its Canaries went while nobody looked.
    life.publisher = Publisher::resume(DEBOUNCE, pushed, BTreeMap::new(), |canary| canary.id == ID);
    assert_eq!(life.until(10_500), rows(&[(10_050, "changed [3]")]));
}

#[test]
fn a_gateway_without_canaries_loses_first_its_canaries_then_the_filter_then_the_configuration() {
    let mut life = Life::begin();
    life.set(ID, 1, 0).until(1_000);
    life.publisher.remove(ID);
    let steps = [(1_050, "changed []"), (3_050, "remove filter"), (5_050, "remove configuration")];
    assert_eq!(life.until(60_000), rows(&steps));
    // A gateway that answers, and does not let go, is waited for; but not for ever.
    let mut life = Life::begin();
    life.set(ID, 1, 0).until(1_000);
    life.publisher.remove(ID);
    life.stuck = true;
    let done = life.until(60_000);
    let removals: Vec<_> = done.iter().filter(|(_, what)| what.starts_with("remove")).cloned().collect();
    assert_eq!(removals, rows(&[(31_050, "remove filter"), (33_050, "remove configuration")]));
}

#[test]
fn a_canary_that_comes_while_the_filter_goes_is_pushed() {
    let mut life = Life::begin();
    life.set(ID, 1, 0).until(1_000);
    life.publisher.remove(ID);
    life.until(4_000);
    life.set(OTHER, 1, 0);
    assert_eq!(life.until(60_000), rows(&[(4_050, "changed [0]")]));
}

#[test]
fn one_canary_that_the_filter_would_refuse_is_left_out_and_no_other() {
    let mut publisher = Publisher::new(DEBOUNCE);
    publisher.set_desired(named(canary(ID, 1, 500)));
    publisher.set_desired(named(Canary { hosts: vec!["a b".into()], ..canary(OTHER, 1, 500) }));
    let Next::Push(push) = publisher.next(NOW) else { panic!("nothing to push") };
    assert_eq!(push.config.canaries.len(), 1);
    let (reason, text) = &publisher.left_out()[OTHER];
    assert!(*reason == "EntryRefused" && text.contains("hosts[0]"), "{text}");
    publisher.pushed(push, NOW);
    assert!(matches!(publisher.next(NOW + Span::seconds(1)), Next::Wait(_)), "it is not tried again and again");
}

#[test]
fn an_envoy_that_starts_gets_a_fresh_generation_and_time_to_compile() {
    let mut life = Life::begin();
    life.set(ID, 1, 500).until(0);
    let before = life.publisher.generation();
    let push = life.publisher.startup(life.now);
    assert!(push.config.generation > before);
    let at = life.now.since(NOW).0;
    life.publisher.pushed(push, life.now);
    life.stuck = true;
    assert_eq!(life.until(15_000), vec![(at + 10_000, "not acknowledged [5]".to_owned())]);
    // What is pushed while it compiles gives it the same time.
    let push = life.publisher.startup(life.now);
    life.publisher.pushed(push, life.now);
    life.set(ID, 2, 700);
    let at = life.now.since(NOW).0;
    let later: Vec<u64> = life.until(at + 12_000).iter().map(|(when, _)| when - at).collect();
    assert_eq!(later.len(), 2, "{later:?}");
    assert!(later[1] - later[0] >= 10_000, "{later:?}");
}

#[test]
fn no_more_epochs_are_remembered_than_a_gateway_counts_generations_for() {
    let mut epochs = Epochs::default();
    for n in 1..=20 {
        let canaries = vec![canary(ID, n, 0)];
        epochs.record(&Config { generation: n, canaries, ..Config::default() });
    }
    assert_eq!((epochs.acknowledged(ID, 12), epochs.acknowledged(ID, 13)), (None, Some(13)));
    epochs.forget(ID);
    assert_eq!(epochs.acknowledged(ID, 20), None);
}

impl Life {
    fn filter(&mut self, id: &str, epoch: u64, weight: u32, filter: FilterMode) -> &mut Self {
        let routes =
            RouteNames { primary: vec![id.into()], canary: vec![format!("{id}/canary")], ..RouteNames::default() };
        self.publisher.set_desired(Desired { canary: canary(id, epoch, weight), filter, routes, since: Timestamp(0) });
        self
    }

    /// What is pushed until `ms`: the names, and with a `+` those whose routes have the filter on.
    fn pushes(&mut self, ms: u64) -> Vec<String> {
        let mut pushes = Vec::new();
        while self.now <= NOW + Span(ms) {
            let before = self.publisher.generation();
            let step = self.now.since(NOW).0;
            self.until(step);
            if self.publisher.generation() != before {
                let last = self.publisher.last_pushed().unwrap();
                let on = |id: &str| if self.publisher.last_switched().contains_key(id) { "+" } else { "" };
                let names = last.canaries.iter().map(|canary| format!("{}{}", &canary.id[..1], on(&canary.id)));
                pushes.push(names.collect::<Vec<_>>().join(" "));
            }
        }
        pushes
    }
}

#[test]
fn routes_are_switched_on_after_every_gateway_knows_the_name_and_off_before_it_goes() {
    let mut life = Life::begin();
    life.filter(ID, 1, 0, FilterMode::On);
    assert_eq!(life.pushes(5_000), ["a", "a+"]);
    life.filter(ID, 2, 500, FilterMode::On);
    life.filter(OTHER, 1, 0, FilterMode::On);
    assert_eq!(life.pushes(10_000), ["a+ b", "a+ b+"], "a second rollout begins beside the first");
    life.filter(ID, 3, 0, FilterMode::Off);
    assert_eq!(life.pushes(15_000), ["a b+", "b+"]);
    life.filter(OTHER, 1, 0, FilterMode::Off);
    assert_eq!(life.pushes(20_000), ["b", ""]);
    assert_eq!(life.pushes(600_000), [""; 0], "at rest nothing is pushed, and the filter stays");
}

#[test]
fn a_gateway_that_does_not_acknowledge_holds_the_switch_and_no_rollback() {
    let mut life = Life::begin();
    life.filter(ID, 1, 0, FilterMode::Off).filter(OTHER, 1, 0, FilterMode::Off);
    life.pushes(1_000);
    life.stuck = true;
    life.filter(ID, 2, 0, FilterMode::On);
    assert!(life.pushes(20_000).iter().all(|push| push == "a"));
    life.stuck = false;
    assert_eq!(life.pushes(25_000).last().unwrap(), "a+");
    life.filter(ID, 3, 500, FilterMode::On);
    life.pushes(30_000);
    life.stuck = true;
    life.filter(ID, 4, 0, FilterMode::On);
    let at = life.now.since(NOW).0;
    assert_eq!(life.until(at).len(), 1);
    life.filter(ID, 4, 0, FilterMode::Off);
    let done = life.pushes(at + 40_000);
    assert!(done.iter().all(|push| push == "a"), "the name stays while a gateway may have the switch: {done:?}");
}

#[test]
fn a_canary_that_is_named_only_is_never_switched_on() {
    let mut life = Life::begin();
    life.filter(ID, 1, 0, FilterMode::Named);
    assert_eq!(life.pushes(5_000), ["a"]);
    life.filter(ID, 1, 0, FilterMode::Off);
    assert_eq!(life.pushes(10_000), [""]);
}

#[test]
fn a_later_controller_leaves_the_filter_on_where_it_is_on() {
    let mut life = Life::begin();
    life.filter(ID, 7, 500, FilterMode::On);
    life.pushes(5_000);
    let (pushed, switched) = (life.publisher.last_pushed().unwrap().clone(), life.publisher.last_switched().clone());
    life.publisher = Publisher::resume(DEBOUNCE, pushed, switched, |_| true);
    assert_eq!(life.pushes(10_000), [""; 0]);
    life.filter(ID, 7, 500, FilterMode::On);
    assert_eq!(life.pushes(20_000), [""; 0]);
}

#[test]
fn a_canary_that_is_off_is_acknowledged_by_whoever_does_not_know_it() {
    let mut epochs = Epochs::default();
    assert!(epochs.record_off(ID, 4, 100));
    assert!(!epochs.record_off(ID, 4, 108), "known already");
    assert_eq!((epochs.acknowledged(ID, 99), epochs.acknowledged(ID, 100)), (None, Some(4)));
}
