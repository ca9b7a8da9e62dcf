//! Streams: values too large for memory, written from readers and read through readers.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;

use larder::{Bytes, Cache, Compress, EntryReader, ErrorKind, Persistence, TierKind, fcache, ucache};
use larder_testkit::{FaultyTier, HashMapTier, Operation, Times};

use crate::fixtures::Plan;

const MIB: usize = 1 << 20;

/// A prime number, so that no two chunks of a payload begin alike.
const BLOCK: usize = 65_521;

/// An endless repetition of one block of bytes.
struct Pattern {
    block: Vec<u8>,
    at: usize,
}

impl Pattern {
    fn new(seed: u64) -> Self {
        let byte = |at: u64| ((at / 8 + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (8 * (at % 8))) as u8;
        Self { block: (0..BLOCK as u64).map(byte).collect(), at: 0 }
    }

    fn bytes(seed: u64, len: usize) -> Bytes {
        let mut bytes = vec![0; len];
        Self::new(seed).read_exact(&mut bytes).unwrap();
        bytes.into()
    }

    /// Returns whether these are the next bytes.
    fn continues(&mut self, bytes: &[u8]) -> bool {
        let mut expected = vec![0; bytes.len()];
        self.read_exact(&mut expected).unwrap();
        expected == bytes
    }
}

impl Read for Pattern {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = (&self.block[self.at % BLOCK..]).read(into)?;
        self.at += read;
        Ok(read)
    }
}

fn source(seed: u64, len: usize) -> impl Read + Send + 'static {
    Pattern::new(seed).take(len as u64)
}

/// A reader that fails after a number of bytes.
struct Breaks(usize);

impl Read for Breaks {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = into.len().min(self.0);
        self.0 -= read;
        if read == 0 { Err(io::Error::other("the line went dead")) } else { Ok(read) }
    }
}

#[track_caller]
fn check_reads(mut reader: EntryReader, seed: u64, len: usize) {
    assert_eq!(reader.len(), len as u64);
    let mut read = Vec::new();
    reader.read_to_end(&mut read).unwrap();
    assert!(read == Pattern::bytes(seed, len), "{len} bytes of seed {seed}");
    for at in [0, len / 2, len.saturating_sub(10)] {
        reader.seek(SeekFrom::Start(at as u64)).unwrap();
        let mut part = vec![0; 10.min(len - at)];
        reader.read_exact(&mut part).unwrap();
        assert!(part == Pattern::bytes(seed, len)[at..at + part.len()], "at {at} of {len}");
    }
}

fn films(dir: &Path) -> Cache<String, Bytes> {
    fcache("films").dir(dir).build().unwrap()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = walkdir::WalkDir::new(dir).into_iter().map(Result::unwrap);
    entries.filter(|entry| entry.file_type().is_file()).map(|entry| entry.into_path()).collect()
}

/// The only file with an entry.
fn entry_file(dir: &Path) -> PathBuf {
    let mut found: Vec<_> =
        files(dir).into_iter().filter(|path| path.to_string_lossy().contains("entries")).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn lengths() -> [usize; 7] {
    let (held, chunk) = (4 * MIB, 256 << 10);
    [0, 100, held - 1, held, held + 1, held + chunk, 9 * MIB + 77]
}

#[test]
fn streamed_value_is_read_by_get_and_open_and_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let cache = films(dir.path());
    for len in lengths() {
        assert_eq!(cache.insert_from("film".into(), source(1, len)).unwrap().home, TierKind::File, "{len}");
        check_reads(cache.open("film").unwrap().unwrap(), 1, len);
        assert!(cache.get("film").unwrap() == Pattern::bytes(1, len), "get of {len} bytes");
    }
    cache.close().unwrap();
    let cache = films(dir.path());
    check_reads(cache.open("film").unwrap().unwrap(), 1, 9 * MIB + 77);
    assert!(cache.remove("film"));
    assert!(cache.open("film").unwrap().is_none());
    assert_eq!(cache.stats().cache.misses, 1);
    cache.close().unwrap();
}

#[test]
fn open_reads_inserted_values_in_every_tier_and_compression() {
    let dir = tempfile::tempdir().unwrap();
    for (name, compress) in [("plain", Compress::None), ("zstd", Compress::zstd(1)), ("auto", Compress::Auto)]
    {
        let cache = ucache::<String, Bytes>(name)
            .dir(dir.path())
            .compress(compress)
            .persistence(Persistence::LongTerm)
            .build()
            .unwrap();
        for len in lengths() {
            let noise = Pattern::bytes(1, len);
            let placement = cache.try_insert("noise".into(), noise).unwrap();
            check_reads(cache.open("noise").unwrap().unwrap(), 1, len);
            let zeros = Bytes::from(vec![0; len]);
            cache.insert("zeros".into(), zeros.clone());
            let mut reader = cache.open("zeros").unwrap().unwrap();
            let mut read = Vec::new();
            reader.read_to_end(&mut read).unwrap();
            assert!(read == zeros, "{len} zeros, {compress:?}, {placement}");
            reader.seek(SeekFrom::Start(len as u64 / 3)).unwrap();
            read.clear();
            reader.read_to_end(&mut read).unwrap();
            assert_eq!(read.len(), len - len / 3);
        }
        cache.close().unwrap();
    }
}

