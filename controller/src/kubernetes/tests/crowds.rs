//! Very many Canaries on one gateway: their places in its configuration, and what the controller does for those at rest.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use weir_engine::{FilterMode, Span, Timestamp};
use weir_wire::{Canary, Weight};

use super::server::ApiServer;
use super::stage::{Stage, canary, deployment};
use super::tenants::{gateway, serving};
use crate::gateway_config::RouteNames;
use crate::kubernetes::render::{FilterNames, Module, Proxies, config_filter};
use crate::publisher::{Desired, Next, Publisher};

const NOW: Timestamp = Timestamp(1_795_395_000_000);

fn desired(number: usize, filter: FilterMode, weight: u32) -> Desired {
    let name = format!("team-{number}/shopping-cart");
    let table = |from: u32| (0..64).map(|i| [from + i * 7, 3 + i / 2]).collect::<Vec<[u32; 2]>>();
    let limits = weir_wire::Limits {
        epoch: 9,
        comparison: table(0),
        absolute: table(3),
        end: [441, 444],
        beyond: [vec![[36, 9_000], [40, 4_000]], vec![[36, 9_000]]],
    };
    let canary = Canary {
        id: format!("{number:016x}"),
        name: name.clone(),
        hosts: vec![format!("cart.team-{number}.example.com")],
        routes: vec![name.clone()],
        token: format!("{number:016x}"),
        run: if filter == FilterMode::Off { String::new() } else { "19a2b3c4d5e-68".into() },
        epoch: 9,
        weight: Weight::new(weight).unwrap(),
        latency_ms: crate::api::DEFAULT_LATENCY_MS.to_vec(),
        limits: if weight > 0 { vec![limits.clone(), limits.clone(), limits] } else { Vec::new() },
        ..Canary::default()
    };
    let routes = RouteNames { primary: vec![name.clone()], canary: vec![format!("{name}/canary")], direct: vec![] };
    Desired { canary, filter, routes, since: Timestamp(number as u64) }
}

/// A gateway whose pod acknowledges everything: its publisher, and the largest object that was written.
struct Gateway {
    publisher: Publisher,
    largest: usize,
    now: Timestamp,
}

impl Gateway {
    fn settle(&mut self) {
        let names = FilterNames {
            namespace: "istio-ingress".into(),
            selector: BTreeMap::from([("istio".into(), "ingressgateway".into())]),
            proxies: Proxies::Gateways,
        };
        let module =
            Module::Own { uri: "http://weir.weir-system.svc.cluster.local:8080/m".into(), sha256: "0".repeat(64) };
        for _ in 0..10 {
            self.publisher.acknowledged("pod", self.now, Some(self.publisher.generation()));
            if let Next::Push(push) = self.publisher.next(self.now) {
                let object = config_filter(&names, &module, &push.config, &push.switched, None);
                self.largest = self.largest.max(object.to_string().len());
                self.publisher.pushed(push, self.now);
            }
            self.now = self.now + Span::seconds(1);
        }
    }

    fn weight(&self, number: usize) -> Option<u32> {
        let last = self.publisher.last_pushed()?;
        let id = format!("{number:016x}");
        last.canaries.iter().find(|canary| canary.id == id).map(|canary| canary.weight.parts().into())
    }
}

