//! Flagger's own load tester at every webhook of a release.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::site::{ANALYSIS, Site, canary, free_address};

/// A load tester; it ends with this value.
struct LoadTester {
    server: Child,
    address: SocketAddr,
}

impl LoadTester {
    /// Starts one where the machine has it: `LOADTESTER` is its path. `make test` finds or builds it, and says if it cannot.
    fn start() -> Option<Self> {
        let program = std::env::var_os("LOADTESTER")?;
        let address = free_address();
        let server = Command::new(program)
            .args(["-port", &address.port().to_string(), "-log-level", "error"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self { server, address })
    }

    /// Opens or closes a gate of the Canary, as a person does; returns whether it did.
    async fn post(&self, path: &str) -> bool {
        let body = r#"{"name": "shop", "namespace": "default"}"#;
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
        let Ok(mut stream) = TcpStream::connect(self.address).await else { return false };
        stream.write_all((head + body).as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.is_ok() && answer.starts_with("HTTP/1.1 202")
    }
}

impl Drop for LoadTester {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[tokio::test]
async fn flaggers_load_tester_opens_gates_runs_tests_and_takes_a_release_back() {
    let Some(tester) = LoadTester::start() else { return };
    let mut site = Site::new();
    let (at, ran) = (tester.address, site.path("ran").display().to_string());
    let hook = |name: &str, kind: &str, path: &str, metadata: &str| {
        format!("{{name: {name}, type: {kind}, url: \"http://{at}{path}\", timeout: 30s, metadata: {{{metadata}}}}}")
    };
    let hooks = [
        hook("start", "confirm-rollout", "/gate/check", ""),
        hook("conformance", "pre-rollout", "/", &format!("type: bash, cmd: \"echo before >> {ran}\"")),
        hook("load", "rollout", "/", &format!("cmd: \"echo load >> {ran}\"")),
        hook("more", "confirm-traffic-increase", "/gate/approve", ""),
        hook("ship", "confirm-promotion", "/gate/approve", ""),
        hook("undo", "rollback", "/rollback/check", ""),
        hook("after", "post-rollout", "/", &format!("type: bash, cmd: \"echo after >> {ran}\"")),
    ];
    let analysis = ANALYSIS.replacen('{', &format!("{{webhooks: [{}], ", hooks.join(", ")), 1);
    let declare = |site: &Site, version: &str, analysis: &str| {
        let canary = canary("shop", "*", analysis);
        site.write("shop.yaml", &format!("{}---\n{canary}", site.process("shop", version, "")));
    };
    declare(&site, "v1", &analysis);
    site.start();
    site.until("initialized", |view| view["phase"] == "Initialized").await;
    let _load = site.load();
    declare(&site, "v2", &analysis);
    site.until("held by the gate", |view| view["phase"] == "Waiting" && view["reason"] == "WaitingForGate").await;
    site.eventually("the gate is opened", async || tester.post("/gate/open").await).await;
    site.until_ended("Succeeded").await;
    let lines = || std::fs::read_to_string(site.path("ran")).unwrap_or_default();
    site.eventually("the tests have run", async || lines().contains("before") && lines().contains("after")).await;
    assert!(lines().contains("load"), "{}", lines());
    // A person takes the next one back, which waits before its promotion.
    let open = format!("type: confirm-promotion, url: \"http://{at}/gate/approve");
    declare(&site, "v3", &analysis.replace(&open, &open.replace("approve", "halt")));
    site.until("held before promotion", |view| view["phase"] == "WaitingPromotion").await;
    site.eventually("the rollback is opened", async || tester.post("/rollback/open").await).await;
    let view = site.until_ended("Failed").await;
    assert_eq!(view["ended"]["reason"], "RollbackWebhook", "{view:#}");
}
