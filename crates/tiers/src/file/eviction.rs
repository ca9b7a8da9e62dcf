//! Evicts entries: for the budget, and when the disk is full.

use larder_core::frame::kept_until;
use larder_core::tier::Tier;
use larder_core::{Error, ErrorKind, Result};

use super::FileTier;
use super::index::{BLOCK, EntryId, Index, KnownDeadline};
use super::reservation::Reservation;
use super::snapshot;
use crate::durable_sync::available;
use crate::pressure::{self, Shortage};

/// Fewest entries to evict when the disk is full. Each of them frees an inode too, however small it
/// is.
const VICTIMS_MIN: u64 = 4;

/// Inodes that are kept free, in addition to the reserve in bytes.
const INODES_KEPT_FREE: u64 = 8;

/// Most heads of files that one search for expired entries reads.
const HEADS_AT_ONCE: usize = 10_000;

/// When the frame that begins with `head` expires.
pub(super) fn deadline_of(head: &[u8]) -> KnownDeadline {
    kept_until(head).map_or(KnownDeadline::Unknown, KnownDeadline::At)
}

impl FileTier {
    /// Runs `write`. If the disk is full, evicts entries and retries once.
    pub(super) fn retry_when_full<T>(&self, write: impl FnMut() -> Result<T>) -> Result<T> {
        pressure::retry_when_full(
            &self.budget,
            || self.available(),
            write,
            |shortage| self.free_space(shortage),
        )
    }

    /// Bytes that new files could take, limited by free blocks and by free inodes.
    pub(super) fn available(&self) -> Option<u64> {
        let (bytes, inodes) = available(&self.dir)?;
        let an_inode = self.index.lock().as_ref().map_or(BLOCK, Index::bytes_an_inode);
        Some(bytes.min(inodes.saturating_sub(INODES_KEPT_FREE).saturating_mul(an_inode)))
    }

    fn free_space(&self, shortage: Shortage) -> Result<()> {
        if shortage == Shortage::Handles {
            // Entries hold no file handle, so evicting them frees none.
            return Ok(());
        }
        self.learn_deadlines()?;
        let mut expired = 0;
        while let Some(id) = self.expired()? {
            self.evict(id)?;
            expired += 1;
        }
        self.shrink_to_budget(VICTIMS_MIN.saturating_sub(expired))
    }

    fn expired(&self) -> Result<Option<EntryId>> {
        Ok(self.index()?.expired(self.budget.now()))
    }

    /// Reads the deadlines of entries that an earlier process, or another one, wrote.
    fn learn_deadlines(&self) -> Result<()> {
        for _ in 0..HEADS_AT_ONCE {
            let Some(id) = self.index()?.unknown() else { break };
            // An entry whose head cannot be read counts as never expiring. It is evicted in its
            // turn.
            let head = self.layout.read_head(id.digest);
            let until =
                head.and_then(|head| kept_until(&head)).map_or(KnownDeadline::NEVER, KnownDeadline::At);
            self.index()?.set_deadline(id, until);
        }
        Ok(())
    }

    /// Evicts entries until usage is within the budget, and at least `least` of them.
    pub(super) fn shrink_to_budget(&self, least: u64) -> Result<()> {
        let mut evicted = 0;
        loop {
            let excess = self.budget.excess(0).min(self.usage().bytes);
            if excess == 0 && evicted >= least {
                return Ok(());
            }
            let Some(victim) = self.index()?.victim(excess, 0) else { return Ok(()) };
            self.evict(victim)?;
            evicted += 1;
        }
    }

    /// Reserves `bytes`, and evicts entries until they fit: expired ones first.
    ///
    /// The entry of `spare`, which is about to be replaced, is evicted last, since readers use it
    /// until then.
    pub(super) fn make_room(&self, bytes: u64, spare: u128) -> Result<Reservation> {
        if self.budget.is_due(bytes) {
            self.budget.fit_to_free_space(self.available());
        }
        let mut looked = self.peers.is_none();
        loop {
            let victim = {
                let mut index = self.index()?;
                match Reservation::reserve(&self.budget, bytes, self.kept_free(&index)) {
                    Ok(reservation) => return Ok(reservation),
                    Err(excess) => index.expired(self.budget.now()).or_else(|| index.victim(excess, spare)),
                }
            };
            let Some(victim) = victim else {
                if !std::mem::replace(&mut looked, true) {
                    self.rescan()?;
                    continue;
                }
                let message = format!(
                    "cannot free {bytes} bytes within a disk budget of {} bytes",
                    self.budget.effective_limit()
                );
                return Err(Error::new(ErrorKind::Full, message));
            };
            self.evict(victim)?;
            self.budget.report_shortage()?;
        }
    }

    /// Bytes of the budget that stay free for the snapshot of the index.
    fn kept_free(&self, index: &Index) -> u64 {
        if self.peers.is_some() { 0 } else { snapshot::reserve(index) }
    }

    fn evict(&self, victim: EntryId) -> Result<()> {
        let deleted = self.delete(victim);
        let mut index = self.index()?;
        match deleted {
            Ok(true) => index.count_eviction(),
            Ok(false) => {}
            Err(_) => index.requeue(victim),
        }
        deleted.map(drop)
    }
}
