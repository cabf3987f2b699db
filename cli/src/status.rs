//! `weir status NAME --timeout 10m`: waits for the end of a release, for a script.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::time::{Instant, sleep};

use crate::client::Api;
use crate::describe::{Which, namespace};
use crate::terminal::{self, Style};
use weir_controller::api::parse_duration;
use weir_controller::view::CanaryView;
use weir_controller::view::why::{Standing, headline};
use weir_engine::Span;

/// A change is seen after so long; more often would be noise for the API.
const PAUSE: Duration = Duration::from_secs(1);

/// Wait until a release has ended, and say how.
///
/// A look that fails is told on standard error, and made again until the time is over.
///
/// Exit status: 0 promoted or serving, 1 taken back, 2 still under way when the time is over, an object that cannot work, or an error.
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
    let end = Instant::now() + Duration::from_millis(args.timeout.0);
    let (mut last, mut failed) = (String::new(), String::new());
    loop {
        let over = Instant::now() >= end;
        match look(&args.which, &api).await {
            Ok(view) => {
                let line = headline(&view, terminal::now(), args.style.paint());
                if line != last {
                    terminal::print(&format!("{line}\n"))?;
                }
                last = line;
                let standing = Standing::of(&view);
                if standing != Standing::Undecided || over {
                    return Ok(ExitCode::from(standing.code()));
                }
            }
            Err(error) if over => return Err(error),
            // A Weir that is started again, or a Canary that is applied a moment later.
            Err(error) => {
                let error = format!("{error:#}");
                if error != failed {
                    eprintln!("weir: {error}; looks again");
                }
                failed = error;
            }
        }
        sleep(PAUSE).await;
    }
}

async fn look(which: &Which, api: &Api) -> anyhow::Result<CanaryView> {
    let namespace = namespace(which, api).await?;
    Ok(api.detail(&namespace, &which.name).await?.view)
}
