//! Files: several documents, some of which cannot be read.

use super::*;

const FILE: &str = "\
# A file of several documents.
---
apiVersion: weir.dev/v1beta1
kind: Process
metadata: {name: cart, lables: {a: b}}
spec:
  command: [./cart]
  readinesProbe: {}
--- # the next one does not parse
apiVersion: weir.dev/v1beta1
kind: Canary
metadata: {name: cart
spec:
---
apiVersion: weir.dev/v1beta1
kind: Canary
metadata: {name: cart}
spec:
  targetRef: {kind: Process, name: cart}
  analysis:
    stepWeight: many
---
apiVersion: apps/v1
kind: Deployment
---
just text
---
apiVersion: flagger.app/v1beta1
kind: Canary
---
apiVersion: weir.dev/v1
kind: Canary
---
apiVersion: weir.dev/v1beta1
kind: Canari
---
kind:
---
kind: Canary
---
apiVersion: weir.dev/v1beta1
kind: Canary
metadata: {name: cart}
spec:
  targetRef: {kind: Process, name: cart}
  analysis:
    metrics:
    - {name: a, tresholdRange: {}}
    webhooks: [{name: a, url: b, metadata: {anything: goes}}]
...
";

#[test]
fn a_document_that_cannot_be_read_leaves_the_others_alone() {
    let read = read(FILE, "shop.yaml");
    let told: Vec<String> = read
        .iter()
        .flat_map(|document| match document {
            Ok(parsed) => parsed.warnings.iter().map(|warning| format!("warning {warning}")).collect(),
            Err(problem) => vec![format!("error {problem}")],
        })
        .collect();
    let expected = [
        "warning shop.yaml, document 1, line 5: metadata.lables: is not known here and is ignored: check its spelling",
        "warning shop.yaml, document 1, line 8: spec.readinesProbe: is not known here and is ignored: check its spelling",
        "error shop.yaml, document 2, line 13: does not parse: while parsing a flow mapping, did not find expected ',' or '}' \
         (column 5)",
        "error shop.yaml, document 3, line 21: spec.analysis.stepWeight: invalid type: string \"many\", expected a number (column 17)",
        "warning shop.yaml, document 4, line 23: apiVersion: Deployment of apps/v1 is somebody else's object and is ignored",
        "error shop.yaml, document 5, line 26: does not parse: invalid type: string \"just text\", expected an object \
         with apiVersion and kind (column 1)",
        "warning shop.yaml, document 6, line 28: apiVersion: flagger.app/v1beta1 is Flagger's, so this Canary is ignored: `weir \
         migrate` turns it into Weir's, weir.dev/v1beta1",
        "warning shop.yaml, document 7, line 31: apiVersion: \"weir.dev/v1\" is not a version that this Weir knows, so this \
         Canary is ignored: make it weir.dev/v1beta1",
        "warning shop.yaml, document 8, line 35: kind: Canari is not a kind of weir.dev/v1beta1, so it is ignored: Canary, \
         Process, MetricTemplate and AlertProvider are",
        "error shop.yaml, document 9, line 37: kind: is missing: say what this is, for instance `kind: Canary`",
        "warning shop.yaml, document 10, line 39: apiVersion: is missing, so this Canary is ignored: make it weir.dev/v1beta1",
        "warning shop.yaml, document 11, line 48: spec.analysis.metrics[0].tresholdRange: is not known here and is ignored: \
         check its spelling",
    ];
    assert_eq!(told, expected);
    assert!(matches!(&read[0], Ok(Parsed { object: Known::Process(_), .. })));
}

#[test]
fn what_is_no_number_is_refused_where_it_stands() {
    let text = "apiVersion: weir.dev/v1beta1\nkind: Canary\nspec:\n  analysis: {stepWeight: .nan}\n";
    let problem = read(text, "shop.yaml").remove(0).unwrap_err().to_string();
    assert!(problem.starts_with("shop.yaml, document 1, line 4: does not parse: non-finite float"), "{problem}");
}

#[test]
fn a_field_without_a_value_is_not_there() {
    let text = "apiVersion: weir.dev/v1beta1\nkind: Process\nmetadata: {name: cart, labels:}\nspec: {command: [a], ports: ~}\n";
    let parsed = read(text, "shop.yaml").remove(0).unwrap();
    assert!(matches!(parsed.object, Known::Process(_)), "{parsed:?}");
}

#[test]
fn what_is_wrong_is_told_with_the_line_of_its_field_in_a_list_too() {
    let canary = |indent: &str| {
        let text = "apiVersion: weir.dev/v1beta1\nkind: Canary\nmetadata:\n  name: cart\nspec:\n  targetRef:\n    kind: Pod\n    name: cart\n  \
                    service: {port: 80}\n  analysis:\n    stepWeight: 5\n    interval: soon\n";
        text.lines().map(|line| format!("{indent}{line}\n")).collect::<String>()
    };
    let list = format!("kind: List\nitems:\n- kind: List\n  items:\n  -\n{}", canary("    "));
    for (text, before) in [(canary(""), 0), (format!("# The shop.\n---\n{}", canary("")), 2), (list, 5)] {
        let parsed = read(&text, "shop.yaml").pop().unwrap().unwrap();
        let Known::Canary(canary) = &parsed.object else { panic!("{parsed:?}") };
        let problems = plan(canary).unwrap_err();
        let lines: Vec<(usize, String)> =
            problems.into_iter().map(|it| parsed.fields.at(it).place).map(|it| (it.line - before, it.file)).collect();
        assert_eq!(lines, [(7, "shop.yaml".into()), (12, "shop.yaml".into())], "{text}");
    }
}
