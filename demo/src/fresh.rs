//! A connection for every request. A request knows what it waits for, so that one that is given up says where it stood.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::Context as _;
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

/// What a request waits for.
const WAITS: [&str; 4] = ["", "the name's address", "a connection", "the answer"];

/// Where a request stands.
#[derive(Default)]
pub(crate) struct Stand(AtomicU8);

impl Stand {
    fn at(&self, wait: u8) {
        self.0.store(wait, Ordering::Relaxed);
    }

    /// What it waits for; empty for one that does not say.
    pub(crate) fn waits_for(&self) -> &'static str {
        WAITS[usize::from(self.0.load(Ordering::Relaxed))]
    }
}

/// Sends requests to one host. Its name is looked up once: what is tried is the service, and no name server.
#[derive(Clone, Default)]
pub(crate) struct Client(Arc<OnceCell<Vec<SocketAddr>>>);

impl Client {
    /// Connects, sends the request, and returns the head of the answer, whose body keeps the connection.
    pub(crate) async fn send(
        &self,
        mut request: Request<Empty<Bytes>>,
        stand: &Stand,
    ) -> anyhow::Result<Response<Incoming>> {
        let uri = std::mem::take(request.uri_mut());
        stand.at(1);
        let addresses = self.0.get_or_try_init(|| addresses(&uri)).await?;
        stand.at(2);
        let socket = TcpStream::connect(&addresses[..]).await?;
        socket.set_nodelay(true)?;
        stand.at(3);
        if let Some(authority) = uri.authority()
            && !request.headers().contains_key(HOST)
        {
            request.headers_mut().insert(HOST, authority.as_str().parse()?);
        }
        *request.uri_mut() = uri.path_and_query().map_or_else(|| Uri::from_static("/"), |path| path.clone().into());
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        // What ends it is seen by the request.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender.send_request(request).await?)
    }
}

async fn addresses(uri: &Uri) -> anyhow::Result<Vec<SocketAddr>> {
    let host = uri.host().context("the address names no host")?;
    Ok(tokio::net::lookup_host((host, uri.port_u16().unwrap_or(80))).await?.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_that_is_given_up_says_what_it_waited_for() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/", silent.local_addr().unwrap());
        let (client, stand) = (Client::default(), Stand::default());
        let request = Request::get(uri).body(Empty::new()).unwrap();
        let sent = client.send(request, &stand);
        assert!(tokio::time::timeout(std::time::Duration::from_millis(200), sent).await.is_err());
        assert_eq!(stand.waits_for(), "the answer");
    }
}
