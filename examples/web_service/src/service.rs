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
use crate::faults::Extras;
use crate::upstream::Upstream;

/// The service and what its handlers share.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) cache: AsyncCache<u32, String>,
    pub(crate) upstream: Arc<Upstream>,
    /// What a request reads beside the article.
    pub(crate) extras: Option<Extras>,
}

impl Service {
    /// Starts the service on a free port of the loopback.
    pub(crate) async fn start(self) -> Outcome<(SocketAddr, JoinHandle<()>)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let service = Router::new().route("/articles/{id}", get(article)).with_state(self);
        let server = tokio::spawn(async move { drop(axum::serve(listener, service).await) });
        Ok((address, server))
    }
}

async fn article(
    State(Service { cache, upstream, extras }): State<Service>,
    Path(id): Path<u32>,
) -> Result<String, (StatusCode, String)> {
    if let Some(extras) = extras {
        extras.visit(id).await;
    }
    let loaded = cache.load(id, move |_| async move { upstream.article(id).await }).await;
    loaded.map_err(|error| (StatusCode::BAD_GATEWAY, error.to_string()))
}
