//! How long requests take while a gateway takes a configuration over, beside what they take otherwise: no other program has
//! anything to do at that moment, so the difference is Envoy's and the filter's own.

use std::time::{Duration, Instant};

use weir_demo::load::Load;
use weir_wire::Weight;

use super::requests::Requests;
use super::stage::{HOST, Stage};

/// Requests per second, as many as while pushes are measured in a cluster.
const RATE: f64 = 400.0;
/// A file is taken over within 11 ms; whatever a push delays is delayed by then.
const WINDOW: Duration = Duration::from_millis(60);
/// Time between two windows; odd, so that they fall anywhere between two ticks of the filter.
const PAUSE: Duration = Duration::from_millis(311);

/// Milliseconds that requests took which were under way in a window.
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
        headers: vec![host],
        timeout_ms: 5_000,
        ..Load::default()
    };
    let requests = {
        let _clients = runtime.enter();
        Requests::start(&load)
    };
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
    let ends = runtime.block_on(requests.finish());
    let mut delays = Delays::default();
    for end in &ends {
        if let Some((.., pushed)) = windows.iter().find(|(from, to, _)| end.was_under_way(*from, *to)) {
            let list = if *pushed { &mut delays.pushed } else { &mut delays.quiet };
            list.push(end.took.as_secs_f64() * 1000.0);
        }
    }
    Ok(delays)
}
