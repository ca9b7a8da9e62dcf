//! The dictionaries of a cache: which ones it knows, and which one writes.
//!
//! `TierStack::payload` compresses with the dictionary that writes, and each payload that it takes is noted:
//! as a sample for the next dictionary, or in the gain of the present one. What takes time (training, reading
//! and storing dictionaries) is done by [`upkeep`], on a thread of the pool. A [`TierHandle`] reads
//! the dictionary of a frame before the frame is decoded.
//!
//! [`TierHandle`]: crate::TierHandle

mod gain;
mod samples;
pub(crate) mod upkeep;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use larder_core::Bytes;
use larder_core::clock::Clock;
use larder_core::compress::Compress;
use larder_core::compress::dictionary::{
    DICTIONARY_VALUE_MAX, DICTIONARY_VALUE_MIN, Dictionary, INDEX_MAX, needed_by,
};
use larder_core::frame::Compression;
use parking_lot::{Mutex, RwLock};

use self::gain::Gain;
use self::samples::Samples;

/// The level of contexts in a cache that only reads with dictionaries.
const READER_LEVEL: i32 = 3;
/// Dictionaries in memory, at most.
const KNOWN_MAX: usize = 2 * INDEX_MAX;
/// Dictionaries that are known to be lost, at most.
const LOST_MAX: usize = 64;
/// How long a dictionary that was not found is not looked for again.
const LOST_FOR: Duration = Duration::from_secs(1);
/// How often the tiers are asked for the dictionaries that they should have.
const CHECK_EVERY: Duration = Duration::from_secs(60);
/// The pause after a check that failed.
const CHECK_AGAIN: Duration = Duration::from_secs(1);
/// The clock is read at every nth payload.
const CLOCK_EVERY: u64 = 16;
/// Payloads that pass before samples are taken again, after a dictionary that saved too little. Doubles.
const REST: u64 = 1 << 11;
const REST_MAX: u64 = 1 << 20;

/// The dictionaries of one cache.
pub struct Dictionaries {
    /// The level to compress at; `None` if the cache writes with no dictionary.
    level: Option<i32>,
    clock: Arc<dyn Clock>,
    known: RwLock<Vec<Arc<Dictionary>>>,
    /// The dictionary that writes. Every tier that the cache writes to has it.
    writer: RwLock<Option<Arc<Dictionary>>>,
    /// Dictionaries that their tier did not have, and when.
    lost: Mutex<Vec<(u64, Duration)>>,
    state: Mutex<State>,
    /// Starts the upkeep on another thread. Returns whether it could.
    start: OnceLock<Box<dyn Fn() -> bool + Send + Sync>>,
}

/// What the upkeep is to do, and what it is to do it with.
struct State {
    /// Whether the tiers were asked for the dictionaries of earlier runs.
    is_opened: bool,
    is_check_due: bool,
    is_running: bool,
    /// Whether the index of this cache is newer than those of the tiers.
    is_index_new: bool,
    next_check: Duration,
    payloads: u64,
    /// The samples for the next dictionary, if one is wanted.
    samples: Option<Samples>,
    /// Payloads that still pass without samples, and how long the next rest is.
    rest: (u64, u64),
    gain: Gain,
    /// The numbers of the dictionaries, the one that writes first.
    index: Vec<u64>,
}

/// What the upkeep does next.
pub(crate) enum Task {
    Check,
    Train(Samples),
}

impl Dictionaries {
    /// The dictionaries of a cache with this setting.
    pub fn new(compress: Compress, clock: Arc<dyn Clock>) -> Arc<Self> {
        let level = compress.dictionary_level();
        let next_check = clock.elapsed().saturating_add(CHECK_EVERY);
        Arc::new(Self {
            level,
            clock,
            known: RwLock::default(),
            writer: RwLock::default(),
            lost: Mutex::default(),
            state: Mutex::new(State {
                is_opened: false,
                is_check_due: level.is_some(),
                is_running: false,
                is_index_new: false,
                next_check,
                payloads: 0,
                samples: level.map(|_| Samples::default()),
                rest: (0, REST),
                gain: Gain::default(),
                index: Vec::new(),
            }),
            start: OnceLock::new(),
        })
    }

