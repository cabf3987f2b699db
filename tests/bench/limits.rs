//! What a Canary at every limit at once costs those who share its gateway: how long requests to another host take beside it, and
//! beside an ordinary one. Both are under way, with the filter on for every request of the gateway; of each hundred requests one is the
//! Canary's own, with headers that its expressions are slow at.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use weir_wire::{Canary, Lookup};

use crate::envoy::Envoy;
use crate::variants::{self, Variant};

/// Between two requests of the Canary's own clients: one in a hundred of what one client of another host sends.
const OWN: Duration = Duration::from_millis(20);

/// Measures and prints.
///
/// # Errors
/// When an Envoy does not start or answer.
pub(crate) fn run(upstream: u16, rounds: usize, requests: usize) -> Result<(), String> {
    let list = variants(upstream)?;
    let mut gateways = Vec::new();
    for Variant { name, bootstrap, .. } in &list {
        gateways.push(Envoy::start(name, bootstrap)?);
    }
    let mut took: Vec<Vec<f64>> = vec![Vec::new(); list.len()];
    for round in 0..rounds {
        for turn in 0..list.len() {
            let at = (turn + round) % list.len();
            took[at].extend(measure(gateways[at].port, requests)?);
        }
    }
    println!("| beside | requests to another host, us: p50 | p99 | p99, to the first row |");
    println!("|---|---|---|---|");
    let mut base = None;
    for (Variant { name, .. }, took) in list.iter().zip(&mut took) {
        took.sort_by(f64::total_cmp);
        let quantile = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
        let p99 = quantile(0.99);
        let base = *base.get_or_insert(p99);
        println!("| {name} | {:.0} | {p99:.0} | {:.2} |", quantile(0.5), p99 / base);
    }
    Ok(())
}

/// An ordinary canary, and one at every limit at once, each beside requests to another host.
fn variants(upstream: u16) -> Result<Vec<Variant>, String> {
    let variant = |name: &str, canary: Canary| -> Result<Variant, String> {
        let config = variants::config(vec![canary]);
        let filter = variants::delivered(&config)?;
        let routes = variants::by_token();
        let bootstrap = variants::bootstrap(&json!([filter, variants::router()]), &routes, upstream);
        Ok(Variant { name: name.to_owned(), bootstrap, calls: 0 })
    };
    let ordinary = variants::canary(2, Lookup::Host, 1_000);
    Ok(vec![variant("an ordinary Canary", ordinary.clone())?, variant("a Canary at every limit", at_limits(ordinary))?])
}

/// As much of everything as a Canary may have.
fn at_limits(mut canary: Canary) -> Canary {
    canary.hosts.extend((0..63).map(|i| format!("{}{i}.example.com", "h".repeat(220))));
    let slow = |i: usize| weir_wire::StringMatch::Regex(format!("(?:a*){{{}}}c", 8 + i));
    let condition = |i: usize| weir_wire::Condition {
        headers: [("x-a".to_owned(), slow(i))].into(),
        cookies: [("a".to_owned(), slow(i))].into(),
        query_params: [("a".to_owned(), slow(i))].into(),
    };
    canary.conditions = (0..16).map(condition).collect();
    let attributes = format!("; Path=/{}", "p".repeat(500));
    canary.affinity =
        Some(weir_wire::Affinity { cookie: "c".repeat(200), attributes, ..weir_wire::Affinity::default() });
    canary.latency_ms = (1..=30).map(|edge| edge * 100).collect();
    let table = || (0..64).map(|i| [3 + i * 7, 3 + i]).collect::<Vec<[u32; 2]>>();
    canary.limits = (0..3)
        .map(|i| weir_wire::Limits {
            epoch: 3 - i,
            comparison: table(),
            absolute: table(),
            end: [1_000, 1_000],
            beyond: [vec![[70, 9_000]; 8], vec![[70, 9_000]; 8]],
        })
        .collect();
    canary
}

/// Returns the microseconds of so many requests to another host.
fn measure(port: u16, requests: usize) -> Result<Vec<f64>, String> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let own = scope.spawn(|| -> Result<(), String> {
            let mut socket = connect(port)?;
            let slow = format!("{}b", "a".repeat(8_000));
            let head = format!(
                "GET /?a={slow} HTTP/1.1\r\nhost: {}\r\nx-a: {slow}\r\ncookie: a={slow}\r\n\r\n",
                variants::OTHER
            );
            while !done.load(Ordering::Relaxed) {
                ask(&mut socket, head.as_bytes())?;
                std::thread::sleep(OWN);
            }
            Ok(())
        });
        let mut socket = connect(port)?;
        let head = format!("GET /cart HTTP/1.1\r\nhost: {}\r\n\r\n", variants::HOST);
        let mut took = Vec::with_capacity(requests);
        for _ in 0..requests {
            let begun = Instant::now();
            ask(&mut socket, head.as_bytes())?;
            took.push(begun.elapsed().as_secs_f64() * 1e6);
        }
        done.store(true, Ordering::Relaxed);
        own.join().map_err(|_| "a client panicked".to_owned())??;
        Ok(took)
    })
}

fn connect(port: u16) -> Result<TcpStream, String> {
    let connected = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).and_then(|socket| {
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(socket)
    });
    connected.map_err(|error| format!("port {port}: {error}"))
}

/// Sends a request and reads its answer, which has a length.
fn ask(socket: &mut TcpStream, request: &[u8]) -> Result<(), String> {
    let problem = |error: std::io::Error| format!("gateway: {error}");
    socket.write_all(request).map_err(problem)?;
    let (mut buffer, mut length) = ([0; 4096], 0);
    while !crate::load::is_complete(&buffer[..length]) {
        let read = socket.read(&mut buffer[length..]).map_err(problem)?;
        if read == 0 {
            return Err("gateway: closed the connection".into());
        }
        length += read;
    }
    Ok(())
}
