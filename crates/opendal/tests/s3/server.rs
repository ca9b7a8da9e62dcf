//! An S3 server over a temporary folder, on a thread of its own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use larder_opendal::OpendalTier;
use s3s::auth::SimpleAuth;
use s3s::service::{S3ServiceBuilder, SharedS3Service};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// What the server does to requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Answers after this time.
    Slow(Duration),
    /// Answers writes and deletions after this time, and what was carried out before that stands.
    SlowWrites(Duration),
    /// An internal error, without carrying out the request.
    Status500,
    /// Asks to slow down.
    Throttled,
    /// Ends each answer with a body in its middle.
    Half,
    /// Carries out the request, and ends the connection instead of an answer.
    Unanswered,
    /// Ends each connection at its first request.
    Gone,
}

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

pub(crate) struct Server {
    address: SocketAddr,
    fault: Arc<watch::Sender<Option<Fault>>>,
    requests: Arc<AtomicU64>,
    /// Dropped to end the server.
    _stop: tokio::sync::oneshot::Sender<()>,
    folder: tempfile::TempDir,
}

const KEY: &str = "AKEXAMPLE";
const SECRET: &str = "secret-of-the-tests";

impl Server {
    /// Starts a server with the bucket `bucket`.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("bucket")).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let service = builder.build().into_shared();
        let fault = Arc::new(watch::Sender::new(None));
        let requests = Arc::new(AtomicU64::new(0));
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (give, take) = mpsc::channel();
        let told = (Arc::clone(&fault), Arc::clone(&requests));
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            runtime.unwrap().block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                give.send(listener.local_addr().unwrap()).unwrap();
                tokio::select! {
                    () = serve(listener, service, told) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address: take.recv().unwrap(), fault, requests, _stop: stop, folder }
    }

    pub(crate) fn url(&self, prefix: &str) -> String {
        format!(
            "s3://bucket/{prefix}?endpoint=http://{}&access_key_id={KEY}&secret_access_key={SECRET}&region=us-east-1",
            self.address
        )
    }

    pub(crate) fn tier(&self, prefix: &str) -> OpendalTier {
        larder_opendal::s3(&self.url(prefix)).unwrap().open().unwrap()
    }

    pub(crate) fn fail(&self, fault: Fault) {
        self.fault.send_replace(Some(fault));
    }

    pub(crate) fn heal(&self) {
        self.fault.send_replace(None);
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }
}

type Told = (Arc<watch::Sender<Option<Fault>>>, Arc<AtomicU64>);

async fn serve(listener: TcpListener, service: SharedS3Service, (fault, requests): Told) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (service, fault, requests) = (service.clone(), fault.subscribe(), Arc::clone(&requests));
        tokio::spawn(async move {
            let answer = service_fn(move |request| {
                requests.fetch_add(1, Ordering::Relaxed);
                answer(service.clone(), *fault.borrow(), request)
            });
            // A client that goes away is no failure of the server.
            let _ended = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        });
    }
}

async fn answer(
    service: SharedS3Service,
    fault: Option<Fault>,
    request: Request<Incoming>,
) -> Result<Response<Body>, std::io::Error> {
    let is_write = matches!(*request.method(), Method::PUT | Method::DELETE | Method::POST);
    match fault {
        Some(Fault::Slow(time)) => tokio::time::sleep(time).await,
        Some(Fault::Status500) => return Ok(refused(StatusCode::INTERNAL_SERVER_ERROR, "InternalError")),
        Some(Fault::Throttled) => return Ok(refused(StatusCode::SERVICE_UNAVAILABLE, "SlowDown")),
        Some(Fault::Gone) => return Err(std::io::ErrorKind::ConnectionAborted.into()),
        _ => {}
    }
    let carried_out = carry_out(service, request).await;
    match fault {
        Some(Fault::SlowWrites(time)) if is_write => tokio::time::sleep(time).await,
        Some(Fault::Unanswered) => return Err(std::io::ErrorKind::ConnectionAborted.into()),
        Some(Fault::Half) => return Ok(half(carried_out).await),
        _ => {}
    }
    Ok(carried_out)
}

async fn carry_out(service: SharedS3Service, request: Request<Incoming>) -> Response<Body> {
    let is_list = request.uri().query().is_some_and(|query| query.contains("list-type=2"));
    let answered = hyper::service::Service::call(&service, request).await.unwrap();
    let answered = answered.map(|body| body.map_err(std::io::Error::other).boxed_unsync());
    if is_list { with_end(answered).await } else { answered }
}

/// A list with the element that says that it is whole. S3 always sends it, and this server does not.
async fn with_end(answer: Response<Body>) -> Response<Body> {
    const END: &str = "</ListBucketResult>";
    let (mut parts, body) = answer.into_parts();
    let list = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    let list = list.replace(END, &format!("<IsTruncated>false</IsTruncated>{END}"));
    parts.headers.insert("content-length", list.len().into());
    Response::from_parts(parts, Full::new(Bytes::from(list)).map_err(|never| match never {}).boxed_unsync())
}

fn refused(status: StatusCode, code: &str) -> Response<Body> {
    let text =
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>on command</Message></Error>");
    let body = Full::new(Bytes::from(text)).map_err(|never: Infallible| match never {});
    Response::builder().status(status).body(body.boxed_unsync()).unwrap()
}

/// The first half of the body, and then the end of the connection. The length is that of the whole.
async fn half(answer: Response<Body>) -> Response<Body> {
    let (mut parts, body) = answer.into_parts();
    let whole = body.collect().await.unwrap().to_bytes();
    if whole.is_empty() {
        return Response::from_parts(parts, Full::new(whole).map_err(|never| match never {}).boxed_unsync());
    }
    parts.headers.insert("content-length", whole.len().into());
    let first = whole.slice(..whole.len() / 2);
    let cut = std::io::Error::from(std::io::ErrorKind::ConnectionAborted);
    let frames = futures_util::stream::iter([Ok(Frame::data(first)), Err(cut)]);
    Response::from_parts(parts, StreamBody::new(frames).boxed_unsync())
}
