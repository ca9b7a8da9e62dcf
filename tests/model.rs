//! Random sequences of all operations, checked against a model of a cache.
//!
//! Several threads use one cache, each with its own keys and tags, so that the model of each thread
//! knows every answer. Between two phases the clock moves forward or back, or the cache is
//! reopened, cleared, or invalidated as a whole.
//!
//! `LARDER_SEQUENCES` sets the number of sequences (default 60):
//!
//! `LARDER_SEQUENCES=10000 cargo nextest run --test larder model::`

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use larder::{Cache, EntryOptions, LoadError, Loaded, Time};
use larder_core::clock::Clock;
use larder_testkit::ManualClock;

use crate::tier_sets::{TIER_SETS, tiered};

const SEQUENCES: u64 = 60;
const THREADS: u64 = 3;
const PHASES: u64 = 5;
const STEPS: u64 = 40;
const KEYS: u64 = 6;
/// A key of no thread. It is written after the clock moved, so that the cache reads the clock.
const NOBODY: u64 = u64::MAX;

const TTL: u64 = 60_000;
const IDLE: u64 = 45_000;
const STALE: u64 = 100_000;
/// An idle time that outlasts every sequence.
const NEVER: u64 = 1 << 40;

/// The expected state of an entry.
#[derive(Clone, Debug)]
struct Entry {
    /// `None` for a negative entry: the loader said that there is no value.
    value: Option<u64>,
    ttl: u64,
    deadline: u64,
    idle_deadline: u64,
    tags: Vec<u64>,
    /// The times of invalidations, by tag or `ALL`.
    marks: BTreeMap<u64, u64>,
}

/// Key of an invalidation of all entries, beside those of tags.
const ALL: u64 = u64::MAX;

impl Entry {
    fn new(value: Option<u64>, (ttl, idle): (u64, u64), tags: Vec<u64>, now: u64) -> Self {
        Self { value, ttl, deadline: now + ttl, idle_deadline: now + idle, tags, marks: BTreeMap::new() }
    }

    fn until(&self) -> u64 {
        self.deadline.min(self.idle_deadline)
    }

    fn is_fresh(&self, now: u64) -> bool {
        self.marks.is_empty() && now < self.until()
    }

    fn is_stale(&self, now: u64) -> bool {
        let ends = self.marks.values().copied().chain([self.until()]);
        !self.is_fresh(now) && ends.map(|end| end.saturating_add(STALE)).all(|end| now < end)
    }
}

/// The entries that one thread expects under its keys.
#[derive(Default)]
struct Model {
    entries: BTreeMap<u64, Entry>,
}

impl Model {
    /// Returns the value of a fresh entry, and counts as a use of it.
    fn get(&mut self, key: u64, now: u64, in_memory: bool) -> Option<u64> {
        let entry = self.entries.get_mut(&key).filter(|entry| entry.is_fresh(now))?;
        if in_memory {
            entry.idle_deadline = now + IDLE;
        }
        entry.value
    }

    fn stale(&self, key: u64, now: u64) -> Option<u64> {
        self.entries.get(&key).filter(|entry| entry.is_stale(now))?.value
    }
}

/// One thread with its keys, its model, and the cache.
struct Player<'a> {
    cache: &'a Cache<u64, u64>,
    model: &'a mut Model,
    rng: Rng,
    thread: u64,
    now: u64,
    idle: u64,
    in_memory: bool,
}

