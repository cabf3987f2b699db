//! What one bad canary does to users.

use std::time::{Duration, Instant};

use weir_wire::Weight;

use super::figures::ms;
use super::stage::{HOST, Health, PRIMARY, Stage};
use super::traffic::{Seen, Traffic};

/// Traffic before a release, so that the primary is known to be well, and after it.
const CALM: Duration = Duration::from_secs(1);
/// Traffic of a healthy canary at 30 % before it turns bad.
const HEALTHY: Duration = Duration::from_secs(2);
/// A canary that users have not met for so long gets no more requests.
const QUIET: Duration = Duration::from_secs(3);
/// Time that a slow failure takes.
const SLOW_MS: u64 = 100;

/// When the canary turns bad, and what becomes of Weir then.
#[derive(Clone, Copy, PartialEq)]
enum When {
    AtOnce,
    /// Each failure takes [`SLOW_MS`]: more requests are under way when the first one is known.
    AtOnceSlowly,
    At30,
    At30WithoutWeir,
}

/// One kind of bad canary.
pub(crate) struct Case {
    when: When,
    /// Requests per second; 0: as many as the machine gives.
    rate: f64,
}

/// What is measured.
pub(crate) const CASES: [Case; 7] = [
    Case { when: When::AtOnce, rate: 100.0 },
    Case { when: When::AtOnce, rate: 1000.0 },
    Case { when: When::AtOnce, rate: 0.0 },
    Case { when: When::AtOnceSlowly, rate: 1000.0 },
    Case { when: When::AtOnceSlowly, rate: 0.0 },
    Case { when: When::At30, rate: 100.0 },
    Case { when: When::At30WithoutWeir, rate: 100.0 },
];

/// What one bad canary did.
#[derive(Debug)]
pub(crate) struct Harm {
    /// Requests per second that were answered.
    pub(crate) rate: f64,
    /// Requests that it failed.
    pub(crate) failed: u64,
    /// From its first failure to its last response.
    pub(crate) last_ms: f64,
    /// From its first failure until no worker has a weight for it.
    pub(crate) off_ms: Option<f64>,
    /// Failures that it had no part in.
    pub(crate) others: u64,
}

impl Case {
    pub(crate) fn name(&self) -> String {
        let when = match self.when {
            When::AtOnce => "at 10 %, from its first request".into(),
            When::AtOnceSlowly => format!("at 10 %, from its first request, each after {SLOW_MS} ms"),
            When::At30 => "at 30 %, after healthy steps".into(),
            When::At30WithoutWeir => "at 30 %, as Weir is killed (-9)".into(),
        };
        let rate = if self.rate > 0.0 { self.rate.to_string() } else { "all it can".into() };
        format!("{when} | {rate}")
    }

    /// How the canary is when it is released.
    fn health(&self) -> Health {
        Health {
            failure_ratio: if self.turns() { 0.0 } else { 1.0 },
            latency_ms: if self.when == When::AtOnceSlowly { SLOW_MS } else { 0 },
        }
    }

    /// Whether the canary is healthy at first.
    fn turns(&self) -> bool {
        matches!(self.when, When::At30 | When::At30WithoutWeir)
    }

    /// Releases such a canary, and returns once it is taken back.
    pub(crate) fn play(&self, stage: &mut Stage, version: &str) -> Result<Harm, String> {
        let traffic = Traffic::start(stage.gateway, HOST, PRIMARY, self.rate);
        std::thread::sleep(CALM);
        let before = stage.canary()?.ended;
        traffic.forget();
        stage.release(version, self.health())?;
        if self.turns() {
            stage.wait("the weight is 30 %", |stage| stage.canary().is_ok_and(|it| it.weight >= 30.0))?;
            std::thread::sleep(HEALTHY);
            if self.when == When::At30WithoutWeir {
                stage.kill_weir()?;
            }
            stage.turn_bad(version)?;
        }
        let mut off = None;
        stage.wait("the canary fails", |_| traffic.seen().canary.first_failure.is_some())?;
        if self.when == When::At30WithoutWeir {
            let quiet = |seen: Seen| seen.canary.last.is_some_and(|last| last.elapsed() >= QUIET);
            stage.wait("no request goes to the canary", |_| quiet(traffic.seen()))?;
            stage.start_weir()?;
        } else {
            stage.wait("the weight is 0 in every worker", is_off)?;
            off = Some(Instant::now());
        }
        let ended = |stage: &Stage| stage.canary().is_ok_and(|it| it.phase == "Failed" && it.ended != before);
        stage.wait("the release is taken back", ended)?;
        std::thread::sleep(CALM);
        harm(&traffic.seen(), off)
    }
}

/// Returns whether no worker has a weight any more.
fn is_off(stage: &Stage) -> bool {
    let Ok(config) = stage.config() else { return false };
    config.canaries.iter().all(|canary| canary.weight == Weight::ZERO)
        && stage.runs_everywhere(config.generation).unwrap_or_default()
}

fn harm(seen: &Seen, off: Option<Instant>) -> Result<Harm, String> {
    let (Some(first), Some(last)) = (seen.canary.first_failure, seen.canary.last) else {
        return Err("the canary never failed".into());
    };
    Ok(Harm {
        rate: seen.rate(),
        failed: seen.canary.failed,
        last_ms: ms(first, last),
        off_ms: off.map(|off| ms(first, off)),
        others: seen.primary.failed + seen.nobody,
    })
}
