//! Imports into a cache on a server.
//!
//! The server keeps entries apart by the version of the program, which is a number made of the schema version and the
//! type of the values. A frame of most types tells both.

use std::collections::BTreeMap;

use larder_core::clock::{Clock, SystemClock, Time};
use larder_core::frame::{CodecId, Frame, Header, head_len};
use larder_core::invalidation::{Known, SharedInvalidations};
use larder_core::key::EncodedKey;
use larder_core::tier::{ConditionalPut, PutOptions, SharedTier, Tier};
use larder_tiers::redis::{RedisOptions, RedisTier, program_version_of};

use super::{Imported, unreadable, whole};
use crate::args::ImportArguments;
use crate::catalog::{PATIENCE, ServerCache};
use crate::exit::{Exit, Failure, Outcome};
use crate::printer::Progress;
use crate::source::{self, Invalidated};
use crate::transfer::{ExportReader, FrameHead};

/// The most entries that are written at once.
const BATCH: usize = 200;
/// About how many bytes are written at once.
const BATCH_BYTES: u64 = 8 << 20;

/// Stores the entries of an export. An entry of the cache that changes meanwhile stays as it is.
pub(super) fn import_all(
    mut reader: ExportReader,
    server: &ServerCache,
    import: &ImportArguments,
    progress: &Progress,
    imported: &mut Imported,
) -> Outcome<()> {
    let mut target = Target::open(server, import, &imported.cache)?;
    while let Some(frame) = reader.next().map_err(|error| unreadable(&import.file, &error))? {
        progress.step();
        let Some(mut frame) = frame else {
            imported.damaged += 1;
            continue;
        };
        let Some(version) = target.version(&frame, imported) else { continue };
        target.open_version(version)?;
        // No invalidation of the past applies to it.
        frame.header.generation = target.invalidation_seq;
        match whole(&frame, reader.body())? {
            Some(whole) => target.add(version, frame.key, whole, imported)?,
            None => imported.damaged += 1,
        }
    }
    target.finish(imported)
}

/// Where a frame goes.
#[derive(Clone, Copy)]
enum Destination {
    Version(u64),
    /// Every version that gets an entry.
    Dictionary,
}

struct Target<'a> {
    server: &'a ServerCache,
    cache: String,
    /// The versions of the program that the server lists.
    listed: Vec<u64>,
    /// Whether a version that is not listed may be.
    creates: bool,
    replaces: bool,
    /// The sequence number of the last invalidation; 0 if there is no log of them.
    invalidation_seq: u64,
    now: Time,
    versions: BTreeMap<u64, Version>,
    dictionaries: Vec<(EncodedKey, Frame)>,
}

/// The entries of one version.
struct Version {
    tier: RedisTier,
    batch: Vec<(EncodedKey, Frame)>,
    batch_bytes: u64,
}

impl<'a> Target<'a> {
    fn open(server: &'a ServerCache, import: &ImportArguments, cache: &str) -> Outcome<Self> {
        let reader = source::reader_of_server(server, cache)?;
        let invalidation_seq = Invalidated::of(reader.invalidations()?).last;
        // A cache that is not distributed counts its invalidations in its directory.
        if invalidation_seq == 0 && !import.create {
            let message = format!(
                "no node has distributed the cache {cache} yet; import into its directory, or use --create"
            );
            return Err(Failure::new(Exit::Failed, message));
        }
        Ok(Self {
            server,
            cache: cache.to_owned(),
            listed: reader.versions()?,
            creates: import.create,
            replaces: import.replace,
            invalidation_seq,
            now: SystemClock.now(),
            versions: BTreeMap::new(),
            dictionaries: Vec::new(),
        })
    }

    /// Where a frame goes. `None` if it is left out, which is counted.
    fn version(&self, frame: &FrameHead, imported: &mut Imported) -> Option<Destination> {
        if frame.header.codec == CodecId::Dictionary {
            return Some(Destination::Dictionary);
        }
        let until = frame.header.stale_deadline.max(frame.header.deadline);
        let frame_bytes = head_len(&frame.key, &frame.attributes) as u64 + frame.body;
        let left_out = match self.version_of(&frame.header) {
            _ if until <= self.now => &mut imported.expired,
            _ if frame_bytes > RedisTier::FRAME_BYTES_MAX => &mut imported.too_large,
            Some(version) => return Some(Destination::Version(version)),
            None => &mut imported.foreign,
        };
        *left_out += 1;
        None
    }

