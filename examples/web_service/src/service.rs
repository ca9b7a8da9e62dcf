//! The service: one route, and a cache behind it.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use larder::AsyncCache;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::Outcome;
use crate::upstream::Upstream;

#[derive(Clone)]
struct Shared {
    cache: AsyncCache<u32, String>,
    upstream: Arc<Upstream>,
}

/// Starts the service on a free port of the loopback.
pub(crate) async fn start(
    cache: AsyncCache<u32, String>,
    upstream: Arc<Upstream>,
) -> Outcome<(SocketAddr, JoinHandle<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let service = Router::new().route("/articles/{id}", get(article)).with_state(Shared { cache, upstream });
    let server = tokio::spawn(async move { drop(axum::serve(listener, service).await) });
    Ok((address, server))
}

async fn article(
    State(Shared { cache, upstream }): State<Shared>,
    Path(id): Path<u32>,
) -> Result<String, (StatusCode, String)> {
    let loaded = cache.load(id, move |_| async move { upstream.article(id).await }).await;
    loaded.map_err(|error| (StatusCode::BAD_GATEWAY, error.to_string()))
}
