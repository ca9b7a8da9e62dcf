//! Histories over keys that are equal but encoded differently: each call uses another spelling of
//! its key.

use std::future::Future;
use std::hash::Hash;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use fastrand::Rng;
use larder::{Cache, Error, ErrorKind, TierKind, TieredBuilder};
use larder_testkit::history::{Contract, History, Keeps, Report, Verdict};
use larder_testkit::workload::{Subject, Weights, Workload};
use larder_testkit::{Rounded, Spelled, block_on};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use super::{CALLS, HISTORIES, number};

/// The number of kinds of caches below, each without memory and with a small one.
const KINDS: u64 = 8;
const LIVES: usize = 2;

/// A cache that is called with a random spelling of each key.
pub(super) struct Spelling<K: Hash + Eq + Send + Sync + 'static> {
    pub(super) cache: Cache<K, String>,
    pub(super) key: fn(u64, &mut Rng) -> K,
    pub(super) rng: Mutex<Rng>,
    /// The only home of an entry that counts as stored.
    pub(super) home: Option<TierKind>,
}

impl<K: Hash + Eq + Send + Sync + 'static> Spelling<K> {
    fn key(&self, key: u64) -> K {
        (self.key)(key, &mut self.rng.lock())
    }
}

impl<K: Clone + Hash + Eq + Send + Sync + 'static> Subject for Spelling<K> {
    type Error = Error;

    async fn insert(&self, key: u64, value: String) -> larder::Result<()> {
        let placement = self.cache.try_insert(self.key(key), value)?;
        match self.home.is_none_or(|home| placement.home == home) {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Unavailable, placement.to_string())),
        }
    }

    async fn remove(&self, key: u64) -> larder::Result<()> {
        self.cache.remove(&self.key(key));
        Ok(())
    }

    async fn get(&self, key: u64) -> larder::Result<Option<String>> {
        // Reads with `get` or `get_many`, which are separate code paths.
        let by_one = self.rng.lock().bool();
        match by_one {
            true => self.cache.try_get(&self.key(key)),
            false => Ok(self.cache.get_many(&[self.key(key)]).pop().flatten()),
        }
    }

    async fn load(
        &self,
        key: u64,
        loader: impl Future<Output = Option<String>> + Send + 'static,
    ) -> larder::Result<Option<String>> {
        Ok(self.cache.try_get_with(self.key(key), || block_on(loader).ok_or(())).ok())
    }

    async fn take(&self, key: u64) -> larder::Result<Option<String>> {
        self.cache.take(&self.key(key))
    }

    async fn contains(&self, key: u64) -> larder::Result<bool> {
        Ok(self.cache.contains_key(&self.key(key)))
    }

    async fn clear(&self) -> larder::Result<()> {
        self.cache.clear()
    }

    async fn flush(&self) -> larder::Result<()> {
        self.cache.flush()
    }
}

/// Runs random histories of a kind of key, and returns the total number of key conflicts.
fn over<K>(
    key: fn(u64, &mut Rng) -> K,
    lives: usize,
    build: impl Fn(&TempDir) -> TieredBuilder<K, String>,
) -> u64
where
    K: Clone + Hash + Eq + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let once = number("LARDER_SEED");
    let count = match once {
        Some(_) => 1,
        None => number("LARDER_HISTORIES").unwrap_or(HISTORIES).div_ceil(KINDS * 8),
    };
    let seed = once.unwrap_or_else(|| Rng::new().u64(..));
    let (mut all, mut conflicts) = (Report::default(), 0);
    for seed in (0..count).map(|n| seed.wrapping_add(n)) {
        let (mut rng, dir, history) = (Rng::with_seed(seed), tempfile::tempdir().unwrap(), History::new());
        for _ in 0..lives {
            let memory = if rng.bool() { 0 } else { 64 << 10 };
            let cache = build(&dir).dir(dir.path()).memory_bytes(memory).build().unwrap();
            let subject = Spelling { cache, key, rng: Mutex::new(rng.fork()), home: None };
            life(&subject, &history, &mut rng);
            conflicts += subject.cache.stats().cache.key_conflicts;
            subject.cache.close().unwrap();
        }
        let report = history.check(&Contract { keeps: Keeps::Nothing, failures_change: false });
        report.assert_sound(format_args!("LARDER_SEED={seed}"));
        all.add(report);
    }
    println!("{count} histories, {conflicts} conflicts: {all}");
    assert!(all.of(Verdict::Explained) > 0, "nothing was tried: {all}");
    conflicts
}

fn life<K: Clone + Hash + Eq + Send + Sync + 'static>(
    subject: &Spelling<K>,
    history: &Arc<History>,
    rng: &mut Rng,
) {
    let work = Workload {
        keys: rng.u64(1..8),
        lens: vec![10, 1_000, 5_000, 30_000],
        weights: Weights::ALL,
        failing_loads: 20,
        given_up: 0,
    };
    thread::scope(|scope| {
        for mut rng in [rng.fork(), rng.fork(), rng.fork()] {
            let (mut recorder, work) = (history.recorder(), &work);
            scope.spawn(move || block_on(work.run(subject, &mut recorder, &mut rng, CALLS)));
        }
    });
    block_on(work.read_all(subject, &mut history.recorder()));
}

/// A path in one of five spellings.
pub(super) fn path(key: u64, rng: &mut Rng) -> PathBuf {
    let spellings = ["a/{}", "a//{}", "a/./{}", "a/{}/", "a/{}/."];
    PathBuf::from(spellings[rng.usize(..spellings.len())].replace("{}", &key.to_string()))
}

#[test]
fn equal_paths_in_any_spelling_share_one_entry() {
    let conflicts = over(path, LIVES, |_| larder::bcache("paths"))
        + over(path, LIVES, |_| larder::fcache("paths"))
        + over(path, LIVES, |_| larder::ucache("paths"));
    assert_eq!(conflicts, 0, "they have one encoding");
}

#[test]
fn fields_that_eq_ignores_do_not_change_the_entry() {
    let conflicts = over(Spelled::random, LIVES, |_| larder::bcache("spelled"))
        + over(Spelled::random, LIVES, |_| larder::ucache("spelled"));
    assert_eq!(conflicts, 0, "they have one encoding");
}

#[test]
fn keys_with_a_canonical_form_share_one_entry() {
    let build = |_: &TempDir| larder::bcache("rounded").key_with(Rounded::lowest);
    assert_eq!(over(Rounded::random, LIVES, build), 0, "they have one encoding");
}

/// Uses the cache only once per directory: an entry that another process stored under another
/// encoding is unknown to the next.
#[test]
fn keys_without_a_canonical_form_never_return_an_old_value() {
    let conflicts = over(Rounded::random, 1, |_| larder::bcache("rounded"))
        + over(Rounded::random, 1, |_| larder::ucache("rounded"));
    assert!(conflicts > 0, "they have several encodings");
}
