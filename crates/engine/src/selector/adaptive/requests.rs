//! What the requests beyond memory tell: how many are to come for a key, and what a byte must save.

use super::codec::{Reader, Writer};
use super::counts::{COUNTS, Counts};
use super::price::{Demand, halve};

/// After this many requests the prices are set again.
const ROUND: u32 = 256;
/// Requests that must be known before prices count.
const KNOWN: u64 = 512;
/// Prices of a former process count until this many requests are known.
const KNOWN_AGAIN: u64 = 4096;
/// Counts are halved when there are more keys: then half of the counters are in use.
const KEYS_MAX: f64 = 98_304.0;
/// Counts are also halved after this many requests for each key.
const REQUESTS_PER_KEY: f64 = 8.0;
/// As long as fewer keys are known, as many as this are assumed.
const KEYS_MIN: f64 = 1024.0;
/// What former rounds count for the rates of requests.
const DECAY: f64 = 31.0 / 32.0;
/// Requests to come for a key at least. At first nearly all keys are new.
const REQUESTS_MIN: f64 = 0.5;
/// Entries beyond memory are expected to take this many times the bytes of the known keys, and so much more the
/// more requests are for new keys: one and a half if there are none, four and a half if all are.
const GROWTH: f64 = 1.5;
const GROWTH_BY_NEW: f64 = 3.0;
/// The share of memory that entries are admitted to by their requests beyond memory. The rest has entries that
/// are not requested there because memory answers.
const MEMORY_SHARE: f64 = 0.7;

/// What was learned, in a few numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Prices {
    /// Nanoseconds that the requests to come must save for each byte beyond memory.
    pub(super) stored: f64,
    /// Nanoseconds that a hit must save for each byte in memory, times the count of the key.
    pub(super) memory: f64,
    /// Requests to come for a key, by its count.
    pub(super) requests: [f64; COUNTS],
    /// Whether enough requests are known.
    pub(super) are_known: bool,
}

impl Default for Prices {
    fn default() -> Self {
        Self { stored: 0.0, memory: 0.0, requests: [1.0; COUNTS], are_known: false }
    }
}

/// An entry that was requested.
#[derive(Clone, Copy, Debug)]
pub(super) struct Requested {
    /// The hash of its key.
    pub(super) key: u64,
    /// Its bytes with those of the head of its frame.
    pub(super) bytes: f64,
    /// Nanoseconds that a hit beyond memory saves for each of them, if that is known.
    pub(super) saved_stored: Option<f64>,
    /// The same of a hit in memory.
    pub(super) saved_memory: Option<f64>,
}

/// Counts of requests, each by the count that the key had.
#[derive(Default)]
struct ByCount {
    /// Keys that have the count now.
    keys: [f64; COUNTS],
    /// Requests of this round for such keys.
    requests: [f64; COUNTS],
    /// The same over many rounds, later ones counting more: requests, and keys times all requests.
    requests_lately: [f64; COUNTS],
    keys_lately: [f64; COUNTS],
}

/// The requests beyond memory, summed up.
pub(super) struct Requests {
    stored: Demand,
    memory: Demand,
    by_count: ByCount,
    /// Requests of this round, since the counts were halved, and all of this process.
    of_round: u32,
    since_halving: u64,
    all: u64,
    /// The bytes that there is room for. Infinite if nothing is known and nothing had to leave.
    stored_room: f64,
    memory_room: f64,
    evictions: u64,
    /// What a former process knew.
    former: Option<Prices>,
}

impl Requests {
    pub(super) fn new() -> Self {
        Self {
            stored: Demand::new(),
            memory: Demand::new(),
            by_count: ByCount::default(),
            of_round: 0,
            since_halving: 0,
            all: 0,
            stored_room: f64::INFINITY,
            memory_room: f64::INFINITY,
            evictions: 0,
            former: None,
        }
    }

