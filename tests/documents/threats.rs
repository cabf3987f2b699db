//! What is said to be harmless was tried: each row names tests, and they exist.

use crate::markdown::{read, sources, spans};

#[test]
fn every_threat_and_accident_names_tests_that_exist() {
    let page = read("docs/threats.md");
    let sources = sources(&["filter", "engine", "controller", "lab", "cli", "tests"]);
    let is_test = |name: &str| {
        let found = sources.find(&format!("fn {name}("));
        found.is_some_and(|at| {
            let before: Vec<&str> = sources[..at].lines().rev().take(4).collect();
            before.iter().any(|line| ["#[test]", "#[tokio::test"].iter().any(|mark| line.trim().starts_with(mark)))
        })
    };
    let number = |line: &str| line.strip_prefix("| ").is_some_and(|row| row.starts_with(|c: char| c.is_ascii_digit()));
    let rows: Vec<&str> = page.lines().filter(|line| number(line)).collect();
    assert_eq!(rows.len(), 29 + 21);
    for row in rows {
        let named = spans(row.trim_end_matches(" |").rsplit(" | ").next().unwrap());
        assert!(!named.is_empty(), "{row}");
        let missing: Vec<&String> = named.iter().filter(|name| !is_test(name)).collect();
        assert!(missing.is_empty(), "no such tests: {missing:#?}");
    }
}
