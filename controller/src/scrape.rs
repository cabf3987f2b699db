//! Reads what a gateway process says of itself: Envoy's `/stats/prometheus`, of which only the filter's metrics (and the number
//! of workers) matter here.
//!
//! A text that was cut off must not pass for small counters: a rollback could wait for failures that were already there. So a
//! report counts as whole only if it ends with a line's end and holds what the filter writes last. Envoy sorts counters
//! before gauges and each by name; `weir_boot` is a gauge, so every counter stands before it, and `weir_vms_<slot>` comes
//! after the `weir_generation_<slot>` that promises it.

use std::collections::{HashMap, HashSet};

use weir_engine::{Counts, Scrape, Timestamp};
use weir_wire::SLOTS;
use weir_wire::names::{Arm, Metric, PREFIX, is_id};

/// Envoy's own counters of routes that have a `stat_prefix`. Istio leaves the prefix in the name, Envoy puts it into a label.
const ROUTES: &str = "envoy_vhost";
/// Envoy's own gauge of its number of workers.
const CONCURRENCY: &str = "envoy_server_concurrency";

/// What one gateway process said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Random number of the process, never 0.
    pub boot: u64,
    /// Whether the dead man's switch keeps the process on the primary.
    pub disarmed: bool,
    /// Which additions to the configuration its module knows ([`weir_wire::names::LEVEL`]).
    pub level: u64,
    /// Worker threads, if Envoy said so.
    pub workers: Option<u64>,
    /// By slot, the generation and the VMs that run it.
    generations: [Option<(u64, u64)>; SLOTS as usize],
    /// The canaries, by id, whose routes have the filter on.
    filtering: HashSet<String>,
    canaries: Vec<Counters>,
    /// Place in the list by id.
    places: HashMap<String, usize>,
}

/// What the process said of one canary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Counters {
    id: String,
    slots: [Counts; SLOTS as usize],
    late: u64,
    refused: u64,
    tripped: u64,
    trip_test: u64,
}

/// Where the reading stands.
#[derive(Default)]
struct Cursor {
    newest: usize,
    /// By slot, the generation whose VMs are still to come.
    promised: [Option<u64>; SLOTS as usize],
}

/// A text that is not a whole report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScrapeError {
    /// It ends too early.
    #[error("the gateway's metrics are cut off: {0}")]
    Truncated(String),
    /// There is no metric of the filter in it.
    #[error("the gateway's metrics hold none of the filter's: the filter does not run there, or has not ticked yet")]
    NoFilter,
    /// A metric of the filter has a value that is no number.
    #[error("the gateway's metrics do not parse: {0}")]
    Value(String),
}

impl Report {
    /// Reads a text. Lines that are not the filter's are passed over.
    ///
    /// # Errors
    /// When the text is cut off, or the filter does not run there.
    pub fn parse(text: &str) -> Result<Self, ScrapeError> {
        if !text.is_empty() && !text.ends_with('\n') {
            return Err(ScrapeError::Truncated("the last line has no end".into()));
        }
        let mut report = Self::default();
        let mut cursor = Cursor::default();
        for line in text.lines() {
            // Cheap before dear: most lines of a gateway are neither.
            if !line.starts_with(PREFIX) && !line.starts_with(CONCURRENCY) {
                report.filtering.extend(filtered_route(line).map(str::to_owned));
                continue;
            }
            let name = &line[..line.find(['{', ' ']).unwrap_or(line.len())];
            if name == CONCURRENCY {
                report.workers = Some(value(line)?);
            } else if let Some(metric) = Metric::parse(name) {
                report.take(metric, value(line)?, &mut cursor);
            }
        }
        report.check(cursor.promised)
    }

    fn take(&mut self, metric: Metric<'_>, value: u64, cursor: &mut Cursor) {
        match metric {
            Metric::Boot => self.boot = value,
            Metric::Disarmed => self.disarmed = value != 0,
            Metric::Level => self.level = value,
            Metric::Generation(slot) => cursor.promised[usize::from(slot)] = Some(value),
            Metric::Vms(slot) => self.generations[usize::from(slot)] = Some((0, value)),
            Metric::Requests { id, slot, arm, cohort, kind } => {
                self.canary(id, &mut cursor.newest).slots[usize::from(slot)].cell_mut(arm, cohort).count(kind, value);
            }
            Metric::Late(id) => self.canary(id, &mut cursor.newest).late = value,
            Metric::Refused(id) => self.canary(id, &mut cursor.newest).refused = value,
            Metric::Tripped(id) => self.canary(id, &mut cursor.newest).tripped = value,
            Metric::TripTest(id) => self.canary(id, &mut cursor.newest).trip_test = value,
        }
    }

    /// Returns the counters of a canary. `newest` is where the last line's are: Envoy's order puts those of one canary together,
    /// so most lines need no look-up.
    fn canary(&mut self, id: &str, newest: &mut usize) -> &mut Counters {
        if self.canaries.get(*newest).is_none_or(|counters| counters.id != id) {
            *newest = match self.places.get(id) {
                Some(place) => *place,
                None => {
                    self.places.insert(id.to_owned(), self.canaries.len());
                    self.canaries.push(Counters { id: id.to_owned(), ..Counters::default() });
                    self.canaries.len() - 1
                }
            };
        }
        &mut self.canaries[*newest]
    }