    /// Notes a request beyond memory. Returns the new prices at the end of a round.
    pub(super) fn request(&mut self, counts: &Counts, entry: Requested) -> Option<Prices> {
        let from = counts.increment(entry.key);
        let to = (from + 1).min(COUNTS - 1);
        let by_count = &mut self.by_count;
        by_count.requests[from] += 1.0;
        if from > 0 {
            by_count.keys[from] = (by_count.keys[from] - 1.0).max(0.0);
        }
        by_count.keys[to] += 1.0;
        if let Some(saved) = entry.saved_stored {
            self.stored.recount(entry.bytes, saved, (from, to));
        }
        if let Some(saved) = entry.saved_memory {
            self.memory.recount(entry.bytes, saved, (from, to));
        }
        self.of_round += 1;
        self.since_halving += 1;
        self.all += 1;
        if self.of_round < ROUND {
            return None;
        }
        self.end_round();
        let keys = self.keys();
        if keys > KEYS_MAX || self.since_halving as f64 > REQUESTS_PER_KEY * keys {
            self.halve(counts);
        }
        Some(self.prices())
    }

    fn end_round(&mut self) {
        let ByCount { keys, requests, requests_lately, keys_lately } = &mut self.by_count;
        let all = f64::from(std::mem::take(&mut self.of_round));
        for count in 0..COUNTS {
            requests_lately[count] = requests_lately[count] * DECAY + requests[count];
            keys_lately[count] = keys_lately[count] * DECAY + keys[count] * all;
        }
        *requests = [0.0; COUNTS];
    }

    fn halve(&mut self, counts: &Counts) {
        counts.halve();
        self.stored.halve();
        self.memory.halve();
        halve(&mut self.by_count.keys);
        self.since_halving = 0;
    }

    fn keys(&self) -> f64 {
        self.by_count.keys.iter().sum::<f64>().max(KEYS_MIN)
    }

    /// The prices now.
    pub(super) fn prices(&self) -> Prices {
        if let Some(former) = self.former.filter(|_| self.all < KNOWN_AGAIN) {
            return former;
        }
        let requests = self.requests_to_come();
        // An entry in memory is ranked by its count alone: the rates are those of keys that memory does not have.
        let counts = std::array::from_fn(|count| count as f64);
        let lately = &self.by_count.requests_lately;
        let new = lately[0] / lately.iter().sum::<f64>().max(1.0);
        Prices {
            stored: self.stored.price(&requests, self.stored_room / (GROWTH + GROWTH_BY_NEW * new)),
            memory: self.memory.price(&counts, self.memory_room * MEMORY_SHARE),
            requests,
            are_known: self.all >= KNOWN,
        }
    }

    /// The requests that are expected for a key of each count, in as many requests as halve the counts, but
    /// not in more than half of those so far. A key of a higher count gets at least as many.
    fn requests_to_come(&self) -> [f64; COUNTS] {
        let ByCount { requests_lately, keys_lately, .. } = &self.by_count;
        let ahead = (self.all as f64 / 2.0).min(REQUESTS_PER_KEY * self.keys());
        let mut most = REQUESTS_MIN;
        std::array::from_fn(|count| {
            if count > 0 {
                most = most.max(requests_lately[count] / keys_lately[count].max(1.0) * ahead);
            }
            most
        })
    }

    /// Notes how much room memory has, if that is known.
    pub(super) fn fill_memory(&mut self, capacity: Option<u64>) {
        self.memory_room = capacity.map_or(f64::INFINITY, |capacity| capacity as f64);
    }

    /// Notes how full the room beyond memory is, and how much there is if that is known.
    pub(super) fn fill_stored(&mut self, bytes: u64, evictions: u64, capacity: Option<u64>) {
        match capacity {
            Some(capacity) => self.stored_room = capacity as f64,
            None if evictions > self.evictions && bytes > 0 => {
                let (room, bytes) = (self.stored_room, bytes as f64);
                self.stored_room = if room.is_finite() { room + (bytes - room) / 8.0 } else { bytes };
            }
            None => {}
        }
        self.evictions = evictions;
    }

