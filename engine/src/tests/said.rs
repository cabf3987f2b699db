//! What Weir says, as people read it: the page's own test shows these texts, and no invented ones.

use std::collections::BTreeMap;

use super::world::*;
use crate::*;

/// Where the page's test looks for them.
const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/page/said.json");

#[test]
fn the_texts_that_the_pages_test_shows_are_those_that_weir_says() {
    let mut said = BTreeMap::new();
    let ended =
        |world: &World| world.state.ended.as_ref().map(|ended| (ended.reason.clone(), ended.text.clone())).unwrap();
    let mut world = World::rolling(plan(), Phase::Progressing, 10.0);
    world.canary_fails = 30;
    world.until(100, |world| world.phase() == Phase::Failed);
    said.extend([ended(&world)]);
    let mut world = World::rolling(plan(), Phase::Progressing, 10.0);
    world.canary_fails = 30;
    world.until(30, |world| world.failed_users > 2);
    world.gateways[0].tripped = world.state.traffic.epoch;
    drop(world.step());
    said.extend([ended(&world)]);
    for reason in [
        Reason::WaitingForGate { gate: "release-manager".into(), said: "not approved yet".into() },
        Reason::Insufficient { requests: 3, needed: 10, cold: false, unsplit: None },
        Reason::Analysing { left: Span::seconds(4) },
    ] {
        said.insert(reason.code().to_owned(), reason.to_string());
    }
    assert!(said.contains_key("GuardTripped") && said.contains_key("EvidenceBad"), "{said:?}");
    let text = serde_json::to_string_pretty(&said).unwrap() + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(PATH, &text).unwrap();
    }
    assert_eq!(
        text,
        std::fs::read_to_string(PATH).unwrap_or_default(),
        "tests/page/said.json differs; if that is right: UPDATE_GOLDEN=1"
    );
}