#[test]
fn ten_thousand_at_rest_and_five_hundred_under_way_fit_into_one_mebibyte_and_a_rollback_too() {
    let mut gateway = Gateway { publisher: Publisher::new(Span(500)), largest: 0, now: NOW };
    for number in 500..10_500 {
        gateway.publisher.set_desired(desired(number, FilterMode::Off, 0));
    }
    for weight in [0, 500] {
        for number in 0..500 {
            gateway.publisher.set_desired(desired(number, FilterMode::On, weight));
        }
        gateway.settle();
    }
    let last = gateway.publisher.last_pushed().unwrap();
    assert_eq!((last.canaries.len(), gateway.publisher.last_switched().len()), (500, 500));
    assert!(gateway.publisher.left_out().is_empty(), "{:?}", gateway.publisher.left_out().values().next());
    println!("500 rollouts and 10,000 at rest: an object of {} bytes at most", gateway.largest);
    assert!(gateway.largest < 1 << 20, "{}", gateway.largest);
    // Everything that a hostile tenant may write, for as many Canaries as he likes.
    let hosts: Vec<String> = (0..64).map(|i| format!("{}{i}.example.com", "h".repeat(200))).collect();
    for number in 20_000..20_200 {
        let mut hostile = desired(number, FilterMode::On, 500);
        hostile.canary.hosts = hosts.iter().map(|host| format!("{number}{host}")).collect();
        gateway.publisher.set_desired(hostile);
    }
    gateway.settle();
    assert!(gateway.largest < 1 << 20, "{}", gateway.largest);
    assert!((0..500).all(|number| gateway.weight(number) == Some(500)), "nobody else is left out");
    for (reason, text) in gateway.publisher.left_out().values() {
        assert!(*reason == "GatewayFull" && text.contains("bytes"), "{text}");
    }
    // Every rollback has its place, all of them at once too.
    for number in 0..500 {
        gateway.publisher.set_desired(desired(number, FilterMode::On, 0));
        if number == 0 {
            gateway.settle();
            assert_eq!((gateway.weight(0), gateway.weight(1)), (Some(0), Some(500)));
        }
    }
    gateway.settle();
    assert!((0..500).all(|number| gateway.weight(number) == Some(0)) && gateway.largest < 1 << 20);
}

/// Canaries of the scripted cluster, how many of them are released at once, and how many are in a namespace. `WEIR_CROWD=10000,500,1` makes
/// it as large as is promised, for which a release build takes minutes.
fn crowd() -> [usize; 3] {
    let text = std::env::var("WEIR_CROWD").unwrap_or_default();
    let numbers: Vec<usize> = text.split(',').filter_map(|number| number.parse().ok()).collect();
    numbers.try_into().unwrap_or([30, 3, 3])
}

/// A target of a crowd.
fn target(number: usize, each: usize, version: &str) -> Value {
    let name = format!("shop-{}", number % each);
    of_team(number / each, deployment(&name, &[("app", &name)], version))
}

fn of_team(team: usize, mut object: Value) -> Value {
    object["metadata"]["namespace"] = format!("team-{team}").into();
    object
}

