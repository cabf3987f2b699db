//! The pages to look something up in are whole: they have what the code has, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use weir_controller::metrics::{self, Format};
use weir_controller::status_store::StatusStore;

use crate::markdown::{first_column, read, section, sources, spans};

fn product() -> String {
    sources(&["engine", "controller", "cli", "filter"])
}

/// What a page says of each of its entries, by their names.
fn entries(page: &str) -> BTreeMap<&str, &str> {
    page.split("\n### ").skip(1).filter_map(|entry| entry.split_once('\n')).collect()
}

/// The reasons that events are told with.
fn told() -> BTreeSet<String> {
    let product = sources(&["engine", "controller"]);
    let mut found = BTreeSet::new();
    for begin in ["emit(", "Event::new("] {
        for call in product.split(begin).skip(1) {
            let mut arguments = call.split(',').map(str::trim);
            let reason =
                arguments.next().filter(|first| first.starts_with("Severity::")).and_then(|_| arguments.next());
            let word = reason.and_then(|reason| reason.strip_prefix('"')?.strip_suffix('"'));
            found.extend(word.filter(|word| word.chars().all(char::is_alphabetic)).map(str::to_owned));
        }
    }
    found
}

#[test]
fn the_reasons_page_has_every_reason() {
    let code = read("engine/src/reason.rs") + &read("engine/src/reason/cause.rs");
    let given: BTreeSet<String> = code
        .lines()
        .filter_map(|line| line.split_once("=> \"")?.1.strip_suffix("\","))
        .filter(|code| code.chars().all(char::is_alphanumeric))
        .map(str::to_owned)
        .collect();
    assert!(given.len() > 20, "{given:?}");
    let page = read("docs/reasons.md");
    let (reasons, others) = page.split_once("\n## In events only\n").unwrap();
    let of = |text| entries(text).into_keys().map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(of(reasons), given);
    let product = product();
    for word in of(others) {
        assert!(product.contains(&format!("\"{word}\"")), "nothing gives the reason {word}");
    }
    let told = told();
    assert!(told.len() > 15, "{told:?}");
    // What cannot work in `weir standalone` has that word alone.
    let silent: Vec<_> = told.iter().filter(|word| !of(&page).contains(*word) && *word != "Stalled").collect();
    assert!(silent.is_empty(), "docs/reasons.md does not have {silent:?}");
}

#[test]
fn every_reason_says_what_to_do_and_where_to_read_on() {
    let page = read("docs/reasons.md");
    let entries = entries(&page);
    let index = page.split("\n## ").next().unwrap();
    for (name, text) in &entries {
        let (means, todo) = text.split_once("**Do:**").unwrap_or_else(|| panic!("{name} does not say what to do"));
        assert!(means.trim().len() > 10 && todo.trim().len() > 3, "{name}");
        assert!(index.contains(&format!("(#{})", name.to_lowercase())), "{name} is not in the index");
    }
    let leading = entries.values().filter(|text| text.contains("](")).count();
    assert!(2 * leading > entries.len(), "{leading} of {} lead on", entries.len());
}

#[test]
fn the_metrics_page_has_every_metric() {
    let (statuses, _) = StatusStore::new();
    let text = metrics::render(&statuses, Format::Prometheus).unwrap();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let given: BTreeSet<String> = types.map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    let page = read("docs/metrics.md");
    assert_eq!(first_column(page.split("\n## ").next().unwrap()), given);
}

#[test]
fn metrics_that_pages_name_exist() {
    let (statuses, _) = StatusStore::new();
    let text = metrics::render(&statuses, Format::Prometheus).unwrap();
    for page in ["docs/metrics.md", "docs/monitoring.md", "docs/flagger.md", "docs/reasons.md"] {
        let page = read(page);
        let words = page.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| word.starts_with("weir_"));
        for word in words {
            let known = ["", "_bucket", "_count", "_sum"]
                .iter()
                .filter_map(|suffix| word.strip_suffix(suffix))
                .any(|name| text.contains(&format!("# TYPE {name} ")));
            assert!(known, "there is no metric {word}");
        }
    }
}

