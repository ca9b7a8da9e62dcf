//! TLS, by rustls: the certificates of the platform, or one's own.

use std::io;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What a server has to prove before anything is said to it.
#[derive(Clone)]
pub(in crate::redis) struct Tls(Arc<ClientConfig>);

impl Tls {
    /// Trusts the authorities in the PEM file `ca`; without one those that the
    /// platform trusts.
    pub(in crate::redis) fn new(ca: Option<&str>) -> Result<Self, String> {
        let roots = match ca {
            Some(path) => from_file(path)?,
            None => from_platform()?,
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    pub(in crate::redis) async fn wrap(
        &self,
        stream: TcpStream,
        host: &str,
    ) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        TlsConnector::from(Arc::clone(&self.0)).connect(name, stream).await
    }
}

fn from_file(path: &str) -> Result<RootCertStore, String> {
    let refused = |why: String| format!("no certificates in the file of `ca`: {why}");
    let found = CertificateDer::pem_file_iter(path).map_err(|error| refused(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in found {
        let certificate = certificate.map_err(|error| refused(error.to_string()))?;
        roots.add(certificate).map_err(|error| refused(error.to_string()))?;
    }
    if roots.is_empty() { Err(refused("it has none".to_owned())) } else { Ok(roots) }
}

fn from_platform() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    // What the platform has of them that cannot be read cannot vouch for anybody.
    let (_added, _ignored) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("the platform has no certificates; name a file with `ca`".to_owned());
    }
    Ok(roots)
}
