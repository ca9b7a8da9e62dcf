//! Imports into the directory of a cache.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use larder_core::Durability;
use larder_core::frame::{CodecId, head, head_len};
use larder_core::invalidation::InvalidationLog;
use larder_core::tier::Tier;
use larder_tiers::FileInvalidationLog;
use xxhash_rust::xxh3::Xxh3;

use super::{Imported, unreadable, whole};
use crate::args::ImportArguments;
use crate::catalog::CacheDirectory;
use crate::exit::Outcome;
use crate::printer::Progress;
use crate::source::{self, OpenCache};
use crate::transfer::{ExportReader, ExportSummary, FrameHead};

/// The longest part of a body that is read at once, in bytes.
const PART: usize = 256 << 10;

/// Creates the directory of a cache, with an empty invalidation log and the tiers that the export needs.
pub(super) fn create(cache: &CacheDirectory, summary: &ExportSummary) -> Outcome<()> {
    let tiers = [("disk/db", summary.disk), ("files/entries", summary.file)];
    for (name, _) in tiers.into_iter().filter(|(_, frames)| *frames > 0) {
        make_private(&cache.path.join(name))?;
    }
    make_private(&cache.path)?;
    FileInvalidationLog::open(&cache.path, Durability::Buffered)?.log.rewrite(&[])?;
    Ok(())
}

fn make_private(dir: &Path) -> Outcome<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).map_err(|error| unreadable(&PathBuf::from(dir), &error))
}

pub(super) fn import_all(
    mut reader: ExportReader,
    open: &OpenCache,
    import: &ImportArguments,
    progress: &Progress,
    imported: &mut Imported,
) -> Outcome<()> {
    while let Some(frame) = reader.next().map_err(|error| unreadable(&import.file, &error))? {
        progress.step();
        let Some(mut frame) = frame else {
            imported.damaged += 1;
            continue;
        };
        if frame.header.stale_deadline.max(frame.header.deadline) <= open.now {
            imported.expired += 1;
            continue;
        }
        let tiers = || open.tiers.iter().map(source::OpenTier::tier);
        let is_dictionary = frame.header.codec == CodecId::Dictionary;
        if !is_dictionary && !import.replace && is_held(tiers(), &frame)? {
            imported.kept += 1;
            continue;
        }
        // An entry has one tier: that of the export, if the cache has it. A dictionary is in each tier whose
        // entries need it.
        let Some(home) = tiers().find(|tier| tier.kind() == frame.tier).or_else(|| tiers().next()) else {
            break;
        };
        // No invalidation of the past applies to it.
        frame.header.generation = open.invalidated.last;
        for other in tiers().filter(|tier| !is_dictionary && tier.kind() != home.kind()) {
            pollster::block_on(other.remove(&frame.key))?;
        }
        match store(home, &frame, reader.body())? {
            true if is_dictionary => {}
            true => {
                imported.entries += 1;
                imported.bytes += head_len(&frame.key, &frame.attributes) as u64 + frame.body;
            }
            false => imported.damaged += 1,
        }
    }
    Ok(())
}

/// Whether any of the tiers has the key.
fn is_held<'a>(tiers: impl Iterator<Item = &'a dyn Tier>, frame: &FrameHead) -> Outcome<bool> {
    for tier in tiers {
        if pollster::block_on(tier.contains(&frame.key))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Stores a frame. Returns false if its body does not have its checksum; nothing is stored then.
fn store(tier: &dyn Tier, frame: &FrameHead, body: impl Read) -> Outcome<bool> {
    match tier.streaming() {
        Some(_) => stream(tier, frame, body),
        None => put(tier, frame, body),
    }
}

/// Stores a frame whole.
fn put(tier: &dyn Tier, frame: &FrameHead, body: impl Read) -> Outcome<bool> {
    let Some(whole) = whole(frame, body)? else { return Ok(false) };
    pollster::block_on(tier.put(&frame.key, &whole))?;
    Ok(true)
}

/// Stores a frame part by part.
fn stream(tier: &dyn Tier, frame: &FrameHead, mut body: impl Read) -> Outcome<bool> {
    let Some(streaming) = tier.streaming() else { return Ok(false) };
    let FrameHead { header, key, attributes, payload, .. } = frame;
    let mut upload = pollster::block_on(streaming.begin_upload(key, head_len(key, attributes)))?;
    let (mut sum, mut left, mut part) = (Xxh3::new(), payload.len, vec![0; PART]);
    let mut remaining = frame.body;
    while remaining > 0 {
        let room = PART.min(usize::try_from(remaining).unwrap_or(PART));
        body.read_exact(&mut part[..room])?;
        let of_payload = room.min(usize::try_from(left).unwrap_or(room));
        sum.update(&part[..of_payload]);
        pollster::block_on(streaming.append(&mut upload, &part[..room]))?;
        left -= of_payload as u64;
        remaining -= room as u64;
    }
    if sum.digest() != payload.sum {
        return Ok(false);
    }
    pollster::block_on(streaming.publish(key, upload, &head(header, key, attributes, *payload)))?;
    Ok(true)
}
