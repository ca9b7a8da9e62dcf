//! The lifecycle of a cache: counting, clearing, flushing, closing.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use larder_core::invalidation::Invalidation;
use larder_core::tier::TierKind;
use larder_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;

use crate::coherence::port::SingleProcess;
use crate::engine::Engine;
use crate::key_lock::reentrancy;
use crate::promise::Promise;
use crate::selector::lessons::Pupil;
use crate::tier_stack::tier_handle::TierHandle;
use larder_exec::runtime::{Leaving, Runtime, block_on, hand_off};

/// The directory of the tiers of a cache.
#[derive(Clone, Debug)]
pub struct OpenedDir {
    /// Its path.
    pub path: PathBuf,
    /// Whether it is a private one, because another process uses the directory of this name.
    pub is_private: bool,
}

impl Engine {
    /// Returns what changes the keys of sealed tiers, if they are sealed.
    pub fn rotation(&self) -> Option<&(dyn Any + Send + Sync)> {
        self.rotation.as_deref()
    }

    /// Returns the directory of the tiers, if they have one.
    pub fn dir(&self) -> Option<&Path> {
        self.dir.as_ref().map(|dir| dir.path.as_path())
    }

    /// Returns whether the directory is a private one.
    pub fn is_private(&self) -> bool {
        self.dir.as_ref().is_some_and(|dir| dir.is_private)
    }

    /// Returns the number of entries, each counted at its home tier. With tiers, costs a pass over
    /// the entries in memory.
    pub fn len(&self) -> u64 {
        if self.stack.is_none() {
            return self.memory.count(None);
        }
        let beyond: u64 = self.tiers().iter().map(|handle| handle.usage().entries).sum();
        beyond + self.memory.count(Some(TierKind::Memory))
    }

    /// Returns whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the bytes of all tiers, as each tier counts them.
    pub fn bytes(&self) -> u64 {
        let beyond: u64 = self.tiers().iter().map(|handle| handle.inner().usage().bytes).sum();
        beyond + self.memory.usage().bytes
    }

    /// Removes every entry from every tier, and supersedes everything in progress.
    ///
    /// # Errors
    /// If a tier failed. That tier is not read until a later `clear` succeeds.
    pub(crate) async fn clear<W: Runtime>(self: &Arc<Self>) -> Result<()> {
        self.check_open()?;
        let engine = Arc::clone(self);
        W::section(self.has_tiers(), async move {
            let _closed = engine.key_locks.close().await?;
            engine.check_open()?;
            let mut outcome = match engine.coherence.records_clears() {
                true => engine.record_invalidations(vec![Invalidation::Cleared]).await,
                false => Ok(()),
            };
            reentrancy::within(|| engine.memory.clear());
            for handle in engine.tiers() {
                outcome = outcome.and(handle.clear().await);
            }
            engine.emit_invalidations(vec![Invalidation::Cleared]);
            outcome
        })
        .await?
    }

    /// Hands buffered data to the operating system. Retries failed removals first.
    pub(crate) async fn flush<W: Runtime>(self: &Arc<Self>) -> Result<()> {
        self.check_open()?;
        let engine = Arc::clone(self);
        W::section(self.has_tiers(), async move {
            engine.retry_all().await;
            let mut outcome = engine.invalidations.note_time(engine.timeline.now());
            for handle in engine.tiers() {
                outcome = outcome.and(handle.inner().flush().await);
            }
            engine.look_for_evictions();
            outcome
        })
        .await?
    }

    /// Closes the cache: waits for the writes in progress, flushes and closes every tier, empties
    /// memory and releases locks. A second call waits for the first and has the same outcome.
    ///
    /// # Errors
    /// The first failure of a tier. The other tiers are closed all the same.
    pub(crate) async fn close<W: Runtime>(self: &Arc<Self>) -> Result<()> {
        self.end::<W>(Remove::Nothing).await
    }

    /// Removes every entry and the directory, and closes the cache.
    ///
    /// # Errors
    /// `ErrorKind::Closed` if it was closed before, because the directory may belong to another
    /// cache by now. Otherwise the first failure.
    pub(crate) async fn destroy<W: Runtime>(self: &Arc<Self>) -> Result<()> {
        self.check_open()?;
        self.end::<W>(Remove::Everything).await
    }

    async fn end<W: Runtime>(self: &Arc<Self>, remove: Remove) -> Result<()> {
        if reentrancy::is_up() {
            return Err(reentrancy::busy());
        }
        if self.has_tiers() && self.is_forked() {
            return Err(forked());
        }
        if self.closed.swap(true, Ordering::AcqRel) {
            return self.lifecycle.outcome.wait::<W>().await;
        }
        let ending = Ending(Arc::clone(self));
        W::section(self.has_tiers(), async move {
            let outcome = ending.0.release_all(remove).await;
            ending.0.lifecycle.outcome.set(outcome);
        })
        .await?;
        self.events.close::<W>().await;
        self.lifecycle.outcome.wait::<W>().await
    }

