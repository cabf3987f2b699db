//! What the documents name exists, and what exists and matters to users is in the documents.

#[path = "documents/argo_cd.rs"]
mod argo_cd;
#[path = "documents/contributing.rs"]
mod contributing;
#[path = "documents/flagger.rs"]
mod flagger;
#[path = "documents/markdown.rs"]
mod markdown;
#[path = "documents/pages.rs"]
mod pages;
#[path = "documents/reference.rs"]
mod reference;
#[path = "documents/threats.rs"]
mod threats;

use std::fs;

use markdown::{links, read, root, section, sources, spans};

#[test]
fn paths_in_the_documents_exist() {
    let tops: Vec<String> = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !["target", ".git", ".tools"].contains(&name.as_str()))
        .collect();
    let mut missing = Vec::new();
    for document in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = read(document);
        for span in spans(&text).into_iter().chain(links(&text)) {
            let top = span.split('/').next().unwrap();
            let is_path = !span.contains([' ', '*', '<', '{']) && tops.iter().any(|name| name == top);
            if is_path && !root().join(&span).exists() {
                missing.push(format!("{document}: {span}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn invariants_name_tests_that_exist() {
    let architecture = read("ARCHITECTURE.md");
    let section = section(&architecture, "## 6. Invariants");
    let sources = sources(&["filter", "engine", "controller", "lab", "cli", "demo", "tests"]);
    let is_test =
        |span: &String| span.matches('_').count() >= 2 && span.chars().all(|c| c.is_alphanumeric() || c == '_');
    let tests: Vec<String> = spans(section).into_iter().filter(is_test).collect();
    let missing: Vec<_> = tests.iter().filter(|name| !sources.contains(&format!("fn {name}("))).collect();
    assert!(!tests.is_empty() && missing.is_empty(), "no such tests: {missing:#?}");
}
