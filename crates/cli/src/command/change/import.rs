//! `larder import`: stores the entries of an export file in a cache.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use larder_core::Durability;
use larder_core::frame::{CodecId, Frame, head, head_len};
use larder_core::invalidation::InvalidationLog;
use larder_core::tier::Tier;
use larder_tiers::FileInvalidationLog;
use serde::Serialize;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::args::{Arguments, ImportArguments};
use crate::catalog::{self, CacheDirectory};
use crate::exit::{Exit, Failure, Outcome};
use crate::printer::{self, Printer, Progress};
use crate::source::{self, OpenCache};
use crate::transfer::{ExportReader, ExportSummary, FrameHead};

/// The longest part of a body that is read at once, in bytes.
const PART: usize = 256 << 10;

#[derive(Default, Serialize)]
struct Imported {
    cache: String,
    path: String,
    file: String,
    is_dry_run: bool,
    is_created: bool,
    entries: u64,
    bytes: u64,
    /// Entries that the cache had already.
    kept: u64,
    /// Entries whose time was over.
    expired: u64,
    /// Frames that no reader would accept.
    damaged: u64,
}

pub(in crate::command) fn run(
    arguments: &Arguments,
    import: &ImportArguments,
    printer: &mut Printer,
) -> Outcome {
    let unreadable = |error: std::io::Error| unreadable(&import.file, &error);
    let verifying = Progress::begin("verifying the export".to_owned(), None);
    let summary = ExportReader::verify(&import.file).map_err(unreadable)?;
    drop(verifying);
    let (cache, is_created) = target(arguments, import)?;
    let mut imported = Imported {
        cache: cache.name.clone(),
        path: cache.path.display().to_string(),
        file: import.file.display().to_string(),
        is_dry_run: import.change.dry_run,
        is_created,
        ..Imported::default()
    };
    if import.change.dry_run {
        (imported.entries, imported.bytes) = (summary.disk + summary.file, summary.bytes);
    } else {
        if is_created {
            create(&cache, &summary)?;
        }
        super::remove::refuse_void(&cache)?;
        let reader = ExportReader::open(&import.file).map_err(unreadable)?;
        let frames = summary.disk + summary.file + summary.dictionaries;
        let progress = Progress::begin("importing".to_owned(), Some(frames));
        source::changing(&cache, |open| import_all(reader, open, import, &progress, &mut imported))?;
    }
    if printer.is_json() {
        printer.json("larder.import.v1", &imported)?;
    } else {
        print(&imported, &cache.label(), printer)?;
    }
    Ok(if imported.damaged > 0 { Exit::Problems } else { Exit::Done })
}

/// The cache to import into, and whether it has to be created.
fn target(arguments: &Arguments, import: &ImportArguments) -> Outcome<(CacheDirectory, bool)> {
    let missing = match catalog::only(arguments) {
        Ok(cache) => return Ok((cache, false)),
        Err(failure) if failure.code() == Exit::NotFound && import.create => failure,
        Err(failure) => return Err(failure),
    };
    let Some(name) = &arguments.cache else { return Err(missing) };
    let folder = catalog::folder(arguments)?;
    if arguments.dir.is_some() {
        return Ok((CacheDirectory::new_in(&folder, None, name), true));
    }
    let Some((program, name)) = name.split_once('/') else {
        return Err(Failure::argument("--cache", name, "PROGRAM/NAME, or a folder as --dir"));
    };
    Ok((CacheDirectory::new_in(&folder, Some(program), name), true))
}

/// Creates the directory of a cache, with an empty invalidation log and the tiers that the export needs.
fn create(cache: &CacheDirectory, summary: &ExportSummary) -> Outcome<()> {
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

fn import_all(
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

/// Stores a frame whole. The checksums of chunks are dropped: only streams have them.
fn put(tier: &dyn Tier, frame: &FrameHead, body: impl Read) -> Outcome<bool> {
    let mut payload = Vec::new();
    body.take(frame.payload.len).read_to_end(&mut payload)?;
    if xxh3_64(&payload) != frame.payload.sum {
        return Ok(false);
    }
    let whole = Frame::new(&frame.header, &frame.key, &frame.attributes, payload.into());
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

fn print(imported: &Imported, label: &str, printer: &mut Printer) -> Outcome<()> {
    let verb = if imported.is_dry_run { "would import" } else { "imported" };
    let entries = printer::count(imported.entries, "entry", "entries");
    let created = if imported.is_created { ", a new cache" } else { "" };
    printer.line(&format!("{label}{created}: {verb} {entries}, {}", printer::bytes(imported.bytes)))?;
    for (count, what) in [
        (imported.kept, "the cache has them already; `--replace` replaces them"),
        (imported.expired, "their time is over"),
        (imported.damaged, "damaged"),
    ] {
        if count > 0 {
            printer.line(&format!("{} left out: {what}", printer::count(count, "entry", "entries")))?;
        }
    }
    Ok(())
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    let why = match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "the export is truncated".to_owned(),
        _ => error.to_string(),
    };
    Failure::new(Exit::Failed, format!("{}: {why}", path.display()))
}
