//! The entries of a cache, opened for reading or for a change.

mod changing;
mod invalidated;
mod reading;
pub(crate) mod warnings;

use std::sync::Arc;

use larder_core::clock::{Clock, SystemClock, Time};
use larder_core::compress::dictionary::{Dictionary, entry_key, index_key};
use larder_core::frame::CodecId;
use larder_core::key::EncodedKey;
use larder_core::tier::{Tier, TierKind};
use larder_core::{Bytes, Result};
use larder_tiers::EntryCheck;
use larder_tiers::disk::DiskTier;
use larder_tiers::file::{FileReader, FileTier};
use larder_tiers::redis::{DamagedEntry, RedisReader};
use tempfile::TempDir;

pub(crate) use changing::{changing, void_tiers};
pub(crate) use invalidated::Invalidated;
pub(crate) use reading::{reader_of_server, reading};

use crate::entry::EntryRecord;
use crate::exit::Outcome;
use crate::printer::Progress;

/// A tier of a cache that is open.
pub(crate) enum OpenTier {
    /// The disk tier, or a copy of it.
    Disk(Box<DiskTier>),
    /// The files, for reading.
    Reader(FileReader),
    /// The file tier, for a change.
    Files(Box<FileTier>),
    /// The entries on a server, for reading.
    Server(Box<RedisReader>),
}

impl OpenTier {
    pub(crate) fn tier(&self) -> &dyn Tier {
        match self {
            Self::Disk(tier) => tier.as_ref(),
            Self::Reader(tier) => tier,
            Self::Files(tier) => tier.as_ref(),
            Self::Server(tier) => tier.as_ref(),
        }
    }

    pub(crate) fn kind(&self) -> TierKind {
        self.tier().kind()
    }

    /// Shows how far work on the entries of the tier has come.
    pub(crate) fn progress(&self, what: &str) -> Progress {
        let entries = self.tier().usage().entries;
        Progress::begin(
            format!("{what} the {} tier", self.kind().name()),
            Some(entries).filter(|all| *all > 0),
        )
    }

    /// Verifies every entry. Removes damaged ones, unless the tier is open for reading: a copy of the disk
    /// tier is not the tier. On a server only with `fix`. Calls `on_damage` with each damaged entry of a server.
    pub(crate) fn check(&self, fix: bool, on_damage: &mut dyn FnMut(DamagedEntry)) -> Result<EntryCheck> {
        // The tier counts at the end.
        let _shown = Progress::begin(format!("verifying the {} tier", self.kind().name()), None);
        match self {
            Self::Disk(tier) => tier.remove_damaged(),
            Self::Reader(tier) => tier.check(),
            Self::Files(tier) => tier.remove_damaged(),
            Self::Server(server) => server.check(fix, on_damage),
        }
    }
}

/// The entries of one cache.
pub(crate) struct OpenCache {
    pub(crate) tiers: Vec<OpenTier>,
    pub(crate) invalidated: Invalidated,
    /// What the user should know about what is shown.
    pub(crate) notes: Vec<String>,
    /// Whether another process has a part of the cache, which is not shown.
    pub(crate) is_partial: bool,
    /// The present time.
    pub(crate) now: Time,
    /// The copy of the disk tier. Deleted after the tiers are dropped.
    _scratch: Option<TempDir>,
}

impl OpenCache {
    fn new(tiers: Vec<OpenTier>, invalidated: Invalidated, scratch: Option<TempDir>) -> Self {
        let now = SystemClock.now();
        Self { tiers, invalidated, notes: Vec::new(), is_partial: false, now, _scratch: scratch }
    }

    /// Calls `visit` with each entry whose head can be read, apart from dictionaries.
    pub(crate) fn each(&self, mut visit: impl FnMut(EntryRecord) + Send) -> Outcome<()> {
        self.each_record(|entry| {
            if entry.header.codec != CodecId::Dictionary {
                visit(entry);
            }
        })
    }

    /// The entries of the dictionaries in the tiers, without their indexes.
    pub(crate) fn dictionaries(&self) -> Outcome<Vec<EntryRecord>> {
        let (mut found, index) = (Vec::new(), index_key());
        self.each_record(|entry| {
            if entry.header.codec == CodecId::Dictionary && entry.key != index.as_bytes() {
                found.push(entry);
            }
        })?;
        Ok(found)
    }

    /// The dictionary with this number, from the tier whose entry needs it.
    pub(crate) fn dictionary(&self, tier: TierKind, number: u64) -> Outcome<Option<Arc<Dictionary>>> {
        // What is read is decompressed only, for which the level does not matter.
        const LEVEL: i32 = 3;
        let Some(tier) = self.tiers.iter().find(|open| open.kind() == tier) else { return Ok(None) };
        let entry = pollster::block_on(tier.tier().get(&entry_key(number)))?;
        Ok(entry.and_then(|entry| Dictionary::read(&entry, number, LEVEL)).map(Arc::new))
    }

    fn each_record(&self, mut visit: impl FnMut(EntryRecord) + Send) -> Outcome<()> {
        for tier in &self.tiers {
            let kind = tier.kind();
            let progress = tier.progress("reading");
            let mut take = |head: &[u8]| {
                progress.step();
                if let Some(entry) = EntryRecord::read(kind, head, self) {
                    visit(entry);
                }
            };
            pollster::block_on(tier.tier().scan(&mut take))?;
        }
        Ok(())
    }

    /// The frame of an entry, if it is still there.
    pub(crate) fn frame(&self, entry: &EntryRecord) -> Outcome<Option<Bytes>> {
        let key = EncodedKey::new(entry.key.as_slice());
        let tier = self.tiers.iter().find(|tier| tier.kind() == entry.tier);
        tier.map_or(Ok(None), |tier| Ok(pollster::block_on(tier.tier().get(&key))?))
    }

    /// Closes the tiers, so that every change is durable.
    pub(crate) fn close(self) -> Outcome<()> {
        self.tiers.iter().try_for_each(|tier| Ok(pollster::block_on(tier.tier().close())?))
    }
}
