//! What the chart carries: definitions, the schema of its values, Grafana's boards, Prometheus's rules.

#[path = "manifests/release.rs"]
mod release;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use weir_controller::metrics::{self, Format};
use weir_controller::status_store::StatusStore;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn json(path: &str) -> Value {
    serde_json::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn names(folder: &str) -> BTreeSet<String> {
    fs::read_dir(root().join(folder)).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn the_chart_from_git_names_the_image_that_a_release_publishes() {
    let values: Value = serde_saphyr::from_str(&read("manifests/chart/values.yaml")).unwrap();
    let image = values["image"]["repository"].as_str().unwrap();
    assert!(image.contains('/'), "{image}: no host of images, where a cluster would find it");
    let release = read("gitops/weir/release.yaml");
    assert!(release.contains(&format!("image: {{repository: {image}}}\n")), "gitops names another image than {image}");
    let install = read("manifests/install/weir.yaml");
    assert!(install.contains(&format!("image: {image}:")), "manifests/install was not generated anew");
    // What the workflow pushes is named after the repository, and a release checks that the chart names the same.
    let workflow = read(".github/workflows/release.yaml");
    assert!(workflow.contains("grep -qx \"  repository: $IMAGE\" manifests/chart/values.yaml"));
    assert!(!workflow.contains("sed -i"), "a release publishes the chart that Git has");
}

/// Sources of charts by Git leave links out, so the chart has files of its own.
#[test]
fn the_chart_carries_the_definitions_and_no_link() {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        for name in names("manifests/crds") {
            fs::copy(root().join("manifests/crds").join(&name), root().join("manifests/chart/crds").join(&name))
                .unwrap();
        }
    }
    assert_eq!(names("manifests/crds"), names("manifests/chart/crds"));
    for name in names("manifests/crds") {
        let same = read(&format!("manifests/crds/{name}")) == read(&format!("manifests/chart/crds/{name}"));
        assert!(same, "manifests/chart/crds/{name} differs from manifests/crds: make generate copies it");
    }
    let mut open = vec![root().join("manifests/chart")];
    while let Some(path) = open.pop() {
        assert!(!path.is_symlink(), "{} is a link", path.display());
        if path.is_dir() {
            open.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
}

/// The paths of a block of YAML's fields, `a.b`; of what stands in braces only the name.
/// Returns which kinds a text of roles or of an admission policy names with one of these words, from lines like `verbs: [a, b]`.
fn kinds_with(text: &str, list: &str, words: &[&str]) -> BTreeSet<String> {
    let items = |line: &str, key: &str| -> Option<Vec<String>> {
        let (_, rest) = line.trim_start().split_once(key)?;
        let inner = rest.trim().trim_start_matches('[').trim_end_matches(']');
        Some(inner.split(',').map(|item| item.trim().to_owned()).collect())
    };
    let (mut kinds, mut found) = (Vec::new(), BTreeSet::new());
    // A rule's list of words stands after its kinds in the one, and before them in the other.
    let mut matches = false;
    for line in text.lines() {
        if let Some(named) = items(line, "resources:") {
            kinds = named;
        }
        if let Some(given) = items(line, list) {
            matches = words.iter().any(|word| given.iter().any(|given| given == word));
        }
        if line.trim_start().starts_with("- apiGroups:") {
            (kinds, matches) = (Vec::new(), false);
        }
        if matches {
            found.extend(kinds.iter().cloned());
        }
    }
    found
}

#[test]
fn the_admission_policy_looks_at_every_kind_that_weir_may_write() {
    let rights = read("manifests/chart/templates/rights.yaml");
    let written = kinds_with(&rights, "verbs:", &["create", "update", "patch", "delete"]);
    let policy = read("manifests/chart/templates/admission.yaml");
    let looked_at = kinds_with(&policy, "operations:", &["CREATE", "UPDATE", "DELETE"]);
    // Weir's own kinds and its lease; an event tells, and changes nothing.
    let others = ["canaries", "canaries/status", "canaries/finalizers", "leases", "events"].map(str::to_owned);
    let missing: Vec<&String> = written.difference(&looked_at).filter(|kind| !others.contains(kind)).collect();
    assert!(written.contains("secrets") && missing.is_empty(), "not looked at: {missing:?}");
}

fn keys(yaml: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open: Vec<(usize, &str)> = Vec::new();
    for line in yaml.lines().filter(|line| !line.trim_start().starts_with(['#', '-'])) {
        let Some((key, _)) = line.trim_start().split_once(':') else { continue };
        let indent = line.len() - line.trim_start().len();
        open.retain(|(outer, _)| *outer < indent);
        open.push((indent, key));
        found.insert(open.iter().map(|(_, key)| *key).collect::<Vec<_>>().join("."));
    }
    found
}

fn properties(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        found.insert(path.clone());
        properties(property, &path, found);
    }
}

fn every_object_is_closed(schema: &Value, path: &str) {
    if schema["properties"].is_object() {
        assert_eq!(schema["additionalProperties"], false, "{path} takes values that nobody reads");
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        every_object_is_closed(property, &format!("{path}.{name}"));
    }
}

#[test]
fn the_schema_of_values_has_every_value_and_refuses_others() {
    let schema = json("manifests/chart/values.schema.json");
    every_object_is_closed(&schema, "values");
    let mut described = BTreeSet::new();
    properties(&schema, "", &mut described);
    // Helm's own; those of Kubernetes that values.yaml gives in braces.
    let foreign = ["global", "resources.claims"];
    described.retain(|path| !foreign.contains(&path.as_str()));
    assert_eq!(keys(&read("manifests/chart/values.yaml")), described);
}

#[test]
fn templates_read_values_that_exist() {
    let known = keys(&read("manifests/chart/values.yaml"));
    for name in names("manifests/chart/templates") {
        let text = read(&format!("manifests/chart/templates/{name}"));
        for part in text.split(".Values.").skip(1) {
            let path: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '.').collect();
            assert!(known.contains(path.trim_end_matches('.')), "{name}: there is no value {path}");
        }
    }
}

/// The metrics that a text names.
fn metrics_of(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':' && c != '-');
    words.filter(|word| word.starts_with("weir_") && !word.contains(':')).map(str::to_owned).collect()
}

