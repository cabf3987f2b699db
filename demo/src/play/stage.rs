//! Everything that the demonstration plays on: a folder of objects, `weir standalone` on it, and its state.
//!
//! All of it is in a temporary folder with ports from the kernel, so that two demonstrations never meet.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::Play;

/// Host name of the requests.
pub(super) const HOST: &str = "shop.example";

/// Variable by which whatever Weir starts, and what that starts, is known as this stage's.
const MARK: &str = "WEIR_DEMO_STAGE";

/// Time that Weir gets to end its processes after SIGTERM: their own grace, and Envoy's.
const GRACE: Duration = Duration::from_secs(15);

/// One version of the service.
pub(super) struct Release {
    pub(super) version: &'static str,
    pub(super) failure_ratio: f64,
}

/// What Weir says of the canary object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Seen {
    /// The last rollout that ended.
    pub(super) ended: String,
    /// Why it ended as it did.
    pub(super) verdict: String,
    /// Flagger's word for where it stands.
    pub(super) phase: String,
    /// Percent of the requests that the gateway is to send to the canary.
    pub(super) weight: f64,
    /// The reason's code.
    pub(super) code: String,
    /// The reason in words.
    pub(super) text: String,
}

impl Seen {
    /// Whether a release is under way.
    pub(super) fn is_rolling_out(&self) -> bool {
        ["Waiting", "Progressing", "WaitingPromotion", "Promoting", "Finalising"].contains(&self.phase.as_str())
    }
}

/// The folder, Weir, and the way to ask it.
pub(super) struct Stage {
    folder: PathBuf,
    weir: Option<Child>,
    command: Play,
    service: PathBuf,
    gateway: u16,
    api: u16,
    client: Client<HttpConnector, Empty<Bytes>>,
}

