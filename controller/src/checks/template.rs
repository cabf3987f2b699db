//! The words of a query that stand for a Canary's own: `{{ target }}`, `{{ interval }}`, `{{ variables.NAME }}`.
//!
//! Of Go's templates, which Flagger's queries are, this is what queries use: a word, a variable, and signs that take white space away.
//!
//! A value stays a value: inside of a PromQL string nothing of it ends the string. What is an escape already stays one, so that a
//! variable that Flagger's users wrote for a regular expression (`2\\d`) means what it meant there.

use std::collections::BTreeMap;

/// What the words stand for.
#[derive(Clone, Debug, Default)]
pub(super) struct Words {
    /// `name`, `namespace`, `target`, …
    pub(super) own: BTreeMap<&'static str, String>,
    /// Those of `templateVariables`.
    pub(super) variables: BTreeMap<String, String>,
    /// Whether the query belongs to another namespace than these words: then a value may not be a part of an expression either.
    pub(super) foreign: bool,
}

impl Words {
    /// Returns a query with every word replaced.
    ///
    /// # Errors
    /// What of it is not known, and what is; or which value does not fit where it stands.
    pub(super) fn fill(&self, query: &str) -> Result<String, String> {
        let mut filled = String::with_capacity(query.len());
        let mut place = Place::Expression;
        let mut rest = query;
        while let Some((before, after)) = rest.split_once("{{") {
            let (word, after) = after.split_once("}}").ok_or("{{ is never closed by }}")?;
            let (word, trims_before) = word.strip_prefix("- ").map_or((word, false), |word| (word, true));
            let (word, trims_after) = word.strip_suffix(" -").map_or((word, false), |word| (word, true));
            let before = if trims_before { before.trim_end() } else { before };
            filled.push_str(before);
            place = place.after(before);
            if !is_comment(word) {
                filled.push_str(&self.value(word.trim(), place)?);
            }
            rest = if trims_after { after.trim_start() } else { after };
        }
        filled.push_str(rest);
        Ok(filled)
    }

    /// Returns what stands for a word in its place.
    fn value(&self, word: &str, place: Place) -> Result<String, String> {
        let value = self.word(word)?;
        let problem = match place {
            Place::String(quote) => return Ok(escaped(value, quote)),
            Place::Escape(_) => {
                "follows a backslash, which would take the value's first letter away: write two backslashes for one, or remove it"
            }
            Place::Raw if value.contains('`') => "has a backtick, and stands between backticks",
            Place::Comment if value.contains(['\n', '\r']) => "has several lines, and stands in a comment",
            Place::Expression if self.foreign && !value.chars().all(is_plain) => {
                "may have letters, digits and _ : . - alone where it stands outside of quotes, in a template of another namespace"
            }
            _ => return Ok(value.to_owned()),
        };
        Err(format!("{{{{ {word} }}}} {problem}"))
    }

    fn word(&self, word: &str) -> Result<&str, String> {
        if let Some(value) = self.own.get(word) {
            return Ok(value);
        }
        let Some(name) = word.strip_prefix("variables.") else {
            let known: Vec<&str> = self.own.keys().copied().collect();
            return Err(format!("{{{{ {word} }}}} is not known: use {} or variables.NAME", known.join(", ")));
        };
        let value = self.variables.get(name);
        value.map(String::as_str).ok_or_else(|| format!("{{{{ {word} }}}} needs {name} among templateVariables"))
    }
}

/// Where in a PromQL text something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Expression,
    /// Within these quotes, where a backslash begins an escape.
    String(char),
    /// Right after such a backslash.
    Escape(char),
    /// Between backticks, where nothing is an escape.
    Raw,
    Comment,
}

impl Place {
    /// Returns where one is after a text that begins here.
    fn after(self, text: &str) -> Self {
        let mut place = self;
        for c in text.chars() {
            place = match (place, c) {
                (Self::Expression, '"' | '\'') => Self::String(c),
                (Self::Expression, '`') => Self::Raw,
                (Self::Expression, '#') => Self::Comment,
                (Self::String(quote), '\\') => Self::Escape(quote),
                (Self::Escape(quote), _) => Self::String(quote),
                (Self::String(quote), c) if c == quote => Self::Expression,
                (Self::Raw, '`') | (Self::Comment, '\n') => Self::Expression,
                _ => place,
            };
        }
        place
    }
}

/// Returns whether what stands between braces is a comment of Go's templates, of which nothing stays.
fn is_comment(word: &str) -> bool {
    word.starts_with("/*") && word.ends_with("*/")
}

