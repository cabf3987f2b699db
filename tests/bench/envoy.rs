//! One Envoy process and its CPU time.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::cost::{ran_ns, threads_ran_ns};

/// A running Envoy; ends with this value.
pub(crate) struct Envoy {
    process: Child,
    _dir: TempDir,
    /// Where it listens.
    pub(crate) port: u16,
}

impl Envoy {
    /// Starts an Envoy with one worker and waits until it serves.
    pub(crate) fn start(name: &str, bootstrap: &Value) -> Result<Self, String> {
        let problem = |error: std::io::Error| format!("{name}: {error}");
        let dir = TempDir::new().map_err(problem)?;
        let (config, admin, log) = (dir.path().join("envoy.json"), dir.path().join("admin"), dir.path().join("log"));
        std::fs::write(&config, bootstrap.to_string()).map_err(problem)?;
        let process = Command::new(executable()?)
            .args(["--use-dynamic-base-id", "--log-level", "warning", "--concurrency", "1"])
            .args([Path::new("-c"), &config, Path::new("--admin-address-path"), &admin])
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).map_err(problem)?)
            .spawn()
            .map_err(problem)?;
        let mut envoy = Self { process, _dir: dir, port: 0 };
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
            if let Some(port) = listener(&admin) {
                envoy.port = port;
                // The filter's first configuration reaches the worker a moment after the listener.
                std::thread::sleep(Duration::from_secs(1));
                return Ok(envoy);
            }
        }
        Err(format!("{name} does not serve: {}", std::fs::read_to_string(&log).unwrap_or_default()))
    }

    /// Returns the run time of all threads so far.
    pub(crate) fn cpu_ns(&self) -> Result<u64, String> {
        ran_ns(self.process.id()).map_err(|error| format!("run time of process {}: {error}", self.process.id()))
    }

    /// Returns the run time of the threads so far whose names begin so: `wrk:` are workers, `envoy` is the main thread.
    pub(crate) fn threads_cpu_ns(&self, name: &str) -> Result<u64, String> {
        let process = self.process.id();
        threads_ran_ns(process, name).map_err(|error| format!("run time of process {process}: {error}"))
    }

    /// Returns the memory that is the process's own, in MiB.
    pub(crate) fn memory_mib(&self) -> Result<f64, String> {
        let problem = |what: &dyn std::fmt::Display| format!("memory of process {}: {what}", self.process.id());
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).map_err(|it| problem(&it))?;
        let kib =
            status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB")?.parse().ok());
        kib.map(|kib: f64| kib / 1024.0).ok_or_else(|| problem(&"not told"))
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn listener(admin: &Path) -> Option<u16> {
    let address: std::net::SocketAddr = std::fs::read_to_string(admin).ok()?.parse().ok()?;
    if !get(address, "/ready")?.contains("LIVE") {
        return None;
    }
    let listeners: Value = serde_json::from_str(&get(address, "/listeners?format=json")?).ok()?;
    let socket = listeners.pointer("/listener_statuses/0/local_address/socket_address/port_value")?;
    u16::try_from(socket.as_u64()?).ok()
}

fn get(address: std::net::SocketAddr, path: &str) -> Option<String> {
    use std::io::{Read, Write};
    let mut socket = std::net::TcpStream::connect(address).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    socket.read_to_string(&mut text).ok()?;
    let body = text.split_once("\r\n\r\n")?.1;
    // Chunked, but one chunk: what is asked for here is short.
    let inner = body.find('{').and_then(|from| Some(body[from..=body.rfind('}')?].to_owned()));
    Some(inner.unwrap_or_else(|| body.to_owned()))
}

fn executable() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("ENVOY") {
        return Ok(path.into());
    }
    let in_path = std::env::var_os("PATH")
        .and_then(|path| std::env::split_paths(&path).map(|dir| dir.join("envoy")).find(|file| file.is_file()));
    let tool = root().join(".tools/envoy");
    in_path
        .or_else(|| tool.exists().then_some(tool))
        .ok_or_else(|| "no Envoy: run `make tools`, or set ENVOY".to_owned())
}

/// Returns the repository's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
