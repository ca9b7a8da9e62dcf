//! Stored bytes that were changed are a counted miss, never a wrong value.

use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use fastrand::Rng;
use larder::{Cache, Compress, Persistence, TierKind};
use larder_testkit::history::{Seen, Stamp};

type Texts = Cache<u64, String>;

const KEY: u64 = 7;

fn value(len: usize) -> String {
    Stamp { key: KEY, writer: 0, number: 1 }.text(len)
}

/// Every file below a folder.
fn files(dir: &Path) -> Vec<PathBuf> {
    let files = walkdir::WalkDir::new(dir).sort_by_file_name().into_iter().map(Result::unwrap);
    files.filter(|entry| entry.file_type().is_file()).map(|entry| entry.into_path()).collect()
}

/// The number of entries that the tier `kind` refused or could not read.
fn refused(cache: &Texts, kind: TierKind) -> u64 {
    let counts = cache.stats().tier(kind).unwrap().counts;
    counts.refused + counts.errors
}

/// The place and the length of the only frame.
struct Frame {
    path: PathBuf,
    at: u64,
    len: usize,
}

/// A change of stored bytes.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Flip(usize),
    Cut(usize),
}

impl Frame {
    fn damage(&self, damage: Damage) {
        let mut file = OpenOptions::new().read(true).write(true).open(&self.path).unwrap();
        match damage {
            Damage::Cut(len) => file.set_len(self.at + len as u64).unwrap(),
            Damage::Flip(bit) => {
                let (at, mut byte) = (self.at + bit as u64 / 8, [0]);
                file.seek(SeekFrom::Start(at)).unwrap();
                file.read_exact(&mut byte).unwrap();
                file.seek(SeekFrom::Start(at)).unwrap();
                file.write_all(&[byte[0] ^ 1 << (bit % 8)]).unwrap();
            }
        }
    }

    /// Every bit and every length of a short frame; 60 of each of a long frame, and more of its
    /// head.
    fn damages(&self, rng: &mut Rng) -> Vec<Damage> {
        if self.len <= 400 {
            return (0..self.len * 8).map(Damage::Flip).chain((0..self.len).map(Damage::Cut)).collect();
        }
        let mut damages: Vec<_> = (0..60).map(|_| Damage::Flip(rng.usize(0..self.len * 8))).collect();
        damages.extend((0..60).map(|_| Damage::Cut(rng.usize(0..self.len))));
        damages.extend((0..96 * 8).step_by(7).map(Damage::Flip));
        damages
    }
}

/// Damages a frame in every way. Stores it anew each time.
fn check(cache: &Texts, kind: TierKind, len: usize, find: impl Fn() -> Frame) {
    let mut rng = Rng::with_seed(len as u64);
    let value = value(len);
    cache.try_insert(KEY, value.clone()).unwrap();
    for damage in find().damages(&mut rng) {
        cache.try_insert(KEY, value.clone()).unwrap();
        let before = refused(cache, kind);
        find().damage(damage);
        assert_eq!(cache.get(&KEY), None, "{kind}, {len} bytes, {damage:?}");
        // In a segment that ends too early, the tier cannot tell that the entry existed.
        let is_absent = kind == TierKind::Disk && matches!(damage, Damage::Cut(_));
        let counted = refused(cache, kind) - before;
        assert!(counted == 1 || is_absent && counted == 0, "{kind}, {len} bytes, {damage:?}: {counted}");
    }
    cache.insert(KEY, value.clone());
    assert_eq!(cache.get(&KEY), Some(value), "it goes on");
}

const COMPRESSIONS: [Compress; 2] = [Compress::None, Compress::Auto];

#[test]
fn changed_files_are_refused() {
    for compress in COMPRESSIONS {
        let dir = tempfile::tempdir().unwrap();
        let cache =
            larder::fcache("frames").dir(dir.path()).memory_bytes(0).compress(compress).build().unwrap();
        for len in [30, 5_000, 60_000] {
            check(&cache, TierKind::File, len, || {
                let entries = files(&dir.path().join("frames/files/entries"));
                let [path] = &entries[..] else { panic!("one file for one entry: {entries:?}") };
                let len = fs::metadata(path).unwrap().len();
                Frame { path: path.clone(), at: 0, len: usize::try_from(len).unwrap() }
            });
        }
        cache.close().unwrap();
    }
}

#[test]
fn changed_segments_are_refused() {
    for compress in COMPRESSIONS {
        let dir = tempfile::tempdir().unwrap();
        let cache =
            larder::bcache("frames").dir(dir.path()).memory_bytes(0).compress(compress).build().unwrap();
        for len in [9_000, 60_000] {
            check(&cache, TierKind::Disk, len, || last_in_segments(&dir.path().join("frames/disk/segments")));
        }
        cache.close().unwrap();
    }
}

/// The frame that was appended last.
fn last_in_segments(dir: &Path) -> Frame {
    let path = files(dir).pop().unwrap();
    let mut file = fs::File::open(&path).unwrap();
    let end = file.seek(SeekFrom::End(0)).unwrap();
    let from = end.saturating_sub(100_000);
    file.seek(SeekFrom::Start(from)).unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    let at = bytes.windows(5).rposition(|window| window == b"LRDR\x01").unwrap();
    Frame { path, at: from + at as u64, len: bytes.len() - at }
}

/// Flips a byte anywhere in the directory of a closed cache, also in files of sled.
#[test]
fn flipped_byte_anywhere_never_gives_a_wrong_value() {
    let seed = Rng::new().u64(..);
    let mut rng = Rng::with_seed(seed);
    let rounds = std::env::var("LARDER_FLIPS").map_or(24, |rounds| rounds.parse().unwrap());
    let lens = [0, 100, 1_000, 4_200, 30_000];
    let mut missed = 0;
    for round in 0..rounds {
        let dir = tempfile::tempdir().unwrap();
        let open = || {
            let cache = larder::ucache::<u64, String>("flips").dir(dir.path()).memory_bytes(0);
            cache.persistence(Persistence::LongTerm).build().unwrap()
        };
        let cache = open();
        let text = |key: u64| Stamp { key, writer: 0, number: 1 }.text(lens[key as usize % lens.len()]);
        (0..40).for_each(|key| cache.insert(key, text(key)));
        cache.close().unwrap();
        let (path, at) = flip_one(dir.path(), &mut rng);
        let cache = open();
        for key in 0..40 {
            match cache.get(&key) {
                Some(found) => assert_eq!(
                    (found == text(key)).then_some(Seen::of(found.as_bytes())),
                    Some(Seen::of(text(key).as_bytes())),
                    "round {round}, seed {seed}, byte {at} of {}",
                    path.display()
                ),
                None => missed += 1,
            }
        }
        cache.insert(1, text(1));
        assert_eq!(cache.get(&1), Some(text(1)), "it goes on");
        cache.close().unwrap();
    }
    println!("{rounds} flipped bytes: {missed} of {} reads missed, none wrong", rounds * 40);
}

/// Flips a bit in a random file that is not empty.
fn flip_one(dir: &Path, rng: &mut Rng) -> (PathBuf, usize) {
    let mut files = files(dir);
    files.retain(|path| fs::metadata(path).unwrap().len() > 0);
    let path = rng.choice(files).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    // Files of sled are mostly zeros. Half of the time the chosen byte is not zero.
    let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let at = match rng.bool() && !used.is_empty() {
        true => rng.choice(used).unwrap(),
        false => rng.usize(0..bytes.len()),
    };
    bytes[at] ^= 1 << rng.u32(0..8);
    fs::write(&path, bytes).unwrap();
    (path, at)
}
