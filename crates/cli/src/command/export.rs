//! `larder export`: writes entries into one file.

use std::path::Path;

use larder_core::key::EncodedKey;
use serde::Serialize;

use crate::args::{Arguments, ExportArguments};
use crate::catalog;
use crate::entry::{EntryRecord, EntryState};
use crate::exit::{Exit, Failure, Outcome};
use crate::printer::{self, Printer, Progress};
use crate::source::{self, OpenCache, OpenTier};
use crate::transfer::ExportWriter;

#[derive(Serialize)]
struct Exported {
    cache: String,
    file: String,
    entries: u64,
    file_bytes: u64,
    /// Entries that were removed meanwhile, or that are damaged.
    left_out: u64,
}

pub(super) fn run(arguments: &Arguments, export: &ExportArguments, printer: &mut Printer) -> Outcome {
    let path = export.file.as_path();
    if path.is_dir() {
        return Err(Failure::argument("FILE", path.display(), "a file: this is a directory"));
    }
    if path.exists() && !export.force {
        return Err(Failure::argument("FILE", path.display(), "a file that does not exist, or --force"));
    }
    let cache = catalog::only(arguments)?;
    let open = source::reading(&cache)?;
    super::tell(&cache, &open.notes);
    if open.is_partial {
        return Err(super::change::remove::in_use(&cache));
    }
    let mut wanted = Vec::new();
    open.each(|entry| {
        let is_served = matches!(entry.state, EntryState::Fresh | EntryState::Stale);
        if is_served && export.filter.accepts(&entry, open.now) {
            wanted.push(entry);
        }
    })?;
    let mut writer = ExportWriter::create(path).map_err(|error| unwritable(path, &error))?;
    let progress = Progress::begin("writing the export".to_owned(), Some(wanted.len() as u64));
    let mut entries = 0;
    for entry in &wanted {
        entries += u64::from(append(&mut writer, &open, entry, path)?);
        progress.step();
    }
    // What the entries need to be read. It is not counted.
    for dictionary in &open.dictionaries()? {
        append(&mut writer, &open, dictionary, path)?;
    }
    drop(progress);
    let file_bytes = writer.finish(path).map_err(|error| unwritable(path, &error))?;
    let left_out = wanted.len() as u64 - entries;
    let file = path.display().to_string();
    let exported = Exported { cache: cache.name.clone(), file, entries, file_bytes, left_out };
    if printer.is_json() {
        printer.json("larder.export.v1", &exported)?;
    } else {
        let place = printer::escaped_line(&exported.file);
        let (entries, bytes) = (printer::count(entries, "entry", "entries"), printer::bytes(file_bytes));
        printer.line(&format!("{}: exported {entries} to {place}, {bytes}", cache.label()))?;
        if left_out > 0 {
            let entries = printer::count(left_out, "entry was", "entries were");
            printer.line(&format!("{entries} left out: damaged, or removed meanwhile"))?;
        }
    }
    Ok(Exit::Done)
}

/// Appends the frame of an entry. Returns false if there is none, or if it has not the length that its head
/// names.
fn append(writer: &mut ExportWriter, open: &OpenCache, entry: &EntryRecord, path: &Path) -> Outcome<bool> {
    let written = match open.tiers.iter().find(|tier| tier.kind() == entry.tier) {
        Some(OpenTier::Reader(files)) => {
            let stored = files.open_entry(&EncodedKey::new(entry.key.as_slice()))?;
            let Some(stored) = stored.filter(|stored| stored.len == entry.bytes) else { return Ok(false) };
            writer.append(entry.tier, stored.len, stored.medium)
        }
        _ => {
            let frame = open.frame(entry)?;
            let Some(frame) = frame.filter(|frame| frame.len() as u64 == entry.bytes) else {
                return Ok(false);
            };
            writer.append(entry.tier, entry.bytes, &frame[..])
        }
    };
    written.map(|()| true).map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("{}: {error}", path.display()))
}
