//! The report of `weir evidence` for people: at most 100 columns, the verdict first.

use std::fmt::{Result, Write};

use super::report::{AbsoluteReport, Limits, Report};
use weir_controller::view::RatioView;

/// Columns that a guard's table may take beside its heading and its end; what does not fit is in the JSON.
const TABLE: usize = 68;

pub(crate) fn render(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut out, report);
    out
}

fn write(out: &mut String, report: &Report) -> Result {
    if let Some(last) = report.epochs.last() {
        comparison(out, report, &percent(last.weight))?;
    }
    if let Some(found) = &report.absolute {
        absolute(out, found, report.threshold)?;
    }
    guard(out, &report.limits, report.epochs.last().map(|last| percent(last.weight)))
}

fn comparison(out: &mut String, report: &Report, weight: &str) -> Result {
    let ratio = times(report.ratio);
    match report.verdict {
        "bad" if ratio == "1x" => writeln!(out, "Bad: the canary fails more often than the primary.")?,
        "bad" => writeln!(out, "Bad: the canary fails more than {ratio} as often as the primary.")?,
        "good" => writeln!(out, "Good: the canary does not fail twice as often as the primary.")?,
        _ => writeln!(out, "Insufficient: no verdict yet.")?,
    }
    writeln!(out, "\n  epoch     weight   canary failed   primary failed   canary's share if equal")?;
    for (index, epoch) in report.epochs.iter().enumerate() {
        let (weight, canary, primary) = (percent(epoch.weight), epoch.canary_failures, epoch.primary_failures);
        let share = number(epoch.canary_share);
        writeln!(out, "  {:>5} {weight:>10} {canary:>15} {primary:>16} {share:>25}", index + 1)?;
    }
    if let Some(found) = &report.observed_ratio {
        writeln!(out, "\n  observed  {}", observed(found))?;
        writeln!(out, "            {} canary failures beyond its share", number(report.excess_failures))?;
    }
    let (now, threshold) = (evidence(report.log_e_onset), number(report.threshold));
    writeln!(out, "  bad       evidence {now} of {threshold} (without onset {})", evidence(report.log_e))?;
    for shown in report.not_worse.iter().filter(|_| report.verdict != "bad") {
        let (now, threshold) = (evidence(shown.log_e), number(shown.threshold));
        writeln!(out, "  good      evidence {now} of {threshold} that it is not {}x worse", shown.margin)?;
    }
    if report.verdict == "insufficient" {
        writeln!(out)?;
        missing(out, report, weight)?;
    }
    writeln!(out)
}

fn missing(out: &mut String, report: &Report, weight: &str) -> Result {
    if let Some(more) = report.missing.canary_failures_to_bad {
        writeln!(out, "  missing   bad: {} at {weight}, none on the primary", counted(more, "more canary failure"))?;
    }
    if let Some(more) = report.missing.failures_to_good {
        let more = counted(more, "more failure");
        writeln!(out, "            good: about {more} on both arms at {weight}, as of an equal canary")?;
    }
    let mut lead = "  forecast ";
    for foreseen in &report.forecast {
        let more = counted(foreseen.canary_failures_median, "more canary failure");
        let (ratio, p90) = (foreseen.ratio, foreseen.canary_failures_p90);
        writeln!(out, "{lead} {ratio}x as often: bad after {more} (9 in 10: {p90})")?;
        lead = "           ";
    }
    Ok(())
}

fn absolute(out: &mut String, report: &AbsoluteReport, threshold: f64) -> Result {
    let p0 = percent(report.p0);
    match report.verdict_absolute {
        "bad" => writeln!(out, "Bad: the canary fails more than {p0} of its requests.\n")?,
        "good" => writeln!(out, "Good: the canary fails less than {p0} of its requests.\n")?,
        _ => writeln!(out, "Insufficient: no verdict on the canary's own failure rate yet.\n")?,
    }
    writeln!(out, "  bad       evidence {} of {}", evidence(report.log_e_absolute), number(threshold))?;
    writeln!(out, "  good      evidence {} of 20 that it is below {p0}", evidence(report.log_e_below_p0))?;
    if let (Some(more), "insufficient") = (report.failures_to_bad_absolute, report.verdict_absolute) {
        writeln!(out, "  missing   bad: {} in a row", counted(more, "more failed request"))?;
    }
    writeln!(out)
}

fn guard(out: &mut String, limits: &Limits, weight: Option<String>) -> Result {
    writeln!(out, "Guard, last epoch: least canary failures that send everything back to the primary")?;
    if let Some(weight) = weight {
        let threshold = number(limits.comparison_threshold);
        writeln!(out, "  at {weight}, by failures on the primary (evidence {threshold})")?;
        table(out, &limits.comparison, limits.end[0])?;
    }
    let (threshold, p0) = (number(limits.absolute_threshold), percent(limits.p0));
    writeln!(out, "  by completed canary requests (evidence {threshold}, p0 {p0})")?;
    table(out, &limits.absolute, limits.end[1])
}

fn table(out: &mut String, rows: &[[u32; 2]], end: u32) -> Result {
    if rows.is_empty() {
        return writeln!(out, "    never");
    }
    let width = rows.iter().flatten().map(|cell| cell.to_string().len()).max().unwrap_or_default() + 2;
    let shown = rows.len().min(TABLE / width);
    let line =
        |column: usize| rows.iter().take(shown).map(|row| format!("{:>width$}", row[column])).collect::<String>();
    writeln!(out, "    from  {}", line(0))?;
    let rest = if shown < rows.len() { "... up to" } else { "up to" };
    writeln!(out, "    limit {}  {rest} {end}", line(1))
}

fn observed(found: &RatioView) -> String {
    let estimate = match found.estimate {
        Some(ratio) => format!("{} the primary's rate", times(ratio)),
        None => "the canary alone fails".to_owned(),
    };
    let high = found.high.map_or("no limit".to_owned(), times);
    format!("{estimate} ({} to {high}, 95 % at any moment)", times(found.low))
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn times(ratio: f64) -> String {
    format!("{}x", number(ratio))
}

/// To a hundredth of the least weight, 0.01 %.
fn percent(fraction: f64) -> String {
    match fraction * 100.0 {
        tiny if tiny < 1e-4 => format!("{tiny:.1e} %"),
        percent => format!("{} %", trimmed(format!("{percent:.4}"))),
    }
}

/// Evidence by its logarithm, also where it is no number any more.
fn evidence(log_e: f64) -> String {
    let log10 = log_e / std::f64::consts::LN_10;
    if (-3.0..6.0).contains(&log10) {
        return number(log_e.exp());
    }
    if log10.abs() > 1e6 {
        return format!("e^{log_e:.2e}");
    }
    let exponent = log10.floor();
    format!("{:.1}e{exponent}", 10f64.powf(log10 - exponent))
}

/// Three significant digits, or all before the point.
fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let digits = match value.abs() {
        tiny if tiny < 1e-3 => return format!("{value:.1e}"),
        small if small < 1.0 => 3,
        small if small < 10.0 => 2,
        small if small < 100.0 => 1,
        small if small < 1e6 => 0,
        _ => return format!("{value:.1e}"),
    };
    trimmed(format!("{value:.digits$}"))
}

/// Without needless zeros behind the point.
fn trimmed(number: String) -> String {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.').to_owned() } else { number }
}
