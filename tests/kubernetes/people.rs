//! What a person asks for: by an annotation or by `kubectl weir`, guarded by RBAC, and read through the API server.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};

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
fn plugin_folder() -> tempfile::TempDir {
    let programs = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(programs.join("weir"), folder.path().join("kubectl-weir")).unwrap();
    folder
}

/// `kubectl weir dashboard`, as it is started by kubectl; it ends with this value.
struct Dashboard {
    process: Child,
    host: String,
    token: String,
}

impl Dashboard {
    fn start() -> Self {
        let folder = plugin_folder();
        let mut command = Command::new(folder.path().join("kubectl-weir"));
        let mut process = command.arg("dashboard").stdout(Stdio::piped()).spawn().unwrap();
        let mut address = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut address).unwrap();
        let (host, token) = address.trim().trim_start_matches("http://").split_once("/#token=").unwrap();
        Self { process, host: host.to_owned(), token: token.to_owned() }
    }

    /// Sends a request; returns what is answered until `enough` says so, or the end.
    fn ask(&self, head: &str, enough: impl Fn(&str) -> bool) -> String {
        let mut stream = TcpStream::connect(&self.host).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
        let Self { host, token, .. } = self;
        let request = format!(
            "{head} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let (mut said, mut buffer) = (Vec::new(), [0; 4096]);
        while !enough(&String::from_utf8_lossy(&said)) {
            match stream.read(&mut buffer) {
                Ok(n) if n > 0 => said.extend_from_slice(&buffer[..n]),
                _ => break,
            }
        }
        String::from_utf8_lossy(&said).into_owned()
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plugin_shows_a_release_as_a_tree_and_as_a_page_and_takes_it_back_there() {
    let stage = Stage::set("page", "{interval: 2s, threshold: 2, stepWeights: [10, 30, 50]}").await;
    let namespace = stage.namespace.clone();
    let traffic = stage.traffic(50.0);
    stage.release_into_traffic(&Release::good("v2")).await;
    let tree = plugin(&["get", "shop", "-n", &namespace, "--no-color"]);
    let tree = String::from_utf8(tree.stdout).unwrap();
    println!("{tree}");
    for row in ["⟳ shop", "# primary", "# canary", "⧉ shop-primary-", "□ shop-primary-", "ready:1/1", "⇄ gateways"]
    {
        assert!(tree.contains(row), "{row} is not in\n{tree}");
    }
    assert!(tree.lines().all(|line| line.chars().count() <= 100), "{tree}");
    let page = Dashboard::start();
    let path = format!("/page/stream?namespace={namespace}&name=shop");
    let told =
        page.ask(&format!("GET {path}"), |said| said.contains("\"kind\":\"detail\"") && said.contains("\"history\""));
    assert!(told.contains("\"gateways\":[{\"name\":") && !told.contains("\"partial\""), "{told}");
    let answer = page.ask(&format!("POST /page/canaries/{namespace}/shop/abort"), |_| false);
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    stage.phase("Failed").await;
    assert!(stage.status()["message"].as_str().unwrap().contains("taken back"), "{}", stage.status());
    // The API server says no to what its user may not.
    let answer = page.ask(&format!("POST /page/canaries/{namespace}/nobody/abort"), |_| false);
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("not found"), "{answer}");
    stage.rested().await;
    let tally = traffic.finish().await;
    assert_eq!(tally.totals().1, 0, "{:?}", tally.summary());
    stage.strike();
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
    let retry = plugin(&[&["retry", "shop"][..], &namespace].concat());
    assert!(retry.status.success(), "{}", String::from_utf8_lossy(&retry.stderr));
    until("it is analysed again", || (stage.status()["phase"] == "Progressing").then_some(())).await;
    stage.phase("Failed").await;
    traffic.finish().await;
    let nobody = plugin(&["get", "canaries", "--weir-namespace", "nobody-there"]);
    let said = String::from_utf8_lossy(&nobody.stderr).into_owned();
    assert!(said.contains("no Weir acts in namespace nobody-there"), "{said}");
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_pauses_resumes_and_aborts_by_an_annotation() {
    let stage = Stage::set("people", "{interval: 2s, threshold: 2, stepWeights: [10, 30, 50]}").await;
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
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
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
