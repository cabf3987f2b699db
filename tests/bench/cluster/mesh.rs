//! Services inside of the mesh: what a bad canary costs those that call it, how long a weight takes to all of them, what a caller pays
//! for its requests to other services, and what rollouts in many namespaces cost istiod.

use std::time::{Duration, Instant};

use crate::api::Api;
use crate::callers::{Caller, Client};
use crate::cost::error_of_median;
use crate::figures::{ms, quantile, spread, table, tail};
use crate::gateways::{Small, acknowledged};
use crate::kubectl::{apply, kubectl};
use crate::process::Process;
use crate::stage::{Release, SYSTEM, Stage};
use crate::watch::{Said, Watch};

/// Steps, and long enough ones that a canary turns bad in the one that it should.
const STEPS: &str = "{interval: 5s, threshold: 2, stepWeights: [10, 30, 50], metrics: [{name: request-success-rate, thresholdRange: {min: 99}}]}";
/// A rollout that stays where it is.
const LONG: &str = "{interval: 600s, threshold: 2, stepWeights: [10]}";
const SERVICE: &str = "{port: 80, targetPort: 8080}";
/// Traffic before a release, and of a healthy canary at 30 % before it turns bad.
const CALM: Duration = Duration::from_secs(2);
/// Requests of good releases, and how many come in a second.
const GOOD: u64 = 20_000;
const GOOD_RATE: f64 = 200.0;
/// Odd, so that pushes fall anywhere between two ticks of the filter.
const PAUSE: Duration = Duration::from_millis(711);
/// Requests per second of one caller to another service, and its turn in a round; of a turn's beginning so much is not counted.
const OTHER_RATE: f64 = 600.0;
const TURN: Duration = Duration::from_secs(2);
const WARM_UP: Duration = Duration::from_millis(500);
/// Namespaces of callers with a rollout each.
const NAMESPACES: usize = 10;

/// Measures, and prints what came of it.
pub(crate) async fn measure(rounds: usize, pushes: usize) {
    let api = Api::open();
    let mut harms = Vec::new();
    for number in [1, 10] {
        let stage = inside(&format!("bench-mesh-{number}"), STEPS).await;
        let callers = Caller::start(&api, &stage.namespace, number);
        bound(&stage, number).await;
        memory(&format!("{number} callers, before their first release"), &callers);
        for (rate, at_30) in [(100.0, false), (100.0, true), (1000.0, false)] {
            let mut failed = Vec::new();
            for round in 0..rounds {
                let version = format!("bad-{rate}-{at_30}-{round}");
                let harm = bad(&stage, &callers, rate, at_30, &version).await;
                eprintln!("{number} callers at {rate}/s, at 30 %: {at_30}: {harm} failed");
                failed.push(harm as f64);
            }
            let when = if at_30 { "from a moment at 30 % on" } else { "from its first request, at 10 %" };
            harms.push(vec![number.to_string(), rate.to_string(), when.to_owned(), spread(&failed)]);
            memory(&format!("{number} callers, after {} releases", rounds * (1 + (harms.len() - 1) % 3)), &callers);
        }
        if number == 10 {
            held(&api, &stage, &callers, rounds, pushes).await;
            stage.canary_of(SERVICE, "progressDeadlineSeconds: 600", STEPS);
            good(&stage, &callers).await;
            memory("10 callers, after all releases", &callers);
        }
        stage.strike();
    }
    table(&["callers", "requests/s of all", "the canary fails everything", "failed requests"], &harms);
    println!("Minimum / median / maximum of {rounds}.\n");
    istiod(&api).await;
}

/// Makes a service that the mesh alone calls.
async fn inside(name: &str, analysis: &str) -> Stage {
    let stage = Stage::bare(name).await;
    stage.release(&Release::good("v1"));
    stage.canary_of(SERVICE, "progressDeadlineSeconds: 600", analysis);
    stage.phase("Initialized").await;
    stage.rested().await;
    stage
}

