//! Users: requests at a fixed rate, each response told apart by the revision that gave it, as it comes.
//!
//! Request n is due at `start + n / rate`, whatever became of those before it. A rate of 0 means as many as the machine
//! gives: every client asks again as soon as it is answered.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

/// Clients of a fixed rate: so many requests may be late or slow before the next one is late too.
const CLIENTS: u64 = 96;
/// Clients of no fixed rate: more than the canary requests that admission lets out, so that it is what bounds them.
const BUSY_CLIENTS: u64 = 64;
/// A request that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What users saw of one revision.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Revision {
    pub(crate) good: u64,
    pub(crate) failed: u64,
    pub(crate) first: Option<Instant>,
    pub(crate) first_failure: Option<Instant>,
    pub(crate) last: Option<Instant>,
}

/// What users saw since the start, or since [`Traffic::forget`].
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) since: Instant,
    pub(crate) primary: Revision,
    pub(crate) canary: Revision,
    /// Answers of the gateway itself, and none at all.
    pub(crate) nobody: u64,
}

impl Seen {
    fn new() -> Self {
        let none = Revision::default();
        Self { since: Instant::now(), primary: none, canary: none, nobody: 0 }
    }

    /// Returns the requests per second that were answered.
    pub(crate) fn rate(&self) -> f64 {
        let all = [self.primary, self.canary].iter().map(|it| it.good + it.failed).sum::<u64>() + self.nobody;
        all as f64 / self.since.elapsed().as_secs_f64()
    }

    fn add(&mut self, primary: &str, answer: Option<(String, u16)>) {
        let now = Instant::now();
        let Some((revision, status)) = answer else {
            self.nobody += 1;
            return;
        };
        let of = if revision == primary { &mut self.primary } else { &mut self.canary };
        of.first.get_or_insert(now);
        of.last = Some(now);
        if status < 500 {
            of.good += 1;
        } else {
            of.failed += 1;
            of.first_failure.get_or_insert(now);
        }
    }
}

struct Shared {
    port: u16,
    request: String,
    primary: String,
    rate: f64,
    began: Instant,
    next: AtomicU64,
    stopped: AtomicBool,
    seen: Mutex<Seen>,
}

/// Traffic that runs until this is dropped.
pub(crate) struct Traffic {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Starts the traffic; whoever answers and is not called `primary` is the canary.
    pub(crate) fn start(port: u16, host: &str, primary: &str, rate: f64) -> Self {
        let shared = Arc::new(Shared {
            port,
            request: format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n"),
            primary: primary.to_owned(),
            rate,
            began: Instant::now(),
            next: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            seen: Mutex::new(Seen::new()),
        });
        let clients = if rate > 0.0 { CLIENTS } else { BUSY_CLIENTS };
        let client = |_| {
            std::thread::spawn({
                let shared = shared.clone();
                move || shared.client()
            })
        };
        Self { clients: (0..clients).map(client).collect(), shared }
    }

    /// Returns what was seen so far.
    pub(crate) fn seen(&self) -> Seen {
        self.shared.seen().clone()
    }

    /// Counts from now on.
    pub(crate) fn forget(&self) {
        *self.shared.seen() = Seen::new();
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            // A client that panicked has said so.
            let _ = client.join();
        }
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock()
    }

    fn client(&self) {
        let mut connection = None;
        loop {
            if self.rate > 0.0 {
                let number = self.next.fetch_add(1, Ordering::Relaxed);
                let due = self.began + Duration::from_secs_f64(number as f64 / self.rate);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            if self.stopped.load(Ordering::Relaxed) {
                return;
            }
            let answer = self.ask(&mut connection);
            self.seen().add(&self.primary, answer);
        }
    }

    /// Sends one request and reads the whole response: who answered, and the status. Nothing when no revision did.
    fn ask(&self, connection: &mut Option<TcpStream>) -> Option<(String, u16)> {
        let mut socket = match connection.take() {
            Some(socket) => socket,
            None => connect(self.port)?,
        };
        socket.write_all(self.request.as_bytes()).ok()?;
        let (mut buffer, mut length) = ([0; 4096], 0);
        loop {
            let read = socket.read(&mut buffer[length..]).ok().filter(|read| *read > 0)?;
            length += read;
            let text = std::str::from_utf8(&buffer[..length]).ok()?;
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            if body.len() < field(head, "content-length")?.parse().ok()? {
                continue;
            }
            *connection = Some(socket);
            let status = head.split(' ').nth(1)?.parse().ok()?;
            return Some((field(head, "x-revision")?.to_owned(), status));
        }
    }
}

fn connect(port: u16) -> Option<TcpStream> {
    let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    socket.set_nodelay(true).ok()?;
    socket.set_read_timeout(Some(TIMEOUT)).ok()?;
    Some(socket)
}

/// Returns a response's header; Envoy writes their names in lower case.
fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}