    pub(super) fn write(&self, to: &mut Writer) {
        let Prices { stored, memory, requests, are_known } = self.prices();
        [stored, memory, f64::from(u8::from(are_known))]
            .iter()
            .chain(&requests)
            .for_each(|number| to.f64(*number));
        to.f64(self.stored_room);
    }

    /// `None` if a number is none that [`write`](Self::write) can have written.
    pub(super) fn read(from: &mut Reader<'_>) -> Option<Self> {
        let mut next = || from.f64().filter(|number| *number >= 0.0);
        let (stored, memory, are_known) = (next()?, next()?, next()? > 0.0);
        let mut requests = [0.0; COUNTS];
        for number in &mut requests {
            *number = next()?;
        }
        let stored_room = next()?;
        let former = are_known.then_some(Prices { stored, memory, requests, are_known });
        Some(Self { former, stored_room, ..Self::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requested(key: u64) -> Requested {
        let key = key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Requested { key, bytes: 1000.0, saved_stored: Some(4.0), saved_memory: Some(2.0) }
    }

    /// The prices after requests for these keys.
    fn after(requests: &mut Requests, keys: impl Iterator<Item = u64>) -> Prices {
        let counts = Counts::default();
        keys.filter_map(|key| requests.request(&counts, requested(key))).last().unwrap()
    }

    #[test]
    fn keys_that_were_requested_often_are_expected_more_often() {
        // Every second request is for one of 16 keys, the others are for new keys.
        let keys = (0..8192).map(|at| if at % 2 == 0 { at / 2 % 16 } else { 1000 + at });
        let prices = after(&mut Requests::new(), keys);
        assert!(prices.are_known);
        assert_eq!(prices.requests[1], REQUESTS_MIN, "those of a count of one did not come again");
        assert!(prices.requests[COUNTS - 1] > 50.0, "{:?}", prices.requests);
        assert!(prices.requests.is_sorted());
    }

    #[test]
    fn new_keys_raise_the_price_before_the_room_is_full() {
        let mut requests = Requests::new();
        requests.fill_stored(0, 0, Some(2_000_000));
        assert!(after(&mut requests, 0..1024).stored > 0.0, "1 MB is known, and 4.5 MB are expected");
        requests.fill_stored(0, 0, Some(5_000_000));
        assert_eq!(requests.prices().stored, 0.0);
    }

    #[test]
    fn memory_has_a_price_of_its_own() {
        let mut requests = Requests::new();
        requests.fill_memory(Some(500_000));
        let prices = after(&mut requests, 0..1024);
        assert!(prices.memory > 0.0 && prices.stored == 0.0, "{prices:?}");
        requests.fill_memory(None);
        assert_eq!(requests.prices().memory, 0.0);
    }

    #[test]
    fn room_is_what_was_held_when_entries_had_to_leave() {
        let mut requests = Requests::new();
        requests.fill_stored(1_000, 0, None);
        assert!(requests.stored_room.is_infinite());
        requests.fill_stored(1_000, 5, None);
        assert_eq!(requests.stored_room, 1_000.0);
        requests.fill_stored(200, 5, None);
        assert_eq!(requests.stored_room, 1_000.0, "nothing had to leave");
    }

    #[test]
    fn prices_of_a_former_process_count_until_enough_is_known() {
        let mut first = Requests::new();
        first.fill_stored(0, 0, Some(500_000));
        let prices = after(&mut first, 0..1024);
        let mut to = Writer::new(b"requests");
        first.write(&mut to);
        let bytes = to.finish();
        let mut second = Requests::read(&mut Reader::new(&bytes, b"requests").unwrap()).unwrap();
        assert_eq!(second.prices(), prices);
        assert_eq!(after(&mut second, 0..KNOWN_AGAIN / 2), prices);
        assert_ne!(after(&mut second, (0..KNOWN_AGAIN).map(|at| at % 512)), prices);
    }
}
