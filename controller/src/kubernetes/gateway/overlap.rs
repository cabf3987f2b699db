//! Which selector stands for others that find the same pods, so that no pod ever gets two filters.
//!
//! Two filters in one gateway would draw twice for every request. So of the selectors that Canaries use, one that finds all
//! pods of another stands for both: its workload is told of the Canaries of both.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::workload::serving;
use crate::kubernetes::kinds::Labels;
use crate::kubernetes::render::{FilterNames, Proxies, switched_of};
use crate::kubernetes::stores::Stores;

/// Names of the pods that each selector finds in one namespace.
pub(super) type Found = BTreeMap<Labels, BTreeSet<String>>;

/// What the pods of a selector have of its filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Filter {
    /// Nothing.
    Absent,
    /// It is there, and may go.
    Inserted,
    /// It is there, and stays: whoever comes later takes nobody's requests out of it.
    Fixed,
}

/// Returns for each selector the one that stands for it: of those that find all of its pods, one whose filter is kept, then the one
/// that finds the most.
///
/// Of equals one of `before` is kept, then one whose filter is inserted already: a change takes the filter out of the
/// gateway for a moment. A selector without pods keeps whoever stood for it. One that finds some pods of a kept filter stands for
/// itself alone, and gets no filter.
pub(super) fn canonical_selectors(
    found: &Found,
    before: &BTreeMap<Labels, Labels>,
    filter: impl Fn(&Labels) -> Filter,
) -> BTreeMap<Labels, Labels> {
    let stood: BTreeSet<&Labels> = before.values().collect();
    let filters: BTreeMap<&Labels, Filter> = found.keys().map(|selector| (selector, filter(selector))).collect();
    let of = |selector: &Labels| filters.get(selector).copied().unwrap_or(Filter::Absent);
    let rank = |selector: &Labels, pods: &BTreeSet<String>| {
        let filter = of(selector);
        (filter == Filter::Fixed, pods.len(), stood.contains(selector), filter, Reverse(selector.clone()))
    };
    let is_kept_out = |selector: &Labels, pods: &BTreeSet<String>| {
        let mut others = found.iter().filter(|(other, _)| *other != selector && of(other) == Filter::Fixed);
        of(selector) != Filter::Fixed && others.any(|(_, theirs)| !theirs.is_disjoint(pods))
    };
    let canonical = |(selector, pods): (&Labels, &BTreeSet<String>)| {
        let known = before.get(selector).filter(|kept| pods.is_empty() && found.contains_key(*kept));
        let covering = found.iter().filter(|(other, theirs)| {
            !pods.is_empty() && theirs.is_superset(pods) && (*other == selector || !is_kept_out(other, theirs))
        });
        let most = covering.max_by_key(|(selector, pods)| rank(selector, pods)).map(|(selector, _)| selector);
        (selector.clone(), known.or(most).unwrap_or(selector).clone())
    };
    found.iter().map(canonical).collect()
}

/// Returns whether the gateways of a workload have its filter.
pub(super) fn inserted(stores: &Stores, names: &FilterNames) -> bool {
    stores.envoy_filters.get(&names.namespace, &names.listener()).is_some()
}

/// Returns what the pods of a workload have of its filter. A gateway's stays: nobody's Gateway takes others' Canaries out of it. Sidecars
/// change theirs between releases, as one Canary names some callers of a namespace and another one all.
pub(super) fn filter_of(stores: &Stores, names: &FilterNames) -> Filter {
    let is_on = || {
        let live = stores.envoy_filters.get(&names.namespace, &names.config());
        live.is_some_and(|live| !switched_of(&live).is_empty())
    };
    match names.proxies {
        _ if !inserted(stores, names) => Filter::Absent,
        Proxies::Gateways => Filter::Fixed,
        Proxies::Sidecars if is_on() => Filter::Fixed,
        Proxies::Sidecars => Filter::Inserted,
    }
}

/// Returns whether a workload gets no filter, as some of its pods have that of another one.
pub(super) fn is_kept_out<'a>(
    stores: &Stores,
    names: &FilterNames,
    all: impl IntoIterator<Item = &'a FilterNames>,
) -> bool {
    let is_other = |other: &&FilterNames| *other != names && other.namespace == names.namespace;
    let mut others = all.into_iter().filter(is_other).filter(|other| other.proxies == names.proxies).peekable();
    if inserted(stores, names) || others.peek().is_none() {
        return false;
    }
    let pods = serving(stores, names);
    others.any(|other| inserted(stores, other) && pods.iter().any(|pod| other.selects(pod)))
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
        assigned_with(rows, before, inserted, Filter::Inserted)
    }

    fn assigned_with(
        rows: &[(&str, &[&str])],
        before: &[(&str, &str)],
        of: &str,
        filter: Filter,
    ) -> Vec<(String, String)> {
        let text = |of: &Labels| of.iter().map(|(key, value)| format!("{key}{value}")).collect::<Vec<_>>().join(",");
        let before = before.iter().map(|(of, by)| (labels(of), labels(by))).collect();
        let all =
            canonical_selectors(&found(rows), &before, |found| if text(found) == of { filter } else { Filter::Absent });
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

    #[test]
    fn a_wider_selector_that_comes_later_takes_nobody_out_of_a_filter_that_is_kept() {
        let pair = |of: &str, by: &str| (of.to_owned(), by.to_owned());
        let kept = |rows, before, of| assigned_with(rows, before, of, Filter::Fixed);
        let wider: &[(&str, &[&str])] = &[("a1", &["p"]), ("b1", &["p", "q"]), ("c1", &["q"])];
        let apart = [pair("a1", "a1"), pair("b1", "b1"), pair("c1", "c1")];
        // Also one that finds other pods of the newcomer's: the newcomer has no filter that could stand for it.
        assert_eq!(kept(wider, &[], "a1"), apart);
        assert_eq!(kept(wider, &[("a1", "a1"), ("b1", "b1"), ("c1", "c1")], "a1"), apart);
        // Who comes into a wider one that is there already shares it, and both who come at once do.
        let shared = [pair("a1", "b1"), pair("b1", "b1"), pair("c1", "b1")];
        assert_eq!(kept(wider, &[], "b1"), shared);
        assert_eq!(assigned(wider, &[], ""), shared);
        // Of the same pods.
        let equal: &[(&str, &[&str])] = &[("a1", &["p"]), ("b1", &["p"])];
        assert_eq!(kept(equal, &[], "b1"), [pair("a1", "b1"), pair("b1", "b1")]);
    }
}
