//! What a newcomer reads: one line per change, with the requests that the client saw.

use std::time::Duration;

use tokio::time::Instant;

use super::End;
use super::stage::Seen;
use crate::tally::Tally;

/// A hold that passes sooner belongs to every rollout (a process starts, counters are read) and says nothing to a newcomer.
const LONG: Duration = Duration::from_secs(5);

/// Holds that a step of the demonstration is made of, however long.
const USUAL: [&str; 3] = ["Analysing", "Advanced", "UpToDate"];

/// The transcript on standard output.
pub(super) struct Transcript {
    began: Instant,
    /// The reason that stands, since when, and whether it was told.
    hold: (String, Instant, bool),
}

impl Transcript {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), hold: (String::new(), Instant::now(), false) }
    }

    pub(super) fn title(&self, rate: f64) {
        println!("weir demo: two releases through a real Envoy, {rate} requests per second\n");
    }

    pub(super) fn chapter(&self, text: &str) {
        println!("\n{text}");
    }

    pub(super) fn line(&self, text: &str) {
        println!("{:6.1} s  {text}", self.began.elapsed().as_secs_f64());
    }

    /// Tells what one revision answered so far.
    pub(super) fn counts(&self, tally: &Tally, version: &str) {
        self.line(&format!("{}", Line(tally, version)));
    }

    /// Tells what differs between two looks at Weir's state.
    pub(super) fn change(&mut self, last: &Seen, seen: &Seen, tally: &Tally, primary: &str, canary: &str) {
        let counts =
            |what: String| format!("{what:<14}{:<32}{}", Line(tally, primary).to_string(), Line(tally, canary));
        if seen.phase != last.phase && seen.phase == "Progressing" {
            self.line(&format!("{canary} is started; no request goes to it yet"));
        }
        if seen.weight > last.weight {
            self.line(&counts(format!("weight {} %", seen.weight)));
        }
        if last.phase == "Progressing" && ["Promoting", "Finalising", "Succeeded"].contains(&seen.phase.as_str()) {
            self.line(&counts("all passed".into()));
            self.line(&format!("{canary} takes over from {primary}"));
        }
        if self.hold.0 != seen.code {
            self.hold = (seen.code.clone(), Instant::now(), false);
        }
        if !self.hold.2 && self.hold.1.elapsed() > LONG && seen.is_rolling_out() && !USUAL.contains(&seen.code.as_str())
        {
            self.hold.2 = true;
            self.line(&format!("held: {}", seen.text));
        }
    }

    /// Tells how a release ended, why, and what users noticed.
    pub(super) fn verdict(&self, end: End, seen: &Seen, before: &Tally, tally: &Tally, version: &str, took: Duration) {
        self.line(&format!("{version} is {} after {:.1} s", end.word(), took.as_secs_f64()));
        println!("          why: {}", seen.verdict);
        let (all, failed) = tally.totals();
        let (all, failed) = (all - before.totals().0, failed - before.totals().1);
        println!("          users: {} requests meanwhile, {} failed", grouped(all), grouped(failed));
    }

    pub(super) fn end(&self, tally: &Tally) {
        println!("\nWhat users saw");
        for version in tally.revisions.keys() {
            println!("          {}", Line(tally, version));
        }
        println!("          v2 is in production; v3 never was");
    }
}

/// One revision's requests.
struct Line<'a>(&'a Tally, &'a str);

impl std::fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counts = self.0.of(self.1);
        let all = counts.ok + counts.failed;
        let noun = if all == 1 { "request" } else { "requests" };
        write!(f, "{}: {:>5} {noun}, {} failed", self.1, grouped(all), grouped(counts.failed))
    }
}

/// Writes a number with a comma between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_told_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
