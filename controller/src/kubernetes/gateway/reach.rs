//! Whether the filter of a gateway is off but on the routes of Canaries that need it, or on for all requests.
//!
//! Off is what it should be. It is on everywhere while the gateway has it from a version of Weir that knew nothing else, until
//! every rollout under way is shown to have its routes switched on; and where the gateway is known to be unable to do it. That
//! some routes are not seen is no such knowledge: they may never have reached the gateway, and one Canary's mistake would have
//! everybody's requests pay. Its status says so then, and no weight is given.

use std::collections::BTreeMap;

use weir_engine::Timestamp;

use crate::kubernetes::render::Proxies;
use crate::publisher::Publisher;

use super::reports::{Reports, SWITCH_TIMEOUT};

/// Why it is on everywhere, where the gateway cannot do it.
const UNABLE: &str =
    "a proxy of the gateway is older than release 1.22 of the mesh, and may know no filter that routes switch on";
/// Why it was on everywhere to earlier versions of Weir, where routes were not seen.
const NOT_SEEN: &str = "the gateway's pods acknowledged routes with the filter switched on, and do not show them";

/// Whether the filter is on everywhere.
#[derive(Debug)]
pub(super) struct Reach {
    everywhere: Option<String>,
    /// What the gateway's pods are. In sidecars it is never on for all requests: those are to everything that a caller calls.
    proxies: Proxies,
    /// Whether routes of any Canary were seen to be switched on: then the gateway does it.
    seen: bool,
    /// By canary, since when its routes should be seen to be, and are not.
    unseen: BTreeMap<String, Timestamp>,
}

impl Reach {
    /// Returns what an earlier controller left.
    pub(super) fn new(everywhere: Option<String>, proxies: Proxies) -> Self {
        Self { everywhere, proxies, seen: false, unseen: BTreeMap::new() }
    }

    /// Returns why the filter is on everywhere, where it is.
    pub(super) fn everywhere(&self) -> Option<&str> {
        self.everywhere.as_deref()
    }

    /// Returns the canaries whose routes should be seen to be switched on for some time, and are not.
    pub(super) fn missing(&self, now: Timestamp) -> impl Iterator<Item = &String> {
        self.unseen.iter().filter(move |(_, since)| now.since(**since) >= SWITCH_TIMEOUT).map(|(id, _)| id)
    }

    /// Decides anew; returns whether it changed. `unable` says whether the gateway is known to be unable to switch it by routes.
    pub(super) fn advance(
        &mut self,
        publisher: &Publisher,
        reports: &Reports,
        unable: impl FnOnce() -> bool,
        now: Timestamp,
    ) -> bool {
        let on = publisher.switched().filter(|(_, since)| publisher.is_acknowledged(*since));
        let (shown, hidden): (Vec<&str>, Vec<&str>) = on.map(|(id, _)| id).partition(|id| reports.is_filtering(id));
        self.unseen.retain(|id, _| hidden.contains(&id.as_str()));
        for id in &hidden {
            self.unseen.entry((*id).to_owned()).or_insert(now);
        }
        self.seen |= !shown.is_empty() && reports.any_heard();
        if self.everywhere.is_some() {
            let of_earlier = self.everywhere.as_deref().is_some_and(|why| why.starts_with(NOT_SEEN));
            let not_done = !self.seen && (of_earlier || unable());
            let ready = reports.complete && hidden.is_empty() && !not_done && !publisher.is_switching();
            if ready && publisher.switched().all(|(_, since)| publisher.is_acknowledged(since)) {
                self.everywhere = None;
                return true;
            }
            return false;
        }
        // Where it is never on for all, nothing else is to be decided.
        if self.seen || self.proxies == Proxies::Sidecars || self.missing(now).next().is_none() || !unable() {
            return false;
        }
        self.everywhere = Some(UNABLE.to_owned());
        true
    }
}

#[cfg(test)]
mod tests {
    use weir_wire::names::Arm;
    use weir_wire::{Canary, Config};

    use super::*;
    use crate::gateway_config::RouteNames;
    use crate::publisher::{Desired, Next};
    use crate::scrape::{Report, stat_prefix};
    use weir_engine::{FilterMode, Span};

    const ID: &str = "a3f09c11d2e4b877";
    const NOW: Timestamp = Timestamp(1_795_395_000_000);

    /// A gateway with one pod that acknowledges everything, and shows switched routes or does not.
    struct Life {
        publisher: Publisher,
        reports: Reports,
        reach: Reach,
        shows: bool,
        unable: bool,
    }

