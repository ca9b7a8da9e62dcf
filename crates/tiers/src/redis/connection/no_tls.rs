//! The twin of `tls.rs` in a build without TLS: there is none to be had.

use std::io;

use tokio::net::TcpStream;

/// Nothing: nobody can have one.
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
