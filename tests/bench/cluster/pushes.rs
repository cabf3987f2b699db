//! How long a weight takes from its write to every gateway, and whether a connection notices.

use std::time::{Duration, Instant};

use weir_wire::Weight;

use crate::api::Api;
use crate::figures::{ms, table, tail};
use crate::gateways::{DISTURBED, Small, acknowledged, pods};
use crate::kubectl::kubectl;
use crate::requests::Requests;
use crate::stage::{Release, SYSTEM, Stage};

/// Requests per second: what users see is known to the distance between two of them.
const RATE: f64 = 200.0;
/// A rollout that stays where it is.
const STEPS: &str = "{interval: 600s, threshold: 2, stepWeights: [50]}";
/// Odd, so that the writes fall anywhere between two ticks of the filter.
const PAUSE: Duration = Duration::from_millis(711);

/// How long after the write something was seen, in milliseconds.
#[derive(Debug, Default)]
struct Pushed {
    stored: Vec<f64>,
    first: Vec<f64>,
    last: Vec<f64>,
    said: Vec<f64>,
}

/// Writes weights of 0 and 100 % in turn, while Weir is away, and prints what came of it.
pub(crate) async fn measure(pushes: usize) {
    let stage = Stage::set("bench-pushes", STEPS).await;
    let requests = Requests::start(&stage.load("/", RATE, &[]));
    stage.release_into_traffic(&Release::good("v2")).await;
    kubectl(&["-n", SYSTEM, "scale", "deployment", "weir", "--replicas=0"]);
    kubectl(&["-n", SYSTEM, "wait", "pods", "-l", "app.kubernetes.io/name=weir", "--for=delete", "--timeout=60s"]);
    let api = Api::open();
    let gateways = pods(&api, "istio=ingressgateway");
    let mut small = Small::read(&api, "istio=ingressgateway");
    let disturbed =
        || DISTURBED.map(|name| gateways.iter().map(|pod| pod.metric("listener_manager", name)).sum::<f64>());
    // Listeners that the filter's own coming has replaced may still be ending.
    let (mut last, mut rises) = (disturbed(), [0.0; 3]);
    let mut pushed = Pushed::default();
    let id = format!("{}/shop", stage.namespace);
    // The first one only brings the weight to 0.
    for push in 0..=pushes {
        let full = push % 2 == 1;
        let canary = small.config.canaries.iter_mut().find(|canary| canary.name == id).unwrap();
        canary.epoch += 1;
        canary.weight = if full { Weight::FULL } else { Weight::ZERO };
        canary.limits.clear();
        tokio::time::sleep(PAUSE).await;
        let written = Instant::now();
        small.push(&api);
        let stored = Instant::now();
        let said = acknowledged(&gateways, small.config.generation, Duration::from_millis(2));
        tokio::time::sleep(Duration::from_millis(100)).await;
        let ends = requests.since(written);
        let (new, old) = if full { ("v2", "v1") } else { ("v1", "v2") };
        let first = ends.iter().find(|end| end.revision == new).unwrap_or_else(|| panic!("{new} never answered"));
        let until = ends.iter().rev().find(|end| end.revision == old).map_or(written, |end| end.at);
        let now = disturbed();
        rises.iter_mut().zip(last.iter().zip(now)).for_each(|(rise, (last, now))| *rise += (now - last).max(0.0));
        last = now;
        if push > 0 {
            pushed.stored.push(ms(written, stored));
            pushed.first.push(ms(written, first.at));
            pushed.last.push(ms(written, until));
            pushed.said.push(ms(written, said));
        }
    }
    kubectl(&["-n", SYSTEM, "scale", "deployment", "weir", "--replicas=1"]);
    let failed = requests.finish().await.iter().filter(|end| end.failed).count();
    stage.strike();
    let row = |what: &str, times: &[f64]| vec![what.to_owned(), tail(times)];
    table(
        &["weight written to the API →", "ms: median / p99 / maximum"],
        &[
            row("stored", &pushed.stored),
            row("first response by the new weight", &pushed.first),
            row("last response by the old weight", &pushed.last),
            row("every gateway says so", &pushed.said),
        ],
    );
    let rows = DISTURBED
        .iter()
        .zip(rises)
        .map(|(name, rise)| vec![name.trim_start_matches("envoy_listener_manager_").to_owned(), rise.to_string()]);
    table(&["Envoy's listener manager", "rises, added up"], &rows.collect::<Vec<_>>());
    println!("{pushes} pushes, gateways: {}, requests that failed meanwhile: {failed}.\n", gateways.len());
}
