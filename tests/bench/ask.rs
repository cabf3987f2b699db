//! One question by HTTP, for the APIs of Weir and of a cluster, and the metrics of gateways.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Longest time until an answer begins: a loaded machine's API server takes its time.
const PATIENCE: Duration = Duration::from_secs(20);

/// Asks a port of this machine and returns the body.
pub(crate) fn get(port: u16, path: &str) -> Result<String, String> {
    ask((Ipv4Addr::LOCALHOST, port), "GET", path, None).map(|(_, body)| body)
}

/// Asks by HTTP, with a body and its type if one is given; returns the status and the body.
pub(crate) fn ask(
    address: impl ToSocketAddrs + Copy,
    method: &str,
    path: &str,
    body: Option<(&str, &str)>,
) -> Result<(u16, String), String> {
    let ask = || -> std::io::Result<Vec<u8>> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
        if let Some((kind, body)) = body {
            request += &format!("content-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        } else {
            request += "\r\n";
        }
        socket.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(|error| format!("{method} {path}: {error}"))?;
    let split = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let (head, rest) = answer.split_at(split.ok_or_else(|| format!("{method} {path}: no answer"))?);
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or_default();
    let body = if head.contains("transfer-encoding: chunked") { unchunked(&rest[4..]) } else { rest[4..].to_owned() };
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// Joins the chunks of a body.
fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = body.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&body[..end]).ok().and_then(|it| usize::from_str_radix(it, 16).ok());
        let Some(chunk) = size.filter(|it| *it > 0).and_then(|it| body.get(end + 2..end + 2 + it)) else { break };
        whole.extend_from_slice(chunk);
        body = body.get(end + 2 + chunk.len() + 2..).unwrap_or_default();
    }
    whole
}
