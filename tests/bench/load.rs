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

/// Connected clients of one gateway.
pub(crate) struct Load(Vec<TcpStream>);

impl Load {
    /// Connects them.
    pub(crate) fn connect(port: u16) -> Result<Self, String> {
        let connect = || {
            let socket = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port)))?;
            socket.set_nodelay(true)?;
            socket.set_read_timeout(Some(Duration::from_secs(20)))?;
            Ok(socket)
        };
        let sockets: Result<_, std::io::Error> = (0..CLIENTS).map(|_| connect()).collect();
        sockets.map(Self).map_err(|error| format!("port {port}: {error}"))
    }

    /// Sends requests and returns how many were answered with 200, which is all of them or an error.
    pub(crate) fn run(&mut self, requests: usize) -> Result<usize, String> {
        let left = AtomicUsize::new(requests);
        std::thread::scope(|scope| {
            let clients: Vec<_> = self.0.iter_mut().map(|socket| scope.spawn(|| client(socket, &left))).collect();
            let mut answered = 0;
            for client in clients {
                answered += client.join().map_err(|_| "a client panicked".to_owned())??;
            }
            Ok(answered)
        })
    }
}

fn client(socket: &mut TcpStream, left: &AtomicUsize) -> Result<usize, String> {
    let problem = |error: std::io::Error| format!("gateway: {error}");
    let mut buffer = [0; 4096];
    let mut answered = 0;
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
        socket.write_all(REQUEST).map_err(problem)?;
        let mut length = 0;
        while !is_complete(&buffer[..length]) {
            let read = socket.read(&mut buffer[length..]).map_err(problem)?;
            if read == 0 {
                return Err("gateway: closed the connection".into());
            }
            length += read;
        }
        if !buffer.starts_with(b"HTTP/1.1 200") {
            return Err(format!("gateway: {}", String::from_utf8_lossy(&buffer[..length.min(80)])));
        }
        answered += 1;
    }
    Ok(answered)
}

/// Returns whether an answer is there to its end.
pub(crate) fn is_complete(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    answer.len() >= end + 4 + length.unwrap_or(0)
}
