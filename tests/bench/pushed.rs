//! How long requests take while a gateway takes over a push, of native weights and of Weir's, beside what they take otherwise.
//! Each gateway reads its configuration from a file and has nothing else to do, so the difference is Envoy's and the filter's own.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use weir_demo::load::Load;
use weir_wire::Weight;

use crate::crossings::empty_module;
use crate::envoy::Envoy;
use crate::figures::shares;
use crate::requests::Requests;
use crate::variants::{bootstrap, by_token, delivered, router, switched_on, wasm, with_idle};

/// Requests per second, as many as while pushes are measured in a cluster.
const RATE: f64 = 400.0;
/// A file is taken over within 11 ms; whatever a push delays is delayed by then.
const WINDOW: Duration = Duration::from_millis(60);
/// Time between two windows; odd, so that they fall anywhere between two ticks of the filter.
const PAUSE: Duration = Duration::from_millis(111);
/// Windows of each gateway in a round, half of them with a push.
const WINDOWS: usize = 40;

/// What a push is written as.
#[derive(Clone, Copy)]
enum Push {
    Routes,
    /// A module that does nothing, with another configuration: what any filter of this kind costs.
    Empty,
    Filter {
        others: usize,
    },
}

impl Push {
    /// Returns the file's content for the n-th push.
    fn content(self, number: u64) -> Result<Value, String> {
        let resource = match self {
            Self::Routes => {
                let canary = 10 + number % 2;
                let clusters =
                    json!([{"name": "primary", "weight": 100 - canary}, {"name": "canary", "weight": canary}]);
                let route = json!({"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": clusters}}});
                let host = json!({"name": "shop", "domains": ["*"], "routes": [route]});
                json!({"@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
                    "name": "routes", "virtual_hosts": [host]})
            }
            Self::Empty => discovered(&wasm(&empty_module(), &number.to_string())),
            Self::Filter { others } => {
                let mut config = with_idle(others);
                config.generation += number;
                config.canaries[0].epoch += number;
                config.canaries[0].weight = Weight::new(1_000 + 100 * (number as u32 % 2)).unwrap_or_default();
                discovered(&delivered(&config)?)
            }
        };
        Ok(json!({"resources": [resource]}))
    }

    /// Returns a gateway that reads the file.
    fn gateway(self, file: &Path, upstream: u16) -> Value {
        let source = json!({"path_config_source": {"path": file}, "resource_api_version": "V3"});
        let discovered = json!({"name": "weir", "config_discovery": {"config_source": source,
            "type_urls": ["type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"]}});
        match self {
            Self::Empty | Self::Filter { .. } => bootstrap(&json!([discovered, router()]), &switched_on(), upstream),
            Self::Routes => {
                let mut gateway = bootstrap(&json!([router()]), &by_token(), upstream);
                let listener = &mut gateway["static_resources"]["listeners"][0];
                let manager = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
                manager["route_config"] = Value::Null;
                manager["rds"] = json!({"config_source": source, "route_config_name": "routes"});
                if let Some(fields) = manager.as_object_mut() {
                    fields.remove("route_config");
                }
                gateway
            }
        }
    }
}

