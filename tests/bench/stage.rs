//! A real Weir on a folder of its own: its Envoy, its processes, and the ways to release, to kill, and to ask.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use weir_wire::Config;
use weir_wire::names::Metric;

use super::ask::get;

/// Host name of the requests.
pub(crate) const HOST: &str = "shop.example";
/// The revision in production.
pub(crate) const PRIMARY: &str = "primary";
/// Envoy's worker threads.
pub(crate) const WORKERS: u64 = 2;

/// Variable by which whatever Weir starts is known as this stage's.
const MARK: &str = "WEIR_BENCH_STAGE";
/// Longest time that anything may take to happen.
const PATIENCE: Duration = Duration::from_secs(90);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// What is run.
pub(crate) struct Programs {
    pub(crate) weir: PathBuf,
    pub(crate) demo: PathBuf,
    pub(crate) filter: PathBuf,
    pub(crate) envoy: PathBuf,
}

/// What Weir says of the release.
#[derive(Clone, Debug, Default)]
pub(crate) struct Canary {
    pub(crate) phase: String,
    /// Percent.
    pub(crate) weight: f64,
    /// The last rollout that ended.
    pub(crate) ended: String,
}

/// How a revision answers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Health {
    /// 0 to 1.
    pub(crate) failure_ratio: f64,
    pub(crate) latency_ms: u64,
}

/// The folder, and the Weir that runs on it; everything ends with this value.
pub(crate) struct Stage {
    folder: TempDir,
    programs: Programs,
    weir: Option<Child>,
    /// Where requests go.
    pub(crate) gateway: u16,
    api: u16,
}

impl Stage {
    /// Starts Weir and waits until the primary serves.
    pub(crate) fn start(programs: Programs) -> Result<Self, String> {
        let folder = TempDir::new().map_err(|error| format!("make a folder: {error}"))?;
        fs::create_dir(folder.path().join("objects")).map_err(|error| format!("make a folder: {error}"))?;
        let [gateway, api] = free_ports().map_err(|error| format!("find free ports: {error}"))?;
        let mut stage = Self { folder, programs, weir: None, gateway, api };
        stage.release(PRIMARY, Health::default())?;
        stage.start_weir()?;
        stage.wait("the primary serves", |stage| stage.canary().is_ok_and(|it| it.phase == "Initialized"))?;
        Ok(stage)
    }

    // === What is done to it ===

