//! The requests of a sample of keys, by class and by distance: how long entries would stay, and what they
//! would save.

use super::codec::{Reader, Writer};
use super::judge::judge;

/// Classes of entries.
pub(super) const CLASSES: usize = 64;
/// Two distances for each power of two, up to 16 million requests.
pub(super) const DISTANCES: usize = 48;
/// The column of requests that no earlier one is known of.
pub(super) const NEVER: usize = DISTANCES;
pub(super) const COLUMNS: usize = DISTANCES + 1;
/// The keys whose last request is known.
const SLOTS: usize = 16_384;
/// No class is known.
const NONE: u8 = u8::MAX;
/// After this many recorded requests the classes are judged again.
const ROUND: u32 = 512;
/// What former requests count after each round.
const DECAY: f32 = 15.0 / 16.0;
/// At most one key in two to the power of this is in the sample.
const SHIFT_MAX: u8 = 8;

/// The last request for a key of the sample.
#[derive(Clone, Copy)]
struct Slot {
    tag: u32,
    class: u8,
    last: u64,
    bytes: f32,
    load: f32,
}

/// Requests of one class and distance.
#[derive(Clone, Copy, Default)]
pub(super) struct Cell {
    /// The recorded requests.
    pub(super) samples: f32,
    /// The requests that they stand for.
    pub(super) count: f32,
    /// The sum of the bytes of their entries.
    pub(super) bytes: f32,
    /// The sum of the times that a hit would have saved at most, in nanoseconds.
    pub(super) load: f32,
}

/// What is known of one class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Judgement {
    /// Nanoseconds that are saved, for a MiB that is held during a thousand requests.
    pub(super) saved: f32,
    /// The share of requests that come before the entry would leave.
    pub(super) reuse: f32,
    pub(super) is_known: bool,
}

impl Judgement {
    pub(super) const NONE: Self = Self { saved: 0.0, reuse: 0.0, is_known: false };
}

/// All classes, and what a byte must save.
#[derive(Clone, Debug)]
pub(super) struct Judgements {
    pub(super) classes: [Judgement; CLASSES],
    pub(super) price: f32,
}

/// An entry, as far as the pool needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Described {
    pub(super) class: u8,
    pub(super) bytes: f32,
    pub(super) load: f32,
}

/// The requests for entries that compete for the same room.
pub(super) struct Pool {
    slots: Box<[Slot]>,
    cells: Box<[[Cell; COLUMNS]]>,
    /// Requests so far, as the sample tells.
    clock: u64,
    shift: u8,
    recorded: u32,
    /// Of the recorded requests, those that took the slot of another key.
    displaced: u32,
    /// The bytes that there is room for; infinite as long as nothing had to leave.
    capacity: f64,
    evictions: u64,
}

impl Pool {
    pub(super) fn new() -> Self {
        let empty = Slot { tag: 0, class: NONE, last: 0, bytes: 0.0, load: 0.0 };
        Self {
            slots: vec![empty; SLOTS].into(),
            cells: vec![[Cell::default(); COLUMNS]; CLASSES].into(),
            clock: 1,
            shift: 0,
            recorded: 0,
            displaced: 0,
            capacity: f64::INFINITY,
            evictions: 0,
        }
    }

    /// Notes a request for a key, if it is in the sample. It stands for `one_in` requests, and more if the
    /// pool takes a sample of its own.
    pub(super) fn request(&mut self, key: u64, one_in: u32) {
        let Some((index, tag)) = self.find(key) else { return };
        let stands_for = u64::from(one_in) << self.shift;
        self.clock += stands_for;
        self.recorded += 1;
        let slot = &mut self.slots[index];
        if slot.tag != tag {
            self.displaced += u32::from(slot.tag != 0);
            *slot = Slot { tag, class: NONE, last: self.clock, bytes: 0.0, load: 0.0 };
            return;
        }
        let distance = std::mem::replace(&mut slot.last, self.clock).abs_diff(self.clock);
        let slot = *slot;
        if slot.class != NONE {
            self.count(&slot, column_of(distance), stands_for);
        }
    }

