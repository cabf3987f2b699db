//! Runs a real Envoy with the real module, in front of a primary and a canary, the way Istio would have set it up.
//!
//! Envoy is `$ENVOY`, or `envoy` in the PATH, or `.tools/envoy` at the root. The module is what `filter/build` made.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use weir_wire::{Config, plugin};

use super::client::Client;
use super::config::TOKEN;
use super::metrics::Metrics;
use super::services::Service;

/// Longest time that anything of the gateway may take to happen.
const PATIENCE: Duration = Duration::from_secs(120);

/// How a gateway is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Worker threads.
    pub concurrency: u32,
    /// Whether the filter is in the chain at all.
    pub filter: bool,
    /// Another module than the one that `filter/build` made.
    pub module: Option<PathBuf>,
    /// The VMs' configuration. The filter does not read it; another one makes other VMs, like another module.
    pub vm: Option<String>,
    /// Whether the callbacks that a configuration does not need are left out.
    pub restricted: bool,
    /// Bytes that the gateway buffers for a client that does not read; nothing for Envoy's default, 1 MiB.
    pub buffer: Option<u32>,
    /// The routes' timeout.
    pub timeout: &'static str,
}

impl Default for Options {
    fn default() -> Self {
        Self { concurrency: 1, filter: true, module: None, vm: None, restricted: false, buffer: None, timeout: "15s" }
    }
}

/// A running Envoy with its services. Everything ends with it, also when a test panics.
pub struct Gateway {
    process: Child,
    dir: TempDir,
    /// How it was started. What changes here is for the next write.
    pub options: Options,
    /// Where clients connect.
    pub address: SocketAddr,
    admin: SocketAddr,
    /// The revision in production.
    pub primary: Service,
    /// The revision under test.
    pub canary: Service,
}

impl Gateway {
    /// Starts a gateway with a configuration that all its VMs run when this returns.
    pub async fn start(config: &Config) -> Self {
        Self::start_with(Options::default(), config).await
    }

    /// Starts a gateway in a special way. Waits for the VMs only if there is a filter to wait for.
    pub async fn start_with(options: Options, config: &Config) -> Self {
        let gateway = Self::launch(options, &serde_json::to_string(config).unwrap()).await;
        if gateway.options.filter && gateway.options.module.is_none() {
            gateway.acknowledged(config).await;
        }
        gateway
    }

    /// Starts a gateway with any text as configuration, and waits until it serves.
    pub async fn launch(options: Options, config: &str) -> Self {
        let (primary, canary) = (Service::start("primary").await, Service::start("canary").await);
        let dir = TempDir::new().unwrap();
        write_ecds(dir.path(), &options, config);
        let bootstrap = bootstrap(dir.path(), &options, &primary, &canary);
        std::fs::write(dir.path().join("envoy.json"), bootstrap.to_string()).unwrap();
        let process = spawn(dir.path(), options.concurrency);
        let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut gateway = Self { process, dir, options, address: unknown, admin: unknown, primary, canary };
        gateway.find_ports().await;
        gateway
    }

