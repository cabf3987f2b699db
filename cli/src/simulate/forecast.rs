//! The result in one sentence, as one tells it to a colleague.

use weir_controller::view::paint;
use weir_engine::Span;
use weir_lab::{Fidelity, Figures, Scenario, Spread, Summary, lower_bound, upper_bound};

/// One-sided confidence of the bounds on the share of false rollbacks.
pub(crate) const CONFIDENCE: f64 = 0.99;

/// What was played, and what it came to.
pub(crate) struct Report {
    pub(crate) name: String,
    pub(crate) scenario: Scenario,
    pub(crate) summary: Summary,
    pub(crate) seed: u64,
}

/// How often a revision as good as the primary was taken back.
pub(crate) struct FalseRollbacks {
    pub(crate) count: u64,
    pub(crate) at_least: f64,
    pub(crate) at_most: f64,
}

impl Report {
    /// Returns how often the evidence took back an innocent revision; nothing if it was not innocent.
    pub(crate) fn false_rollbacks(&self) -> Option<FalseRollbacks> {
        let (count, runs) = (self.summary.by_evidence(), self.summary.runs);
        self.scenario.is_even().then(|| FalseRollbacks {
            count,
            at_least: lower_bound(count, runs, CONFIDENCE),
            at_most: upper_bound(count, runs, CONFIDENCE),
        })
    }

    pub(crate) fn fidelity(&self) -> &'static str {
        match self.scenario.fidelity {
            Fidelity::Sums => "sums",
            Fidelity::Requests => "requests",
        }
    }

    /// Returns the forecast.
    pub(crate) fn sentence(&self) -> String {
        let Summary { runs, promoted, rolled_back, waiting, .. } = &self.summary;
        let rate = format!("At {} requests/s", number(self.scenario.rps));
        let what = self.what();
        let most = [promoted, rolled_back, waiting].into_iter().max_by_key(|figures| figures.rollouts);
        let Some(most) = most else { return String::new() };
        let others = match runs - most.rollouts {
            0 => String::new(),
            others => format!(" {} of {runs} rollouts end otherwise.", paint::count(others)),
        };
        if std::ptr::eq(most, waiting) {
            return format!("{rate} the release of {what} does not end: it waits.{others}");
        }
        let minutes = took(most.minutes.median);
        if std::ptr::eq(most, promoted) {
            let cost = match (self.scenario.is_even(), most.canary_failures.median) {
                (false, failures) if failures > 0.0 => format!(", with {} failed by it on the way", counted(failures)),
                _ => String::new(),
            };
            return format!("{rate} {what} is promoted, {minutes} after it appears{cost}.{others}");
        }
        let Figures { canary_failures, minutes: spread, .. } = most;
        format!(
            "{rate} {what} is caught after {}, {minutes} after it appears (9 of 10: at most {}, {}).{others}",
            counted(canary_failures.median),
            counted(canary_failures.p90),
            took(spread.p90)
        )
    }

    /// Returns the canary in words: by what it does differently.
    fn what(&self) -> String {
        let Scenario { primary, canary, .. } = &self.scenario;
        if self.scenario.is_even() {
            return "a revision as good as the primary".into();
        }
        let slower = (primary.latency != canary.latency)
            .then(|| format!("a latency of {} instead of {}", ms(canary.latency.median), ms(primary.latency.median)));
        let ratio = canary.errors / primary.errors;
        #[expect(clippy::float_cmp, reason = "both come from what was typed")]
        let errors = match () {
            () if primary.errors == canary.errors => None,
            () if primary.errors == 0.0 => Some(format!("an error rate of {}", percent(canary.errors))),
            () if ratio < 1.0 => {
                Some(format!("an error rate of {} instead of {}", percent(canary.errors), percent(primary.errors)))
            }
            () => Some(fold(ratio)),
        };
        [errors, slower].into_iter().flatten().collect::<Vec<_>>().join(" and ")
    }
}

/// Returns how many times as high, in words where there is one.
fn fold(ratio: f64) -> String {
    const WORDS: [&str; 11] = ["", "", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
    let whole = ratio.round();
    let word = (whole as usize).min(WORDS.len());
    match WORDS.get(word) {
        Some(word) if (ratio - whole).abs() < 1e-9 && !word.is_empty() => {
            let article = if *word == "eight" { "an" } else { "a" };
            format!("{article} {word}-fold error rate")
        }
        _ => format!("a {}-fold error rate", number((ratio * 100.0).round() / 100.0)),
    }
}

/// Returns a number without needless digits.
pub(crate) fn number(value: f64) -> String {
    match value {
        value if value.fract() == 0.0 && value < 1e15 => paint::count(value as u64),
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 1.0 => format!("{value:.2}").trim_end_matches('0').trim_end_matches('.').to_owned(),
        value => format!("{value}"),
    }
}

/// Returns a share in percent, with two significant digits.
pub(crate) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let digits = if percent <= 0.0 || percent >= 10.0 { 1 } else { (1.0 - percent.log10().floor()) as usize };
    let text = format!("{percent:.digits$}");
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

fn counted(failures: f64) -> String {
    let plural = if failures == 1.0 { "" } else { "s" };
    format!("{} failure{plural}", number(failures))
}

fn ms(milliseconds: f64) -> String {
    Span(milliseconds as u64).to_string()
}

/// Returns minutes as one says them.
pub(crate) fn took(minutes: f64) -> String {
    match minutes * 60.0 {
        seconds if seconds < 100.0 => format!("{seconds:.0} seconds"),
        seconds if seconds < 600.0 => format!("{:.1} minutes", seconds / 60.0),
        seconds if seconds < 3.0 * 3600.0 => format!("{:.0} minutes", seconds / 60.0),
        seconds => format!("{:.1} hours", seconds / 3600.0),
    }
}

/// Returns the spread's columns.
pub(crate) fn columns(spread: Spread, digits: usize) -> [String; 3] {
    [spread.median, spread.p90, spread.max].map(|value| match digits {
        0 => paint::count(value as u64),
        digits => format!("{value:.digits$}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_told_in_words() {
        for (ratio, said) in [
            (5.0, "a five-fold error rate"),
            (8.0, "an eight-fold error rate"),
            (2.5, "a 2.5-fold error rate"),
            (40.0, "a 40-fold error rate"),
        ] {
            assert_eq!(fold(ratio), said);
        }
    }

    #[test]
    fn numbers_are_told_without_needless_digits() {
        assert_eq!([0.5, 35.0, 1234.0, 2.25].map(number), ["0.5", "35", "1,234", "2.25"]);
        assert_eq!([0.005, 0.0, 1.0, 0.123, 0.0000123].map(percent), ["0.5 %", "0 %", "100 %", "12.3 %", "0.0012 %"]);
        assert_eq!([0.5, 2.0, 14.2, 300.0].map(took), ["30 seconds", "2.0 minutes", "14 minutes", "5.0 hours"]);
    }
}