    /// Whether the cache writes with dictionaries.
    pub(crate) fn is_on(&self) -> bool {
        self.level.is_some()
    }

    pub(crate) fn level(&self) -> i32 {
        self.level.unwrap_or(READER_LEVEL)
    }

    /// The dictionary with this number, if it is in memory.
    pub(crate) fn find(&self, number: u64) -> Option<Arc<Dictionary>> {
        self.known.read().iter().find(|known| known.number() == number).cloned()
    }

    /// The number of a dictionary that a frame needs and that has to be read first.
    #[inline]
    pub(crate) fn missing_for(&self, frame: &[u8]) -> Option<u64> {
        let number = needed_by(frame)?;
        (self.find(number).is_none() && !self.is_lost(number)).then_some(number)
    }

    fn is_lost(&self, number: u64) -> bool {
        let now = self.clock.elapsed();
        let lost = self.lost.lock();
        lost.iter().any(|(known, since)| *known == number && now.saturating_sub(*since) < LOST_FOR)
    }

    /// Notes that a tier does not have a dictionary.
    pub(crate) fn note_lost(&self, number: u64) {
        let mut lost = self.lost.lock();
        lost.retain(|(known, _)| *known != number);
        if lost.len() >= LOST_MAX {
            lost.remove(0);
        }
        lost.push((number, self.clock.elapsed()));
    }

    /// Keeps a dictionary in memory. The one that was kept first makes room, unless the index lists it.
    pub(crate) fn keep(&self, dictionary: Dictionary) -> Arc<Dictionary> {
        let index = self.state.lock().index.clone();
        let mut known = self.known.write();
        if let Some(same) = known.iter().find(|known| known.number() == dictionary.number()) {
            return Arc::clone(same);
        }
        if known.len() >= KNOWN_MAX
            && let Some(oldest) = known.iter().position(|known| !index.contains(&known.number()))
        {
            known.remove(oldest);
        }
        let dictionary = Arc::new(dictionary);
        known.push(Arc::clone(&dictionary));
        dictionary
    }

    /// Compresses a payload with the dictionary that writes. `None` if the setting for payloads without a
    /// dictionary applies: this one is too small or too large, or there is no dictionary yet.
    pub(crate) fn pack(&self, plain: &Bytes) -> Option<(Compression, Bytes)> {
        let is_taken = (DICTIONARY_VALUE_MIN..=DICTIONARY_VALUE_MAX).contains(&plain.len());
        if !self.is_on() || !is_taken {
            return None;
        }
        let writer = self.writer.read().clone();
        let stored = writer.map(|writer| match writer.pack(plain) {
            Some(stored) => (Compression::Dictionary, stored),
            None => (Compression::None, plain.clone()),
        });
        self.note(plain, stored.as_ref().map(|(_, stored)| stored.len()));
        stored
    }

    /// Notes a payload: how long it is, and how long as stored if a dictionary compressed it.
    fn note(&self, plain: &[u8], stored: Option<usize>) {
        let mut state = self.state.lock();
        state.payloads += 1;
        if state.payloads.is_multiple_of(CLOCK_EVERY) && self.clock.elapsed() >= state.next_check {
            state.is_check_due = true;
        }
        state.sample(plain, stored);
        if !state.is_anything_due() || state.is_running {
            return;
        }
        state.is_running = true;
        drop(state);
        self.run();
    }

    /// Starts the upkeep, which was marked as running.
    fn run(&self) {
        if !self.start.get().is_some_and(|start| start()) {
            self.state.lock().is_running = false;
        }
    }

    /// The next task; `None`, and the upkeep ends, if there is none.
    pub(crate) fn next_task(&self) -> Option<Task> {
        let mut state = self.state.lock();
        if std::mem::take(&mut state.is_check_due) {
            return Some(Task::Check);
        }
        if state.is_training_due() {
            return state.samples.take().map(Task::Train);
        }
        state.is_running = false;
        None
    }