    /// Joins generations and VMs, and refuses a text without its end.
    fn check(mut self, promised: [Option<u64>; SLOTS as usize]) -> Result<Self, ScrapeError> {
        let nothing = self.boot == 0 && self.canaries.is_empty() && promised.iter().all(Option::is_none);
        if nothing {
            return Err(ScrapeError::NoFilter);
        }
        let missing = |what: &str| Err(ScrapeError::Truncated(format!("{what} is missing")));
        if self.boot == 0 {
            return missing(weir_wire::names::BOOT);
        }
        if promised.iter().all(Option::is_none) {
            return missing(&format!("{PREFIX}generation_<slot>"));
        }
        for (slot, (generation, vms)) in promised.into_iter().zip(&mut self.generations).enumerate() {
            match (generation, vms) {
                (Some(generation), Some(vms)) => vms.0 = generation,
                (Some(_), None) => return missing(&format!("{PREFIX}vms_{slot}")),
                // VMs of an unnamed generation: nothing can be said of them.
                (None, vms) => *vms = None,
            }
        }
        Ok(self)
    }

    /// Returns whether the process has routes of a canary on which the filter is on: Envoy shows their counters before any
    /// request.
    #[must_use]
    pub fn is_filtering(&self, id: &str) -> bool {
        self.filtering.contains(id)
    }

    /// Returns whether its module knows how to split the requests that meet a condition, and those only.
    #[must_use]
    pub fn splits_matched(&self) -> bool {
        self.level >= 1
    }

    /// Returns how many VMs run `generation`.
    #[must_use]
    pub fn vms(&self, generation: u64) -> u64 {
        let slot = usize::try_from(generation % SLOTS).unwrap_or_default();
        self.generations[slot].filter(|(of, _)| *of == generation).map_or(0, |(_, vms)| vms)
    }

    /// Returns whether every VM of the process (one per worker, and the main thread's) runs `generation`.
    #[must_use]
    pub fn runs(&self, generation: u64) -> bool {
        self.workers.is_some_and(|workers| self.vms(generation) > workers)
    }

    /// Returns the newest generation that every VM runs.
    #[must_use]
    pub fn generation(&self) -> Option<u64> {
        self.generations.iter().flatten().map(|(generation, _)| *generation).filter(|g| self.runs(*g)).max()
    }

    /// Returns a number that is another one once more of a canary's requests ended badly, or its guard tripped.
    #[must_use]
    pub fn trouble(&self, id: &str) -> u64 {
        let Some(known) = self.places.get(id).and_then(|place| self.canaries.get(*place)) else { return 0 };
        let bad = known.slots.iter().map(|slot| slot.arm(Arm::Canary)).map(|cell| cell.failure + cell.abandoned);
        bad.sum::<u64>() + known.tripped
    }

    /// Returns what the process counted for one canary; zeros for one that it has not met yet.
    #[must_use]
    pub fn scrape(&self, id: &str, gateway: &str, begun: Timestamp) -> Scrape {
        let known = self.places.get(id).and_then(|place| self.canaries.get(*place));
        let Counters { slots, late, refused, tripped, trip_test, .. } = known.cloned().unwrap_or_default();
        Scrape { gateway: gateway.to_owned(), boot: self.boot, begun, slots, late, refused, tripped, trip_test }
    }
}

/// Returns the `stat_prefix` of a canary's routes: the switch that puts the filter on them sets it, and so their counters
/// prove the switch.
#[must_use]
pub fn stat_prefix(id: &str, arm: Arm) -> String {
    format!("{PREFIX}{id}_{}", arm.word())
}

/// Returns the canary whose route to the primary a line counts requests of.
fn filtered_route(line: &str) -> Option<&str> {
    let rest = line.strip_prefix(ROUTES)?;
    rest.contains("upstream_rq_total").then_some(())?;
    rest.split(PREFIX).skip(1).find_map(|rest| {
        let (id, rest) = rest.split_at_checked(16)?;
        (is_id(id) && rest.starts_with("_primary")).then_some(id)
    })
}

/// Returns the value at a line's end. Agents in between may have rewritten it as a floating-point number.
fn value(line: &str) -> Result<u64, ScrapeError> {
    let text = line.rsplit(' ').next().unwrap_or_default();
    if let Ok(value) = text.parse() {
        return Ok(value);
    }
    match text.parse::<f64>() {
        Ok(value) if value >= 0.0 && line.contains(' ') => Ok(value as u64),
        _ => Err(ScrapeError::Value(line.to_owned())),
    }
}

#[cfg(test)]
mod tests {
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
            format!(
                "envoy_vhost_route_upstream_rq_total{{envoy_virtual_host=\"shop/cart\",envoy_route=\"{prefix}\"}} 0"
            ),
            format!("envoy_vhost_shop_example_com_80_route_{prefix}_upstream_rq_total{{}} 0"),
            format!("envoy_vhost_weir_example_com_80_route_{prefix}_upstream_rq_total{{}} 12"),
        ];
        for row in rows {
            let report = Report::parse(&format!("{row}\n{TEXT}")).unwrap();
            assert!(report.is_filtering(ID), "{row}");
        }
        for row in [format!("envoy_vhost_x_route_{other}_upstream_rq_total{{}} 0"), "envoy_vhost_weir_".into()] {
            let report = Report::parse(&format!("{row}\n{TEXT}")).unwrap();
            assert!(!report.is_filtering(ID) && !report.is_filtering("b3f09c11d2e4b877"), "{row}");
        }
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
}
