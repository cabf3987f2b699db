//! Fifty Canaries rolling out at once on real pods under traffic: what the controller needs, and whether a bad one among them
//! waits for the others.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Deserializer, Value};
use weir_wire::{Config, Weight};

use crate::figures::{ms, table, tail};
use crate::fleet::{Fleet, Member};
use crate::gateways::{CONFIGURATION, NAMESPACE};
use crate::process::Process;
use crate::requests::{End, Requests};
use crate::watch::{Said, Watch};

/// Canaries, and requests per second of each: 50 real rollouts share two processors with everything that serves them.
const CANARIES: usize = 50;
const RATE: f64 = 5.0;
/// Steps that a twentieth of a second's requests can pass.
const STEPS: &str = "{interval: 5s, threshold: 3, minRequests: 3, stepWeights: [20, 40, 60]}";
/// What all of them are released to.
const RELEASED: &str = "v2";
/// Time between two looks at the controller's memory.
const LOOK: Duration = Duration::from_millis(500);

/// Measures, and prints what came of it.
pub(crate) async fn measure() {
    let fleet = Fleet::set("bench-fifty", CANARIES, STEPS).await;
    let weir = Process::find("weir", None).expect("the controller runs");
    let watch = Watch::of(&fleet.namespace);
    let filters = Filters::watch();
    let requests: Vec<Requests> = fleet.members().map(|member| Requests::start(&fleet.load(&member, RATE))).collect();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let resting = weir.cpu();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let resting = (weir.cpu() - resting) / 10.0;
    let (released, cpu) = (Instant::now(), weir.cpu());
    fleet.release();
    let (mut most, mut busiest, mut last) = (0.0_f64, 0.0_f64, (Instant::now(), weir.cpu()));
    let mut ended = BTreeMap::new();
    while ended.len() < CANARIES {
        assert!(released.elapsed() < Duration::from_secs(900), "not all have ended: {ended:?}");
        tokio::time::sleep(LOOK).await;
        most = most.max(weir.memory("VmRSS"));
        if last.0.elapsed() >= Duration::from_secs(5) {
            busiest = busiest.max((weir.cpu() - last.1) / last.0.elapsed().as_secs_f64());
            last = (Instant::now(), weir.cpu());
        }
        ended = watch
            .since(released)
            .into_iter()
            .filter(|said| ["Succeeded", "Failed"].contains(&said.phase.as_str()))
            .map(|said| (said.name, said.phase))
            .collect();
    }
    let took = released.elapsed();
    let average = (weir.cpu() - cpu) / took.as_secs_f64();
    assert!(weir.lives(), "the controller was started anew meanwhile: the machine is too busy to measure anything");
    fleet.rested().await;
    let mut ends = Vec::new();
    for requests in requests {
        ends.push(requests.finish().await);
    }
    let (said, zeros) = (watch.since(released), filters.zeros());
    fleet.strike();
    let delays: Vec<Delay> = fleet
        .members()
        .zip(&ends)
        .filter(|(member, _)| member.bad)
        .filter_map(|(member, ends)| delay(&member, ends, &said, &zeros))
        .collect();
    let wrong = fleet.members().filter(|it| ended[&it.name] != if it.bad { "Failed" } else { "Succeeded" }).count();
    let bad = fleet.members().zip(&ends).filter(|(member, _)| member.bad);
    let by_canary: Vec<f64> = bad.map(|(_, ends)| failures(ends).len() as f64).collect();
    let mut others: BTreeMap<&str, usize> = BTreeMap::new();
    for (member, ends) in fleet.members().zip(&ends) {
        for end in ends.iter().filter(|end| end.failed && !(member.bad && end.revision == RELEASED)) {
            *others.entry(&end.revision).or_default() += 1;
        }
    }
    let all: usize = ends.iter().map(Vec::len).sum();
    let others: Vec<String> = others.iter().map(|(who, count)| format!("{count} {who}")).collect();
    let row = |what: &str, value: String| vec![what.to_owned(), value];
    let of = |of: fn(&Delay) -> f64| tail(&delays.iter().map(of).collect::<Vec<_>>());
    table(
        &[&format!("{CANARIES} Canaries rolling out at once, {} of them bad", delays.len()), "measured"],
        &[
            row("ended otherwise than they should", wrong.to_string()),
            row("released at once → all ended, s", format!("{:.0}", took.as_secs_f64())),
            row(
                "controller's processor, of one: before, average, busiest 5 s",
                format!("{resting:.2}, {average:.2}, {busiest:.2}"),
            ),
            row("controller's memory at most, MiB", format!("{most:.0}")),
            row("decided → weight 0 written for the gateways, ms", of(|it| it.pushed)),
            row("verdict-giving failure → weight 0 written for the gateways, ms", of(|it| it.since_failure)),
            row("verdict-giving failure → weight 0 acknowledged, ms", of(|it| it.acknowledged)),
            row("requests that each bad canary failed", tail(&by_canary)),
            row(
                "all other failures of all requests, by who gave the answer",
                format!("{} of {all}", others.join(", ")),
            ),
        ],
    );
    println!(
        "Delays and failures: median / p99 / maximum of the bad ones. {RATE} requests per second for each Canary.\n"
    );
}