impl Player<'_> {
    fn key(&mut self) -> u64 {
        self.thread * 1000 + self.rng.u64(..KEYS)
    }

    fn tag(&self, tag: u64) -> String {
        format!("{}/{tag}", self.thread)
    }

    fn check<T: PartialEq + std::fmt::Debug>(&self, what: &str, key: u64, (got, expect): (T, T)) {
        assert_eq!(got, expect, "{what} of {key}: {:?} at {}", self.model.entries.get(&key), self.now);
    }

    fn get(&mut self, key: u64) -> Option<u64> {
        self.model.get(key, self.now, self.in_memory)
    }

    fn write(&mut self, key: u64, entry: Entry) {
        self.model.entries.insert(key, entry);
    }

    fn plain(&self, value: u64) -> Entry {
        Entry::new(Some(value), (TTL, self.idle), Vec::new(), self.now)
    }

    fn step(&mut self) {
        let (key, value, now) = (self.key(), self.rng.u64(..1_000_000), self.now);
        match self.rng.u32(..18) {
            0 | 1 => {
                self.cache.insert(key, value);
                self.write(key, self.plain(value));
            }
            2 | 3 => self.insert_with(key, value),
            4 | 5 => {
                let expect = self.get(key);
                self.check("get", key, (self.cache.get(&key), expect));
            }
            6 => {
                let expect = self.model.entries.remove(&key).is_some();
                let removed = self.cache.remove(&key);
                // A reader may already have removed an expired entry.
                assert!(expect || !removed, "remove of {key} that was not there");
            }
            7 => {
                let expect = self.get(key);
                self.model.entries.remove(&key);
                self.check("take", key, (self.cache.take(&key).unwrap(), expect));
            }
            8 => {
                let expect = self.get(key).is_some();
                self.check("contains", key, (self.cache.contains_key(&key), expect));
            }
            9 => {
                let absent = self.get(key).is_none();
                self.check(
                    "insert_if_absent",
                    key,
                    (self.cache.insert_if_absent(key, value).unwrap(), absent),
                );
                if absent {
                    self.write(key, self.plain(value));
                }
            }
            10 => self.increment(key),
            11 => self.retime(key),
            12 => {
                self.cache.invalidate(&key).unwrap();
                if let Some(entry) = self.model.entries.get_mut(&key).filter(|entry| entry.is_fresh(now)) {
                    entry.deadline = now;
                }
            }
            13 => {
                let tag = self.rng.u64(..3);
                self.cache.invalidate_tag(self.tag(tag)).unwrap();
                for entry in self.model.entries.values_mut().filter(|entry| entry.tags.contains(&tag)) {
                    entry.marks.insert(tag, now);
                }
            }
            14 => {
                let held = self.get(key);
                self.check("get_with", key, (self.cache.get_with(key, || value), held.unwrap_or(value)));
                if held.is_none() {
                    self.write(key, self.plain(value));
                }
            }
            15 => self.load(key, value),
            16 => {
                let keys: Vec<u64> = (0..4).map(|_| self.key()).collect();
                let expect: Vec<_> = keys.iter().map(|key| self.get(*key)).collect();
                self.check("get_many", key, (self.cache.get_many(&keys), expect));
            }
            _ => self.get_many_with(value),
        }
    }

    fn insert_with(&mut self, key: u64, value: u64) {
        let ttl = self.rng.u64(1..2 * TTL);
        let tags: Vec<u64> = (0..3).filter(|_| self.rng.bool()).collect();
        let options =
            EntryOptions::new().ttl(Duration::from_millis(ttl)).tags(tags.iter().map(|tag| self.tag(*tag)));
        self.cache.insert_with(key, value, options);
        self.write(key, Entry::new(Some(value), (ttl, self.idle), tags, self.now));
    }

    fn increment(&mut self, key: u64) {
        let held = self.get(key);
        let sum = held.unwrap_or(5) + 2;
        self.check("increment", key, (self.cache.increment(key, 2, 5).unwrap(), sum));
        match self.model.entries.get_mut(&key).filter(|_| held.is_some()) {
            Some(entry) => entry.value = Some(sum),
            None => self.write(key, self.plain(sum)),
        }
    }

    fn retime(&mut self, key: u64) {
        let (now, span) = (self.now, self.rng.u64(1..TTL));
        // A recorded absence is no entry.
        let is_there = |entry: &Entry| entry.is_fresh(now) && entry.value.is_some();
        let there = self.model.entries.get(&key).is_some_and(is_there);
        self.get(key);
        let touches = self.rng.bool();
        let found = match touches {
            true => self.cache.touch(&key).unwrap(),
            false => self.cache.expire_in(&key, Duration::from_millis(span)).unwrap(),
        };
        self.check("retime", key, (found, there));
        if let Some(entry) = self.model.entries.get_mut(&key).filter(|_| there) {
            if touches {
                entry.deadline = now.saturating_add(entry.ttl);
                entry.idle_deadline = now + self.idle;
            } else {
                (entry.ttl, entry.deadline) = (span, now + span);
            }
        }
    }

    fn load(&mut self, key: u64, value: u64) {
        let fresh =
            self.model.entries.get(&key).filter(|entry| entry.is_fresh(self.now)).map(|entry| entry.value);
        let stale = self.model.stale(key, self.now);
        self.get(key);
        let fails = stale.is_some() || self.rng.u32(..3) == 0;
        let absent = self.rng.u32(..3) == 0;
        let answer = match absent {
            true => Loaded::Absent { ttl: Duration::from_millis(TTL) },
            false => Loaded::Value(value),
        };
        let loaded = self.cache.load(key, move |_| if fails { Err("down") } else { Ok(answer) });
        let loaded = loaded.map_err(|error| matches!(error, LoadError::Loader(_)));
        let expect = match (fresh, stale, fails) {
            (Some(held), ..) => Ok(held),
            (None, Some(stale), _) => Ok(Some(stale)),
            (None, None, true) => Err(true),
            (None, None, false) => Ok((!absent).then_some(value)),
        };
        self.check("load", key, (loaded, expect));
        if fresh.is_none() && !fails {
            self.write(key, Entry::new((!absent).then_some(value), (TTL, self.idle), Vec::new(), self.now));
        }
    }

    fn get_many_with(&mut self, value: u64) {
        let keys: Vec<u64> = (0..4).map(|_| self.key()).collect();
        let held: Vec<_> = keys.iter().map(|key| self.get(*key)).collect();
        let mut missing: Vec<u64> = Vec::new();
        for (key, _) in keys.iter().zip(&held).filter(|(_, held)| held.is_none()) {
            if !missing.contains(key) {
                missing.push(*key);
            }
        }
        let mut asked = Vec::new();
        let values = self.cache.get_many_with(keys.clone(), |keys| {
            asked.clone_from(&keys);
            keys.into_iter().map(|key| (key, value + key)).collect::<Vec<_>>()
        });
        let expect: Vec<_> =
            keys.iter().zip(held).map(|(key, held)| Some(held.unwrap_or(value + key))).collect();
        self.check("get_many_with", keys[0], ((values, asked), (expect, missing.clone())));
        for key in missing {
            self.write(key, self.plain(value + key));
        }
    }
}

