//! Words, numbers, bars and colours for a terminal. Widths are counted before colours are added.

use anstyle::{AnsiColor, Style};
use jiff::Timestamp as Clock;
/// Writes a count with commas: `182,304`.
pub use weir_engine::words::grouped as count;
use weir_engine::{Phase, Severity, Span, Timestamp};

use super::{ArmView, CanaryView, Quantile, RatioView};

/// No sentence that Weir prints is wider, so that it fits beside something else.
pub const WIDTH: usize = 100;

/// What a text means, which gives it its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Somebody should look.
    Bad,
    /// Under way, or held.
    Busy,
    /// Beside the point.
    Faint,
    /// The point.
    Strong,
}

/// How to write for where it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint {
    /// Use colours.
    pub color: bool,
    /// Characters that have room in a line.
    pub width: usize,
}

impl Default for Paint {
    fn default() -> Self {
        Self { color: false, width: WIDTH }
    }
}

impl Paint {
    /// Returns how wide a sentence may be.
    #[must_use]
    pub fn column(self) -> usize {
        self.width.min(WIDTH)
    }

    /// Breaks a text at its spaces; lines after the first begin with `indent` spaces. The first one has `indent` characters
    /// before it already.
    #[must_use]
    pub fn wrap(self, text: &str, indent: usize) -> String {
        let mut out = String::new();
        let mut column = indent;
        for word in text.split_whitespace() {
            let length = word.chars().count();
            if column > indent && column + 1 + length > self.column() {
                out.push('\n');
                out.push_str(&" ".repeat(indent));
                column = indent;
            } else if column > indent {
                out.push(' ');
                column += 1;
            }
            out.push_str(word);
            column += length;
        }
        out
    }

    /// Returns a text in the colour of its meaning.
    #[must_use]
    pub fn text(self, tone: Tone, text: &str) -> String {
        if !self.color || text.is_empty() {
            return text.to_owned();
        }
        let style = match tone {
            Tone::Good => AnsiColor::Green.on_default(),
            Tone::Bad => AnsiColor::Red.on_default(),
            Tone::Busy => AnsiColor::Yellow.on_default(),
            Tone::Faint => Style::new().dimmed(),
            Tone::Strong => Style::new().bold(),
        };
        format!("{style}{text}{style:#}")
    }

    /// Returns a bar of `width` characters, filled from the left by `share` (0 to 1).
    #[must_use]
    pub fn bar(self, tone: Tone, share: f64, width: usize) -> String {
        // What is not nothing shows, and what is not all leaves a gap.
        let exact = share.clamp(0.0, 1.0) * width as f64;
        let filled = match exact {
            some if some > 0.0 && some < 1.0 => 1,
            most if most < width as f64 => most.floor() as usize,
            _ => width,
        };
        let filled = if exact > 0.0 { filled } else { 0 };
        self.text(tone, &"█".repeat(filled)) + &self.text(Tone::Faint, &"░".repeat(width - filled))
    }
}

/// Returns the mark and the meaning of where a Canary stands.
#[must_use]
pub fn mark(view: &CanaryView) -> (&'static str, Tone) {
    match view.phase {
        _ if view.stalled => ("✖", Tone::Bad),
        Phase::Failed => ("✖", Tone::Bad),
        _ if view.paused => ("॥", Tone::Busy),
        Phase::Initialized | Phase::Succeeded => ("✔", Tone::Good),
        Phase::Waiting | Phase::WaitingPromotion => ("॥", Tone::Busy),
        Phase::Terminating | Phase::Terminated => ("•", Tone::Faint),
        _ => ("◌", Tone::Busy),
    }
}

/// Returns the word for where a Canary stands: its phase says nothing of an object that cannot work.
#[must_use]
pub fn word(view: &CanaryView) -> &'static str {
    if view.stalled { "Stalled" } else { view.phase.as_str() }
}

/// Returns the meaning of an event's severity, and the word for it that Kubernetes uses.
#[must_use]
pub fn severity(severity: Severity) -> (&'static str, Tone) {
    match severity {
        Severity::Info => ("Normal", Tone::Faint),
        Severity::Warning => ("Warning", Tone::Busy),
        Severity::Error => ("Error", Tone::Bad),
    }
}

