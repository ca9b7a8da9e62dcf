//! Stored bytes that were changed: a miss that is counted, never a wrong value.

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use fastrand::Rng;
use larder::{Cache, Compress, Persistence, TierKind};
use larder_testkit::history::{Seen, Stamp};

type Texts = Cache<u64, String>;

const KEY: u64 = 7;

fn value(number: u64, len: usize) -> String {
    Stamp { key: KEY, writer: 0, number }.text(len)
}

/// Every file below a folder.
fn files(dir: &Path) -> Vec<PathBuf> {
    let files = walkdir::WalkDir::new(dir).sort_by_file_name().into_iter().map(Result::unwrap);
    files.filter(|entry| entry.file_type().is_file()).map(|entry| entry.into_path()).collect()
}

/// What was refused, or could not be read, in the tier `kind`.
fn refused(cache: &Texts, kind: TierKind) -> u64 {
    let counts = cache.stats().tier(kind).unwrap().counts;
    counts.refused + counts.errors
}

/// Where the frame of the one entry lies, and how long it is.
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
                let at = self.at + bit as u64 / 8;
                let byte = fs::read(&self.path).unwrap()[usize::try_from(at).unwrap()];
                file.seek(SeekFrom::Start(at)).unwrap();
                file.write_all(&[byte ^ 1 << (bit % 8)]).unwrap();
            }
        }
    }

    /// Every bit and every length of a short frame, 200 of each of a long one.
    fn damages(&self, rng: &mut Rng) -> Vec<Damage> {
        if self.len <= 400 {
            return (0..self.len * 8).map(Damage::Flip).chain((0..self.len).map(Damage::Cut)).collect();
        }
        let mut damages: Vec<_> = (0..200).map(|_| Damage::Flip(rng.usize(0..self.len * 8))).collect();
        damages.extend((0..200).map(|_| Damage::Cut(rng.usize(0..self.len))));
        damages.extend((0..96 * 8).step_by(5).map(Damage::Flip));
        damages
    }
}

/// Damages a frame in every way, stored anew each time.
fn check(cache: &Texts, kind: TierKind, len: usize, find: impl Fn() -> Frame) {
    let mut rng = Rng::with_seed(len as u64);
    cache.try_insert(KEY, value(0, len)).unwrap();
    for (number, damage) in (1..).zip(find().damages(&mut rng)) {
        cache.try_insert(KEY, value(number, len)).unwrap();
        let before = refused(cache, kind);
        find().damage(damage);
        assert_eq!(cache.get(&KEY), None, "{kind}, {len} bytes, {damage:?}");
        assert_eq!(refused(cache, kind), before + 1, "{kind}, {len} bytes, {damage:?}");
    }
    cache.insert(KEY, value(0, len));
    assert_eq!(cache.get(&KEY), Some(value(0, len)), "it goes on");
}

const COMPRESSIONS: [Compress; 2] = [Compress::None, Compress::Auto];

#[test]
fn files_that_were_changed_are_refused() {
    for compress in COMPRESSIONS {
        let dir = tempfile::tempdir().unwrap();
        let cache =
            larder::fcache("frames").dir(dir.path()).memory_bytes(0).compress(compress).build().unwrap();
        for len in [30, 5_000, 200_000] {
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
fn segments_that_were_changed_are_refused() {
    for compress in COMPRESSIONS {
        let dir = tempfile::tempdir().unwrap();
        let cache =
            larder::bcache("frames").dir(dir.path()).memory_bytes(0).compress(compress).build().unwrap();
        for len in [9_000, 200_000] {
            check(&cache, TierKind::Disk, len, || last_in_segments(&dir.path().join("frames/disk/segments")));
        }
        cache.close().unwrap();
    }
}

/// The frame that was appended last.
fn last_in_segments(dir: &Path) -> Frame {
    let path = files(dir).pop().unwrap();
    let bytes = fs::read(&path).unwrap();
    let at = bytes.windows(5).rposition(|window| window == b"LRDR\x01").unwrap();
    Frame { path, at: at as u64, len: bytes.len() - at }
}

/// A byte anywhere in the directory of a closed cache: sled's files as well.
#[test]
fn a_flipped_byte_anywhere_is_never_a_wrong_value() {
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

/// Flips a bit in some file that is not empty.
fn flip_one(dir: &Path, rng: &mut Rng) -> (PathBuf, usize) {
    let mut files = files(dir);
    files.retain(|path| fs::metadata(path).unwrap().len() > 0);
    let path = rng.choice(files).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    // sled's files are mostly zeros: half of the time a byte that is not.
    let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let at = match rng.bool() && !used.is_empty() {
        true => rng.choice(used).unwrap(),
        false => rng.usize(0..bytes.len()),
    };
    bytes[at] ^= 1 << rng.u32(0..8);
    fs::write(&path, bytes).unwrap();
    (path, at)
}
