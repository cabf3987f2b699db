//! The annotated Canary shows every field that has an effect, and no other: read against the schema.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

use std::collections::BTreeSet;

use schemars::schema_for;
use serde_json::Value;
use weir_controller::api::{AlertProviderSpec, CanarySpec, Known, MetricTemplateSpec, read};

const FLAGGER: &str = include_str!("../../docs/flagger.md");
const FLAGGERS: &str = include_str!("flagger_fields.txt");
const EXAMPLE: &str = include_str!("../../manifests/examples/canary.yaml");

/// Fields that exclude those of the example: shown in a comment there.
const COMMENTED: [&str; 2] = ["analysis.stepWeights", "analysis.iterations"];
/// Deprecated; the example shows what to write instead.
const DEPRECATED: [&str; 3] = ["analysis.metrics.threshold", "analysis.metrics.query", "metricsServer"];

/// Collects the paths of an object's fields, lists seen through.
fn fields(schema: &Value, root: &Value, path: &str, found: &mut BTreeSet<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        return fields(&root["$defs"][name.trim_start_matches("#/$defs/")], root, path, found);
    }
    for choice in schema["anyOf"].as_array().into_iter().flatten() {
        fields(choice, root, path, found);
    }
    if schema.get("items").is_some() {
        fields(&schema["items"], root, path, found);
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let text = description(field, root);
        assert!(!text.is_empty(), "{path} has no description");
        // What is taken for Flagger's sake alone.
        let for_flagger =
            ["Has no effect: ", "Has no effect yet", "Has no effect beside", "Refused: ", "Conditions on the calling"];
        if for_flagger.iter().any(|beginning| text.starts_with(beginning)) {
            continue;
        }
        found.insert(path.clone());
        fields(field, root, &path, found);
    }
}

fn description(field: &Value, root: &Value) -> String {
    let of_type = || root["$defs"].get(field["$ref"].as_str()?.trim_start_matches("#/$defs/"))?.get("description");
    field.get("description").or_else(of_type).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn given(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| given(item, path, found)),
        Value::Object(map) => {
            for (name, value) in map {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                given(value, &path, found);
                found.insert(path);
            }
        }
        _ => {}
    }
}

#[test]
fn the_annotated_canary_has_every_field_of_the_schema() {
    let schema = schema_for!(CanarySpec).to_value();
    let mut known = BTreeSet::new();
    fields(&schema, &schema, "", &mut known);
    let parsed = read(EXAMPLE, "canary.yaml").remove(0).unwrap();
    assert_eq!(parsed.warnings, []);
    let Known::Canary(canary) = parsed.object else { panic!("not a Canary") };
    let mut shown = BTreeSet::new();
    given(&serde_saphyr::from_str::<Value>(EXAMPLE).unwrap()["spec"], "", &mut shown);
    drop(canary);
    let left_out: BTreeSet<&str> = COMMENTED.into_iter().chain(DEPRECATED).collect();
    // One kind of match on a string stands for all of them.
    let missing: Vec<_> =
        known.iter().filter(|path| !shown.contains(*path) && !left_out.contains(path.as_str())).collect();
    assert!(missing.is_empty(), "canary.yaml does not show {missing:#?}");
    for path in left_out {
        assert!(known.contains(path), "{path} is no field any more");
    }
}

#[test]
fn defaults_stand_in_the_descriptions_of_optional_numbers() {
    let schema = schema_for!(CanarySpec).to_value();
    let analysis = schema["$defs"]["AnalysisSpec"]["properties"].as_object().unwrap();
    for name in ["interval", "threshold", "maxWeight", "minRequests", "alpha", "latencyRatio", "admission"] {
        let text = analysis[name]["description"].as_str().unwrap();
        assert!(text.contains("Default: "), "{name}: {text}");
    }
}

