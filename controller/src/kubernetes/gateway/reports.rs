//! What the pods of a gateway workload say, as everybody may read it.

use std::collections::{BTreeMap, BTreeSet};

use weir_engine::{Gateway, Scrape, Span, Timestamp};

use crate::kubernetes::kinds::canary::Fault;
use crate::kubernetes::render::Proxies;
use crate::publisher::{Epochs, LeftOut};
use crate::scrape::Report;

/// A pod that has acknowledged nothing for so long is named to people: until then it may be starting.
const STARTING: Span = Span::seconds(30);

/// A caller that hangs, or does not take over what it is told, is waited for so long. A gateway is waited for as long as it is
/// ready: its readiness is Envoy's own, and a caller's is that of the program beside Envoy.
pub(super) const PATIENCE: Span = Span::seconds(30);

/// A pod that was given up is asked so often.
const NOW_AND_THEN: Span = Span::seconds(10);

/// Routes that are not seen to be switched on so long after all pods should have them are told to people.
pub(super) const SWITCH_TIMEOUT: Span = Span::seconds(10);

/// What is said of a pod that answers, and has no filter.
pub(super) const UNFILTERED: &str = "it does not run the filter";

/// What is known of the pods of one gateway workload.
#[derive(Default)]
pub(super) struct Reports {
    pods: BTreeMap<String, PodReport>,
    /// What the pods are.
    pub(super) proxies: Proxies,
    /// Which generation carried which epoch.
    pub(super) epochs: Epochs,
    /// Since when the filter should be on for a canary's routes, by id.
    on_since: BTreeMap<String, Timestamp>,
    /// Whether each pod was asked once.
    pub(super) complete: bool,
    /// Why the filter is on for all requests of the gateway, where it is.
    pub(super) everywhere: Option<String>,
    /// The canaries, by id, whose routes should be seen to be switched on, and are not.
    pub(super) missing: BTreeSet<String>,
    /// By id, what has no place in the configuration.
    pub(super) left_out: BTreeMap<String, LeftOut>,
    /// By the object, which of the gateway's own writes the API server refuses.
    pub(super) refused: BTreeMap<&'static str, Fault>,
}

/// What is known of one pod.
#[derive(Default)]
struct PodReport {
    first_asked: Timestamp,
    /// When it was last asked in vain.
    tried_at: Timestamp,
    /// When it was asked what it said last.
    asked_at: Timestamp,
    /// What it said last: nothing where the filter does not run.
    report: Option<Report>,
    /// The newest generation that it is known to run.
    runs: Option<u64>,
    /// Whether it has acknowledged anything since it is known.
    heard: bool,
    /// Without a filter, the newest generation that had the time to arrive when it was asked: what it sends goes past that split.
    passed: Option<u64>,
    /// Why what it said last is not known, or not believed.
    problem: Option<String>,
    /// The canaries whose requests its filter was seen to count since it should be on for their routes: a proxyStatsMatcher may
    /// hide the routes' own counters.
    counting: BTreeSet<String>,
}

impl PodReport {
    fn is_filtering(&self, id: &str) -> bool {
        self.counting.contains(id) || self.report.as_ref().is_some_and(|report| report.is_filtering(id))
    }
}

impl Reports {
    /// Takes note of what a pod said, and whether it has acknowledged anything by now; where it said nothing, with the newest generation that
    /// it should have.
    pub(super) fn insert(
        &mut self,
        pod: String,
        asked_at: Timestamp,
        report: Option<Report>,
        runs: Option<u64>,
        (heard, due): (bool, Option<u64>),
    ) {
        let problem = (report.is_none() && runs.is_none()).then(|| UNFILTERED.to_owned());
        let known = self.pods.entry(pod).or_insert_with(|| PodReport { first_asked: asked_at, ..PodReport::default() });
        let mut counting = std::mem::take(&mut known.counting);
        // Where it is on everywhere, counts say nothing of the routes.
        if let (Some(new), Some(last), None) = (&report, &known.report, &self.everywhere)
            && new.boot == last.boot
        {
            let asked_since = |since: Timestamp| known.asked_at >= since;
            let grown = |id: &str| new.assigned(id) > last.assigned(id);
            let on = self.on_since.iter().filter(|(id, since)| asked_since(**since) && grown(id));
            counting.extend(on.map(|(id, _)| id.clone()));
        } else {
            counting.clear();
        }
        let (first_asked, tried_at) = (known.first_asked, known.tried_at);
        // A gateway's pod may be any of the users' own, which has a filter somewhere else.
        let passed = due.filter(|_| report.is_none() && self.proxies == Proxies::Sidecars);
        *known = PodReport { first_asked, tried_at, asked_at, report, runs, heard, passed, problem, counting };
    }

