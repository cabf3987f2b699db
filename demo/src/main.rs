//! `weir-demo`: the demonstration's service and its traffic.

use clap::{Parser, Subcommand};
use weir_demo::{load::Load, serve::Serve};

#[derive(Parser)]
#[command(about = "The demonstration's service and its traffic")]
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
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Serve(serve) => serve.run().await,
        Command::Load(load) => load.run().await,
    }
}
