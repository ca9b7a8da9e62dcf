//! SIEVE, S3-FIFO and LFU.

use std::collections::VecDeque;

use super::{Model, compare};
use crate::memory::Policy;

const CAPACITIES: [usize; 4] = [1, 2, 10, 60];

/// A model of SIEVE: the queue from the newest to the oldest, each entry with its visited bit.
struct Sieve {
    capacity: usize,
    queue: Vec<(u64, bool)>,
    /// The key at the hand.
    hand: Option<u64>,
}

impl Sieve {
    fn place(&self, key: u64) -> Option<usize> {
        self.queue.iter().position(|entry| entry.0 == key)
    }

    /// The key before `place`, or the oldest.
    fn before(&self, place: usize) -> Option<u64> {
        place.checked_sub(1).map(|place| self.queue[place].0)
    }
}

impl Model for Sieve {
    fn get(&mut self, key: u64) -> bool {
        self.place(key).map(|place| self.queue[place].1 = true).is_some()
    }
    fn insert(&mut self, key: u64) -> Option<u64> {
        let mut victim = None;
        if self.queue.len() == self.capacity {
            let oldest = self.queue.len() - 1;
            let mut at = self.hand.and_then(|hand| self.place(hand)).unwrap_or(oldest);
            while self.queue[at].1 {
                self.queue[at].1 = false;
                at = at.checked_sub(1).unwrap_or(oldest);
            }
            // After a new entry at the front, the hand always has an entry to move to.
            self.hand = self.before(at).or(Some(key));
            victim = Some(self.queue.remove(at).0);
        }
        self.queue.insert(0, (key, false));
        victim
    }
    fn remove(&mut self, key: u64) {
        if let Some(place) = self.place(key) {
            if self.hand == Some(key) {
                self.hand = self.before(place);
            }
            self.queue.remove(place);
        }
    }
}

#[test]
fn sieve_evicts_what_its_model_evicts() {
    for capacity in CAPACITIES {
        compare(Policy::Sieve, capacity, &mut Sieve { capacity, queue: Vec::new(), hand: None });
    }
}

/// A model of S3-FIFO: queues from the newest to the oldest, with use counts.
struct S3Fifo {
    capacity: usize,
    small: VecDeque<(u64, u8)>,
    main: VecDeque<(u64, u8)>,
    ghosts: VecDeque<Option<u64>>,
}

impl S3Fifo {
    fn evict(&mut self, keep: u64) -> u64 {
        let oldest = |queue: &VecDeque<(u64, u8)>| queue.iter().rposition(|entry| entry.0 != keep);
        loop {
            let full = self.small.len() > self.capacity / 10;
            match (oldest(&self.small), oldest(&self.main)) {
                (Some(place), main) if full || main.is_none() => {
                    let (key, uses) = self.small.remove(place).unwrap();
                    if uses <= 1 {
                        self.forget(key);
                        self.ghosts.push_front(Some(key));
                        self.ghosts.truncate(self.capacity * 9 / 10);
                        return key;
                    }
                    self.main.push_front((key, 0));
                }
                (_, place) => {
                    let (key, uses) = self.main.remove(place.unwrap()).unwrap();
                    if uses == 0 {
                        return key;
                    }
                    self.main.push_front((key, uses.min(3) - 1));
                }
            }
        }
    }

    fn forget(&mut self, key: u64) -> bool {
        let place = self.ghosts.iter().position(|ghost| *ghost == Some(key));
        place.map(|place| self.ghosts[place] = None).is_some()
    }
}

impl Model for S3Fifo {
    fn get(&mut self, key: u64) -> bool {
        let found = self.small.iter_mut().chain(&mut self.main).find(|entry| entry.0 == key);
        found.map(|entry| entry.1 = (entry.1 + 1).min(15)).is_some()
    }
    fn insert(&mut self, key: u64) -> Option<u64> {
        let queue = if self.forget(key) { &mut self.main } else { &mut self.small };
        queue.push_front((key, 0));
        (self.small.len() + self.main.len() > self.capacity).then(|| self.evict(key))
    }
    fn remove(&mut self, key: u64) {
        self.small.retain(|entry| entry.0 != key);
        self.main.retain(|entry| entry.0 != key);
    }
}

#[test]
fn s3_fifo_evicts_what_its_model_evicts() {
    for capacity in CAPACITIES {
        let (small, main, ghosts) = Default::default();
        compare(Policy::S3Fifo, capacity, &mut S3Fifo { capacity, small, main, ghosts });
    }
}

/// A model of LFU: entries by when they reached their frequency, the last first, with the frequency and the
/// uses since.
struct Lfu {
    capacity: usize,
    entries: Vec<(u64, usize, usize)>,
    uses: usize,
}

impl Lfu {
    fn evict(&mut self, keep: u64) -> u64 {
        if self.uses >= self.entries.len() * 10 {
            self.uses = 0;
            // Of two entries with the same frequency after halving, the one with the higher count before is
            // newer.
            self.entries.sort_by_key(|entry| 15 - entry.1);
            self.entries.iter_mut().for_each(|entry| entry.1 /= 2);
        }
        loop {
            let least = self.entries.iter().filter(|entry| entry.0 != keep).map(|entry| entry.1).min();
            let is_least = |entry: &(u64, usize, usize)| Some(entry.1) == least && entry.0 != keep;
            let place = self.entries.iter().rposition(is_least).unwrap();
            let (key, frequency, uses) = self.entries.remove(place);
            if uses == 0 || frequency == 15 {
                return key;
            }
            self.uses += uses;
            self.entries.insert(0, (key, (frequency + uses).min(15), 0));
        }
    }
}

impl Model for Lfu {
    fn get(&mut self, key: u64) -> bool {
        let found = self.entries.iter_mut().find(|entry| entry.0 == key);
        found.map(|entry| entry.2 = (entry.2 + 1).min(15)).is_some()
    }
    fn insert(&mut self, key: u64) -> Option<u64> {
        self.entries.insert(0, (key, 0, 0));
        self.uses += 1;
        (self.entries.len() > self.capacity).then(|| self.evict(key))
    }
    fn remove(&mut self, key: u64) {
        self.entries.retain(|entry| entry.0 != key);
    }
}

#[test]
fn lfu_evicts_what_its_model_evicts() {
    for capacity in CAPACITIES {
        compare(Policy::Lfu, capacity, &mut Lfu { capacity, entries: Vec::new(), uses: 0 });
    }
}
