//! The `weir` command.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use weir::command::controller::{self, ControllerArgs};
use weir::command::crds::{self, CrdsArgs};
use weir::command::describe::{self, Describe, Which, Why};
use weir::command::evidence::{self, EvidenceArgs};
use weir::command::get::{self, Get};
use weir::command::simulate::{self, SimulateArgs};
use weir::command::standalone::{self, StandaloneArgs};
use weir::command::uninstall::{self, UninstallArgs};
use weir::command::verb;

#[derive(Parser)]
#[command(name = "weir", version, about = "Progressive delivery behind an Istio ingress gateway")]
struct Weir {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Get(Get),
    Describe(Describe),
    Why(Why),
    /// Hold a rollout where it is. Evidence still takes a bad canary back.
    Pause(Which),
    /// Go on with a paused rollout.
    Resume(Which),
    /// Promote now, without the checks and gates that are left.
    Promote(Which),
    /// Take the canary back now.
    Abort(Which),
    /// Analyse a revision again that was taken back.
    Retry(Which),
    Evidence(EvidenceArgs),
    Simulate(SimulateArgs),
    Standalone(StandaloneArgs),
    Controller(ControllerArgs),
    Crds(CrdsArgs),
    Uninstall(UninstallArgs),
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Weir::parse().command {
        Command::Get(args) => get::run(args).await,
        Command::Describe(args) => describe::describe(args).await,
        Command::Why(args) => describe::why(args).await,
        Command::Pause(which) => verb::run("pause", which).await,
        Command::Resume(which) => verb::run("resume", which).await,
        Command::Promote(which) => verb::run("promote", which).await,
        Command::Abort(which) => verb::run("abort", which).await,
        Command::Retry(which) => verb::run("retry", which).await,
        Command::Evidence(args) => evidence::run(args).map(|()| ExitCode::SUCCESS),
        Command::Simulate(args) => simulate::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Standalone(args) => standalone::run(args).await.map(|()| ExitCode::SUCCESS),
        Command::Controller(args) => controller::run(args).await.map(|()| ExitCode::SUCCESS),
        Command::Crds(args) => crds::run(args).map(|()| ExitCode::SUCCESS),
        Command::Uninstall(args) => uninstall::run(args).await.map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        eprintln!("weir: {error:#}");
        ExitCode::from(2)
    })
}
