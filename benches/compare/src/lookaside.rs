//! A cache beside an origin, end to end: Larder and foyer with the same budgets.
//!
//! A photo or document service: 2,000 documents of 100 B to 4 MiB, asked for by zipf 0.99. Memory has room for
//! 5 % of their bytes, disk for 50 %. A miss reads the origin and inserts. The origin takes 10 ms: counted, not
//! waited for, in the long run; waited for in the short one.
#![allow(clippy::expect_used, reason = "a contender that cannot be opened has lost")]
#![allow(clippy::disallowed_methods, reason = "the origin takes real time in the short run")]

use std::future::Future;
use std::path::Path;
use std::time::{Duration, Instant};

use foyer::{
    BlockEngineConfig, DeviceBuilder, FsDeviceBuilder, HybridCache, HybridCacheBuilder, HybridCachePolicy,
};
use larder::{AsyncCache, Bytes, Compress};

const DOCUMENTS: usize = 2_000;
const SIZES: (f64, f64) = (100.0, (4 << 20) as f64);
const ORIGIN: Duration = Duration::from_millis(10);
/// Requests of the long run, which fill the cache twice over, and of the short one.
const COUNTED: usize = 20_000;
const WAITED: usize = 400;

/// The requests, and the documents by number.
struct Service {
    documents: Vec<Bytes>,
    requests: Vec<usize>,
}

impl Service {
    fn new() -> Self {
        let mut random = fastrand::Rng::with_seed(23);
        let (least, most) = SIZES;
        let document = |number: usize| {
            let len = (least * (most / least).powf(random.f64())) as usize;
            let mut bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(len).collect();
            bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
            Bytes::from(bytes)
        };
        let documents = (0..DOCUMENTS).map(document).collect();
        let mut sums = Vec::new();
        let mut sum = 0.0;
        for rank in 1..=DOCUMENTS {
            sum += (rank as f64).powf(-0.99);
            sums.push(sum);
        }
        let mut random = fastrand::Rng::with_seed(29);
        let mut request = || {
            let at = random.f64() * sum;
            sums.partition_point(|sum| *sum <= at).min(DOCUMENTS - 1)
        };
        let requests = (0..COUNTED).map(|_| request()).collect();
        Self { documents, requests }
    }

    fn bytes(&self) -> u64 {
        self.documents.iter().map(|document| document.len() as u64).sum()
    }

    /// Whether `found` is the document of this number.
    fn is(&self, number: usize, found: &[u8]) -> bool {
        found.len() == self.documents[number].len() && found[..8] == (number as u64).to_le_bytes()
    }
}

/// A cache with memory and disk.
trait Hybrid: Sized {
    async fn open(dir: &Path, memory: u64, disk: u64) -> Self;
    async fn get(&self, key: u64) -> Option<Bytes>;
    async fn insert(&self, key: u64, value: Bytes);
    async fn close(self);
}

struct Larder(AsyncCache<u64, Bytes>);

impl Hybrid for Larder {
    async fn open(dir: &Path, memory: u64, disk: u64) -> Self {
        let builder = larder::bcache("lookaside").dir(dir).memory_bytes(memory).disk_bytes(disk);
        Self(builder.compress(Compress::None).build().expect("larder opens").to_async())
    }

    async fn get(&self, key: u64) -> Option<Bytes> {
        self.0.get(&key).await
    }

    async fn insert(&self, key: u64, value: Bytes) {
        self.0.insert(key, value).await;
    }

    async fn close(self) {
        self.0.close().await.expect("larder closes");
    }
}

struct Foyer(HybridCache<u64, Bytes>);

impl Hybrid for Foyer {
    async fn open(dir: &Path, memory: u64, disk: u64) -> Self {
        let device = FsDeviceBuilder::new(dir).with_capacity(disk as usize).build().expect("a device");
        // A block has room for the largest document; the buffer holds a few of them.
        let engine = BlockEngineConfig::new(device).with_block_size(16 << 20).with_buffer_pool_size(64 << 20);
        let builder = HybridCacheBuilder::new()
            .with_policy(HybridCachePolicy::WriteOnInsertion)
            .memory(memory as usize)
            .with_weighter(|_, value: &Bytes| value.len())
            .storage()
            .with_engine_config(engine);
        Self(builder.build().await.expect("foyer opens"))
    }

    async fn get(&self, key: u64) -> Option<Bytes> {
        self.0.get(&key).await.ok().flatten().map(|entry| entry.value().clone())
    }

    async fn insert(&self, key: u64, value: Bytes) {
        self.0.insert(key, value);
    }

    async fn close(self) {
        self.0.close().await.expect("foyer closes");
    }
}

/// What a run has shown.
struct Run {
    misses: usize,
    wrong: usize,
    /// The time that the cache took, without the origin if that is only counted.
    spent: Duration,
    requests: usize,
}

async fn run<C: Hybrid>(service: &Service, waits: bool) -> Run {
    let dir = tempfile::tempdir().expect("a directory");
    let cache = C::open(dir.path(), service.bytes() / 20, service.bytes() / 2).await;
    let requests = if waits { &service.requests[..WAITED] } else { &service.requests[..] };
    let (mut misses, mut wrong) = (0, 0);
    let started = Instant::now();
    for number in requests {
        match cache.get(*number as u64).await {
            Some(found) => wrong += usize::from(!service.is(*number, &found)),
            None => {
                misses += 1;
                if waits {
                    std::thread::sleep(ORIGIN);
                }
                cache.insert(*number as u64, service.documents[*number].clone()).await;
            }
        }
    }
    let spent = started.elapsed();
    cache.close().await;
    Run { misses, wrong, spent, requests: requests.len() }
}

impl Run {
    /// The mean time of a request, in milliseconds.
    fn mean(&self, waits: bool) -> f64 {
        let origin = if waits { Duration::ZERO } else { ORIGIN * self.misses as u32 };
        (self.spent + origin).as_secs_f64() * 1e3 / self.requests as f64
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime").block_on(work)
}

/// Prints the rows.
pub(crate) fn run_all() {
    let service = Service::new();
    println!("\nlookaside: {DOCUMENTS} documents, {} MB, an origin of 10 ms", service.bytes() / 1_000_000);
    for (waits, name) in [(false, "origin counted"), (true, "origin waited for")] {
        let mut ratios = Vec::new();
        for _ in 0..3 {
            let foyer = block_on(run::<Foyer>(&service, waits));
            let larder = block_on(run::<Larder>(&service, waits));
            for (rival, run) in [("foyer", &foyer), ("larder bcache", &larder)] {
                let hits = 100.0 - run.misses as f64 * 100.0 / run.requests as f64;
                println!(
                    "  {name:<18} {rival:<14} {:>7.3} ms a request, {hits:>5.1} % hits, {} wrong, {:.2} s in the cache",
                    run.mean(waits),
                    run.wrong,
                    run.spent.as_secs_f64()
                );
            }
            ratios.push(larder.mean(waits) / foyer.mean(waits));
        }
        ratios.sort_by(f64::total_cmp);
        println!(
            "  {name:<18} larder / foyer {:.2}, median of 3 ({:.2} to {:.2})",
            ratios[1], ratios[0], ratios[2]
        );
    }
}