    async fn release_all(self: &Arc<Self>, remove: Remove) -> Result<()> {
        self.retry_all().await;
        self.coherence.send_pending(self).get().await;
        // Before the key locks close: the thread that applies notices may be waiting for one.
        self.coherence.end();
        self.look_for_evictions();
        let _closed = self.key_locks.close().await?;
        self.release_tiers(remove).await
    }

    /// Closes the tiers and releases the directory. The caller has closed the key locks.
    async fn release_tiers(&self, remove: Remove) -> Result<()> {
        self.give_up_owed();
        if remove == Remove::Nothing {
            self.leave_dictionaries().await;
        }
        if remove == Remove::Nothing
            && let Err(error) = self.leave_hottest().await
        {
            tracing::warn!(target: "larder", cache = self.lifecycle.name(), %error, "cannot write the hottest keys; memory starts cold");
        }
        if remove == Remove::Nothing
            && let Some(Err(error)) = self.pupil.as_ref().map(Pupil::write)
        {
            tracing::warn!(target: "larder", cache = self.lifecycle.name(), %error, "cannot write what the selector has learned");
        }
        reentrancy::within(|| self.memory.clear());
        let mut outcome = self.invalidations.note_time(self.timeline.now());
        for handle in self.tiers() {
            outcome = outcome.and(match remove {
                Remove::Everything if !handle.is_read_only() => handle.inner().destroy().await,
                _ => handle.inner().close().await,
            });
            handle.quarantine().close();
        }
        self.invalidations.close();
        #[cfg(feature = "async")]
        larder_exec::timer::rest();
        if let (Remove::Everything, Some(dir)) = (remove, self.dir()) {
            outcome = outcome.and(remove_dir(dir));
        }
        self.held.lock().clear();
        outcome
    }

    /// Holds a value until the cache is closed or dropped; drops it at once if it is closed.
    pub fn hold(&self, value: Box<dyn Any + Send>) {
        let mut held = self.held.lock();
        if self.is_ended() {
            drop(held);
            drop(value);
            return;
        }
        held.push(value);
    }

    /// Counts one more handle of a user.
    pub fn add_handle(&self) {
        self.lifecycle.handles.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one handle less, and closes the cache with the last one. It closes even if a thread
    /// of the library still uses the engine, so that the directory is free for the next cache.
    pub fn remove_handle(self: &Arc<Self>) {
        if self.lifecycle.handles.fetch_sub(1, Ordering::AcqRel) > 1
            || self.tiers().is_empty()
            || self.is_ended()
        {
            return;
        }
        // From here on, a cache that is built over the directory waits until it is free.
        *self.lifecycle.leaving.lock() = Some(Leaving::new());
        // If this is the only reference, dropping it closes the cache. While user code runs under a
        // guard, nothing may wait. An abandoned write of a task still runs, and closes the cache at
        // its end.
        if Arc::strong_count(self) > 1 && !reentrancy::is_up() && !self.key_locks.has_writes_of_tasks() {
            let engine = Arc::clone(self);
            hand_off(move || engine.end_unattended());
        }
    }

    /// Closes a cache that has no handles, and logs a failure.
    fn end_unattended(self: &Arc<Self>) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        let ending = Ending(Arc::clone(self));
        self.coherence.end();
        let ended = block_on(async {
            let _closed = self.key_locks.close().await?;
            self.release_tiers(Remove::Nothing).await
        });
        if let Err(error) = &ended {
            tracing::error!(target: "larder", cache = self.lifecycle.name(), error = %error, "a dropped cache could not be closed cleanly");
        }
        ending.0.lifecycle.outcome.set(ended);
        self.lifecycle.leaving.lock().take();
    }

    /// Switches the cache off or on again. While it is off, look-ups miss, loads do not store, and
    /// writes are dropped and counted. A write or a removal still removes the former entry, so that
    /// no outdated entry is there when the cache is switched on again. Memory is emptied, so that a
    /// hit need not check the switch.
    pub(crate) async fn set_enabled<W: Runtime>(self: &Arc<Self>, enabled: bool) -> Result<()> {
        self.check_open()?;
        if self.lifecycle.off.swap(!enabled, Ordering::AcqRel) || enabled {
            return Ok(());
        }
        let engine = Arc::clone(self);
        W::section(self.has_tiers(), async move {
            let _closed = engine.key_locks.close().await?;
            reentrancy::within(|| engine.memory.clear());
            Ok(())
        })
        .await?
    }

    /// Returns whether the cache is switched on.
    pub fn is_enabled(&self) -> bool {
        self.lifecycle.is_on()
    }

    /// Returns whether look-ups miss and loads do not store: the cache is closed or switched off.
    /// Warns once if a caller uses the closed cache.
    pub(crate) fn is_closed(&self) -> bool {
        if self.is_ended() {
            self.lifecycle.warn_late_use();
        }
        self.is_inactive()
    }

