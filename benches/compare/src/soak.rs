//! A mixed load for minutes that samples resource use four times a second: bytes in memory, bytes on disk as
//! `du` counts them, threads and open files.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use larder::{Cache, Persistence, Result, TierKind};
use larder_testkit::history::{Seen, Stamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const MEMORY_BYTES: u64 = 32 << 20;
const DISK_BYTES: u64 = 256 << 20;
const THREADS: u64 = 4;
const KEYS: u64 = 6_000;
const LEN_MAX: u64 = 513 << 10;
/// How long threads may take to end after the last handle is dropped.
const PATIENCE: Duration = Duration::from_secs(20);

/// The bytes of all live values.
static LIVE: AtomicU64 = AtomicU64::new(0);

/// Text whose bytes are counted while it is live.
struct Text(String);

impl Text {
    fn new(text: String) -> Self {
        LIVE.fetch_add(text.len() as u64, Relaxed);
        Self(text)
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        LIVE.fetch_sub(self.0.len() as u64, Relaxed);
    }
}

/// A value of the cache; its clones share one text.
#[derive(Clone)]
struct Counted(Arc<Text>);

impl Serialize for Counted {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.0.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Ok(Self(Arc::new(Text::new(String::deserialize(deserializer)?))))
    }
}

/// The peak values of all samples.
#[derive(Default)]
struct Peaks {
    samples: u64,
    live: u64,
    on_disk: u64,
    threads: u64,
}

#[derive(Default)]
struct Counts {
    calls: AtomicU64,
    hits: AtomicU64,
    wrong: AtomicU64,
}

/// Runs for `LARDER_SECONDS` seconds, by default 60, and prints the peaks.
pub(crate) fn run() -> Result<()> {
    let seconds = std::env::var("LARDER_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let dir = tempfile::tempdir().map_err(larder::Error::from)?;
    let before = (tasks(), open_files());
    let cache = larder::ucache::<u64, Counted>("soak")
        .dir(dir.path())
        .memory_bytes(MEMORY_BYTES)
        .disk_bytes(DISK_BYTES)
        .persistence(Persistence::LongTerm)
        .build()?;
    let (counts, done) = (Counts::default(), AtomicBool::new(false));
    let mut peaks = Peaks::default();
    thread::scope(|scope| {
        for seed in 0..THREADS {
            let (cache, counts, done) = (&cache, &counts, &done);
            scope.spawn(move || use_it(cache, seed, counts, done));
        }
        let end = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < end {
            thread::park_timeout(Duration::from_millis(250));
            peaks.look(dir.path());
        }
        done.store(true, Relaxed);
    });
    println!("\na mixed load of {THREADS} threads over {KEYS} keys, {seconds} seconds");
    print(&peaks, &counts, &cache);
    overwrite(&cache)?;
    cache.close()?;
    drop(cache);
    let closed = Instant::now();
    while tasks() > before.0 && closed.elapsed() < PATIENCE {
        thread::park_timeout(Duration::from_millis(50));
    }
    println!("  after the last handle: {} live bytes", LIVE.load(Relaxed));
    println!(
        "  threads {} -> {} after {:.1} s, open files {} -> {}",
        before.0,
        tasks(),
        closed.elapsed().as_secs_f64(),
        before.1,
        open_files()
    );
    Ok(())
}

fn value(rng: &mut Rng, key: u64, number: u64) -> Counted {
    let len = (1_u64 << rng.u64(5..20)) + rng.u64(0..1 << 10);
    let stamp = Stamp { key, writer: 0, number };
    Counted(Arc::new(Text::new(stamp.text(len.min(LEN_MAX) as usize))))
}

/// Reads twice as often as it writes; half of the calls go to a tenth of the keys.
fn use_it(cache: &Cache<u64, Counted>, seed: u64, counts: &Counts, done: &AtomicBool) {
    let mut rng = Rng::with_seed(seed);
    for number in 0.. {
        if done.load(Relaxed) {
            return;
        }
        let keys = if rng.bool() { KEYS / 10 } else { KEYS };
        let key = rng.u64(0..keys);
        match rng.u32(0..100) {
            0..30 => cache.insert(key, value(&mut rng, key, number)),
            30..35 => drop(cache.remove(&key)),
            35..45 => counts.judge(key, Some(cache.get_with(key, || value(&mut rng, key, number)))),
            _ => counts.judge(key, cache.get(&key)),
        }
        counts.calls.fetch_add(1, Relaxed);
    }
}

impl Counts {
    fn judge(&self, key: u64, found: Option<Counted>) {
        let Some(found) = found else { return };
        self.hits.fetch_add(1, Relaxed);
        if !matches!(Seen::of(found.0.0.as_bytes()), Seen::Stamp(stamp) if stamp.key == key) {
            self.wrong.fetch_add(1, Relaxed);
        }
    }
}

/// Writes three times the capacity, and prints how much of it remains.
fn overwrite(cache: &Cache<u64, Counted>) -> Result<()> {
    cache.clear()?;
    let mut rng = Rng::with_seed(1);
    let mut written = 0;
    while written < DISK_BYTES * 3 {
        let key = rng.u64(0..DISK_BYTES / (96 << 10));
        let value = value(&mut rng, key, written);
        written += value.0.0.len() as u64;
        cache.insert(key, value);
    }
    let keys = cache.keys()?;
    let live: u64 = keys.iter().filter_map(|key| Some(cache.get(&**key)?.0.0.len() as u64)).sum();
    let budget = share(live, DISK_BYTES);
    println!("  after writing three times the budget on disk: values of {budget} of it are there");
    Ok(())
}

impl Peaks {
    fn look(&mut self, dir: &Path) {
        self.samples += 1;
        self.live = self.live.max(LIVE.load(Relaxed));
        self.on_disk = self.on_disk.max(allocated(dir));
        self.threads = self.threads.max(tasks());
    }
}

/// A ratio with two decimals.
fn share(part: u64, whole: u64) -> impl fmt::Display {
    format!("{:.2}", part as f64 / whole as f64)
}

fn print(peaks: &Peaks, counts: &Counts, cache: &Cache<u64, Counted>) {
    let held = peaks.live.saturating_sub(THREADS * LEN_MAX);
    println!(
        "  {} calls, {} hits, {} wrong; {} samples",
        counts.calls.load(Relaxed),
        counts.hits.load(Relaxed),
        counts.wrong.load(Relaxed),
        peaks.samples
    );
    println!(
        "  live bytes at most {} of the budget; {} less one value of 513 KiB a thread",
        share(peaks.live, MEMORY_BYTES),
        share(held, MEMORY_BYTES)
    );
    println!("  on disk, as du counts, at most {} of the budget", share(peaks.on_disk, DISK_BYTES));
    println!("  threads at most {}", peaks.threads);
    for kind in [TierKind::Memory, TierKind::Disk, TierKind::File] {
        if let Some(tier) = cache.stats().tier(kind) {
            println!("  {kind}: {:?}", tier.usage);
        }
    }
}

/// The size of a folder on disk, as `du` counts it.
fn allocated(path: &Path) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
    let below =
        fs::read_dir(path).map_or(0, |entries| entries.flatten().map(|entry| allocated(&entry.path())).sum());
    metadata.blocks() * 512 + below
}

/// The threads of this process; zero without `/proc`.
fn tasks() -> u64 {
    fs::read_dir("/proc/self/task").map_or(0, |entries| entries.count() as u64)
}

/// The open files of this process; zero without `/proc`.
fn open_files() -> u64 {
    fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64)
}
