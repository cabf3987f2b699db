//! Calls to programs that users name: webhooks, and whoever answers metrics. One controller makes them for every namespace, so
//! each call is bounded in time and size, goes to allowed addresses only, and takes its namespace's share of what is under way.

mod shares;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;

use self::shares::Shares;
use crate::http_client::{AddressRules, Answer, Certificates, HttpClient, HttpError, Limits};

/// Longest body that is read: a metric is one number, and people are shown a line of what a webhook says.
pub(crate) const LONGEST: usize = 16 << 10;

/// Reads Secrets.
pub(crate) trait Secrets: fmt::Debug + Send + Sync {
    /// Returns what is in a Secret, by key.
    fn read(&self, namespace: &str, name: &str) -> BoxFuture<'static, Result<BTreeMap<String, String>, String>>;
}

/// Makes calls to programs that users name.
#[derive(Debug)]
pub(crate) struct Outbound {
    rules: Option<Arc<AddressRules>>,
    secrets: Option<Arc<dyn Secrets>>,
    shares: Shares,
}

impl Outbound {
    /// As [`Outbound::with_secrets`], where there are none.
    #[cfg(test)]
    pub(crate) fn new(rules: Option<Arc<AddressRules>>) -> Arc<Self> {
        Arc::new(Self { rules, secrets: None, shares: Shares::default() })
    }

    /// Returns what makes the calls of one controller. Without rules any address is called: on one machine they are the user's own.
    pub(crate) fn with_secrets(rules: Option<Arc<AddressRules>>, secrets: Arc<dyn Secrets>) -> Arc<Self> {
        Arc::new(Self { rules, secrets: Some(secrets), shares: Shares::default() })
    }

    /// Returns what is in a Secret, by key.
    pub(crate) async fn secret(&self, namespace: &str, name: &str) -> Result<BTreeMap<String, String>, String> {
        match &self.secrets {
            Some(secrets) => secrets.read(namespace, name).await,
            None => Err("there are no Secrets here: give headers".into()),
        }
    }

    /// Calls for an object of a namespace. The time begins when the namespace's turn has come.
    pub(crate) async fn call(
        &self,
        namespace: &str,
        request: Request<Full<Bytes>>,
        certificates: Certificates,
        timeout: Duration,
    ) -> Result<Answer, HttpError> {
        let share = Arc::new(self.shares.take(namespace).await);
        let client = HttpClient::once(self.rules.clone(), share, certificates, None);
        let asked = format!("{} {}", request.method(), shown_address(request.uri()));
        let answer = client.send(request, Limits { timeout, body: LONGEST }).await;
        match &answer {
            Ok(answer) => {
                let body = String::from_utf8_lossy(&answer.body);
                tracing::debug!(namespace, asked, status = answer.status.as_u16(), %body, "call answered");
            }
            Err(error) => tracing::debug!(namespace, asked, %error, "call not answered"),
        }
        answer
    }

    /// Sends an alert of a namespace's provider. Alerts have shares of their own, so that chats that hang delay no check; and nothing
    /// of them is logged, since the address of a chat's webhook is its password.
    pub(crate) async fn alert(
        &self,
        namespace: &str,
        request: Request<Full<Bytes>>,
        proxy: Option<hyper::Uri>,
        timeout: Duration,
    ) -> Result<Answer, HttpError> {
        // No namespace is called so.
        let share = Arc::new(self.shares.take(&format!("{namespace}/alerts")).await);
        let client = HttpClient::once(self.rules.clone(), share, Certificates::Verified, proxy);
        client.send(request, Limits { timeout, body: LONGEST }).await
    }
}

/// Returns an address as people are shown it: without a user's name and password, and without the query, which may be one.
pub(crate) fn shown_address(uri: &hyper::Uri) -> String {
    let host = uri.authority().map(|authority| authority.as_str().rsplit('@').next().unwrap_or_default());
    format!("{}://{}{}", uri.scheme_str().unwrap_or("http"), host.unwrap_or_default(), uri.path())
}

#[cfg(test)]
mod tests;
