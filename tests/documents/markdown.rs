//! What is in a document: its blocks of code, links, headings and tables. Read line by line, as far as these documents need it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Documents that people read. Each is checked.
const FOLDERS: [&str; 6] = [".", "docs", "filter", "manifests", "gitops", "tests/cluster"];

/// A fenced block of code.
pub(crate) struct Block {
    /// The document and the line that it begins at.
    pub(crate) at: String,
    /// The word after the fence; may be empty.
    pub(crate) language: String,
    /// The text of the comment before it, `<!-- … -->`.
    pub(crate) marker: String,
    /// Its lines, without the indentation of the fence.
    pub(crate) body: String,
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The documents' paths from the root, in order.
pub(crate) fn documents() -> Vec<String> {
    let mut found = Vec::new();
    for folder in FOLDERS.iter().filter(|folder| root().join(folder).is_dir()) {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".md") {
                found.push(if *folder == "." { name } else { format!("{folder}/{name}") });
            }
        }
    }
    found.sort();
    found
}

/// The lines of a document with their numbers, each with whether it is code.
fn lines(text: &str) -> impl Iterator<Item = (usize, bool, &str)> {
    let mut code = false;
    text.lines().enumerate().map(move |(number, line)| {
        let fence = line.trim_start().starts_with("```");
        let inside = code || fence;
        code ^= fence;
        (number + 1, inside, line)
    })
}

/// The blocks of code of a document.
pub(crate) fn blocks(path: &str) -> Vec<Block> {
    let text = read(path);
    let mut found = Vec::new();
    let mut open: Option<(Block, usize)> = None;
    let mut before = "";
    for (number, code, line) in lines(&text) {
        let fence = line.trim_start().strip_prefix("```").filter(|_| code);
        match (fence, open.take()) {
            (Some(language), None) => {
                let marker =
                    before.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->")).unwrap_or_default();
                let block = Block {
                    at: format!("{path}:{number}"),
                    language: language.to_owned(),
                    marker: marker.to_owned(),
                    body: String::new(),
                };
                open = Some((block, line.len() - line.trim_start().len()));
            }
            (Some(_), Some((block, _))) => found.push(block),
            (None, Some((mut block, indent))) => {
                block.body += line.get(indent..).unwrap_or_default();
                block.body.push('\n');
                open = Some((block, indent));
            }
            (None, None) => {}
        }
        before = line;
    }
    assert!(open.is_none(), "{path}: a block of code is never closed");
    found
}

/// A document without its blocks of code.
pub(crate) fn prose(text: &str) -> String {
    lines(text).filter(|(_, code, _)| !code).map(|(_, _, line)| format!("{line}\n")).collect()
}

/// What stands between single backticks, outside of blocks of code.
pub(crate) fn spans(text: &str) -> BTreeSet<String> {
    prose(text).split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The targets of a document's links.
pub(crate) fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()).map(str::to_owned).collect()
}

/// The names by which links reach a document's headings, made as GitHub makes them.
pub(crate) fn anchors(text: &str) -> BTreeSet<String> {
    let prose = prose(text);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading.to_lowercase().chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The part of a document under a heading, until the next heading of its level or of a higher one.
pub(crate) fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let level = heading.split(' ').next().unwrap();
    let start = text.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no heading {heading:?}"));
    let body = &text[start + heading.len() + 2..];
    let ends = (1..=level.len()).filter_map(|n| body.find(&format!("\n{} ", "#".repeat(n))));
    &body[..ends.min().unwrap_or(body.len())]
}

/// The words in backticks of the first column of all tables.
pub(crate) fn first_column(section: &str) -> BTreeSet<String> {
    let rows = section.lines().filter_map(|line| line.strip_prefix('|')?.split('|').next());
    rows.flat_map(spans).collect()
}

/// Every Rust source below these folders, joined.
pub(crate) fn sources(folders: &[&str]) -> String {
    let mut text = String::new();
    let mut open: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &fs::read_to_string(&path).unwrap();
        }
    }
    text
}

#[test]
fn blocks_carry_their_language_their_marker_and_their_lines() {
    let anchors = anchors("# One: two\n```\n# no heading\n```\n## `spec.analysis` of a Canary\n");
    assert_eq!(anchors, ["one-two", "specanalysis-of-a-canary"].map(str::to_owned).into());
    assert_eq!(links("[a](b.md#c) `x`\n```\n[d](e)\n```\n"), ["b.md#c"]);
    let found = blocks("docs/standalone.md");
    let shop = found.iter().find(|block| block.marker == "manifests/examples/shop.yaml").unwrap();
    assert_eq!(shop.language, "yaml");
    assert!(shop.body.starts_with("# The program."), "{}", shop.body);
}