async fn bound(stage: &Stage, number: usize) {
    let said = format!("{number} callers with a sidecar");
    crate::kubectl::until("all callers are known", || stage.condition("GatewayBound").1.contains(&said).then_some(()))
        .await;
}

fn start(stage: &Stage, callers: &[Caller], rate: f64) -> Vec<Client> {
    callers.iter().map(|caller| caller.call(&stage.namespace, "shop", rate / callers.len() as f64)).collect()
}

fn finish(clients: Vec<Client>) -> (u64, u64) {
    let seen = clients.into_iter().map(Client::finish);
    seen.fold((0, 0), |(all, failed), (more, of_these)| (all + more, failed + of_these))
}

/// Releases a canary that fails everything, at once or at 30 %; returns how many requests failed.
async fn bad(stage: &Stage, callers: &[Caller], rate: f64, at_30: bool, version: &str) -> u64 {
    let watch = Watch::of(&stage.namespace);
    let clients = start(stage, callers, rate);
    tokio::time::sleep(CALM).await;
    let released = Instant::now();
    let arguments: &[&str] = if at_30 { &[] } else { &["--failure-ratio", "1"] };
    stage.release(&Release { arguments, ..Release::good(version) });
    let begun = watch.until("the rollout begins", released, |said| said.phase == "Progressing").await;
    if at_30 {
        let at_30 = |said: &Said| said.weight >= 30.0 && said.acknowledged;
        watch.until("the weight is 30 %", begun.at, at_30).await;
        tokio::time::sleep(CALM).await;
        stage.switch(r#"{"failure_ratio": 1}"#).await;
    }
    watch.until("the canary is taken back", begun.at, |said| said.phase == "Failed" && said.acknowledged).await;
    stage.rested().await;
    finish(clients).1
}

/// Releases good revisions one after the other until so many requests were sent.
async fn good(stage: &Stage, callers: &[Caller]) {
    let clients = start(stage, callers, GOOD_RATE);
    stage.phase("Succeeded").await;
    stage.rested().await;
    let (began, mut releases) = (Instant::now(), 0);
    while began.elapsed().as_secs_f64() * GOOD_RATE < GOOD as f64 * 1.05 {
        releases += 1;
        stage.release(&Release::good(&format!("good-{releases}")));
        stage.phase("Progressing").await;
        stage.phase("Succeeded").await;
        stage.rested().await;
    }
    let (all, failed) = finish(clients);
    println!("{releases} good releases through {} callers: {failed} of {all} requests failed.\n", callers.len());
}

/// Measures what is to be measured while a release stays where it is and Weir is away.
async fn held(api: &Api, stage: &Stage, callers: &[Caller], rounds: usize, pushes: usize) {
    stage.canary_of(SERVICE, "progressDeadlineSeconds: 600", LONG);
    stage.release_into_traffic(&Release::good("held")).await;
    memory("10 callers, in a release", callers);
    kubectl(&["-n", SYSTEM, "scale", "deployment", "weir", "--replicas=0"]);
    kubectl(&["-n", SYSTEM, "wait", "pods", "-l", "app.kubernetes.io/name=weir", "--for=delete", "--timeout=60s"]);
    let mut small = Small::of_callers(api, &stage.namespace);
    let pods: Vec<_> = callers.iter().map(|caller| caller.pod.clone()).collect();
    let mut took = Vec::new();
    for _ in 0..pushes {
        tokio::time::sleep(PAUSE).await;
        let written = Instant::now();
        small.config.canaries.iter_mut().for_each(|canary| canary.epoch += 1);
        small.push(api);
        took.push(ms(written, acknowledged(&pods, small.config.generation, Duration::from_millis(20))));
    }
    println!(
        "A push to all of {} callers, from its write to the last one's acknowledgement: {} ms (median / p99 / maximum of {pushes}).\n",
        pods.len(),
        tail(&took)
    );
    other_services(api, &callers[0], rounds * 6).await;
    kubectl(&["-n", SYSTEM, "scale", "deployment", "weir", "--replicas=1"]);
}

/// Compares a caller in a release with one that has never met Weir, by what their requests to a third service cost.
async fn other_services(api: &Api, releasing: &Caller, rounds: usize) {
    let other = Stage::bare("bench-mesh-other").await;
    other.release(&Release::good("v1"));
    apply(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: other, namespace: {}}}, \
         spec: {{selector: {{app: shop}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}}}",
        other.namespace
    ));
    let plain = Caller::start(api, &other.namespace, 1).remove(0);
    let callers = [plain, releasing.clone()];
    let mut costs = Vec::new();
    for round in 0..rounds {
        let mut of = [0.0; 2];
        for turn in 0..2 {
            let at = (turn + round) % 2;
            let client = callers[at].call(&other.namespace, "other", OTHER_RATE);
            tokio::time::sleep(WARM_UP).await;
            let (began, before) = (Instant::now(), callers[at].envoy.cpu());
            tokio::time::sleep(TURN).await;
            let spent = callers[at].envoy.cpu() - before;
            of[at] = spent * 1e6 / (began.elapsed().as_secs_f64() * OTHER_RATE);
            assert_eq!(client.finish().1, 0, "a request failed");
        }
        costs.push(of);
    }
    let ratios: Vec<f64> = costs.iter().map(|[plain, releasing]| releasing / plain).collect();
    let (low, high) = (quantile(&ratios, 0.25), quantile(&ratios, 0.75));
    let median = |at: usize| quantile(&costs.iter().map(|of| of[at]).collect::<Vec<_>>(), 0.5);
    println!(
        "A caller's requests to another service, {OTHER_RATE} a second, one worker: {:.1} us of its Envoy without Weir, {:.1} us in a \
         release of a service that it calls; ratio {:.3} (quartiles {low:.3}–{high:.3}, error of the median {:.3}, {rounds} rounds).\n",
        median(0),
        median(1),
        quantile(&ratios, 0.5),
        error_of_median(low, high, ratios.len())
    );
    memory("a caller that has never met Weir", &callers[..1]);
    other.strike();
}

