//! Answers requests: a line of JSON for a line of JSON.

use std::sync::Arc;

use larder_core::entry_meta::Tag;
use larder_core::{Error, ErrorKind, Result};
use larder_engine::Engine;
use serde_json::{Value as Json, json};

use super::{Observed, PROTOCOL, keys, observed, report};

/// The most keys or events of an answer.
const ROWS_MAX: usize = 512;
const ROWS: usize = 20;

/// The first line of a connection, and the answer to `hello`.
pub(super) fn hello() -> Json {
    json!({
        "larder": PROTOCOL,
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "program": super::program(),
    })
}

/// Answers one request, as text in one line.
pub(super) fn line(request: &str) -> String {
    match serde_json::from_str::<Json>(request) {
        Ok(request) => {
            let answered = answer(&Request(&request));
            let mut answer = match answered {
                Ok(answer) => json!({ "ok": answer }),
                Err(error) => failure(error.kind(), &error.to_string()),
            };
            if let Some(id) = request.get("id").filter(|id| id.is_number() || id.is_string()) {
                answer["id"] = id.clone();
            }
            answer.to_string()
        }
        Err(error) => failure(ErrorKind::Config, &format!("the request is not JSON: {error}")).to_string(),
    }
}

/// The answer that reports a failure.
pub(super) fn failure(kind: ErrorKind, message: &str) -> Json {
    json!({ "error": { "kind": format!("{kind:?}").to_lowercase(), "message": message } })
}

/// A request, whose fields are read with errors that name them.
struct Request<'a>(&'a Json);

impl Request<'_> {
    fn text(&self, field: &str) -> Result<Option<&str>> {
        match self.0.get(field) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::String(text)) => Ok(Some(text)),
            Some(other) => Err(Error::config(field, other, "text")),
        }
    }

    fn number(&self, field: &str) -> Result<Option<u64>> {
        match self.0.get(field) {
            None | Some(Json::Null) => Ok(None),
            Some(number) => match number.as_u64() {
                Some(number) => Ok(Some(number)),
                None => Err(Error::config(field, number, "a whole number, not negative")),
            },
        }
    }

    fn rows(&self) -> Result<usize> {
        let rows = self.number("limit")?.map_or(ROWS, |rows| usize::try_from(rows).unwrap_or(usize::MAX));
        Ok(rows.min(ROWS_MAX))
    }

    /// The cache that the request is about.
    fn cache(&self) -> Result<(Arc<Engine>, Observed)> {
        let given = self.number("cache")?;
        let Some(id) = given else { return Err(Error::config("cache", "nothing", "the `id` of a cache")) };
        let found = observed().into_iter().find(|(_, observed)| observed.id == id);
        found.ok_or_else(|| Error::config("cache", id, "the `id` of a cache that is observed and open"))
    }

    fn controlled(&self) -> Result<(Arc<Engine>, Observed)> {
        let (engine, observed) = self.cache()?;
        if observed.may_control {
            return Ok((engine, observed));
        }
        let message = format!("the cache {:?} is not built with `observe_control`", engine.name());
        Err(Error::new(ErrorKind::Unsupported, message))
    }

    fn key(&self, engine: &Engine, observed: &Observed) -> Result<larder_core::erased::Key> {
        match (self.text("key")?, self.text("key_hex")?) {
            (_, Some(hex)) => keys::find(engine, observed.finder, hex, true),
            (Some(text), None) => keys::find(engine, observed.finder, text, false),
            (None, None) => Err(Error::config("key", "nothing", "the text of a key, or `key_hex`")),
        }
    }
}

fn answer(request: &Request<'_>) -> Result<Json> {
    match request.text("op")?.unwrap_or_default() {
        "hello" => Ok(hello()),
        "caches" => Ok(caches()),
        "hot" => hot(request),
        "events" => events(request),
        "explain" => explain(request),
        "invalidate" => invalidate(request),
        "clear" => {
            let (engine, _) = request.controlled()?;
            engine.threads().clear().map(|()| json!({ "cleared": engine.name() }))
        }
        other => Err(Error::config(
            "op",
            format_args!("{other:?}"),
            "hello, caches, hot, events, explain, invalidate, clear",
        )),
    }
}

fn caches() -> Json {
    let caches: Vec<Json> =
        observed().iter().map(|(engine, observed)| report::cache(observed, engine)).collect();
    json!({ "caches": caches })
}

fn not_sampled(engine: &Engine) -> Error {
    let message = format!("the cache {:?} was built before the process was observed", engine.name());
    Error::new(ErrorKind::Unsupported, message)
}

fn hot(request: &Request<'_>) -> Result<Json> {
    let (engine, _) = request.cache()?;
    let rows = request.rows()?;
    let found = match request.text("by")?.unwrap_or("requests") {
        "requests" => engine.hottest_requests(rows),
        "load_time" => engine.observer().map(|observer| observer.loads().top(rows)),
        other => return Err(Error::config("by", format_args!("{other:?}"), "requests, load_time")),
    };
    found.map(report::hot_keys).ok_or_else(|| not_sampled(&engine))
}

fn events(request: &Request<'_>) -> Result<Json> {
    let (engine, _) = request.cache()?;
    let observer = engine.observer().ok_or_else(|| not_sampled(&engine))?;
    let (events, last) = observer.events().since(request.number("after")?.unwrap_or(0), request.rows()?);
    Ok(json!({ "last": last, "events": events.iter().map(report::event).collect::<Vec<_>>() }))
}

fn explain(request: &Request<'_>) -> Result<Json> {
    let (engine, observed) = request.cache()?;
    let key = request.key(&engine, &observed)?;
    engine.threads().explain(&key).map(|found| report::explanation(&found))
}

fn invalidate(request: &Request<'_>) -> Result<Json> {
    let (engine, observed) = request.controlled()?;
    if let Some(tag) = request.text("tag")? {
        engine.threads().invalidate_tags(vec![Tag::from(tag)])?;
        return Ok(json!({ "invalidated": { "tag": tag } }));
    }
    if request.0.get("all") == Some(&Json::Bool(true)) {
        engine.threads().invalidate_all()?;
        return Ok(json!({ "invalidated": "all" }));
    }
    let key = request.key(&engine, &observed)?;
    engine.threads().invalidate(&key)?;
    Ok(json!({ "invalidated": { "key": request.0.get("key").or_else(|| request.0.get("key_hex")) } }))
}