#[test]
fn the_api_page_has_every_route() {
    let product = product();
    let mut given: BTreeSet<String> =
        product.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect();
    // The one that stands in a constant.
    given.insert("/api/v1/canaries/{namespace}/{name}/{verb}".into());
    let page = read("docs/http-api.md");
    let shown: BTreeSet<String> = first_column(section(&page, "## Routes"))
        .iter()
        .filter_map(|route| route.split_once(' ').map(|(_, path)| path.to_owned()))
        .collect();
    assert!(given.is_subset(&shown), "the page lacks {:?}", given.difference(&shown));
    assert!(shown.is_subset(&given), "there is no route {:?}", shown.difference(&given));
}

fn names(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| names(item, found)),
        Value::Object(fields) => {
            for (name, field) in fields {
                found.insert(name.clone());
                names(field, found);
            }
        }
        _ => {}
    }
}

#[test]
fn the_api_page_has_every_field_of_a_canary() {
    let mut given = BTreeSet::new();
    names(&serde_json::from_str(&read("cli/tests/golden/canary.json")).unwrap(), &mut given);
    let page = read("docs/http-api.md");
    let shown = spans(section(&page, "## A Canary"));
    let missing: Vec<_> = given.difference(&shown).collect();
    assert!(missing.is_empty(), "the page lacks {missing:?}");
}

/// What a table says of words in backticks: the first column's words, each with the last column.
fn rows(section: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for line in section.lines().filter(|line| line.starts_with("| `")) {
        let columns: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let last = columns.last().unwrap().to_string();
        found.extend(spans(columns[0]).into_iter().map(|word| (word, last.clone())));
    }
    found
}

#[test]
fn the_alerts_page_says_how_severe_every_event_of_a_rollout_is() {
    let page = read("docs/alerts.md");
    let section = section(&page, "## What is sent, and how severe it is");
    let (rows, named) = (rows(section), spans(section));
    let code = sources(&["engine/src/decide.rs", "engine/src/decide"]);
    let mut checked = 0;
    for (severity, word) in [("Info", "info"), ("Warning", "warn"), ("Error", "error")] {
        for rest in code.split(&format!("Severity::{severity}, \"")).skip(1) {
            let reason = rest.split('"').next().unwrap();
            // What nobody is sent, and what is sent as a step, have no row.
            let row = rows.iter().find(|(event, _)| event == reason);
            match row {
                Some((_, told)) => assert!(told.starts_with(word), "{reason} is {word}, and the page says {told}"),
                None => assert!(named.contains(reason) || reason == "VerbIgnored", "the page lacks {reason}"),
            }
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked}");
    let causes = read("engine/src/reason/cause.rs");
    let causes = causes.split("impl Cause {").nth(1).unwrap().split("\n}\n").next().unwrap().to_owned();
    for cause in causes.split("=> \"").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(rows.iter().any(|(event, _)| event == cause), "the page lacks {cause}");
    }
    let product = product();
    for (event, _) in &rows {
        assert!(product.contains(&format!("\"{event}\"")), "nothing gives the reason {event}");
    }
    for step in weir_controller::alerts::steps() {
        assert!(named.contains(*step), "the page lacks the step {step}");
        assert!(!rows.iter().any(|(event, _)| event == step), "{step} is a step");
    }
}

#[test]
fn the_alerts_page_has_every_service() {
    let page = read("docs/alerts.md");
    let shown = first_column(section(&page, "## Services"));
    assert_eq!(shown.into_iter().filter(|word| word != "type").collect::<Vec<_>>(), {
        let mut kinds = weir_controller::alerts::services().to_vec();
        kinds.sort_unstable();
        kinds
    });
}
