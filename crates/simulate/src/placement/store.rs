//! The room beyond memory: what is stored where, and what has to leave.

use std::collections::VecDeque;

/// Where the entry of a key is.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    tier: Option<usize>,
    bytes: u64,
    is_read: bool,
    stamp: u32,
}

/// Entries in the tiers beyond memory, which share one budget. The oldest leaves first; if it was read since
/// it was written it goes around once more, as the runs and segments of the disk tier do.
#[derive(Debug)]
pub(crate) struct Storage {
    budget: u64,
    held: Vec<Held>,
    queue: VecDeque<(u32, u32)>,
    used: Vec<u64>,
    pub(crate) evictions: Vec<u64>,
}

impl Storage {
    pub(crate) fn new(budget: u64, keys: usize, tiers: usize) -> Self {
        Self {
            budget,
            held: vec![Held::default(); keys],
            queue: VecDeque::new(),
            used: vec![0; tiers],
            evictions: vec![0; tiers],
        }
    }

    /// The tier that has the entry.
    pub(crate) fn tier(&self, key: u32) -> Option<usize> {
        self.held[key as usize].tier
    }

    pub(crate) fn note_read(&mut self, key: u32) {
        self.held[key as usize].is_read = true;
    }

    /// The bytes that a tier holds.
    pub(crate) fn used(&self, tier: usize) -> u64 {
        self.used[tier]
    }

    pub(crate) fn insert(&mut self, key: u32, tier: usize, bytes: u64) {
        self.remove(key);
        let held = &mut self.held[key as usize];
        *held = Held { tier: Some(tier), bytes, is_read: false, stamp: held.stamp + 1 };
        self.queue.push_back((key, held.stamp));
        self.used[tier] += bytes;
        while self.used.iter().sum::<u64>() > self.budget && self.evict() {}
    }

    pub(crate) fn remove(&mut self, key: u32) {
        let held = &mut self.held[key as usize];
        if let Some(tier) = held.tier.take() {
            self.used[tier] -= held.bytes;
        }
    }

    fn evict(&mut self) -> bool {
        while let Some((key, stamp)) = self.queue.pop_front() {
            let held = &mut self.held[key as usize];
            let Some(tier) = held.tier.filter(|_| held.stamp == stamp) else { continue };
            if std::mem::take(&mut held.is_read) {
                self.queue.push_back((key, stamp));
                continue;
            }
            self.remove(key);
            self.evictions[tier] += 1;
            return true;
        }
        false
    }
}
