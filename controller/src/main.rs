//! The `weir` command.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use weir::command::evidence::{self, EvidenceArgs};

#[derive(Parser)]
#[command(name = "weir", version, about = "Progressive delivery behind an Istio ingress gateway")]
struct Weir {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Evidence(EvidenceArgs),
}

fn main() -> ExitCode {
    let done = match Weir::parse().command {
        Command::Evidence(args) => evidence::run(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir: {error:#}");
            ExitCode::from(2)
        }
    }
}
