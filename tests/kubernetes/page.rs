//! The page in a browser, as the controller serves it in the cluster and as `kubectl weir dashboard` does on this machine.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

use super::kubectl::{apply, kubectl, until};
use super::people::{plugin, plugin_folder};
use super::stage::{Release, SYSTEM, Stage};

/// How the line begins that has all of a Canary.
const DETAIL: &str = "\"kind\":\"detail\"";

/// A page, and whoever serves it here; it ends with this value.
struct Page {
    process: Child,
    host: String,
    token: String,
}

impl Page {
    /// `kubectl weir dashboard`, as it is started by kubectl.
    fn of_the_plugin() -> Self {
        let folder = plugin_folder();
        let mut command = Command::new(folder.path().join("kubectl-weir"));
        let (process, address) = started(command.arg("dashboard"));
        let (host, token) = address.trim().trim_start_matches("http://").split_once("/#token=").unwrap();
        Self { process, host: host.to_owned(), token: token.to_owned() }
    }

    /// The controller's, with its port forwarded as the documentation says.
    fn of_the_controller() -> Self {
        let mut command = Command::new("kubectl");
        // It complains of who has read enough.
        let command = command.args(["-n", SYSTEM, "port-forward", "service/weir", ":8082"]).stderr(Stdio::null());
        let (process, said) = started(command);
        // `Forwarding from 127.0.0.1:34567 -> 8082`
        let host = said.split_whitespace().find(|word| word.starts_with("127.")).unwrap().to_owned();
        Self { process, host, token: String::new() }
    }

    /// Sends a request; returns what is answered until `enough` says so, or the end.
    fn ask(&self, head: &str, enough: impl Fn(&str) -> bool) -> String {
        self.ask_as(&self.token, head, enough)
    }

