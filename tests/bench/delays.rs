//! How long requests take while a gateway takes a configuration over, beside what they take otherwise: no other program has
//! anything to do at that moment, so the difference is Envoy's and the filter's own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use weir_demo::load::Load;
use weir_wire::Weight;

use super::ms;
use super::stage::{HOST, Stage};

/// Requests per second, as many as while pushes are measured in a cluster.
const RATE: f64 = 400.0;
/// A file is taken over within 11 ms; whatever a push delays is delayed by then.
const WINDOW: Duration = Duration::from_millis(60);
/// Time between two windows; odd, so that they fall anywhere between two ticks of the filter.
const PAUSE: Duration = Duration::from_millis(311);

/// Milliseconds that requests took which were under way in a window, sorted.
#[derive(Default)]
pub(crate) struct Delays {
    pub(crate) pushed: Vec<f64>,
    pub(crate) quiet: Vec<f64>,
}

/// Looks at windows that begin with a push and at windows that do not, in turn. Weir is away.
pub(crate) fn delays(stage: &Stage, number: usize) -> Result<Delays, String> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let host = ("host".parse().map_err(|error| text(&error))?, HOST.parse().map_err(|error| text(&error))?);
    let load = Load {
        url: format!("http://127.0.0.1:{}/", stage.gateway).parse().map_err(|error| text(&error))?,
        rate: RATE,
        seconds: None,
        headers: vec![host],
        timeout_ms: 5_000,
    };
    let ends: Arc<Mutex<Vec<(Instant, Duration)>>> = Arc::default();
    let guard = runtime.enter();
    let running = load.start_telling({
        let ends = ends.clone();
        move |ended| {
            ends.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), ended.took));
        }
    });
    drop(guard);
    let mut config = stage.config()?;
    let mut windows = Vec::new();
    // The first one is not counted: connections are made.
    for window in 0..=2 * number {
        std::thread::sleep(PAUSE);
        let (from, pushed) = (Instant::now(), window % 2 == 1);
        if pushed {
            config.generation += 1;
            for canary in &mut config.canaries {
                canary.epoch += 1;
                canary.weight = Weight::new(1_000).unwrap_or_default();
            }
            stage.push(&config)?;
        }
        std::thread::sleep(WINDOW);
        if window > 0 {
            windows.push((from, Instant::now(), pushed));
        }
    }
    runtime.block_on(running.finish());
    let mut delays = Delays::default();
    for (end, took) in ends.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        let within = windows.iter().find(|(from, to, _)| *end - *took <= *to && end >= from);
        if let Some((.., pushed)) = within {
            let list = if *pushed { &mut delays.pushed } else { &mut delays.quiet };
            list.push(ms(*end - *took, *end));
        }
    }
    delays.pushed.sort_by(f64::total_cmp);
    delays.quiet.sort_by(f64::total_cmp);
    Ok(delays)
}

/// Returns median, p99, p99.9 and maximum as people read them.
pub(crate) fn shares(sorted: &[f64]) -> String {
    let at =
        |share: f64| sorted.get((sorted.len().saturating_sub(1) as f64 * share) as usize).copied().unwrap_or_default();
    [0.5, 0.99, 0.999, 1.0].map(|share| format!("{:.1}", at(share))).join(" / ")
}
