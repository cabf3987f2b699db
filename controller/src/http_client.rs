//! The one HTTP client: what Weir asks of gateways, of Envoy, of a Prometheus and of webhooks goes through it, over TLS too.
//!
//! It never waits without an end and never reads without one, and it follows no redirect: a server that is asked decides neither
//! how long Weir waits, nor how much it keeps in memory, nor where it asks next.

mod address_rules;
mod connector;
mod tls;

use std::error::Error;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::RETRY_AFTER;
use hyper::http::response::Parts;
use hyper::{HeaderMap, Request, Response, StatusCode, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};

pub use ipnet::IpNet;

use self::address_rules::ForbiddenAddress;
pub use self::address_rules::{AddressRules, network};
use self::connector::Connector;

/// Most bytes of an answer's head, and of a body that hyper reads at a time. Other programs choose both.
const BUFFER: usize = 64 << 10;

/// How much of an answer is waited for and read.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Time for the whole answer, from the look-up of the name on.
    pub timeout: Duration,
    /// Bytes of the body.
    pub body: usize,
}

/// An answer. Any status is one.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, or the part of it that the limit allows.
    pub body: Bytes,
    /// The limit, where there is more of the body than that.
    cut: Option<usize>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is one that Weir does not call.
    #[error("{0}")]
    Forbidden(String),
    /// There is no connection, or it broke off. What caused it in the end says more than the layers above.
    #[error("{0}")]
    Broken(String),
    /// The answer is longer than it may be.
    #[error("{status}, and the answer is longer than {} KiB, which is all that is read", limit >> 10)]
    TooLong {
        /// Its status.
        status: StatusCode,
        /// The limit.
        limit: usize,
    },
    /// The answer is not there in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

/// Which certificates of servers are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificates {
    /// Those of this machine's authorities.
    Verified,
    /// Any, for those who ask for it by `disableTLS` or `insecureSkipVerify`.
    Any,
}

/// The machine's authorities, read once.
static VERIFIED: LazyLock<(Arc<ClientConfig>, bool)> = LazyLock::new(tls::verified);
static ANY: LazyLock<Arc<ClientConfig>> = LazyLock::new(tls::any);

/// Asks by HTTP.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: Client<HttpsConnector<Connector>, Full<Bytes>>,
    /// What is added to an error of TLS where it is no wonder.
    hint: &'static str,
}

impl HttpClient {
    /// Returns a client for those who are asked again and again: it keeps connections.
    #[must_use]
    pub fn persistent() -> Self {
        Self::build(Connector::default(), Certificates::Verified, usize::MAX)
    }

    /// Returns a client for one call of a program that a user names: at an address that the rules allow. It keeps no connection:
    /// such programs are asked seldom, and may be replaced meanwhile. `held` is kept until nothing of the call is under way. Through a
    /// `proxy` the address is the proxy's affair, and the rules are about the proxy's.
    pub(crate) fn once(
        rules: Option<Arc<AddressRules>>,
        held: Arc<impl Send + Sync + 'static>,
        certificates: Certificates,
        proxy: Option<Uri>,
    ) -> Self {
        Self::build(Connector::new(rules, held, proxy), certificates, 0)
    }

