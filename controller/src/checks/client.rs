//! One way to ask other programs by HTTP, over TLS too.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// Longest answer that is read: a metric is a number, and people are shown less.
const LONGEST: usize = 1 << 20;

/// What is added to an error of TLS where it is no wonder.
const NOBODY: &str = " (no certificate of an authority was found here: SSL_CERT_FILE names a file of them)";

/// The machine's own certificates, read once for all Canaries.
static TRUSTED: LazyLock<Client> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let trusts_nobody = roots.is_empty();
    let client = Client::with(|builder| builder.with_root_certificates(roots).with_no_client_auth());
    Client { trusts_nobody, ..client }
});
static ANYBODY: LazyLock<Client> = LazyLock::new(|| {
    let verifier = Arc::new(Anybody(ring::default_provider()));
    Client::with(|builder| builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
});

type Wants = rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>;

/// A client that keeps no connection: it asks seldom, and whom it asks may be replaced meanwhile.
#[derive(Clone, Debug)]
pub(super) struct Client {
    client: Legacy<HttpsConnector<HttpConnector>, Full<Bytes>>,
    trusts_nobody: bool,
}

impl Client {
    /// Returns the client for `http` and `https`; where `verify` is false, any certificate will do.
    pub(super) fn shared(verify: bool) -> &'static Self {
        if verify { &TRUSTED } else { &ANYBODY }
    }

    fn with(config: impl FnOnce(Wants) -> ClientConfig) -> Self {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap_or_else(|_| unreachable!("ring has the default versions"));
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(config(builder)).https_or_http().enable_http1().build();
        let client = Legacy::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Self { client, trusts_nobody: false }
    }

    /// Asks, and returns the whole answer, or why there is none.
    pub(super) async fn ask(
        &self,
        request: Request<Full<Bytes>>,
        timeout: Duration,
    ) -> Result<(StatusCode, Bytes), String> {
        let answer = async {
            let https = request.uri().scheme_str() == Some("https");
            let response = self.client.request(request).await.map_err(|error| {
                let hint = if https && self.trusts_nobody { NOBODY } else { "" };
                format!("{}{hint}", crate::telemetry::Chain(&error))
            })?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LONGEST).collect().await;
            Ok((status, body.map_err(|error| format!("{status}, and then {error}"))?.to_bytes()))
        };
        tokio::time::timeout(timeout, answer).await.unwrap_or_else(|_| Err(format!("no answer within {timeout:?}")))
    }
}

/// Takes any certificate, for those who ask for it by `disableTLS` or `insecureSkipVerify`.
#[derive(Debug)]
struct Anybody(CryptoProvider);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
