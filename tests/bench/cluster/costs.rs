//! What the filter costs a gateway beside everything that Istio configures there: processor time for each request, as ratios
//! of neighbours in the same round, and how long a push delays requests.
//!
//! Four gateways of Istio's own stand side by side, each with one pod: one with native weighted clusters that Weir does not
//! know, one with a Canary at rest, one with a canary in a release, one with that and 999 more. They are measured in turn at
//! one fixed rate.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_demo::load::Load;
use weir_wire::{Canary, Weight};

use crate::api::Api;
use crate::cost::error_of_median;
use crate::figures::{quantile, shares, table};
use crate::gateways::{NAMESPACE, Pod, Small, acknowledged, pods};
use crate::istiod;
use crate::kubectl::{apply, kubectl};
use crate::process::Process;
use crate::requests::Requests;
use crate::stage::{Release, SYSTEM, Stage, open};

/// The gateways; the first one is what the others are compared with.
const GATEWAYS: [&str; 4] = ["bench-native", "bench-rest", "bench-one", "bench-thousand"];
/// Those that the filter has a canary's weight from.
const RELEASING: [usize; 2] = [2, 3];
/// Canaries of the last one.
const THOUSAND: u64 = 1000;
/// A rollout that stays where it is.
const STEPS: &str = "{interval: 600s, threshold: 2, stepWeights: [10]}";
/// Requests per second: a gateway is a quarter busy.
const RATE: f64 = 800.0;
/// One turn of one gateway in a round.
const TURN: Duration = Duration::from_secs(2);
/// Of a turn's beginning so much is not counted: connections are made, caches fill.
const WARM_UP: Duration = Duration::from_millis(300);
/// Requests per second while pushes are measured, and the pushes of each gateway.
const PUSHED_RATE: f64 = 400.0;
const PUSHES: usize = 40;
/// Time between two pushes.
const PAUSE: Duration = Duration::from_millis(1311);
/// Time between two looks at whether a gateway has taken a push over: Weir's own.
const LOOK: Duration = Duration::from_millis(100);
/// How long a gateway may take for native weights, of which it does not say that it uses them.
const TAKEN: Duration = Duration::from_millis(300);

/// Measures, and prints what came of it.
pub(crate) async fn measure(rounds: usize) {
    let stage = Stage::bare("bench-costs").await;
    let resting = Stage::bare("bench-resting").await;
    let api = Api::open();
    GATEWAYS.iter().for_each(|name| start(&api, name));
    stage.release(&Release::good("v1"));
    resting.release(&Release::good("v1"));
    expose(&stage, &resting);
    resting.phase("Initialized").await;
    stage.phase("Initialized").await;
    stage.release_into_traffic(&Release::good("v2")).await;
    kubectl(&["-n", SYSTEM, "scale", "deployment", "weir", "--replicas=0"]);
    kubectl(&["-n", SYSTEM, "wait", "pods", "-l", "app.kubernetes.io/name=weir", "--for=delete", "--timeout=60s"]);
    let pods = GATEWAYS.map(|name| pods(&api, &format!("istio={name}")).pop().unwrap());
    let mut smalls = RELEASING.map(|at| Small::read(&api, &format!("istio={}", GATEWAYS[at])));
    let own = smalls[1].config.canaries[0].clone();
    smalls[1].config.canaries.extend((1..THOUSAND).map(|number| another(&own, number)));
    for (small, pod) in smalls.iter_mut().zip(RELEASING.map(|at| &pods[at])) {
        small.push(&api);
        acknowledged(std::slice::from_ref(pod), small.config.generation, LOOK);
    }
    let mut loads = pods.clone().map(|pod| load(&stage, &pod, RATE));
    loads[1] = load(&resting, &pods[1], RATE);
    let envoys = pods.clone().map(|pod| Process::find("envoy", Some(&pod.uid)).expect("the gateway's Envoy runs here"));
    let costs = turns(&envoys, &loads, rounds).await;
    print_costs(&costs);
    print_memory(&envoys);
    let load = |pod: &Pod| load(&stage, pod, PUSHED_RATE);
    let mut rows = vec![delays("native weights, by a VirtualService", &load(&pods[0]), native(&api, &stage)).await];
    for ((small, pod), name) in
        smalls.iter_mut().zip(RELEASING.map(|at| &pods[at])).zip(["Weir, 1 canary", "Weir, 1,000 canaries"])
    {
        let push = || {
            small.push(&api);
            acknowledged(std::slice::from_ref(pod), small.config.generation, LOOK);
        };
        rows.push(delays(name, &load(pod), push).await);
    }
    table(
        &[
            "pushes of",
            "requests while nothing happens: p50 / p99 / p99.9 / maximum, ms",
            "requests during a push",
            "number of these",
        ],
        &rows,
    );
    println!("{PUSHES} pushes each, {PUSHED_RATE} requests per second.\n");
    istiod::measure(&api, &mut smalls[1], &pods[3], native(&api, &stage)).await;
    kubectl(&["-n", SYSTEM, "scale", "deployment", "weir", "--replicas=1"]);
    stage.strike();
    resting.strike();
    for name in GATEWAYS {
        kubectl(&["-n", NAMESPACE, "delete", "deployment", name]);
    }
}

