//! The deadlines of a shard, in a hierarchical timer wheel.
//!
//! G. Varghese and T. Lauck, "Hashed and Hierarchical Timing Wheels", SOSP 1987. Scheduling, cancelling and
//! expiring an entry cost O(1). An entry is due at most one tick of the lowest wheel, 16 ms, after its
//! deadline.

use larder_core::clock::Time;

const WHEELS: usize = 5;
const BUCKETS: u64 = 64;
/// A tick of the lowest wheel is 2^4 ms; each wheel turns once per tick of the next.
const TICK_BITS: u32 = 4;
const BUCKET_BITS: u32 = 6;

/// No slot, or no list.
const NONE: u32 = u32::MAX;
/// The list of entries that are due.
const DUE: u32 = (WHEELS as u64 * BUCKETS) as u32;
const LISTS: usize = DUE as usize + 1;

#[derive(Clone, Copy)]
struct Link {
    prev: u32,
    next: u32,
    list: u32,
}

const UNLINKED: Link = Link { prev: NONE, next: NONE, list: NONE };

/// The scheduled deadlines of a shard. Uses no memory until the first one is scheduled.
#[derive(Default)]
pub(super) struct Timers {
    /// The first slot of each bucket and of the due list.
    heads: Vec<u32>,
    links: Vec<Link>,
    /// Milliseconds up to which the wheels have turned.
    turned: u64,
    scheduled: usize,
}

