//! `weir lint` and `weir migrate`: what they say of files, and their exit status.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const CANARY: &str = "apiVersion: flagger.app/v1beta1\nkind: Canary\nmetadata: {name: cart, namespace: shop}\nspec:\n  \
                      targetRef: {apiVersion: apps/v1, kind: Deployment, name: cart} # ours\n  service: {port: 80}\n  \
                      analysis: {interval: 10s, stepWeights: [10, 50]}\n";
const BROKEN: &str = "apiVersion: flagger.app/v1beta1\nkind: Canary\nmetadata: {name: cart\n";

fn weir(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn migrate_writes_the_rest_when_a_document_does_not_parse_and_its_exit_status_says_so() {
    let output = weir(&["migrate", "-f", "-"], CANARY);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stdout), CANARY.replace("flagger.app", "weir.dev"));
    let said = text(&output.stderr);
    assert!(
        said.contains("note: standard input, document 1, line 1: spec.service.gateways: names no gateway"),
        "{said}"
    );

    let output = weir(&["migrate", "-f", "-"], &format!("{BROKEN}---\n{CANARY}"));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), format!("{BROKEN}---\n{}", CANARY.replace("flagger.app", "weir.dev")));
    let said = text(&output.stderr);
    assert!(said.contains("error: standard input, document 1, line") && said.contains("does not parse"), "{said}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    for command in ["lint", "migrate"] {
        let output = weir(&[command, "-f", "/nowhere.yaml"], "");
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains("read /nowhere.yaml"), "{}", text(&output.stderr));
    }
}

#[test]
fn lint_says_what_is_refused_what_has_no_effect_and_how_a_release_goes() {
    let canary = CANARY.replace("flagger.app", "weir.dev");
    let output = weir(&["lint", "-f", "-"], &canary);
    assert_eq!(output.status.code(), Some(0));
    let said = text(&output.stdout);
    assert!(said.contains("shop/cart: weights 10, 50 %; promoted after 20s at least\n"), "{said}");

    let wrong = canary.replace("interval: 10s", "interval: soon, canaryAnalysis: 1");
    let output = weir(&["lint", "-f", "-"], &wrong);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stdout);
    assert!(said.contains("error: standard input, document 1, line 1: spec.analysis.interval: \"soon\""), "{said}");
    assert!(said.contains("spec.analysis.canaryAnalysis: is not known here"), "{said}");
}

#[test]
fn lint_finds_nothing_wrong_with_the_examples() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/examples");
    for example in std::fs::read_dir(folder).unwrap() {
        let path = example.unwrap().path();
        let output = weir(&["lint", "-f", path.to_str().unwrap()], "");
        assert_eq!(output.status.code(), Some(0), "{}: {}", path.display(), text(&output.stdout));
    }
}

#[test]
fn a_metric_that_cannot_be_asked_is_an_error_of_lint_and_of_migrate() {
    let of = |group: &str, provider: &str, query: &str| {
        format!(
            "apiVersion: {group}/v1beta1\nkind: MetricTemplate\nmetadata: {{name: errors}}\nspec:\n  provider: {{type: {provider}, address: \
             \"http://prometheus\"}}\n  query: '{query}'\n"
        )
    };
    let asked = "sum(rate(errors{app=\"{{ target }}\", zone=\"{{ variables.zone }}\"}[{{ interval }}]))";
    for (provider, query, expected) in [
        ("prometheus", asked, None),
        ("datadog", "up", Some("provider type datadog is not supported")),
        ("prometheus", "{{ if target }}up{{ end }}", Some("if target")),
    ] {
        for (command, group) in [("lint", "weir.dev"), ("migrate", "flagger.app")] {
            let output = weir(&[command, "-f", "-"], &of(group, provider, query));
            let said = text(&output.stdout) + &text(&output.stderr);
            assert_eq!(output.status.code(), Some(i32::from(expected.is_some())), "{command}: {said}");
            assert!(expected.is_none_or(|expected| said.contains(expected)), "{command}: {said}");
        }
    }
}

#[test]
fn the_clients_version_is_told_where_no_weir_answers() {
    let own = format!("client: {}\n", env!("CARGO_PKG_VERSION"));
    let output = weir(&["version", "--client"], "");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), own.clone()));
    let output = weir(&["version", "--server", "http://127.0.0.1:9"], "");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), own));
    assert!(text(&output.stderr).contains("the controller's version is not known"));
}

#[test]
fn completions_know_every_command() {
    let said = text(&weir(&["completion", "bash"], "").stdout);
    for command in ["status", "migrate", "lint", "promote"] {
        assert!(said.contains(command), "{command}");
    }
}
