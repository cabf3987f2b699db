//! `weir get canaries`: how every Canary stands, once or as it changes; `weir get NAME`: one as a tree.

use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::client::{Api, Server};
use crate::describe::{Which, namespace};
use crate::terminal::{self, Style};
use weir_controller::view::{CanaryList, live, paint, table, tree};

/// Time between two looks while watching: a person sees no faster.
const LOOK: Duration = Duration::from_millis(500);
/// Time between two looks at a tree, for which the API server is asked for pods.
const LOOK_AT_PODS: Duration = Duration::from_secs(1);

/// Show how Canaries stand.
#[derive(Args, Clone, Debug)]
pub(crate) struct Get {
    /// What to show: `canaries`, one line each, or the name of one, as a tree of what runs.
    #[arg(value_name = "canaries|NAME", default_value = "canaries")]
    what: String,
    /// Of `canaries`, only this one.
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
enum Output {
    Table,
    Wide,
    Json,
}

/// Shows them.
///
/// # Errors
/// When the server cannot be asked.
pub(crate) async fn run(args: Get) -> anyhow::Result<ExitCode> {
    let api = Api::reach(&args.server).await?;
    let mut args = args;
    if !["canaries", "canary"].contains(&args.what.as_str()) {
        if args.output == Output::Table && (!args.watch || terminal::is_terminal()) {
            return one(&args, &api).await;
        }
        // On a pipe one of them is told as all are.
        args.name = Some(args.what.clone());
    }
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
    let mut list: CanaryList = api.list(args.namespace.as_deref()).await?;
    list.items.retain(|view| {
        args.namespace.as_ref().is_none_or(|wanted| *wanted == view.namespace)
            && args.name.as_ref().is_none_or(|wanted| *wanted == view.name)
    });
    Ok(list)
}

/// Shows one Canary as a tree, once or as it changes.
async fn one(args: &Get, api: &Api) -> anyhow::Result<ExitCode> {
    let (name, server) = (args.what.clone(), args.server.clone());
    let which = Which { name, namespace: args.namespace.clone(), server };
    let namespace = namespace(&which, api).await?;
    let look = async || -> anyhow::Result<String> {
        let detail = api.detail(&namespace, &which.name).await?;
        let workloads = api.workloads(&namespace, &which.name).await?;
        let (now, paint) = (terminal::now(), args.style.paint());
        Ok(if args.watch {
            tree::fitted(&detail, &workloads, now, paint, room())
        } else {
            tree::tree(&detail, &workloads, now, paint)
        })
    };
    if !args.watch {
        terminal::print(&look().await?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut ended = pin!(tokio::signal::ctrl_c());
    let Some(first) = unless(ended.as_mut(), look()).await else { return Ok(ExitCode::SUCCESS) };
    let mut screen = first?;
    let (mut drawn, mut silent) = (0, None);
    loop {
        if !terminal::print(&redraw(&screen, silent.as_deref(), &mut drawn, args.style))? {
            return Ok(ExitCode::SUCCESS);
        }
        let next = async {
            tokio::time::sleep(LOOK_AT_PODS).await;
            look().await
        };
        let Some(next) = unless(ended.as_mut(), next).await else { return Ok(ExitCode::SUCCESS) };
        (screen, silent) = match next {
            Ok(seen) => (seen, None),
            Err(error) => (screen, Some(error.to_string())),
        };
    }
}

/// Returns what comes of something; nothing where a person ends it first. One future hears him from the beginning: a signal that comes
/// while nobody waits for it is lost.
async fn unless<T>(ended: Pin<&mut impl Future>, what: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        _ = ended => None,
        done = what => Some(done),
    }
}

/// Watches until the person has seen enough. A server that was there once may come back: Weir is being restarted.
async fn watch(args: &Get, api: &Api) -> anyhow::Result<()> {
    let live = terminal::is_terminal() && args.output != Output::Json;
    let mut told = BTreeMap::new();
    let mut drawn = 0;
    let mut ended = pin!(tokio::signal::ctrl_c());
    let Some(first) = unless(ended.as_mut(), ask(args, api)).await else { return Ok(()) };
    let mut list = first?;
    let mut silent: Option<String> = None;
    loop {
        let text = if live {
            let screen = live::screen(&list, terminal::now(), args.style.paint());
            redraw(&screen, silent.as_deref(), &mut drawn, args.style)
        } else {
            changes(&list, &mut told, args.output)?
        };
        if !terminal::print(&text)? {
            return Ok(());
        }
        let next = async {
            tokio::time::sleep(LOOK).await;
            ask(args, api).await
        };
        let Some(next) = unless(ended.as_mut(), next).await else { return Ok(()) };
        silent = match next {
            Ok(seen) => {
                list = seen;
                None
            }
            Err(error) => {
                if !live && silent.is_none() {
                    eprintln!("weir: {error:#}; trying again");
                }
                Some(error.to_string())
            }
        };
    }
}

/// Returns what draws the screen again over itself.
fn redraw(screen: &str, silent: Option<&str>, drawn: &mut usize, style: Style) -> String {
    let paint = style.paint();
    let mut lines: Vec<String> = screen.lines().map(str::to_owned).collect();
    // What has scrolled out of the terminal cannot be drawn again, so no more is drawn than fits.
    let room = room();
    if lines.len() > room {
        let more = format!("… and {} more lines: make the window higher, or ask without --watch", lines.len() - room);
        lines.truncate(room);
        lines.push(paint.text(paint::Tone::Faint, &more));
    }
    if let Some(error) = silent {
        lines.push(paint.text(paint::Tone::Bad, &paint::fit(error, paint.column())));
    }
    let up = match *drawn {
        0 => String::new(),
        lines => format!("\x1b[{lines}A"),
    };
    *drawn = lines.len();
    // Each line clears what was there, and the rest of the screen is cleared last: no flicker. Lines are not folded
    // meanwhile: a folded one would count as two.
    let lines: String = lines.iter().map(|line| format!("{line}\x1b[K\n")).collect();
    format!("{up}\x1b[?7l{lines}\x1b[?7h\x1b[J")
}

/// Returns the lines that can be drawn over.
fn room() -> usize {
    terminal::height().saturating_sub(3).max(1)
}

type Told = BTreeMap<(String, String), String>;

/// Returns a line for each Canary whose phase, weight or reason is not what was told last, and for each that is gone.
fn changes(list: &CanaryList, told: &mut Told, output: Output) -> anyhow::Result<String> {
    let mut text = String::new();
    for view in &list.items {
        let key = (view.namespace.clone(), view.name.clone());
        let standing = format!("{} {} {}", paint::word(view), paint::percent(view.weight), view.reason);
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
    told.retain(|(namespace, name), _| {
        let stays = list.items.iter().any(|view| view.namespace == *namespace && view.name == *name);
        if !stays {
            text += &match output {
                Output::Json => serde_json::json!({"namespace": namespace, "name": name, "gone": true}).to_string(),
                _ => table::gone(namespace, name, terminal::now()),
            };
            text.push('\n');
        }
        stays
    });
    Ok(text)
}
