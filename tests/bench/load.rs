//! A closed loop of clients that ask again as soon as they are answered.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Clients at a time. Enough to keep one worker busy, few enough that it does not always find a full batch.
const CLIENTS: usize = 8;
/// What a browser sends, more or less: a filter that reads headers should find some.
const REQUEST: &[u8] = b"GET /cart/items?page=2 HTTP/1.1\r\nhost: shop.example.com\r\n\
    user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\naccept: */*\r\n\
    accept-language: en-US,en;q=0.5\r\naccept-encoding: gzip, deflate, br\r\ncookie: session=5f2b9e1c0a7d4431; theme=dark\r\n\r\n";

/// Sends requests and returns how many were answered with 200, which is all of them or an error.
pub(crate) fn run(port: u16, requests: usize) -> Result<usize, String> {
    let left = AtomicUsize::new(requests);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| client(port, &left))).collect();
        let mut answered = 0;
        for client in clients {
            answered += client.join().map_err(|_| "a client panicked".to_owned())??;
        }
        Ok(answered)
    })
}

fn client(port: u16, left: &AtomicUsize) -> Result<usize, String> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let problem = |error: std::io::Error| format!("port {port}: {error}");
    let mut socket = TcpStream::connect(address).map_err(problem)?;
    socket.set_nodelay(true).map_err(problem)?;
    socket.set_read_timeout(Some(Duration::from_secs(10))).map_err(problem)?;
    let mut buffer = [0; 4096];
    let mut answered = 0;
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
        socket.write_all(REQUEST).map_err(problem)?;
        let mut length = 0;
        loop {
            let read = socket.read(&mut buffer[length..]).map_err(problem)?;
            length += read;
            if read == 0 {
                return Err(format!("port {port}: closed"));
            }
            if is_complete(&buffer[..length]) {
                break;
            }
        }
        if !buffer.starts_with(b"HTTP/1.1 200") {
            return Err(format!("port {port}: {}", String::from_utf8_lossy(&buffer[..length.min(80)])));
        }
        answered += 1;
    }
    Ok(answered)
}

fn is_complete(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    answer.len() >= end + 4 + length.unwrap_or(0)
}
