//! Expiry: deadlines of entries, from the options of the cache and of the entry.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use larder_core::clock::Time;
use larder_core::entry_meta::{EntryMeta, EntryOptions, LiveEntryMeta};
use larder_core::erased::{Key, Value};

/// Computes a time to live from key and value; `None` uses that of the cache.
pub type TtlBy = Arc<dyn Fn(&dyn Any, &dyn Any) -> Option<Duration> + Send + Sync>;

/// The expiry options of a cache.
pub struct Expiry {
    /// The time to live; `None` for no expiry.
    pub ttl: Option<Duration>,
    /// The time to live by key and value; takes precedence over `ttl`.
    pub ttl_by: Option<TtlBy>,
    /// How long an entry lives without being read.
    pub idle: Option<Duration>,
    /// The largest share of a time to live, from 0 to 1, that is randomly subtracted.
    pub jitter: f64,
    /// How long after its deadline an entry may be served as stale.
    pub stale: Duration,
    /// The share of a time to live, from 0 to 1, after which a load refreshes the entry
    /// ahead.
    pub refresh_ahead: Option<f64>,
    /// How long callers of a load wait if there is a stale value.
    pub soft_timeout: Option<Duration>,
    /// How long callers of a load wait at most.
    pub hard_timeout: Option<Duration>,
}

impl Expiry {
    /// Whether entries expire by default.
    pub(crate) fn is_set(&self) -> bool {
        self.ttl.is_some() || self.ttl_by.is_some() || self.idle.is_some()
    }
}

impl Default for Expiry {
    /// Entries live until they are replaced, removed or evicted.
    fn default() -> Self {
        Self {
            ttl: None,
            ttl_by: None,
            idle: None,
            jitter: 0.0,
            stale: Duration::ZERO,
            refresh_ahead: None,
            soft_timeout: None,
            hard_timeout: None,
        }
    }
}

impl Clone for Expiry {
    fn clone(&self) -> Self {
        Self { ttl_by: self.ttl_by.clone(), ..*self }
    }
}

impl fmt::Debug for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expiry")
            .field("ttl", &self.ttl)
            .field("idle", &self.idle)
            .field("jitter", &self.jitter)
            .field("stale", &self.stale)
            .field("refresh_ahead", &self.refresh_ahead)
            .field("soft_timeout", &self.soft_timeout)
            .field("hard_timeout", &self.hard_timeout)
            .finish_non_exhaustive()
    }
}

/// The expiry of a cache in use; its time to live can be changed.
pub(crate) struct LiveExpiry {
    said: Expiry,
    /// In milliseconds; `u64::MAX` for no expiry.
    ttl: AtomicU64,
}

/// When an entry is written.
#[derive(Clone, Copy)]
pub(crate) struct WriteTime {
    pub(crate) now: Time,
    /// A random number, for the jitter.
    pub(crate) chance: u64,
}

impl LiveExpiry {
    pub(crate) fn new(said: Expiry) -> Self {
        let ttl = AtomicU64::new(millis(said.ttl));
        Self { said, ttl }
    }

    pub(crate) fn said(&self) -> &Expiry {
        &self.said
    }

    /// Whether entries have no expiry metadata by default.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        let Expiry { ttl_by, idle, stale, .. } = &self.said;
        ttl_by.is_none() && idle.is_none() && stale.is_zero() && self.ttl().is_none()
    }

    /// Sets the time to live of later writes.
    pub(crate) fn set_ttl(&self, ttl: Option<Duration>) {
        self.ttl.store(millis(ttl), Ordering::Relaxed);
    }

    #[inline]
    fn ttl(&self) -> Option<Duration> {
        let millis = self.ttl.load(Ordering::Relaxed);
        (millis != u64::MAX).then(|| Duration::from_millis(millis))
    }

    /// Returns whether times to live are shortened at random.
    pub(crate) fn is_jittered(&self) -> bool {
        self.said.jitter != 0.0
    }

    /// Returns the metadata of an entry.
    pub(crate) fn terms(
        &self,
        key: &Key,
        value: Option<&Value>,
        options: EntryOptions,
        WriteTime { now, chance }: WriteTime,
    ) -> EntryMeta {
        let by_value = || Some((self.said.ttl_by.as_ref()?)(key.as_any(), value?.as_any())).flatten();
        let of_cache = || by_value().or_else(|| self.ttl()).map(|ttl| self.jittered(ttl, || chance));
        self.meta(options.ttl.or_else(of_cache), options, now)
    }

    /// As [`terms`](Self::terms), for an entry without options of its own in a cache without
    /// [`TtlBy`].
    pub(crate) fn terms_of_cache(&self, now: Time, chance: impl FnOnce() -> u64) -> EntryMeta {
        self.meta(self.ttl().map(|ttl| self.jittered(ttl, chance)), EntryOptions::new(), now)
    }

    fn meta(&self, ttl: Option<Duration>, options: EntryOptions, now: Time) -> EntryMeta {
        let ttl = ttl.filter(|ttl| *ttl != Duration::MAX);
        EntryMeta {
            ttl,
            idle: self.said.idle,
            deadline: ttl.map_or(Time::NEVER, |ttl| now.after(ttl)),
            idle_deadline: self.said.idle.map_or(Time::NEVER, |idle| now.after(idle)),
            stale: options.stale.unwrap_or(self.said.stale),
            tags: options.tags,
            validator: options.validator,
            hints: options.hints,
        }
    }

    /// Shortens a time to live by a random part of the jitter.
    fn jittered(&self, ttl: Duration, chance: impl FnOnce() -> u64) -> Duration {
        if !self.is_jittered() {
            return ttl;
        }
        let part = (chance() >> 11) as f64 / (1_u64 << 53) as f64;
        scaled(ttl, 1.0 - self.said.jitter * part)
    }

    /// Returns shared metadata for a record in memory; `None` for an entry without any.
    pub(crate) fn live(&self, terms: &EntryMeta) -> Option<Arc<LiveEntryMeta>> {
        if terms.is_plain() {
            return None;
        }
        Some(Arc::new(LiveEntryMeta::new(terms.clone(), self.refresh_at(terms))))
    }

    /// Returns whether a load begins to refresh the entry now.
    pub(crate) fn is_refresh_due(&self, terms: &EntryMeta, now: Time) -> bool {
        self.refresh_at(terms) <= now
    }

    /// Returns when a load begins to refresh the entry ahead of its deadline; never
    /// without a deadline.
    fn refresh_at(&self, terms: &EntryMeta) -> Time {
        match (self.said.refresh_ahead, terms.ttl) {
            (Some(share), Some(ttl)) if terms.deadline != Time::NEVER => {
                // Counted back from the deadline, which may have changed since the write.
                let ahead = scaled(ttl, 1.0 - share);
                Time::from_millis(terms.deadline.as_millis().saturating_sub(millis(Some(ahead))))
            }
            _ => Time::NEVER,
        }
    }
}

