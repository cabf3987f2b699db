//! What can't be seen in one object: two Canaries that want the same thing.

use std::collections::BTreeMap;

use super::canary::{CanarySpec, hosts};
use super::object::Object;
use super::problem::Problem;

/// Two Canaries that want the same thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clash {
    /// Place in the list of the Canary that came first.
    pub first: usize,
    /// Place in the list of the other one.
    pub second: usize,
    /// The problem, for the second one's author; it names both.
    pub problem: Problem,
}

/// Finds hosts that two Canaries would split. Where a gateway can tell their routes apart by path, that is no problem.
#[must_use]
pub fn shared_hosts(canaries: &[&Object<CanarySpec>]) -> Vec<Clash> {
    shared(canaries, hosts, |host, field, first, second| {
        let remedy = "a host belongs to one Canary; change one of them";
        Problem::new(field, format!("{host} is a host of both {first} and {second}: {remedy}"))
    })
}

/// Finds workloads that two Canaries would release.
#[must_use]
pub fn shared_targets(canaries: &[&Object<CanarySpec>]) -> Vec<Clash> {
    let target = |canary: &Object<CanarySpec>| {
        vec![(
            canary.metadata.namespace.clone(),
            canary.spec.target_ref.kind.clone(),
            canary.spec.target_ref.name.clone(),
        )]
    };
    shared(canaries, target, |(_, kind, name), _, first, second| {
        let remedy = "a workload is released by one Canary; remove one of them";
        Problem::new("spec.targetRef", format!("{kind} {name} is the target of both {first} and {second}: {remedy}"))
    })
}

fn shared<K: Ord>(
    canaries: &[&Object<CanarySpec>],
    keys: impl Fn(&Object<CanarySpec>) -> Vec<K>,
    problem: impl Fn(&K, &str, &Object<CanarySpec>, &Object<CanarySpec>) -> Problem,
) -> Vec<Clash> {
    let mut owners: BTreeMap<K, usize> = BTreeMap::new();
    let mut clashes = Vec::new();
    for (second, canary) in canaries.iter().enumerate() {
        for (i, key) in keys(canary).into_iter().enumerate() {
            let field = if i < canary.spec.service.hosts.len() {
                format!("spec.service.hosts[{i}]")
            } else {
                "spec.service.name".to_owned()
            };
            match owners.get(&key) {
                Some(&first) if first != second => {
                    clashes.push(Clash { first, second, problem: problem(&key, &field, canaries[first], canary) });
                }
                Some(_) => {}
                None => drop(owners.insert(key, second)),
            }
        }
    }
    clashes
}
