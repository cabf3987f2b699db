//! Matches requests by header, cookie and query parameter (A/B tests).
//!
//! Compiled when the configuration comes; a regular expression that does not compile is refused there, by name.

use std::collections::BTreeMap;

use regex_lite::Regex;
use weir_wire::{Condition, StringMatch};

use crate::affinity;
use crate::host::Host;

/// Where a value is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Header,
    Cookie,
    Query,
}

/// A test on one value.
#[derive(Debug)]
enum Test {
    Exact(Box<str>),
    Prefix(Box<str>),
    Suffix(Box<str>),
    Regex(Regex),
}

#[derive(Debug)]
struct Term {
    source: Source,
    name: Box<str>,
    test: Test,
}

/// Conditions of one canary, compiled: a request meets them if all terms of any of them hold.
#[derive(Debug, Default)]
pub struct Conditions(Vec<Vec<Term>>);

impl Conditions {
    /// Compiles the conditions of a canary.
    ///
    /// # Errors
    /// Gives the path of the field that cannot work and what is wrong with it.
    pub fn compile(conditions: &[Condition]) -> Result<Self, (String, String)> {
        let mut compiled = Vec::with_capacity(conditions.len());
        for (i, condition) in conditions.iter().enumerate() {
            let mut terms = Vec::new();
            let sources = [
                (Source::Header, "headers", &condition.headers),
                (Source::Cookie, "cookies", &condition.cookies),
                (Source::Query, "queryParams", &condition.query_params),
            ];
            for (source, field, tests) in sources {
                compile_terms(source, tests, &mut terms)
                    .map_err(|(name, problem)| (format!("match[{i}].{field}.{name}"), problem))?;
            }
            if terms.is_empty() {
                return Err((format!("match[{i}]"), "has no condition and would match every request".into()));
            }
            compiled.push(terms);
        }
        Ok(Self(compiled))
    }

    /// Returns whether there is nothing to match.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether the request of this callback meets any condition.
    pub fn are_met<H: Host>(&self, host: &mut H) -> bool {
        self.0.iter().any(|terms| terms.iter().all(|term| term.holds(host)))
    }
}

fn compile_terms(
    source: Source,
    tests: &BTreeMap<String, StringMatch>,
    terms: &mut Vec<Term>,
) -> Result<(), (String, String)> {
    for (name, test) in tests {
        let test = match test {
            StringMatch::Exact(text) => Test::Exact(text.as_str().into()),
            StringMatch::Prefix(text) => Test::Prefix(text.as_str().into()),
            StringMatch::Suffix(text) => Test::Suffix(text.as_str().into()),
            StringMatch::Regex(text) => Test::Regex(
                Regex::new(&format!("^(?:{text})$"))
                    .map_err(|error| (name.clone(), format!("regular expression {text:?}: {error}")))?,
            ),
        };
        let name = match source {
            Source::Header => name.to_ascii_lowercase().into(),
            Source::Cookie | Source::Query => name.as_str().into(),
        };
        terms.push(Term { source, name, test });
    }
    Ok(())
}

impl Term {
    fn holds<H: Host>(&self, host: &mut H) -> bool {
        let value = match self.source {
            Source::Header => host.request_header(&self.name),
            Source::Cookie => {
                host.request_header("cookie").and_then(|header| affinity::cookie(header, self.name.as_bytes()))
            }
            Source::Query => host.request_header(":path").and_then(|path| query(path, self.name.as_bytes())),
        };
        value.is_some_and(|value| self.test.holds(value))
    }
}

impl Test {
    fn holds(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(text) => value == text.as_bytes(),
            Self::Prefix(text) => value.starts_with(text.as_bytes()),
            Self::Suffix(text) => value.ends_with(text.as_bytes()),
            Self::Regex(regex) => std::str::from_utf8(value).is_ok_and(|value| regex.is_match(value)),
        }
    }
}

/// Returns the first value of a query parameter, undecoded, as Envoy's own route matcher sees it.
fn query<'a>(path: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let path = path.split(|byte| *byte == b'#').next()?;
    let start = path.iter().position(|byte| *byte == b'?')?;
    path.get(start + 1..)?.split(|byte| *byte == b'&').find_map(|pair| {
        let mut parts = pair.splitn(2, |byte| *byte == b'=');
        (parts.next()? == name).then(|| parts.next().unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated::SimulatedHost;

    fn conditions(json: &str) -> Conditions {
        Conditions::compile(&serde_json::from_str::<Vec<Condition>>(json).unwrap()).unwrap()
    }

    fn met(conditions: &Conditions, headers: &[(&str, &str)]) -> bool {
        let mut host = SimulatedHost::default();
        host.request = headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        conditions.are_met(&mut host)
    }

    #[test]
    fn any_condition_suffices_and_all_its_terms_must_hold() {
        let conditions = conditions(
            r#"[{"headers": {"X-Insider": {"exact": "yes"}, "user-agent": {"prefix": "Mozilla"}}},
                {"cookies": {"beta": {"exact": "always"}}}]"#,
        );
        for (headers, expected) in [
            (&[("x-insider", "yes"), ("user-agent", "Mozilla/5.0")][..], true),
            (&[("x-insider", "yes")], false),
            (&[("x-insider", "no"), ("user-agent", "Mozilla/5.0")], false),
            (&[("cookie", "a=b; beta=always")], true),
            (&[("cookie", "xbeta=always; beta=never")], false),
            (&[], false),
        ] {
            assert_eq!(met(&conditions, headers), expected, "{headers:?}");
        }
    }

    #[test]
    fn regular_expressions_match_the_whole_value() {
        let conditions = conditions(r#"[{"headers": {"user-agent": {"regex": ".*Firefox.*|curl/\\d+"}}}]"#);
        for (value, expected) in
            [("Mozilla Firefox/128", true), ("curl/8", true), ("curl/8.1", false), ("xcurl/8", false), ("", false)]
        {
            assert_eq!(met(&conditions, &[("user-agent", value)]), expected, "{value}");
        }
    }

    #[test]
    fn query_parameters_match_exactly_one_name() {
        let conditions = conditions(r#"[{"queryParams": {"v": {"suffix": "2"}}}]"#);
        for (path, expected) in [
            ("/?v=2", true),
            ("/a/b?x=1&v=12&y", true),
            ("/?vv=2", false),
            ("/v=2", false),
            ("/?v", false),
            ("/?x#?v=2", false),
            ("/?v=3&v=2", false),
        ] {
            assert_eq!(met(&conditions, &[(":path", path)]), expected, "{path}");
        }
    }

    #[test]
    fn what_cannot_work_is_named() {
        let compile = |json: &str| Conditions::compile(&serde_json::from_str::<Vec<Condition>>(json).unwrap());
        let (field, problem) = compile(r#"[{"cookies": {"a": {"regex": "("}}}]"#).unwrap_err();
        assert_eq!(field, "match[0].cookies.a");
        assert!(problem.starts_with("regular expression \"(\":"), "{problem}");
        assert_eq!(compile("[{}]").unwrap_err().0, "match[0]");
    }
}