    /// Starts Weir, for the first time or again.
    pub(crate) fn start_weir(&mut self) -> Result<(), String> {
        let path = self.folder.path();
        let problem = |error: std::io::Error| format!("start {}: {error}", self.programs.weir.display());
        let log = File::options().create(true).append(true).open(path.join("weir.log")).map_err(problem)?;
        let child = Command::new(&self.programs.weir)
            .args([Path::new("standalone"), Path::new("--dir"), &path.join("objects")])
            .args([Path::new("--state"), &path.join("state")])
            .args(["--listen".into(), format!("127.0.0.1:{}", self.gateway)])
            .args(["--http".into(), format!("127.0.0.1:{}", self.api)])
            .args(["--concurrency".into(), WORKERS.to_string()])
            .args([Path::new("--envoy"), &self.programs.envoy, Path::new("--wasm"), &self.programs.filter])
            .env(MARK, path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.weir = Some(child.map_err(problem)?);
        Ok(())
    }

    /// Kills Weir as `kill -9` does; Envoy and the processes go on.
    pub(crate) fn kill_weir(&mut self) -> Result<(), String> {
        let Some(mut weir) = self.weir.take() else { return Ok(()) };
        weir.kill().and_then(|()| weir.wait()).map(drop).map_err(|error| format!("kill weir: {error}"))
    }

    /// Releases a revision that starts out healthy or not.
    pub(crate) fn release(&self, version: &str, health: Health) -> Result<(), String> {
        let Health { failure_ratio, latency_ms } = health;
        let demo = Value::from(self.programs.demo.display().to_string());
        let switch = Value::from(self.switch(version).display().to_string());
        let objects = format!(
            "\
apiVersion: weir.dev/v1beta1
kind: Process
metadata: {{name: shop}}
spec:
  command: [{demo}, serve, --version, {version}, --switch-file, {switch},
    --failure-ratio, \"{failure_ratio}\", --latency-ms, \"{latency_ms}\"]
  readinessProbe: {{httpGet: {{path: /healthz}}}}
---
apiVersion: weir.dev/v1beta1
kind: Canary
metadata: {{name: shop}}
spec:
  targetRef: {{kind: Process, name: shop}}
  service: {{hosts: [{HOST}]}}
  analysis:
    interval: 5s
    threshold: 2
    stepWeights: [10, 30, 50]
    metrics:
    - name: request-success-rate
      thresholdRange: {{min: 99}}
"
        );
        self.replace(&self.folder.path().join("objects/shop.yaml"), &objects)
    }

    /// Makes a revision that runs fail every request.
    pub(crate) fn turn_bad(&self, version: &str) -> Result<(), String> {
        self.replace(&self.switch(version), r#"{"failure_ratio": 1}"#)
    }

    fn switch(&self, version: &str) -> PathBuf {
        self.folder.path().join(format!("{version}.json"))
    }

    /// Replaces a file at once: nobody reads half of it.
    fn replace(&self, path: &Path, text: &str) -> Result<(), String> {
        let new = self.folder.path().join("new");
        let done = fs::write(&new, text).and_then(|()| fs::rename(&new, path));
        done.map_err(|error| format!("write {}: {error}", path.display()))
    }

    // === What it says ===

    /// Waits until something holds.
    pub(crate) fn wait(&self, what: &str, holds: impl Fn(&Self) -> bool) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            if Instant::now() > deadline {
                let log = fs::read_to_string(self.folder.path().join("weir.log")).unwrap_or_default();
                return Err(format!("waited {PATIENCE:?} until {what}; {:?}; weir's log:\n{log}", self.canary()));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Asks Weir for the state of the release.
    pub(crate) fn canary(&self) -> Result<Canary, String> {
        let answer: Value = serde_json::from_str(&get(self.api, "/api/v1/canaries")?).map_err(|it| it.to_string())?;
        let item = answer.pointer("/items/0").ok_or("weir knows no canary yet")?;
        let text = |pointer| item.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let weight = item.pointer("/weight").and_then(Value::as_f64).unwrap_or_default();
        Ok(Canary { phase: text("/phase"), weight, ended: text("/ended/run") })
    }

    /// Reads what Envoy was told last.
    pub(crate) fn config(&self) -> Result<Config, String> {
        let file = self.filter_file()?;
        let text = file.pointer(CONFIGURATION).and_then(Value::as_str).ok_or("no configuration in Envoy's file")?;
        Config::parse(text.as_bytes()).map_err(|error| error.to_string())
    }

    /// Tells Envoy something else, as Weir would. Weir must be away, or it takes this for a mistake and repairs it.
    pub(crate) fn push(&self, config: &Config) -> Result<(), String> {
        let mut file = self.filter_file()?;
        let text = serde_json::to_string(config).map_err(|error| error.to_string())?;
        *file.pointer_mut(CONFIGURATION).ok_or("no configuration in Envoy's file")? = text.into();
        self.replace(&self.envoy("filter.json"), &file.to_string())
    }

    /// Returns whether every worker's VM, and the main thread's, says that it runs this generation.
    pub(crate) fn runs_everywhere(&self, generation: u64) -> Result<bool, String> {
        let metrics = get(self.admin()?, "/stats/prometheus?filter=^wasmcustom")?;
        let slot = (generation % weir_wire::SLOTS) as u8;
        let says = |metric: Metric<'_>, value: u64| {
            let (name, value) = (metric.to_string(), value.to_string());
            metrics.lines().any(|line| line.starts_with(&name) && line.rsplit(' ').next() == Some(&value))
        };
        Ok(says(Metric::Generation(slot), generation) && says(Metric::Vms(slot), WORKERS + 1))
    }

    fn filter_file(&self) -> Result<Value, String> {
        read_json(&self.envoy("filter.json"))
    }

    fn admin(&self) -> Result<u16, String> {
        let bootstrap = read_json(&self.envoy("bootstrap.json"))?;
        let port = bootstrap.pointer("/admin/address/socket_address/port_value").and_then(Value::as_u64);
        port.and_then(|port| port.try_into().ok()).ok_or_else(|| "no admin port in Envoy's bootstrap".into())
    }

    fn envoy(&self, name: &str) -> PathBuf {
        self.folder.path().join("state/envoy").join(name)
    }
}

/// Where the filter's configuration stands in Envoy's file.
const CONFIGURATION: &str = "/resources/0/typed_config/config/configuration/value";

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(mut weir) = self.weir.take() {
            let _ = Command::new("kill").args(["-TERM", &weir.id().to_string()]).status();
            let deadline = Instant::now() + Duration::from_secs(15);
            while Instant::now() < deadline && matches!(weir.try_wait(), Ok(None)) {
                std::thread::sleep(LOOK);
            }
            let _ = weir.kill();
            let _ = weir.wait();
        }
        // What a killed Weir has left.
        for id in marked(self.folder.path()) {
            let _ = Command::new("kill").args(["-KILL", &id.to_string()]).status();
        }
    }
}

/// Finds the processes that were started for a folder, where the machine has `/proc`.
fn marked(folder: &Path) -> Vec<u32> {
    let mark = [MARK.as_bytes(), b"=", folder.as_os_str().as_encoded_bytes()].concat();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|id| fs::read(format!("/proc/{id}/environ")).is_ok_and(|it| it.split(|b| *b == 0).any(|it| it == mark)))
        .collect()
}

/// Takes two ports that nothing listens on now.
fn free_ports() -> std::io::Result<[u16; 2]> {
    let listeners = [TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?, TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?];
    Ok([listeners[0].local_addr()?.port(), listeners[1].local_addr()?.port()])
}

fn read_json(path: &Path) -> Result<Value, String> {
    let problem = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    serde_json::from_slice(&fs::read(path).map_err(|error| problem(&error))?).map_err(|error| problem(&error))
}