/// Returns a value so that it ends no string with these quotes.
fn escaped(value: &str, quote: char) -> String {
    let mut text = String::with_capacity(value.len());
    let mut chars = value.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next_if(|&next| next == quote || "abfnrtv\\".contains(next)) {
                Some(next) => text.extend(['\\', next]),
                None => text.push_str("\\\\"),
            },
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            c if c == quote => text.extend(['\\', c]),
            c => text.push(c),
        }
    }
    text
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_:.-".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> Words {
        let own = [("name", "cart"), ("target", "shop"), ("interval", "1m")];
        Words {
            own: own.map(|(word, value)| (word, value.to_owned())).into(),
            variables: [("reporter".to_owned(), "source".to_owned())].into(),
            foreign: false,
        }
    }

    #[test]
    fn a_query_is_filled_with_the_canarys_own_words() {
        let query = "sum(rate(x{w=~\"{{ target }}\",r=\"{{variables.reporter}}\"}[{{ interval }}]))";
        assert_eq!(words().fill(query).unwrap(), "sum(rate(x{w=~\"shop\",r=\"source\"}[1m]))");
        assert_eq!(
            words().fill("a  {{- name -}}  b").unwrap(),
            "a  {{- name -}}  b".replace("  {{- name -}}  ", "cart")
        );
        assert_eq!(words().fill("up{a=\"b\"} > bool 0").unwrap(), "up{a=\"b\"} > bool 0");
    }

    fn filled(query: &str, value: &str, foreign: bool) -> Result<String, String> {
        let variables = [("v".to_owned(), value.to_owned())].into();
        Words { variables, foreign, ..words() }.fill(query)
    }

    #[test]
    fn a_value_ends_no_string_that_it_stands_in() {
        let rows = [
            (r#"up{a="{{ variables.v }}"}"#, r#"x"}) or count(secret{a="#, r#"up{a="x\"}) or count(secret{a="}"#),
            (r#"up{a='{{ variables.v }}'}"#, r#"x'} or b{c="d"#, r#"up{a='x\'} or b{c="d'}"#),
            (r#"up{a="{{ variables.v }}"}"#, "a\\", r#"up{a="a\\"}"#),
            (r#"up{a="{{ variables.v }}"}"#, r#"a\\\"#, r#"up{a="a\\\\"}"#),
            (r#"up{a="{{ variables.v }}"}"#, "a\nb\r", r#"up{a="a\nb\r"}"#),
            // What is an escape already stays one, and so does a regular expression of Flagger's users.
            (r#"up{a=~"{{ variables.v }}"}"#, r#"2\\d|a\"b"#, r#"up{a=~"2\\d|a\"b"}"#),
            // Go on after an escaped quote, and after a comment that has one.
            (r#"up{a="\"{{ variables.v }}"}"#, r#"""#, r#"up{a="\"\""}"#),
            ("# don't\nup{a=\"{{ variables.v }}\"}", r#"""#, "# don't\nup{a=\"\\\"\"}"),
        ];
        for (query, value, expected) in rows {
            assert_eq!(filled(query, value, true).as_deref(), Ok(expected), "{query} {value}");
        }
        for (query, value) in [("up{a=`{{ variables.v }}`}", "a`b"), ("# {{ variables.v }}\nup", "a\nb")] {
            assert!(filled(query, value, false).is_err(), "{query}");
        }
    }

    #[test]
    fn a_backslash_before_a_word_is_refused_and_two_are_one() {
        for query in
            [r#"up{a="\{{ variables.v }}"}"#, r#"up{a='x\\\{{variables.v}}'}"#, "up{a=\"\\ {{- variables.v }}\"}"]
        {
            let problem = filled(query, r#"" or secret{a=""#, true).unwrap_err();
            assert!(problem.starts_with("{{ variables.v }} follows a backslash"), "{query}: {problem}");
        }
        assert_eq!(filled(r#"up{a="\\{{ variables.v }}"}"#, "d", true).unwrap(), r#"up{a="\\d"}"#);
        // Between backticks and outside of strings a backslash is itself.
        assert_eq!(filled(r"up{a=~`\{{ variables.v }}`}", "d+", true).unwrap(), r"up{a=~`\d+`}");
        // A word takes white space away: what is left before it counts.
        assert!(
            filled("up # x\n {{- variables.v }} \" {{ variables.v }}", "a b", true).is_ok(),
            "all of it is a comment"
        );
    }

    #[test]
    fn a_comment_of_the_template_leaves_nothing_behind() {
        assert_eq!(words().fill("sum({{/* its own */}}up{a=\"{{ target }}\"})").unwrap(), "sum(up{a=\"shop\"})");
        assert_eq!(words().fill("sum(  {{- /* its own */ -}}  up)").unwrap(), "sum(up)");
    }

    #[test]
    fn an_expression_may_be_a_value_only_where_the_template_is_ones_own() {
        let query = "up > {{ variables.v }}";
        assert_eq!(filled(query, "0.5", true).unwrap(), "up > 0.5");
        assert_eq!(filled(query, "0 or vector(1)", false).unwrap(), "up > 0 or vector(1)");
        let problem = filled(query, "0 or count(secret)", true).unwrap_err();
        assert!(
            problem.starts_with("{{ variables.v }} may have letters") && problem.contains("of another namespace"),
            "{problem}"
        );
        assert!(filled("# ' \nup > {{ variables.v }}", "0 or b", true).is_err());
    }

    #[test]
    fn a_word_that_is_not_known_is_named_with_those_that_are() {
        let problem = |query: &str| words().fill(query).unwrap_err();
        assert_eq!(problem("{{ pod }}"), "{{ pod }} is not known: use interval, name, target or variables.NAME");
        assert_eq!(problem("{{ variables.x }}"), "{{ variables.x }} needs x among templateVariables");
        assert!(problem("rate(x[{{ interval)").contains("never closed"));
    }
}
