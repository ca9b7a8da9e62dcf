//! The invalidations of a cache: by tag, of everything, and by `clear`.
//!
//! Invalidations are numbered. An entry gets the current number when its load or write
//! begins; an invalidation raises the number and records it. So an invalidation applies
//! to exactly the entries with a lower number, in any tier and however late they get
//! there. The recorded numbers only rise.
//!
//! An invalidation is written to the log before it takes effect. If that fails, or a log
//! was damaged, earlier invalidations are unknown. Then every entry counts as removed, so
//! that a lost invalidation never leaves an entry valid.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use larder_core::Result;
use larder_core::clock::Time;
use larder_core::entry_meta::{EntryMeta, Freshness, Tag};
use larder_core::invalidation::{Invalidation, InvalidationLog, InvalidationRecord};
use parking_lot::{Mutex, RwLock};

/// Limit on invalidated tags; more of them become one invalidation of everything.
const TAGS_MAX: usize = 100_000;
/// The log is rewritten after this many appended invalidations.
const REWRITE_EVERY: usize = 200_000;

/// The invalidations of one cache.
pub(crate) struct Invalidations {
    /// The number of the latest invalidation, and of an entry whose load or write begins
    /// now.
    count: AtomicU64,
    /// Entries with a lower number were removed.
    cleared: AtomicU64,
    /// Entries with a lower number expired or were removed.
    floor: AtomicU64,
    /// When everything expired last, in milliseconds.
    expired_at: AtomicU64,
    tags: RwLock<HashMap<Box<str>, (u64, Time)>>,
    log: Option<Box<dyn InvalidationLog>>,
    /// The latest time of this node that was recorded, in milliseconds.
    noted_at: AtomicU64,
    /// Invalidations appended since the log was rewritten. The lock is held while an
    /// invalidation is recorded.
    appended: Mutex<usize>,
}

/// The properties of an entry that decide whether an invalidation applies to it.
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
    /// Restores the invalidations that a log holds.
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

    /// Returns the number for an entry whose load or write begins now. No existing
    /// invalidation applies to it.
    #[inline]
    pub(crate) fn stamp(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Whether no invalidation applies to an entry with this number and without tags.
    #[inline]
    pub(crate) fn spares(&self, stamp: u64) -> bool {
        stamp >= self.floor.load(Ordering::Acquire)
    }

    /// Returns the freshness of an entry by the invalidations that apply to it.
    #[cold]
    pub(crate) fn freshness(&self, entry: EntryAge<'_>, now: Time) -> Freshness {
        if entry.stamp >= self.stamp() {
            return Freshness::Fresh;
        }
        if entry.stamp < self.cleared.load(Ordering::Acquire) {
            return Freshness::Gone;
        }
        match self.expired_at(entry) {
            None => Freshness::Fresh,
            Some(at) if now < at.after(entry.stale) => Freshness::Stale,
            Some(_) => Freshness::Gone,
        }
    }

    /// Returns when an invalidation first expired the entry.
    pub(crate) fn expired_at(&self, entry: EntryAge<'_>) -> Option<Time> {
        let by_all = (entry.stamp < self.floor.load(Ordering::Acquire))
            .then(|| Time::from_millis(self.expired_at.load(Ordering::Acquire)));
        by_all.into_iter().chain(self.expired_by_tag(entry)).min()
    }

    /// Returns when a tag of the entry was first invalidated since the entry got its
    /// number.
    fn expired_by_tag(&self, entry: EntryAge<'_>) -> Option<Time> {
        if entry.tags.is_empty() {
            return None;
        }
        let tags = self.tags.read();
        let hits = entry.tags.iter().filter_map(|tag| tags.get(tag.as_str()));
        hits.filter(|(stamp, _)| entry.stamp < *stamp).map(|(_, at)| *at).min()
    }

    /// Records invalidations with one number. They are in effect when this returns.
    ///
    /// # Errors
    /// If they cannot be written to the log. They are still in effect in this process
    /// then; the next process takes every entry as removed.
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

    /// Adopts invalidations of other nodes. They are in effect when this returns.
    ///
    /// # Errors
    /// If they cannot be written to the log. They are still in effect in this process
    /// then.
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

    /// Records the current time, because the clock may be set back later.
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

    /// Restarts the time at `now`, which may be earlier than the recorded time.
    /// Invalidations with a later time then count as made at `now`.
    ///
    /// # Errors
    /// If it cannot be written to the log.
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
        // Last: a thread that reads the new number must find the invalidation.
        self.count.fetch_max(marked.stamp, Ordering::AcqRel);
    }

    /// Bounds the number of invalidated tags: too many become an invalidation of
    /// everything.
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
        tracing::info!(target: "larder", "more than {TAGS_MAX} tags were invalidated; all entries are invalidated instead");
        true
    }

    /// Closes the log.
    pub(crate) fn close(&self) {
        self.log.iter().for_each(|log| log.close());
    }

    /// Rewrites the log with the invalidations in effect. Returns how many they are.
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
    fn invalidation_applies_to_entries_that_began_before_it() {
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
    fn invalidations_survive_a_restart() {
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
    fn invalidation_that_cannot_be_written_applies_in_this_process() {
        let invalidations = Invalidations::new(Some(Box::new(Full)), Vec::new());
        assert!(invalidations.make(vec![Invalidation::Tag("a".into())], AT).is_err());
        assert_eq!(fresh(&invalidations, 0, &["a"]), Freshness::Stale);
    }

    #[test]
    fn invalidated_tags_are_bounded() {
        let invalidations = Invalidations::new(None, Vec::new());
        let tags = (0..=TAGS_MAX).map(|number| Invalidation::Tag(number.to_string().into())).collect();
        invalidations.make(tags, AT).unwrap();
        assert!(invalidations.tags.read().is_empty());
        assert_eq!(fresh(&invalidations, 0, &["another"]), Freshness::Gone);
    }
}
