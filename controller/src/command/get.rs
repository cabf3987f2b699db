//! `weir get canaries`: how every Canary stands, once or as it changes.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::client::{Api, Server};
use super::terminal::{self, Style};
use crate::view::{CanaryList, live, paint, table};

/// Time between two looks while watching: a person sees no faster.
const LOOK: Duration = Duration::from_millis(500);

/// Show how Canaries stand.
#[derive(Args, Clone, Debug)]
pub struct Get {
    /// What to show.
    #[arg(value_enum)]
    kind: Kind,
    /// Only this one.
    name: Option<String>,
    /// Only those of this namespace. Default: all.
    #[arg(short, long)]
    namespace: Option<String>,
    /// Go on showing: drawn in place on a terminal, a line per change on a pipe.
    #[arg(short, long)]
    watch: bool,
    /// How to write it.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    style: Style,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    #[value(alias = "canary")]
    Canaries,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Table,
    Wide,
    Json,
}

/// Shows them.
///
/// # Errors
/// When the server cannot be asked.
pub async fn run(args: Get) -> anyhow::Result<ExitCode> {
    let api = Api::new(&args.server);
    if args.watch {
        watch(&args, &api).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let list = ask(&args, &api).await?;
    let missing = args.name.is_some() && list.items.is_empty();
    let text = match args.output {
        _ if missing => anyhow::bail!("no Canary {} is known there", args.name.unwrap_or_default()),
        Output::Json => serde_json::to_string_pretty(&list)? + "\n",
        _ if list == CanaryList::default() => "no Canaries yet\n".to_owned(),
        output => table::table(&list, terminal::now(), output == Output::Wide, args.style.paint()),
    };
    terminal::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

async fn ask(args: &Get, api: &Api) -> anyhow::Result<CanaryList> {
    let mut list: CanaryList = api.get("/api/v1/canaries").await?;
    list.items.retain(|view| {
        args.namespace.as_ref().is_none_or(|wanted| *wanted == view.namespace)
            && args.name.as_ref().is_none_or(|wanted| *wanted == view.name)
    });
    Ok(list)
}

/// Watches until the person has seen enough, or the server is gone.
async fn watch(args: &Get, api: &Api) -> anyhow::Result<()> {
    let live = terminal::is_terminal() && args.output != Output::Json;
    let mut told = BTreeMap::new();
    let mut drawn = 0;
    loop {
        let list = ask(args, api).await?;
        let text = if live { redraw(&list, &mut drawn, args.style) } else { changes(&list, &mut told, args.output)? };
        if !terminal::print(&text)? {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

/// Returns what draws the screen again over itself.
fn redraw(list: &CanaryList, drawn: &mut usize, style: Style) -> String {
    let screen = live::screen(list, terminal::now(), style.paint());
    let up = match *drawn {
        0 => String::new(),
        lines => format!("\x1b[{lines}A"),
    };
    *drawn = screen.lines().count();
    // Each line clears what was there, and the rest of the screen is cleared last: no flicker.
    let lines: String = screen.lines().map(|line| format!("{line}\x1b[K\n")).collect();
    format!("{up}{lines}\x1b[J")
}

type Told = BTreeMap<(String, String), String>;

/// Returns a line for each Canary whose phase, weight or reason is not what was told last.
fn changes(list: &CanaryList, told: &mut Told, output: Output) -> anyhow::Result<String> {
    let mut text = String::new();
    for view in &list.items {
        let key = (view.namespace.clone(), view.name.clone());
        let standing = format!("{:?} {} {}", view.phase, paint::percent(view.weight), view.reason);
        if told.get(&key) == Some(&standing) {
            continue;
        }
        told.insert(key, standing);
        text += &match output {
            Output::Json => serde_json::to_string(view)?,
            _ => table::change(view, terminal::now()),
        };
        text.push('\n');
    }
    told.retain(|(namespace, name), _| list.items.iter().any(|v| v.namespace == *namespace && v.name == *name));
    Ok(text)
}
