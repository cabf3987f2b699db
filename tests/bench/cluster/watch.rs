//! What the status of Canaries says, as it comes: by a watch, as everybody reads it.

use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Deserializer, Value};

/// Nothing takes longer on a machine that is not broken.
const PATIENCE: Duration = Duration::from_secs(300);

/// What a Canary said.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) at: Instant,
    pub(crate) name: String,
    pub(crate) phase: String,
    /// Percent.
    pub(crate) weight: f64,
    /// Whether every gateway that serves uses that weight, and there is one.
    pub(crate) acknowledged: bool,
    /// Requests that failed on the canary, as counted by gateways.
    pub(crate) failures: usize,
}

/// A watch that runs until this is dropped.
pub(crate) struct Watch {
    said: Arc<Mutex<Vec<Said>>>,
    kubectl: Child,
}

impl Watch {
    /// Watches the Canaries of a namespace.
    pub(crate) fn of(namespace: &str) -> Self {
        let mut kubectl = Command::new("kubectl")
            .args(["-n", namespace, "get", "canaries", "-w", "-o", "json"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("kubectl cannot be started: {error}"));
        let said: Arc<Mutex<Vec<Said>>> = Arc::default();
        let (output, all) = (kubectl.stdout.take().unwrap(), said.clone());
        std::thread::spawn(move || {
            let objects = Deserializer::from_reader(std::io::BufReader::new(output)).into_iter::<Value>();
            for object in objects.map_while(Result::ok) {
                all.lock().unwrap().push(read(&object));
            }
        });
        let watch = Self { said, kubectl };
        // What is so already comes first: it must not be taken for news.
        let began = Instant::now();
        while watch.said.lock().unwrap().is_empty() {
            assert!(began.elapsed() < PATIENCE, "no Canary in {namespace}");
            std::thread::sleep(Duration::from_millis(5));
        }
        watch
    }

    /// Returns everything that was said since a moment, in order.
    pub(crate) fn since(&self, moment: Instant) -> Vec<Said> {
        self.said.lock().unwrap().iter().filter(|said| said.at >= moment).cloned().collect()
    }

    /// Waits until something was said since a moment.
    pub(crate) async fn until(&self, what: &str, moment: Instant, wanted: impl Fn(&Said) -> bool) -> Said {
        let began = Instant::now();
        loop {
            if let Some(said) = self.since(moment).into_iter().find(&wanted) {
                return said;
            }
            let last = self.since(moment).pop();
            assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}; last: {last:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.kubectl.kill();
        let _ = self.kubectl.wait();
    }
}

fn read(canary: &Value) -> Said {
    let status = &canary["status"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (serving, acknowledged) = (&status["gateways"]["serving"], &status["gateways"]["acknowledged"]);
    Said {
        at: Instant::now(),
        name: text(&canary["metadata"]["name"]),
        phase: text(&status["phase"]),
        weight: status["canaryWeight"].as_f64().unwrap_or_default(),
        acknowledged: serving == acknowledged && serving.as_i64() > Some(0),
        failures: status["evidence"]["canaryFailures"].as_u64().unwrap_or_default() as usize,
    }
}
