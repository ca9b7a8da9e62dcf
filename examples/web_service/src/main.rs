//! A web service in front of an upstream that is slow and sometimes down, under
//! load: `cargo run --release --package web_service`.
//!
//! The service caches a response of the upstream for 100 ms, and may serve it as stale for ten more seconds
//! while the upstream fails. Twenty clients send requests for two seconds; the upstream is down in the middle
//! third.
//!
//! `cargo run --release --package web_service -- faults 60` gives it three faults to find from outside, with `larder top`
//! in another terminal: a cache that is too small, a slow loader, and a tier that is down. The upstream is well then. It
//! runs for so many seconds, by default ten; `faults forever` runs until it is stopped.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

mod clients;
mod faults;
mod service;
mod upstream;

use std::sync::Arc;
use std::time::Duration;

use larder::ucache;

use crate::clients::Load;
use crate::faults::Extras;
use crate::service::Service;
use crate::upstream::Upstream;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How long the upstream stays up, or down.
const PHASE: Duration = Duration::from_millis(700);

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut given = std::env::args().skip(1);
    match given.next().as_deref() {
        None => outage().await,
        Some("faults") => faults(&given.next().unwrap_or_else(|| "10".to_owned())).await,
        Some(other) => Err(format!("{other}: allowed nothing, or `faults [SECONDS|forever]`").into()),
    }
}

/// Serves articles with the extras that have faults, for the given time.
async fn faults(time: &str) -> Outcome<()> {
    let time = if time == "forever" { Duration::MAX } else { Duration::from_secs(time.parse()?) };
    let dir = tempfile::tempdir()?;
    let extras = Extras::open(dir.path())?;
    let articles = ucache("articles").dir(dir.path()).observe(cfg!(unix)).observe_control(true).build()?;
    let service =
        Service { cache: articles.to_async(), upstream: Arc::default(), extras: Some(extras.clone()) };
    let (address, server) = service.start().await?;
    println!(
        "the service listens at http://{address}/articles/0; look into it with `larder top --dir {}`, or without `--dir`",
        dir.path().display()
    );
    let load = Load::default().run(address, time).await;
    server.abort();
    println!("{load}; {:.0} % of the look-ups of thumbnails hit", extras.thumbnail_hits());
    Ok(())
}

/// Serves articles while the upstream is up, down, and up again.
async fn outage() -> Outcome<()> {
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
    let (address, server) =
        Service { cache: cache.clone(), upstream: Arc::clone(&upstream), extras: None }.start().await?;
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
