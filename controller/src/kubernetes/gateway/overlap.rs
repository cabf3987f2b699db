//! Which selector stands for others that find the same pods, so that no pod ever gets two filters.
//!
//! Two filters in one gateway would draw twice for every request. So of the selectors that Canaries use, one that finds all
//! pods of another stands for both: its workload is told of the Canaries of both.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::kubernetes::kinds::Labels;

/// Names of the pods that each selector finds in one namespace.
pub(super) type Found = BTreeMap<Labels, BTreeSet<String>>;

/// Returns for each selector the one that stands for it: of those that find all of its pods, the one that finds the most.
///
/// Of equals one of `before` is kept, then one whose filter is `inserted` already: a change takes the filter out of the
/// gateway for a moment. A selector without pods keeps whoever stood for it.
pub(super) fn canonical_selectors(
    found: &Found,
    before: &BTreeMap<Labels, Labels>,
    inserted: impl Fn(&Labels) -> bool,
) -> BTreeMap<Labels, Labels> {
    let stood: BTreeSet<&Labels> = before.values().collect();
    let rank = |selector: &Labels, pods: &BTreeSet<String>| {
        (pods.len(), stood.contains(selector), inserted(selector), Reverse(selector.clone()))
    };
    let canonical = |(selector, pods): (&Labels, &BTreeSet<String>)| {
        let known = before.get(selector).filter(|kept| pods.is_empty() && found.contains_key(*kept));
        let covering = found.iter().filter(|(_, theirs)| !pods.is_empty() && theirs.is_superset(pods));
        let most = covering.max_by_key(|(selector, pods)| rank(selector, pods)).map(|(selector, _)| selector);
        (selector.clone(), known.or(most).unwrap_or(selector).clone())
    };
    found.iter().map(canonical).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Labels {
        text.split(',').map(|pair| (pair[..1].to_owned(), pair[1..].to_owned())).collect()
    }

    fn found(rows: &[(&str, &[&str])]) -> Found {
        rows.iter().map(|(of, pods)| (labels(of), pods.iter().map(|pod| (*pod).to_owned()).collect())).collect()
    }

    /// Who stands for whom, in the order of the selectors.
    fn assigned(rows: &[(&str, &[&str])], before: &[(&str, &str)], inserted: &str) -> Vec<(String, String)> {
        let text = |of: &Labels| of.iter().map(|(key, value)| format!("{key}{value}")).collect::<Vec<_>>().join(",");
        let before = before.iter().map(|(of, by)| (labels(of), labels(by))).collect();
        let all = canonical_selectors(&found(rows), &before, |of| text(of) == inserted);
        all.iter().map(|(of, by)| (text(of), text(by))).collect()
    }

    #[test]
    fn one_selector_stands_for_all_that_find_its_pods() {
        let pair = |of: &str, by: &str| (of.to_owned(), by.to_owned());
        let both: &[&str] = &["p", "q"];
        let equal: &[(&str, &[&str])] = &[("a1", both), ("b1", both)];
        assert_eq!(assigned(equal, &[], ""), [pair("a1", "a1"), pair("b1", "a1")]);
        // What is in the gateway already stays there, and so does what was decided, also while no pod runs.
        assert_eq!(assigned(equal, &[], "b1"), [pair("a1", "b1"), pair("b1", "b1")]);
        assert_eq!(assigned(equal, &[("a1", "b1")], "a1"), [pair("a1", "b1"), pair("b1", "b1")]);
        let none: &[(&str, &[&str])] = &[("a1", &[]), ("b1", &[])];
        assert_eq!(assigned(none, &[("a1", "b1"), ("b1", "b1")], ""), [pair("a1", "b1"), pair("b1", "b1")]);
        // Both stood for themselves until they found the same pods: one of them does, for both.
        assert_eq!(assigned(equal, &[("a1", "a1"), ("b1", "b1")], "b1"), [pair("a1", "b1"), pair("b1", "b1")]);
        // A wider one stands for those that find a part of its pods; strangers stand for themselves.
        let wider: &[(&str, &[&str])] = &[("a1", &["p"]), ("b1", both), ("c1", &["r"])];
        assert_eq!(assigned(wider, &[("a1", "a1")], "a1"), [pair("a1", "b1"), pair("b1", "b1"), pair("c1", "c1")]);
        // Neither finds all pods of the other: nobody can stand for both.
        let across: &[(&str, &[&str])] = &[("a1", &["p", "q"]), ("b1", &["q", "r"])];
        assert_eq!(assigned(across, &[], ""), [pair("a1", "a1"), pair("b1", "b1")]);
    }
}
