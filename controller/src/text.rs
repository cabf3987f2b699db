//! Texts that others wrote, as people are shown them.

/// Characters of another program's words in a status or an event. Enough for why a gate is closed; an answer is no place to read
/// somebody else's pages from.
const EXCERPT: usize = 100;

/// Returns the beginning of a text as one line: what a status shows of an answer. The debug log has all that was read of it.
#[must_use]
pub(crate) fn excerpt(text: &str) -> String {
    // More than four bytes to a character there are not: what comes after is not worth looking at.
    let mut words = String::new();
    let begin = text.char_indices().map(|(at, _)| at).nth(4 * EXCERPT).map_or(text, |end| &text[..end]);
    for word in begin.split(|c: char| c.is_whitespace() || !is_printable(c)).filter(|word| !word.is_empty()) {
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(word);
    }
    match words.char_indices().nth(EXCERPT) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}

/// Returns as much of a text as fits into so many bytes.
#[must_use]
pub(crate) fn floor(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    &text[..end]
}

/// Returns a text without what makes a terminal do something else than show it: escapes, and signs that reorder or hide what
/// stands beside them. Lines stay lines.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut before = '\0';
    let mut after = text.chars().skip(1);
    let shown = text.chars().map(|c| {
        // What one picture is made of is joined by a sign that hides nothing there.
        let joins = c == '\u{200d}' && is_picture(before) && after.clone().next().is_some_and(is_picture);
        after.next();
        before = c;
        if is_printable(c) || joins || matches!(c, '\n' | '\t') { c } else { '\u{fffd}' }
    });
    shown.collect()
}

/// Returns whether a character is a picture, or says how one looks.
fn is_picture(c: char) -> bool {
    matches!(c, '\u{2190}'..='\u{2bff}' | '\u{fe0f}' | '\u{1f000}'..='\u{1faff}')
}

fn is_printable(c: char) -> bool {
    let reorders_or_hides = matches!(c,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{61c}' | '\u{feff}');
    !c.is_control() && !reorders_or_hides
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_shown_as_one_short_line() {
        assert_eq!(excerpt("  closed\r\n\tuntil Monday \u{1b}[31m"), "closed until Monday [31m");
        assert_eq!(excerpt(&"ab ".repeat(1000)).chars().count(), EXCERPT + 1);
        assert_eq!(excerpt(&"ä".repeat(EXCERPT)), "ä".repeat(EXCERPT));
        assert_eq!(excerpt(&"\u{1b}".repeat(100_000)), "");
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        for (bytes, expected) in [(0, ""), (1, "a"), (2, "a"), (3, "aß"), (4, "aß"), (6, "aß部"), (9, "aß部")] {
            assert_eq!(floor("aß部", bytes), expected, "{bytes}");
        }
    }

    #[test]
    fn a_terminal_is_told_nothing_by_a_text_of_others() {
        let hostile = "a\u{1b}]0;title\u{7}\u{9b}31m\r\u{7f}\u{202e}b\u{2066}\u{200b}";
        assert_eq!(printable(hostile), "a\u{fffd}]0;title\u{fffd}\u{fffd}31m\u{fffd}\u{fffd}\u{fffd}b\u{fffd}\u{fffd}");
        let family = "👩\u{200d}🔧 ❤\u{fe0f}\u{200d}🔥";
        assert_eq!(printable(family), family, "a picture of several stays one");
        assert_eq!(printable("ca\u{200d}rt 👩\u{200d}"), "ca\u{fffd}rt 👩\u{fffd}");
        assert_eq!(printable("größer\n\tals 5 % — 部署"), "größer\n\tals 5 % — 部署");
    }
}
