//! Ghosts: the hashes of evicted entries, in a queue.

use std::collections::VecDeque;

use hashbrown::HashMap;

/// The hashes of recently evicted entries, first in, first out.
pub(super) struct Ghosts {
    queue: VecDeque<(u64, u32)>,
    /// The position of a hash in the queue, as an arrival number. A hash that is taken or added again leaves
    /// an obsolete item in the queue.
    arrivals: HashMap<u64, u32, foldhash::fast::FixedState>,
    arrival: u32,
}

impl Ghosts {
    pub(super) fn new() -> Self {
        Self { queue: VecDeque::new(), arrivals: HashMap::default(), arrival: 0 }
    }

    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.arrivals.clear();
    }

    /// Adds `hash`, and removes the oldest beyond `most`.
    pub(super) fn add(&mut self, hash: u64, most: usize) {
        self.arrival = self.arrival.wrapping_add(1);
        self.queue.push_back((hash, self.arrival));
        self.arrivals.insert(hash, self.arrival);
        while self.queue.len() > most {
            let Some((oldest, arrival)) = self.queue.pop_front() else { break };
            if self.arrivals.get(&oldest) == Some(&arrival) {
                self.arrivals.remove(&oldest);
            }
        }
    }

    /// Removes `hash`; returns whether it was there.
    pub(super) fn take(&mut self, hash: u64) -> bool {
        self.arrivals.remove(&hash).is_some()
    }
}