    /// As [`is_closed`](Self::is_closed), without the warning: for the cache's own threads, and under a
    /// lock, where no subscriber may run.
    #[inline]
    pub(crate) fn is_inactive(&self) -> bool {
        self.is_ended() || !self.lifecycle.is_on() || self.has_tiers() && self.is_forked()
    }

    /// Returns whether the cache was closed or is being closed.
    #[inline]
    pub fn is_ended(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Fails if the cache was closed.
    pub(crate) fn check_not_closed(&self) -> Result<()> {
        if self.is_ended() { Err(Error::new(ErrorKind::Closed, "the cache was closed")) } else { Ok(()) }
    }

    /// Returns the number of invalidations so far: by tag, of all entries, or by `clear`. A value
    /// that was computed under a smaller number may be outdated.
    pub fn invalidations(&self) -> u64 {
        self.invalidations.stamp()
    }

    /// Names the cache for statistics and logs. The first name counts.
    pub fn set_name(&self, name: &str) {
        let _first_counts = self.lifecycle.name.set(name.into());
        self.tiers().iter().for_each(|handle| handle.counters().signals.set_cache(name));
    }

    /// Returns the name. Empty if none was given.
    pub fn name(&self) -> &str {
        self.lifecycle.name()
    }
}

/// What is removed when a cache ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Remove {
    Nothing,
    Everything,
}

fn remove_dir(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            let source = Error::from(error);
            let message = format!("cannot remove {}: {source}", dir.display());
            Err(Error::new(source.kind(), message).with_source(source).during("destroy"))
        }
        _ => Ok(()),
    }
}

/// The lifecycle state of a cache.
#[derive(Default)]
pub(crate) struct Lifecycle {
    name: OnceLock<Box<str>>,
    off: AtomicBool,
    /// Number of handles that users hold.
    handles: AtomicUsize,
    /// Set from the drop of the last handle until the directory is free.
    leaving: Mutex<Option<Leaving>>,
    late_use_told: AtomicBool,
    /// The outcome of closing. The cache is closed on a thread that needs no executor, so waiting for
    /// it cannot deadlock.
    outcome: Promise<()>,
}

impl Lifecycle {
    pub(crate) fn name(&self) -> &str {
        self.name.get().map_or("", |name| name)
    }

    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        !self.off.load(Ordering::Acquire)
    }

    /// Warns once that a cache is used after it was closed.
    #[cold]
    pub(crate) fn warn_late_use(&self) {
        if !self.late_use_told.swap(true, Ordering::AcqRel) {
            let cache = self.name();
            tracing::warn!(target: "larder", cache, "the cache is closed; loads run without caching");
        }
    }
}

/// The error in a forked child that uses the cache of its parent.
#[cold]
pub(crate) fn forked() -> Error {
    let message = "this process was forked from the one that built the cache and cannot use its tiers: \
                   build the cache after the fork";
    Error::new(ErrorKind::Closed, message)
}

/// A cache that is being closed. If it is dropped before the end, the waiters get an error.
struct Ending(Arc<Engine>);

impl Drop for Ending {
    fn drop(&mut self) {
        let message = "the runtime shut down before the cache was closed";
        self.0.lifecycle.outcome.set(Err(Error::new(ErrorKind::Closed, message)));
    }
}

/// Closes a cache whose last handle was dropped without `close`. The tiers are dropped on a thread
/// that may block; each of them closes itself then, and logs failures.
impl Drop for Engine {
    fn drop(&mut self) {
        if self.stack.is_some() && self.origin.is_forked() {
            // The tiers belong to the parent process. Dropping them would wait for its threads.
            let coherence = std::mem::replace(&mut self.coherence, Arc::new(SingleProcess));
            std::mem::forget((self.stack.take(), coherence, std::mem::take(self.held.get_mut())));
            return;
        }
        self.coherence.end();
        if let Some(on_last_handle) = self.on_last_handle.get() {
            on_last_handle(self);
        }
        #[cfg(feature = "async")]
        larder_exec::timer::rest();
        let tiers = self.stack.as_mut().map(|stack| std::mem::take(&mut stack.tiers)).unwrap_or_default();
        if tiers.is_empty() || matches!(self.lifecycle.outcome.get(), Some(Ok(()))) {
            return;
        }
        let held = std::mem::take(self.held.get_mut());
        let leaving = self.lifecycle.leaving.get_mut().take().unwrap_or_default();
        let remains = Remains { _slots: tiers, _held: held, _leaving: leaving };
        hand_off(move || drop(remains));
    }
}

/// The parts of a dropped cache, in the order in which they are dropped: the locks after the tiers.
struct Remains {
    _slots: Vec<TierHandle>,
    _held: Vec<Box<dyn Any + Send>>,
    _leaving: Leaving,
}