/// What stands in backticks in a section of the page on Flagger: fields, relative to the section's own path.
fn rows(heading: &str) -> BTreeSet<&'static str> {
    let body = FLAGGER.split_once(&format!("\n## {heading}\n")).unwrap().1.split("\n## ").next().unwrap();
    let told = |line: &&str| line.starts_with('|') || line.starts_with("Weir's own");
    let first = |line: &'static str| if line.starts_with('|') { line.split('|').nth(1).unwrap() } else { line };
    body.lines().filter(told).flat_map(|line| first(line).split('`').skip(1).step_by(2)).collect()
}

#[test]
fn the_page_on_flagger_has_every_field_of_the_schemas() {
    let mut known = BTreeSet::new();
    for (schema, prefix) in [
        (schema_for!(CanarySpec).to_value(), ""),
        (schema_for!(MetricTemplateSpec).to_value(), "MetricTemplate."),
        (schema_for!(AlertProviderSpec).to_value(), "AlertProvider."),
    ] {
        let mut found = BTreeSet::new();
        fields(&schema, &schema, "", &mut found);
        known.extend(found.into_iter().map(|path| format!("{prefix}{path}")));
    }
    let sections = [
        ("service.", "spec.service"),
        ("analysis.", "spec.analysis"),
        ("MetricTemplate.", "MetricTemplate"),
        ("AlertProvider.", "AlertProvider"),
        ("", "spec"),
    ];
    let is_parent = |path: &&String| known.iter().any(|other| other.starts_with(&format!("{path}.")));
    let mut missing = Vec::new();
    for path in known.iter().filter(|path| !is_parent(path)) {
        let (prefix, heading) = sections.into_iter().find(|(prefix, _)| path.starts_with(prefix)).unwrap();
        let (field, rows) = (&path[prefix.len()..], rows(heading));
        // A row of a field stands for what is inside of it: of all conditions on a text, for instance.
        let ancestors = field.match_indices('.').map(|(at, _)| &field[..at]).chain([field]);
        if !ancestors.into_iter().any(|field| rows.contains(field)) {
            missing.push(path);
        }
    }
    assert!(missing.is_empty(), "docs/flagger.md says nothing of {missing:#?}");
}

/// Returns whether a schema takes a field: by its name, or within something that is passed on as it stands.
fn takes(schema: &Value, root: &Value, path: &str) -> bool {
    if let Some(name) = schema["$ref"].as_str() {
        return takes(&root["$defs"][name.trim_start_matches("#/$defs/")], root, path);
    }
    let open = schema["additionalProperties"].is_object() || schema["additionalProperties"] == true;
    if path.is_empty() || open || schema["x-kubernetes-preserve-unknown-fields"] == true {
        return true;
    }
    let (field, rest) = path.split_once('.').unwrap_or((path, ""));
    let inside = schema["properties"].get(field).is_some_and(|inner| takes(inner, root, rest));
    let choices = schema["anyOf"].as_array().into_iter().flatten().chain(schema.get("items"));
    inside || choices.into_iter().any(|choice| takes(choice, root, path))
}

#[test]
fn every_field_of_flaggers_specs_is_taken() {
    let schemas = [
        ("Canary", schema_for!(CanarySpec).to_value()),
        ("MetricTemplate", schema_for!(MetricTemplateSpec).to_value()),
        ("AlertProvider", schema_for!(AlertProviderSpec).to_value()),
    ];
    let lines: Vec<&str> = FLAGGERS.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(lines.len() > 150, "{}", lines.len());
    let taken = |line: &&&str| {
        let (kind, path) = line.split_once(' ').unwrap();
        let (_, schema) = schemas.iter().find(|(of, _)| *of == kind).unwrap();
        takes(schema, schema, path)
    };
    let missing: Vec<_> = lines.iter().filter(|line| !taken(line)).collect();
    assert!(missing.is_empty(), "a manifest with these does not move: {missing:#?}");
    assert!(!takes(&schemas[0].1, &schemas[0].1, "analysis.canary"), "the test finds what is missing");
}
