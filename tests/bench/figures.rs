//! Numbers as people read them.

use std::time::Instant;

/// Returns milliseconds from one moment to another.
pub(crate) fn ms(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() * 1000.0
}

/// Returns the value that the given share of the numbers does not exceed.
pub(crate) fn quantile(numbers: &[f64], share: f64) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
}

/// Returns minimum, median and maximum.
pub(crate) fn spread(numbers: &[f64]) -> String {
    three(numbers, [0.0, 0.5, 1.0])
}

/// Returns median, 99 of 100 and maximum.
pub(crate) fn tail(numbers: &[f64]) -> String {
    three(numbers, [0.5, 0.99, 1.0])
}

/// Returns median, 99 and 99.9 of 100, and maximum, with one digit.
pub(crate) fn shares(numbers: &[f64]) -> String {
    [0.5, 0.99, 0.999, 1.0].map(|share| format!("{:.1}", quantile(numbers, share))).join(" / ")
}

fn three(numbers: &[f64], shares: [f64; 3]) -> String {
    if numbers.is_empty() {
        return "–".into();
    }
    let digits = usize::from(numbers.iter().any(|it| it.fract() > 0.0) && quantile(numbers, 1.0) < 100.0);
    shares.map(|share| format!("{:.digits$}", quantile(numbers, share))).join(" / ")
}

/// Prints a table.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) {
    println!("| {} |\n|{}", head.join(" | "), "---|".repeat(head.len()));
    for row in rows {
        println!("| {} |", row.join(" | "));
    }
    println!();
}
