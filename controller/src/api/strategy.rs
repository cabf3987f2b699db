//! From `stepWeight`, `stepWeights`, `iterations` and `match` to the steps of a rollout.
//!
//! Flagger's weights overshoot: steps of 20 up to 50 are 20, 40, 60 there. Here the last step is `maxWeight` exactly.

use std::collections::BTreeMap;

use regex_lite::RegexBuilder;
use weir_engine::Step;
use weir_wire::limits::{COMPILED, PATTERN, whole};
use weir_wire::{Condition, StringMatch, Weight};

use super::analysis::{AnalysisSpec, MatchSpec, StringMatchSpec};
use super::limits;
use super::problem::{Problems, Rules};

/// What no header, cookie or query parameter of a request can be.
const NEVER: &str = "\n";
/// More iterations than anybody waits for; each one is kept in memory.
const MAX_ITERATIONS: i64 = 1000;

/// Returns the steps that a spec describes; nothing good when a problem was added.
pub(super) fn steps(spec: &AnalysisSpec, problems: &mut Problems) -> Vec<Step> {
    let matching = !spec.r#match.is_empty();
    let all = spec.match_all == Some(true);
    // Flagger's meaning: the weights are shares of the matching requests, unless the field says that they are of the others.
    let step = |step: Step| if matching && !all { step.of_matched() } else { step };
    let given: Vec<&str> = [
        ("stepWeight", spec.step_weight.is_some()),
        ("stepWeights", !spec.step_weights.is_empty()),
        ("iterations", spec.iterations.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, given)| given.then_some(name))
    .collect();
    let text = "has no effect without match and weights: it says whom they split";
    problems.remark_if(all && (!matching || spec.iterations.is_some()), "spec.analysis.matchAll", text);
    match given[..] {
        ["stepWeight"] => {
            let by = problems.keep("spec.analysis.stepWeight", weight(spec.step_weight.unwrap_or_default()));
            let max = max_weight(spec, problems);
            Step::canary(by.unwrap_or(Weight::FULL), max, matching).into_iter().map(step).collect()
        }
        ["stepWeights"] => listed(spec, problems).into_iter().map(|by| step(Step::weight(by, matching))).collect(),
        ["iterations"] => repeated(spec, matching, problems),
        [] => {
            let what = "needs one of stepWeight (weights in equal steps), stepWeights (a list of weights) and iterations \
                        (A/B test or blue/green)";
            problems.add("spec.analysis", what);
            Vec::new()
        }
        _ => {
            let given = given.join(" and ");
            problems.add("spec.analysis", format!("{given} exclude each other: keep one of them"));
            Vec::new()
        }
    }
}

fn max_weight(spec: &AnalysisSpec, problems: &mut Problems) -> Weight {
    let max = spec.max_weight.map(weight).and_then(|max| problems.keep("spec.analysis.maxWeight", max));
    max.unwrap_or(Weight::FULL)
}

fn listed(spec: &AnalysisSpec, problems: &mut Problems) -> Vec<Weight> {
    let text = "has no effect with stepWeights: the last of them is the greatest weight";
    problems.remark_if(spec.max_weight.is_some(), "spec.analysis.maxWeight", text);
    limits::count(problems, "spec.analysis.stepWeights", "weights", spec.step_weights.len(), limits::STEPS);
    let mut steps: Vec<Weight> = Vec::new();
    for (i, percent) in spec.step_weights.iter().enumerate() {
        let field = format!("spec.analysis.stepWeights[{i}]");
        let Some(weight) = problems.keep(&field, weight(*percent)) else { continue };
        if let Some(last) = steps.last().filter(|last| **last >= weight) {
            problems
                .add(field, format!("{weight} is not above {last}, the one before: list weights in increasing order"));
        }
        steps.push(weight);
    }
    steps
}

fn repeated(spec: &AnalysisSpec, matching: bool, problems: &mut Problems) -> Vec<Step> {
    let text = "has no effect with iterations: all traffic, or all that matches, is the canary's";
    problems.remark_if(spec.max_weight.is_some(), "spec.analysis.maxWeight", text);
    let given = spec.iterations.unwrap_or_default();
    if !(1..=MAX_ITERATIONS).contains(&given) {
        let text = format!("{given} is out of range: give a number from 1 to {MAX_ITERATIONS}");
        problems.add("spec.analysis.iterations", text);
        return Vec::new();
    }
    let iterations = u32::try_from(given).unwrap_or(1);
    if matching { Step::ab_test(iterations) } else { Step::blue_green(iterations) }
}

/// Returns a weight above zero from percent.
pub(super) fn weight(percent: f64) -> Result<Weight, String> {
    if !(percent > 0.0 && percent <= 100.0) {
        return Err(format!("{percent} is out of range: give percent, from 0.01 to 100"));
    }
    let parts = (percent * 100.0).round();
    if (percent * 100.0 - parts).abs() > 1e-6 {
        return Err(format!("{percent} is not a multiple of 0.01: the gateway splits requests in 1/10,000"));
    }
    Weight::new(parts as u32).map_err(|error| error.to_string())
}