    async fn find_ports(&mut self) {
        let path = self.dir.path().join("admin");
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            // Read again each time: it may be half written.
            if let Some(admin) = std::fs::read_to_string(&path).ok().and_then(|text| text.parse().ok()) {
                self.admin = admin;
                if let Some(address) = self.listener().await {
                    self.address = address;
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("Envoy does not serve\nlog:\n{}", self.log());
    }

    async fn listener(&self) -> Option<SocketAddr> {
        let live = self.admin("/ready").await.contains("LIVE");
        let listeners = self.admin("/listeners?format=json").await;
        let listeners: Value = serde_json::from_str(&listeners).ok()?;
        let socket = listeners.pointer("/listener_statuses/0/local_address/socket_address")?;
        let port = u16::try_from(socket.get("port_value")?.as_u64()?).ok()?;
        live.then_some(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// Kills Envoy and starts it again with another configuration.
    pub async fn restart(&mut self, config: &str) {
        self.stop();
        let _ = std::fs::remove_file(self.dir.path().join("admin"));
        self.write(config);
        self.process = spawn(self.dir.path(), self.options.concurrency);
        self.find_ports().await;
    }

    // === Configuration ===

    /// Pushes a configuration and waits until every VM runs it.
    pub async fn push(&self, config: &Config) {
        self.write(&serde_json::to_string(config).unwrap());
        self.acknowledged(config).await;
    }

    /// Puts a configuration where Envoy will find it, in place of the one before.
    pub fn write(&self, config: &str) {
        write_ecds(self.dir.path(), &self.options, config);
    }

    /// Waits until every VM runs a configuration: the workers', and the main thread's.
    pub async fn acknowledged(&self, config: &Config) {
        let vms = u64::from(self.options.concurrency) + 1;
        self.metrics_when("every VM runs the configuration", |metrics| metrics.vms(config.generation) == vms).await;
    }

    // === Observation ===

    /// Reads the filter's metrics.
    pub async fn metrics(&self) -> Metrics {
        Metrics::parse(&self.admin("/stats/prometheus?filter=^wasmcustom").await)
    }

    /// Reads the filter's metrics until they are as expected.
    pub async fn metrics_when(&self, what: &str, expected: impl Fn(&Metrics) -> bool) -> Metrics {
        let mut last = Metrics::default();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            last = self.metrics().await;
            if expected(&last) {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("waited for: {what}\nmetrics: {last:#?}\nlog:\n{}", self.log());
    }

    /// Reads one of Envoy's own counters.
    pub async fn stat(&self, name: &str) -> u64 {
        let text = self.admin(&format!("/stats?filter=^{name}$")).await;
        text.trim().rsplit(' ').next().and_then(|value| value.parse().ok()).unwrap_or(0)
    }

    /// Waits until one of Envoy's own counters has a value.
    pub async fn stat_when(&self, name: &str, value: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.stat(name).await != value {
            assert!(Instant::now() < deadline, "{name} does not become {value}\nlog:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asks Envoy's admin interface.
    pub async fn admin(&self, path: &str) -> String {
        let text = async {
            let Some(mut client) = Client::try_connect(self.admin).await else { return String::new() };
            client.send(format!("GET {path} HTTP/1.1\r\nhost: admin\r\n\r\n").as_bytes()).await;
            client.answer().await.body
        };
        tokio::time::timeout(PATIENCE, text).await.unwrap_or_default()
    }

    /// Returns the process's memory in KiB.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Returns what Envoy has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("envoy.log")).unwrap_or_default()
    }

    fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop();
    }
}

// === The machine ===

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the module that `filter/build` made.
pub fn module() -> PathBuf {
    let path = root().join("target/weir-filter.wasm");
    assert!(path.exists(), "no module at {}: run filter/build first", path.display());
    path.canonicalize().unwrap()
}

fn executable() -> PathBuf {
    if let Some(path) = std::env::var_os("ENVOY") {
        return path.into();
    }
    let in_path = std::env::var_os("PATH")
        .and_then(|path| std::env::split_paths(&path).map(|dir| dir.join("envoy")).find(|file| file.is_file()));
    let tool = root().join(".tools/envoy");
    in_path.or_else(|| tool.exists().then_some(tool)).expect("no Envoy: set ENVOY, or put it into PATH or .tools/envoy")
}

fn spawn(dir: &Path, concurrency: u32) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(dir.join("envoy.log")).unwrap();
    Command::new(executable())
        .args(["--use-dynamic-base-id", "--log-level", "warning", "--concurrency", &concurrency.to_string(), "-c"])
        .arg(dir.join("envoy.json"))
        .arg("--admin-address-path")
        .arg(dir.join("admin"))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("Envoy starts")
}

// === Envoy's configuration ===

/// Replaces the file that Envoy watches, at once.
fn write_ecds(dir: &Path, options: &Options, config: &str) {
    let module = options.module.clone().unwrap_or_else(module);
    let version = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos().to_string();
    let code = json!({"local": {"filename": module}});
    let mut typed_config = match options.restricted {
        true => plugin::typed_config(code, &Config::parse(config.as_bytes()).unwrap()).unwrap(),
        false => plugin::unrestricted(code, config),
    };
    if let Some(vm) = &options.vm {
        typed_config["config"]["vm_config"]["configuration"] = plugin::text(vm);
    }
    let ecds = json!({"version_info": version, "resources": [{
        "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "name": "weir",
        "typed_config": typed_config}]});
    std::fs::write(dir.join("ecds.new"), ecds.to_string()).unwrap();
    std::fs::rename(dir.join("ecds.new"), dir.join("ecds.json")).unwrap();
}

fn bootstrap(dir: &Path, options: &Options, primary: &Service, canary: &Service) -> Value {
    let loopback = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
    let router = json!({"name": "envoy.filters.http.router", "typed_config":
        {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}});
    let weir = json!({"name": "weir", "config_discovery": {
        "config_source": {"path_config_source": {"path": dir.join("ecds.json"), "watched_directory": {"path": dir}},
            "resource_api_version": "V3"},
        "default_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"},
        "apply_default_config_without_warming": true,
        "type_urls": ["type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"]}});
    let filters = if options.filter { json!([weir, router]) } else { json!([router]) };
    let hcm = json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gateway", "codec_type": "AUTO", "http_filters": filters,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "early_header_mutation_extensions": [{"name": "envoy.http.early_header_mutation.header_mutation", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
            "mutations": [{"remove": weir_wire::TOKEN_HEADER}]}}],
        "route_config": {"name": "routes", "virtual_hosts": [
            virtual_host("shop", &["shop.example.com", "shop.example.com:*"], "http1", options.timeout),
            virtual_host("grpc", &["grpc.example.com"], "http2", options.timeout),
            // What Istio makes of a Gateway's `httpsRedirect`, and of an HTTPRoute's answer of its own.
            {"name": "secure", "domains": ["secure.example.com"], "require_tls": "ALL",
                "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "primary-http1"}}]},
            {"name": "direct", "domains": ["direct.example.com"], "routes": [
                {"match": {"prefix": "/closed"}, "direct_response": {"status": 503, "body": {"inline_string": "closed"}}},
                {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "hello"}}}]},
            {"name": "lonely", "domains": ["lonely.example.com"], "routes": [
                {"match": {"prefix": "/", "headers": [token()]}, "route": {"cluster": "nobody"}},
                {"match": {"prefix": "/"}, "route": {"cluster": "primary-http1"}}]},
            virtual_host("other", &["*"], "http1", options.timeout)]}}});
    let mut listener = json!({"name": "gateway", "address": loopback, "filter_chains": [{"filters": [hcm]}]});
    let mut clusters = [
        cluster("primary-http1", Some(primary.http1), false),
        cluster("canary-http1", Some(canary.http1), false),
        cluster("primary-http2", Some(primary.http2), true),
        cluster("canary-http2", Some(canary.http2), true),
        cluster("nobody", None, false),
    ];
    if let Some(buffer) = options.buffer {
        listener["per_connection_buffer_limit_bytes"] = buffer.into();
        for cluster in &mut clusters {
            cluster["per_connection_buffer_limit_bytes"] = buffer.into();
        }
    }
    json!({
        "node": {"id": "gateway", "cluster": "tests"},
        "admin": {"address": loopback},
        "static_resources": {
            "listeners": [listener],
            "clusters": clusters}})
}