#[cfg(feature = "lz4")]
#[test]
fn open_reads_values_compressed_with_lz4() {
    let dir = tempfile::tempdir().unwrap();
    let cache = fcache::<u8, Vec<u8>>("lz4").dir(dir.path()).compress(Compress::lz4()).build().unwrap();
    cache.insert(1, vec![7; 9 * MIB]);
    let mut read = Vec::new();
    cache.open(&1).unwrap().unwrap().read_to_end(&mut read).unwrap();
    assert!(read == vec![7; 9 * MIB]);
    cache.close().unwrap();
}

#[test]
fn open_reader_keeps_its_entry() {
    let dir = tempfile::tempdir().unwrap();
    let cache = films(dir.path());
    cache.insert_from("film".into(), source(1, 9 * MIB)).unwrap();
    let readers: [EntryReader; 4] = std::array::from_fn(|_| cache.open("film").unwrap().unwrap());
    let [replaced, removed, cleared, closed] = readers;
    cache.insert_from("film".into(), source(2, 5 * MIB)).unwrap();
    check_reads(replaced, 1, 9 * MIB);
    cache.remove("film");
    check_reads(removed, 1, 9 * MIB);
    cache.clear().unwrap();
    check_reads(cleared, 1, 9 * MIB);
    cache.close().unwrap();
    drop(cache);
    check_reads(closed, 1, 9 * MIB);
}

#[test]
fn failing_source_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let cache = films(dir.path());
    cache.insert_from("film".into(), source(1, 5 * MIB)).unwrap();
    let bytes = cache.bytes();
    for len in [0, 1000, 4 * MIB, 7 * MIB] {
        let error = cache.insert_from("film".into(), Breaks(len)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains("the line went dead"), "{error}");
    }
    check_reads(cache.open("film").unwrap().unwrap(), 1, 5 * MIB);
    assert_eq!((cache.bytes(), files(&cache.dir().unwrap().join("files/tmp")).len()), (bytes, 0));
    cache.close().unwrap();
}

#[test]
fn stream_over_the_budget_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let cache = fcache::<u8, Bytes>("small").dir(dir.path()).disk_bytes(16 << 20).build().unwrap();
    cache.insert_from(1, source(1, 5 * MIB)).unwrap();
    let error = cache.insert_from(2, source(2, 40 * MIB)).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TooLarge | ErrorKind::Full), "{error}");
    assert!(cache.open(&2).unwrap().is_none());
    assert_eq!(files(&cache.dir().unwrap().join("files/tmp")).len(), 0);
    cache.insert_from(2, source(2, 10 * MIB)).unwrap();
    check_reads(cache.open(&2).unwrap().unwrap(), 2, 10 * MIB);
    cache.close().unwrap();
}

