//! Opens connections, at allowed addresses only.
//!
//! The rules are applied to what a name resolves to, by the one who connects: a name that is looked up once to be judged and
//! again to be called may have changed in between.

use std::any::Any;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use hyper::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower_service::Service;

use super::address_rules::AddressRules;

/// Longest head of a proxy's answer.
const PROXY_HEAD: usize = 8 << 10;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Opens connections.
#[derive(Clone, Default)]
pub(super) struct Connector {
    rules: Option<Arc<AddressRules>>,
    /// The system looks names up in a thread that nothing can end, and there are 512 of these for everybody, the API server's
    /// client among them. So a call that was given up keeps its place among its namespace's until its look-up has ended.
    held: Option<Arc<dyn Any + Send + Sync>>,
    /// Who connects instead, asked by the method CONNECT.
    proxy: Option<Uri>,
}

impl Connector {
    pub(super) fn new(
        rules: Option<Arc<AddressRules>>,
        held: Arc<impl Send + Sync + 'static>,
        proxy: Option<Uri>,
    ) -> Self {
        Self { rules, held: Some(held), proxy }
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("rules", &self.rules).finish_non_exhaustive()
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (uri, target) = match self.proxy.clone() {
            Some(proxy) => (proxy, Some(uri)),
            None => (uri, None),
        };
        let port = port_of(&uri);
        let resolver = Resolver { rules: self.rules.clone(), port, held: self.held.clone() };
        Box::pin(async move {
            // An address that needs no look-up never meets the resolver.
            let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
            if let (Some(rules), Ok(address)) = (&resolver.rules, host.parse::<IpAddr>()) {
                rules.check(host, SocketAddr::new(address, port))?;
            }
            let mut connector = HttpConnector::new_with_resolver(resolver);
            // TLS is the affair of who calls this.
            connector.enforce_http(false);
            connector.set_nodelay(true);
            let stream = connector.call(uri).await?;
            match target {
                Some(target) => tunnel(stream.into_inner(), &target).await,
                None => Ok(stream),
            }
        })
    }
}

fn port_of(uri: &Uri) -> u16 {
    uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 })
}

/// Has a proxy connect to the target.
async fn tunnel(mut proxy: TcpStream, target: &Uri) -> Result<TokioIo<TcpStream>, BoxError> {
    let address = format!("{}:{}", target.host().unwrap_or_default(), port_of(target));
    proxy.write_all(format!("CONNECT {address} HTTP/1.1\r\nhost: {address}\r\n\r\n").as_bytes()).await?;
    let mut head = Vec::new();
    // One byte at a time: what follows the head is the target's.
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= PROXY_HEAD {
            return Err("the proxy's answer has no end".into());
        }
        head.push(proxy.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    let first = head.lines().next().unwrap_or_default();
    match first.split(' ').nth(1) {
        Some(status) if status.starts_with('2') => Ok(TokioIo::new(proxy)),
        _ => Err(format!("the proxy refuses to connect: {first}").into()),
    }
}

/// Looks names up, and drops addresses that are not called.
#[derive(Clone)]
struct Resolver {
    rules: Option<Arc<AddressRules>>,
    port: u16,
    held: Option<Arc<dyn Any + Send + Sync>>,
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let Self { rules, port, held } = self.clone();
        let looked_up = GaiResolver::new().call(name.clone());
        // Its own task: it goes on until the thread has ended, whoever still waits for it.
        let looked_up = tokio::spawn(async move {
            let found = looked_up.await;
            drop(held);
            found
        });
        Box::pin(async move {
            let found: Vec<SocketAddr> = looked_up.await??.map(|found| SocketAddr::new(found.ip(), port)).collect();
            let Some(rules) = rules else { return Ok(found.into_iter()) };
            let mut refused = None;
            let mut allowed = Vec::new();
            for address in found {
                match rules.check(name.as_str(), address) {
                    Ok(()) => allowed.push(address),
                    Err(why) => refused = refused.or(Some(why)),
                }
            }
            match refused {
                Some(why) if allowed.is_empty() => Err(why.into()),
                _ => Ok(allowed.into_iter()),
            }
        })
    }
}
