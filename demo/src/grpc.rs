//! The service and its traffic by gRPC: HTTP/2 in the clear, an empty message each way, and the outcome in the trailers.

use std::sync::Arc;

use anyhow::Context as _;
use h2::client::SendRequest;
use h2::server::SendResponse;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue, TE};
use hyper::{HeaderMap, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, watch};

use crate::load::revision;
use crate::tally::REVISION_HEADER;

/// A message of no length.
const EMPTY: Bytes = Bytes::from_static(&[0; 5]);
const TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
const STATUS: &str = "grpc-status";
/// `UNAVAILABLE`, as a server says that fails.
const UNAVAILABLE: HeaderValue = HeaderValue::from_static("14");
const OK: HeaderValue = HeaderValue::from_static("0");

/// Answers calls until told to end, then lets those under way end. `fails` says of each whether it does.
pub(crate) async fn serve<F>(listener: TcpListener, version: String, ends: watch::Receiver<bool>, fails: F)
where
    F: Fn() -> bool + Clone + Send + 'static,
{
    while let Ok((socket, _)) = listener.accept().await {
        tokio::spawn(connection(socket, version.clone(), ends.clone(), fails.clone()));
    }
}

async fn connection<F>(socket: TcpStream, version: String, mut ends: watch::Receiver<bool>, fails: F)
where
    F: Fn() -> bool + Clone + Send + 'static,
{
    let _ = socket.set_nodelay(true);
    let Ok(mut connection) = h2::server::handshake(socket).await else { return };
    let mut ending = false;
    loop {
        let call = tokio::select! {
            call = connection.accept() => call,
            _ = ends.wait_for(|ends| *ends), if !ending => {
                ending = true;
                connection.graceful_shutdown();
                continue;
            }
        };
        let Some(Ok((request, respond))) = call else { return };
        let (version, fails) = (version.clone(), fails());
        tokio::spawn(async move {
            let mut body = request.into_body();
            while let Some(Ok(piece)) = body.data().await {
                let _ = body.flow_control().release_capacity(piece.len());
            }
            // Whoever asked may be gone.
            let _ = answer(respond, &version, fails);
        });
    }
}

fn answer(mut respond: SendResponse<Bytes>, version: &str, fails: bool) -> anyhow::Result<()> {
    let head = Response::builder().header(CONTENT_TYPE, TYPE).header(REVISION_HEADER, version).body(())?;
    let mut stream = respond.send_response(head, false)?;
    stream.send_data(EMPTY, false)?;
    stream.send_trailers(HeaderMap::from_iter([(STATUS.parse()?, if fails { UNAVAILABLE } else { OK })]))?;
    Ok(())
}

/// Calls over one connection, which is made anew when it ends.
#[derive(Clone, Default)]
pub(crate) struct Client(Arc<Mutex<Option<SendRequest<Bytes>>>>);

impl Client {
    /// Calls once: who answered, and 200, or 500 and the status of gRPC.
    pub(crate) async fn exchange<T>(&self, request: &Request<T>) -> anyhow::Result<(String, u16)> {
        let mut send = self.connected(request).await?;
        let mut call = Request::post(request.uri()).header(CONTENT_TYPE, TYPE).header(TE, "trailers").body(())?;
        call.headers_mut().extend(request.headers().clone());
        let (answer, mut body) = send.send_request(call, false)?;
        body.send_data(EMPTY, true)?;
        let answer = answer.await?;
        let (of, status) = (revision(answer.headers()), answer.status().as_u16());
        let mut said = answer.headers().get(STATUS).cloned();
        let mut body = answer.into_body();
        while let Some(piece) = body.data().await {
            body.flow_control().release_capacity(piece?.len())?;
        }
        said = body.trailers().await?.and_then(|trailers| trailers.get(STATUS).cloned()).or(said);
        let code: u16 = said.context("no grpc-status")?.to_str()?.parse()?;
        Ok((of, if code == 0 { status } else { 500 + code }))
    }

    async fn connected<T>(&self, request: &Request<T>) -> anyhow::Result<SendRequest<Bytes>> {
        let mut known = self.0.lock().await;
        if let Some(send) = known.clone()
            && let Ok(send) = send.ready().await
        {
            return Ok(send);
        }
        let uri = request.uri();
        let address = (uri.host().context("no host")?, uri.port_u16().unwrap_or(80));
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let (send, connection) = h2::client::handshake(socket).await?;
        // What ends it is seen by the calls.
        tokio::spawn(async move { drop(connection.await) });
        Ok(known.insert(send).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_is_answered_by_a_revision_and_fails_by_its_trailers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (end, ends) = watch::channel(false);
        let calls = std::sync::atomic::AtomicU64::new(0);
        let calls = Arc::new(calls);
        let every_second = move || calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) % 2 == 1;
        tokio::spawn(serve(listener, "v7".into(), ends, every_second));
        let client = Client::default();
        let request = Request::get(format!("http://127.0.0.1:{port}/shop.Cart/Add")).body(()).unwrap();
        assert_eq!(client.exchange(&request).await.unwrap(), ("v7".into(), 200));
        assert_eq!(client.exchange(&request).await.unwrap(), ("v7".into(), 514));
        end.send(true).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        assert_eq!(client.exchange(&request).await.unwrap(), ("v7".into(), 200), "over another connection");
    }
}
