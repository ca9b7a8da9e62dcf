//! Addresses of servers, and the URLs that contain them.

use std::fmt;
use std::io;

use larder_core::{Error, Result};
use percent_encoding::percent_decode_str;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo};
use tokio::net::TcpStream;

use crate::redis::connection::stream::CountedStream;
use crate::redis::connection::tls::Tls;
use crate::redis::topology::sentinel::Sentinels;

const ALLOWED: &str = "redis://[user:password@]host[:port][/database], redis+unix:///path[?db=n&pass=..], \
    redis+cluster://[user:password@]host[:port],..., redis+sentinel://[user:password@]host[:port],.../master, \
    with `rediss` for TLS";

/// The default port of a sentinel.
const SENTINEL_PORT: u16 = 26379;
/// The default port of a server.
const SERVER_PORT: u16 = 6379;

/// A server with its credentials. `Display` never shows a password.
#[derive(Clone)]
pub(in crate::redis) struct Address {
    endpoint: Endpoint,
    settings: RedisConnectionInfo,
    tls: Option<Tls>,
}

#[derive(Clone, PartialEq, Eq)]
enum Endpoint {
    Tcp(String, u16),
    #[cfg(unix)]
    Unix(std::path::PathBuf),
}

/// The servers that a URL names.
pub(in crate::redis) enum Target {
    /// One server.
    Server(Address),
    /// Some nodes of a cluster; the others are discovered from them.
    Cluster(Vec<Address>),
    /// The sentinels that know the address of the master.
    Sentinels(Sentinels),
}

impl Target {
    /// Parses a URL.
    ///
    /// # Errors
    /// `ErrorKind::Config`; the message contains no more of the URL than its scheme.
    pub(in crate::redis) fn parse(url: &str) -> Result<Self> {
        Self::read(url)
            .map_err(|why| Error::config("redis", format_args!("{} ({why})", redacted(url)), ALLOWED))
    }

    fn read(url: &str) -> std::result::Result<Self, String> {
        let parts = Parts::of(url).ok_or("not a URL")?;
        let (secure, kind) = match parts.scheme.split_once('+').unwrap_or((parts.scheme, "")) {
            ("redis" | "valkey", kind) => (false, kind),
            ("rediss" | "valkeys", kind) => (true, kind),
            ("unix", "") => (false, "unix"),
            _ => return Err("the scheme is not one of Redis".to_owned()),
        };
        let tls = if secure { Some(Tls::new(parts.parameter("ca")?.as_deref())?) } else { None };
        match kind {
            "unix" if !secure => parse_address(url.into_connection_info(), None).map(Self::Server),
            "" => Ok(Self::Server(parts.address(parts.hosts, SERVER_PORT, (parts.path, tls))?)),
            "cluster" if ["", "0"].contains(&parts.path) => {
                Ok(Self::Cluster(parts.addresses(SERVER_PORT, &tls)?))
            }
            "cluster" => Err("a cluster has no databases".to_owned()),
            "sentinel" => parts.sentinels(tls).map(Self::Sentinels),
            _ => Err("the scheme is not one of Redis".to_owned()),
        }
    }
}

/// The parts of a URL: `scheme://userinfo@hosts/path?query`.
struct Parts<'a> {
    scheme: &'a str,
    userinfo: &'a str,
    hosts: &'a str,
    path: &'a str,
    query: &'a str,
}

impl<'a> Parts<'a> {
    fn of(url: &'a str) -> Option<Self> {
        let (scheme, rest) = url.trim().split_once("://")?;
        let rest = rest.split('#').next()?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (userinfo, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        Some(Self { scheme, userinfo, hosts, path: path.trim_matches('/'), query })
    }

    fn parameter(&self, name: &str) -> std::result::Result<Option<String>, String> {
        let pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        let found = pairs.filter(|(given, _)| *given == name).map(|(_, text)| text).next();
        found.map(|text| decoded(text).ok_or_else(|| format!("`{name}` is not UTF-8"))).transpose()
    }

    fn address(
        &self,
        host: &str,
        port: u16,
        (path, tls): (&str, Option<Tls>),
    ) -> std::result::Result<Address, String> {
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        let host = if has_port { host.to_owned() } else { format!("{host}:{port}") };
        let userinfo = if self.userinfo.is_empty() { String::new() } else { format!("{}@", self.userinfo) };
        parse_address(format!("redis://{userinfo}{host}/{path}").into_connection_info(), tls)
    }

    fn addresses(&self, port: u16, tls: &Option<Tls>) -> std::result::Result<Vec<Address>, String> {
        self.hosts.split(',').map(|host| self.address(host, port, ("", tls.clone()))).collect()
    }

    fn sentinels(&self, tls: Option<Tls>) -> std::result::Result<Sentinels, String> {
        let (name, database) = self.path.split_once('/').unwrap_or((self.path, ""));
        let name =
            decoded(name).filter(|name| !name.is_empty()).ok_or("the name of the master is missing")?;
        // The credentials of the URL are those of the master; parameters give those of the sentinels.
        let master = self.address("localhost", SERVER_PORT, (database, tls.clone()))?;
        let (user, password) = (self.parameter("sentinel_user")?, self.parameter("sentinel_pass")?);
        let anonymous = Parts { userinfo: "", ..*self };
        let mut sentinels = anonymous.addresses(SENTINEL_PORT, &tls)?;
        for sentinel in &mut sentinels {
            sentinel.set_credentials(user.as_deref(), password.as_deref());
        }
        Ok(Sentinels::new(sentinels, name, master))
    }
}

impl Address {
    /// The same credentials, for the server at another address.
    pub(in crate::redis) fn at(&self, host: &str, port: u16) -> Self {
        Self { endpoint: Endpoint::Tcp(host.to_owned(), port), ..self.clone() }
    }