#[test]
fn stream_without_a_file_tier_is_limited_to_small_values() {
    let memory = larder::mcache::<u8, Vec<u8>>("memory").build().unwrap();
    assert_eq!(memory.insert_from(1, source(1, 1000)).unwrap().home, TierKind::Memory);
    check_reads(memory.open(&1).unwrap().unwrap(), 1, 1000);
    let dir = tempfile::tempdir().unwrap();
    let disk = larder::bcache::<u8, Arc<[u8]>>("disk").dir(dir.path()).build().unwrap();
    assert_eq!(disk.insert_from(1, source(1, MIB)).unwrap().home, TierKind::Disk);
    check_reads(disk.open(&1).unwrap().unwrap(), 1, MIB);
    for error in [
        memory.insert_from(1, source(2, 5 * MIB)).unwrap_err(),
        disk.insert_from(1, source(2, 5 * MIB)).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
    assert!(disk.open(&1).unwrap().is_none(), "the former entry, which was to be replaced");
    disk.close().unwrap();
}

/// The function was left out for them, and they had the time to live of the cache.
#[test]
fn large_stream_is_refused_where_the_ttl_depends_on_the_value() {
    let dir = tempfile::tempdir().unwrap();
    let by = |_: &u8, value: &Bytes| (value.len() < 2000).then_some(std::time::Duration::from_secs(60));
    let cache = fcache::<u8, Bytes>("films").dir(dir.path()).ttl_by(by).build().unwrap();
    cache.insert_from(1, source(1, 1000)).unwrap();
    assert!(cache.inspect(&1).unwrap().unwrap().left.is_some(), "a small one is in memory");
    let error = cache.insert_from(1, source(2, 5 * MIB)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("`ttl_by`"), "{error}");
    assert!(cache.open(&1).unwrap().is_none(), "the former entry, which was to be replaced");
    cache.close().unwrap();
}

#[test]
fn damaged_chunk_is_a_read_error_and_removes_the_entry() {
    let dir = tempfile::tempdir().unwrap();
    for streamed in [true, false] {
        let cache = fcache::<u8, Bytes>("damaged").dir(dir.path()).compress(Compress::None).build().unwrap();
        match streamed {
            true => drop(cache.insert_from(1, source(1, 6 * MIB)).unwrap()),
            false => cache.insert(1, Pattern::bytes(1, 6 * MIB)),
        }
        let mut reader = cache.open(&1).unwrap().unwrap();
        flip(&entry_file(dir.path()), 5 * MIB as u64);
        let mut read = Vec::new();
        let error = reader.read_to_end(&mut read).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(read == Pattern::bytes(1, read.len()), "what came before the damage is right");
        assert!(cache.open(&1).unwrap().is_none(), "streamed: {streamed}");
        assert_eq!(cache.stats().tier(TierKind::File).unwrap().counts.refused, 1);
        cache.close().unwrap();
    }
}

#[test]
fn damaged_head_sums_or_length_is_found_on_opening() {
    let dir = tempfile::tempdir().unwrap();
    let cache = films(dir.path());
    let len = 6 * MIB as u64;
    for damage in [10, 90, 97, len + 110, len + 290] {
        cache.insert_from("film".into(), source(1, 6 * MIB)).unwrap();
        flip(&entry_file(dir.path()), damage);
        assert!(cache.open("film").unwrap().is_none(), "byte {damage}");
        assert!(cache.is_empty(), "byte {damage}");
    }
    for cut in [0, 50, 1000, len, len + 100] {
        cache.insert_from("film".into(), source(1, 6 * MIB)).unwrap();
        std::fs::File::options().write(true).open(entry_file(dir.path())).unwrap().set_len(cut).unwrap();
        assert!(cache.open("film").unwrap().is_none(), "cut to {cut}");
    }
    cache.close().unwrap();
}

fn flip(path: &Path, at: u64) {
    let mut file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&[byte[0] ^ 1]).unwrap();
}

/// A reader that returns the pieces that the test sends.
struct Piped {
    pieces: mpsc::Receiver<Vec<u8>>,
    rest: io::Cursor<Vec<u8>>,
}

impl Read for Piped {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.rest.read(into)? {
            0 if !into.is_empty() => {
                let Ok(piece) = self.pieces.recv() else { return Ok(0) };
                self.rest = io::Cursor::new(piece);
                self.rest.read(into)
            }
            read => Ok(read),
        }
    }
}

#[test]
fn slow_stream_blocks_no_caller_and_is_stored_when_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let cache = films(dir.path());
    cache.insert("film".into(), Bytes::from_static(b"before"));
    let (send, receive) = mpsc::sync_channel(0);
    std::thread::scope(|scope| {
        let piped = Piped { pieces: receive, rest: io::Cursor::default() };
        let stream = scope.spawn(|| cache.insert_from("film".into(), piped));
        for _ in 0..5 {
            send.send(vec![3; MIB]).unwrap();
        }
        assert_eq!(cache.get("film").unwrap(), "before");
        cache.insert("film".into(), Bytes::from_static(b"meanwhile"));
        assert_eq!(cache.get("film").unwrap(), "meanwhile");
        assert!(cache.remove("film"));
        cache.clear().unwrap();
        assert_eq!(cache.get("film"), None);
        drop(send);
        stream.join().unwrap().unwrap();
    });
    assert_eq!(cache.open("film").unwrap().unwrap().len(), 5 * MIB as u64);
    cache.close().unwrap();
}

#[test]
fn load_started_before_the_end_of_a_stream_is_not_stored() {
    let dir = tempfile::tempdir().unwrap();
    let cache = films(dir.path());
    let loaded = cache.get_with("film".into(), || {
        cache.insert_from("film".into(), source(1, 5 * MIB)).unwrap();
        Bytes::from_static(b"loaded")
    });
    assert_eq!(loaded, "loaded");
    check_reads(cache.open("film").unwrap().unwrap(), 1, 5 * MIB);
    cache.close().unwrap();
}

