//! `weir status NAME --timeout 10m`: waits for the end of a release, for a script.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::time::{Instant, sleep};

use crate::client::Api;
use crate::describe::{Which, namespace};
use crate::terminal::{self, Style};
use weir_controller::api::parse_duration;
use weir_controller::view::why::{Standing, headline};
use weir_engine::Span;

/// A change is seen after so long; more often would be noise for the API.
const PAUSE: Duration = Duration::from_secs(1);

/// Wait until a release has ended, and say how.
///
/// Exit status: 0 promoted or serving, 1 taken back, 2 still under way when the time is over, or an error.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Example: kubectl weir status shop -n prod --timeout 15m")]
pub(crate) struct Status {
    #[command(flatten)]
    which: Which,
    /// How long to wait, for instance 10m. Without it the answer is given at once
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "0s")]
    timeout: Span,
    #[command(flatten)]
    style: Style,
}

/// Runs the command.
///
/// # Errors
/// When the server cannot be asked, or does not know the Canary.
pub(crate) async fn run(args: Status) -> anyhow::Result<ExitCode> {
    let api = Api::reach(&args.which.server).await?;
    let namespace = namespace(&args.which, &api).await?;
    let end = Instant::now() + Duration::from_millis(args.timeout.0);
    let mut last = String::new();
    loop {
        let detail = api.detail(&namespace, &args.which.name).await?;
        let line = headline(&detail.view, terminal::now(), args.style.paint());
        if line != last {
            terminal::print(&format!("{line}\n"))?;
        }
        last = line;
        let standing = Standing::of(&detail.view);
        if standing != Standing::Undecided || Instant::now() >= end {
            return Ok(ExitCode::from(standing.code()));
        }
        sleep(PAUSE).await;
    }
}
