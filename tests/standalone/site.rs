//! One `weir standalone` on a folder of its own: the real binary, a real Envoy, the real module, real processes.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weir_demo::load::{Load, Running};

/// Longest time that anything may take to happen, on a machine that is busy with other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

/// How releases are analysed in most tests: quickly.
pub(crate) const ANALYSIS: &str = "{interval: 1s, threshold: 2, stepWeights: [10, 30], metrics: [{name: request-success-rate, \
                            thresholdRange: {min: 99}}]}";

/// A folder with a Weir on it. Everything that it started ends with it, also when a test panics.
pub(crate) struct Site {
    folder: TempDir,
    /// Where requests go.
    pub(crate) listen: SocketAddr,
    /// Where the API is.
    pub(crate) http: SocketAddr,
    /// Further arguments of Weir.
    pub(crate) arguments: Vec<String>,
    weir: Option<Child>,
}

/// Returns an address that nobody listens on. Its port is none of those that connections are given by themselves.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let port = 20_000 + (std::process::id() as u16 % 100) * 100 + NEXT.fetch_add(1, Ordering::Relaxed) % 100;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// One answer over HTTP.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Status line and headers.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Site {
    /// Returns an empty folder with ports that nobody listens on.
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("weir-site-").tempdir().unwrap();
        let [listen, http] = [free_address(), free_address()];
        let site = Self { folder, listen, http, arguments: Vec::new(), weir: None };
        site.switch("{}");
        site
    }

    /// Returns a site whose Canary serves `v1`.
    pub(crate) async fn serving() -> Self {
        let mut site = Self::new();
        site.release("v1", "");
        site.start();
        site.until("initialized", |view| view["phase"] == "Initialized").await;
        site
    }

    /// Returns a site in the middle of a release of `v2`, at this weight.
    pub(crate) async fn releasing(weight: f64) -> (Self, Running) {
        let site = Self::serving().await;
        let load = site.load();
        // What a test does at a weight must not come after it.
        let slow = ANALYSIS.replace("interval: 1s", "interval: 10s");
        let release = format!("{}---\n{}", site.process("shop", "v2", ""), canary("shop", "*", &slow));
        site.write("shop.yaml", &release);
        site.until("at the weight", |view| view["weight"] == weight && view["applied"]["gateways"] == 1).await;
        (site, load)
    }

    /// Returns a path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces a file, as an editor does.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let new = self.path(&format!("{name}.new"));
        fs::write(&new, text).unwrap();
        fs::rename(new, self.path(name)).unwrap();
    }

    /// Declares a version of the service; `more` is appended to its arguments.
    pub(crate) fn release(&self, version: &str, more: &str) {
        self.write(
            "shop.yaml",
            &format!("{}---\n{}", self.process("shop", version, more), canary("shop", "*", ANALYSIS)),
        );
    }

    /// Returns a Process of the demonstration's service, whose health is in the file `switch`.
    pub(crate) fn process(&self, name: &str, version: &str, more: &str) -> String {
        let program = serde_json::to_string(&artefact("weir-demo")).unwrap();
        let switch = serde_json::to_string(&self.path("switch")).unwrap();
        format!(
            "apiVersion: weir.dev/v1beta1\nkind: Process\nmetadata: {{name: {name}}}\nspec:\n  \
             command: [{program}, serve, --version, {version}{switched}{more}]\n  \
             readinessProbe: {{httpGet: {{path: /healthz}}}}\n",
            // The revision in production keeps its health whatever a test does to the other one.
            switched = if version == "v1" { String::new() } else { format!(", --switch-file, {switch}") },
        )
    }

    /// Changes the health of every version but `v1`.
    pub(crate) fn switch(&self, json: &str) {
        self.write("switch", json);
    }

    /// Starts Weir.
    pub(crate) fn start(&mut self) {
        assert!(self.weir.is_none(), "weir runs already");
        self.weir = Some(self.command().spawn().unwrap());
    }

    /// Starts a Weir that can't start, and returns what it says.
    pub(crate) fn refuse(&self) -> String {
        let output = self.command().stderr(Stdio::piped()).output().unwrap();
        assert!(!output.status.success(), "it started");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn command(&self) -> Command {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("weir.log")).unwrap();
        let mut command = Command::new(artefact("weir"));
        command
            .arg("standalone")
            .args(["--dir".as_ref(), self.folder.path()])
            .args(["--listen", &self.listen.to_string(), "--http", &self.http.to_string(), "--concurrency", "2"])
            .args(&self.arguments)
            .env("WEIR_FILTER", artefact("weir-filter.wasm"))
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        command
    }

    /// Asks Weir on the command line, and returns what is printed.
    pub(crate) fn ask(&self, words: &[&str]) -> String {
        let server = format!("http://{}", self.http);
        let output = Command::new(artefact("weir")).args(words).args(["--server", &server]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Kills Weir as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        let mut weir = self.weir.take().expect("weir runs");
        weir.kill().unwrap();
        weir.wait().unwrap();
    }

    /// Ends Weir as Ctrl-C does, and waits for it.
    pub(crate) async fn interrupt(&mut self) -> ExitStatus {
        let mut weir = self.weir.take().expect("weir runs");
        send("INT", i32::try_from(weir.id()).unwrap());
        let began = Instant::now();
        loop {
            if let Some(status) = weir.try_wait().unwrap() {
                return status;
            }
            if began.elapsed() > PATIENCE {
                let _ = weir.kill();
                panic!("weir does not end\n{}", self.log());
            }
            pause().await;
        }
    }

    /// Returns what Weir logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("weir.log")).unwrap_or_default()
    }

    /// Returns the list of the API.
    pub(crate) async fn list(&self) -> Option<Value> {
        let answer = get(self.http, "/api/v1/canaries", &["host: localhost"]).await?;
        serde_json::from_str(&answer.body).ok()
    }

    /// Returns what the API says of a Canary.
    pub(crate) async fn view_of(&self, name: &str) -> Option<Value> {
        let list = self.list().await?;
        list["items"].as_array()?.iter().find(|item| item["name"] == name).cloned()
    }

    /// Waits until the API says this of the Canary `shop`.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut last = None;
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            last = self.view_of("shop").await;
            if let Some(view) = last.as_ref().filter(|view| is_so(view)) {
                return view.clone();
            }
            pause().await;
        }
        panic!("never {what}: {last:#?}\n{}", self.log());
    }

    /// Waits until something is so.
    pub(crate) async fn eventually(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        let began = Instant::now();
        while !is_so().await {
            assert!(began.elapsed() < PATIENCE, "never {what}\n{}", self.log());
            pause().await;
        }
    }

    /// Waits until the release of a version ended, and how.
    pub(crate) async fn until_ended(&self, phase: &str) -> Value {
        self.until(phase, |view| {
            let over = ["Succeeded", "Failed"].iter().any(|end| view["phase"] == *end);
            assert!(!over || view["phase"] == phase || view["run"] != "", "{view:#?}\n{}", self.log());
            view["phase"] == phase && view["run"] == ""
        })
        .await
    }

    /// Sends 100 requests a second until the result is asked for.
    pub(crate) fn load(&self) -> Running {
        let url = format!("http://{}/", self.listen).parse().unwrap();
        Load { url, timeout_ms: 60_000, ..Load::default() }.start()
    }

    /// Sends one request.
    pub(crate) async fn get(&self, headers: &[&str]) -> Option<Answer> {
        get(self.listen, "/", headers).await
    }

    /// Returns the pid of Envoy.
    pub(crate) fn envoy(&self) -> i32 {
        let record: Value = serde_json::from_slice(&fs::read(self.path(".weir/envoy.json")).unwrap()).unwrap();
        i32::try_from(record["process"]["pid"].as_i64().unwrap()).unwrap()
    }

    /// Returns the pids of an arm's processes.
    pub(crate) fn processes(&self, arm: &str) -> Vec<i32> {
        let Ok(content) = fs::read(self.path(".weir/processes.json")) else { return Vec::new() };
        let list: Value = serde_json::from_slice(&content).unwrap();
        let of_arm = list.as_array().unwrap().iter().filter(|process| process["arm"] == arm);
        of_arm.map(|process| i32::try_from(process["process"]["pid"].as_i64().unwrap()).unwrap()).collect()
    }

    /// Returns the pids of everything that runs for this folder, Weir itself aside.
    pub(crate) fn running(&self) -> Vec<i32> {
        // Whichever folder below it holds the state.
        let marker = format!("WEIR_STATE={}/", fs::canonicalize(self.folder.path()).unwrap().display());
        let pids = fs::read_dir("/proc").unwrap().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|entry| entry.starts_with(marker.as_bytes()))
        })
        .collect()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(mut weir) = self.weir.take() {
            let _ = weir.kill();
            let _ = weir.wait();
        }
        for pid in self.running() {
            send("KILL", pid);
        }
    }
}

