//! Measures what the filter costs the gateway: CPU time of the Envoy process for each request, as ratios.
//!
//! All variants run side by side, one worker each, and are measured in turn: whatever else the machine does slows neighbours
//! alike. A round is long enough that what the others left in the caches is forgotten, which a module would pay more for. Its
//! figure is the process's run time, from the kernel's scheduler and in nanoseconds, over the requests that were answered;
//! what is compared is its ratio to the base of the same round.
//!
//! `cargo run -p weir-tests --release --features bench --bin bench-gateway -- [split|calls|ladder|pushes|limits] [--protocol http1|http2|tls]
//! [--rounds N] [--requests N] [--only NAME]… [--against MODULE]`

mod cost;
mod crossings;
mod envoy;
#[allow(dead_code, reason = "shared with the other measurements")]
mod figures;
mod limits;
mod load;
mod protocol;
mod pushed;
#[allow(dead_code, reason = "shared with the other measurements")]
mod requests;
mod variants;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use cost::error_of_median;
use envoy::Envoy;
use load::Load;
use protocol::Protocol;
use variants::Variant;

/// Requests before the first round.
const WARM_UP: usize = 10_000;

struct Arguments {
    suite: String,
    protocol: Protocol,
    rounds: usize,
    requests: usize,
    only: Vec<String>,
    /// Another build of the module, measured beside this one.
    against: Option<PathBuf>,
}

impl Arguments {
    fn read() -> Result<Self, String> {
        let mut read = Self {
            suite: "split".into(),
            protocol: Protocol::Http1,
            rounds: 30,
            requests: 4_000,
            only: Vec::new(),
            against: None,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "split" | "calls" | "ladder" | "pushes" | "limits" => read.suite = argument,
                "--protocol" => read.protocol = Protocol::of(&value()?)?,
                "--rounds" => read.rounds = value()?.parse().map_err(|error| format!("--rounds: {error}"))?,
                "--requests" => read.requests = value()?.parse().map_err(|error| format!("--requests: {error}"))?,
                "--against" => read.against = Some(value()?.into()),
                "--only" => read.only.push(value()?),
                _ => {
                    return Err(format!(
                        "{argument} is not known: [split|calls|ladder|pushes|limits] [--protocol http1|http2|tls] [--rounds N] [--requests N] [--only NAME]… [--against MODULE]"
                    ));
                }
            }
        }
        Ok(read)
    }
}

fn main() -> ExitCode {
    match Arguments::read().and_then(|arguments| run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("bench-gateway: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let upstream = Envoy::start("upstream", &variants::upstream())?;
    if arguments.suite == "limits" {
        return limits::run(upstream.port, arguments.rounds, arguments.requests);
    }
    if arguments.suite == "pushes" {
        return pushed::run(upstream.port, arguments.rounds);
    }
    let mut list = match arguments.suite.as_str() {
        "calls" => crossings::calls(upstream.port),
        "ladder" => crossings::ladder(upstream.port)?,
        _ => variants::split(upstream.port, arguments.against.as_deref())?,
    };
    let base = list[0].name.clone();
    list.retain(|variant| variant.name == base || arguments.only.is_empty() || arguments.only.contains(&variant.name));
    let (mut gateways, mut fronts) = (Vec::new(), Vec::new());
    for variant in &mut list {
        eprintln!("starting {}", variant.name);
        arguments.protocol.serve(&mut variant.bootstrap)?;
        let gateway = Envoy::start(&variant.name, &variant.bootstrap)?;
        let front = arguments.protocol.front(gateway.port);
        fronts.push(front.map(|front| Envoy::start("clients", &front)).transpose()?);
        gateways.push(gateway);
    }
    let mut loads = Vec::new();
    for (gateway, front) in gateways.iter().zip(&fronts) {
        let mut load = Load::connect(front.as_ref().unwrap_or(gateway).port)?;
        // V8 compiles what it sees often; that is over by then.
        load.run(WARM_UP)?;
        loads.push(load);
    }
    let mut rounds: Vec<BTreeMap<String, f64>> = Vec::new();
    for round in 0..arguments.rounds {
        let mut costs = BTreeMap::new();
        for turn in 0..list.len() {
            // Another one begins each round, so that none is always measured after the same one.
            let at = (turn + round) % list.len();
            let before = gateways[at].cpu_ns()?;
            let answered = loads[at].run(arguments.requests)?;
            costs.insert(list[at].name.clone(), (gateways[at].cpu_ns()? - before) as f64 / answered as f64 / 1_000.0);
        }
        if (round + 1) % 20 == 0 {
            eprintln!("round {}/{}: {:.2} us for {base}", round + 1, arguments.rounds, costs[&base]);
        }
        rounds.push(costs);
    }
    let memory: Result<Vec<f64>, String> = gateways.iter().map(Envoy::memory_mib).collect();
    print(&list, &base, &rounds, &memory?);
    Ok(())
}

fn print(list: &[Variant], base: &str, rounds: &[BTreeMap<String, f64>], memory: &[f64]) {
    println!(
        "| variant | us per request, median | ratio to {base}: median | quartiles | error of the median | memory, MiB |"
    );
    println!("|---|---|---|---|---|---|");
    for (Variant { name, calls, .. }, memory) in list.iter().zip(memory) {
        let costs = sorted(rounds.iter().map(|round| round[name]));
        let ratios = sorted(rounds.iter().map(|round| round[name] / round[base]));
        let quartile = |quarter: usize| ratios[(ratios.len() - 1) * quarter / 4];
        let (from, to) = (quartile(1), quartile(3));
        let error = error_of_median(from, to, ratios.len());
        let cost = costs[costs.len() / 2];
        print!("| {name} | {cost:.2} | {:.3} | {from:.3}–{to:.3} | {error:.3} | {memory:.0} |", quartile(2));
        if *calls > 0 {
            let each = sorted(rounds.iter().map(|round| (round[name] - round[base]) / f64::from(*calls)));
            print!(" {:.3} us each |", each[each.len() / 2]);
        }
        println!();
    }
}

fn sorted(numbers: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    numbers
}
