//! The HTTP client of a storage by URL.
//!
//! The client of OpenDAL takes its cryptography from a setting of the whole process, or brings another one than
//! the rest of Larder uses. This one is hyper over rustls and ring.

use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use larder_core::{Error, ErrorKind, Result};
use opendal::raw::{HttpBody, HttpFetch, parse_content_length};
use opendal::{Buffer, ErrorKind as Of};

/// Speaks HTTP 1.1 with servers that the authorities of the platform vouch for, and with those of `http:` URLs.
pub(crate) struct TlsClient(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl TlsClient {
    pub(crate) fn new() -> Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::new(ErrorKind::Config, format!("TLS: {error}")))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        Ok(Self(Client::builder(TokioExecutor::new()).build(connector)))
    }
}

type Answer = hyper::Response<HttpBody>;

impl HttpFetch for TlsClient {
    /// Reads the answer whole: the tier needs whole frames.
    async fn fetch(&self, request: hyper::Request<Buffer>) -> opendal::Result<Answer> {
        let (uri, is_head) = (request.uri().clone(), request.method() == hyper::Method::HEAD);
        let answer = self.0.request(request.map(|body| Full::new(body.to_bytes()))).await;
        let (mut parts, body) = answer.map_err(unsent)?.into_parts();
        let len = if is_head { None } else { parse_content_length(&parts.headers)? };
        let body = body.collect().await.map_err(|error| {
            opendal::Error::new(Of::Unexpected, "the answer ended early").set_temporary().set_source(error)
        })?;
        // The service reads it from there.
        parts.extensions.insert(uri);
        let bytes = futures_util::stream::iter([Ok(Buffer::from(body.to_bytes()))]);
        Ok(hyper::Response::from_parts(parts, HttpBody::new(bytes, len)))
    }
}

/// The error of a request without an answer. One that was never sent has no source: nothing has to settle.
fn unsent(error: hyper_util::client::legacy::Error) -> opendal::Error {
    let told = opendal::Error::new(Of::Unexpected, format!("no answer: {error}")).set_temporary();
    if error.is_connect() { told } else { told.set_source(error) }
}
