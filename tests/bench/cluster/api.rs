//! The API server, without a process for each question: through one `kubectl proxy`.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::ask::ask;

/// The proxy; it ends with this value.
pub(crate) struct Api {
    address: SocketAddr,
    kubectl: Child,
}

impl Api {
    /// Starts the proxy.
    pub(crate) fn open() -> Self {
        let mut kubectl = Command::new("kubectl")
            .args(["proxy", "--port=0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("kubectl cannot be started: {error}"));
        let mut line = String::new();
        BufReader::new(kubectl.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().rsplit(':').next().and_then(|port| port.parse().ok());
        let port: u16 = port.unwrap_or_else(|| panic!("kubectl proxy said {line:?}"));
        Self { address: (Ipv4Addr::LOCALHOST, port).into(), kubectl }
    }

    /// Returns what is at a path.
    pub(crate) fn text(&self, path: &str) -> String {
        self.ask("GET", path, None).unwrap_or_else(|problem| panic!("{problem}"))
    }

    /// Returns the object at a path.
    pub(crate) fn get(&self, path: &str) -> Value {
        serde_json::from_str(&self.text(path)).unwrap()
    }

    /// Makes an object.
    pub(crate) fn post(&self, path: &str, object: &Value) -> Result<(), String> {
        self.ask("POST", path, Some(("application/json", &object.to_string()))).map(drop)
    }

    /// Changes what the patch names.
    pub(crate) fn patch(&self, path: &str, patch: &Value) -> Result<(), String> {
        self.ask("PATCH", path, Some(("application/merge-patch+json", &patch.to_string()))).map(drop)
    }

    fn ask(&self, method: &str, path: &str, body: Option<(&str, &str)>) -> Result<String, String> {
        let (status, answer) = ask(self.address, method, path, body)?;
        let fine = (200..300).contains(&status);
        fine.then_some(answer).ok_or_else(|| format!("{method} {path}: status {status}"))
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let _ = self.kubectl.kill();
        let _ = self.kubectl.wait();
    }
}
