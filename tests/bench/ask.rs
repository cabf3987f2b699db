//! One question by HTTP, for the API of Weir and the admin endpoint of Envoy.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// Asks by HTTP and returns the body.
pub(crate) fn get(port: u16, path: &str) -> Result<String, String> {
    let ask = || -> std::io::Result<String> {
        let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.write_all(format!("GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n").as_bytes())?;
        let mut text = String::new();
        socket.read_to_string(&mut text)?;
        Ok(text)
    };
    let text = ask().map_err(|error| format!("ask port {port}: {error}"))?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| format!("port {port} answered {text:?}"))?;
    Ok(if head.contains("transfer-encoding: chunked") { unchunked(body) } else { body.to_owned() })
}

/// Joins the chunks of a body.
fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let Some(chunk) = usize::from_str_radix(size, 16).ok().filter(|it| *it > 0).and_then(|it| rest.get(..it))
        else {
            break;
        };
        whole.push_str(chunk);
        body = rest.get(chunk.len() + 2..).unwrap_or_default();
    }
    whole
}
