//! `weir describe canary NAME` and `weir why NAME`: one Canary, at length and to the point.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::client::{Api, Server};
use crate::terminal::{self, Style};
use weir_controller::view::{CanaryDetail, story, why};

/// Which Canary.
#[derive(Args, Clone, Debug)]
pub(crate) struct Which {
    /// Its name.
    pub(crate) name: String,
    /// Its namespace. Default: the only one that has a Canary of this name.
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
    /// Where to ask.
    #[command(flatten)]
    pub(crate) server: Server,
}

/// Tell all that is known of a Canary, and its story in events.
#[derive(Args, Clone, Debug)]
pub(crate) struct Describe {
    /// What to describe.
    #[arg(value_enum)]
    kind: Kind,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    style: Style,
}

/// Say why a Canary stands as it does, and what to do next.
///
/// Exit status: 0 promoted or serving, 1 taken back, 2 under way or unknown.
#[derive(Args, Clone, Debug)]
pub(crate) struct Why {
    #[command(flatten)]
    which: Which,
    /// Write JSON.
    #[arg(short, long, value_enum)]
    output: Option<Output>,
    #[command(flatten)]
    style: Style,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Canary,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Json,
}

/// Tells all that is known of a Canary.
///
/// # Errors
/// When the server cannot be asked, or does not know it.
pub(crate) async fn describe(args: Describe) -> anyhow::Result<ExitCode> {
    let detail = detail(&args.which).await?;
    terminal::print(&story::story(&detail, terminal::now(), args.style.paint()))?;
    Ok(ExitCode::SUCCESS)
}

/// Says why a Canary stands as it does.
///
/// # Errors
/// When the server cannot be asked, or does not know it.
pub(crate) async fn why(args: Why) -> anyhow::Result<ExitCode> {
    let detail = detail(&args.which).await?;
    terminal::print(&match args.output {
        Some(Output::Json) => serde_json::to_string_pretty(&detail)? + "\n",
        None => why::why(&detail, terminal::now(), args.style.paint()),
    })?;
    Ok(ExitCode::from(why::Standing::of(&detail.view).code()))
}

async fn detail(which: &Which) -> anyhow::Result<CanaryDetail> {
    let api = Api::reach(&which.server).await?;
    let namespace = namespace(which, &api).await?;
    api.detail(&namespace, &which.name).await
}

/// Returns the namespace of a Canary.
///
/// # Errors
/// When no namespace or several have a Canary of this name.
pub(crate) async fn namespace(which: &Which, api: &Api) -> anyhow::Result<String> {
    if let Some(namespace) = &which.namespace {
        return Ok(namespace.clone());
    }
    let list = api.list(None).await?;
    let mut namespaces: Vec<String> =
        list.items.into_iter().filter(|view| view.name == which.name).map(|view| view.namespace).collect();
    match (namespaces.pop(), namespaces.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(_), false) => anyhow::bail!("several namespaces have a Canary {}: name one with -n", which.name),
        (None, _) => anyhow::bail!("no Canary {} is known there; see `{} get canaries`", which.name, api.program()),
    }
}
