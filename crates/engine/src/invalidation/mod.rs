//! Invalidating many entries at once, by marks, and one, by its terms.

pub(crate) mod log;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use larder_core::clock::Time;
use larder_core::erased::Key;
use larder_core::events::{Event, Extent};
use larder_core::marks::Mark;
use larder_core::terms::{Tag, Terms};
use larder_core::{Error, ErrorKind, Result};

use crate::engine::Engine;
use crate::key_lock::reentrancy;
use larder_exec::runtime::Runtime;

/// A longer tag is on no entry.
const TAG_LEN_MAX: usize = 1024;

impl Engine {
    /// Expires every entry with one of these tags, in every tier, and what is
    /// being loaded now. Costs the same however many entries there are.
    ///
    /// # Errors
    /// When it could not be written down: then this cache goes by it, and the
    /// next one over the same directory begins empty. `ErrorKind::Unavailable`
    /// where other nodes cannot be told now: they are, later.
    /// `ErrorKind::Unsupported` where other processes write entries whose stamps
    /// are theirs: then nothing is invalidated.
    pub(crate) async fn invalidate_tags<W: Runtime>(self: &Arc<Self>, tags: Vec<Tag>) -> Result<()> {
        let marks = tags.iter().filter(|tag| tag.as_str().len() <= TAG_LEN_MAX);
        let marks: Vec<Mark> = marks.map(|tag| Mark::Tag(tag.as_str().into())).collect();
        if marks.is_empty() {
            return Ok(());
        }
        self.mark::<W>(marks).await
    }

    /// Expires every entry, in every tier, and what is being loaded now.
    ///
    /// # Errors
    /// As [`invalidate_tags`](Self::invalidate_tags).
    pub(crate) async fn invalidate_all<W: Runtime>(self: &Arc<Self>) -> Result<()> {
        self.mark::<W>(vec![Mark::All]).await
    }

    async fn mark<W: Runtime>(self: &Arc<Self>, marks: Vec<Mark>) -> Result<()> {
        self.check_open()?;
        self.check_stamps()?;
        self.counters.invalidations.add(marks.len() as u64);
        let told = marks.clone();
        let engine = Arc::clone(self);
        let made = W::section(self.has_tiers(), async move { engine.make_marks(marks).await }).await;
        self.emit_marks(told);
        made?
    }

    fn check_stamps(&self) -> Result<()> {
        let Some(handle) = self.tiers().iter().find(|handle| handle.has_foreign_stamps()) else {
            return Ok(());
        };
        let message = "tags and `invalidate_all` do not reach what other processes write: \
                       `clear`, `remove` and `invalidate` do";
        Err(Error::new(ErrorKind::Unsupported, message).in_tier(handle.kind()).during("invalidate"))
    }

    /// Expires one entry, and what is being loaded of it now. Without a stale
    /// window it is removed.
    ///
    /// # Errors
    /// When a tier failed. What may be left there is not served.
    pub(crate) async fn invalidate<W: Runtime>(self: &Arc<Self>, key: &Key) -> Result<()> {
        self.counters.invalidations.increment();
        let bare = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&bare);
        let expire = move |terms: &mut Terms, now| {
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

    /// Removes what memory holds and may not be served any more, not even as
    /// stale. Tiers of bytes let go of theirs when they are read or make room.
    pub fn sweep(&self) -> u64 {
        reentrancy::within(|| self.memory.sweep())
    }

    /// Sets the time to live of later writes; `None` for none.
    pub fn set_ttl(&self, ttl: Option<std::time::Duration>) {
        self.expiry.set_ttl(ttl);
    }

    /// The present time of this cache at which the wall clock shows `time`.
    pub(crate) fn time_of(&self, time: Time) -> Time {
        self.timeline.of(time)
    }
}
