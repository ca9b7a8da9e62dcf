//! What the page reads and asks.

use std::convert::Infallible;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::guard::{has_token, refusal};
use crate::{ProcessSource, Shared};

/// The most keys and events of a look.
const ROWS: usize = 50;

/// The cache whose keys and events a stream has.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Watched {
    pid: Option<u64>,
    cache: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct AskBody {
    pid: u64,
    request: Value,
}

pub(crate) async fn caches(State(shared): State<Shared>) -> Response {
    let watched = Watched { pid: None, cache: None };
    Json(look(shared, watched).await).into_response()
}

/// One look at all processes, on a thread that may block.
async fn look(shared: Shared, watched: Watched) -> Value {
    let may_change = shared.options.token.is_some();
    let looked = tokio::task::spawn_blocking(move || {
        let mut look = json!({ "processes": shared.source.read(), "may_change": may_change });
        if let (Some(pid), Some(cache)) = (watched.pid, watched.cache) {
            look["watched"] = details(&*shared.source, pid, cache);
        }
        look
    });
    looked.await.unwrap_or_else(|_| json!({ "processes": [], "may_change": may_change }))
}

fn details(source: &dyn ProcessSource, pid: u64, cache: u64) -> Value {
    let ask = |request: Value| source.ask(pid, &request);
    json!({
        "pid": pid,
        "cache": cache,
        "hot": ask(json!({ "op": "hot", "cache": cache, "limit": ROWS })),
        "dear": ask(json!({ "op": "hot", "cache": cache, "limit": ROWS, "by": "load_time" })),
        "events": ask(json!({ "op": "events", "cache": cache, "limit": ROWS })),
    })
}

pub(crate) async fn stream(
    State(shared): State<Shared>,
    watched: Result<Query<Watched>, QueryRejection>,
) -> Response {
    let Ok(Query(watched)) = watched else {
        return refusal(StatusCode::BAD_REQUEST, "config", "`pid` and `cache`: allowed whole numbers");
    };
    let Ok(permit) = shared.streams.clone().try_acquire_owned() else {
        return refusal(StatusCode::SERVICE_UNAVAILABLE, "busy", "too many pages are open");
    };
    let interval = shared.options.interval;
    let looks = stream::unfold((shared, permit, true), move |(shared, permit, is_first)| async move {
        if !is_first {
            tokio::time::sleep(interval).await;
        }
        let look = look(shared.clone(), watched).await;
        let event = Event::default().event("look").data(look.to_string());
        Some((Ok::<_, Infallible>(event), (shared, permit, false)))
    });
    Sse::new(looks).keep_alive(KeepAlive::default()).into_response()
}

pub(crate) async fn ask(
    State(shared): State<Shared>,
    headers: HeaderMap,
    question: Result<Json<AskBody>, JsonRejection>,
) -> Response {
    let Ok(Json(question)) = question else {
        let message = "allowed JSON with `pid` and `request`, as `application/json`";
        return refusal(StatusCode::BAD_REQUEST, "config", message);
    };
    let op = question.request.get("op").and_then(Value::as_str).unwrap_or_default();
    if !matches!(op, "hello" | "caches" | "hot" | "events" | "explain") {
        match has_token(&headers, &shared.options) {
            Some(true) => {}
            Some(false) => {
                return refusal(StatusCode::UNAUTHORIZED, "unauthorized", "a change needs the token");
            }
            None => return refusal(StatusCode::FORBIDDEN, "unauthorized", "this page changes nothing"),
        }
    }
    let asked = tokio::task::spawn_blocking(move || shared.source.ask(question.pid, &question.request));
    let answer = asked.await.unwrap_or(Value::Null);
    let status = match answer["error"]["kind"].as_str() {
        None => StatusCode::OK,
        Some("config") => StatusCode::BAD_REQUEST,
        Some("unsupported") => StatusCode::FORBIDDEN,
        Some(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(answer)).into_response()
}
