//! Measures Weir in a real cluster with Istio: what bad canaries cost users behind the real ingress gateway, how long a weight
//! takes to every gateway, what a thousand Canaries cost the cluster, and what the filter costs beside Istio's own configuration.
//!
//! It runs where the cluster's processes are visible (`tests/cluster/in`, or the node itself), since memory and processor time
//! are read from `/proc`. What users saw is what the client saw, never what Weir says that it counted.
//!
//! `bench-cluster [PART…] [--rounds N] [--pushes N] [--canaries N]`; without a part all of them. `make bench-cluster` starts a cluster.

#[path = "cluster/agent.rs"]
mod agent;
#[path = "cluster/api.rs"]
mod api;
#[allow(dead_code, reason = "shared with the other measurements")]
mod ask;
#[path = "../bounds.rs"]
mod bounds;
#[path = "cluster/callers.rs"]
mod callers;
mod cost;
#[path = "cluster/costs.rs"]
mod costs;
#[path = "cluster/fifty.rs"]
mod fifty;
mod figures;
#[path = "../kubernetes/fleet.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod fleet;
#[path = "cluster/gateways.rs"]
mod gateways;
#[path = "cluster/harm.rs"]
mod harm;
#[path = "cluster/istiod.rs"]
mod istiod;
#[path = "../kubernetes/kubectl.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod kubectl;
#[path = "cluster/mesh.rs"]
mod mesh;
#[path = "cluster/process.rs"]
mod process;
#[path = "cluster/pushes.rs"]
mod pushes;
mod requests;
#[path = "cluster/rest.rs"]
mod rest;
#[path = "../kubernetes/stage.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod stage;
#[path = "../kubernetes/turn.rs"]
mod turn;
#[path = "cluster/watch.rs"]
mod watch;

use std::process::ExitCode;

/// Every part, in the order in which they are measured.
const PARTS: [&str; 6] = ["harm", "pushes", "gateway", "mesh", "fifty", "rest"];

/// What is measured, and how often.
struct Arguments {
    parts: Vec<String>,
    rounds: usize,
    pushes: usize,
    canaries: usize,
}

impl Arguments {
    fn read() -> Result<Self, String> {
        let mut read = Self { parts: Vec::new(), rounds: 10, pushes: 50, canaries: 1000 };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            if PARTS.contains(&argument.as_str()) {
                read.parts.push(argument);
                continue;
            }
            let number = match argument.as_str() {
                "--rounds" => &mut read.rounds,
                "--pushes" => &mut read.pushes,
                "--canaries" => &mut read.canaries,
                _ => return Err(format!("{argument} is not known; parts are {}", PARTS.join(", "))),
            };
            let value = arguments.next().ok_or(format!("{argument} needs a number"))?;
            *number = value.parse().map_err(|error| format!("{argument}: {error}"))?;
        }
        if read.parts.is_empty() {
            read.parts = PARTS.map(str::to_owned).to_vec();
        }
        Ok(read)
    }
}

/// More threads than the machine has processors: `kubectl` is waited for in some of them.
#[tokio::main(worker_threads = 4)]
async fn main() -> ExitCode {
    let arguments = match Arguments::read() {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("bench-cluster: {problem}");
            return ExitCode::FAILURE;
        }
    };
    for part in &arguments.parts {
        eprintln!("bench-cluster: {part}");
        match part.as_str() {
            "harm" => harm::measure(arguments.rounds).await,
            "pushes" => pushes::measure(arguments.pushes).await,
            "gateway" => costs::measure(arguments.rounds * 6).await,
            "mesh" => mesh::measure(arguments.rounds, arguments.pushes).await,
            "fifty" => fifty::measure().await,
            _ => rest::measure(arguments.canaries).await,
        }
    }
    ExitCode::SUCCESS
}
