//! Where each preset puts a value, beside a `bcache` with defaults:
//! `cargo run --release --example presets`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::path::Path;
use std::time::{Duration, Instant};

use larder::{Bytes, Cache, Preset, TierKind, bcache, presets, ucache};

const ENTRIES: u32 = 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let text = "The quick brown fox jumps over the lazy dog. ";
    let rows = [
        (presets::scalars(), noise(8), TierKind::Memory),
        (presets::text(), Bytes::from(text.repeat(4_000)), TierKind::Disk),
        (presets::json(), Bytes::from("{\"id\": 7, \"tags\": []}, ".repeat(200)), TierKind::Disk),
        (presets::images(), noise(300_000), TierKind::File),
        (presets::bytes(), noise(500), TierKind::Memory),
        (presets::arrays(), noise(2 << 20), TierKind::File),
        (presets::data_frames(), noise(2 << 20), TierKind::File),
        (presets::models(), noise(3 << 20), TierKind::File),
        (presets::sessions(), noise(700), TierKind::Memory),
    ];
    println!("{:<12}{:>10}  {:<8}{:>22}{:>22}", "preset", "bytes", "home", "put / get, µs", "by bcache, µs");
    for (preset, value, home) in rows {
        let by_preset = measure(&by_preset(preset, dir.path())?, &value)?;
        let by_bcache = measure(&bcache("defaults").dir(dir.path()).build()?, &value)?;
        println!(
            "{:<12}{:>10}  {:<8}{:>22}{:>22}",
            preset.name(),
            value.len(),
            by_preset.0,
            shown(by_preset.1),
            shown(by_bcache.1)
        );
        assert_eq!(by_preset.0, home, "{preset:?}");
    }
    Ok(())
}

fn by_preset(preset: Preset, dir: &Path) -> larder::Result<Cache<u32, Bytes>> {
    ucache(preset.name()).dir(dir).preset(preset).build()
}

/// Where the value went, and what a put and a get took on average.
fn measure(cache: &Cache<u32, Bytes>, value: &Bytes) -> larder::Result<(TierKind, [Duration; 2])> {
    let began = Instant::now();
    let mut home = TierKind::Null;
    for key in 0..ENTRIES {
        home = cache.try_insert(key, value.clone())?.home;
    }
    let put = began.elapsed() / ENTRIES;
    let began = Instant::now();
    for key in 0..ENTRIES {
        assert_eq!(cache.get(&key).as_ref(), Some(value));
    }
    let got = began.elapsed() / ENTRIES;
    cache.destroy()?;
    Ok((home, [put, got]))
}

fn shown([put, got]: [Duration; 2]) -> String {
    format!("{} / {}", put.as_micros(), got.as_micros())
}

/// Bytes that no compression shrinks.
fn noise(bytes: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}