/// One sequence over one set of tiers.
struct Game<'a> {
    tier_set: &'a str,
    dir: &'a Path,
    clock: ManualClock,
    /// The time that the cache should see.
    now: u64,
    rng: Rng,
    models: Vec<Model>,
}

impl Game<'_> {
    fn open(&self) -> Cache<u64, u64> {
        let [ttl, idle, stale] = [TTL, self.idle(), STALE].map(Duration::from_millis);
        if self.tier_set == "memory" {
            let builder = larder::mcache("model").ttl(ttl).idle(idle).stale(stale);
            return builder.clock(self.clock.clone()).build().unwrap();
        }
        let builder = tiered(self.tier_set, self.dir, &self.clock).ttl(ttl).idle(idle).stale(stale);
        builder.build().unwrap()
    }

    /// The idle time to use. A use of the copy in memory does not reach the copy in the lower tier.
    /// With both, the model cannot know the last use.
    fn idle(&self) -> u64 {
        if self.tier_set == "memory" || self.tier_set.ends_with("without memory") { IDLE } else { NEVER }
    }

    fn play(&mut self) {
        let mut cache = self.open();
        for _ in 0..PHASES {
            let seeds: Vec<Rng> = (0..THREADS).map(|_| self.rng.fork()).collect();
            let (now, idle, in_memory) = (self.now, self.idle(), self.tier_set == "memory");
            thread::scope(|scope| {
                for ((thread, model), rng) in (0..).zip(&mut self.models).zip(seeds) {
                    let cache = &cache;
                    scope.spawn(move || {
                        let mut player = Player { cache, model, rng, thread, now, idle, in_memory };
                        (0..STEPS).for_each(|_| player.step());
                    });
                }
            });
            cache = self.between(cache);
        }
        cache.close().unwrap();
    }

    /// Makes one change between two phases.
    fn between(&mut self, cache: Cache<u64, u64>) -> Cache<u64, u64> {
        match self.rng.u32(..8) {
            0 | 1 => self.forward(),
            2 => {
                let back = Time::from_millis(self.clock.now().as_millis() - self.rng.u64(5_000..500_000));
                self.clock.set(back);
            }
            3 | 4 if self.tier_set != "memory" => {
                cache.close().unwrap();
                drop(cache);
                self.clock.advance(Duration::from_millis(self.rng.u64(1..TTL)));
                // If the clock was set back before, time stands still until the clock has caught
                // up.
                self.now = self.now.max(self.clock.now().as_millis());
                return self.looked(self.open());
            }
            5 => {
                cache.clear().unwrap();
                self.models.iter_mut().for_each(|model| model.entries.clear());
            }
            6 => {
                cache.invalidate_all().unwrap();
                let now = self.now;
                let entries = self.models.iter_mut().flat_map(|model| model.entries.values_mut());
                entries.for_each(|entry| entry.marks.extend([(ALL, now)]));
            }
            _ => drop(cache.try_sweep().unwrap()),
        }
        self.looked(cache)
    }

    fn forward(&mut self) {
        let step = self.rng.u64(1..TTL);
        self.clock.advance(Duration::from_millis(step));
        self.now += step;
    }

    fn looked(&self, cache: Cache<u64, u64>) -> Cache<u64, u64> {
        cache.insert(NOBODY, 0);
        cache
    }
}

fn sequences(tier_set: &str) {
    let count = std::env::var("LARDER_SEQUENCES").map_or(SEQUENCES, |count| count.parse().unwrap());
    let seed = std::env::var("LARDER_SEED").map_or_else(|_| Rng::new().u64(..), |seed| seed.parse().unwrap());
    let mut seeds = Rng::with_seed(seed);
    for sequence in 0..count.div_ceil(TIER_SETS.len() as u64 + 1) {
        println!("{tier_set}: LARDER_SEED={seed}, sequence {sequence}");
        let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
        let models = (0..THREADS).map(|_| Model::default()).collect();
        let now = clock.now().as_millis();
        Game { tier_set, dir: dir.path(), clock, now, rng: seeds.fork(), models }.play();
    }
}

#[test]
fn memory() {
    sequences("memory");
}

#[test]
fn all_tiers() {
    sequences("all tiers");
}

#[test]
fn disk() {
    sequences("disk");
}

#[test]
fn disk_without_memory() {
    sequences("disk without memory");
}

#[test]
fn files() {
    sequences("files");
}

#[test]
fn files_without_memory() {
    sequences("files without memory");
}
