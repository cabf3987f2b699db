//! Counts over restarts of whoever counts and whoever reads.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use weir_wire::names::{Arm, Cohort, Kind};

use super::*;
use crate::{Phase, Plan, Run, State};

const START: u64 = 1_795_395_000_000;

/// A process that counts, and what it has counted by epoch.
struct Caller {
    name: String,
    boot: u64,
    slots: [Counts; SLOTS as usize],
    refused: u64,
    under_way: Vec<(u64, Arm)>,
}

impl Caller {
    fn new(name: String, boot: u64) -> Self {
        Self { name, boot, slots: Default::default(), refused: 0, under_way: Vec::new() }
    }

    fn scrape(&self, now: u64) -> Scrape {
        let (slots, refused) = (self.slots.clone(), self.refused);
        let (gateway, begun) = (self.name.clone(), Timestamp(START + now));
        Scrape { gateway, boot: self.boot, begun, slots, refused, ..Scrape::default() }
    }
}

/// Callers that come, go and restart, and a controller that does too. It knows what is true.
struct Mesh {
    callers: Vec<Caller>,
    history: CounterHistory,
    /// What was counted and read, by epoch.
    truth: BTreeMap<u64, [u64; 3]>,
    epoch: u64,
    now: u64,
    boots: u64,
    rng: StdRng,
    /// Latencies of ended requests are counted.
    largest: usize,
}

impl Mesh {
    fn new(callers: usize) -> Self {
        let mut mesh = Self {
            callers: Vec::new(),
            history: CounterHistory::default(),
            truth: BTreeMap::new(),
            epoch: 1_795_395_000,
            now: 0,
            boots: 0,
            rng: StdRng::seed_from_u64(7),
            largest: 0,
        };
        (0..callers).for_each(|_| mesh.join());
        // The first ones may have counted for an earlier Weir: from here on they count for this one.
        mesh.read();
        mesh
    }

    fn join(&mut self) {
        self.boots += 1;
        let (name, boot) =
            (format!("shop/frontend-7d9c5b6f7d-{}", self.boots), 0x1f_ffff_ffff_ffff - self.boots * 9_973);
        self.callers.push(Caller::new(name, boot));
    }

    /// Requests of a while: they begin, and some that are under way end.
    fn serve(&mut self, each: u64) {
        let (rng, epoch) = (&mut self.rng, self.epoch);
        for caller in &mut self.callers {
            for _ in 0..rng.random_range(0..=each) {
                let arm = if rng.random_bool(0.1) { Arm::Canary } else { Arm::Primary };
                caller.slots[(epoch % SLOTS) as usize].cell_mut(arm, Cohort::Draw).count(Kind::Assigned, 1);
                self.truth.entry(epoch).or_default()[0] += 1;
                caller.under_way.push((epoch, arm));
            }
            for (began, arm) in std::mem::take(&mut caller.under_way) {
                if rng.random_bool(0.2) && epoch - began < SLOTS - 1 {
                    caller.under_way.push((began, arm));
                    continue;
                }
                let failed = rng.random_bool(0.01);
                let cell = caller.slots[(began % SLOTS) as usize].cell_mut(arm, Cohort::Draw);
                cell.count(if failed { Kind::Failure } else { Kind::Success }, 1);
                cell.count(Kind::Latency(rng.random_range(0..14)), 1);
                self.truth.entry(began).or_default()[1 + usize::from(failed)] += 1;
            }
        }
    }

    fn read(&mut self) {
        self.now += 1000;
        for caller in &self.callers {
            self.history.absorb(&caller.scrape(self.now), self.epoch);
        }
        let serving = self.callers.iter().map(|caller| (caller.name.as_str(), Some(self.epoch))).collect();
        self.history.keep(&serving, Timestamp(START + self.now));
        self.history.retire(self.epoch.saturating_sub(2 * SLOTS));
        self.history.close((self.epoch + 1).saturating_sub(SLOTS));
    }

    /// Another controller goes on from what is stored.
    fn restart(&mut self) {
        let stored = serde_json::to_string(&self.history).unwrap();
        self.largest = self.largest.max(stored.len());
        self.history = serde_json::from_str(&stored).unwrap();
        assert!(serde_json::to_string(&self.history).unwrap() == stored, "what is stored again is the same");
    }

    fn advance(&mut self) {
        self.epoch += 1;
        self.history.begin(self.epoch);
    }

    fn check(&self, what: &str) {
        for (epoch, [assigned, success, failed]) in self.truth.range(self.epoch.saturating_sub(SLOTS)..) {
            let counts = self.history.epoch(*epoch);
            let sum = [Arm::Primary, Arm::Canary].map(|arm| counts.arm(arm));
            let of = |of: fn(&Cell) -> u64| sum.iter().map(of).sum::<u64>();
            let counted = [of(|cell| cell.assigned), of(|cell| cell.success), of(|cell| cell.failure)];
            assert_eq!(counted, [*assigned, *success, *failed], "{what}: epoch {epoch} of {}", self.epoch);
            assert!(of(Cell::timed) <= success + failed, "{what}: no latency is counted twice");
        }
    }
}

#[test]
fn no_count_of_a_thousand_callers_that_come_and_go_is_lost_or_made_twice_and_little_is_stored() {
    let mut mesh = Mesh::new(1000);
    for round in 0..40 {
        mesh.serve(4);
        mesh.read();
        mesh.check("read");
        if round % 3 == 0 {
            mesh.advance();
        }
        // What is counted while nobody looks is counted when somebody does.
        mesh.restart();
        mesh.serve(2);
        // Fifty go, having been read; as many come.
        mesh.read();
        mesh.callers.drain(..50);
        (0..50).for_each(|_| mesh.join());
        mesh.restart();
        mesh.serve(1);
        mesh.read();
        mesh.check("callers came and went while the controller was away");
    }
    println!("{} bytes for 1,000 callers, 2,000 of which came and went", mesh.largest);
    assert!(mesh.largest <= 52 * 1024, "{}", mesh.largest);
}