#[test]
fn failing_stream_leaves_the_former_entry_or_none() {
    let file = FaultyTier::new(HashMapTier::new().with_kind(TierKind::File));
    let disk = HashMapTier::new().without_streams();
    let engine = Plan::over(vec![Arc::new(disk), Arc::new(file.clone())]).build_for::<Bytes>();
    let open = || engine.open(&1).unwrap();
    let stream = |seed| engine.insert_from(1, &mut source(seed, 5 * MIB));
    stream(1).unwrap();
    for operation in [Operation::BeginUpload, Operation::Append] {
        file.fail(operation, Times::Next(1), ErrorKind::Full);
        assert_eq!(stream(2).unwrap_err().kind(), ErrorKind::Full);
        check_reads(open().unwrap(), 1, 5 * MIB);
    }
    file.fail(Operation::Publish, Times::Next(1), ErrorKind::Io);
    assert_eq!(stream(2).unwrap_err().kind(), ErrorKind::Io);
    assert!(open().is_none(), "neither the new one nor the old one");
    file.fail(Operation::Publish, Times::Next(1), ErrorKind::Io);
    file.fail(Operation::Remove, Times::Next(2), ErrorKind::Io);
    stream(3).unwrap_err();
    assert!(open().is_none(), "what could not be removed is not trusted");
    stream(4).unwrap();
    check_reads(open().unwrap(), 4, 5 * MIB);
    file.fail(Operation::Open, Times::Next(1), ErrorKind::Unavailable);
    assert_eq!(engine.open(&1).unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(engine.stats().cache.dropped, 4);
}

#[test]
fn stream_removes_the_entry_from_its_former_tier() {
    let dir = tempfile::tempdir().unwrap();
    let build =
        || ucache::<u8, Bytes>("moves").dir(dir.path()).persistence(Persistence::LongTerm).build().unwrap();
    let cache = build();
    assert_eq!(cache.try_insert(1, Bytes::from_static(b"small")).unwrap().home, TierKind::Disk);
    assert_eq!(cache.insert_from(1, source(1, 5 * MIB)).unwrap().home, TierKind::File);
    check_reads(cache.open(&1).unwrap().unwrap(), 1, 5 * MIB);
    cache.insert(1, Bytes::from_static(b"small again"));
    assert_eq!(cache.open(&1).unwrap().unwrap().len(), 11);
    assert_eq!(cache.len(), 1);
    cache.close().unwrap();
}

#[test]
fn tasks_can_stream() {
    let dir = tempfile::tempdir().unwrap();
    let cache = films(dir.path()).to_async();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let placement = cache.insert_from("film".into(), source(1, 9 * MIB)).await.unwrap();
        assert_eq!(placement.home, TierKind::File);
        let reader = cache.open("film").await.unwrap().unwrap();
        tokio::task::spawn_blocking(|| check_reads(reader, 1, 9 * MIB)).await.unwrap();
        assert!(cache.open("none").await.unwrap().is_none());
        cache.close().await.unwrap();
    });
}

/// Set in a child process: the number of MiB to stream.
const CHILD: &str = "LARDER_TEST_STREAM_MIB";

/// Streams a number of MiB in a child process. Returns the growth of its peak memory.
fn peak_growth(mib: usize) -> usize {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "streams::the_child_that_streams", "--nocapture", "--include-ignored"])
        .env(CHILD, mib.to_string())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    let growth = told.split("grew by ").nth(1).and_then(|rest| rest.split(' ').next());
    growth.unwrap_or_else(|| panic!("no figure in {told}")).parse().unwrap()
}

#[test]
#[ignore = "run by the tests of peak memory, in a process of its own"]
fn the_child_that_streams() {
    let Ok(mib) = std::env::var(CHILD) else { return };
    let len = mib.parse::<usize>().unwrap() * MIB;
    let dir = tempfile::tempdir().unwrap();
    let cache = fcache::<u8, Bytes>("large").dir(dir.path()).disk_bytes(4 << 30).build().unwrap();
    let before = peak();
    cache.insert_from(1, source(1, len)).unwrap();
    let mut reader = cache.open(&1).unwrap().unwrap();
    let (mut expected, mut part) = (Pattern::new(1), vec![0; MIB]);
    while expected.at < len {
        let read = reader.read(&mut part).unwrap();
        assert!(read > 0 && expected.continues(&part[..read]), "up to {}", expected.at);
    }
    println!("grew by {} bytes", peak() - before);
    cache.close().unwrap();
}

/// The peak resident memory of this process, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

#[cfg(target_os = "linux")]
#[test]
fn stream_of_a_quarter_gigabyte_takes_at_most_64_mib_of_memory() {
    let grew = peak_growth(256);
    assert!(grew <= 64 * MIB, "{grew} bytes");
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "writes a gigabyte: cargo test --release -- --ignored a_gigabyte"]
fn stream_of_a_gigabyte_takes_at_most_64_mib_of_memory() {
    let grew = peak_growth(1024);
    println!("1 GiB grew the process by {grew} bytes");
    assert!(grew <= 64 * MIB, "{grew} bytes");
}
