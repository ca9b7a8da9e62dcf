//! A web service in front of an upstream that is slow and sometimes down, under
//! load: `cargo run --release --package web_service`.
//!
//! The service caches a response of the upstream for 100 ms, and may serve it as stale for ten more seconds
//! while the upstream fails. Twenty clients send requests for two seconds; the upstream is down in the middle
//! third.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

mod clients;
mod service;
mod upstream;

use std::sync::Arc;
use std::time::Duration;

use larder::ucache;

use crate::clients::Load;
use crate::upstream::Upstream;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How long the upstream stays up, or down.
const PHASE: Duration = Duration::from_millis(700);

#[tokio::main]
async fn main() -> Outcome<()> {
    let dir = tempfile::tempdir()?;
    let upstream = Arc::new(Upstream::default());
    let (events, mut told) = tokio::sync::mpsc::unbounded_channel();
    let cache = ucache::<u32, String>("articles")
        .dir(dir.path())
        .ttl(Duration::from_millis(100))
        .stale(Duration::from_secs(10))
        .soft_timeout(Duration::from_millis(50))
        .hard_timeout(Duration::from_secs(1))
        .on_event(move |event| _ = events.send(event.name()))
        .build()?
        .to_async();
    let (address, server) = service::start(cache.clone(), Arc::clone(&upstream)).await?;
    println!("the service listens at http://{address}/articles/0\n\nbefore:\n{}", cache.stats());

    for (phase, down) in [("up:  ", false), ("down:", true), ("back:", false)] {
        upstream.set_down(down);
        let load = Load::default().run(address, PHASE).await;
        println!("the upstream is {phase} {load}; it was asked {} times", upstream.take_asked());
        assert!(load.answered > 0 && load.failed == 0, "what was there serves as stale: {load}");
    }

    println!("\nafter:\n{}", cache.stats());
    cache.close().await?;
    server.abort();
    let mut counts = std::collections::BTreeMap::new();
    while let Ok(name) = told.try_recv() {
        *counts.entry(name).or_insert(0) += 1;
    }
    println!("events: {counts:?}");
    Ok(())
}
