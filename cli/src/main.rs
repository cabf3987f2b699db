//! The `weir` command: one file for each subcommand, arguments in, text or JSON out.

mod alerts;
mod client;
mod completion;
mod controller;
mod crds;
mod dashboard;
mod describe;
mod evidence;
mod get;
mod input;
mod lint;
mod migrate;
mod simulate;
#[cfg(target_os = "linux")]
mod standalone;
mod status;
mod terminal;
mod uninstall;
mod verb;
mod version;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use completion::CompletionArgs;
use controller::ControllerArgs;
use crds::CrdsArgs;
use dashboard::Dashboard;
use describe::{Describe, Which, Why};
use evidence::EvidenceArgs;
use get::Get;
use lint::LintArgs;
use migrate::MigrateArgs;
use simulate::SimulateArgs;
#[cfg(target_os = "linux")]
use standalone::StandaloneArgs;
use status::Status;
use uninstall::UninstallArgs;
use version::VersionArgs;

#[derive(Parser)]
#[command(name = "weir", version, about = "Progressive delivery behind an Istio ingress gateway")]
struct Weir {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(visible_alias = "list")]
    Get(Get),
    Describe(Describe),
    Why(Why),
    Status(Status),
    Dashboard(Dashboard),
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
    Lint(LintArgs),
    Migrate(MigrateArgs),
    #[cfg(target_os = "linux")]
    Standalone(StandaloneArgs),
    Controller(Box<ControllerArgs>),
    Crds(CrdsArgs),
    Uninstall(UninstallArgs),
    Completion(CompletionArgs),
    Version(VersionArgs),
}

#[tokio::main]
async fn main() -> ExitCode {
    if completion::is_asked() {
        return ExitCode::from(u8::from(completion::answer(&Weir::command()).is_err()));
    }
    let done = match Weir::parse().command {
        Command::Get(args) => get::run(args).await,
        Command::Describe(args) => describe::describe(args).await,
        Command::Why(args) => describe::why(args).await,
        Command::Status(args) => status::run(args).await,
        Command::Dashboard(args) => dashboard::run(args).await,
        Command::Pause(which) => verb::run("pause", which).await,
        Command::Resume(which) => verb::run("resume", which).await,
        Command::Promote(which) => verb::run("promote", which).await,
        Command::Abort(which) => verb::run("abort", which).await,
        Command::Retry(which) => verb::run("retry", which).await,
        Command::Evidence(args) => evidence::run(args).map(|()| ExitCode::SUCCESS),
        Command::Simulate(args) => simulate::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Lint(args) => lint::run(&args),
        Command::Migrate(args) => migrate::run(&args),
        #[cfg(target_os = "linux")]
        Command::Standalone(args) => standalone::run(args).await.map(|()| ExitCode::SUCCESS),
        Command::Controller(args) => controller::run(*args).await.map(|()| ExitCode::SUCCESS),
        Command::Crds(args) => crds::run(args).map(|()| ExitCode::SUCCESS),
        Command::Uninstall(args) => uninstall::run(args).await.map(|()| ExitCode::SUCCESS),
        Command::Completion(args) => completion::run(&args, Weir::command()).map(|()| ExitCode::SUCCESS),
        Command::Version(args) => version::run(args).await,
    };
    done.unwrap_or_else(|error| {
        eprintln!("weir: {error:#}");
        ExitCode::from(2)
    })
}
