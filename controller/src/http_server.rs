//! A bounded HTTP server. Anybody who reaches its port may open connections and be slow: that costs the controller a fixed
//! number of connections, each for a fixed time, and keeps nobody else out for longer than a connection takes to be given up.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinSet};
use tower_service::Service as _;

/// Connections at a time. All gateways of a large fleet may fetch the module at once; each waits for its turn a moment.
const CONNECTIONS: usize = 512;
/// Time for a request's head, and for a connection between two requests.
const HEAD: Duration = Duration::from_secs(5);
/// Age at which a connection ends after the response under way.
const AGE: Duration = Duration::from_secs(60);
/// Time that a response under way then has: for the module, over a slow network.
const LAST_RESPONSE: Duration = Duration::from_secs(60);
/// Time for responses under way when the server ends.
const END: Duration = Duration::from_secs(5);
/// Bytes of a request's head.
const BUFFER: usize = 16 << 10;
/// Time to the next look when there is no place for a connection, and after a failure of the system.
const PAUSE: Duration = Duration::from_millis(50);

/// A connection's task, and the requests of it that are being answered.
type Open = (Id, AbortHandle, Arc<AtomicUsize>);

/// Serves until `stop` ends, and then what is being answered.
pub(crate) async fn serve(listener: TcpListener, router: Router, stop: impl Future<Output = ()>) {
    let (ending, ended) = watch::channel(());
    let mut tasks = JoinSet::new();
    let mut open: BTreeMap<u64, Open> = BTreeMap::new();
    tokio::pin!(stop);
    for number in 0.. {
        let stream = tokio::select! {
            () = &mut stop => break,
            stream = accept(&listener, &mut tasks, &mut open) => stream,
        };
        let busy = Arc::new(AtomicUsize::new(0));
        let task = tasks.spawn(connection(stream, router.clone(), busy.clone(), ended.clone()));
        open.insert(number, (task.id(), task, busy));
    }
    drop(listener);
    drop(ending);
    let _ = tokio::time::timeout(END, async { while tasks.join_next().await.is_some() {} }).await;
}

/// Returns the next connection, once there is a place for it. The oldest one on which nothing is being answered makes room: of a
/// flood that says nothing that is one of the flood's.
async fn accept(listener: &TcpListener, tasks: &mut JoinSet<()>, open: &mut BTreeMap<u64, Open>) -> TcpStream {
    loop {
        while let Some(done) = tasks.try_join_next_with_id() {
            let id = done.map_or_else(|error| error.id(), |(id, ())| id);
            open.retain(|_, (of, ..)| *of != id);
        }
        if open.len() >= CONNECTIONS {
            let idle = open.iter().find(|(_, (.., busy))| busy.load(Ordering::Relaxed) == 0).map(|(number, _)| *number);
            let Some((_, task, _)) = idle.and_then(|number| open.remove(&number)) else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            task.abort();
        }
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            // Out of files, for instance: others give some back.
            Err(error) => {
                tracing::debug!(%error, "connection not accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, router: Router, busy: Arc<AtomicUsize>, mut ended: watch::Receiver<()>) {
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let (mut router, busy) = (router.clone(), Busy::one_more(&busy));
        async move {
            let response = router.call(request.map(Body::new)).await;
            drop(busy);
            response
        }
    });
    let _ = stream.set_nodelay(true);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(BUFFER);
    let connection = http.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // A client that breaks off is its own affair.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = tokio::time::sleep(AGE) => {}
        _ = ended.changed() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(LAST_RESPONSE, connection).await;
}

/// Counts a request while it is being answered, however that ends.
struct Busy(Arc<AtomicUsize>);

impl Busy {
    fn one_more(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::{Notify, oneshot};

    const ROOT: &str = "/";

    /// An answer that says when it begins, and waits until it is released.
    fn slow() -> (axum::routing::MethodRouter, Arc<Notify>, watch::Sender<bool>) {
        let (release, released) = watch::channel(false);
        let started = Arc::new(Notify::new());
        let starts = started.clone();
        let answer = move || async move {
            starts.notify_one();
            let _ = released.clone().wait_for(|released| *released).await;
            "served"
        };
        (get(answer), started, release)
    }

    async fn start(router: Router) -> (SocketAddr, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(serve(listener, router, async move { drop(stopped.await) }));
        (address, stop, server)
    }

    async fn ask(address: SocketAddr) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: weir\r\nconnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn connections_that_say_nothing_keep_nobody_out() {
        let (address, _stop, _) = start(Router::new().route(ROOT, get(|| async { "served" }))).await;
        let mut flood = Vec::new();
        for _ in 0..600 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: w").await;
            flood.push(stream);
        }
        for _ in 0..10 {
            assert!(ask(address).await.unwrap().ends_with("served"));
        }
        // The oldest of the flood made room.
        assert!(matches!(flood[0].read(&mut [0; 1]).await, Ok(0) | Err(_)));
    }

    #[tokio::test]
    async fn a_connection_whose_request_is_being_answered_does_not_make_room() {
        let (slow, started, release) = slow();
        let (address, _stop, _) = start(Router::new().route(ROOT, slow)).await;
        let mut asked = TcpStream::connect(address).await.unwrap();
        asked.write_all(b"GET / HTTP/1.1\r\nhost: weir\r\nconnection: close\r\n\r\n").await.unwrap();
        // Its request is seen before the others come.
        started.notified().await;
        let mut flood = Vec::new();
        for _ in 0..CONNECTIONS + 50 {
            flood.push(TcpStream::connect(address).await.unwrap());
        }
        release.send(true).unwrap();
        let mut answer = String::new();
        asked.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("served"), "{answer}");
    }

    #[tokio::test]
    async fn what_is_being_answered_when_the_server_ends_is_answered() {
        let (slow, started, release) = slow();
        let (address, stop, server) = start(Router::new().route(ROOT, slow)).await;
        let asked = tokio::spawn(ask(address));
        started.notified().await;
        stop.send(()).unwrap();
        release.send(true).unwrap();
        assert!(asked.await.unwrap().unwrap().ends_with("served"));
        server.await.unwrap();
        assert!(ask(address).await.is_err());
    }
}
