//! What the documents name exists, and what exists and matters to users is in the documents.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use weir_controller::api::{Known, plan, process};
use weir_controller::board::Board;
use weir_controller::metrics::{self, Format};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every Rust source of the repository, joined.
fn sources(folders: &[&str]) -> String {
    let mut text = String::new();
    let mut open: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
    text
}

/// What stands between single backticks, outside of blocks of code.
fn spans(text: &str) -> BTreeSet<String> {
    let prose = text.split("```").step_by(2);
    prose.flat_map(|part| part.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// The part of a document under a heading, until the next heading of the same level.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let level = heading.split(' ').next().unwrap();
    let start = text.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no heading {heading:?}"));
    let body = &text[start + heading.len() + 2..];
    body.split(&format!("\n{level} ")).next().unwrap()
}

/// The words in backticks of a table's first column.
fn first_column(section: &str) -> BTreeSet<String> {
    let rows = section.lines().filter_map(|line| line.strip_prefix('|')?.split('|').next());
    rows.flat_map(spans).collect()
}

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
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).map(str::to_owned);
        for span in spans(&text).into_iter().chain(links) {
            let top = span.split('/').next().unwrap();
            let is_path = !span.contains([' ', '*', '<', '{']) && tops.iter().any(|name| name == top);
            if is_path && !root().join(&span).exists() {
                missing.push(format!("{document}: {span}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// The block of code between a marker comment and the next comment.
fn block<'a>(text: &'a str, marker: &str) -> &'a str {
    let after = text.split_once(&format!("<!-- {marker} -->\n")).unwrap_or_else(|| panic!("no marker {marker:?}")).1;
    let body = after.split_once('\n').unwrap().1;
    body.split_once("```").unwrap().0
}

#[test]
fn the_readme_quotes_the_example() {
    let path = "manifests/examples/shop.yaml";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let readme = read("README.md");
        let updated = readme.replacen(block(&readme, path), &read(path), 1);
        fs::write(root().join("README.md"), updated).unwrap();
    }
    assert_eq!(block(&read("README.md"), path), read(path), "make generate puts it there");
}

#[test]
fn examples_are_valid_and_say_nothing_unknown() {
    for entry in fs::read_dir(root().join("manifests/examples")).unwrap() {
        let path = entry.unwrap().path();
        for parsed in weir_controller::api::read(&fs::read_to_string(&path).unwrap(), &path.display().to_string()) {
            let parsed = parsed.unwrap();
            if matches!(parsed.object, Known::Other) {
                // What a Canary needs beside it: a namespace, a Gateway, a Deployment.
                continue;
            }
            assert_eq!(parsed.warnings, [], "{}", path.display());
            match parsed.object {
                Known::Canary(canary) => drop(plan(&canary).unwrap()),
                Known::Process(spec) => drop(process(&spec).unwrap()),
                Known::MetricTemplate(_) | Known::AlertProvider(_) | Known::Other => {}
            }
        }
    }
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

#[test]
fn the_readme_has_every_reason() {
    let code = read("engine/src/reason.rs");
    let given: BTreeSet<String> = code
        .lines()
        .filter_map(|line| line.split_once("=> \"")?.1.strip_suffix("\","))
        .filter(|code| code.chars().all(char::is_alphanumeric))
        .map(str::to_owned)
        .collect();
    assert!(given.len() > 20, "{given:?}");
    assert_eq!(first_column(section(&read("README.md"), "## Reasons")), given);
}

#[test]
fn the_readme_has_every_metric() {
    let (board, _) = Board::new();
    let text = metrics::render(&board, Format::Prometheus).unwrap();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let given: BTreeSet<String> = types.map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(first_column(section(&read("README.md"), "## Metrics")), given);
}

#[test]
fn flags_in_the_readme_exist() {
    let sources = sources(&["controller/src", "cli/src", "demo/src"]);
    let readme = read("README.md");
    let words = readme.split(|c: char| c.is_whitespace() || "`[]()|,=".contains(c));
    let flags: BTreeSet<&str> =
        words.filter_map(|word| word.strip_prefix("--")).filter(|it| it.starts_with(char::is_alphabetic)).collect();
    // Those of cargo and docker; of helm and kubectl.
    let foreign = ["locked", "workspace", "features", "test", "release", "bins", "tag"]
        .into_iter()
        .chain(["install", "namespace", "create-namespace", "set", "set-string", "for", "timeout", "overwrite"])
        .collect::<BTreeSet<_>>();
    let exists = |flag: &&str| {
        sources.contains(&format!(" {}: ", flag.replace('-', "_"))) || sources.contains(&format!("\"{flag}\""))
    };
    let missing: Vec<_> =
        flags.into_iter().filter(|flag| !foreign.contains(flag)).filter(|flag| !exists(flag)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
