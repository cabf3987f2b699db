//! What CONTRIBUTING says one touches to add a kind of something: each file that it lists names the kinds that there are today, and
//! no file of the cluster's side names one and is not listed.

use crate::markdown::{read, root, section, spans};

/// A row of the table.
struct Row {
    /// What it begins with.
    add: &'static str,
    /// Words of which every listed file has one.
    concern: &'static [&'static str],
    /// Names in the code of a kind that there is today: whoever has one of them is listed.
    named: &'static [&'static str],
}

const ROWS: [Row; 4] = [
    Row {
        add: "a target",
        concern: &["Deployment", "deployments"],
        named: &["Deployment", "DeploymentView", "deployments"],
    },
    Row {
        add: "a router",
        concern: &["RouterKind", "VirtualService", "DestinationRule", "virtualservices", "EnvoyFilter"],
        named: &[
            "Istio",
            "VirtualService",
            "VirtualServiceView",
            "VirtualServiceBody",
            "virtual_services",
            "DestinationRule",
            "DestinationRuleView",
            "destination_rules",
        ],
    },
    Row { add: "a metric provider", concern: &["provider", "Provider", "metric", "Metric"], named: &[] },
    Row { add: "an alert provider", concern: &["alert", "Alert", "Event"], named: &[] },
];

/// Where kinds are told apart: nothing else of the controller may.
const SEAMS: &str = "controller/src/kubernetes";

/// The rows of the table: what is added, and the files.
fn table() -> Vec<(String, Vec<String>)> {
    let contributing = read("CONTRIBUTING.md");
    let rows = section(&contributing, "## Adding something").lines().filter(|line| line.starts_with("| a"));
    let row = |line: &str| {
        let (add, touch) = line.trim_start_matches("| ").split_once(" | ").unwrap();
        let files = spans(touch).into_iter().filter(|span| span.contains('/') && !span.contains([' ', '{']));
        (add.to_owned(), files.collect())
    };
    rows.map(row).collect()
}

/// The code of a file: without comments, and without its tests, which stand last.
fn code(text: &str) -> String {
    let product = text.split("#[cfg(test)]").next().unwrap_or_default();
    product.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

fn names(code: &str, word: &str) -> bool {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == word)
}

/// Files of the product below a folder, as paths from the root.
fn product(folder: &str) -> Vec<String> {
    let (mut found, mut open) = (Vec::new(), vec![root().join(folder)]);
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            let is_test = ["tests", "tests.rs", "surface.rs"].contains(&path.file_name().unwrap().to_str().unwrap());
            if path.is_dir() && !is_test {
                open.push(path);
            } else if name.ends_with(".rs") && !is_test {
                found.push(name);
            }
        }
    }
    found
}

#[test]
fn the_files_to_touch_for_a_new_kind_are_those_that_name_the_kinds_of_today() {
    let table = table();
    let mut wrong = Vec::new();
    for (add, files) in &table {
        let Some(row) = ROWS.iter().find(|row| add.starts_with(row.add)) else {
            wrong.push(format!("{add}: nothing says what concerns it"));
            continue;
        };
        for file in files.iter().filter(|file| root().join(file).is_file()) {
            let text = read(file);
            if !row.concern.iter().any(|word| text.contains(word)) {
                wrong.push(format!("{add}: {file} has none of {:?}", row.concern));
            }
        }
        for file in product(SEAMS) {
            let code = code(&read(&file));
            let named: Vec<_> = row.named.iter().filter(|word| names(&code, word)).collect();
            if !named.is_empty() && !files.contains(&file) {
                wrong.push(format!("{add}: {file} names {named:?} and is not listed: put it behind the seam"));
            }
        }
    }
    assert_eq!(table.len(), ROWS.len(), "{table:?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}
