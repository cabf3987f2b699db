//! `weir-demo`: the demonstration, its service and its traffic.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use weir_demo::{load::Load, play::Play, serve::Serve};

#[derive(Parser)]
#[command(about = "A demonstration of Weir, its service and its traffic")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve as one revision of the demonstration's service.
    Serve(Serve),
    /// Send requests at a fixed rate and print what came of them, per revision.
    Load(Load),
    /// Play a good and a bad release through a real Envoy, and tell what happens.
    Play(Play),
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Serve(serve) => serve.run().await,
        Command::Load(load) => load.run().await,
        Command::Play(play) => play.run().await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}
