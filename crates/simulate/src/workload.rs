//! The requests that are replayed.

use hashbrown::HashMap;

/// A sequence of requests for keys.
///
/// ```
/// use larder_simulate::Workload;
///
/// let workload = Workload::new("some", "a few requests".to_owned(), [70, 7, 70]);
/// assert_eq!((workload.requests, workload.distinct), (vec![0, 1, 0], 2));
/// ```
#[derive(Debug)]
pub struct Workload {
    /// What it is called.
    pub name: String,
    /// What it is, in a few words.
    pub about: String,
    /// The keys, numbered from 0 in the order of their first request.
    pub requests: Vec<u32>,
    /// What each entry takes of the bound.
    pub weights: Weights,
    /// Distinct keys.
    pub distinct: u32,
    /// The share of the keys whose requests were recorded, above 0 to 1. A cache of all keys behaves as one that
    /// is smaller by this factor does over these requests.
    pub share: f64,
}

/// What the entry of a key takes of the bound of a cache.
#[derive(Debug)]
pub enum Weights {
    /// Each entry takes one: the bound is a number of entries.
    Entries,
    /// Bytes by the number of the key: the bound is a number of bytes.
    Bytes(Vec<u32>),
}

impl Weights {
    /// The weight of the entry of a key.
    #[inline]
    pub fn of(&self, key: u32) -> u32 {
        match self {
            Self::Entries => 1,
            Self::Bytes(bytes) => bytes[key as usize],
        }
    }
}

impl Workload {
    /// A workload whose entries all weigh the same.
    pub fn new(name: &str, about: String, keys: impl IntoIterator<Item = u64>) -> Self {
        let mut numbers: HashMap<u64, u32, foldhash::fast::FixedState> = HashMap::default();
        let mut requests = Vec::new();
        for key in keys {
            let next = numbers.len() as u32;
            requests.push(*numbers.entry(key).or_insert(next));
        }
        let distinct = numbers.len() as u32;
        Self { name: name.to_owned(), about, requests, weights: Weights::Entries, distinct, share: 1.0 }
    }

    /// The same requests, for entries whose size in bytes `weigh` says by their number.
    pub fn weighed(mut self, weigh: impl FnMut(u32) -> u32) -> Self {
        self.weights = Weights::Bytes((0..self.distinct).map(weigh).collect());
        self
    }

    /// The same requests, as those of a share of the keys.
    pub fn sampled(self, share: f64) -> Self {
        Self { share, ..self }
    }

    /// The bound of a cache that holds `percent` of the distinct keys, or of their bytes.
    pub fn room(&self, percent: f64) -> u64 {
        let all = match &self.weights {
            Weights::Entries => u64::from(self.distinct),
            Weights::Bytes(bytes) => bytes.iter().map(|bytes| u64::from(*bytes)).sum(),
        };
        ((all as f64 * percent / 100.0) as u64).max(1)
    }

    /// The number of entries that a cache with this bound holds, about.
    pub fn entries(&self, room: u64) -> u64 {
        match &self.weights {
            Weights::Entries => room,
            Weights::Bytes(_) => (room * u64::from(self.distinct) / self.room(100.0)).max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_numbered_by_their_first_request() {
        let workload = Workload::new("some", String::new(), [70, 7, 70, 700, 7]);
        assert_eq!(workload.requests, [0, 1, 0, 2, 1]);
        assert_eq!(workload.distinct, 3);
    }

    #[test]
    fn room_is_a_share_of_the_entries_or_of_their_bytes() {
        let workload = Workload::new("some", String::new(), 0..200);
        assert_eq!((workload.room(5.0), workload.room(0.001)), (10, 1));
        let workload = workload.weighed(|key| key + 1);
        assert_eq!((workload.room(100.0), workload.room(10.0)), (20_100, 2_010));
        assert_eq!(workload.entries(2_010), 20);
        assert_eq!(workload.weights.of(7), 8);
    }
}
