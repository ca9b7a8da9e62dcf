//! The last events of a cache, kept for clients that ask for them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use larder_core::clock::Time;
use larder_core::events::Event;
use parking_lot::Mutex;

use super::{KeyName, wall_time};

/// The most events that are kept.
const EVENTS_MAX: usize = 512;
/// After this time without a request, events that name a key are not kept any more.
const WATCH: Duration = Duration::from_secs(10);
/// The number of events between two looks at the clock.
const LOOKS: u64 = 64;

/// An event of an observed cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentEvent {
    /// Its number, from 1. Numbers that are missing belong to events that were dropped for want of room.
    pub number: u64,
    /// When it happened, by the wall clock.
    pub at: Time,
    /// The event.
    pub event: Event<KeyName>,
}

/// The last events: at most 512.
#[derive(Debug)]
pub struct RecentEvents {
    is_watched: AtomicBool,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    events: VecDeque<RecentEvent>,
    last: u64,
    watched_until: Instant,
}

impl Default for RecentEvents {
    fn default() -> Self {
        let kept = Kept { events: VecDeque::new(), last: 0, watched_until: Instant::now() };
        Self { is_watched: AtomicBool::new(false), kept: Mutex::new(kept) }
    }
}

impl RecentEvents {
    /// Whether a client asked for events lately.
    #[inline]
    pub(crate) fn is_watched(&self) -> bool {
        self.is_watched.load(Ordering::Relaxed)
    }

    pub(crate) fn push(&self, event: Event<KeyName>) {
        let at = wall_time();
        let mut kept = self.kept.lock();
        kept.last += 1;
        let number = kept.last;
        let former = (kept.events.len() >= EVENTS_MAX).then(|| kept.events.pop_front());
        kept.events.push_back(RecentEvent { number, at, event });
        if number.is_multiple_of(LOOKS) && kept.watched_until <= Instant::now() {
            self.is_watched.store(false, Ordering::Relaxed);
        }
        drop(kept);
        drop(former);
    }

    /// The events after the one with this number, the oldest first, at most `n` of the newest; and the number of
    /// the last event. From the first call on, and for ten seconds after each, events that name a key are kept.
    pub fn since(&self, number: u64, n: usize) -> (Vec<RecentEvent>, u64) {
        let mut kept = self.kept.lock();
        kept.watched_until = Instant::now() + WATCH;
        self.is_watched.store(true, Ordering::Relaxed);
        let newer: Vec<_> =
            kept.events.iter().rev().take_while(|event| event.number > number).take(n).collect();
        (newer.into_iter().rev().cloned().collect(), kept.last)
    }
}
