//! What a newcomer reads: one line per change, with the requests that the client saw.

use std::time::Duration;

use tokio::time::Instant;

use super::End;
use super::stage::Seen;
use crate::tally::Tally;

/// Holds that belong to every rollout and say nothing to a newcomer; any other one is told.
const USUAL: [&str; 9] = [
    "Initializing",
    "UpToDate",
    "NewRevision",
    "Analysing",
    "Advanced",
    "WaitingForRequests",
    "NotAcknowledged",
    "Promoting",
    "Draining",
];

/// The transcript on standard output.
pub(super) struct Transcript {
    began: Instant,
}

impl Transcript {
    pub(super) fn new() -> Self {
        Self { began: Instant::now() }
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
    pub(super) fn change(&self, last: &Seen, seen: &Seen, tally: &Tally, primary: &str, canary: &str) {
        let both = || format!("{}   {}", Line(tally, primary), Line(tally, canary));
        if seen.phase != last.phase && seen.phase == "Progressing" {
            self.line(&format!("{canary} is started, no request goes to it yet"));
        }
        if seen.weight != last.weight && seen.is_rolling_out() && seen.phase != "Promoting" {
            self.line(&format!("{:<12}{}", format!("weight {} %", seen.weight), both()));
        }
        if seen.phase != last.phase && seen.phase == "Promoting" {
            self.line(&format!("{:<12}{}", "all passed", both()));
            self.line(&format!("{canary} takes over from {primary}"));
        }
        if seen.code != last.code && seen.is_rolling_out() && !USUAL.contains(&seen.code.as_str()) {
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
        println!("\nIn all:");
        for version in tally.revisions.keys() {
            println!("          {}", Line(tally, version));
        }
    }
}

/// One revision's requests.
struct Line<'a>(&'a Tally, &'a str);

impl std::fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counts = self.0.of(self.1);
        write!(f, "{}: {:>5} requests, {} failed", self.1, grouped(counts.ok + counts.failed), grouped(counts.failed))
    }
}

/// Writes a number with a comma between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
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