    /// Returns whether a pod has not answered for so long that no advance waits for it.
    pub(super) fn is_given_up(&self, pod: &str, now: Timestamp) -> bool {
        // One that never answered may be about to start.
        let last = |known: &PodReport| known.asked_at.max(known.first_asked);
        let hangs = |known: &PodReport| known.problem.is_some() && now.since(last(known)) >= PATIENCE;
        self.proxies == Proxies::Sidecars && self.pods.get(pod).is_some_and(hangs)
    }

    /// Takes note of whether the filter should be on for a canary's routes from now on.
    pub(super) fn switch(&mut self, id: &str, on: bool, now: Timestamp) {
        if on {
            self.on_since.entry(id.to_owned()).or_insert(now);
        } else if self.on_since.remove(id).is_some() {
            self.pods.values_mut().for_each(|known| known.counting.retain(|counted| counted != id));
        }
    }

    /// Takes note of a pod that did not answer, or whose answer is not believed: what it said before stands.
    pub(super) fn unanswered(&mut self, pod: String, asked_at: Timestamp, problem: String) {
        let known = self.pods.entry(pod).or_insert_with(|| PodReport { first_asked: asked_at, ..PodReport::default() });
        known.tried_at = asked_at;
        known.problem = Some(problem);
    }

    /// Returns whether a pod is left alone now: one that was given up, and had the time to start, is asked now and then. Every other
    /// round would take as long as its silence.
    pub(super) fn is_left_alone(&self, pod: &str, now: Timestamp) -> bool {
        let tried =
            |known: &PodReport| now.since(known.first_asked) >= STARTING && now.since(known.tried_at) < NOW_AND_THEN;
        self.is_given_up(pod, now) && self.pods.get(pod).is_some_and(tried)
    }

    /// Returns whether a pod was ever asked.
    pub(super) fn is_known(&self, pod: &str) -> bool {
        self.pods.contains_key(pod)
    }

    /// Returns what a pod said last, and when it was asked.
    pub(super) fn last(&self, pod: &str) -> Option<(&Report, Timestamp)> {
        let known = self.pods.get(pod)?;
        Some((known.report.as_ref()?, known.asked_at))
    }