    /// The upkeep ended with a panic.
    pub(crate) fn stopped(&self) {
        self.state.lock().is_running = false;
    }

    /// A dictionary was not better than none, or than the one that writes.
    pub(crate) fn was_not_better(&self) {
        let has_writer = self.writer.read().is_some();
        let mut state = self.state.lock();
        if has_writer {
            state.gain.accept();
        } else {
            let (_, next) = state.rest;
            state.rest = (next, next.saturating_mul(2).min(REST_MAX));
        }
    }

    /// Makes a new dictionary the first one. Returns the numbers that the index has no room for.
    pub(crate) fn adopt(&self, dictionary: Dictionary) -> Vec<u64> {
        let number = self.keep(dictionary).number();
        let mut state = self.state.lock();
        state.gain = Gain::default();
        state.is_index_new = true;
        state.index.retain(|known| *known != number);
        state.index.insert(0, number);
        let index_len = state.index.len().min(INDEX_MAX);
        state.index.split_off(index_len)
    }

    /// Takes over the index of a tier, whose first dictionary is in memory.
    pub(crate) fn take_over(&self, found: Vec<u64>) {
        let mut state = self.state.lock();
        let own = std::mem::replace(&mut state.index, found);
        let missing: Vec<u64> = own.into_iter().filter(|number| !state.index.contains(number)).collect();
        state.index.extend(missing);
        state.index.truncate(INDEX_MAX);
        state.gain = Gain::default();
        state.samples = None;
    }

    /// The index, and whether it is newer than those of the tiers.
    pub(crate) fn index(&self) -> (Vec<u64>, bool) {
        let state = self.state.lock();
        (state.index.clone(), state.is_index_new)
    }

    /// The tiers were asked for dictionaries of earlier runs.
    pub(crate) fn opened(&self) {
        self.state.lock().is_opened = true;
    }

    /// Every tier has what the index lists: its first dictionary writes.
    pub(crate) fn stored(&self) {
        let first = {
            let mut state = self.state.lock();
            state.is_index_new = false;
            state.next_check = self.clock.elapsed().saturating_add(CHECK_EVERY);
            // A `clear` that came meanwhile is followed by a check of its own.
            state.index.first().copied().filter(|_| !state.is_check_due)
        };
        if let Some(writer) = first.and_then(|number| self.find(number)) {
            *self.writer.write() = Some(writer);
        }
    }

    /// A tier could not be asked, or did not take a dictionary.
    pub(crate) fn not_stored(&self) {
        self.state.lock().next_check = self.clock.elapsed().saturating_add(CHECK_AGAIN);
    }

    /// A tier was cleared: no dictionary writes until the tiers have it again.
    pub(crate) fn cleared(&self) {
        if !self.is_on() {
            return;
        }
        let mut state = self.state.lock();
        *self.writer.write() = None;
        state.is_check_due = true;
        if !std::mem::replace(&mut state.is_running, true) {
            drop(state);
            self.run();
        }
    }
}

impl State {
    /// Takes a payload as a sample, or into the gain of the dictionary that writes.
    fn sample(&mut self, plain: &[u8], stored: Option<usize>) {
        match (&mut self.samples, stored) {
            (Some(samples), _) => samples.push(plain),
            (None, Some(stored)) => {
                if self.gain.is_falling(plain.len(), stored) {
                    self.samples = Some(Samples::default());
                }
            }
            // The dictionary is being stored.
            (None, None) if !self.index.is_empty() => {}
            (None, None) if self.rest.0 > 0 => self.rest.0 -= 1,
            (None, None) if self.is_opened && !self.is_running => self.samples = Some(Samples::default()),
            (None, None) => {}
        }
    }

    fn is_training_due(&self) -> bool {
        self.is_opened && self.samples.as_ref().is_some_and(Samples::is_full)
    }

    fn is_anything_due(&self) -> bool {
        self.is_check_due || self.is_training_due()
    }
}
