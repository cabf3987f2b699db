//! Matches requests by header, cookie and query parameter (A/B tests).
//!
//! Compiled when the configuration comes; a regular expression that does not compile is refused there, by name. All of them
//! together take a bounded number of steps per request: the worker that runs them serves everybody.

use std::collections::BTreeMap;

use regex_lite::{Regex, RegexBuilder};
use weir_wire::limits::{COMPILED, whole};
use weir_wire::{Condition, StringMatch};

use crate::affinity;
use crate::allowance::{Allowance, TIMED};
use crate::host::Host;

/// Steps that the regular expressions of one canary may take for one request, some milliseconds of a worker. A pattern as they are
/// written for cookies (`^(.*?;)?(canary=always)(;.*)?$`) can look at 8 KB of them.
const STEPS: usize = 1 << 20;
/// Bytes of the smallest state of a compiled expression, in this module's 32 bits.
const STATE: usize = 16;

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
    Pattern(Pattern),
}

/// A regular expression, and how many states each byte of a value may visit.
#[derive(Debug)]
struct Pattern {
    regex: Regex,
    states: usize,
}

#[derive(Debug)]
struct Term {
    source: Source,
    name: Box<str>,
    test: Test,
}

/// Conditions of one canary, compiled: a request meets them if all terms of any of them hold.
#[derive(Debug, Default)]
pub struct Conditions {
    any: Vec<Vec<Term>>,
    allowance: Allowance,
}

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
        Ok(Self { any: compiled, allowance: Allowance::default() })
    }

    /// Returns whether there is nothing to match.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.any.is_empty()
    }

    /// Returns whether the request of this callback meets any condition.
    pub fn are_met<H: Host>(&self, host: &mut H) -> bool {
        let begun = self.allowance.is_timed().then(|| host.monotonic_ns());
        let most = if begun.is_none_or(|now| self.allowance.has_time(now)) { STEPS } else { TIMED };
        let mut left = most;
        let met = self.are_met_in(host, &mut left);
        if most - left >= TIMED {
            self.allowance.take(begun.map(|begun| host.monotonic_ns().saturating_sub(begun)));
        }
        met
    }

    /// Takes the steps of what is tried from `steps`; what they do not suffice for does not hold.
    fn are_met_in<H: Host>(&self, host: &mut H, steps: &mut usize) -> bool {
        self.any.iter().any(|terms| terms.iter().all(|term| term.holds(host, steps)))
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
            StringMatch::Regex(text) => Test::Pattern(
                Pattern::compile(text)
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
    fn holds<H: Host>(&self, host: &mut H, steps: &mut usize) -> bool {
        let value = match self.source {
            Source::Header => host.request_header(&self.name),
            Source::Cookie => {
                host.request_header("cookie").and_then(|header| affinity::cookie(header, self.name.as_bytes()))
            }
            Source::Query => host.request_header(":path").and_then(|path| query(path, self.name.as_bytes())),
        };
        value.is_some_and(|value| self.test.holds(value, steps))
    }
}

impl Test {
    fn holds(&self, value: &[u8], steps: &mut usize) -> bool {
        match self {
            Self::Exact(text) => value == text.as_bytes(),
            Self::Prefix(text) => value.starts_with(text.as_bytes()),
            Self::Suffix(text) => value.ends_with(text.as_bytes()),
            Self::Pattern(pattern) => pattern.holds(value, steps),
        }
    }
}

impl Pattern {
    fn compile(text: &str) -> Result<Self, regex_lite::Error> {
        let within = |bytes: usize| RegexBuilder::new(&whole(text)).size_limit(bytes).build();
        let (mut regex, mut bytes) = (within(COMPILED)?, COMPILED);
        // The library does not say how large it is, but it refuses what is larger than it is told.
        while let Ok(smaller) = within(bytes / 2) {
            (regex, bytes) = (smaller, bytes / 2);
        }
        Ok(Self { regex, states: bytes.div_ceil(STATE) })
    }

    fn holds(&self, value: &[u8], steps: &mut usize) -> bool {
        let Some(left) = steps.checked_sub(self.states.saturating_mul(value.len() + 1)) else { return false };
        *steps = left;
        std::str::from_utf8(value).is_ok_and(|value| self.regex.is_match(value))
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
    fn the_patterns_of_a_request_take_a_bounded_number_of_steps() {
        let header = "a".repeat(60_000);
        // The largest that compiles, sixteen conditions of eight of them, on the largest header.
        let pattern = |n: usize| format!("(?:a*){{{n}}}");
        let fewer = std::iter::successors(Some(20_000), |n| Some(n * 9 / 10));
        let largest = fewer.map(pattern).find(|text| Pattern::compile(text).is_ok()).unwrap();
        let term = |i: usize| format!(r#""x-{i}": {{"regex": "{largest}"}}"#);
        let terms = (0..8).map(term).collect::<Vec<_>>().join(",");
        let all = vec![format!(r#"{{"headers": {{{terms}}}}}"#); 16].join(",");
        let conditions = conditions(&format!("[{all}]"));
        let mut host = SimulatedHost::default();
        host.request = (0..8).map(|i| (format!("x-{i}"), header.clone())).collect();
        let mut steps = STEPS;
        assert!(!conditions.are_met_in(&mut host, &mut steps), "what there are no steps for goes to the primary");
        assert_eq!(steps, STEPS, "and is not tried");
        // One header short enough for one of them, and no more than that is tried.
        host.request = (0..8).map(|i| (format!("x-{i}"), "a".repeat(200))).collect();
        assert!(!conditions.are_met_in(&mut host, &mut steps));
        assert!((1..STEPS).contains(&steps), "{steps}");
    }

    #[test]
    fn what_takes_long_has_a_share_of_the_time_and_what_does_not_goes_on() {
        let conditions = conditions(
            r#"[{"headers": {"x-slow": {"regex": "(?:a*){30}c"}}}, {"headers": {"x-insider": {"exact": "yes"}}}]"#,
        );
        let slow = format!("{}c", "a".repeat(2_000));
        let mut host = SimulatedHost::default();
        host.request = vec![("x-slow".into(), slow.clone())];
        assert!(conditions.are_met(&mut host), "the first one is tried, and known to take long");
        assert!(!conditions.are_met(&mut host), "the next one has to wait");
        host.request.push(("x-insider".into(), "yes".into()));
        assert!(conditions.are_met(&mut host), "what is cheap goes on");
        host.request = vec![("x-slow".into(), slow)];
        host.now_ns += 1_000_000_000;
        assert!(conditions.are_met(&mut host));
    }

    #[test]
    fn an_ordinary_pattern_looks_at_eight_kilobytes_of_cookies() {
        let conditions = conditions(r#"[{"headers": {"cookie": {"regex": "^(.*?;)?(canary=always)(;.*)?$"}}}]"#);
        let cookies = format!("{};canary=always;z=1", "session=0123456789;".repeat(420));
        assert!(cookies.len() > 7900);
        assert!(met(&conditions, &[("cookie", &cookies)]));
    }

    #[test]
    fn a_pattern_that_is_too_large_is_refused_by_name() {
        let conditions = r#"[{"headers": {"a": {"regex": "(?:a*){20000}"}}}]"#;
        let (field, problem) =
            Conditions::compile(&serde_json::from_str::<Vec<Condition>>(conditions).unwrap()).unwrap_err();
        assert_eq!(field, "match[0].headers.a");
        assert!(problem.contains("size limit"), "{problem}");
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
