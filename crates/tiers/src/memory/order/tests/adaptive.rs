//! W-TinyLFU, with and without promotion out of the window, and its history.

use std::collections::HashMap;

use super::super::adaptive::Tuning;
use super::super::history::History;
use super::{Model, Shard, compare, hash};
use crate::memory::Policy;

/// A model with queues from the newest to the oldest. Frequencies of all keys are halved at once, and the
/// history is exact except for its number of keys.
struct Adaptive {
    capacity: usize,
    tuning: Tuning,
    window: Vec<u64>,
    main: Vec<u64>,
    /// The frequency, and the uses since the last examination.
    known: HashMap<u64, (u8, u8)>,
    history: History,
    uses: usize,
}

impl Adaptive {
    fn new(capacity: usize, tuning: Tuning) -> Self {
        let (window, main, known) = Default::default();
        Self { capacity, tuning, window, main, known, history: History::new(), uses: 0 }
    }

    fn share(&self) -> usize {
        (self.capacity * usize::from(self.tuning.window) / 1000).max(1)
    }

    fn count(&mut self, uses: u8) {
        self.uses += usize::from(uses);
        let entries = self.window.len() + self.main.len();
        if self.uses >= usize::from(self.tuning.period) * entries.max(16) {
            self.uses = 0;
            self.history.halve();
            self.known.values_mut().for_each(|known| known.0 /= 2);
        }
    }

    /// Adds the uses to the frequency.
    fn look(&mut self, key: u64) -> bool {
        let known = self.known.get_mut(&key).unwrap();
        let uses = std::mem::take(&mut known.1);
        known.0 = (known.0 + uses).min(15);
        if uses > 0 {
            self.count(uses);
        }
        uses > 0
    }

    fn coldest(&mut self, keep: u64) -> Option<u64> {
        while self.main.iter().any(|key| *key != keep) {
            let key = *self.main.last()?;
            if key != keep && !self.look(key) {
                return Some(key);
            }
            self.main.pop();
            self.main.insert(0, key);
        }
        None
    }

    fn victim(&mut self, keep: u64) -> u64 {
        loop {
            let place = self.window.iter().rposition(|key| *key != keep);
            let over = self.window.len() > self.share();
            let (Some(place), true) = (place, over) else {
                return self.coldest(keep).or_else(|| place.map(|place| self.window[place])).unwrap();
            };
            let candidate = self.window[place];
            let used = self.look(candidate);
            if used && !self.tuning.promotes {
                self.window.remove(place);
                self.window.insert(0, candidate);
            } else if used || self.main.len() + self.share() < self.capacity {
                self.window.remove(place);
                self.main.insert(0, candidate);
                let known = self.known.get_mut(&candidate).unwrap();
                known.0 = (known.0 + 1).min(15);
            } else {
                return match self.coldest(keep) {
                    Some(coldest) if self.known[&candidate].0 > self.known[&coldest].0 => coldest,
                    _ => candidate,
                };
            }
        }
    }
}

/// The hash by which the history knows a key.
fn half(key: u64) -> u64 {
    hash(key) & u64::from(u32::MAX)
}

impl Model for Adaptive {
    fn get(&mut self, key: u64) -> bool {
        self.known.get_mut(&key).map(|known| known.1 = (known.1 + 1).min(15)).is_some()
    }
    fn insert(&mut self, key: u64) -> Option<u64> {
        self.window.insert(0, key);
        self.history.reserve((self.window.len() + self.main.len()) as u64);
        let known = self.history.take(half(key));
        self.known.insert(key, (known, 0));
        self.count(1);
        if self.window.len() + self.main.len() <= self.capacity {
            return None;
        }
        let victim = self.victim(key);
        self.look(victim);
        let insert = u8::from(self.window.contains(&victim));
        let entries = (self.window.len() + self.main.len()) as u64;
        self.history.add(half(victim), self.known[&victim].0 + insert, entries);
        self.remove(victim);
        Some(victim)
    }
    fn remove(&mut self, key: u64) {
        self.window.retain(|other| *other != key);
        self.main.retain(|other| *other != key);
        self.known.remove(&key);
    }
}

#[test]
fn tiny_lfu_evicts_what_its_model_evicts() {
    for capacity in [1, 2, 10, 60, 300] {
        compare(Policy::TinyLfu, capacity, &mut Adaptive::new(capacity, Tuning::FREQUENCY));
    }
}

#[test]
fn auto_without_tuning_evicts_what_its_model_evicts() {
    for capacity in [1, 2, 10, 60, 300] {
        compare(Policy::Auto, capacity, &mut Adaptive::new(capacity, Tuning::START));
    }
}

#[test]
fn loop_larger_than_the_cache_keeps_its_hits() {
    let mut shard = Shard::new(Policy::TinyLfu, 100);
    let mut hits = 0;
    for step in 0..100_000 {
        let key = step % 10_000;
        match shard.get(key) {
            true => hits += 1,
            false => drop(shard.insert(key, 1)),
        }
    }
    // The optimum is 1 in 100.
    assert!(hits > 700, "{hits}");
}

#[test]
fn window_follows_the_tuning_in_small_steps() {
    let mut shard = Shard::new(Policy::TinyLfu, 10_000);
    for key in 0..20_000 {
        shard.insert(key, 1);
    }
    shard.order.tune(Tuning { window: 900, ..Tuning::FREQUENCY });
    for key in 20_000..30_000 {
        assert_eq!(shard.insert(key, 1).len(), 1);
    }
    // Recency applies: all of the last keys are there.
    assert!((21_500..30_000).all(|key| shard.slots.contains_key(&key)));
}

#[test]
fn history_remembers_the_last_keys_and_halves_their_counts() {
    let mut history = History::new();
    for key in 0..2_000 {
        history.add(hash(key), (key % 15) as u8 + 1, 1_000);
    }
    let known = (0..2_000).filter(|key| history.take(hash(*key)) == (*key % 15) as u8 + 1).count();
    assert!(known > 1_900, "{known}");
    history.add(hash(1), 15, 1_000);
    history.halve();
    assert_eq!((history.take(hash(1)), history.take(hash(1))), (7, 0));
    let unknown = (10_000..20_000).filter(|key| history.take(hash(*key)) > 0).count();
    assert!(unknown < 100, "{unknown}");
}

/// Regression: a shard that held a little less than its part of the budget admitted every new entry, since it
/// compared its queues with that part. Shards lend room to one another, so this was so most of the time.
#[test]
fn frequency_decides_in_a_shard_that_lends_room_too() {
    let hits = |held| {
        let mut shard = Shard::new(Policy::TinyLfu, 1_000);
        shard.budget = held;
        let mut hits = 0;
        for request in 0..36_000 {
            if shard.get(request % 3_000) {
                hits += 1;
            } else {
                shard.insert(request % 3_000, 1);
            }
        }
        hits
    };
    let (all, fewer) = (hits(1_000), hits(980));
    assert!(all > 6_000, "{all}");
    assert!(fewer > all * 9 / 10, "{fewer} of {all}");
}