#[test]
fn a_caller_that_restarts_under_its_name_keeps_what_it_counted_before() {
    let mut mesh = Mesh::new(3);
    mesh.serve(50);
    mesh.read();
    for caller in &mut mesh.callers {
        let boot = caller.boot + 1;
        *caller = Caller::new(caller.name.clone(), boot);
    }
    mesh.restart();
    mesh.serve(50);
    mesh.read();
    mesh.check("restarted");
    let counts = mesh.history.since(0);
    let under_way: usize = mesh.callers.iter().map(|caller| caller.under_way.len()).sum();
    let unended = counts.arm(Arm::Primary).unended() + counts.arm(Arm::Canary).unended();
    assert!(unended >= under_way as u64, "{unended} {under_way}");
}

#[test]
fn a_caller_that_comes_back_is_not_counted_twice() {
    let mut mesh = Mesh::new(2);
    mesh.serve(100);
    mesh.read();
    let away = mesh.callers.pop().unwrap();
    (0..60).for_each(|_| mesh.read());
    mesh.restart();
    mesh.callers.push(away);
    mesh.read();
    let counts = mesh.history.epoch(mesh.epoch);
    assert_eq!(counts.arm(Arm::Primary).assigned + counts.arm(Arm::Canary).assigned, mesh.truth[&mesh.epoch][0]);
}

#[test]
fn what_a_caller_that_is_gone_had_under_way_is_waited_for_no_longer() {
    let mut mesh = Mesh::new(2);
    let stays = mesh.callers.remove(0);
    let caller = &mut mesh.callers[0];
    caller.slots[(mesh.epoch % SLOTS) as usize].cell_mut(Arm::Canary, Cohort::Draw).count(Kind::Assigned, 5);
    mesh.read();
    assert_eq!(mesh.history.unended(mesh.epoch, Timestamp(0)), 5);
    mesh.callers = vec![stays];
    (0..40).for_each(|_| mesh.read());
    let canary = mesh.history.epoch(mesh.epoch).arm(Arm::Canary);
    assert_eq!((canary.assigned, canary.unended(), canary.unjudged), (5, 0, 5));
    assert_eq!(mesh.history.unended(mesh.epoch, Timestamp(0)), 0);
}

#[test]
fn more_callers_than_there_is_room_for_are_never_counted_twice_and_take_no_more_room() {
    let mut mesh = Mesh::new(4000);
    for _ in 0..4 {
        mesh.serve(3);
        mesh.read();
        mesh.restart();
        mesh.read();
        for (epoch, [assigned, ..]) in &mesh.truth {
            let counts = mesh.history.epoch(*epoch);
            assert!(counts.arm(Arm::Primary).assigned + counts.arm(Arm::Canary).assigned <= *assigned);
        }
        mesh.advance();
    }
    assert!(mesh.largest <= 56 * 1024, "{}", mesh.largest);
}

#[test]
fn the_whole_state_of_a_release_with_a_thousand_callers_fits_into_64_kib() {
    let mut mesh = Mesh::new(1000);
    let mut run = Run { id: "r".into(), ..Run::default() };
    let plan = Plan::example();
    run.evidence = crate::run_evidence::RunEvidence::new(&plan, mesh.epoch, [10_000, 50], 1000);
    let mut traffic =
        crate::Traffic { run: "r".into(), weight: weir_wire::Weight::new(1000).unwrap(), ..Default::default() };
    for _ in 0..12 {
        traffic.epoch = mesh.epoch;
        // Older modules among them have tables, which take the most room.
        let limits = run.evidence.open(&mesh.history, &plan, &traffic, true, [1000, 1000]);
        traffic.limits.splice(0..0, limits);
        traffic.limits.truncate(3);
        mesh.serve(30);
        mesh.read();
        mesh.advance();
    }
    mesh.restart();
    let state =
        State { phase: Phase::Progressing, run: Some(run), traffic, counters: mesh.history, ..State::default() };
    let stored = serde_json::to_string(&state).unwrap().len();
    println!("{stored} bytes");
    assert!(stored <= 64 * 1024, "{stored}");
}

#[test]
fn what_an_earlier_weir_counted_by_gateway_is_taken_over() {
    let stored = r#"{"shop/a": {"boot": 7, "begun": 5, "last": {"1": {"cells": [[{"assigned": 9, "success": 9}, {}, {}], [{}, {}, {}]]}},
        "refused": 2, "epochs": {"9": {"cells": [[{"assigned": 4, "success": 4}, {}, {}], [{}, {}, {}]]}}}}"#;
    let mut history: CounterHistory = serde_json::from_str(stored).unwrap();
    assert_eq!(history.epoch(9).arm(Arm::Primary).assigned, 4);
    let mut scrape = Scrape { gateway: "shop/a".into(), boot: 7, begun: Timestamp(6), refused: 3, ..Scrape::default() };
    scrape.slots[1].cell_mut(Arm::Primary, Cohort::Draw).count(Kind::Assigned, 11);
    history.absorb(&scrape, 9);
    assert_eq!((history.epoch(9).arm(Arm::Primary).assigned, history.epoch(9).refused), (6, 1));
    let state: State = serde_json::from_str(&format!(r#"{{"ledger": {stored}}}"#)).unwrap();
    assert_eq!(state.counters.since(0).arm(Arm::Primary).assigned, 4);
    assert_eq!(serde_json::from_str::<CounterHistory>("{}").unwrap(), CounterHistory::default());
}