    /// The version that reads an entry, if it is known for certain.
    fn version_of(&self, header: &Header) -> Option<u64> {
        match (program_version_of(header), &self.listed[..]) {
            (Some(version), listed) => Some(version).filter(|of| self.creates || listed.contains(of)),
            (None, [only]) => Some(*only),
            (None, _) => None,
        }
    }

    /// Opens the version that a frame goes to. The first one of a new cache starts the log of invalidations, as a
    /// node would: a node that finds none takes every entry for invalidated.
    fn open_version(&mut self, destination: Destination) -> Outcome<()> {
        let Destination::Version(number) = destination else { return Ok(()) };
        if self.versions.contains_key(&number) {
            return Ok(());
        }
        let version = Version::open(self.server, &self.cache, number)?;
        if self.invalidation_seq == 0 {
            let records = pollster::block_on(version.tier.exchange(&[], Known::default()))?;
            self.invalidation_seq = Invalidated::of(records).last;
        }
        // Before the entries that need them: a node removes an entry whose dictionary is lost.
        self.dictionaries.iter().try_for_each(|(key, frame)| version.put(key, frame))?;
        self.versions.insert(number, version);
        Ok(())
    }

    fn add(
        &mut self,
        destination: Destination,
        key: EncodedKey,
        frame: Frame,
        imported: &mut Imported,
    ) -> Outcome<()> {
        let Destination::Version(number) = destination else {
            self.versions.values().try_for_each(|version| version.put(&key, &frame))?;
            self.dictionaries.push((key, frame));
            return Ok(());
        };
        let Some(version) = self.versions.get_mut(&number) else { return Ok(()) };
        version.batch_bytes += frame.len() as u64;
        version.batch.push((key, frame));
        if version.batch.len() >= BATCH || version.batch_bytes >= BATCH_BYTES {
            version.store(self.replaces, imported)?;
        }
        Ok(())
    }

    fn finish(self, imported: &mut Imported) -> Outcome<()> {
        for mut version in self.versions.into_values() {
            version.store(self.replaces, imported)?;
            pollster::block_on(version.tier.close())?;
        }
        Ok(())
    }
}

impl Version {
    fn open(server: &ServerCache, cache: &str, version: u64) -> Outcome<Self> {
        let options = RedisOptions::new(&server.url, &server.namespace, cache);
        let tier = RedisTier::open(RedisOptions { version, timeout: PATIENCE, ..options })?;
        tier.check()?;
        Ok(Self { tier, batch: Vec::new(), batch_bytes: 0 })
    }

    fn put(&self, key: &EncodedKey, frame: &Frame) -> Outcome<()> {
        Ok(pollster::block_on(self.tier.put(key, frame))?)
    }

    /// Stores the batch. Of an entry that is there, the import is left out unless it replaces it; so it is if a node
    /// changes the entry between the look at it and the write.
    fn store(&mut self, replaces: bool, imported: &mut Imported) -> Outcome<()> {
        self.batch_bytes = 0;
        let (keys, frames): (Vec<_>, Vec<_>) = self.batch.drain(..).unzip();
        let (mut puts, mut kept) = (Vec::with_capacity(keys.len()), 0);
        let held = pollster::block_on(self.tier.get_many_versioned(&keys));
        for ((key, frame), held) in keys.into_iter().zip(frames).zip(held) {
            let held = held?;
            match held.version.filter(|_| replaces || held.frame.is_none()) {
                Some(version) => {
                    puts.push(ConditionalPut { key, frame, options: PutOptions::if_version(version) });
                }
                None => kept += 1,
            }
        }
        let stored = pollster::block_on(self.tier.compare_and_set_many(&puts));
        for (put, stored) in puts.iter().zip(stored) {
            match stored? {
                true => {
                    imported.entries += 1;
                    imported.bytes += put.frame.len() as u64;
                }
                false => kept += 1,
            }
        }
        imported.kept += kept;
        Ok(())
    }
}