/// Returns a Canary that splits a host's requests.
pub(crate) fn canary(name: &str, host: &str, analysis: &str) -> String {
    format!(
        "apiVersion: weir.dev/v1beta1\nkind: Canary\nmetadata: {{name: {name}}}\nspec:\n  \
         targetRef: {{kind: Process, name: {name}}}\n  service: {{hosts: [\"{host}\"]}}\n  analysis: {analysis}\n"
    )
}

/// Sends a signal to a process.
pub(crate) fn send(signal: &str, pid: i32) {
    let _ = Command::new("kill").args([format!("-{signal}"), pid.to_string()]).stderr(Stdio::null()).status();
}

/// Time between two looks.
pub(crate) async fn pause() {
    tokio::time::sleep(Duration::from_millis(25)).await;
}

/// Sends a GET, to the host `shop` unless a header says otherwise; nothing if nobody answers.
pub(crate) async fn get(address: SocketAddr, path: &str, headers: &[&str]) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let host = if headers.iter().any(|header| header.starts_with("host:")) { "" } else { "host: shop\r\n" };
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let request = format!("GET {path} HTTP/1.1\r\n{host}connection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { whole(body)? } else { body.to_owned() };
    Some(Answer { status: head.split(' ').nth(1)?.parse().ok()?, head: head.to_owned(), body })
}

/// Puts together a body that came in chunks.
fn whole(mut chunks: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (length, rest) = chunks.split_once("\r\n")?;
        let length = usize::from_str_radix(length, 16).ok()?;
        if length == 0 {
            return Some(body);
        }
        body.push_str(rest.get(..length)?);
        chunks = rest.get(length..)?.strip_prefix("\r\n")?;
    }
}

/// Returns what was built: a program beside the tests, or the module in `target`.
fn artefact(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let places = tests.ancestors().skip(2).take(2).map(|folder| folder.join(name));
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target").join(name);
    let found = places.chain([module]).find(|place| place.is_file());
    found.unwrap_or_else(|| panic!("no {name}: run `cargo build --workspace --bins && filter/build`"))
}
