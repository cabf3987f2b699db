//! `kubectl` and `helm`, as a person would use them: what they say is what is tested. Only what is looked at many times a second is
//! asked of the API server itself.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::{LazyLock, mpsc};
use std::time::{Duration, Instant};

use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

/// Nothing in these tests takes longer on a machine that is not broken; it is no statement about Weir.
pub(crate) const PATIENCE: Duration = Duration::from_secs(360);
/// For so long what says that a server was too busy is no answer.
const BUSY: Duration = Duration::from_secs(60);
/// What kubectl says where the API server, or a webhook that it asks, did not answer in time.
const UNANSWERED: [&str; 7] = [
    "deadline exceeded",
    "handshake timeout",
    "etcdserver:",
    "connection refused",
    "i/o timeout",
    "unexpected EOF",
    "failed calling webhook",
];

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
    answered(arguments, "").unwrap_or_else(|error| panic!("kubectl {}: {error}", arguments.join(" ")))
}

/// Applies a manifest, which must succeed.
pub(crate) fn apply(manifest: &str) {
    answered(&["apply", "-f", "-"], manifest).unwrap_or_else(|error| panic!("{error}\n{manifest}"));
}

/// Runs `kubectl` until it was answered: what is refused is an answer.
fn answered(arguments: &[&str], input: &str) -> Result<String, String> {
    let began = Instant::now();
    let mut again = false;
    loop {
        match run("kubectl", arguments, input) {
            Err(error) if UNANSWERED.iter().any(|it| error.contains(it)) && began.elapsed() < BUSY => {
                eprintln!("kubectl {}: {error}", arguments.join(" "));
                std::thread::sleep(Duration::from_secs(1));
                again = true;
            }
            // The answer was lost, and not the request.
            Err(error) if again && error.contains("already exists") => return Ok(String::new()),
            result => return result,
        }
    }
}

/// The API server for those who look at an object again and again. A process for each look would take the processors away from
/// what is looked at, and so would a test's own threads, which block.
static API: LazyLock<(Runtime, Client)> = LazyLock::new(|| {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let client = within(&runtime, Client::try_default()).unwrap_or_else(|error| panic!("no cluster is known: {error}"));
    (runtime, client)
});

/// Has a runtime do something while this thread waits, which may be one of another runtime.
fn within<T: Send + 'static>(runtime: &Runtime, task: impl Future<Output = T> + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    runtime.spawn(async move { done.send(task.await) });
    result.recv().unwrap()
}

/// Returns an object, if there is one and the API server answers.
pub(crate) fn object(namespace: &str, kind: &str, name: &str) -> Option<Value> {
    let (group, version, plural) = match kind {
        "service" => ("", "v1", "services"),
        "deployment" => ("apps", "v1", "deployments"),
        "hpa" => ("autoscaling", "v2", "horizontalpodautoscalers"),
        "canary" => ("weir.dev", "v1beta1", "canaries"),
        "flagger's canary" => ("flagger.app", "v1beta1", "canaries"),
        "configmap" => ("", "v1", "configmaps"),
        "virtualservice" => ("networking.istio.io", "v1", "virtualservices"),
        "destinationrule" => ("networking.istio.io", "v1", "destinationrules"),
        "kustomization" => ("kustomize.toolkit.fluxcd.io", "v1", "kustomizations"),
        "helmrelease" => ("helm.toolkit.fluxcd.io", "v2", "helmreleases"),
        _ => panic!("{kind} is not among the kinds that tests look at"),
    };
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, ""), plural);
    let (runtime, client) = &*API;
    let objects: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let name = name.to_owned();
    let get = async move { tokio::time::timeout(Duration::from_secs(10), objects.get_opt(&name)).await };
    let mut object = within(runtime, get).ok()?.ok()??;
    object.metadata.managed_fields = None;
    serde_json::to_value(object).ok()
}

/// Waits until something is so; what it is, is told where it never comes to be.
pub(crate) async fn until<T>(what: &str, seen: impl FnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, seen).await
}

/// As [`until`], for what many do at once on a machine that is busy with them.
pub(crate) async fn until_within<T>(patience: Duration, what: &str, mut seen: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(seen) = seen() {
            return seen;
        }
        assert!(began.elapsed() < patience, "not within {patience:?}: {what}");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}