impl Timers {
    /// Whether nothing is scheduled.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.scheduled == 0
    }

    /// Schedules `slot`, replacing an earlier deadline.
    pub(super) fn schedule(&mut self, slot: u32, deadline: Time, now: Time) {
        self.cancel(slot);
        if deadline == Time::NEVER {
            return;
        }
        if self.heads.is_empty() {
            self.heads = vec![NONE; LISTS];
        }
        if self.scheduled == 0 {
            self.turned = now.as_millis();
        }
        let index = slot as usize;
        if self.links.len() <= index {
            self.links.resize(index + 1, UNLINKED);
        }
        self.link(slot, self.bucket(deadline.as_millis()));
        self.scheduled += 1;
    }

    /// Removes the deadline of `slot`, if it has one.
    #[inline]
    pub(super) fn cancel(&mut self, slot: u32) {
        if self.links.get(slot as usize).is_some_and(|link| link.list != NONE) {
            self.unlink(slot);
            self.scheduled -= 1;
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Turns the wheels to `now`. Entries whose tick has passed are due then.
    #[inline]
    pub(super) fn turn(&mut self, now: Time) {
        if self.scheduled > 0 && now.as_millis() >> TICK_BITS > self.turned >> TICK_BITS {
            self.turn_to(now.as_millis());
        }
    }

    /// Removes and returns an entry that is due.
    #[inline]
    pub(super) fn pop_due(&mut self) -> Option<u32> {
        let slot = *self.heads.get(DUE as usize)?;
        if slot == NONE {
            return None;
        }
        self.unlink(slot);
        self.scheduled -= 1;
        Some(slot)
    }

    #[cold]
    fn turn_to(&mut self, now: u64) {
        let before = std::mem::replace(&mut self.turned, now);
        for wheel in 0..WHEELS {
            let shift = shift_of(wheel);
            let (from, to) = (before >> shift, now >> shift);
            if from == to {
                break;
            }
            // The lowest wheel empties the ticks that have passed. A higher wheel also empties its present
            // tick, whose entries move to the lower wheels.
            let (first, last) = if wheel == 0 { (from, to - 1) } else { (from + 1, to) };
            let ticks = (last - first + 1).min(BUCKETS);
            for tick in last + 1 - ticks..=last {
                self.drain(list_of(wheel, tick));
            }
        }
    }

    /// Moves the entries of a bucket to the due list. The caller checks their deadlines, and schedules those
    /// of a higher wheel again, on a lower one.
    fn drain(&mut self, list: u32) {
        let mut slot = std::mem::replace(&mut self.heads[list as usize], NONE);
        while slot != NONE {
            let next = self.links[slot as usize].next;
            self.link(slot, DUE);
            slot = next;
        }
    }

    fn bucket(&self, deadline: u64) -> u32 {
        for wheel in 0..WHEELS {
            let (tick, turned) = (deadline >> shift_of(wheel), self.turned >> shift_of(wheel));
            if tick.saturating_sub(turned) < BUCKETS {
                return list_of(wheel, tick.max(turned));
            }
        }
        // Beyond the last wheel: checked again after that wheel has turned once.
        list_of(WHEELS - 1, (self.turned >> shift_of(WHEELS - 1)) + BUCKETS - 1)
    }

    fn link(&mut self, slot: u32, list: u32) {
        let next = std::mem::replace(&mut self.heads[list as usize], slot);
        self.links[slot as usize] = Link { prev: NONE, next, list };
        if next != NONE {
            self.links[next as usize].prev = slot;
        }
    }

    fn unlink(&mut self, slot: u32) {
        let Link { prev, next, list } = std::mem::replace(&mut self.links[slot as usize], UNLINKED);
        match prev {
            NONE => self.heads[list as usize] = next,
            _ => self.links[prev as usize].next = next,
        }
        if next != NONE {
            self.links[next as usize].prev = prev;
        }
    }
}

fn shift_of(wheel: usize) -> u32 {
    TICK_BITS + BUCKET_BITS * wheel as u32
}

fn list_of(wheel: usize, tick: u64) -> u32 {
    (wheel as u64 * BUCKETS + tick % BUCKETS) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_700_000_000_123;

    /// Deadlines by slot, and the timers for them as in a shard.
    struct Shard {
        timers: Timers,
        deadlines: Vec<u64>,
        now: u64,
    }

    impl Shard {
        fn new(left: &[u64]) -> Self {
            let mut shard = Self { timers: Timers::default(), deadlines: Vec::new(), now: START };
            for left in left {
                shard.deadlines.push(START + left);
                let slot = shard.deadlines.len() as u32 - 1;
                shard.timers.schedule(slot, Time::from_millis(START + left), Time::from_millis(START));
            }
            shard
        }

        /// Advances the time by `millis`; returns the slots that have expired.
        fn advance(&mut self, millis: u64) -> Vec<u32> {
            self.now += millis;
            let now = Time::from_millis(self.now);
            self.timers.turn(now);
            let mut expired = Vec::new();
            while let Some(slot) = self.timers.pop_due() {
                match self.deadlines[slot as usize] {
                    deadline if deadline > self.now => {
                        self.timers.schedule(slot, Time::from_millis(deadline), now);
                    }
                    _ => expired.push(slot),
                }
            }
            expired.sort_unstable();
            expired
        }
    }

    #[test]
    fn entry_is_due_within_a_tick_after_its_deadline_on_every_wheel() {
        const DAY: u64 = 24 * 3_600_000;
        let left =
            [0, 1, 255, 256, 16_000, 16_383, 16_384, 1_000_000, 1_048_576, 70_000_000, 50 * DAY, 200 * DAY];
        for (slot, left) in left.into_iter().enumerate() {
            for step in [100, 1_000, 77_777, 10_000_000].into_iter().filter(|step| left / step < 5_000) {
                let mut shard = Shard::new(&[left]);
                let mut waited = 0;
                while shard.advance(step).is_empty() {
                    waited += step;
                    assert!(waited < left + 16 + step, "entry {slot} of {left} ms, steps of {step} ms");
                }
                assert!(waited + step >= left, "entry {slot} of {left} ms is due after {waited}");
                assert!(shard.timers.is_empty());
            }
        }
    }

    /// A random number of milliseconds of any magnitude below `2^bits`.
    fn spread(rng: &mut fastrand::Rng, bits: u32) -> u64 {
        let bits = rng.u32(1..bits);
        rng.u64(0..1 << bits)
    }

    #[test]
    fn random_schedules_expire_like_a_sorted_list() {
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let left: Vec<u64> = (0..50).map(|_| spread(&mut rng, 36)).collect();
            let mut shard = Shard::new(&left);
            let cancelled = rng.u32(0..50);
            shard.timers.cancel(cancelled);
            let mut gone = [false; 50];
            gone[cancelled as usize] = true;
            for _ in 0..60 {
                for slot in shard.advance(spread(&mut rng, 32)) {
                    assert!(!std::mem::replace(&mut gone[slot as usize], true), "twice, or cancelled");
                }
                for (slot, left) in left.iter().enumerate() {
                    let late = shard.now >= START + left + 16;
                    assert!(gone[slot] || !late, "slot {slot} is late");
                }
            }
        }
    }

    #[test]
    fn infinite_deadline_takes_no_memory() {
        let mut timers = Timers::default();
        timers.schedule(3, Time::NEVER, Time::from_millis(START));
        assert!(timers.is_empty() && timers.heads.capacity() == 0 && timers.links.capacity() == 0);
    }
}
