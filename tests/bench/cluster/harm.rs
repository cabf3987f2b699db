//! What one bad canary does to users, and how long until no gateway has a weight for it.

use std::time::{Duration, Instant};

use crate::figures::{ms, spread, table, tail};
use crate::kubectl::kubectl;
use crate::requests::{End, Requests};
use crate::stage::{Release, SYSTEM, Stage};
use crate::watch::{Said, Watch};

/// Requests per second.
const RATE: f64 = 100.0;
/// Steps, and long enough ones that a canary turns bad in the one that it should.
const STEPS: &str = "{interval: 5s, threshold: 2, stepWeights: [10, 30, 50], metrics: [{name: request-success-rate, thresholdRange: {min: 99}}]}";
/// Traffic before a release, so that the primary is known to be well.
const CALM: Duration = Duration::from_secs(1);
/// Traffic of a healthy canary at 30 % before it turns bad.
const HEALTHY: Duration = Duration::from_secs(2);
/// A canary that users have not met for so long gets no more requests.
const QUIET: Duration = Duration::from_secs(3);
/// The revision in production.
const PRIMARY: &str = "v1";

/// One kind of bad canary.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Case {
    AtOnce,
    At30,
    CrashesAt30,
    At30WithoutWeir,
}

const CASES: [Case; 4] = [Case::AtOnce, Case::At30, Case::CrashesAt30, Case::At30WithoutWeir];

/// What one bad canary did.
#[derive(Debug)]
struct Harm {
    failed: usize,
    /// Of these, answers of the primary.
    by_primary: usize,
    /// From the first failure to the last one.
    lasted: f64,
    /// From the failure that gave the verdict until the status says that no gateway has a weight.
    off: Option<f64>,
    /// As `off`, from the first failure.
    off_since_first: Option<f64>,
}

/// Measures every kind in turn, and prints what came of it.
pub(crate) async fn measure(rounds: usize) {
    let stage = Stage::set("bench-harm", STEPS).await;
    let mut harms: Vec<(Case, Vec<Harm>)> = CASES.map(|case| (case, Vec::new())).into();
    for round in 1..=rounds {
        for (case, harms) in &mut harms {
            let harm = case.play(&stage, &format!("{case:?}-{round}").to_ascii_lowercase()).await;
            eprintln!("round {round}/{rounds}: {case:?}: {harm:?}");
            harms.push(harm);
        }
    }
    stage.strike();
    print(rounds, &harms);
}

fn print(rounds: usize, harms: &[(Case, Vec<Harm>)]) {
    let head = [
        "canary, at 100 requests/s",
        "failed requests",
        "of these by the primary",
        "first → last failure, ms",
        "verdict-giving failure → weight 0 acknowledged, ms",
        "first failure → weight 0 acknowledged, ms",
    ];
    let rows = harms.iter().map(|(case, harms)| {
        let all = |of: fn(&Harm) -> Option<f64>| harms.iter().filter_map(of).collect::<Vec<_>>();
        vec![
            case.name().to_owned(),
            spread(&all(|harm| Some(harm.failed as f64))),
            all(|harm| Some(harm.by_primary as f64)).iter().sum::<f64>().to_string(),
            spread(&all(|harm| Some(harm.lasted))),
            tail(&all(|harm| harm.off)),
            tail(&all(|harm| harm.off_since_first)),
        ]
    });
    table(&head, &rows.collect::<Vec<_>>());
    println!(
        "Failures and their duration: minimum / median / maximum of {rounds}; weight 0: median / p99 / maximum.\n"
    );
}

impl Case {
    fn name(self) -> &'static str {
        match self {
            Self::AtOnce => "fails everything from its first request, at 10 %",
            Self::At30 => "fails everything from a moment at 30 % on",
            Self::CrashesAt30 => "crashes at every request, from a moment at 30 % on",
            Self::At30WithoutWeir => "fails everything from a moment at 30 % on, Weir gone for good",
        }
    }

    /// Releases such a canary, and returns once it is taken back and gone.
    async fn play(self, stage: &Stage, version: &str) -> Harm {
        let watch = Watch::of(&stage.namespace);
        let requests = Requests::start(&stage.load("/", RATE, &[]));
        tokio::time::sleep(CALM).await;
        let released = Instant::now();
        let arguments: &[&str] = if self == Self::AtOnce { &["--failure-ratio", "1"] } else { &[] };
        stage.release(&Release { arguments, ..Release::good(version) });
        if self != Self::AtOnce {
            let at_30 = |said: &Said| said.phase == "Progressing" && said.weight >= 30.0 && said.acknowledged;
            watch.until("the weight is 30 %", released, at_30).await;
            tokio::time::sleep(HEALTHY).await;
        }
        match self {
            Self::AtOnce => {}
            Self::At30 => stage.switch(r#"{"failure_ratio": 1}"#).await,
            Self::CrashesAt30 => stage.switch(r#"{"crash_ratio": 1}"#).await,
            Self::At30WithoutWeir => {
                replicas(0);
                let own = ["delete", "pods", "-l", "app.kubernetes.io/name=weir", "--grace-period=0", "--force"];
                kubectl(&[&["-n", SYSTEM], &own[..]].concat());
                stage.switch(r#"{"failure_ratio": 1}"#).await;
                wait("no request goes to the canary", || {
                    let ends = requests.since(released);
                    let failed = ends.iter().any(|end| end.failed);
                    let last = ends.iter().rev().find(|end| end.failed || end.revision == version);
                    failed && last.is_some_and(|last| last.at.elapsed() >= QUIET)
                })
                .await;
                replicas(1);
            }
        }
        let begun = watch.until("the rollout begins", released, |said| said.phase == "Progressing").await;
        let taken_back = |said: &Said| said.phase == "Failed" && said.acknowledged;
        watch.until("the canary is taken back", begun.at, taken_back).await;
        stage.rested().await;
        let said = watch.since(begun.at);
        harm(self, &requests.finish().await, &said)
    }
}

fn harm(case: Case, ends: &[End], said: &[Said]) -> Harm {
    let failures: Vec<&End> = ends.iter().filter(|end| end.failed).collect();
    let (Some(first), Some(last)) = (failures.first(), failures.last()) else {
        return Harm { failed: 0, by_primary: 0, lasted: 0.0, off: None, off_since_first: None };
    };
    let off = said.iter().find(|said| said.at > first.at && said.weight == 0.0 && said.acknowledged);
    // As many failures as gave the verdict: the last of them is the one. A crash has other reasons too.
    let verdict = said.iter().find(|said| said.phase == "Failed").map_or(1, |said| said.failures);
    let verdict = failures.get(verdict.clamp(1, failures.len()) - 1);
    let timed = case != Case::At30WithoutWeir;
    Harm {
        failed: failures.len(),
        by_primary: failures.iter().filter(|end| end.revision == PRIMARY).count(),
        lasted: ms(first.at, last.at),
        off: off.zip(verdict).filter(|_| timed && case != Case::CrashesAt30).map(|(off, it)| ms(it.at, off.at)),
        off_since_first: off.filter(|_| timed).map(|off| ms(first.at, off.at)),
    }
}

fn replicas(number: u32) {
    kubectl(&["-n", SYSTEM, "scale", "deployment", "weir", &format!("--replicas={number}")]);
}

async fn wait(what: &str, mut seen: impl FnMut() -> bool) {
    crate::kubectl::until(what, || seen().then_some(())).await;
}