/// Writes percent with at most two digits after the point: `10`, `0.25`, `33.33`.
#[must_use]
pub fn percent(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Writes a share of requests in percent, with three digits that say something: `0.117 %`, `7.32 %`.
#[must_use]
pub fn share(part: u64, of: u64) -> String {
    if of == 0 {
        return "-".to_owned();
    }
    let value = 100.0 * part as f64 / of as f64;
    match value {
        0.0 => "0 %".to_owned(),
        small if small < 1.0 => format!("{small:.3} %"),
        middle if middle < 10.0 => format!("{middle:.2} %"),
        large => format!("{large:.1} %"),
    }
}

/// Writes one thing or several: `1 request`, `2,000 requests`.
#[must_use]
pub fn several(n: u64, what: &str) -> String {
    format!("{} {what}{}", count(n), if n == 1 { "" } else { "s" })
}

/// Writes a quantile: `12 ms`, `>10000 ms`, `-`.
#[must_use]
pub fn quantile(quantile: Option<Quantile>) -> String {
    match quantile {
        None => "-".to_owned(),
        Some(Quantile { ms, beyond: true }) => format!(">{ms:.0} ms"),
        Some(Quantile { ms, .. }) if ms < 10.0 => format!("{ms:.1} ms"),
        Some(Quantile { ms, .. }) => format!("{ms:.0} ms"),
    }
}

/// Writes evidence: as a number while it can be read, then as a power of ten.
#[must_use]
pub fn evidence(log_e: f64) -> String {
    match log_e {
        log if log < 0.0 => format!("{:.2}", log.exp()),
        log if log < 4.0 => format!("{:.1}", log.exp()),
        log if log < 14.0 => count(log.exp().round() as u64),
        log => format!("1e{:.0}", log / std::f64::consts::LN_10),
    }
}

/// Writes the ratio of the failure rates: `canary fails 1.2x (0.4x–2.9x) as often as the primary`.
#[must_use]
pub fn ratio(ratio: &RatioView) -> String {
    let RatioView { low, estimate, high } = *ratio;
    match (estimate, high) {
        (Some(most_likely), Some(high)) => {
            let (most_likely, low, high) = (times(most_likely), times(low), times(high));
            format!("canary fails {most_likely} ({low}–{high}) as often as the primary")
        }
        (Some(most_likely), None) => {
            format!("canary fails {} ({} or more) as often as the primary", times(most_likely), times(low))
        }
        (None, _) if low > 0.0 => format!("the canary alone fails, {} as often as the primary or more", times(low)),
        (None, _) => "the canary alone fails, too seldom yet to say more".to_owned(),
    }
}

fn times(ratio: f64) -> String {
    match ratio {
        0.0 => "0x".to_owned(),
        small if small < 0.1 => format!("{small:.2}x"),
        middle if middle < 10.0 => format!("{middle:.1}x"),
        large => format!("{}x", count(large.round() as u64)),
    }
}

/// Writes a length of time for people: `4s`, `4m12s`, `3h`, `12d`.
#[must_use]
pub fn age(span: Span) -> String {
    let seconds = span.0 / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..172_800 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Writes the time of day in UTC, with the date if that is another one than at `now`.
#[must_use]
pub fn clock(at: Timestamp, now: Timestamp) -> String {
    let civil = |at: Timestamp| i64::try_from(at.0).ok().and_then(|ms| Clock::from_millisecond(ms).ok());
    match (civil(at), at.0 / 86_400_000 == now.0 / 86_400_000) {
        (Some(at), true) => at.strftime("%H:%M:%SZ").to_string(),
        (Some(at), false) => at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        (None, _) => "-".to_owned(),
    }
}

/// Returns the beginning of a revision: enough to tell it from others.
#[must_use]
pub fn short(revision: &str) -> &str {
    revision.get(..8).unwrap_or(revision)
}

/// Writes how the requests of an arm went.
#[must_use]
pub fn requests(arm: &ArmView) -> String {
    let abandoned = match arm.abandoned {
        0 => String::new(),
        n => format!(", {} given up by clients", count(n)),
    };
    format!(
        "{}, {} failed ({}){abandoned}",
        several(arm.ended, "request"),
        count(arm.failed),
        share(arm.failed, arm.ended)
    )
}

/// Cuts a text to `width` characters.
#[must_use]
pub fn fit(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).collect::<String>() + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!([10.0, 0.25, 33.333, 0.0].map(percent), ["10", "0.25", "33.33", "0"]);
        assert_eq!([0, 12, 999, 1000, 1_234_567].map(count), ["0", "12", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [(0, 0), (0, 5), (3, 41), (214, 182_304)].map(|(a, b)| share(a, b)),
            ["-", "0 %", "7.32 %", "0.117 %"]
        );
        assert_eq!([-1.0, 1.0, 6.776, 40.0].map(evidence), ["0.37", "2.7", "877", "1e17"]);
        assert_eq!([4_000, 252_000, 10_800_000].map(|ms| age(Span(ms))), ["4s", "4m12s", "3h00m"]);
        let noon = Timestamp(43_200_000);
        assert_eq!(clock(noon, Timestamp(50_000_000)), "12:00:00Z");
        assert_eq!(clock(noon, Timestamp(90_000_000)), "1970-01-01 12:00:00Z");
    }

    #[test]
    fn a_ratio_is_written_with_what_is_open_on_either_side() {
        let text = |low, estimate, high| ratio(&RatioView { low, estimate, high });
        // Its numbers are those of `evidence::ratio_interval` for 14 of 228 failures at 5 %.
        assert_eq!(text(0.35, Some(1.24), Some(2.86)), "canary fails 1.2x (0.3x–2.9x) as often as the primary");
        assert_eq!(text(0.0, Some(0.0), Some(12.4)), "canary fails 0x (0x–12x) as often as the primary");
        assert_eq!(text(0.04, Some(19.0), None), "canary fails 19x (0.04x or more) as often as the primary");
        assert_eq!(text(3.2, None, None), "the canary alone fails, 3.2x as often as the primary or more");
        assert_eq!(text(0.0, None, None), "the canary alone fails, too seldom yet to say more");
    }

    #[test]
    fn a_bar_shows_little_and_gaps() {
        let bar = |share| Paint::default().bar(Tone::Good, share, 4);
        assert_eq!([0.0, 0.001, 0.5, 0.999, 1.0, 7.0].map(bar), ["░░░░", "█░░░", "██░░", "███░", "████", "████"]);
    }

    #[test]
    fn long_texts_are_broken_or_cut() {
        let text = "word ".repeat(40);
        for (room, widest) in [(80, 80), (WIDTH, WIDTH), (200, WIDTH)] {
            let wrapped = Paint { width: room, ..Paint::default() }.wrap(&text, 10);
            let longest = wrapped.lines().map(|line| line.chars().count()).max();
            assert!(longest.is_some_and(|longest| longest <= widest && longest > widest - 5), "{wrapped}");
        }
        assert_eq!(fit("abcdef", 4), "abc…");
        assert_eq!(fit("abcd", 4), "abcd");
    }
}