    /// Forgets pods that are gone.
    pub(super) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.pods.retain(|pod, _| keep(pod));
    }

    /// Returns how many requests of a canary failed, with the guards' own verdicts, as all pods together say.
    #[must_use]
    pub(super) fn failures(&self, id: &str) -> u64 {
        let reports = self.pods.values().filter_map(|known| known.report.as_ref());
        reports.fold(0, |sum: u64, report| sum.saturating_add(report.trouble(id)))
    }

    /// Returns whether the filter is on for a canary's requests in every pod that has acknowledged anything.
    #[must_use]
    pub(super) fn is_filtering(&self, id: &str) -> bool {
        let mut heard = self.pods.values().filter(|known| known.heard && known.report.is_some());
        heard.all(|known| known.is_filtering(id))
    }

    /// Returns whether any pod has acknowledged anything.
    #[must_use]
    pub(super) fn any_heard(&self) -> bool {
        self.pods.values().any(|known| known.heard)
    }

    /// Returns whether a pod runs a generation, or no filter since that had the time to arrive.
    #[must_use]
    pub(super) fn has(&self, pod: &str, generation: u64) -> bool {
        self.pods.get(pod).is_some_and(|known| known.runs.max(known.passed) >= Some(generation))
    }

    /// Returns the pods that have never acknowledged anything though they had the time, each with why.
    pub(super) fn silent(&self, now: Timestamp) -> impl Iterator<Item = (&str, &str)> {
        let silent = self.pods.iter().filter(move |(pod, known)| {
            (!known.heard && now.since(known.first_asked) >= STARTING) || self.is_given_up(pod, now)
        });
        silent.map(|(pod, known)| {
            (pod.as_str(), known.problem.as_deref().unwrap_or("its workers do not run the newest configuration"))
        })
    }

    /// Returns whether a pod is a caller without a route to a canary's service: its filter is there, and no route that it could be on
    /// for, though these come to a sidecar before it.
    pub(super) fn is_unrouted(&self, pod: &str, id: &str, now: Timestamp) -> bool {
        let on_since = self.on_since.get(id).filter(|_| self.proxies == Proxies::Sidecars);
        let (Some(since), Some(known)) = (on_since, self.pods.get(pod)) else { return false };
        let long = known.asked_at.since((*since).max(known.first_asked)) >= SWITCH_TIMEOUT;
        long && now.since(known.asked_at) < PATIENCE && known.report.is_some() && !known.is_filtering(id)
    }

    /// Returns what a pod is known to use and has counted, for one Canary. `name` is the gateway's in observations.
    #[must_use]
    pub(super) fn of(&self, pod: &str, name: String, id: &str, now: Timestamp) -> (Gateway, Option<Scrape>) {
        let known = self.pods.get(pod);
        let report = known.and_then(|known| Some((known.asked_at, known.report.as_ref()?)));
        let silent = known.is_none_or(|known| !known.heard) || self.is_given_up(pod, now);
        // A caller that is waited for no longer, and answers that it has no filter, sends nobody to the canary.
        let generation = known.and_then(|known| known.runs.or(known.passed.filter(|_| silent)));
        let acknowledged = generation.and_then(|generation| self.epochs.acknowledged(id, generation));
        let scrape = report.map(|(asked_at, report)| report.scrape(id, &name, asked_at));
        let routed = known.is_some_and(|known| known.is_filtering(id));
        let filtering = self.everywhere.is_some() || routed;
        // A sidecar without the filter sends nobody to the canary, so it holds up nothing that a filter must know.
        let none = self.proxies == Proxies::Sidecars && report.is_none();
        let level = if none { u64::MAX } else { report.map_or(0, |(_, report)| report.level) };
        let unrouted = self.is_unrouted(pod, id, now);
        let caller = self.proxies == Proxies::Sidecars;
        (Gateway { name, caller, silent, acknowledged, filtering, unrouted, level }, scrape)
    }
}

#[cfg(test)]
mod tests {
    use weir_wire::{Canary, Config};

    use super::*;

    const ID: &str = "a3f09c11d2e4b877";

    #[test]
    fn a_caller_without_a_route_to_the_service_is_known_after_some_time_and_a_gateway_never_is_one() {
        let unrouted = |proxies, until: u64| {
            let mut reports = Reports { proxies, ..Reports::default() };
            reports.switch(ID, true, Timestamp(0));
            for second in 0..=until {
                let at = Timestamp(0) + Span::seconds(second);
                reports.insert("pod".into(), at, said(1, 0), None, (true, None));
            }
            let now = Timestamp(0) + Span::seconds(until);
            assert!(!reports.of("pod", "web/pod".into(), ID, now).0.filtering);
            reports.of("pod", "web/pod".into(), ID, now).0.unrouted
        };
        assert!(!unrouted(Proxies::Sidecars, 9) && unrouted(Proxies::Sidecars, 10));
        assert!(!unrouted(Proxies::Gateways, 100));
    }

