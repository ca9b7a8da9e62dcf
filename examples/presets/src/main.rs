//! Compares each preset with a `bcache` with defaults, on a value of its sort: `cargo run --release --package
//! presets`. It prints the table in `docs/presets.md`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

mod values;

use std::fmt::Debug;
use std::path::Path;
use std::time::{Duration, Instant};

use larder::{Cache, Preset, TierKind, bcache, presets, ucache};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The bytes of values in a round, and the range of the number of entries.
const ROUND_BYTES: usize = 24 << 20;
const ENTRIES: std::ops::RangeInclusive<usize> = 6..=400;

const ROUNDS: usize = 4;

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

/// The measurements of one cache: the tier of a value, its stored size, and the time of each call.
#[derive(Default)]
struct Measured {
    home: Option<TierKind>,
    stored: Option<u64>,
    store: Vec<Duration>,
    get: Vec<Duration>,
    /// Reads from the home tier after reopening, without a memory copy; empty if the entry did not outlive
    /// its cache.
    reopened: Vec<Duration>,
}

fn row<V>(preset: Preset, named: &str, value: V, about: usize, home: TierKind) -> Outcome
where
    V: Clone + PartialEq + Debug + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let dir = tempfile::tempdir()?;
    let entries = (ROUND_BYTES / about).clamp(*ENTRIES.start(), *ENTRIES.end()) as u32;
    let name = preset.name();
    let (mut ours, mut plain) = (Measured::default(), Measured::default());
    for round in 0..ROUNDS {
        // In alternating order, since the second one finds warm caches.
        for turn in [round, round + 1] {
            match turn % 2 {
                0 => ours.measure(|| ucache(name).dir(dir.path()).preset(preset).build(), &value, entries)?,
                _ => plain.measure(|| by_default(dir.path()), &value, entries)?,
            }
        }
    }
    assert_eq!(ours.home, Some(home), "{name}");
    let bytes = encoded_bytes(&value)?;
    println!("| `{name}` | {named} | {bytes} | {home} | {} | {} |", ours.cells(), plain.cells());
    Ok(())
}

fn by_default<V>(dir: &Path) -> larder::Result<Cache<u32, V>>
where
    V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    bcache("defaults").dir(dir).build()
}

impl Measured {
    fn measure<V>(
        &mut self,
        open: impl Fn() -> larder::Result<Cache<u32, V>>,
        value: &V,
        entries: u32,
    ) -> Outcome
    where
        V: Clone + PartialEq + Debug + Send + Sync + 'static,
    {
        let cache = open()?;
        for key in 0..entries {
            let value = value.clone();
            let began = Instant::now();
            self.home = Some(cache.try_insert(key, value)?.home);
            self.store.push(began.elapsed());
        }
        self.stored = cache.explain(&0)?.stored_bytes;
        self.get.extend(read(&cache, value, entries));
        cache.close()?;
        let cache = open()?;
        self.reopened.extend(read(&cache, value, entries));
        Ok(cache.destroy()?)
    }

    fn cells(&self) -> String {
        let stored = self.stored.map_or("–".to_owned(), in_bytes);
        let times = [&self.store, &self.get, &self.reopened].map(|times| median(times));
        format!("{stored} | {} | {} | {}", times[0], times[1], times[2])
    }
}

/// The time of each get that found its value.
fn read<V>(cache: &Cache<u32, V>, value: &V, entries: u32) -> Vec<Duration>
where
    V: Clone + PartialEq + Debug + Send + Sync + 'static,
{
    let mut times = Vec::new();
    for key in 0..entries {
        let began = Instant::now();
        let got = cache.get(&key);
        let time = began.elapsed();
        assert!(got.as_ref().is_none_or(|got| got == value));
        times.extend(got.map(|_| time));
    }
    times
}

fn median(times: &[Duration]) -> String {
    let mut times = times.to_vec();
    times.sort();
    times.get(times.len() / 2).map_or("–".to_owned(), |median| in_micros(*median))
}

/// The size of the encoding, before compression.
fn encoded_bytes<V>(value: &V) -> Outcome<String>
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