fn token() -> Value {
    json!({"name": weir_wire::TOKEN_HEADER, "string_match": {"exact": TOKEN}})
}

/// Two routes, as Istio makes them of a VirtualService: the token's, and the rest.
fn virtual_host(name: &str, domains: &[&str], protocol: &str, timeout: &str) -> Value {
    let upgrade = json!([{"upgrade_type": "websocket"}]);
    let to = |revision: &str| json!({"cluster": format!("{revision}-{protocol}"), "timeout": timeout, "upgrade_configs": upgrade});
    json!({"name": name, "domains": domains, "routes": [
        {"name": format!("{name}.canary"), "match": {"prefix": "/", "headers": [token()]}, "route": to("canary"),
            "request_headers_to_remove": [weir_wire::TOKEN_HEADER]},
        {"name": name, "match": {"prefix": "/"}, "route": to("primary"),
            "request_headers_to_remove": [weir_wire::TOKEN_HEADER]}]})
}

fn cluster(name: &str, address: Option<SocketAddr>, http2: bool) -> Value {
    let endpoints: Vec<Value> = address
        .iter()
        .map(|address| {
            json!({"endpoint": {"address": {"socket_address":
                {"address": address.ip().to_string(), "port_value": address.port()}}}})
        })
        .collect();
    let protocol = if http2 { "http2_protocol_options" } else { "http_protocol_options" };
    json!({"name": name, "type": "STATIC", "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {protocol: {}}}}})
}
