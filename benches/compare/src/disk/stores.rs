//! Stores of values on disk, each used as its documentation shows, without a memory tier: reads go to the
//! disk, or to the store's own buffers.
#![allow(clippy::expect_used, reason = "a contender that fails has lost")]

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};

use foyer::{
    BlockEngineConfig, DeviceBuilder, FsDeviceBuilder, HybridCache, HybridCacheBuilder, HybridCachePolicy,
    Load,
};
use larder::{Bytes, Cache, Compress};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;
use xxhash_rust::xxh3::xxh3_64;

/// The disk budget of each store, in bytes.
const DISK_BYTES: usize = 1 << 30;

/// The largest block that foyer writes and reclaims at once; an entry must fit into it.
const FOYER_BLOCK_BYTES: usize = 64 << 20;

/// foyer's buffer between an insertion and the disk; it drops entries beyond that.
const FOYER_BUFFER_BYTES: usize = 256 << 20;

/// A store of values.
pub(super) trait Store {
    /// Reads a value; returns whether it exists.
    fn get(&self, key: u64) -> bool;
    /// Writes a value.
    fn put(&self, key: u64, value: &[u8]);
    /// Waits for background writes, if the store has any.
    fn settle(&self) {}
    /// Writes buffered values and closes the store.
    fn close(self: Box<Self>);
}

/// Opens a store in a directory.
pub(super) type Open = fn(&Path) -> Box<dyn Store>;

/// sled, with its defaults.
struct Sled(sled::Db);

pub(super) fn sled(dir: &Path) -> Box<dyn Store> {
    Box::new(Sled(sled::open(dir).expect("sled opens")))
}

impl Store for Sled {
    fn get(&self, key: u64) -> bool {
        let found = self.0.get(key.to_be_bytes()).expect("sled reads");
        black_box(found.map(|value| value.to_vec())).is_some()
    }

    fn put(&self, key: u64, value: &[u8]) {
        self.0.insert(key.to_be_bytes(), value).expect("sled writes");
    }

    fn close(self: Box<Self>) {
        self.0.flush().expect("sled flushes");
    }
}

/// One file for each value, put in place by a rename.
struct Files {
    dir: PathBuf,
    /// Whether each read computes a checksum.
    sums: bool,
}

pub(super) fn files(dir: &Path) -> Box<dyn Store> {
    open_files(dir, false)
}

pub(super) fn summed_files(dir: &Path) -> Box<dyn Store> {
    open_files(dir, true)
}

/// Opens the files and reads all their metadata, as a store with a budget does.
fn open_files(dir: &Path, sums: bool) -> Box<dyn Store> {
    fs::create_dir_all(dir).expect("a directory is made");
    let entries = fs::read_dir(dir).expect("a directory is read");
    let bytes: u64 =
        entries.map(|entry| entry.and_then(|entry| entry.metadata()).map_or(0, |meta| meta.len())).sum();
    black_box(bytes);
    Box::new(Files { dir: dir.to_owned(), sums })
}

impl Files {
    fn path(&self, key: u64) -> PathBuf {
        self.dir.join(format!("{key:032x}"))
    }
}

impl Store for Files {
    fn get(&self, key: u64) -> bool {
        let found = fs::read(self.path(key));
        if let (true, Ok(bytes)) = (self.sums, &found) {
            black_box(xxh3_64(bytes));
        }
        black_box(found).is_ok()
    }

    fn put(&self, key: u64, value: &[u8]) {
        let temporary = self.dir.join("temporary");
        let written = fs::write(&temporary, value).and_then(|()| fs::rename(&temporary, self.path(key)));
        written.expect("a file is written");
    }

    fn close(self: Box<Self>) {}
}

/// The disk tier of foyer's hybrid cache. It writes in the background.
struct Foyer {
    runtime: Runtime,
    cache: HybridCache<u64, Vec<u8>>,
}

pub(super) fn foyer(dir: &Path) -> Box<dyn Store> {
    let runtime = Runtime::new().expect("a runtime starts");
    let cache = runtime.block_on(async {
        let device = FsDeviceBuilder::new(dir).with_capacity(DISK_BYTES).build().expect("a device");
        let engine = BlockEngineConfig::new(device)
            .with_block_size(FOYER_BLOCK_BYTES)
            .with_buffer_pool_size(FOYER_BUFFER_BYTES);
        let builder = HybridCacheBuilder::new()
            .with_policy(HybridCachePolicy::WriteOnInsertion)
            .memory(64 << 10)
            .with_weighter(|_, value: &Vec<u8>| value.len())
            .storage()
            .with_engine_config(engine);
        builder.build().await.expect("foyer opens")
    });
    Box::new(Foyer { runtime, cache })
}

impl Store for Foyer {
    fn get(&self, key: u64) -> bool {
        let found = self.runtime.block_on(self.cache.storage().load(&key)).expect("foyer reads");
        matches!(black_box(found), Load::Entry { .. } | Load::Piece { .. })
    }

    fn put(&self, key: u64, value: &[u8]) {
        self.cache.insert(key, value.to_vec());
    }

    fn settle(&self) {
        self.runtime.block_on(self.cache.storage().wait());
    }

    fn close(self: Box<Self>) {
        self.runtime.block_on(self.cache.close()).expect("foyer closes");
    }
}

/// A Larder cache, through its public interface.
struct Larder<C>(C);

pub(super) fn bcache(dir: &Path) -> Box<dyn Store> {
    open_bcache(dir, 0)
}

pub(super) fn fronted_bcache(dir: &Path) -> Box<dyn Store> {
    open_bcache(dir, 64 << 10)
}

fn open_bcache(dir: &Path, memory_bytes: u64) -> Box<dyn Store> {
    let builder = larder::bcache::<u64, Vec<u8>>("compare").dir(dir).disk_bytes(DISK_BYTES as u64);
    let builder = builder.memory_bytes(memory_bytes).compress(Compress::None);
    Box::new(Larder(builder.build().expect("bcache opens")))
}

pub(super) fn fcache(dir: &Path) -> Box<dyn Store> {
    open_fcache::<Vec<u8>>(dir)
}

/// Values are slices of the bytes read from the file, and not copies.
pub(super) fn fcache_of_bytes(dir: &Path) -> Box<dyn Store> {
    open_fcache::<Bytes>(dir)
}

fn open_fcache<V>(dir: &Path) -> Box<dyn Store>
where
    V: From<Vec<u8>> + Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let builder = larder::fcache::<u64, V>("compare").dir(dir).disk_bytes(DISK_BYTES as u64);
    Box::new(Larder(builder.memory_bytes(0).compress(Compress::None).build().expect("fcache opens")))
}

impl<V> Store for Larder<Cache<u64, V>>
where
    V: From<Vec<u8>> + Clone + Send + Sync + 'static,
{
    fn get(&self, key: u64) -> bool {
        black_box(self.0.get(&key)).is_some()
    }

    fn put(&self, key: u64, value: &[u8]) {
        self.0.try_insert(key, value.to_vec().into()).expect("a tier takes it");
    }

    fn close(self: Box<Self>) {
        self.0.close().expect("it closes");
    }
}