    fn build(connector: Connector, certificates: Certificates, idle: usize) -> Self {
        let (tls, hint) = match certificates {
            Certificates::Verified if VERIFIED.1 => (VERIFIED.0.clone(), tls::TRUSTS_NOBODY),
            Certificates::Verified => (VERIFIED.0.clone(), ""),
            Certificates::Any => (ANY.clone(), ""),
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(idle)
            .http1_max_buf_size(BUFFER)
            .build(HttpsConnector::from((connector, tls)));
        Self { client, hint }
    }

    /// Asks, and returns the answer as far as the limits go.
    ///
    /// # Errors
    /// When there is no answer. One that refuses is an answer.
    pub async fn send(&self, request: Request<Full<Bytes>>, limits: Limits) -> Result<Answer, HttpError> {
        let hint = if request.uri().scheme_str() == Some("https") { self.hint } else { "" };
        let answer = async {
            let response = self.client.request(request).await.map_err(|error| broken(&error, hint))?;
            Answer::read(response, limits.body).await
        };
        tokio::time::timeout(limits.timeout, answer).await.unwrap_or(Err(HttpError::Timeout(limits.timeout)))
    }

    /// Asks, and hands the body of an answer that is a success over as it comes in: none of it is kept. Returns the status.
    ///
    /// # Errors
    /// When there is no whole answer within the limits, or `take` does not want it.
    pub async fn send_through<E: Error>(
        &self,
        request: Request<Full<Bytes>>,
        limits: Limits,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<StatusCode, HttpError> {
        let hint = if request.uri().scheme_str() == Some("https") { self.hint } else { "" };
        let answer = async {
            let response = self.client.request(request).await.map_err(|error| broken(&error, hint))?;
            let (Parts { status, .. }, mut body) = response.into_parts();
            let mut left = limits.body;
            while status.is_success()
                && let Some(frame) = body.frame().await
            {
                let frame = frame.map_err(|error| HttpError::Broken(format!("{status}, and then {}", root(&error))))?;
                let Ok(data) = frame.into_data() else { continue };
                let too_long = HttpError::TooLong { status, limit: limits.body };
                left = left.checked_sub(data.len()).ok_or(too_long)?;
                take(&data).map_err(|error| HttpError::Broken(error.to_string()))?;
            }
            Ok(status)
        };
        tokio::time::timeout(limits.timeout, answer).await.unwrap_or(Err(HttpError::Timeout(limits.timeout)))
    }
}

/// A connection that was opened by other means than an address.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    /// Speaks HTTP over a stream.
    pub(crate) async fn over<S>(stream: S) -> Result<Self, HttpError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let opened = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = opened.map_err(|error| broken(&error, ""))?;
        // It ends when the sender is dropped, or the other side; what that means is told to who sends next.
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    /// As [`HttpClient::send`].
    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>, limits: Limits) -> Result<Answer, HttpError> {
        let answer = async {
            self.sender.ready().await.map_err(|error| broken(&error, ""))?;
            let response = self.sender.send_request(request).await.map_err(|error| broken(&error, ""))?;
            Answer::read(response, limits.body).await
        };
        tokio::time::timeout(limits.timeout, answer).await.unwrap_or(Err(HttpError::Timeout(limits.timeout)))
    }
}

impl Answer {
    async fn read(response: Response<Incoming>, limit: usize) -> Result<Self, HttpError> {
        let (Parts { status, headers, .. }, body) = response.into_parts();
        let read = read(body, limit).await;
        let (body, longer) = read.map_err(|error| HttpError::Broken(format!("{status}, and then {}", root(&error))))?;
        Ok(Self { status, headers, body, cut: longer.then_some(limit) })
    }

    /// Returns the whole body.
    ///
    /// # Errors
    /// When there is more of it than was read.
    pub fn whole(self) -> Result<Bytes, HttpError> {
        match self.cut {
            None => Ok(self.body),
            Some(limit) => Err(HttpError::TooLong { status: self.status, limit }),
        }
    }
}

/// Returns when a server wants to be asked again, where it says so in seconds; chats say them with a fraction.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: f64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    (seconds > 0.0).then(|| Duration::from_secs_f64(seconds.min(86_400.0)))
}

/// Reads a body; returns also whether there is more of it.
async fn read(mut body: Incoming, limit: usize) -> Result<(Bytes, bool), hyper::Error> {
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let room = limit - read.len();
        read.extend_from_slice(&data[..room.min(data.len())]);
        if data.len() > room {
            return Ok((read.into(), true));
        }
    }
    Ok((read.into(), false))
}

fn broken(error: &(dyn Error + 'static), hint: &str) -> HttpError {
    let root = root(error);
    match root.downcast_ref::<ForbiddenAddress>() {
        Some(forbidden) => HttpError::Forbidden(forbidden.to_string()),
        None => HttpError::Broken(format!("{root}{hint}")),
    }
}

/// Returns the error that caused all others.
fn root<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut root = error;
    while let Some(cause) = root.source() {
        root = cause;
    }
    root
}
