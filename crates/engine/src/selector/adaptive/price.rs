//! What a byte beyond memory must save, so that the entries that save most fit.

use super::codec::{Reader, Writer};
use super::seen::Seen;

/// Classes of entries by the time that a hit saves a byte: one and a half for each power of two.
pub(super) const CLASSES: usize = 64;
/// The classes begin at two to the power of this, in nanoseconds a byte, negated.
const FIRST: f64 = 15.0;
const STEPS: f64 = 1.5;
/// After this many requests the price is set again.
const ROUND: u32 = 256;
/// The keys to come are counted as up to this many times the known ones, less the fewer requests are for new
/// keys.
const GROWTH: f64 = 3.0;
/// A generation of keys ends after this many requests for each of its keys.
const REQUESTS_PER_KEY: u64 = 8;
/// What former rounds count for the number of requests a key.
const DECAY: f64 = 31.0 / 32.0;

/// The keys that were requested in the last one or two generations, by class.
pub(super) struct Prices {
    /// Bytes of the keys of both generations.
    both: [f64; CLASSES],
    /// Bytes of the keys of the newer generation.
    newer: [f64; CLASSES],
    newer_keys: u64,
    newer_requests: u64,
    /// Of this round: requests, and those for keys of neither generation.
    requests: u32,
    strangers: u32,
    /// The same over many rounds, the later ones counting more.
    requests_lately: f64,
    strangers_lately: f64,
    rounds: u64,
    /// The bytes that there is room for. Infinite if nothing is known and nothing had to leave.
    capacity: f64,
    evictions: u64,
}

/// What was learned, in a few numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Price {
    /// Nanoseconds a byte that a hit must save.
    pub(super) nanos: f64,
    /// Further requests for a key that was requested.
    pub(super) requests: f64,
    /// Whether enough requests are known.
    pub(super) is_known: bool,
}

impl Prices {
    pub(super) fn new() -> Self {
        Self {
            both: [0.0; CLASSES],
            newer: [0.0; CLASSES],
            newer_keys: 0,
            newer_requests: 0,
            requests: 0,
            strangers: 0,
            requests_lately: 0.0,
            strangers_lately: 0.0,
            rounds: 0,
            capacity: f64::INFINITY,
            evictions: 0,
        }
    }

    /// Notes a request beyond memory, for an entry of this many bytes of which each saves this many
    /// nanoseconds. Returns the new price at the end of a round.
    pub(super) fn request(&mut self, seen: &Seen, key: u64, bytes: f64, saved: Option<f64>) -> Option<Price> {
        let known = seen.insert(key);
        self.requests += 1;
        self.newer_requests += 1;
        self.newer_keys += u64::from(!known.in_newer);
        self.strangers += u32::from(!known.in_newer && !known.in_older);
        if let Some(saved) = saved {
            let class = class_of(saved);
            if !known.in_newer {
                self.newer[class] += bytes;
            }
            if !known.in_newer && !known.in_older {
                self.both[class] += bytes;
            }
        }
        if seen.is_full(self.newer_keys) || self.newer_requests > REQUESTS_PER_KEY * self.newer_keys.max(1024)
        {
            seen.next_generation();
            self.both = std::mem::replace(&mut self.newer, [0.0; CLASSES]);
            (self.newer_keys, self.newer_requests) = (0, 0);
        }
        (self.requests >= ROUND).then(|| self.end_round())
    }

    fn end_round(&mut self) -> Price {
        let (requests, strangers) = (f64::from(self.requests), f64::from(self.strangers));
        self.requests_lately = self.requests_lately * DECAY + requests;
        self.strangers_lately = self.strangers_lately * DECAY + strangers;
        (self.requests, self.strangers) = (0, 0);
        self.rounds += 1;
        self.price(strangers / requests)
    }

    /// The price, if this share of the requests is for new keys.
    fn price(&self, strangers: f64) -> Price {
        let growth = 1.0 + (GROWTH - 1.0) * (strangers * 2.0).min(1.0);
        let mut held = 0.0;
        let full = (0..CLASSES).rev().find(|class| {
            held += self.both[*class] * growth;
            held > self.capacity
        });
        let again = self.requests_lately - self.strangers_lately;
        Price {
            nanos: full.map_or(0.0, |class| least_of(class + 1)),
            requests: again / self.strangers_lately.max(1.0),
            is_known: self.rounds > 1,
        }
    }