impl Stage {
    /// Makes the folder and chooses the ports.
    pub(super) fn set(command: &Play) -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("weir-demo-{}", std::process::id()));
        fs::create_dir_all(folder.join("objects")).with_context(|| format!("make {}", folder.display()))?;
        let [gateway, api] = free_ports()?;
        Ok(Self {
            folder,
            weir: None,
            service: std::env::current_exe().context("find this program")?,
            gateway: if command.port == 0 { gateway } else { command.port },
            api,
            command: command.clone(),
            client: Client::builder(TokioExecutor::new()).build_http(),
        })
    }

    /// Writes the objects with this version of the service: to Weir an edited file is a release.
    pub(super) fn release(&self, release: &Release) -> anyhow::Result<()> {
        let text = objects(&self.service, release)?;
        let path = self.folder.join("objects/shop.yaml");
        // A rename, so that Weir never reads half a file.
        let new = self.folder.join("shop.yaml.new");
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, &path))
            .with_context(|| format!("write {}", path.display()))
    }

    /// Starts Weir.
    pub(super) async fn start(&mut self) -> anyhow::Result<()> {
        let log = File::create(self.log()).context("make the log file")?;
        let child = Command::new(&self.command.weir)
            .arg("standalone")
            .arg("--dir")
            .arg(self.folder.join("objects"))
            .arg("--state")
            .arg(self.folder.join("state"))
            .arg("--listen")
            .arg(format!("127.0.0.1:{}", self.gateway))
            .arg("--http")
            .arg(format!("127.0.0.1:{}", self.api))
            .arg("--envoy")
            .arg(&self.command.envoy)
            .arg("--wasm")
            .arg(&self.command.filter)
            .env(MARK, &self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("open the log file")?)
            .stderr(log)
            // A group of its own: Ctrl-C comes here alone, and this program ends Weir in order.
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {}", self.command.weir.display()))?;
        self.weir = Some(child);
        Ok(())
    }

    /// Returns the address that requests go to.
    pub(super) fn gateway(&self) -> String {
        format!("http://127.0.0.1:{}/", self.gateway)
    }

    /// Waits until Weir says that the canary object is in this phase.
    pub(super) async fn wait_for(&mut self, phase: &str, patience: Duration) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let seen = self.seen().await;
            if seen.as_ref().is_ok_and(|seen| seen.phase == phase) {
                return Ok(());
            }
            if let Some(status) = self.weir.as_mut().and_then(|weir| weir.try_wait().ok().flatten()) {
                bail!("weir ended with {status}; its last words: {}", self.last_words());
            }
            if began.elapsed() > patience {
                bail!("after {} s the service is not {phase}: {seen:?}", patience.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Asks Weir for its state.
    pub(super) async fn seen(&self) -> anyhow::Result<Seen> {
        let uri = format!("http://127.0.0.1:{}/api/v1/canaries", self.api).parse().context("the API's address")?;
        let response = self.client.get(uri).await.context("ask weir for its state")?;
        let body = response.into_body().collect().await.context("read weir's answer")?.to_bytes();
        let answer: Value = serde_json::from_slice(&body).context("read weir's answer")?;
        let canary = answer.pointer("/items/0").context("weir knows no canary yet")?;
        let text = |pointer: &str| canary.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(Seen {
            ended: text("/ended/run"),
            verdict: text("/ended/message"),
            phase: text("/phase"),
            weight: canary.pointer("/weight").and_then(Value::as_f64).unwrap_or_default(),
            code: text("/reason"),
            text: text("/message"),
        })
    }

    /// Ends Weir and what it started. The folder stays if something failed, for its logs.
    pub(super) async fn strike(&mut self, failed: bool) -> anyhow::Result<()> {
        let mut ended = match self.weir.take() {
            Some(weir) => end(weir).await,
            None => Ok(()),
        };
        let left = leftovers(&self.folder);
        if !left.is_empty() {
            let ids: Vec<String> = left.iter().map(u32::to_string).collect();
            Command::new("kill").arg("-KILL").args(&ids).status().await.context("kill what weir left running")?;
            ended = ended.and_then(|()| bail!("weir left processes running: {}", ids.join(", ")));
        }
        if failed || ended.is_err() {
            eprintln!("\nlogs: {}\nlast words: {}", self.folder.display(), self.last_words());
        } else {
            fs::remove_dir_all(&self.folder).with_context(|| format!("remove {}", self.folder.display()))?;
        }
        ended
    }

    fn log(&self) -> PathBuf {
        self.folder.join("weir.log")
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("none").to_owned()
    }
}

/// Asks Weir to end, and waits for it: it ends Envoy and the service's processes itself.
async fn end(mut weir: Child) -> anyhow::Result<()> {
    if let Some(id) = weir.id() {
        let kill = Command::new("kill").arg("-TERM").arg(id.to_string()).status().await;
        kill.context("send SIGTERM to weir")?;
    }
    match tokio::time::timeout(GRACE, weir.wait()).await {
        Ok(status) => {
            let status = status.context("wait for weir")?;
            if !status.success() {
                bail!("weir ended with {status}");
            }
            Ok(())
        }
        Err(_) => {
            weir.kill().await.context("kill weir")?;
            bail!("weir did not end within {} s of SIGTERM", GRACE.as_secs())
        }
    }
}

/// Finds the processes that belong to the stage, where the machine has `/proc`.
fn leftovers(folder: &Path) -> Vec<u32> {
    let mark = [MARK.as_bytes(), b"=", folder.as_os_str().as_encoded_bytes()].concat();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|id| {
        let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark)
    })
    .collect()
}

/// Takes ports that nothing listens on now. Both are held until both are known, so that they differ.
fn free_ports<const N: usize>() -> anyhow::Result<[u16; N]> {
    let mut listeners = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
        *port = listener.local_addr().context("find a free port")?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

/// The Canary and its Process. Strings are quoted as JSON, which YAML reads too.
fn objects(service: &Path, release: &Release) -> anyhow::Result<String> {
    let service = serde_json::to_string(&service.to_string_lossy())?;
    let Release { version, failure_ratio } = release;
    Ok(format!(
        "\
apiVersion: weir.dev/v1beta1
kind: Process
metadata: {{name: shop}}
spec:
  command: [{service}, serve, --version, {version}, --failure-ratio, \"{failure_ratio}\"]
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
    stepWeights: [10, 20, 30, 50]
    metrics:
    - name: request-success-rate
      thresholdRange: {{min: 99}}
"
    ))
}
