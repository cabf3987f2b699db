//! `weir simulate` as people and programs call it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

use std::io::Write as _;
use std::process::{Command, Output};

use serde_json::Value;

const CANARY: &str = "
apiVersion: weir.dev/v1beta1
kind: Canary
metadata: {name: cart, namespace: shop}
spec:
  targetRef: {kind: Process, name: cart}
  service: {hosts: [shop.example.com]}
  analysis:
    interval: 10s
    stepWeights: [5, 20, 50]
";

fn simulate(yaml: &str, args: &[&str]) -> Output {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(yaml.as_bytes()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.arg("simulate").arg("-f").arg(file.path()).args(args);
    if !args.contains(&"--rps") {
        command.args(["--rps", "100"]);
    }
    command.output().unwrap()
}

const EQUAL: [&str; 4] = ["--primary-errors", "0.5%", "--canary-errors", "0.005"];
const BAD: [&str; 4] = ["--primary-errors", "0.5%", "--canary-errors", "100%"];

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&text(output)).unwrap()
}

#[test]
fn a_bad_revision_is_forecast_to_be_caught() {
    let args = [&BAD[..], &["--runs", "20", "-o", "json"]].concat();
    let forecast = json(&simulate(CANARY, &args));
    assert_eq!(forecast["ends"], serde_json::json!({"promoted": 0, "rolled_back": 20, "waiting": 0}));
    assert!(forecast["rolled_back"]["canary_failures"]["max"].as_f64().unwrap() <= 10.0, "{forecast}");
    let sentence = forecast["forecast"].as_str().unwrap();
    assert!(sentence.starts_with("At 100 requests/s a 200-fold error rate is caught after "), "{sentence}");
    assert!(forecast.get("false_rollbacks").is_none());
}

#[test]
fn equal_revisions_are_told_with_their_bounds() {
    let good = ["--primary-errors", "0", "--canary-errors", "0%", "--runs", "20"];
    let text = text(&simulate(CANARY, &good));
    assert!(text.contains("False rollbacks: 0 of 20"), "{text}");
    assert!(text.contains("a revision as good as the primary is promoted"), "{text}");
    let found = json(&simulate(CANARY, &[&good[..], &["-o", "json"]].concat()));
    assert_eq!(found["false_rollbacks"]["count"], 0);
    assert!(found["false_rollbacks"]["at_most"].as_f64().unwrap() > 0.01);
}

#[test]
fn the_same_seed_prints_the_same_and_another_one_does_not() {
    let played = |seed| text(&simulate(CANARY, &[&EQUAL[..], &["--runs", "5", "-o", "json", "--seed", seed]].concat()));
    assert_eq!(played("7"), played("7"));
    assert_ne!(played("7").replace("\"seed\": 7", ""), played("8").replace("\"seed\": 8", ""));
}

#[test]
fn single_requests_go_through_the_filter_when_asked() {
    let args = [&BAD[..], &["--runs", "3", "-o", "json", "--per-request", "--gateways", "2"]].concat();
    let forecast = json(&simulate(CANARY, &args));
    assert_eq!((&forecast["drawn"], &forecast["ends"]["rolled_back"]), (&"requests".into(), &3.into()));
}

#[test]
fn what_makes_no_sense_is_refused_with_what_to_do() {
    let two = format!("{CANARY}---{}", CANARY.replace("cart", "other"));
    for (yaml, args, said) in [
        (CANARY, vec!["--rps", "0"], "above 0"),
        (CANARY, vec!["--primary-errors", "5"], "write 5% if you mean percent"),
        (CANARY, vec!["--canary-errors", "101%"], "not a share"),
        (CANARY, vec!["--canary-errors", "-1"], "error"),
        (CANARY, vec!["--primary-latency", "50ms:20ms"], "below its median"),
        (CANARY, vec!["--onset-weight", "80"], "above every weight"),
        (CANARY, vec!["--onset-weight", "0"], "not a weight"),
        (CANARY, vec!["--runs", "0"], "error"),
        (CANARY, vec!["--name", "another"], "no Canary named another"),
        ("kind: Service\napiVersion: v1\n", vec![], "has no Canary"),
        ("kind: [", vec![], "document 1"),
        (&two, vec![], "choose one with --name"),
        (&CANARY.replace("[5, 20, 50]", "[5, 200]"), vec![], "spec.analysis.stepWeights[1]"),
        (&CANARY.replace("  analysis:", "  suspend: true\n  analysis:"), vec![], "spec.suspend"),
    ] {
        let mut all = EQUAL.to_vec();
        for pair in args.chunks(2) {
            match all.iter().position(|arg| *arg == pair[0]) {
                Some(at) => all[at + 1] = pair[1],
                None => all.extend(pair),
            }
        }
        all.extend(["--runs", "1"].into_iter().filter(|_| !args.contains(&"--runs")));
        let output = simulate(yaml, &all);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{all:?}: {error}");
        assert!(error.contains(said), "{all:?}: {error}");
    }
    let missing = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["simulate", "-f", "/does/not/exist.yaml", "--rps", "1"])
        .args(EQUAL)
        .output()
        .unwrap();
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("read /does/not/exist.yaml"));
}
