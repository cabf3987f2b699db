//! A controller's page of a thousand Canaries, fifty of them rolling out, and nothing beside it: what readers cost is what this process
//! needs more with them than without. `tests/tools/page bench` runs it, and `boards` has a Prometheus scrape it.
//!
//! It prints the addresses of the page and of the metrics, and ends with its input.

use std::future::pending;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use weir_controller::http;
use weir_controller::page::{self, Hosts, Refused, Seen, Source};
use weir_controller::rollout::{Phase, Timestamp, Verb};
use weir_controller::status_store::{Name, StatusStore};
use weir_controller::view::{
    CanaryDetail, CanaryView, Changes, EvidenceView, GatewayView, GuardView, MetricView, Particulars, PlannedStep,
    StepView,
};

const CANARIES: usize = 1000;
const MOVING: usize = 50;
/// Each of those that move is decided anew so often.
const PASS: Duration = Duration::from_secs(1);

/// The controller's own, without questions to an API server.
struct Store(Arc<StatusStore>);

impl Source for Store {
    type Viewer = ();

    fn title(&self) -> String {
        "a measurement".into()
    }

    async fn viewer(&self, _: Option<&str>) -> Result<(), Refused> {
        Ok(())
    }

    fn news(&self) -> watch::Receiver<u64> {
        self.0.news()
    }

    async fn changes(&self, (): &(), cursor: &str) -> Result<Seen<Changes>, String> {
        Ok(Seen { value: self.0.changes(cursor), partial: None })
    }

    async fn detail(&self, (): &(), namespace: &str, name: &str) -> Result<Seen<Option<CanaryDetail>>, String> {
        let name = Name { namespace: namespace.into(), name: name.into() };
        Ok(Seen { value: self.0.detail(&name), partial: None })
    }

    async fn ask(&self, (): &(), _: &str, _: &str, _: Verb) -> Result<(), Refused> {
        Ok(())
    }
}

/// Shows how a Canary stands at this pass.
fn show(statuses: &StatusStore, number: usize, pass: u64) {
    let moves = number < MOVING;
    let name = Name { namespace: format!("team-{}", number % 20), name: format!("service-{number}") };
    let mut view = CanaryView {
        namespace: name.namespace.clone(),
        name: name.name.clone(),
        phase: if moves { Phase::Progressing } else { Phase::Succeeded },
        since: Timestamp(1_790_000_000_000),
        reason: if moves { "Analysing" } else { "UpToDate" }.into(),
        message: if moves { format!("next check in {}s", pass % 10) } else { String::new() },
        ..CanaryView::default()
    };
    view.primary.revision = Some("6f9d7c5b8d".into());
    view.primary.readiness = "ready".into();
    let mut particulars = Particulars::default();
    if moves {
        view.run = "r1".into();
        view.started = Some(Timestamp(1_790_000_000_000));
        view.weight = 20.0;
        view.step = Some(StepView { number: 2, of: 4, next: Some(50.0) });
        (view.canary.ended, view.canary.requests) = (20 * pass, 20 * pass);
        (view.primary.ended, view.primary.requests, view.primary.failed) = (80 * pass, 80 * pass, pass / 50);
        view.evidence = Some(EvidenceView {
            verdict: "insufficient".into(),
            log_e: (pass % 7) as f64 / 10.0,
            threshold: 200.0,
            good: 0.4,
            ..EvidenceView::default()
        });
        let metric = |name: &str, value| MetricView { name: name.into(), value: Some(value), ..MetricView::default() };
        particulars = Particulars {
            steps: [5.0, 20.0, 50.0].map(|weight| PlannedStep { weight, ..PlannedStep::default() }).into(),
            gateways: (0..3)
                .map(|n| GatewayView { name: format!("gateway-{n}"), acknowledged: true, silent: false, waits: 0 })
                .collect(),
            guard: Some(GuardView { gateway: "gateway-0".into(), failed: 0, limit: 5 }),
            metrics: vec![metric("request-success-rate", 99.9), metric("request-duration", 12.0 + pass as f64 / 10.0)],
            ..Particulars::default()
        };
    }
    statuses.set(view, &[1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000]);
    statuses.set_particulars(&name, particulars, Timestamp(1_790_000_000_000 + 1000 * pass));
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let (statuses, _calls) = StatusStore::new();
    statuses.set_acting();
    (0..CANARIES).for_each(|number| show(&statuses, number, 1));
    let [page, metrics] = [TcpListener::bind("127.0.0.1:0"), TcpListener::bind("127.0.0.1:0")];
    let (page, metrics) = (page.await.unwrap(), metrics.await.unwrap());
    println!("{} {}", page.local_addr().unwrap(), metrics.local_addr().unwrap());
    tokio::spawn(page::serve(page, Arc::new(Store(statuses.clone())), Hosts::Any, pending()));
    tokio::spawn(http::serve(metrics, statuses.clone(), pending()));
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    // One after the other, as fifty Canaries do that began at different times.
    let mut clock = tokio::time::interval(PASS / MOVING as u32);
    for number in 0.. {
        clock.tick().await;
        show(&statuses, number % MOVING, 2 + (number / MOVING) as u64);
    }
}
