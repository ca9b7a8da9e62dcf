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
    /// A request looked a key up in memory, with or without success. Told only for keys in the sample of the
    /// memory store, see [`MemoryStore::watch`](crate::memory::MemoryStore::watch).
    LookedUp {
        /// The hash of the key.
        key: u64,
        /// One key in this many is in the sample.
        one_in: u32,
    },
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
    /// How full a tier is; told after every few hundred requests.
    Filled {
        /// The tier; memory too.
        tier: TierKind,
        /// What it holds.
        usage: Usage,
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
    /// Of a thousand requests beyond memory for entries of this class, those that come while a tier that
    /// admits the class still has the entry.
    pub reuse_permille: u16,
    /// What a tier beyond memory saves by entries of this class.
    pub stored: Yield,
    /// What memory saves by entries of this class.
    pub in_memory: Yield,
}

/// The time that entries of a class save for the room that they take, and the least for which an entry is
/// admitted. Both in nanoseconds for a MiB that is held during a thousand requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Yield {
    /// What the class saves; `None` if it was not seen often enough.
    pub saved: Option<i64>,
    /// What an entry must save. Zero as long as there is room for everything that saves time.
    pub price: i64,
}

impl Yield {
    /// Whether entries of the class are admitted; `None` if that is not known.
    pub fn pays(self) -> Option<bool> {
        self.saved.map(|saved| saved > 0 && saved >= self.price)
    }
}

impl fmt::Display for Yield {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |nanos: i64| Duration::from_nanos(u64::try_from(nanos).unwrap_or(0));
        match self.saved {
            Some(saved) if saved > 0 => {
                write!(f, "a MiB saves {:.1?} in 1000 requests, price {:.1?}", time(saved), time(self.price))
            }
            Some(_) => f.write_str("saves nothing"),
            None => f.write_str("too few requests known"),
        }
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
        let per_cent = f32::from(self.reuse_permille) / 10.0;
        write!(
            f,
            ", reused {per_cent:.1} %; beyond memory: {}; in memory: {}",
            self.stored, self.in_memory
        )
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
            reuse_permille: 425,
            stored: Yield { saved: Some(9_000), price: 20 },
            in_memory: Yield { saved: None, price: 0 },
        };
        assert_eq!(
            reckoning.to_string(),
            "load 2.0ms, read 8.0µs, write 30.0µs, reused 42.5 %; beyond memory: a MiB saves 9.0µs in 1000 \
             requests, price 20.0ns; in memory: too few requests known"
        );
    }

    #[test]
    fn class_pays_if_it_saves_at_least_the_price() {
        let pays = |saved, price| Yield { saved, price }.pays();
        assert_eq!(pays(None, 0), None);
        assert_eq!(pays(Some(5), 5), Some(true));
        assert_eq!(pays(Some(4), 5), Some(false));
        assert_eq!(pays(Some(0), 0), Some(false));
    }
}
