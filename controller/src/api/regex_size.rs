//! Which regular expressions Envoy would refuse for their size.
//!
//! Envoy's library is another one than this one: it has classes that this one has not, and compiles to other instructions. So an
//! expression is measured with stand-ins for those classes, and what still cannot be measured repeats nothing a number of times:
//! without that its text, which has a limit, bounds it.

use regex_lite::RegexBuilder;

use super::limits;

/// Stands in for a class by its Unicode name: Envoy compiles the largest one of them, of bytes, to 15 instructions, and this library takes
/// as many bytes for these ranges.
const CLASS: &str = "\u{100}\u{102}\u{104}\u{106}\u{108}\u{10a}\u{10c}\u{10e}\u{110}\u{112}\u{114}\u{116}";

/// Returns what is wrong with the size of a regular expression that Envoy compiles.
pub(super) fn problem(pattern: &str) -> Option<String> {
    let measured = measurable(pattern);
    let error = RegexBuilder::new(&measured).size_limit(limits::COMPILED_BY_ENVOY).build().err()?.to_string();
    if error.contains("size limit") {
        return Some(format!(
            "has a regular expression that is too large once it is compiled: {pattern:?}; give a simpler one"
        ));
    }
    repeats(pattern).then(|| {
        format!(
            "has a regular expression whose size cannot be told ({error}): {pattern:?}; give one without {{…}}, or a simpler one"
        )
    })
}

/// Returns whether a pattern has something a number of times.
fn repeats(pattern: &str) -> bool {
    pattern.split('{').skip(1).any(|after| after.starts_with(|first: char| first.is_ascii_digit()))
}

/// Returns a pattern with stand-ins for classes by their Unicode names: `\pL`, `\p{Greek}`, `\P{^Greek}`.
fn measurable(pattern: &str) -> String {
    let (mut measured, mut in_class) = (String::with_capacity(pattern.len()), false);
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => match rest.next() {
                Some('p' | 'P') => {
                    if rest.next() == Some('{') {
                        rest.by_ref().find(|c| *c == '}');
                    }
                    let own = if in_class { CLASS.to_owned() } else { format!("[{CLASS}]") };
                    measured.push_str(&own);
                }
                Some(escaped) => measured.extend([c, escaped]),
                None => measured.push(c),
            },
            '[' if !in_class => {
                in_class = true;
                measured.push(c);
                // A bracket that stands first is one of the class.
                for first in ['^', ']'] {
                    if rest.as_str().starts_with(first) {
                        measured.extend(rest.next());
                    }
                }
            }
            _ => {
                in_class &= c != ']';
                measured.push(c);
            }
        }
    }
    measured
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_that_envoy_would_refuse_for_its_size_is_found_whatever_it_is_written_with() {
        for pattern in [
            "a{1000}".repeat(40),
            format!(r"\pL{}", "a{1000}".repeat(40)),
            format!(r"\p{{Greek}}{}", "a{1000}".repeat(40)),
            format!(r"[^\PN]{}", "a{1000}".repeat(40)),
            r"\pS{1000}".repeat(3),
            r"[x\pS\pN]{1000}".repeat(3),
            // What this library does not read.
            format!("[[a]{}", "a{1000}".repeat(40)),
            format!(r"\Qa\E{}", "a{1000}".repeat(40)),
        ] {
            assert!(problem(&pattern).is_some(), "{pattern}");
        }
        for pattern in [
            "/v[12]/.*",
            r"\pL+",
            r"[\pL\d_-]{1,63}",
            r"\p{L}{3,100}",
            r"[[a]",
            "[]{2}]",
            "é{1000}",
            r"\\pL{100}",
            "(?i)k{500}",
        ] {
            assert_eq!(problem(pattern), None, "{pattern}");
        }
    }

    #[test]
    fn classes_by_their_names_are_stood_in_for_inside_and_outside_of_classes() {
        let class = format!("[{CLASS}]");
        for (pattern, expected) in [
            (r"\pL", class.clone()),
            (r"\P{Greek}x", format!("{class}x")),
            (r"[\pL-]\pN", format!("[{CLASS}-]{class}")),
            (r"[]\pL]\\pL", format!(r"[]{CLASS}]\\pL")),
            (r"a\[\pL", format!(r"a\[{class}")),
        ] {
            assert_eq!(measurable(pattern), expected, "{pattern}");
        }
    }
}
