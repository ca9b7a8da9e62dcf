//! What was invalidated: by tag, as a whole, and by `clear`.
//!
//! Invalidations are counted. An entry is stamped with the count when its load
//! or its write begins; a invalidation notes the count that it made. So an entry is
//! meant by a invalidation exactly when its stamp is lower, wherever it lies and
//! however long it took to get there. Invalidations only ever rise.
//!
//! A invalidation is in the log before it counts. Where that fails, or a log was
//! damaged, the invalidations of before are not known any more, and everything is
//! taken as removed: a lost invalidation invalidates.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use larder_core::Result;
use larder_core::clock::Time;
use larder_core::entry_meta::{EntryMeta, Freshness, Tag};
use larder_core::invalidation::{Invalidation, InvalidationLog, InvalidationRecord};
use parking_lot::{Mutex, RwLock};

/// More invalidations of tags than this are folded into one for everything.
const TAGS_MAX: usize = 100_000;
/// A log is written anew when it has grown by this many invalidations.
const REWRITE_EVERY: usize = 200_000;

/// The invalidations of one cache.
pub(crate) struct Invalidations {
    /// Invalidations so far: the stamp of what begins now.
    count: AtomicU64,
    /// Stamps below this were removed.
    cleared: AtomicU64,
    /// Stamps below this expired, or were removed.
    floor: AtomicU64,
    /// When everything expired last.
    expired_at: AtomicU64,
    tags: RwLock<HashMap<Box<str>, (u64, Time)>>,
    log: Option<Box<dyn InvalidationLog>>,
    /// The latest time of this node that was noted.
    noted_at: AtomicU64,
    /// Invalidations appended since the log was written anew; held while a invalidation is made.
    appended: Mutex<usize>,
}

/// What of an entry a invalidation depends on.
#[derive(Clone, Copy)]
pub(crate) struct EntryAge<'a> {
    pub(crate) stamp: u64,
    pub(crate) tags: &'a [Tag],
    pub(crate) stale: std::time::Duration,
}

impl<'a> EntryAge<'a> {
    pub(crate) fn new(stamp: u64, terms: &'a EntryMeta) -> Self {
        Self { stamp, tags: &terms.tags, stale: terms.stale }
    }
}

impl Invalidations {
    /// The invalidations that a log holds.
    pub(crate) fn new(log: Option<Box<dyn InvalidationLog>>, kept: Vec<InvalidationRecord>) -> Self {
        let invalidations = Self {
            count: AtomicU64::new(0),
            cleared: AtomicU64::new(0),
            floor: AtomicU64::new(0),
            expired_at: AtomicU64::new(0),
            tags: RwLock::default(),
            log,
            noted_at: AtomicU64::new(0),
            appended: Mutex::new(kept.len()),
        };
        kept.into_iter().for_each(|marked| invalidations.apply(marked));
        invalidations
    }

