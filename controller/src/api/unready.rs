//! Texts that are no objects yet: what is no YAML, templates of Helm's, and what SOPS has encrypted.

use serde_json::Value;

use super::problem::{Place, Problem};

/// Returns whether a text is to be made YAML by Helm first: it has one of Helm's words, which no query has. What is no YAML may have any.
pub(super) fn is_template(body: &str, any: bool) -> bool {
    const WORDS: [&str; 8] = [".", "$", "`", "\"", "include ", "template ", "toYaml ", "tpl "];
    let begins = |rest: &str| {
        let word = rest.strip_prefix('-').unwrap_or(rest).trim_start();
        any || WORDS.iter().any(|known| word.starts_with(known))
    };
    body.lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .any(|line| line.match_indices("{{").any(|(at, _)| begins(&line[at + 2..])))
}

/// Says what a template's text is.
pub(super) fn template(place: &Place) -> Problem {
    Problem::new("", "is a template of Helm's, say: render it first (helm template . | weir lint -f -)").at(place)
}

/// Returns whether SOPS has encrypted an object: its checksum covers what is not encrypted too.
pub(super) fn is_encrypted(object: &Value) -> bool {
    object["sops"]["mac"].is_string()
}

/// Says where in the file, and not in the document, the text is no YAML.
pub(super) fn unreadable(error: &serde_saphyr::Error, first: usize, place: &Place) -> Problem {
    let text = error.without_snippet().to_string();
    let Some(location) = error.location() else {
        return Problem::new("", format!("does not parse: {text}")).at(place);
    };
    let (line, column) = (location.line(), location.column());
    let text = text.replace(&format!(" at line {line}, column {column}"), "");
    let text = text.replace(", set DuplicateKeyPolicy in Options if acceptable", "");
    let line = usize::try_from(line).unwrap_or(1);
    let place = Place { line: first + line - 1, ..place.clone() };
    Problem::new("", format!("does not parse: {text} (column {column})")).at(&place)
}
