//! How much of a budget of the disk tier is live, by the size of the values.
//!
//! ```text
//! cargo run --release --package larder-tiers --features disk --example space -- 100 256 512
//! ```
//!
//! Writes three fifths of the budget (or what `FILL` says, in hundredths), overwrites
//! all of it three times, in order and at random, and prints for each size what is
//! live in the end, the most that `du` said meanwhile, and what puts and hits took: by
//! the processor on Linux, where others may keep it busy, and the slowest by the clock.
//! `BUDGET` is in MiB, 64 where nothing is said; `READS` of a hundred puts are followed
//! by a read, which counts as a part of them.

#![allow(clippy::print_stdout, reason = "an example shows what it measures")]

use std::error::Error;
use std::fs;
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use larder_core::clock::Time;
use larder_core::frame::{CodecId, Compression, Frame, Header};
use larder_core::key::EncodedKey;
use larder_core::place::Kind;
use larder_core::tier::Tier;
use larder_core::{Bytes, Durability};
use larder_tiers::DiskBudget;
use larder_tiers::disk::{CROSSOVER_BYTES, DiskOptions, DiskTier};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let budget = variable("BUDGET", 64)? << 20;
    let fill = variable("FILL", 60)?;
    println!("value  keys     live frames / values  most du   put: mean, slowest   hit: mean   evictions");
    for size in std::env::args().skip(1) {
        measure(size.parse()?, budget, fill)?;
    }
    Ok(())
}

fn variable(name: &str, default: u64) -> Result<u64> {
    std::env::var(name).map_or(Ok(default), |value| Ok(value.parse()?))
}

/// What was seen of one size.
#[derive(Default)]
struct Seen {
    most: u64,
    puts: u32,
    slowest: Duration,
}

fn measure(size: usize, budget: u64, fill: u64) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let crossover = variable("CROSSOVER", CROSSOVER_BYTES)?;
    let tier = DiskTier::open(DiskOptions {
        dir: dir.path().to_owned(),
        budget: DiskBudget::new(budget).share(),
        crossover,
        durability: Durability::Buffered,
    })?;
    let keys = budget * fill / 100 / size as u64;
    let reads = variable("READS", 0)?;
    let mut seen = Seen::default();
    let started = Busy::now();
    for round in 0..4 {
        for at in 0..keys {
            let name = if round % 2 == 0 { at } else { at.wrapping_mul(7919) % keys };
            put(&tier, name, size, round, &mut seen)?;
            if at % 100 < reads {
                now(tier.get(&key(at.wrapping_mul(104_729) % keys)))??;
            }
            if at % (keys / 64).max(1) == 0 {
                seen.most = seen.most.max(taken(dir.path()));
            }
        }
    }
    let put = started.elapsed() / f64::from(seen.puts);
    let mut live = (0, 0);
    let started = Busy::now();
    for at in 0..keys {
        if let Some(frame) = now(tier.get(&key(at.wrapping_mul(7919) % keys)))?? {
            live = (live.0 + frame.len() as u64, live.1 + size as u64);
        }
    }
    let hit = started.elapsed() / keys as f64;
    let share = |bytes: u64| bytes * 100 / budget;
    println!(
        "{size:5}  {keys:7}  {:3} / {:3} %             {:3} %    {:5.1} µs, {:4} ms      {:5.1} µs   {}",
        share(live.0),
        share(live.1),
        share(seen.most.max(taken(dir.path()))),
        put,
        seen.slowest.as_millis(),
        hit,
        tier.usage().evictions,
    );
    Ok(())
}

fn put(tier: &DiskTier, name: u64, size: usize, round: u64, seen: &mut Seen) -> Result<()> {
    let key = key(name);
    let frame = frame(&key, vec![(name + round) as u8; size]);
    let started = Instant::now();
    now(tier.put(&key, &frame))??;
    let took = started.elapsed();
    seen.puts += 1;
    seen.slowest = seen.slowest.max(took);
    Ok(())
}

/// What this thread took of the processor; the clock where that is not told.
struct Busy {
    clock: Instant,
    nanos: Option<u64>,
}

impl Busy {
    fn now() -> Self {
        let told = fs::read_to_string("/proc/thread-self/schedstat").ok();
        let nanos = told.and_then(|told| told.split_whitespace().next()?.parse().ok());
        Self { clock: Instant::now(), nanos }
    }

    /// Microseconds since.
    fn elapsed(&self) -> f64 {
        match (self.nanos, Self::now().nanos) {
            (Some(before), Some(now)) => now.saturating_sub(before) as f64 / 1e3,
            _ => self.clock.elapsed().as_secs_f64() * 1e6,
        }
    }
}

/// A blocking tier is done after one poll.
fn now<T>(future: impl Future<Output = T>) -> Result<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Ok(value),
        Poll::Pending => Err("a blocking tier waited".into()),
    }
}

fn key(name: u64) -> EncodedKey {
    EncodedKey::new(name.to_be_bytes().to_vec())
}

fn frame(key: &EncodedKey, payload: Vec<u8>) -> Frame {
    let header = Header {
        codec: CodecId::Raw,
        compression: Compression::None,
        kind: Kind::Bytes,
        schema: 0,
        shape: 0,
        created: Time::from_millis(1),
        deadline: Time::NEVER,
        stale_deadline: Time::NEVER,
        generation: 0,
        value_len: payload.len() as u64,
        load_cost: None,
    };
    Frame::new(&header, key, b"", Bytes::from(payload))
}

/// What a folder takes, as `du` counts it.
fn taken(dir: &Path) -> u64 {
    let own = fs::metadata(dir).map_or(0, |meta| blocks(&meta));
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    own + entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => taken(&entry.path()),
            Ok(meta) => blocks(&meta),
            Err(_) => 0,
        })
        .sum::<u64>()
}

#[cfg(unix)]
fn blocks(meta: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(meta) * 512
}

#[cfg(not(unix))]
fn blocks(meta: &fs::Metadata) -> u64 {
    meta.len().div_ceil(4096) * 4096
}
