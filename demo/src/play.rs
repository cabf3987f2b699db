//! The demonstration: one good and one bad release of a service, through a real Envoy, told as they happen.
//!
//! ```text
//!  stage (files, `weir standalone`) ──> state, by its API ──┐
//!  load ──> Envoy ──> service ──> tally ────────────────────┴──> transcript
//! ```
//!
//! The requests and failures in the transcript are those that the client saw, not those that Weir says it counted: a
//! demonstration that asks the one it demonstrates would prove little.

mod stage;
mod transcript;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use hyper::header::{HOST, HeaderValue};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use crate::load::{Load, Running};
use stage::{Release, Stage};
use transcript::Transcript;

/// Time between two looks at Weir's state: shorter than any step, so that no line is missed.
const LOOK: Duration = Duration::from_millis(100);

/// A release that takes longer went wrong: four steps of 5 s, the starts and ends of processes, and a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Traffic before the first release, so that the primary is known to be well.
const WARM_UP: Duration = Duration::from_secs(3);

/// Traffic after the bad release, to show that none of it goes astray.
const AFTERMATH: Duration = Duration::from_secs(3);

/// Requests that may have been under way to the bad revision when it was taken back: Weir admits 10 per worker, of two.
const IN_FLIGHT: u64 = 20;

/// What to play with.
#[derive(Args, Clone, Debug)]
pub struct Play {
    /// The `weir` binary.
    #[arg(long)]
    pub weir: PathBuf,
    /// The filter's module.
    #[arg(long)]
    pub filter: PathBuf,
    /// Envoy.
    #[arg(long)]
    pub envoy: PathBuf,
    /// Port for the requests; 0 lets the machine choose.
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// Requests per second.
    #[arg(long, default_value_t = 100.0)]
    pub rate: f64,
}

/// How a release ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Promoted,
    TakenBack,
}

impl Play {
    /// Plays both releases.
    ///
    /// # Errors
    /// When a part does not start, or a release does not end as it should.
    pub async fn run(self) -> anyhow::Result<()> {
        let command = self.at_home()?;
        let mut stage = Stage::set(&command)?;
        let mut terminate = signal(SignalKind::terminate())?;
        let played = tokio::select! {
            played = command.play(&mut stage) => Some(played),
            _ = tokio::signal::ctrl_c() => None,
            _ = terminate.recv() => None,
        };
        // After a failure the logs stay; a person who interrupts does not want them.
        stage.strike(matches!(played, Some(Err(_)))).await?;
        played.unwrap_or_else(|| Err(anyhow::anyhow!("interrupted")))
    }

    /// Returns the same with paths that hold wherever a program is started.
    fn at_home(mut self) -> anyhow::Result<Self> {
        for (path, made_by) in
            [(&mut self.weir, "make build"), (&mut self.filter, "make wasm"), (&mut self.envoy, "make tools")]
        {
            *path = path.canonicalize().with_context(|| format!("find {} (`{made_by}`)", path.display()))?;
        }
        Ok(self)
    }

    async fn play(&self, stage: &mut Stage) -> anyhow::Result<()> {
        let mut transcript = Transcript::new();
        transcript.title(self.rate);
        let good = Release { version: "v1", failure_ratio: 0.0 };
        stage.release(&good)?;
        stage.start().await?;
        stage.wait_for("Initialized", PATIENCE).await?;
        let gateway = stage.gateway();
        let load = Load {
            url: gateway.parse().context("the gateway's address")?,
            rate: self.rate,
            headers: vec![(HOST, HeaderValue::from_static(stage::HOST))],
            // Envoy's own is 15 s: what takes longer was lost and not slow.
            timeout_ms: 20_000,
            ..Load::default()
        }
        .start();
        transcript.line(&format!("v1 is in production behind Envoy on {gateway}"));
        tokio::time::sleep(WARM_UP).await;
        if load.tally().of("v1").ok == 0 {
            bail!("no request to {gateway} is answered by v1");
        }
        transcript.counts(&load.tally(), "v1");

        transcript.chapter("A good release: v2");
        let v2 = Release { version: "v2", failure_ratio: 0.0 };
        release(stage, &load, &mut transcript, &v2, "v1", End::Promoted).await?;

        transcript.chapter("A bad release: v3 fails half of its requests");
        let v3 = Release { version: "v3", failure_ratio: 0.5 };
        release(stage, &load, &mut transcript, &v3, "v2", End::TakenBack).await?;

        let taken_back = load.tally().of("v3");
        tokio::time::sleep(AFTERMATH).await;
        let tally = load.finish().await;
        let blameless = tally.totals().1 - tally.of("v3").failed;
        if blameless > 0 {
            let others = tally.summary().into_iter().filter(|(version, it)| version != "v3" && it.failed > 0);
            let others: Vec<String> = others.map(|(version, it)| format!("{version} {:?}", it.statuses)).collect();
            bail!("{blameless} failed requests are not v3's, by who answered and status: {}", others.join(", "));
        }
        if tally.of("v2").ok == 0 {
            bail!("no request reached v2");
        }
        // Those under way when it was taken back may have ended since.
        let late = tally.of("v3").failed + tally.of("v3").ok - taken_back.failed - taken_back.ok;
        if late > IN_FLIGHT {
            bail!("{late} requests reached v3 after it was taken back");
        }
        transcript.line("no request has gone to v3 since");
        transcript.end(&tally);
        Ok(())
    }
}

/// Makes a release and tells what becomes of it.
async fn release(
    stage: &mut Stage,
    load: &Running,
    transcript: &mut Transcript,
    release: &Release,
    primary: &str,
    expected: End,
) -> anyhow::Result<()> {
    let before = load.tally();
    let began = Instant::now();
    let mut last = stage.seen().await?;
    let ended_before = last.ended.clone();
    stage.release(release)?;
    loop {
        tokio::time::sleep(LOOK).await;
        let seen = stage.seen().await?;
        let tally = load.tally();
        transcript.change(&last, &seen, &tally, primary, release.version);
        let fresh = seen.ended != ended_before;
        let ended = match seen.phase.as_str() {
            "Succeeded" if fresh => Some(End::Promoted),
            "Failed" if fresh => Some(End::TakenBack),
            _ => None,
        };
        last = seen;
        if let Some(end) = ended {
            transcript.verdict(end, &last, &before, &tally, release.version, began.elapsed());
            if end != expected {
                bail!("{} was {}, which it should not have been", release.version, end.word());
            }
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            bail!("{} is still {} after {} s: {}", release.version, last.phase, PATIENCE.as_secs(), last.text);
        }
    }
}

impl End {
    fn word(self) -> &'static str {
        match self {
            Self::Promoted => "promoted",
            Self::TakenBack => "taken back",
        }
    }
}
