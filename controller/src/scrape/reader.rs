//! Reads a report as it comes in.

use std::collections::HashSet;

use weir_wire::SLOTS;
use weir_wire::names::{Metric, PREFIX, is_id};

use super::{Counters, Report, ScrapeError};

/// Envoy's own counters of routes that have a `stat_prefix`. Istio leaves the prefix in the name, Envoy puts it into a label.
const ROUTES: &str = "envoy_vhost";
/// Envoy's own gauge of its number of workers.
const CONCURRENCY: &str = "envoy_server_concurrency";

/// Reads a report piece by piece.
pub struct Reader<'a> {
    report: Report,
    /// Place of the canary that the last line was of.
    newest: usize,
    /// By slot, the generation whose VMs are still to come.
    promised: [Option<u64>; SLOTS as usize],
    /// The beginning of a line whose end is still to come.
    rest: Vec<u8>,
    /// Which canaries are of interest; all where nobody says.
    known: Option<&'a HashSet<String>>,
}

/// No line of Envoy's is longer.
pub(super) const LINE: usize = 16 << 10;
impl<'a> Reader<'a> {
    /// Returns a reader that keeps what is of these canaries; of all where there is no list.
    #[must_use]
    pub fn of(known: Option<&'a HashSet<String>>) -> Self {
        Self { report: Report::default(), newest: 0, promised: [None; SLOTS as usize], rest: Vec::new(), known }
    }

    /// Reads the next piece.
    ///
    /// # Errors
    /// When a line is none of Envoy's.
    pub fn read(&mut self, mut piece: &[u8]) -> Result<(), ScrapeError> {
        while let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = (&piece[..end], &piece[end + 1..]);
            if self.rest.is_empty() {
                self.line(line)?;
            } else {
                let mut whole = std::mem::take(&mut self.rest);
                whole.extend_from_slice(line);
                self.line(&whole)?;
            }
            piece = rest;
        }
        if self.rest.len() + piece.len() > LINE {
            return Err(ScrapeError::Line);
        }
        self.rest.extend_from_slice(piece);
        Ok(())
    }

    /// Returns the whole report.
    ///
    /// # Errors
    /// When the text is cut off, or the filter does not run there.
    pub fn finish(self) -> Result<Report, ScrapeError> {
        if !self.rest.is_empty() {
            return Err(ScrapeError::Truncated("the last line has no end".into()));
        }
        self.report.check(self.promised)
    }

    fn line(&mut self, line: &[u8]) -> Result<(), ScrapeError> {
        // Of others' names nothing is known, not even that they are text.
        let Ok(line) = std::str::from_utf8(line) else { return Ok(()) };
        // Cheap before dear: most lines of a gateway are neither.
        if !line.starts_with(PREFIX) && !line.starts_with(CONCURRENCY) {
            if let Some(id) = filtered_route(line).filter(|id| self.knows(id)) {
                // Envoy's own, which has been a whole number since it began; what others may have made of it is no reason to doubt
                // the rest.
                let served = value(line).unwrap_or_default();
                let routed = self.report.filtering.entry(id.to_owned()).or_default();
                *routed = routed.saturating_add(served);
            }
            return Ok(());
        }
        let name = &line[..line.find(['{', ' ']).unwrap_or(line.len())];
        if name == CONCURRENCY {
            self.report.workers = Some(value(line)?);
        } else if let Some(metric) = Metric::parse(name) {
            self.take(metric, value(line)?);
        }
        Ok(())
    }

    fn take(&mut self, metric: Metric<'_>, value: u64) {
        match metric {
            Metric::Boot => self.report.boot = value,
            Metric::Disarmed => self.report.disarmed = value != 0,
            Metric::Level => self.report.level = value,
            Metric::Generation(slot) => self.promised[usize::from(slot)] = Some(value),
            Metric::Vms(slot) => self.report.generations[usize::from(slot)] = Some((0, value)),
            Metric::Requests { id, slot, arm, cohort, kind } => {
                if let Some(counters) = self.canary(id) {
                    counters.slots[usize::from(slot)].cell_mut(arm, cohort).count(kind, value);
                }
            }
            Metric::Late(id) => self.set(id, |counters| counters.late = value),
            Metric::Refused(id) => self.set(id, |counters| counters.refused = value),
            Metric::Tripped(id) => self.set(id, |counters| counters.tripped = value),
            Metric::TripTest(id) => self.set(id, |counters| counters.trip_test = value),
            Metric::Held(id) => self.set(id, |counters| counters.held = value),
        }
    }

    fn set(&mut self, id: &str, set: impl FnOnce(&mut Counters)) {
        self.canary(id).map(set);
    }

    fn knows(&self, id: &str) -> bool {
        self.known.is_none_or(|known| known.contains(id))
    }

    /// Returns the counters of a canary that is known. Envoy's order puts those of one canary together, so most lines need no
    /// look-up.
    fn canary(&mut self, id: &str) -> Option<&mut Counters> {
        let Report { canaries, places, .. } = &mut self.report;
        if canaries.get(self.newest).is_none_or(|counters| counters.id != id) {
            self.newest = match places.get(id) {
                Some(place) => *place,
                None if self.known.is_none_or(|known| known.contains(id)) => {
                    places.insert(id.to_owned(), canaries.len());
                    canaries.push(Counters { id: id.to_owned(), ..Counters::default() });
                    canaries.len() - 1
                }
                None => return None,
            };
        }
        canaries.get_mut(self.newest)
    }
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
