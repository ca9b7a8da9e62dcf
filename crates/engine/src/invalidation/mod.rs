//! Invalidation: expires many entries by tag or as a whole, and one entry by its
//! deadline.

pub(crate) mod by_predicate;
pub(crate) mod log;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use larder_core::clock::Time;
use larder_core::entry_meta::{EntryMeta, Tag};
use larder_core::erased::Key;
use larder_core::events::{Event, Extent};
use larder_core::invalidation::Invalidation;
use larder_core::{Error, ErrorKind, Result};

use crate::engine::Engine;
use larder_exec::runtime::Runtime;

/// Maximum length of a tag in bytes; no entry has a longer one.
const TAG_LEN_MAX: usize = 1024;

impl Engine {
    /// Expires every entry with one of these tags, in every tier, and also loads in
    /// progress. The cost does not depend on the number of entries.
    ///
    /// # Errors
    /// If the invalidation cannot be written to the log: it holds in this cache, and the
    /// next cache over the same directory starts empty. `ErrorKind::Unavailable` if other
    /// nodes cannot be told now: they are told later. `ErrorKind::Unsupported` if other
    /// processes write entries with sequence numbers of their own: then nothing is
    /// invalidated.
    pub(crate) async fn invalidate_tags<W: Runtime>(self: &Arc<Self>, tags: Vec<Tag>) -> Result<()> {
        let invalidations = tags.iter().filter(|tag| tag.as_str().len() <= TAG_LEN_MAX);
        let invalidations: Vec<Invalidation> =
            invalidations.map(|tag| Invalidation::Tag(tag.as_str().into())).collect();
        if invalidations.is_empty() {
            return Ok(());
        }
        self.invalidation::<W>(invalidations).await
    }

    /// Expires every entry, in every tier, and also loads in progress.
    ///
    /// # Errors
    /// As [`invalidate_tags`](Self::invalidate_tags).
    pub(crate) async fn invalidate_all<W: Runtime>(self: &Arc<Self>) -> Result<()> {
        self.invalidation::<W>(vec![Invalidation::All]).await
    }

    async fn invalidation<W: Runtime>(self: &Arc<Self>, invalidations: Vec<Invalidation>) -> Result<()> {
        self.check_open()?;
        self.check_versions()?;
        self.counters.invalidations.add(invalidations.len() as u64);
        let told = invalidations.clone();
        let engine = Arc::clone(self);
        let made =
            W::section(self.has_tiers(), async move { engine.record_invalidations(invalidations).await })
                .await;
        self.emit_invalidations(told);
        made?
    }

    fn check_versions(&self) -> Result<()> {
        let Some(handle) = self.tiers().iter().find(|handle| handle.has_foreign_versions()) else {
            return Ok(());
        };
        let message = "tags and `invalidate_all` do not apply to entries of other processes: \
                       use `clear`, `remove` or `invalidate`";
        Err(Error::new(ErrorKind::Unsupported, message).in_tier(handle.kind()).during("invalidate"))
    }

    /// Expires one entry, and also a load of it in progress. Removes the entry if it has
    /// no stale window.
    ///
    /// # Errors
    /// If a tier failed. An entry that may be left there is not served.
    pub(crate) async fn invalidate<W: Runtime>(self: &Arc<Self>, key: &Key) -> Result<()> {
        self.counters.invalidations.increment();
        let bare = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&bare);
        let expire = move |terms: &mut EntryMeta, now| {
            seen.store(terms.stale.is_zero(), Ordering::Relaxed);
            terms.deadline = now;
        };
        let expired = self.retime::<W, _>(key, true, expire).await;
        self.events.emit_of(self.name_of(key), |key| Event::Invalidated(Extent::Key(key)));
        if expired.is_ok() && !bare.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.remove::<W>(key).await.map(|_| ())
    }

    /// Sets the time to live of later writes; `None` for no expiry.
    pub fn set_ttl(&self, ttl: Option<std::time::Duration>) {
        self.expiry.set_ttl(ttl);
    }

    /// Returns the time of this cache at which the wall clock shows `time`.
    pub(crate) fn time_of(&self, time: Time) -> Time {
        self.timeline.of(time)
    }
}