    /// Notes how full the room is, and how much there is if that is known.
    pub(super) fn fill(&mut self, bytes: u64, evictions: u64, capacity: Option<u64>) {
        match capacity {
            Some(capacity) => self.capacity = capacity as f64,
            None if evictions > self.evictions && bytes > 0 => {
                let bytes = bytes as f64;
                let is_known = self.capacity.is_finite();
                self.capacity = if is_known { self.capacity + (bytes - self.capacity) / 8.0 } else { bytes };
            }
            None => {}
        }
        self.evictions = evictions;
    }

    pub(super) fn write(&self, to: &mut Writer) {
        self.both.iter().for_each(|bytes| to.f64(*bytes));
        [self.requests_lately, self.strangers_lately, self.capacity]
            .into_iter()
            .for_each(|number| to.f64(number));
    }

    /// `None` if a number is none that [`write`](Self::write) can have written.
    pub(super) fn read(from: &mut Reader<'_>) -> Option<Self> {
        let mut prices = Self::new();
        let mut next = || from.f64().filter(|number| *number >= 0.0);
        for bytes in &mut prices.both {
            *bytes = next()?;
        }
        (prices.requests_lately, prices.strangers_lately) = (next()?, next()?);
        prices.capacity = next()?;
        prices.rounds = if prices.requests_lately > 0.0 { 2 } else { 0 };
        // The keys are not kept: those that come again must not count twice.
        prices.newer = [0.0; CLASSES];
        Some(prices)
    }

    /// The price before the next round, after a restart.
    pub(super) fn present(&self) -> Price {
        self.price(0.0)
    }
}

/// The class of entries of which each byte saves this many nanoseconds.
fn class_of(saved: f64) -> usize {
    // The conversion saturates.
    (((saved.max(1e-9).log2() + FIRST) * STEPS) as usize).min(CLASSES - 1)
}

/// The least that a byte of the class saves.
fn least_of(class: usize) -> f64 {
    (class as f64 / STEPS - FIRST).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> u64 {
        number.wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    /// Requests for `keys` keys of 1000 bytes each, whose bytes save 1, 2, 4 or 8 ns; each twice.
    fn price(capacity: Option<u64>, keys: u64) -> Price {
        let (mut prices, seen) = (Prices::new(), Seen::default());
        prices.fill(0, 0, capacity);
        let requests = (0..keys).chain(0..keys).chain(0..keys);
        let saved = |number: u64| Some(f64::from(1 << (number % 4)) * 1.01);
        let last =
            requests.filter_map(|number| prices.request(&seen, key(number), 1000.0, saved(number))).last();
        last.unwrap()
    }

    #[test]
    fn price_is_zero_while_everything_fits() {
        assert_eq!(price(None, 2048).nanos, 0.0);
        assert_eq!(price(Some(4 << 20), 2048).nanos, 0.0);
    }

    #[test]
    fn price_rises_until_the_rest_fits() {
        let dear = price(Some(1_100_000), 2048).nanos;
        assert!(dear > 2.0 && dear <= 4.0, "the half that saves 4 and 8 ns fits, not {dear}");
        let dearest = price(Some(600_000), 2048).nanos;
        assert!(dearest > 4.0 && dearest <= 8.0, "{dearest}");
    }

    #[test]
    fn further_requests_are_counted_by_key() {
        let known = price(None, 2048);
        assert!(known.is_known);
        assert!((1.5..3.0).contains(&known.requests), "{}", known.requests);
    }

    #[test]
    fn room_is_what_was_held_when_entries_had_to_leave() {
        let mut prices = Prices::new();
        prices.fill(1_000, 0, None);
        assert!(prices.capacity.is_infinite());
        prices.fill(1_000, 5, None);
        assert_eq!(prices.capacity, 1_000.0);
        prices.fill(200, 5, None);
        assert_eq!(prices.capacity, 1_000.0, "nothing had to leave");
    }

    #[test]
    fn classes_begin_where_they_say() {
        for class in 0..CLASSES {
            assert_eq!(class_of(least_of(class) * 1.0001), class);
        }
        assert_eq!((class_of(0.0), class_of(f64::MAX)), (0, CLASSES - 1));
    }
}