fn memory(what: &str, callers: &[Caller]) {
    let of = |line| spread(&callers.iter().map(|caller| caller.envoy.memory(line)).collect::<Vec<_>>());
    println!("Memory of Envoys, MiB: {what}: {}, of that its own {}.\n", of("VmRSS"), of("RssAnon"));
}

/// Measures istiod's processor time for rollouts in many namespaces at a time, a caller in each.
async fn istiod(api: &Api) {
    let mut stages = Vec::new();
    for number in 0..NAMESPACES {
        let stage = inside(&format!("bench-mesh-many-{number}"), STEPS).await;
        let callers = Caller::start(api, &stage.namespace, 1);
        stages.push((stage, callers));
    }
    let istiod = Process::find("pilot-discovery", None).expect("istiod runs here");
    let spent = |since: (Instant, f64)| (istiod.cpu() - since.1) / since.0.elapsed().as_secs_f64();
    let since = (Instant::now(), istiod.cpu());
    tokio::time::sleep(Duration::from_secs(20)).await;
    let idle = spent(since);
    let clients: Vec<_> = stages.iter().flat_map(|(stage, callers)| start(stage, callers, 20.0)).collect();
    let since = (Instant::now(), istiod.cpu());
    stages.iter().for_each(|(stage, _)| stage.release(&Release::good("v2")));
    for (stage, _) in &stages {
        stage.phase("Succeeded").await;
    }
    let (took, busy) = (since.0.elapsed().as_secs_f64(), spent(since));
    let (all, failed) = finish(clients);
    println!(
        "{NAMESPACES} rollouts at a time in {NAMESPACES} namespaces, a caller in each: istiod {busy:.3} cores for {took:.0} s, {idle:.3} at \
         rest; {failed} of {all} requests failed.\n"
    );
    stages.iter().for_each(|(stage, _)| stage.strike());
}
