//! Sends alerts by the client that everything else is asked with.

use std::sync::Arc;

use futures::future::BoxFuture;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Request, Uri};

use super::delivery::{TIMEOUT, Transport};
use super::notifiers::{Answer, Outgoing};
use crate::http_client::retry_after;
use crate::outbound::Outbound;

/// Characters of an answer that are kept: of Slack's, the answer is what counts.
const KEPT: usize = 2000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Http(pub(crate) Arc<Outbound>);

impl Transport for Http {
    fn send(
        &self,
        namespace: &str,
        outgoing: &Outgoing,
        token: Option<&str>,
        proxy: Option<&str>,
    ) -> BoxFuture<'static, Result<Answer, String>> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(&outgoing.url)
            .header("content-type", "application/json; charset=utf-8");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Full::new(Bytes::from(outgoing.body.to_string())));
        let proxy = proxy.map(|proxy| proxy.parse::<Uri>().ok().filter(|uri| uri.scheme_str() == Some("http")));
        let (outbound, namespace) = (self.0.clone(), namespace.to_owned());
        Box::pin(async move {
            let request = request.map_err(|_| "the address or the token is none: begin with http:// or https://")?;
            if !matches!(request.uri().scheme_str(), Some("http" | "https")) {
                return Err("the address is none: begin with http:// or https://".to_owned());
            }
            let proxy = match proxy {
                Some(None) => return Err("spec.proxy is no address of a proxy: write http://HOST:PORT".to_owned()),
                proxy => proxy.flatten(),
            };
            let answer =
                outbound.alert(&namespace, request, proxy, TIMEOUT).await.map_err(|error| error.to_string())?;
            let body = String::from_utf8_lossy(&answer.body).chars().take(KEPT).collect();
            Ok(Answer { status: answer.status.as_u16(), retry_after: retry_after(&answer.headers), body })
        })
    }
}
