//! Conditional changes of this node whose notices may still come: the bus reports those as well.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use larder_core::key::EncodedKey;
use parking_lot::Mutex;

/// How long a notice of a write is expected. A later one counts as another node's, which costs at most
/// one load that is not stored.
const LIFE: Duration = Duration::from_secs(2);
/// Older writes are dropped when there are this many, and whenever their number has doubled since.
const DROP_AT_MIN: usize = 4096;

/// The identities of the last conditional writes, by key digest.
///
/// A write is not forgotten with its first notice: a key that was written twice has two notices, of which
/// the server may leave one out.
pub(super) struct ExpectedNotices(Mutex<Writes>);

struct Writes {
    by_key: HashMap<u128, (u64, Instant)>,
    drop_at: usize,
}

impl Default for ExpectedNotices {
    fn default() -> Self {
        Self(Mutex::new(Writes { by_key: HashMap::new(), drop_at: DROP_AT_MIN }))
    }
}

impl ExpectedNotices {
    /// Notes that the entry with this identity is about to be written, or removed if it is `REMOVAL`.
    pub(super) fn expect(&self, key: &EncodedKey, identity: u64) {
        let mut writes = self.0.lock();
        if writes.by_key.len() >= writes.drop_at {
            writes.by_key.retain(|_, (_, written)| written.elapsed() < LIFE);
            writes.drop_at = (writes.by_key.len() * 2).max(DROP_AT_MIN);
        }
        writes.by_key.insert(key.digest(), (identity, Instant::now()));
    }

    /// Returns the identity of the last conditional write of the key, if a notice of it may come.
    pub(super) fn of(&self, key: &EncodedKey) -> Option<u64> {
        let writes = self.0.lock();
        let (identity, written) = writes.by_key.get(&key.digest())?;
        (written.elapsed() < LIFE).then_some(*identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_write_of_a_key_is_expected_and_their_number_is_bounded() {
        let (expected, key) = (ExpectedNotices::default(), EncodedKey::new([1]));
        assert_eq!(expected.of(&key), None);
        expected.expect(&key, 1);
        expected.expect(&key, 2);
        assert_eq!((expected.of(&key), expected.of(&key)), (Some(2), Some(2)));
        let long_ago = Instant::now().checked_sub(LIFE);
        let Some(long_ago) = long_ago else { return };
        for number in 0..DROP_AT_MIN as u128 {
            expected.0.lock().by_key.insert(number, (0, long_ago));
        }
        expected.expect(&key, 3);
        assert_eq!(expected.of(&key), Some(3));
        assert_eq!(expected.0.lock().by_key.len(), 1);
    }
}