    fn ask_as(&self, token: &str, head: &str, enough: impl Fn(&str) -> bool) -> String {
        let mut stream = TcpStream::connect(&self.host).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
        let bearer = if token.is_empty() { String::new() } else { format!("authorization: Bearer {token}\r\n") };
        let host = &self.host;
        let request =
            format!("{head} HTTP/1.1\r\nhost: {host}\r\n{bearer}content-length: 0\r\nconnection: close\r\n\r\n");
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

    /// Asks for a verb, until what is answered is no passing trouble: a change of rights is some time on its way.
    async fn verb(&self, token: &str, path: &str, wanted: &str) -> String {
        until(&format!("{path} is answered by {wanted}"), || {
            let said = self.ask_as(token, &format!("POST {path}"), |_| false);
            said.starts_with(&format!("HTTP/1.1 {wanted}")).then_some(said)
        })
        .await
    }
}

/// Starts a program, and returns the first line that it prints.
fn started(command: &mut Command) -> (Child, String) {
    let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut output: BufReader<ChildStdout> = BufReader::new(process.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    // Who writes more than he is heard for is ended by it.
    std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
    (process, line)
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns a token of an account that may do this with Canaries of a namespace.
fn token(namespace: &str, name: &str, verbs: &str) -> String {
    apply(&format!(
        r#"
{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: {name}, namespace: {namespace}}}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: {name}, namespace: {namespace}}}
rules: [{{apiGroups: [weir.dev], resources: [canaries], verbs: [{verbs}]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: {name}, namespace: {namespace}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: {name}}}
subjects: [{{kind: ServiceAccount, name: {name}, namespace: {namespace}}}]
"#
    ));
    kubectl(&["-n", namespace, "create", "token", name]).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plugin_shows_a_release_as_a_tree_and_as_a_page_and_takes_it_back_there() {
    let stage = Stage::set("page", "{interval: 60s, threshold: 2, stepWeights: [10, 30, 50]}").await;
    let namespace = stage.namespace.clone();
    let traffic = stage.traffic(50.0);
    stage.release_into_traffic(&Release::good("v2")).await;
    let rows = ["⟳ shop", "# primary", "# canary", "⧉ shop-primary-", "□ shop-primary-", "ready:1/1", "⇄ gateways"];
    // A busy machine forwards a port later than the plugin waits for.
    let tree = until("the tree has everything", || {
        let tree = String::from_utf8(plugin(&["get", "shop", "-n", &namespace, "--no-color"]).stdout).unwrap();
        println!("{tree}");
        rows.iter().all(|row| tree.contains(row)).then_some(tree)
    })
    .await;
    assert!(tree.lines().all(|line| line.chars().count() <= 100), "{tree}");
    let page = Page::of_the_plugin();
    let path = format!("/page/stream?namespace={namespace}&name=shop");
    until("the page has everything", || {
        let whole = |said: &str| said.contains("\"kind\":\"detail\"") && said.contains("\"history\"");
        let told = page.ask(&format!("GET {path}"), whole);
        (told.contains("\"gateways\":[{\"name\":") && !told.contains("\"partial\"")).then_some(())
    })
    .await;
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
async fn the_page_of_the_cluster_shows_and_obeys_as_the_rights_of_a_token_say() {
    let stage = Stage::set("seen", "{interval: 60s, threshold: 2, stepWeights: [10, 30, 50]}").await;
    let namespace = stage.namespace.clone();
    let (reader, releaser) = (token(&namespace, "reader", "get"), token(&namespace, "releaser", "get, patch"));
    let page = Page::of_the_controller();
    let traffic = stage.traffic(50.0);
    stage.release_into_traffic(&Release::good("v2")).await;
    let stream = format!("GET /page/stream?namespace={namespace}&name=shop");
    let whole = |said: &str| said.split_once(DETAIL).is_some_and(|(_, rest)| rest.contains('\n'));
    // Whoever has no token, or another cluster's.
    let told = page.ask(&stream, whole);
    assert!(told.contains(&namespace) && told.contains("\"weight\":"), "{told}");
    assert!(!told.contains("Analysing") && !told.contains("\"history\""), "more than name, phase and weight: {told}");
    let told = page.ask_as("guessed", &stream, whole);
    assert!(told.starts_with("HTTP/1.1 401") && !told.contains(&namespace), "{told}");
    // Who may get sees, and asks for nothing.
    let told = until("the reader sees the rollout", || {
        let told = page.ask_as(&reader, &stream, whole);
        told.contains("\"gateways\":[{\"name\":").then_some(told)
    })
    .await;
    assert!(told.contains("\"acknowledged\":true") && told.contains("\"history\""), "{told}");
    let verb = |verb: &str| format!("/page/canaries/{namespace}/shop/{verb}");
    let said = page.verb(&reader, &verb("abort"), "403").await;
    assert!(said.contains(&format!("system:serviceaccount:{namespace}:reader may not patch")), "{said}");
    page.verb("", &verb("abort"), "403").await;
    // Who may patch holds and promotes, but elsewhere.
    page.verb(&releaser, &verb("pause"), "202").await;
    until("the rollout is paused", || (stage.status()["reason"] == "Paused").then_some(())).await;
    page.verb(&releaser, "/page/canaries/default/shop/pause", "403").await;
    page.verb(&releaser, &verb("promote"), "202").await;
    stage.phase("Succeeded").await;
    stage.rested().await;
    // A bad one, as it is taken back, and then why.
    stage.release(&Release { arguments: &["--failure-ratio", "0.3"], ..Release::good("v3") });
    // The list and the detail are of two looks.
    let ended = until("the reader sees that it is taken back", || {
        let told = page.ask_as(&reader, &stream, whole);
        let detail = told.lines().find(|line| line.contains(DETAIL))?;
        // An answer may end before its line does.
        let detail: Value = serde_json::from_str(detail).ok()?;
        let ended = detail["detail"]["ended"].clone();
        (ended["result"] == "rolledback").then_some(ended)
    })
    .await;
    assert!(ended["canaryFailed"].as_u64() > Some(0), "{ended}");
    assert!(ended["message"].as_str().unwrap().contains("requests"), "{ended}");
    traffic.finish().await;
    stage.strike();
}