/// Starts another gateway like the cluster's own, under another label.
fn start(api: &Api, name: &str) {
    let mut deployment = api.get(&format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/istio-ingressgateway"));
    let labels = json!({"istio": name, "app": name});
    deployment["metadata"] = json!({"name": name, "namespace": NAMESPACE});
    deployment["spec"]["replicas"] = 1.into();
    deployment["spec"]["selector"] = json!({"matchLabels": labels});
    let pods = deployment["spec"]["template"]["metadata"]["labels"].as_object_mut().unwrap();
    pods.extend(labels.as_object().unwrap().clone());
    deployment["status"] = Value::Null;
    let path = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments");
    // One that a killed run has left will do.
    let _ = api.post(&path, &deployment);
    kubectl(&["-n", NAMESPACE, "rollout", "status", "deployment", name, "--timeout=3m"]);
}

/// Has all gateways serve a host: two by a Canary in a release, one by a Canary at rest, one by weighted clusters.
fn expose(stage: &Stage, resting: &Stage) {
    let (namespace, host) = (&stage.namespace, stage.host());
    let [native, rest, one, thousand] = GATEWAYS;
    for name in [native, one, thousand] {
        open(namespace, name, &format!("{{istio: {name}}}"), host);
    }
    open(&resting.namespace, rest, &format!("{{istio: {rest}}}"), resting.host());
    apply(&format!(
        r#"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: native, namespace: {namespace}}}
spec:
  hosts: [{host}]
  gateways: [{native}]
  http:
  - route:
    - {{destination: {{host: shop-primary, port: {{number: 80}}}}, weight: 90}}
    - {{destination: {{host: shop-canary, port: {{number: 80}}}}, weight: 10}}
"#
    ));
    let service = format!("{{port: 80, targetPort: 8080, gateways: [{one}, {thousand}], hosts: [{host}]}}");
    stage.canary_of(&service, "progressDeadlineSeconds: 600", STEPS);
    let service = format!("{{port: 80, targetPort: 8080, gateways: [{rest}], hosts: [{}]}}", resting.host());
    resting.canary_of(&service, "progressDeadlineSeconds: 600", STEPS);
}

/// Returns a canary at rest beside the one under release.
fn another(own: &Canary, number: u64) -> Canary {
    let name = format!("c{number}");
    Canary {
        id: format!("{number:016x}"),
        name: format!("team/{name}"),
        hosts: vec![format!("{name}.shop.example.com"), format!("{name}.team.svc.cluster.local")],
        routes: vec![format!("team/{name}")],
        token: format!("{number:032x}"),
        run: String::new(),
        weight: Weight::ZERO,
        limits: Vec::new(),
        ..own.clone()
    }
}

fn load(stage: &Stage, pod: &Pod, rate: f64) -> Load {
    Load { url: format!("http://{}/", pod.address).parse().unwrap(), ..stage.load("/", rate, &[]) }
}

/// Returns microseconds of processor time for each request, by round, then by gateway.
async fn turns(envoys: &[Process; 4], loads: &[Load; 4], rounds: usize) -> Vec<[f64; 4]> {
    let mut costs = Vec::new();
    for round in 0..rounds {
        let mut of = [0.0; 4];
        for turn in 0..4 {
            // Another one begins each round, so that none is always measured after the same one.
            let at = (turn + round) % 4;
            let requests = Requests::start(&loads[at]);
            tokio::time::sleep(WARM_UP).await;
            let (began, before) = (Instant::now(), envoys[at].cpu());
            tokio::time::sleep(TURN).await;
            let (spent, answered) = (envoys[at].cpu() - before, requests.since(began));
            assert!(answered.iter().all(|end| !end.failed), "a request failed");
            of[at] = spent * 1e6 / answered.len() as f64;
            requests.finish().await;
        }
        if (round + 1) % 10 == 0 {
            eprintln!("round {}/{rounds}: {of:.1?} us", round + 1);
        }
        costs.push(of);
    }
    costs
}

fn print_costs(costs: &[[f64; 4]]) {
    let ratio = |above: usize, below: usize| costs.iter().map(|of| of[above] / of[below]).collect::<Vec<_>>();
    let row = |what: &str, at: usize, base: usize| {
        let ratios = ratio(at, base);
        let (low, high) = (quantile(&ratios, 0.25), quantile(&ratios, 0.75));
        let error = error_of_median(low, high, ratios.len());
        let cost = quantile(&costs.iter().map(|of| of[at]).collect::<Vec<_>>(), 0.5);
        let median = quantile(&ratios, 0.5);
        vec![
            what.into(),
            format!("{cost:.1}"),
            format!("{median:.3}"),
            format!("{low:.3}–{high:.3}"),
            format!("{error:.3}"),
        ]
    };
    table(
        &["gateway", "us per request, median", "ratio: median", "quartiles", "error of the median"],
        &[
            row("native weighted clusters 90/10, no filter", 0, 0),
            row("Weir at rest, to the native one", 1, 0),
            row("Weir at 10 %, to the native one", 2, 0),
            row("Weir at 10 % among 1,000 canaries, to the native one", 3, 0),
            row("Weir at 10 % among 1,000 canaries, to Weir alone", 3, 2),
        ],
    );
    println!("{} rounds of {} s, {RATE} requests per second.\n", costs.len(), TURN.as_secs());
}

fn print_memory(envoys: &[Process; 4]) {
    let of = ["without the module", "at rest", "in a release", "in a release among 1,000 canaries"];
    let row = |(what, envoy): (&str, &Process)| vec![what.to_owned(), format!("{:.0}", envoy.memory("RssAnon"))];
    table(&["a gateway's Envoy", "memory of its own, MiB"], &of.into_iter().zip(envoys).map(row).collect::<Vec<_>>());
}

/// Returns what changes the native weights back and forth, as tools do that split by them.
fn native(api: &Api, stage: &Stage) -> impl FnMut() {
    let path = format!("/apis/networking.istio.io/v1/namespaces/{}/virtualservices/native", stage.namespace);
    let mut canary = 10;
    move || {
        canary = if canary == 10 { 20 } else { 10 };
        let to =
            |host: &str, weight: u32| json!({"destination": {"host": host, "port": {"number": 80}}, "weight": weight});
        let route = json!([to("shop-primary", 100 - canary), to("shop-canary", canary)]);
        api.patch(&path, &json!({"spec": {"http": [{"route": route}]}})).unwrap();
        std::thread::sleep(TAKEN);
    }
}

/// Pushes again and again; returns how long requests took meanwhile, and in between.
async fn delays(name: &str, load: &Load, mut push: impl FnMut()) -> Vec<String> {
    let requests = Requests::start(load);
    tokio::time::sleep(PAUSE).await;
    let (began, mut pushes) = (Instant::now(), Vec::new());
    for _ in 0..PUSHES {
        tokio::time::sleep(PAUSE).await;
        let written = Instant::now();
        push();
        pushes.push((written, Instant::now()));
    }
    let ends = requests.finish().await;
    let (mut during, mut between) = (Vec::new(), Vec::new());
    for end in ends.iter().filter(|end| end.at >= began) {
        let pushed = pushes.iter().any(|(from, to)| end.was_under_way(*from, *to));
        let list = if pushed { &mut during } else { &mut between };
        list.push(end.took.as_secs_f64() * 1000.0);
    }
    vec![name.to_owned(), shares(&between), shares(&during), during.len().to_string()]
}
