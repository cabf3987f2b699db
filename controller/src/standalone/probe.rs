//! Finds out whether a process serves, by asking it again and again.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use weir_engine::Span;

use crate::api::{Probe, Target};

/// Time between two questions until the first yes. A user waits for it, and nothing else costs the process anything yet.
const EAGER: Duration = Duration::from_millis(50);

/// What the probe knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// It answered.
    Ready,
    /// It did not, or does not any more; with the reason in words.
    Unready(String),
}

/// Asks one process for as long as this is held.
#[derive(Debug)]
pub(crate) struct Prober {
    health: watch::Receiver<Health>,
    task: AbortHandle,
}

impl Prober {
    /// Starts to ask the process on a port. `known` is what is known of it already; `wake` is notified of changes.
    pub(crate) fn start(probe: Probe, port: u16, known: Health, wake: Arc<Notify>) -> Self {
        let (tell, health) = watch::channel(known);
        let task = tokio::spawn(ask_forever(probe, port, tell, wake)).abort_handle();
        Self { health, task }
    }

    /// Returns what is known now.
    pub(crate) fn health(&self) -> Health {
        self.health.borrow().clone()
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn ask_forever(probe: Probe, port: u16, tell: watch::Sender<Health>, wake: Arc<Notify>) {
    let mut was_ready = *tell.borrow() == Health::Ready;
    let (mut yes, mut no) = (0, 0);
    tokio::time::sleep(duration(probe.delay)).await;
    loop {
        let answer = tokio::time::timeout(duration(probe.timeout), ask(&probe.target, port)).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {}", probe.timeout)));
        (yes, no) = if answer.is_ok() { (yes + 1, 0) } else { (0, no + 1) };
        let health = match answer {
            Ok(()) if yes >= probe.successes => Some(Health::Ready),
            Ok(()) => None,
            // Until it has served once, the newest reason is news; after that only as many misses as were asked for.
            Err(why) if !was_ready || no >= probe.failures => {
                Some(Health::Unready(describe(&probe.target, port, &why)))
            }
            Err(_) => None,
        };
        if let Some(health) = health {
            was_ready = health == Health::Ready;
            if tell.send_if_modified(|old| std::mem::replace(old, health.clone()) != health) {
                wake.notify_one();
            }
        }
        let eager = !was_ready && no > 0 && *tell.borrow() != Health::Ready;
        tokio::time::sleep(if eager { EAGER.min(duration(probe.period)) } else { duration(probe.period) }).await;
    }
}

fn describe(target: &Target, port: u16, why: &str) -> String {
    match target {
        Target::Http(path) => format!("GET {path} on port {port}: {why}"),
        Target::Tcp => format!("connection to port {port}: {why}"),
    }
}

async fn ask(target: &Target, port: u16) -> Result<(), String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    match target {
        Target::Tcp => Ok(()),
        Target::Http(path) => {
            // A whole HTTP client for one status line would be the larger risk. HTTP/1.0 ends the connection by itself.
            let request = format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: weir-probe\r\n\r\n");
            stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
            let mut line = Vec::new();
            // The first line is enough, and longer than this it is none. What comes after it may be cut off by a server
            // that closes before it has read the whole request.
            BufReader::new(stream.take(512)).read_until(b'\n', &mut line).await.map_err(|error| error.to_string())?;
            judge(&line)
        }
    }
}

fn judge(line: &[u8]) -> Result<(), String> {
    let line = String::from_utf8_lossy(line);
    let line = line.lines().next().unwrap_or_default();
    let status: Option<u16> = line.strip_prefix("HTTP/").and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
    match status {
        Some(200..=399) => Ok(()),
        Some(status) => Err(format!("status {status}")),
        None => Err("the answer is not HTTP".into()),
    }
}

fn duration(span: Span) -> Duration {
    Duration::from_millis(span.0)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;
    use tokio::net::TcpListener;

    fn probe(target: Target, failures: u32) -> Probe {
        let ms = Span(5);
        Probe { target, delay: Span(0), period: ms, timeout: Span::seconds(5), successes: 1, failures }
    }

    async fn until(prober: &Prober, wanted: impl Fn(&Health) -> bool) {
        let mut health = prober.health.clone();
        health.wait_for(|health| wanted(health)).await.unwrap();
    }

    #[tokio::test]
    async fn a_process_is_ready_when_it_listens_and_unready_when_it_stops() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let unknown = Health::Unready("not asked yet".into());
        let prober = Prober::start(probe(Target::Tcp, 3), port, unknown, Arc::default());
        until(&prober, |health| *health == Health::Ready).await;
        drop(listener);
        until(&prober, |health| matches!(health, Health::Unready(why) if why.contains("refused"))).await;
    }

    #[tokio::test]
    async fn the_status_of_an_http_probe_decides_and_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let well = Arc::new(AtomicBool::new(false));
        let is_well = well.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let status = if is_well.load(Relaxed) { "200 OK" } else { "503 Service Unavailable" };
                let mut request = [0; 64];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await;
            }
        });
        let unknown = Health::Unready("not asked yet".into());
        let prober = Prober::start(probe(Target::Http("/healthz".into()), 1), port, unknown, Arc::default());
        until(&prober, |health| matches!(health, Health::Unready(why) if why.contains("status 503"))).await;
        well.store(true, Relaxed);
        until(&prober, |health| *health == Health::Ready).await;
    }

    #[test]
    fn only_success_and_redirection_are_a_yes() {
        assert_eq!(judge(b"HTTP/1.1 204 No Content\r\n"), Ok(()));
        assert_eq!(judge(b"HTTP/1.1 302 Found\r\n"), Ok(()));
        assert_eq!(judge(b"HTTP/1.1 404 Not Found\r\n"), Err("status 404".into()));
        assert_eq!(judge(b"SSH-2.0-OpenSSH"), Err("the answer is not HTTP".into()));
        assert_eq!(judge(b""), Err("the answer is not HTTP".into()));
    }
}
