//! How long a configuration takes from its file to the requests.

use std::time::{Duration, Instant};

use weir_wire::Weight;

use super::figures::ms;
use super::stage::{HOST, Health, PRIMARY, Stage};
use super::traffic::Traffic;

/// Requests per second meanwhile: what users see is known to the distance between two of them.
const RATE: f64 = 1000.0;

/// How long after the write something was seen.
pub(crate) struct Pushed {
    pub(crate) first_ms: f64,
    pub(crate) last_ms: f64,
    pub(crate) said_ms: f64,
}

/// Writes configurations that give a healthy canary all requests and none, in turn. Weir is away, so that nobody else writes.
pub(crate) fn pushes(stage: &mut Stage, number: usize) -> Result<Vec<Pushed>, String> {
    let traffic = Traffic::start(stage.gateway, HOST, PRIMARY, RATE);
    stage.release("good", Health::default())?;
    stage.wait("a healthy canary serves", |_| traffic.seen().canary.good >= 50)?;
    stage.kill_weir()?;
    let mut config = stage.config()?;
    let mut pushed = Vec::new();
    // The first one only brings the weight to 0.
    for push in 0..=number {
        let full = push % 2 == 1;
        config.generation += 1;
        for canary in &mut config.canaries {
            canary.epoch += 1;
            canary.weight = if full { Weight::FULL } else { Weight::ZERO };
        }
        // Odd, so that the writes fall anywhere between two ticks of the filter.
        std::thread::sleep(Duration::from_millis(311));
        traffic.forget();
        let written = Instant::now();
        stage.push(&config)?;
        stage.wait("every worker says so", |stage| stage.runs_everywhere(config.generation).unwrap_or_default())?;
        let said = Instant::now();
        std::thread::sleep(Duration::from_millis(100));
        let seen = traffic.seen();
        let (new, old) = if full { (seen.canary, seen.primary) } else { (seen.primary, seen.canary) };
        let first = new.first.ok_or("no response by the new weight")?;
        // Between two requests the switch may be done before the old weight is seen again.
        let last = old.last.unwrap_or(written);
        if push > 0 {
            pushed.push(Pushed {
                first_ms: ms(written, first),
                last_ms: ms(written, last),
                said_ms: ms(written, said),
            });
        }
    }
    Ok(pushed)
}