/// Returns a filter as a resource of its own.
fn discovered(filter: &Value) -> Value {
    json!({"@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "name": filter["name"], "typed_config": filter["typed_config"]})
}

/// A gateway, its file, and what its requests took.
struct Pushed {
    name: &'static str,
    push: Push,
    file: PathBuf,
    gateway: Envoy,
    number: u64,
    quiet: Vec<f64>,
    pushed: Vec<f64>,
}

impl Pushed {
    fn write(&mut self) -> Result<(), String> {
        self.number += 1;
        write(&self.file, &self.push.content(self.number)?)
    }

    /// Returns the milliseconds that a push costs the main thread and the worker while nobody asks for anything.
    fn alone(&mut self) -> Result<[f64; 2], String> {
        const THREADS: [&str; 2] = ["envoy", "wrk:"];
        let ran = |gateway: &Envoy| -> Result<Vec<u64>, String> {
            THREADS.into_iter().map(|name| gateway.threads_cpu_ns(name)).collect()
        };
        let before = ran(&self.gateway)?;
        for _ in 0..WINDOWS {
            self.write()?;
            std::thread::sleep(WINDOW);
        }
        let after = ran(&self.gateway)?;
        Ok([0, 1].map(|at| (after[at] - before[at]) as f64 / 1e6 / WINDOWS as f64))
    }

    /// Looks at windows that begin with a push and at windows that do not, in turn.
    fn round(&mut self) -> Result<(), String> {
        let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let host = ("host".parse().map_err(|it| text(&it))?, "shop.example.com".parse().map_err(|it| text(&it))?);
        let url = format!("http://127.0.0.1:{}/", self.gateway.port).parse().map_err(|it| text(&it))?;
        let load = Load { url, rate: RATE, headers: vec![host], timeout_ms: 5_000, ..Load::default() };
        let requests = {
            let _clients = runtime.enter();
            Requests::start(&load)
        };
        let mut windows = Vec::new();
        // The first one is not counted: connections are made.
        for window in 0..=WINDOWS {
            std::thread::sleep(PAUSE);
            let (from, pushed) = (Instant::now(), window % 2 == 1);
            if pushed {
                self.write()?;
            }
            std::thread::sleep(WINDOW);
            if window > 0 {
                windows.push((from, Instant::now(), pushed));
            }
        }
        for end in runtime.block_on(requests.finish()) {
            if let Some((.., pushed)) = windows.iter().find(|(from, to, _)| end.was_under_way(*from, *to)) {
                let list = if *pushed { &mut self.pushed } else { &mut self.quiet };
                list.push(end.took.as_secs_f64() * 1000.0);
            }
        }
        Ok(())
    }
}

/// Measures all gateways in turn and prints the table.
pub(crate) fn run(upstream: u16, rounds: usize) -> Result<(), String> {
    let folder = TempDir::new().map_err(|error| format!("make a folder: {error}"))?;
    let mut list = Vec::new();
    let variants = [
        ("native weights", Push::Routes),
        ("a module that does nothing", Push::Empty),
        ("Weir, 1 canary", Push::Filter { others: 0 }),
        ("Weir, 1,000 canaries, 1 of them in a release", Push::Filter { others: 999 }),
    ];
    for (number, (name, push)) in variants.into_iter().enumerate() {
        let file = folder.path().join(format!("{number}.json"));
        write(&file, &push.content(0)?)?;
        let gateway = Envoy::start(name, &push.gateway(&file, upstream))?;
        list.push(Pushed { name, push, file, gateway, number: 0, quiet: Vec::new(), pushed: Vec::new() });
    }
    for round in 1..=rounds {
        for pushed in &mut list {
            pushed.round()?;
        }
        eprintln!("round {round}/{rounds}");
    }
    println!("| a push of | main thread, ms | worker, ms |\n|---|---|---|");
    for pushed in &mut list {
        let [main, worker] = pushed.alone()?;
        println!("| {} | {main:.2} | {worker:.2} |", pushed.name);
    }
    println!("\nProcessor time, mean of {WINDOWS} pushes without requests.\n");
    println!(
        "| pushes of | requests while nothing happens: p50 / p99 / p99.9 / maximum, ms | requests during a push | number of these |"
    );
    println!("|---|---|---|---|");
    for Pushed { name, quiet, pushed, .. } in &list {
        println!("| {name} | {} | {} | {} |", shares(quiet), shares(pushed), pushed.len());
    }
    println!(
        "\n{} pushes each, {RATE} requests per second, one worker, nothing but the gateway, its server and the client.",
        rounds * WINDOWS / 2
    );
    Ok(())
}

/// Replaces a file as Envoy watches for it: by a rename.
fn write(file: &Path, content: &Value) -> Result<(), String> {
    let new = file.with_extension("new");
    let written = std::fs::write(&new, content.to_string()).and_then(|()| std::fs::rename(&new, file));
    written.map_err(|error| format!("write {}: {error}", file.display()))
}