    /// The stamp of a load or a write that begins now. No invalidation means an entry
    /// that has it.
    #[inline]
    pub(crate) fn stamp(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Whether no invalidation can mean an entry without tags.
    #[inline]
    pub(crate) fn spares(&self, stamp: u64) -> bool {
        stamp >= self.floor.load(Ordering::Acquire)
    }

    /// What the invalidations leave of an entry.
    #[cold]
    pub(crate) fn freshness(&self, entry: EntryAge<'_>, now: Time) -> Freshness {
        if entry.stamp >= self.stamp() {
            return Freshness::Fresh;
        }
        if entry.stamp < self.cleared.load(Ordering::Acquire) {
            return Freshness::Gone;
        }
        let by_all = (entry.stamp < self.floor.load(Ordering::Acquire))
            .then(|| Time::from_millis(self.expired_at.load(Ordering::Acquire)));
        match by_all.into_iter().chain(self.expired_by_tag(entry)).min() {
            None => Freshness::Fresh,
            Some(at) if now < at.after(entry.stale) => Freshness::Stale,
            Some(_) => Freshness::Gone,
        }
    }

    /// When a tag of the entry was invalidated first since it was stamped.
    fn expired_by_tag(&self, entry: EntryAge<'_>) -> Option<Time> {
        if entry.tags.is_empty() {
            return None;
        }
        let tags = self.tags.read();
        let hits = entry.tags.iter().filter_map(|tag| tags.get(tag.as_str()));
        hits.filter(|(stamp, _)| entry.stamp < *stamp).map(|(_, at)| *at).min()
    }

    /// Makes invalidations, all with one stamp. They count when this returns.
    ///
    /// # Errors
    /// When they could not be written down. They count all the same in this
    /// process; the next one finds everything removed.
    pub(crate) fn make(&self, invalidations: Vec<Invalidation>, at: Time) -> Result<()> {
        let mut appended = self.appended.lock();
        let stamp = self.count.load(Ordering::Acquire) + 1;
        let marked: Vec<InvalidationRecord> = invalidations
            .into_iter()
            .map(|invalidation| InvalidationRecord { invalidation, stamp, at })
            .collect();
        self.noted_at.fetch_max(at.as_millis(), Ordering::AcqRel);
        self.count_in(marked, &mut appended)
    }

    /// Takes over invalidations that were made elsewhere. They count when this returns.
    ///
    /// # Errors
    /// When they could not be written down. They count all the same in this
    /// process.
    pub(crate) fn adopt(&self, marked: Vec<InvalidationRecord>) -> Result<()> {
        self.count_in(marked, &mut self.appended.lock())
    }

    fn count_in(&self, marked: Vec<InvalidationRecord>, appended: &mut usize) -> Result<()> {
        let written = self.append(&marked);
        *appended += marked.len();
        marked.into_iter().for_each(|marked| self.apply(marked));
        if self.fold() || *appended > REWRITE_EVERY || written.is_err() {
            *appended = self.rewrite()?;
        }
        Ok(())
    }

    /// Writes down what time it is, for a clock that may be set back.
    pub(crate) fn note_time(&self, at: Time) -> Result<()> {
        let mut appended = self.appended.lock();
        self.noted_at.fetch_max(at.as_millis(), Ordering::AcqRel);
        *appended += 1;
        let written =
            self.append(&[InvalidationRecord { invalidation: Invalidation::Time, stamp: self.stamp(), at }]);
        if *appended > REWRITE_EVERY || written.is_err() {
            *appended = self.rewrite()?;
        }
        Ok(())
    }

    /// Begins the time anew at `now`, which may be earlier than what was noted: what
    /// was invalidated counts as invalidated by then at the latest.
    ///
    /// # Errors
    /// When it could not be written down.
    pub(crate) fn restart_time(&self, now: Time) -> Result<()> {
        let mut appended = self.appended.lock();
        self.noted_at.store(now.as_millis(), Ordering::Release);
        self.expired_at.fetch_min(now.as_millis(), Ordering::AcqRel);
        self.tags.write().values_mut().for_each(|(_, at)| *at = (*at).min(now));
        *appended = self.rewrite()?;
        Ok(())
    }

    fn append(&self, marked: &[InvalidationRecord]) -> Result<()> {
        let Some(log) = &self.log else { return Ok(()) };
        let bytes: Vec<u8> = marked.iter().flat_map(InvalidationRecord::encode).collect();
        log.append(&bytes)
    }

    fn apply(&self, marked: InvalidationRecord) {
        match marked.invalidation {
            Invalidation::Cleared => {
                self.cleared.fetch_max(marked.stamp, Ordering::AcqRel);
                self.floor.fetch_max(marked.stamp, Ordering::AcqRel);
            }
            Invalidation::All => {
                if self.floor.fetch_max(marked.stamp, Ordering::AcqRel) < marked.stamp {
                    self.expired_at.store(marked.at.as_millis(), Ordering::Release);
                }
            }
            Invalidation::Tag(tag) => {
                let mut tags = self.tags.write();
                let known = tags.entry(tag).or_insert((0, marked.at));
                if known.0 < marked.stamp {
                    *known = (marked.stamp, marked.at);
                }
            }
            Invalidation::Time => {
                self.noted_at.fetch_max(marked.at.as_millis(), Ordering::AcqRel);
            }
        }
        // Last: who reads the new count must find the invalidation.
        self.count.fetch_max(marked.stamp, Ordering::AcqRel);
    }

    /// Keeps the number of invalidations finite: too many tags become everything.
    fn fold(&self) -> bool {
        let mut tags = self.tags.write();
        if tags.len() <= TAGS_MAX {
            return false;
        }
        let cleared = self.cleared.load(Ordering::Acquire);
        tags.retain(|_, (stamp, _)| *stamp > cleared);
        if tags.len() <= TAGS_MAX {
            return false;
        }
        tags.clear();
        drop(tags);
        let stamp = self.count.load(Ordering::Acquire);
        self.cleared.fetch_max(stamp, Ordering::AcqRel);
        self.floor.fetch_max(stamp, Ordering::AcqRel);
        tracing::info!(target: "larder", "more than {TAGS_MAX} tags were invalidated: everything is, now");
        true
    }

    /// Lets go of the log.
    pub(crate) fn close(&self) {
        self.log.iter().for_each(|log| log.close());
    }

    /// Writes the log anew with the invalidations that count; how many they are.
    fn rewrite(&self) -> Result<usize> {
        let Some(log) = &self.log else { return Ok(0) };
        let now = Time::from_millis(self.noted_at.load(Ordering::Acquire));
        let at = Time::from_millis(self.expired_at.load(Ordering::Acquire));
        let mut invalidations = vec![
            InvalidationRecord {
                invalidation: Invalidation::Cleared,
                stamp: self.cleared.load(Ordering::Acquire),
                at,
            },
            InvalidationRecord {
                invalidation: Invalidation::All,
                stamp: self.floor.load(Ordering::Acquire),
                at,
            },
            InvalidationRecord { invalidation: Invalidation::Time, stamp: self.stamp(), at: now },
        ];
        let tags = self.tags.read();
        invalidations.extend(tags.iter().map(|(tag, (stamp, at))| InvalidationRecord {
            invalidation: Invalidation::Tag(tag.clone()),
            stamp: *stamp,
            at: *at,
        }));
        let bytes: Vec<u8> = invalidations.iter().flat_map(InvalidationRecord::encode).collect();
        log.rewrite(&bytes)?;
        Ok(invalidations.len())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use larder_core::{Error, ErrorKind};

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl InvalidationLog for Log {
        fn append(&self, bytes: &[u8]) -> Result<()> {
            self.0.lock().extend_from_slice(bytes);
            Ok(())
        }

        fn rewrite(&self, bytes: &[u8]) -> Result<()> {
            *self.0.lock() = bytes.to_vec();
            Ok(())
        }
    }

    struct Full;

    impl InvalidationLog for Full {
        fn append(&self, _: &[u8]) -> Result<()> {
            Err(Error::new(ErrorKind::Full, "no room"))
        }

        fn rewrite(&self, _: &[u8]) -> Result<()> {
            Err(Error::new(ErrorKind::Full, "no room"))
        }
    }

    fn fresh(invalidations: &Invalidations, stamp: u64, tags: &[&str]) -> Freshness {
        let tags: Vec<Tag> = tags.iter().map(|tag| (*tag).into()).collect();
        let entry = EntryAge { stamp, tags: &tags, stale: Duration::from_millis(10) };
        invalidations.freshness(entry, Time::from_millis(105))
    }

    const AT: Time = Time::from_millis(100);

    #[test]
    fn what_began_before_a_mark_is_meant_by_it() {
        let invalidations = Invalidations::new(None, Vec::new());
        let before = invalidations.stamp();
        invalidations.make(vec![Invalidation::Tag("a".into()), Invalidation::Tag("b".into())], AT).unwrap();
        let after = invalidations.stamp();
        assert_eq!(fresh(&invalidations, before, &["a"]), Freshness::Stale);
        assert_eq!(fresh(&invalidations, before, &["c", "b"]), Freshness::Stale);
        assert_eq!(fresh(&invalidations, before, &["c"]), Freshness::Fresh);
        assert_eq!(fresh(&invalidations, after, &["a"]), Freshness::Fresh);
        invalidations.make(vec![Invalidation::All], Time::from_millis(90)).unwrap();
        assert_eq!(fresh(&invalidations, after, &[]), Freshness::Gone, "its stale window is over");
        invalidations.make(vec![Invalidation::Cleared], AT).unwrap();
        assert_eq!(fresh(&invalidations, after, &[]), Freshness::Gone);
        assert_eq!(fresh(&invalidations, invalidations.stamp(), &["a", "b"]), Freshness::Fresh);
    }

    #[test]
    fn marks_outlive_the_process() {
        let log = Log::default();
        let first = Invalidations::new(Some(Box::new(log.clone())), Vec::new());
        first.make(vec![Invalidation::Tag("a".into())], AT).unwrap();
        let between = first.stamp();
        first.make(vec![Invalidation::Tag("b".into())], AT).unwrap();
        first.rewrite().unwrap();
        let mut kept = Vec::new();
        assert!(InvalidationRecord::decode_all(&log.0.lock(), |marked| kept.push(marked)));
        let second = Invalidations::new(Some(Box::new(log.clone())), kept);
        assert_eq!(second.stamp(), first.stamp());
        assert_eq!(fresh(&second, between, &["a"]), Freshness::Fresh);
        assert_eq!(fresh(&second, between, &["b"]), Freshness::Stale);
    }

    #[test]
    fn a_mark_that_cannot_be_written_counts_in_this_process() {
        let invalidations = Invalidations::new(Some(Box::new(Full)), Vec::new());
        assert!(invalidations.make(vec![Invalidation::Tag("a".into())], AT).is_err());
        assert_eq!(fresh(&invalidations, 0, &["a"]), Freshness::Stale);
    }

    #[test]
    fn marks_are_bounded() {
        let invalidations = Invalidations::new(None, Vec::new());
        let tags = (0..=TAGS_MAX).map(|number| Invalidation::Tag(number.to_string().into())).collect();
        invalidations.make(tags, AT).unwrap();
        assert!(invalidations.tags.read().is_empty());
        assert_eq!(fresh(&invalidations, 0, &["another"]), Freshness::Gone);
    }
}