    /// Whether both are the same server.
    pub(in crate::redis) fn is_at(&self, other: &Self) -> bool {
        self.endpoint == other.endpoint
    }

    /// The host, if the address has one.
    pub(in crate::redis) fn host(&self) -> &str {
        match &self.endpoint {
            Endpoint::Tcp(host, _) => host,
            #[cfg(unix)]
            Endpoint::Unix(_) => "",
        }
    }

    /// Whether the connection is encrypted.
    pub(in crate::redis) fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    pub(in crate::redis) fn settings(&self) -> &RedisConnectionInfo {
        &self.settings
    }

    fn set_credentials(&mut self, user: Option<&str>, password: Option<&str>) {
        // RESP3 is requested from servers only; sentinels support it only since later versions.
        let mut settings = self.settings.clone().set_protocol(ProtocolVersion::RESP2);
        if let Some(user) = user {
            settings = settings.set_username(user);
        }
        if let Some(password) = password {
            settings = settings.set_password(password);
        }
        self.settings = settings;
    }

    /// Opens a stream, with `TCP_NODELAY` so that small requests are sent at once.
    pub(in crate::redis) async fn connect(&self) -> io::Result<CountedStream> {
        match &self.endpoint {
            Endpoint::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                match &self.tls {
                    Some(tls) => Ok(CountedStream::new(tls.wrap(stream, host).await?)),
                    None => Ok(CountedStream::new(stream)),
                }
            }
            #[cfg(unix)]
            Endpoint::Unix(path) => Ok(CountedStream::new(tokio::net::UnixStream::connect(path).await?)),
        }
    }
}

fn parse_address(
    info: redis::RedisResult<ConnectionInfo>,
    tls: Option<Tls>,
) -> std::result::Result<Address, String> {
    let info = info.map_err(|error| error.category().to_owned())?;
    let endpoint = match info.addr() {
        ConnectionAddr::Tcp(host, port) => Endpoint::Tcp(host.clone(), *port),
        #[cfg(unix)]
        ConnectionAddr::Unix(path) => Endpoint::Unix(path.clone()),
        _ => return Err("this build does not support this kind of address".to_owned()),
    };
    // Without `CLIENT SETINFO`: newer servers would log it as refused where a user has no right to it.
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3).set_skip_set_lib_name();
    Ok(Address { endpoint, settings, tls })
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.endpoint {
            Endpoint::Tcp(host, port) => write!(f, "{host}:{port}"),
            #[cfg(unix)]
            Endpoint::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn decoded(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(String::from)
}

/// The scheme of a URL; the rest may contain a password.
fn redacted(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, _)) if scheme.len() <= 16 => format!("`{scheme}://…`"),
        _ => "not a URL".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(url: &str) -> String {
        match Target::parse(url) {
            Ok(Target::Server(address)) => format!("{address} {}", address.settings.db()),
            Ok(Target::Cluster(nodes)) => format!("cluster {nodes:?}"),
            Ok(Target::Sentinels(sentinels)) => format!("{sentinels}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn urls_name_a_server_a_cluster_or_sentinels() {
        for (url, expect) in [
            ("redis://host", "host:6379 0"),
            ("redis://:pa%40ss@host:1/3?codec=json", "host:1 3"),
            ("redis://[::1]:7", "::1:7 0"),
            ("redis://[::1]", "::1:6379 0"),
            ("redis+unix:///run/redis.sock?db=2", "/run/redis.sock 2"),
            ("redis+cluster://u:p@a:1,b,[::1]:3", "cluster [a:1, b:6379, ::1:3]"),
            ("redis+sentinel://a,b:2/my%20master/4", "`my master` of a:26379, b:2"),
        ] {
            assert_eq!(described(url), expect, "{url}");
        }
    }

    #[test]
    fn invalid_urls_are_explained_without_a_password() {
        for (url, expect) in [
            ("redis+cluster://:hunter2@a/3", "a cluster has no databases"),
            ("redis+sentinel://:hunter2@a", "the name of the master is missing"),
            ("redis+cloud://:hunter2@a", "the scheme is not one of Redis"),
            ("http://:hunter2@a", "the scheme is not one of Redis"),
            ("redis+cluster://a,,b", "`redis+cluster://…`"),
            ("localhost", "not a URL"),
        ] {
            let told = described(url);
            assert!(told.contains(expect) && !told.contains("hunter2"), "{url}: {told}");
        }
    }
}