/// How long one bad release waited for its weight of 0.
struct Delay {
    pushed: f64,
    since_failure: f64,
    acknowledged: f64,
}

/// Returns the requests that a bad canary failed.
fn failures(ends: &[End]) -> Vec<&End> {
    ends.iter().filter(|end| end.failed && end.revision == RELEASED).collect()
}

fn delay(member: &Member, ends: &[End], said: &[Said], zeros: &BTreeMap<String, Vec<Instant>>) -> Option<Delay> {
    let own = |said: &&Said| said.name == member.name;
    let decided = said.iter().filter(own).find(|said| said.phase == "Failed")?;
    let acknowledged = said.iter().filter(own).find(|said| said.phase == "Failed" && said.acknowledged)?;
    let failures = failures(ends);
    let verdict = failures.get(decided.failures.clamp(1, failures.len().max(1)) - 1)?;
    let zero = zeros.get(&member.name)?.iter().rev().find(|at| **at <= acknowledged.at)?;
    Some(Delay {
        pushed: ms(decided.at, *zero),
        since_failure: ms(verdict.at, *zero),
        acknowledged: ms(verdict.at, acknowledged.at),
    })
}

/// When the small EnvoyFilter took a Canary's weight away, by the Canary's name.
struct Filters {
    zeros: Arc<Mutex<BTreeMap<String, Vec<Instant>>>>,
    kubectl: Child,
}

impl Filters {
    fn watch() -> Self {
        let mut kubectl = Command::new("kubectl")
            .args(["-n", NAMESPACE, "get", "envoyfilters", "-w", "-o", "json"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("kubectl cannot be started: {error}"));
        let zeros: Arc<Mutex<BTreeMap<String, Vec<Instant>>>> = Arc::default();
        let (output, all) = (kubectl.stdout.take().unwrap(), zeros.clone());
        std::thread::spawn(move || {
            let mut weights: BTreeMap<String, Weight> = BTreeMap::new();
            let objects = Deserializer::from_reader(std::io::BufReader::new(output)).into_iter::<Value>();
            for object in objects.map_while(Result::ok) {
                let at = Instant::now();
                let Some(text) = object.pointer(CONFIGURATION).and_then(Value::as_str) else { continue };
                let Ok(config) = Config::parse(text.as_bytes()) else { continue };
                for canary in config.canaries {
                    let name = canary.name.rsplit('/').next().unwrap_or_default().to_owned();
                    let before = weights.insert(name.clone(), canary.weight);
                    if canary.weight == Weight::ZERO && before.is_some_and(|before| before > Weight::ZERO) {
                        all.lock().unwrap().entry(name).or_default().push(at);
                    }
                }
            }
        });
        Self { zeros, kubectl }
    }

    fn zeros(&self) -> BTreeMap<String, Vec<Instant>> {
        self.zeros.lock().unwrap().clone()
    }
}

impl Drop for Filters {
    fn drop(&mut self) {
        let _ = self.kubectl.kill();
        let _ = self.kubectl.wait();
    }
}
