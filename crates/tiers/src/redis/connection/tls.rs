//! TLS with rustls, by the certificates of the platform or a given file.

use std::io;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The TLS configuration that server certificates are verified with.
#[derive(Clone)]
pub(in crate::redis) struct Tls(Arc<ClientConfig>);

impl Tls {
    /// Trusts the authorities in the PEM file `ca`, or those of the platform if there is none.
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
    let refused = |why: String| format!("cannot read certificates from the file in `ca`: {why}");
    let found = CertificateDer::pem_file_iter(path).map_err(|error| refused(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in found {
        let certificate = certificate.map_err(|error| refused(error.to_string()))?;
        roots.add(certificate).map_err(|error| refused(error.to_string()))?;
    }
    if roots.is_empty() { Err(refused("the file has no certificates".to_owned())) } else { Ok(roots) }
}

fn from_platform() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    // Unreadable certificates of the platform are ignored.
    let (_added, _ignored) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("the platform has no certificates; name a file with `ca`".to_owned());
    }
    Ok(roots)
}
