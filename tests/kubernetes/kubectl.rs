//! `kubectl` and `helm`, as a person would use them: what they say is what is tested.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Nothing in these tests takes longer on a machine that is not broken; it is no statement about Weir.
const PATIENCE: Duration = Duration::from_secs(180);

/// Runs a program with a text on its standard input; returns what it printed, or what it complained of.
pub(crate) fn run(program: &str, arguments: &[&str], input: &str) -> Result<String, String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} cannot be started: {error}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// Runs `kubectl`, which must succeed.
pub(crate) fn kubectl(arguments: &[&str]) -> String {
    run("kubectl", arguments, "").unwrap_or_else(|error| panic!("kubectl {}: {error}", arguments.join(" ")))
}

/// Applies a manifest, which must succeed.
pub(crate) fn apply(manifest: &str) {
    run("kubectl", &["apply", "-f", "-"], manifest).unwrap_or_else(|error| panic!("{error}\n{manifest}"));
}

/// Returns an object, if there is one.
pub(crate) fn object(namespace: &str, kind: &str, name: &str) -> Option<Value> {
    let text = run("kubectl", &["-n", namespace, "get", kind, name, "-o", "json"], "").ok()?;
    serde_json::from_str(&text).ok()
}

/// Waits until something is so; what it is, is told where it never comes to be.
pub(crate) async fn until<T>(what: &str, mut seen: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(seen) = seen() {
            return seen;
        }
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}
