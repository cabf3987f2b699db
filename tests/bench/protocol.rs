//! What a gateway is spoken to by: HTTP/1.1, HTTP/2, or HTTP/2 over TLS.
//!
//! The clients speak HTTP/1.1 to an Envoy of their own, which speaks the protocol to the gateway over one connection. Its time
//! is not counted.

use serde_json::{Value, json};

use crate::variants::{bootstrap, router};

/// A protocol between clients and gateway.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
    Tls,
}

impl Protocol {
    /// Returns the protocol of this name.
    pub(crate) fn of(name: &str) -> Result<Self, String> {
        match name {
            "http1" => Ok(Self::Http1),
            "http2" => Ok(Self::Http2),
            "tls" => Ok(Self::Tls),
            _ => Err(format!("--protocol {name} is not known: http1, http2 or tls")),
        }
    }

    /// Has a gateway speak it; Envoy knows HTTP/2 by its first bytes.
    pub(crate) fn serve(self, gateway: &mut Value) -> Result<(), String> {
        if self == Self::Tls {
            let made =
                rcgen::generate_simple_self_signed(["localhost".to_owned()]).map_err(|error| error.to_string())?;
            let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
            let certificate =
                json!({"certificate_chain": {"inline_string": chain}, "private_key": {"inline_string": key}});
            gateway["static_resources"]["listeners"][0]["filter_chains"][0]["transport_socket"] = json!({
                "name": "envoy.transport_sockets.tls",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                    "common_tls_context": {"alpn_protocols": ["h2"], "tls_certificates": [certificate]}}});
        }
        Ok(())
    }

    /// Returns the clients' own Envoy in front of a gateway; HTTP/1.1 needs none.
    pub(crate) fn front(self, gateway: u16) -> Option<Value> {
        if self == Self::Http1 {
            return None;
        }
        let everything = json!([{"match": {"prefix": "/"}, "route": {"cluster": "primary"}}]);
        let mut front = bootstrap(&json!([router()]), &everything, gateway);
        let cluster = &mut front["static_resources"]["clusters"][0];
        cluster["typed_extension_protocol_options"] = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}}}});
        if self == Self::Tls {
            cluster["transport_socket"] = json!({"name": "envoy.transport_sockets.tls", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "common_tls_context": {"alpn_protocols": ["h2"]}}});
        }
        Some(front)
    }
}