    impl Life {
        fn begin(everywhere: Option<&str>, shows: bool) -> Self {
            let pushed = Config { version: 1, generation: 1, ..Config::default() };
            let publisher = Publisher::resume(Span(0), pushed, BTreeMap::new(), |_| true);
            let mut reports = Reports::default();
            reports.complete = true;
            let reach = Reach::new(everywhere.map(str::to_owned), Proxies::Gateways);
            Self { publisher, reports, reach, shows, unable: false }
        }

        fn set(&mut self, filter: FilterMode) {
            let canary = Canary { id: ID.into(), hosts: vec!["*".into()], token: "t".into(), ..Canary::default() };
            self.publisher.set_desired(Desired { canary, filter, routes: RouteNames::default(), since: Timestamp(0) });
        }

        /// Returns when it changed, and to what, in the seconds from `from` to `to`.
        fn changes(&mut self, from: u64, to: u64) -> Vec<(u64, bool)> {
            let mut changes = Vec::new();
            for second in from..to {
                let now = NOW + Span::seconds(second);
                let generation = self.publisher.generation();
                self.publisher.acknowledged("pod", now, Some(generation));
                let on = self.shows && self.publisher.last_switched().contains_key(ID);
                let route = format!("envoy_vhost_x_route_{}_upstream_rq_total{{}} 0\n", stat_prefix(ID, Arm::Primary));
                let text = format!(
                    "{}weir_boot{{}} 1\nweir_generation_0{{}} 8\nweir_vms_0{{}} 2\n",
                    if on { &route } else { "" }
                );
                self.reports.insert("pod".into(), now, Some(Report::parse(&text).unwrap()), None, (true, None));
                if self.reach.advance(&self.publisher, &self.reports, || self.unable, now) {
                    changes.push((second, self.reach.everywhere().is_some()));
                }
                if let Next::Push(push) = self.publisher.next(now) {
                    self.publisher.pushed(push, now);
                }
            }
            changes
        }
    }

    #[test]
    fn a_filter_of_an_earlier_version_goes_off_at_rest_and_under_a_rollout_once_its_routes_are_on() {
        let mut life = Life::begin(Some("earlier"), true);
        assert_eq!(life.changes(0, 5), [(0, false)], "nothing passes it");
        let mut life = Life::begin(Some("earlier"), true);
        life.set(FilterMode::On);
        // Named at 0, switched on at 1, seen at 2.
        assert_eq!(life.changes(0, 60), [(2, false)]);
    }

    #[test]
    fn routes_that_never_reach_a_gateway_are_told_of_and_leave_the_filter_off_for_everybody_else() {
        let mut life = Life::begin(None, false);
        life.set(FilterMode::On);
        // Switched on at 1, acknowledged at 2.
        assert_eq!(life.changes(0, 12), []);
        assert_eq!(life.reach.missing(NOW + Span::seconds(11)).count(), 0);
        assert_eq!(life.changes(12, 600), []);
        assert_eq!(life.reach.missing(NOW + Span::seconds(12)).collect::<Vec<_>>(), [ID]);
        life.shows = true;
        assert_eq!(life.changes(600, 610), []);
        assert_eq!(life.reach.missing(NOW + Span::seconds(700)).count(), 0, "they are there now");
    }

    #[test]
    fn a_gateway_that_is_known_to_be_unable_has_the_filter_on_everywhere_and_keeps_it() {
        let mut life = Life::begin(None, false);
        life.unable = true;
        assert_eq!(life.changes(0, 10), []);
        life.set(FilterMode::On);
        assert_eq!(life.changes(10, 60), [(22, true)]);
        life.set(FilterMode::Off);
        assert_eq!(life.changes(60, 120), [], "the next rollout would only find out again");
        life.unable = false;
        assert_eq!(life.changes(120, 130), [(120, false)], "its proxies are others now");
    }

    #[test]
    fn a_gateway_that_an_earlier_weir_held_for_unable_goes_on_so_until_it_shows_a_route() {
        let mut later = Life::begin(Some(NOT_SEEN), true);
        assert_eq!(later.changes(120, 130), []);
        later.set(FilterMode::On);
        assert_eq!(later.changes(130, 140), [(132, false)], "what it did not do then it does now");
    }

    #[test]
    fn one_canary_without_routes_does_not_switch_the_filter_on_for_a_gateway_that_can_switch() {
        let mut life = Life::begin(None, true);
        life.set(FilterMode::On);
        assert_eq!(life.changes(0, 10), []);
        life.shows = false;
        assert_eq!(life.changes(10, 60), []);
    }
}