fn all_metrics_exist(text: &str, at: &str) {
    let (statuses, _) = StatusStore::new();
    let page = metrics::render(&statuses, Format::Prometheus).unwrap();
    for word in metrics_of(text) {
        let family = word.strip_suffix("_bucket").unwrap_or(&word);
        assert!(page.contains(&format!("# TYPE {family} ")), "{at}: there is no metric {word}");
    }
}

#[test]
fn boards_are_whole() {
    let mut uids = BTreeSet::new();
    for name in names("manifests/chart/dashboards") {
        let board = json(&format!("manifests/chart/dashboards/{name}"));
        assert!(uids.insert(board["uid"].as_str().unwrap().to_owned()), "{name}: its uid is another board's");
        let variables: BTreeSet<&str> =
            board["templating"]["list"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
        assert!(variables.contains("datasource") && variables.contains("namespace"), "{name}: {variables:?}");
        let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for panel in board["panels"].as_array().unwrap() {
            let title = panel["title"].as_str().unwrap();
            assert!(ids.insert(panel["id"].as_i64().unwrap()), "{name}: {title}: its id is another panel's");
            let place = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_i64().unwrap());
            let [x, y, width, height] = place;
            assert!(x + width <= 24, "{name}: {title} does not fit");
            for cell in (x..x + width).flat_map(|x| (y..y + height).map(move |y| (x, y))) {
                assert!(taken.insert(cell), "{name}: {title} lies over another panel");
            }
            if panel["type"] == "row" {
                continue;
            }
            let targets = panel["targets"].as_array().unwrap();
            assert!(!targets.is_empty(), "{name}: {title} asks nothing");
            for target in targets {
                assert_eq!(target["datasource"]["uid"], "${datasource}", "{name}: {title}");
                let query = target["expr"].as_str().unwrap();
                all_metrics_exist(query, &format!("{name}: {title}"));
                let named = query
                    .split('$')
                    .skip(1)
                    .map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default());
                for variable in named.filter(|variable| *variable != "__rate_interval") {
                    assert!(variables.contains(variable), "{name}: {title}: no variable {variable}");
                }
            }
        }
    }
    assert!(uids.len() >= 2, "{uids:?}");
}

#[test]
fn rules_name_metrics_reasons_and_runbooks_that_exist() {
    let rules = read("manifests/chart/rules/weir.yaml");
    all_metrics_exist(&rules.replace("- name: weir", ""), "rules");
    // What is no hold is a reason with which a release goes on; every other one of a release is told of.
    let reasons = read("docs/reasons.md");
    let goes_on = reasons.split("\n## A release goes on\n").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let passing = rules.split("reason!~\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    for reason in passing.split('|') {
        assert!(goes_on.contains(&format!("\n### {reason}\n")), "{reason} is no reason with which a release goes on");
    }
    let page = read("docs/monitoring.md");
    let mut alerts = 0;
    for rule in rules.split("- alert: ").skip(1) {
        let name = rule.lines().next().unwrap();
        assert!(page.contains(&format!("\n### {name}\n")), "docs/monitoring.md has no runbook of {name}");
        let link = format!("runbook_url: docs/monitoring.md#{}\n", name.to_lowercase());
        assert!(rule.contains(&link), "{name} does not link to its runbook");
        alerts += 1;
    }
    assert!(alerts >= 5, "{alerts}");
}

/// `PROMTOOL` is its path; `make test` finds or fetches it, and says if it cannot.
#[test]
fn alerts_fire_when_they_should_and_not_before() {
    let Some(promtool) = std::env::var_os("PROMTOOL") else { return };
    let rules = root().join("manifests/chart/rules/weir.yaml");
    let tests = root().join("tests/manifests/rules.yaml");
    for arguments in [["check", "rules"], ["test", "rules"]] {
        let file = if arguments[0] == "check" { &rules } else { &tests };
        let output = Command::new(&promtool).args(arguments).arg(file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    let tested = fs::read_to_string(tests).unwrap();
    for rule in read("manifests/chart/rules/weir.yaml").split("- alert: ").skip(1) {
        let name = rule.lines().next().unwrap();
        assert!(tested.contains(&format!("alertname: {name}\n")), "no test has {name} fire");
    }
}
