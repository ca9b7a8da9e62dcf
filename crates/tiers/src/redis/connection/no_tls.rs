//! Replaces `tls.rs` in a build without TLS; every request for TLS fails.

use std::io;

use tokio::net::TcpStream;

/// An uninhabited type: no value exists without the feature.
#[derive(Clone)]
pub(in crate::redis) enum Tls {}

impl Tls {
    pub(in crate::redis) fn new(_ca: Option<&str>) -> Result<Self, String> {
        Err("this build has no TLS: the feature `redis-tls` is off".to_owned())
    }

    #[expect(clippy::unused_async, reason = "its twin waits")]
    pub(in crate::redis) async fn wrap(&self, _stream: TcpStream, _host: &str) -> io::Result<TcpStream> {
        match *self {}
    }
}