    #[test]
    fn a_caller_that_answers_without_the_filter_is_as_good_as_told_once_it_is_waited_for_no_longer() {
        let config = Config {
            generation: 9,
            canaries: vec![Canary { id: ID.into(), epoch: 3, ..Canary::default() }],
            ..Config::default()
        };
        for (proxies, heard, due, acknowledged) in [
            (Proxies::Sidecars, false, Some(9), Some(3)),
            (Proxies::Sidecars, false, None, None),
            (Proxies::Sidecars, true, Some(9), None),
            (Proxies::Gateways, false, Some(9), None),
        ] {
            let mut reports = Reports { proxies, ..Reports::default() };
            reports.epochs.record(&config);
            reports.insert("pod".into(), Timestamp(0), None, None, (heard, due));
            let (gateway, scrape) = reports.of("pod", "web/pod".into(), ID, Timestamp(0));
            assert_eq!((gateway.acknowledged, gateway.silent), (acknowledged, !heard), "{proxies:?} {heard} {due:?}");
            assert!(scrape.is_none() && reports.has("pod", 9) == (proxies == Proxies::Sidecars && due.is_some()));
        }
    }

    fn said(boot: u64, requests: u64) -> Option<Report> {
        let text = format!(
            "weir_{ID}_1_primary_draw_assigned{{}} {requests}\nweir_boot{{}} {boot}\nweir_generation_0{{}} 8\nweir_vms_0{{}} 2\n"
        );
        Some(Report::parse(&text).unwrap())
    }

    #[test]
    fn a_caller_that_hangs_is_asked_now_and_then_once_it_had_the_time_to_start() {
        let second = |second: u64| Timestamp(0) + Span::seconds(second);
        let mut reports = Reports { proxies: Proxies::Sidecars, ..Reports::default() };
        let mut asked = Vec::new();
        for now in 1..=60 {
            if !reports.is_left_alone("pod", second(now)) {
                asked.push(now);
                reports.unanswered("pod".into(), second(now), "no answer".into());
            }
        }
        assert_eq!(asked, (1..=30).chain([40, 50, 60]).collect::<Vec<u64>>());
        reports.insert("pod".into(), second(60), said(1, 0), None, (true, None));
        assert!(!reports.is_left_alone("pod", second(61)), "it answers again");
    }

    #[test]
    fn a_caller_that_starts_is_named_silent_only_when_it_had_the_time_to_start() {
        let second = |second: u64| Timestamp(0) + Span::seconds(second);
        let mut reports = Reports { proxies: Proxies::Sidecars, ..Reports::default() };
        let named: Vec<u64> = (1_000..1_060)
            .filter(|now| {
                reports.unanswered("pod".into(), second(*now), "no answer".into());
                reports.silent(second(*now)).count() > 0
            })
            .collect();
        assert_eq!(named, (1_030..1_060).collect::<Vec<u64>>());
    }

    #[test]
    fn requests_that_are_counted_show_the_switch_where_the_routes_counters_are_hidden() {
        let mut reports = Reports::default();
        let hear = |reports: &mut Reports, at: u64, boot, requests| {
            reports.insert("pod".into(), Timestamp(at), said(boot, requests), None, (true, None));
            reports.is_filtering(ID)
        };
        assert!(!hear(&mut reports, 1, 1, 5) && !hear(&mut reports, 2, 1, 6), "of a rollout before");
        reports.switch(ID, true, Timestamp(3));
        assert!(!hear(&mut reports, 4, 1, 7), "it may have been counted before the switch");
        assert!(!hear(&mut reports, 5, 1, 7) && hear(&mut reports, 6, 1, 8) && hear(&mut reports, 7, 1, 8));
        assert!(!hear(&mut reports, 8, 2, 9), "another process has to show it anew");
        assert!(hear(&mut reports, 9, 2, 10));
        reports.switch(ID, false, Timestamp(10));
        assert!(!hear(&mut reports, 11, 2, 11));
        // Counts of a filter that is on for all requests say nothing of the routes.
        reports.everywhere = Some("it is old".into());
        reports.switch(ID, true, Timestamp(12));
        assert!(!hear(&mut reports, 13, 2, 12) && !hear(&mut reports, 14, 2, 13));
    }
}
