//! A thousand Canaries of which none is rolling out: what Weir asks of the API server, its memory, and how soon it decides.

use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::agent::{Agent, Census, KINDS, NODE};
use crate::api::Api;
use crate::figures::table;
use crate::kubectl::{apply, kubectl, run, until};
use crate::process::Process;
use crate::stage::{SYSTEM, installed};
use crate::watch::Watch;

/// Namespaces that the Canaries are spread over, as those of teams.
const NAMESPACES: usize = 20;
/// How long is looked at what Weir does at rest.
const REST: Duration = Duration::from_secs(60);
/// Nothing changes for so long before that.
const SETTLED: Duration = Duration::from_secs(20);

/// Measures, and prints what came of it.
pub(crate) async fn measure(canaries: usize) {
    installed().await;
    let agent = Agent::start();
    let census = Census::start();
    let api = Api::open();
    let began = Instant::now();
    populate(&api, canaries);
    settle(&api, canaries).await;
    let took = began.elapsed();
    let weir = weir().await;
    let (most_at_start, after_start) = (weir.memory("VmHWM"), weir.memory("VmRSS"));
    let (before, cpu) = (census.count(), weir.cpu());
    tokio::time::sleep(REST).await;
    let (after, cpu) = (census.count(), weir.cpu() - cpu);
    let seconds = REST.as_secs_f64();
    let starts = [restart(&api).await, restart(&api).await, restart(&api).await];
    let restarted = self::weir().await;
    let rows = KINDS.iter().zip(before.iter().zip(after)).map(|(kind, (before, after))| {
        vec![format!("requests to the API per second: {kind}"), format!("{:.2}", (after - before) / seconds)]
    });
    let mut rows: Vec<Vec<String>> = rows.collect();
    let row = |what: &str, value: String| vec![what.to_owned(), value];
    let seconds_of = |times: &[f64]| times.iter().map(|it| format!("{it:.1}")).collect::<Vec<_>>().join(" / ");
    rows.extend([
        row("processor, of one", format!("{:.3}", cpu / seconds)),
        row("memory after all were made: now, at most, MiB", format!("{after_start:.0}, {most_at_start:.0}")),
        row(
            "memory of a controller started later: now, at most, MiB",
            format!("{:.0}, {:.0}", restarted.memory("VmRSS"), restarted.memory("VmHWM")),
        ),
        row("start of the controller → its first decision is in a status, s", seconds_of(&starts)),
        row("all applied at once → all initialized, s", format!("{:.0}", took.as_secs_f64())),
    ]);
    table(&[&format!("{canaries} Canaries at rest"), "measured"], &rows);
    clear();
    drop(agent);
}

fn namespace(number: usize) -> String {
    format!("weir-bench-rest-{}", number % NAMESPACES)
}

fn populate(api: &Api, canaries: usize) {
    let gateway = r#"
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: public, namespace: weir-bench-rest-0}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*/*.rest.example.com"]}]
"#;
    let namespaces = (0..NAMESPACES.min(canaries))
        .map(|number| format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {}}}\n", namespace(number)));
    apply(&(namespaces.collect::<String>() + gateway));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || (thread..canaries).step_by(4).for_each(|number| make(api, number)));
        }
    });
}

fn make(api: &Api, number: usize) {
    let (namespace, name) = (namespace(number), format!("c{number}"));
    let (deployments, canaries) = (
        format!("/apis/apps/v1/namespaces/{namespace}/deployments"),
        format!("/apis/weir.dev/v1beta1/namespaces/{namespace}/canaries"),
    );
    api.post(&deployments, &deployment(&name, "v1")).unwrap();
    let canary = json!({
        "apiVersion": "weir.dev/v1beta1", "kind": "Canary", "metadata": {"name": name},
        "spec": {
            "targetRef": {"kind": "Deployment", "name": name},
            "service": {
                "port": 80, "targetPort": 8080, "gateways": ["weir-bench-rest-0/public"],
                "hosts": [format!("{name}.rest.example.com")],
            },
            "analysis": {"interval": "5s", "threshold": 2, "stepWeights": [10, 30, 50]},
        },
    });
    api.post(&canaries, &canary).unwrap();
}

fn deployment(name: &str, version: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    // No kubelet would ever say that they ended.
                    "nodeName": NODE, "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
                    "tolerations": [{"operator": "Exists"}],
                    "containers": [{
                        "name": "shop", "image": "weir.test/nothing:1", "args": ["serve", "--version", version],
                        "ports": [{"containerPort": 8080}], "resources": {"requests": {"cpu": "1m", "memory": "8Mi"}},
                    }],
                },
            },
        },
    })
}

/// Waits until every Canary is initialized, every target is at zero, and nothing moves any more.
async fn settle(api: &Api, canaries: usize) {
    let began = Instant::now();
    let mut quiet = Instant::now();
    let mut last = (0, 0);
    while quiet.elapsed() < SETTLED || last.0 < canaries {
        assert!(began.elapsed() < Duration::from_secs(1800), "{last:?} of {canaries} are initialized");
        tokio::time::sleep(Duration::from_secs(2)).await;
        let list = api.get("/apis/weir.dev/v1beta1/canaries");
        let versions = list["items"].as_array().unwrap().iter();
        let initialized = versions.clone().filter(|it| it["status"]["phase"] == "Initialized").count();
        let version = |it: &Value| it["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap();
        let newest = versions.map(version).max().unwrap_or_default();
        if (initialized, newest) != last {
            quiet = Instant::now();
            eprintln!("{:.0} s: {initialized} of {canaries} are initialized", began.elapsed().as_secs_f64());
        }
        last = (initialized, newest);
    }
}

async fn weir() -> Process {
    until("the controller runs", || Process::find("weir", None)).await
}

/// Starts the controller anew, with a revision that it has not seen; returns the time from the start of its process until its
/// decision to release it is in the status, in seconds.
async fn restart(api: &Api) -> f64 {
    let scale = |replicas: &str| kubectl(&["-n", SYSTEM, "scale", "deployment", "weir", "--replicas", replicas]);
    scale("0");
    until("the controller is gone", || Process::find("weir", None).is_none().then_some(())).await;
    let version = format!("v{}", SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis());
    let target = format!("/apis/apps/v1/namespaces/{}/deployments/c0", namespace(0));
    api.patch(&target, &json!({"spec": deployment("c0", &version)["spec"]})).unwrap();
    let watch = Watch::of(&namespace(0));
    let scaled = Instant::now();
    scale("1");
    let weir = weir().await;
    let started = weir.started().unwrap();
    let decided =
        watch.until("the release begins", scaled, |said| said.name == "c0" && said.phase == "Progressing").await;
    let decided = SystemTime::now() - decided.at.elapsed();
    // Nobody sends requests, so it would stay where it is.
    kubectl(&[
        "-n",
        &namespace(0),
        "annotate",
        "canary",
        "c0",
        "--overwrite",
        &format!("weir.dev/verb=abort {version}"),
    ]);
    watch.until("the release is taken back", scaled, |said| said.name == "c0" && said.phase == "Failed").await;
    decided.duration_since(started).unwrap_or_default().as_secs_f64()
}

/// Takes everything down, without waiting for each Canary to give its traffic back: nobody sends any.
fn clear() {
    for number in 0..NAMESPACES {
        let namespace = namespace(number);
        let _ = run("kubectl", &["-n", &namespace, "delete", "canaries", "--all", "--wait=false"], "");
        let _ = run("kubectl", &["delete", "namespace", &namespace, "--wait=false"], "");
    }
}
