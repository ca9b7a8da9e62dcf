//! What a selector learns from, and the numbers by which one that learns explains itself.

use std::fmt;
use std::time::Duration;

use super::Facts;
use crate::Result;
use crate::tier::{TierKind, Usage};

/// Something that happened in a cache, for its [`Selector`](super::Selector) to learn from.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Lesson<'a> {
    /// A request went beyond memory: a tier had the entry, or it was loaded or inserted.
    Requested {
        /// The facts of the entry, with [`Facts::key`].
        facts: &'a Facts,
        /// The tier that had it; `None` for an entry that was loaded or inserted.
        found: Option<TierKind>,
    },
    /// A tier returned a frame.
    Read {
        /// The tier.
        tier: TierKind,
        /// Length of the frame.
        bytes: u64,
        /// How long the call took.
        time: Duration,
    },
    /// A tier stored a frame.
    Written {
        /// The tier.
        tier: TierKind,
        /// Length of the frame.
        bytes: u64,
        /// How long the call took.
        time: Duration,
    },
    /// How full a tier is, memory included; told after every few hundred requests.
    Filled {
        /// The tier.
        tier: TierKind,
        /// What it holds.
        usage: Usage,
        /// The bytes that it may hold, if that is known.
        capacity: Option<u64>,
    },
}

/// Where what a selector has learned is kept over restarts.
pub trait LearnedFile: Send + Sync + 'static {
    /// Replaces the snapshot.
    ///
    /// # Errors
    /// If it cannot be written.
    fn write(&self, snapshot: &[u8]) -> Result<()>;

    /// Reads the snapshot; empty if there is none.
    fn read(&self) -> Vec<u8>;
}

/// The numbers behind a placement by measured times. `Display` prints them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reckoning {
    /// What the load took; `None` if the entry was inserted.
    pub load: Option<Duration>,
    /// What a read from the home takes; zero if the home is memory.
    pub read: Duration,
    /// What a write to the home takes; zero if the home is memory.
    pub write: Duration,
    /// Further requests beyond memory that are expected for the key, in thousandths.
    pub requests_permille: u32,
    /// What those save for a KiB of the entry in a tier beyond memory; `None` if its load cost is not known.
    pub per_kib: Option<Yield>,
    /// What a hit in memory saves for a KiB of the entry, times the number of requests lately; `None` if its
    /// load cost is not known and it is at home in memory.
    pub memory_per_kib: Option<Yield>,
}

/// What hits save for a KiB of an entry, and what they must save. In nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Yield {
    /// What they save.
    pub saved: i64,
    /// What they must save: as much as the entries that fit save at least.
    pub price: i64,
}

impl fmt::Display for Yield {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |nanos: i64| Duration::from_nanos(u64::try_from(nanos).unwrap_or(0));
        write!(f, "hits save {:.1?} a KiB, price {:.1?}", time(self.saved), time(self.price))
    }
}

impl fmt::Display for Reckoning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.load {
            Some(load) => write!(f, "load {load:.1?}")?,
            None => f.write_str("not loaded")?,
        }
        if self.read > Duration::ZERO {
            write!(f, ", read {:.1?}, write {:.1?}", self.read, self.write)?;
        }
        let requests = f64::from(self.requests_permille) / 1000.0;
        write!(f, ", {requests:.1} further requests a key")?;
        self.per_kib.map_or(Ok(()), |per_kib| write!(f, ", {per_kib}"))?;
        self.memory_per_kib.map_or(Ok(()), |per_kib| write!(f, "; in memory {per_kib}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reckoning_prints_its_numbers() {
        let reckoning = Reckoning {
            load: Some(Duration::from_millis(2)),
            read: Duration::from_micros(8),
            write: Duration::from_micros(30),
            requests_permille: 4250,
            per_kib: Some(Yield { saved: 9_000, price: 20 }),
            memory_per_kib: Some(Yield { saved: 500, price: 40 }),
        };
        assert_eq!(
            reckoning.to_string(),
            "load 2.0ms, read 8.0µs, write 30.0µs, 4.2 further requests a key, hits save 9.0µs a KiB, \
             price 20.0ns; in memory hits save 500.0ns a KiB, price 40.0ns"
        );
        let inserted = Reckoning::default();
        assert_eq!(inserted.to_string(), "not loaded, 0.0 further requests a key");
    }
}
