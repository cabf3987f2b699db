//! What a person asks for: by an annotation or by `kubectl weir`, guarded by RBAC, and read through the API server.

use std::process::{Command, Output};

use super::STEPS;
use super::kubectl::{apply, kubectl, object, run, until};
use super::stage::{Release, SYSTEM, Stage, variable};

/// Asks for a verb, as the README says.
pub(crate) fn ask(stage: &Stage, verb: &str, time: u32) {
    let verb = format!("weir.dev/verb={verb} {time}");
    kubectl(&["-n", &stage.namespace, "annotate", "canary", "shop", "--overwrite", &verb]);
}

/// Runs `kubectl weir`, which finds the program by its name.
pub(crate) fn plugin(arguments: &[&str]) -> Output {
    let folder = plugin_folder();
    let path = std::env::var("PATH").unwrap();
    let mut kubectl = Command::new("kubectl");
    kubectl.arg("weir").args(arguments).env("PATH", format!("{}:{path}", folder.path().display()));
    kubectl.output().unwrap()
}

/// Returns a folder with the program under the name that kubectl looks for.
pub(crate) fn plugin_folder() -> tempfile::TempDir {
    let programs = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(programs.join("weir"), folder.path().join("kubectl-weir")).unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plugin_tells_why_a_release_was_taken_back_and_asks_for_a_retry() {
    let stage = Stage::set("plugin", STEPS).await;
    let namespace = ["--namespace", &stage.namespace];
    let traffic = stage.traffic(100.0);
    stage.release(&Release { arguments: &["--failure-ratio", "1"], ..Release::good("v2") });
    stage.phase("Failed").await;
    stage.rested().await;
    let why = until("the plugin says why", || {
        let output = plugin(&[&["why", "shop"][..], &namespace].concat());
        (output.status.code() == Some(1)).then_some(output)
    })
    .await;
    let text = String::from_utf8(why.stdout).unwrap();
    println!("{text}");
    assert!(text.contains("was taken back") && text.contains("requests failed"), "{text}");
    let command = format!("`kubectl weir retry -n {} shop`", stage.namespace);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains(&command), "{command} is what reaches this Weir\n{text}");
    until("the plugin asks for a retry", || {
        plugin(&[&["retry", "shop"][..], &namespace].concat()).status.success().then_some(())
    })
    .await;
    // Both of the releases are in the events; the second may be short.
    let starts = || stage.events().iter().filter(|text| text.starts_with("Starting canary analysis")).count();
    until("it is analysed again", || (starts() == 2).then_some(())).await;
    stage.phase("Failed").await;
    traffic.finish().await;
    let nobody = plugin(&["get", "canaries", "--weir-namespace", "nobody-there"]);
    let said = String::from_utf8_lossy(&nobody.stderr).into_owned();
    assert!(said.contains("no Weir acts in namespace nobody-there"), "{said}");
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_pauses_resumes_and_aborts_by_an_annotation() {
    let stage = Stage::set("people", "{interval: 10s, threshold: 2, stepWeights: [10, 30, 50]}").await;
    let traffic = stage.traffic(50.0);
    stage.release_into_traffic(&Release::good("v2")).await;
    ask(&stage, "pause", 1);
    until("the rollout is paused", || (stage.status()["reason"] == "Paused").then_some(())).await;
    let weight = stage.status()["canaryWeight"].as_f64();
    // From the controller's own API, by a forwarded port; nobody who only reaches the pod is told.
    let path = format!("/api/v1/namespaces/{SYSTEM}/services/weir:8080/proxy/api/v1/canaries");
    assert!(run("kubectl", &["get", "--raw", &path], "").is_err());
    until("the controller's API says so too", || {
        let output = plugin(&["get", "canaries", "-o", "json"]);
        // A busy machine forwards a port later than the plugin waits for.
        if !output.stderr.is_empty() {
            return None;
        }
        let list: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        let shop = list["items"].as_array()?.iter().find(|it| it["namespace"] == stage.namespace.as_str())?.clone();
        (shop["reason"] == "Paused" && shop["weight"].as_f64() == weight).then_some(())
    })
    .await;
    ask(&stage, "resume", 2);
    stage.phase("Succeeded").await;
    stage.rested().await;
    // Another one, which a person takes back.
    stage.release_into_traffic(&Release::good("v3")).await;
    ask(&stage, "abort", 3);
    stage.phase("Failed").await;
    stage.rested().await;
    let primary = object(&stage.namespace, "deployment", "shop-primary").unwrap().to_string();
    assert!(primary.contains("\"v2\"") && !primary.contains("\"v3\""), "{primary}");
    let tally = traffic.finish().await;
    assert_eq!(tally.totals().1, 0, "{:?}", tally.summary());
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_the_readme_is_initialized_and_released_as_it_stands() {
    // For the turn, and for traffic to the example's host.
    let stage = Stage::bare("shop").await;
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/examples/deployment.yaml");
    let example = std::fs::read_to_string(path).unwrap();
    let image = variable("WEIR_DEMO_IMAGE");
    kubectl(&["delete", "namespace", "shop", "--ignore-not-found", "--wait"]);
    apply(&example.replace("image: weir:dev", &format!("image: {image}")).replace("interval: 10s", "interval: 2s"));
    kubectl(&["-n", "shop", "wait", "canary/shop", "--for=condition=promoted", "--timeout=3m"]);
    let traffic = stage.traffic(50.0);
    let next = r#"[{"op": "replace", "path": "/spec/template/spec/containers/0/args", "value": ["--version", "v2"]}]"#;
    kubectl(&["-n", "shop", "patch", "deployment", "shop", "--type=json", "-p", next]);
    until("v2 is promoted", || (object("shop", "canary", "shop")?["status"]["phase"] == "Succeeded").then_some(()))
        .await;
    let tally = traffic.finish().await;
    assert_eq!(tally.totals().1, 0, "{:?}", tally.summary());
    assert!(tally.of("v1").ok > 0 && tally.of("v2").ok > 0);
    kubectl(&["-n", "shop", "delete", "canary", "shop", "--wait"]);
    kubectl(&["delete", "namespace", "shop", "--wait=false"]);
    stage.strike();
}