/// Time of the processor that this process has had so far.
fn processor() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks: u64 = fields[11..13].iter().filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// Waits until every Canary is as asked.
async fn until_all(server: &ApiServer, what: &str, so: impl Fn(&Value) -> bool) {
    for _ in 0..1_000 {
        let canaries = server.all("canaries");
        if canaries.iter().all(&so) {
            return;
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    panic!("{what}: {:#}", server.all("canaries").iter().find(|canary| !so(canary)).unwrap()["status"]);
}

/// Returns the Canaries that the gateway's configuration names.
fn named(server: &ApiServer) -> usize {
    let configuration = "/spec/configPatches/0/patch/value/typed_config/config/configuration/value";
    let filters = server.all("envoyfilters");
    let texts = filters.iter().filter_map(|filter| filter.pointer(configuration)?.as_str());
    texts.map(|text| serde_json::from_str::<weir_wire::Config>(text).unwrap().canaries.len()).sum()
}

fn memory(line: &str) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find(|found| found.starts_with(line)).unwrap_or_default().to_owned()
}

#[tokio::test(start_paused = true)]
async fn canaries_at_rest_are_in_no_configuration_and_cost_no_write_and_those_under_way_fit() {
    let [all, few, each] = crowd();
    let server = ApiServer::default();
    server.apply("flux", &gateway(json!({"istio": "ingressgateway"}), &["*"]));
    for number in 0..all {
        let host = format!("shop-{number}.example.com");
        let service = json!({"gateways": ["istio-ingress/public"], "hosts": [host]});
        server.apply("flux", &target(number, each, "v1"));
        server.apply("flux", &of_team(number / each, canary(&format!("shop-{}", number % each), service)));
    }
    let stage = Stage::start(&server);
    until_all(&server, "is initialized", |canary| canary["status"]["phase"] == "Initialized").await;
    stage.rest().await;
    let server = stage.kill();
    // Another controller finds everything as it should be, and a gateway that serves.
    serving(&server, "istio-ingress", "edge");
    let stage = Stage::start(&server);
    stage.rest().await;
    let before = processor();
    assert_eq!(stage.changed().await, [""; 0], "{all} at rest");
    println!("a minute of {all} Canaries at rest, {each} in a namespace: {:?} of the processor", processor() - before);
    assert_eq!(named(&server), 0, "nothing of them is in the gateway's configuration");
    for number in 0..few {
        server.apply("flux", &target(number, each, "v2"));
    }
    for _ in 0..120 {
        if named(&server) == few {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(named(&server), few);
    let moving = server.all("canaries").iter().filter(|canary| canary["status"]["phase"] == "Progressing").count();
    assert_eq!(moving, few, "nobody else is disturbed");
    for plural in ["envoyfilters", "canaries", "virtualservices", "deployments"] {
        let largest = server.all(plural).iter().map(|object| object.to_string().len()).max().unwrap_or_default();
        assert!(largest < 1 << 20, "{plural}: {largest}");
    }
    println!(
        "{all} Canaries, {few} under way, controller and API server together: {} {}",
        memory("VmRSS"),
        memory("VmHWM")
    );
}

/// Releases one Canary and looks after it for a minute; returns how long a look took.
async fn a_look(edit: impl FnOnce(&mut Value)) -> Duration {
    let server = ApiServer::default();
    server.apply("flux", &gateway(json!({"istio": "ingressgateway"}), &["*"]));
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
    let mut shop = canary("shop", json!({"gateways": ["istio-ingress/public"], "hosts": ["shop.example.com"]}));
    shop["spec"]["analysis"] = json!({"interval": "1h", "threshold": 5, "stepWeight": 5});
    edit(&mut shop["spec"]);
    server.apply("flux", &shop);
    let stage = Stage::start(&server);
    stage.phase("shop", "Initialized").await;
    stage.rest().await;
    serving(&server, "istio-ingress", "edge");
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v2"));
    stage.phase("shop", "Progressing").await;
    stage.rest().await;
    let begun = std::time::Instant::now();
    tokio::time::sleep(Duration::from_secs(60)).await;
    // At least one look in a second.
    let took = begun.elapsed() / 60;
    assert_eq!(stage.status("shop")["phase"], "Progressing", "{:#}", stage.status("shop"));
    took
}

#[tokio::test(start_paused = true)]
async fn a_canary_at_every_limit_is_released_as_an_ordinary_one() {
    let ordinary = a_look(|_| ()).await;
    let test = |i: usize| json!({"regex": format!("^(.*?;)?(type=insider{i})(;.*)?$")});
    let at_limits = a_look(|spec| {
        let each = |n: usize, of: &dyn Fn(usize) -> Value| (0..n).map(of).collect::<Value>();
        spec["service"]["hosts"] = each(64, &|i| format!("{}{i}.example.com", "h".repeat(50)).into());
        spec["service"]["match"] = each(32, &|i| json!({"uri": {"prefix": format!("/{i}")}}));
        let analysis = &mut spec["analysis"];
        analysis["match"] = each(
            16,
            &|i| json!({"headers": {"x-a": test(i), "x-b": {"exact": "b".repeat(500)}}, "cookies": {"a": test(i)}}),
        );
        analysis["webhooks"] =
            each(16, &|i| json!({"name": format!("w{i}"), "type": "rollout", "url": "http://nowhere.test/"}));
        analysis["metrics"] =
            each(16, &|i| json!({"name": format!("m{i}"), "query": "up", "thresholdRange": {"max": 1}}));
        analysis["alerts"] = each(16, &|i| json!({"name": format!("a{i}"), "providerRef": {"name": "chat"}}));
        analysis["sessionAffinity"] = json!({"cookieName": "c".repeat(200), "path": format!("/{}", "p".repeat(200))});
        spec["metricsServer"] = "http://prometheus.test".into();
    })
    .await;
    println!("a look at a Canary in a release: {ordinary:?}, at every limit: {at_limits:?}");
}
