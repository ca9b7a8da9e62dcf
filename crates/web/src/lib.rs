//! The observed caches of running processes as a page in the browser: a router for axum.
//!
//! The page is one file each of HTML, JavaScript and CSS, which are part of this library: nothing is loaded from
//! another host, and nothing is built. It reads JSON, and a stream of server-sent events with a look a second.
//!
//! ```no_run
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! larder::observe()?;
//! let admin = larder_web::router(larder_web::ThisProcess, larder_web::PageOptions::new());
//! let service = axum::Router::new().nest("/larder", admin);
//! # let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
//! # axum::serve(listener, service).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Who may see it
//!
//! Everyone who reaches the port, so bind it to a loopback address or put it behind an access control of your own.
//! Requests whose `Host` is not a loopback address, `localhost`, or a name that [`PageOptions::host`] allows are
//! refused: otherwise a page of another host could read it by way of a name that it makes point here. Changes need
//! a [token](PageOptions::token), and `observe_control` of the cache.

mod api;
mod guard;
mod source;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::OriginalUri;
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use tokio::sync::Semaphore;

pub use source::{ObservedProcess, ProcessSource, ThisProcess};

/// The most streams at a time. Each reads all statistics once an interval.
const STREAMS_MAX: usize = 16;
/// The shortest token, in bytes.
const TOKEN_MIN: usize = 16;

/// What the page may do, and who may see it.
#[derive(Clone)]
pub struct PageOptions {
    token: Option<String>,
    hosts: Vec<String>,
    interval: Duration,
}

impl std::fmt::Debug for PageOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PageOptions").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

impl Default for PageOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl PageOptions {
    /// A page that changes nothing, for loopback addresses and `localhost`, with a look a second.
    pub fn new() -> Self {
        Self { token: None, hosts: Vec::new(), interval: Duration::from_secs(1) }
    }

    /// Allows changes by requests with this token: 16 bytes or more.
    ///
    /// # Errors
    /// A sentence, if it is shorter.
    pub fn token(self, token: impl Into<String>) -> Result<Self, String> {
        let token = token.into();
        match token.len() < TOKEN_MIN {
            true => Err(format!("the token has {} bytes, allowed {TOKEN_MIN} or more", token.len())),
            false => Ok(Self { token: Some(token), ..self }),
        }
    }

    /// Allows requests for this host: a name or an address, without the port.
    #[must_use]
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.hosts.push(host.into().to_ascii_lowercase());
        self
    }

    /// The time between two looks, 100 ms or more. Default 1 s.
    #[must_use]
    pub fn interval(self, interval: Duration) -> Self {
        Self { interval: interval.max(Duration::from_millis(100)), ..self }
    }
}

/// What the handlers share.
#[derive(Clone)]
struct Shared {
    source: Arc<dyn ProcessSource>,
    options: Arc<PageOptions>,
    streams: Arc<Semaphore>,
}

/// The page and what it reads, to be served or nested in another router.
///
/// | path | answer |
/// |---|---|
/// | `GET /`, `/page.js`, `/page.css` | the page |
/// | `GET /api/caches` | the statistics of all caches, as JSON |
/// | `GET /api/stream?pid=1&cache=2` | the same once an interval as events `look`, with the keys and events of one cache |
/// | `POST /api/ask` | the answer to `{"pid": 1, "request": {..}}`, as the protocol of `docs/live.md` has it |
pub fn router(source: impl ProcessSource, options: PageOptions) -> Router {
    let source: Arc<dyn ProcessSource> = Arc::new(source);
    let shared =
        Shared { source, options: Arc::new(options), streams: Arc::new(Semaphore::new(STREAMS_MAX)) };
    Router::new()
        .route("/", get(page))
        .route("/page.js", get(|| asset("text/javascript; charset=utf-8", include_str!("page/page.js"))))
        .route("/page.css", get(|| asset("text/css; charset=utf-8", include_str!("page/page.css"))))
        .route("/api/caches", get(api::caches))
        .route("/api/stream", get(api::stream))
        .route("/api/ask", post(api::ask))
        .layer(axum::middleware::from_fn_with_state(shared.clone(), guard::check))
        .with_state(shared)
}

/// The page, which finds its files below the path that it was asked for: it may be nested anywhere.
async fn page(OriginalUri(uri): OriginalUri) -> impl IntoResponse {
    let path = uri.path().trim_end_matches('/');
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | '~' | '%');
    let base = if path.chars().all(is_plain) { format!("{path}/") } else { "/".to_owned() };
    let kind: (HeaderName, &str) = (CONTENT_TYPE, "text/html; charset=utf-8");
    ([kind], include_str!("page/page.html").replacen("BASE", &base, 1))
}

async fn asset(kind: &'static str, content: &'static str) -> impl IntoResponse {
    let header: (HeaderName, &str) = (CONTENT_TYPE, kind);
    ([header], content)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    fn get(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    #[cfg(unix)]
    async fn router_that_is_nested_in_a_service_shows_the_caches_of_the_process() {
        let tides = larder::mcache::<u32, u32>("tides").observe(true).build().unwrap();
        tides.insert(6, 1);
        let service = Router::new().nest("/admin/larder", router(ThisProcess, PageOptions::new()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move { axum::serve(listener, service).await });
        let asked = tokio::task::spawn_blocking(move || {
            let page = get(address, "/admin/larder");
            assert!(page.contains("<base href=\"/admin/larder/\">"), "{page}");
            let caches = get(address, "/admin/larder/api/caches");
            assert!(
                caches.contains("\"name\":\"tides\"") && caches.contains("\"may_change\":false"),
                "{caches}"
            );
            assert!(get(address, "/admin/larder/page.js").contains("200 OK"));
        });
        asked.await.unwrap();
        serving.abort();
    }
}
