//! Every dependency has a licence that goes with Apache-2.0.
//!
//! A test over cargo's own metadata and not a program of its own: compiling one would take longer than all of Weir.

use std::collections::BTreeMap;
use std::process::Command;

/// Licences that ask for no more than a notice.
const ALLOWED: [&str; 9] = [
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "MIT",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Unlicense",
    "Zlib",
    "Unicode-3.0",
];

/// Whether one of the choices that an expression leaves is allowed: `A OR (B AND C)`, `A/B`.
///
/// Conjunctions bind closer than `OR` in every expression that the registry has, with or without parentheses around
/// them; parentheses around a disjunction, as in `(A OR B) AND C`, are handled by splitting at `AND` outside of them.
fn is_allowed(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    let expression = expression.trim();
    let parts = |word| split_outside(expression, word);
    if parts(" OR ").len() > 1 {
        return parts(" OR ").into_iter().any(is_allowed);
    }
    if parts(" AND ").len() > 1 {
        return parts(" AND ").into_iter().all(is_allowed);
    }
    match expression.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        Some(inner) => is_allowed(inner),
        None => ALLOWED.contains(&expression),
    }
}

/// Splits at `word` where no parenthesis is open.
fn split_outside<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
    let mut parts = Vec::new();
    let mut from = 0;
    for (at, _) in text.match_indices(word) {
        let before = &text[..at];
        if before.matches('(').count() == before.matches(')').count() {
            parts.push(&text[from..at]);
            from = at + word.len();
        }
    }
    parts.push(&text[from..]);
    parts
}

#[test]
fn every_dependency_has_an_allowed_licence() {
    // For one platform: cargo would otherwise ask the registry for packages that are never built.
    let target = if cfg!(target_os = "macos") { "aarch64-apple-darwin" } else { "x86_64-unknown-linux-gnu" };
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--filter-platform", target])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let mut refused: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in packages {
        let licence = package["license"].as_str().unwrap_or("none given");
        if !is_allowed(licence) {
            let name = format!("{} {}", package["name"].as_str().unwrap(), package["version"].as_str().unwrap());
            refused.entry(licence.to_owned()).or_default().push(name);
        }
    }
    assert!(packages.len() > 10, "cargo metadata gave {} packages", packages.len());
    assert!(refused.is_empty(), "allow it in this file with a reason, or do without: {refused:#?}");
}

#[test]
fn licence_expressions_are_read_by_their_choices() {
    for (expression, allowed) in [
        ("MIT OR Apache-2.0", true),
        ("MIT/Apache-2.0", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("MIT AND GPL-3.0", false),
        ("(MIT OR GPL-3.0) AND Unicode-3.0", true),
        ("MIT OR (Apache-2.0 AND GPL-3.0)", true),
        ("Apache-2.0 WITH LLVM-exception OR GPL-3.0", true),
        ("", false),
    ] {
        assert_eq!(is_allowed(expression), allowed, "{expression}");
    }
}