/// Returns a share of a span; the whole span if the result is out of range.
fn scaled(span: Duration, share: f64) -> Duration {
    Duration::try_from_secs_f64(span.as_secs_f64() * share).unwrap_or(span)
}

fn millis(span: Option<Duration>) -> u64 {
    span.map_or(u64::MAX, |span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ttl_of(expiry: Expiry, options: EntryOptions, chance: u64) -> Option<Duration> {
        LiveExpiry::new(expiry)
            .terms(
                &Key::new(1_u8),
                Some(&Value::new(2_u8)),
                options,
                WriteTime { now: Time::from_millis(0), chance },
            )
            .ttl
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn most_specific_ttl_wins() {
        let plain = Expiry { ttl: Some(HOUR), ..Expiry::default() };
        let by = Expiry {
            ttl_by: Some(Arc::new(|_, value| (value.downcast_ref() == Some(&2_u8)).then_some(HOUR * 2))),
            ..plain.clone()
        };
        assert_eq!(ttl_of(Expiry::default(), EntryOptions::new(), 0), None);
        assert_eq!(ttl_of(plain.clone(), EntryOptions::new(), 0), Some(HOUR));
        assert_eq!(ttl_of(by.clone(), EntryOptions::new(), 0), Some(HOUR * 2));
        assert_eq!(ttl_of(by, EntryOptions::new().ttl(HOUR * 3), 0), Some(HOUR * 3));
        assert_eq!(ttl_of(plain, EntryOptions::new().ttl(Duration::MAX), 0), None);
    }

    /// The fault: the time of the refresh was computed from a deadline that stands for
    /// never. Both numbers were the largest one, so the result was the beginning of time.
    #[test]
    fn entry_that_never_expires_is_never_refreshed() {
        let expiry = || Expiry { refresh_ahead: Some(0.1), ..Expiry::default() };
        let now = Time::from_millis(1_700_000_000_000);
        for ttl in [Duration::MAX, Duration::MAX - HOUR, Duration::from_millis(u64::MAX)] {
            for expiry in
                [expiry(), Expiry { jitter: 0.5, ..expiry() }, Expiry { idle: Some(ttl), ..expiry() }]
            {
                let live = LiveExpiry::new(expiry);
                let written = live.terms(
                    &Key::new(1_u8),
                    None,
                    EntryOptions::new().ttl(ttl),
                    WriteTime { now, chance: 0 },
                );
                let retimed = EntryMeta { ttl: Some(ttl), deadline: now.after(ttl), ..written.clone() };
                for terms in [written, retimed] {
                    assert_eq!((terms.until(), terms.stale_until()), (Time::NEVER, Time::NEVER), "{ttl:?}");
                    let late = Time::from_millis(u64::MAX - 1);
                    let is_due = live.live(&terms).is_some_and(|terms| terms.is_refresh_due(late));
                    assert!(!is_due, "{ttl:?}");
                }
            }
        }
    }

    #[test]
    fn jitter_shortens_ttl_by_its_share_at_most() {
        let expiry = Expiry { ttl: Some(HOUR), jitter: 0.25, ..Expiry::default() };
        assert_eq!(ttl_of(expiry.clone(), EntryOptions::new(), 0), Some(HOUR));
        let shortest = ttl_of(expiry, EntryOptions::new(), u64::MAX).unwrap();
        assert!(shortest >= HOUR * 3 / 4 && shortest < HOUR * 3 / 4 + Duration::from_millis(1));
    }
}
