//! Durations as Flagger and Go write them: `10s`, `1m30s`, `1h`, `500ms`.

use weir_engine::Span;

/// Reads a duration.
///
/// # Errors
/// Says what is wrong with the text.
pub fn parse_duration(text: &str) -> Result<Span, String> {
    let wrong = || format!("{text:?} is not a duration: write it like 10s, 1m30s, 1h or 500ms");
    let mut rest = text;
    let mut milliseconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let (unit, tail) = tail.split_at(tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len()));
        let scale = match unit {
            "ms" => 1.0,
            "s" => 1_000.0,
            "m" => 60_000.0,
            "h" => 3_600_000.0,
            _ => return Err(wrong()),
        };
        milliseconds += number.parse::<f64>().map_err(|_| wrong())? * scale;
        rest = tail;
    }
    // A century: beyond it, somebody's finger slipped, and sums of times could overflow.
    if text.is_empty() || milliseconds > 100.0 * 366.0 * 86_400_000.0 {
        return Err(wrong());
    }
    Ok(Span(milliseconds.round() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_go_reads_them() {
        let rows = [
            ("10s", 10_000),
            ("1m", 60_000),
            ("1h", 3_600_000),
            ("1m30s", 90_000),
            ("1.5s", 1_500),
            ("500ms", 500),
            ("0s", 0),
        ];
        for (text, ms) in rows {
            assert_eq!(parse_duration(text), Ok(Span(ms)), "{text}");
        }
        for text in ["", "10", "s", "10 s", "-1s", "1d", "1..5s", "1s1", "s10", "99999999999999999h", "10S", "½s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