    /// Says what the entry of a key is whose request was noted.
    pub(super) fn describe(&mut self, key: u64, entry: Described, one_in: u32) {
        let Some((index, tag)) = self.find(key) else { return };
        let slot = &mut self.slots[index];
        if slot.tag != tag {
            return;
        }
        let is_new = slot.class == NONE;
        let Described { class, bytes, load } = entry;
        *slot = Slot { class: class.min(CLASSES as u8 - 1), bytes, load, ..*slot };
        let slot = *slot;
        if is_new {
            self.count(&slot, NEVER, u64::from(one_in) << self.shift);
        }
    }

    fn count(&mut self, slot: &Slot, column: usize, stands_for: u64) {
        let stands_for = stands_for as f32;
        let cell = &mut self.cells[usize::from(slot.class)][column];
        cell.samples += 1.0;
        cell.count += stands_for;
        cell.bytes += slot.bytes * stands_for;
        cell.load += slot.load * stands_for;
    }

    fn find(&self, key: u64) -> Option<(usize, u32)> {
        let mixed = key.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (key >> 32);
        let sampled = (mixed >> 20) & ((1 << self.shift) - 1) == 0;
        sampled.then_some(((mixed >> 51) as usize % SLOTS, (mixed as u32).max(1)))
    }

    /// Notes how full the room is.
    pub(super) fn fill(&mut self, bytes: u64, evictions: u64) {
        if evictions > self.evictions && bytes > 0 {
            let bytes = bytes as f64;
            let change = if self.capacity.is_finite() { (bytes - self.capacity) / 8.0 } else { 0.0 };
            self.capacity = if self.capacity.is_finite() { self.capacity + change } else { bytes };
        }
        self.evictions = evictions;
    }

    /// Judges the classes, once a round. `value` returns from the mean bytes and load of a class what a hit
    /// saves and what a miss costs beside the load, in nanoseconds.
    pub(super) fn judge(&mut self, value: impl Fn(f32, f32) -> (f64, f64)) -> Option<Judgements> {
        if self.recorded < ROUND {
            return None;
        }
        let judgements = judge(&self.cells, self.capacity, value);
        for cell in self.cells.iter_mut().flatten() {
            *cell = Cell {
                samples: cell.samples * DECAY,
                count: cell.count * DECAY,
                bytes: cell.bytes * DECAY,
                load: cell.load * DECAY,
            };
        }
        // Too many keys for the slots: a smaller sample knows longer distances.
        if self.displaced > self.recorded / 4 && self.shift < SHIFT_MAX {
            self.shift += 1;
        }
        (self.recorded, self.displaced) = (0, 0);
        Some(judgements)
    }

    pub(super) fn write(&self, to: &mut Writer) {
        to.u8(self.shift);
        to.f64(self.capacity);
        for cell in self.cells.iter().flatten() {
            [cell.samples, cell.count, cell.bytes, cell.load].into_iter().for_each(|number| to.f32(number));
        }
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Option<Self> {
        let mut pool = Self::new();
        pool.shift = from.u8()?.min(SHIFT_MAX);
        pool.capacity = from.f64()?;
        if pool.capacity.is_nan() || pool.capacity <= 0.0 {
            return None;
        }
        for cell in pool.cells.iter_mut().flatten() {
            let mut next = || from.f32().filter(|number| number.is_finite() && *number >= 0.0);
            *cell = Cell { samples: next()?, count: next()?, bytes: next()?, load: next()? };
        }
        pool.recorded = ROUND;
        Some(pool)
    }
}

fn column_of(distance: u64) -> usize {
    let distance = distance.max(1);
    let power = distance.ilog2();
    let half = power.checked_sub(1).map_or(0, |lower| (distance >> lower) & 1);
    (power as usize * 2 + half as usize).min(DISTANCES - 1)
}
