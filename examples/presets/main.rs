//! What each preset does to a value of its sort, beside a `bcache` with
//! defaults: `cargo run --release --all-features --example presets`.
//!
//! With fewer features it does with plainer types. The table in
//! `docs/presets.md` is what this prints.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

mod values;

use std::fmt::Debug;
use std::path::Path;
use std::time::{Duration, Instant};

use larder::{Cache, Preset, TierKind, bcache, presets, ucache};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes of values in a round, and the fewest and most entries they are.
const ROUND_BYTES: usize = 24 << 20;
const ENTRIES: std::ops::RangeInclusive<usize> = 6..=400;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome {
    println!(
        "| preset | value | bytes | home | stored | store | get | get, reopened | by `bcache`: stored | store | get | get, reopened |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    row(presets::scalars(), "`f64`", 0.5, 8, TierKind::Memory)?;
    row(presets::text(), "`String`", values::text(), 176 << 10, TierKind::Disk)?;
    row(presets::json(), values::DOCUMENT, values::document(), 4 << 10, TierKind::Disk)?;
    row(presets::images(), values::PICTURE, values::picture(), 1 << 20, TierKind::File)?;
    row(presets::bytes(), "`Bytes`", values::bytes(), 64 << 10, TierKind::File)?;
    row(presets::arrays(), values::ARRAY, values::array(), 2 << 20, TierKind::File)?;
    row(presets::data_frames(), values::FRAME, values::frame(), 2 << 20, TierKind::File)?;
    row(presets::models(), "a struct of `Vec<f32>`", values::model(), 3 << 20, TierKind::File)?;
    row(presets::sessions(), "a struct", values::session(), 300, TierKind::Memory)
}

/// What one cache does: where it puts a value, as how many bytes, and what a
/// call takes, the median of a round.
struct Measured {
    home: TierKind,
    stored: Option<u64>,
    store: Duration,
    get: Duration,
    /// From where the entry lives, none being in memory; `None` where it did
    /// not outlive its cache.
    reopened: Option<Duration>,
}

fn row<V>(preset: Preset, named: &str, value: V, about: usize, home: TierKind) -> Outcome
where
    V: Clone + PartialEq + Debug + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let dir = tempfile::tempdir()?;
    let entries = (ROUND_BYTES / about).clamp(*ENTRIES.start(), *ENTRIES.end()) as u32;
    let preset_name = preset.name();
    let ours = measure(|| ucache(preset_name).dir(dir.path()).preset(preset).build(), &value, entries)?;
    let plain = measure(|| by_default(dir.path()), &value, entries)?;
    assert_eq!(ours.home, home, "{preset_name}");
    let bytes = larder_bytes(&value)?;
    println!(
        "| `{preset_name}` | {named} | {bytes} | {} | {} | {} |",
        ours.home,
        cells(&ours),
        cells(&plain)
    );
    Ok(())
}

fn by_default<V>(dir: &Path) -> larder::Result<Cache<u32, V>>
where
    V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    bcache("defaults").dir(dir).build()
}

fn measure<V>(open: impl Fn() -> larder::Result<Cache<u32, V>>, value: &V, entries: u32) -> Outcome<Measured>
where
    V: Clone + PartialEq + Debug + Send + Sync + 'static,
{
    let cache = open()?;
    let mut home = TierKind::Null;
    let mut store = Vec::new();
    for key in 0..entries {
        let value = value.clone();
        let began = Instant::now();
        home = cache.try_insert(key, value)?.home;
        store.push(began.elapsed());
    }
    let stored = cache.explain(&0)?.stored_bytes;
    let (get, _) = read(&cache, value, entries);
    cache.close()?;
    let cache = open()?;
    let (reopened, found) = read(&cache, value, entries);
    cache.destroy()?;
    Ok(Measured { home, stored, store: median(store), get, reopened: (found == entries).then_some(reopened) })
}

/// What a get takes, and how many found their value.
fn read<V>(cache: &Cache<u32, V>, value: &V, entries: u32) -> (Duration, u32)
where
    V: Clone + PartialEq + Debug + Send + Sync + 'static,
{
    let (mut times, mut found) = (Vec::new(), 0);
    for key in 0..entries {
        let began = Instant::now();
        let got = cache.get(&key);
        times.push(began.elapsed());
        assert!(got.as_ref().is_none_or(|got| got == value));
        found += u32::from(got.is_some());
    }
    (median(times), found)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Bytes of the encoding, before compression.
fn larder_bytes<V>(value: &V) -> Outcome<String>
where
    V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let dir = tempfile::tempdir()?;
    let cache = by_default(dir.path())?;
    cache.try_insert(0, value.clone())?;
    let bytes = cache.explain(&0)?.bytes.unwrap_or_default();
    cache.close()?;
    Ok(in_bytes(bytes))
}

fn cells(measured: &Measured) -> String {
    let stored = measured.stored.map_or("–".to_owned(), in_bytes);
    let reopened = measured.reopened.map_or("–".to_owned(), in_micros);
    format!("{stored} | {} | {} | {reopened}", in_micros(measured.store), in_micros(measured.get))
}

fn in_micros(time: Duration) -> String {
    match time.as_nanos() {
        nanos @ 0..10_000 => format!("{:.1} µs", nanos as f64 / 1e3),
        nanos => format!("{} µs", nanos / 1000),
    }
}

fn in_bytes(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{bytes} B"),
        10_240..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
    }
}