/// Returns what `match` says, in the filter's terms.
pub(super) fn conditions(matches: &[MatchSpec], problems: &mut Problems) -> Vec<Condition> {
    let mut conditions = Vec::new();
    limits::count(problems, "spec.analysis.match", "conditions", matches.len(), limits::CONDITIONS);
    for (i, spec) in matches.iter().enumerate() {
        let at = format!("spec.analysis.match[{i}]");
        if !spec.source_labels.is_empty() {
            let text = "is not supported: a proxy sees requests, and not who sends them; name these callers in service.callers, or \
                        use headers or cookies";
            problems.add(format!("{at}.sourceLabels"), text);
        } else if spec.headers.is_empty() && spec.cookies.is_empty() && spec.query_params.is_empty() {
            problems.add(&at, "has no condition and would match every request: add headers, cookies or queryParams");
        }
        let terms = spec.headers.len() + spec.cookies.len() + spec.query_params.len();
        limits::count(problems, &at, "terms", terms, limits::TERMS);
        let headers: BTreeMap<_, _> =
            spec.headers.iter().map(|(name, test)| (name.to_ascii_lowercase(), test.clone())).collect();
        let parameters = spec.query_params.iter().map(|(name, test)| (name.clone(), present(test))).collect();
        conditions.push(Condition {
            headers: tests(&format!("{at}.headers"), &headers, is_token, problems),
            cookies: tests(&format!("{at}.cookies"), &spec.cookies, is_token, problems),
            query_params: tests(&format!("{at}.queryParams"), &parameters, is_parameter, problems),
        });
    }
    conditions
}

fn tests(
    at: &str,
    tests: &BTreeMap<String, StringMatchSpec>,
    is_name: impl Fn(&str) -> bool,
    problems: &mut Problems,
) -> BTreeMap<String, StringMatch> {
    let mut out = BTreeMap::new();
    for (name, test) in tests {
        let field = format!("{at}.{name}");
        if !is_name(name) {
            problems.add(&field, format!("{name:?} is not a name that a request can have here"));
        }
        let longest = [&test.exact, &test.prefix, &test.suffix].into_iter().flatten().map(String::len).max();
        limits::count(problems, &field, "bytes", name.len().max(longest.unwrap_or_default()), limits::TEXT);
        let large =
            test.regex.as_deref().filter(|_| problems.rules == Rules::Former).and_then(|text| compile(text).err());
        if let Some(text) = large {
            problems.refuse_new(&field, text, "it matches nothing");
            out.insert(name.clone(), StringMatch::Exact(NEVER.into()));
        } else if let Some(test) = problems.keep(&field, string_match(test)) {
            out.insert(name.clone(), test);
        }
    }
    out
}

/// Returns a test that a parameter without one passes whatever it says, as in Flagger: it must be there.
fn present(test: &StringMatchSpec) -> StringMatchSpec {
    match *test == StringMatchSpec::default() {
        true => StringMatchSpec { prefix: Some(String::new()), ..StringMatchSpec::default() },
        false => test.clone(),
    }
}

fn string_match(spec: &StringMatchSpec) -> Result<StringMatch, String> {
    let StringMatchSpec { exact, prefix, suffix, regex } = spec.clone();
    match (exact, prefix, suffix, regex) {
        (Some(text), None, None, None) => Ok(StringMatch::Exact(text)),
        (None, Some(text), None, None) => Ok(StringMatch::Prefix(text)),
        (None, None, Some(text), None) => Ok(StringMatch::Suffix(text)),
        (None, None, None, Some(text)) => compile(&text).map(|()| StringMatch::Regex(text)),
        _ => Err("needs exactly one of exact, prefix, suffix and regex".into()),
    }
}

/// Tries a regular expression as the filter does. Both of its limits hold for stored objects too: it runs in the gateway's workers,
/// which serve everybody.
fn compile(pattern: &str) -> Result<(), String> {
    let length = pattern.len();
    if length > PATTERN {
        return Err(format!("regular expression of {length} bytes, and {PATTERN} is the limit: shorten it"));
    }
    let compiled = |pattern: &str| RegexBuilder::new(pattern).size_limit(COMPILED).build();
    // By itself too: `a)|(?:b` is whole only in the parentheses that anchor it.
    compiled(pattern)
        .and_then(|_| compiled(&whole(pattern)))
        .map(drop)
        .map_err(|error| format!("regular expression {pattern:?} does not compile: {error}"))
}

/// Returns whether a text is a token of HTTP: the name of a header or of a cookie, `:authority` and the like included.
pub(super) fn is_token(text: &str) -> bool {
    let text = text.strip_prefix(':').unwrap_or(text);
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(&byte))
}

fn is_parameter(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"&=#".contains(&byte))
}
