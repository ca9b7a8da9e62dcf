//! `larder import`: stores the entries of an export file in a cache.

mod directory;
mod server;

use std::io::Read;
use std::path::Path;

use larder_core::frame::Frame;
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use crate::args::{Arguments, ImportArguments};
use crate::catalog::{self, CacheDirectory};
use crate::exit::{Exit, Failure, Outcome};
use crate::printer::{self, Printer, Progress};
use crate::source;
use crate::transfer::{ExportReader, FrameHead};

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
    /// Entries of types that no version of the program on the server has, or whose frames do not tell it.
    foreign: u64,
    /// Entries that are too large for a server.
    too_large: u64,
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
        let reader = ExportReader::open(&import.file).map_err(unreadable)?;
        let frames = summary.disk + summary.file + summary.dictionaries;
        let progress = Progress::begin("importing".to_owned(), Some(frames));
        match &cache.server {
            Some(server) => server::import_all(reader, server, import, &progress, &mut imported)?,
            None => {
                if is_created {
                    directory::create(&cache, &summary)?;
                }
                super::remove::refuse_void(&cache)?;
                source::changing(&cache, |open| {
                    directory::import_all(reader, open, import, &progress, &mut imported)
                })?;
            }
        }
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
    if let Some(url) = &arguments.redis {
        return match arguments.namespace.as_deref().or_else(|| Some(name.split_once('/')?.0)) {
            Some(namespace) => {
                let name = name.strip_prefix(&format!("{namespace}/")).unwrap_or(name);
                Ok((CacheDirectory::new_on_server(url, namespace, name), true))
            }
            None => Err(Failure::argument("--cache", name, "NAMESPACE/NAME, or a --namespace")),
        };
    }
    let folder = catalog::folder(arguments)?;
    if arguments.dir.is_some() {
        return Ok((CacheDirectory::new_in(&folder, None, name), true));
    }
    let Some((program, name)) = name.split_once('/') else {
        return Err(Failure::argument("--cache", name, "PROGRAM/NAME, or a folder as --dir"));
    };
    Ok((CacheDirectory::new_in(&folder, Some(program), name), true))
}

/// Reads the rest of a frame. `None` if its payload does not have its checksum. The checksums of chunks are dropped:
/// only streams have them.
fn whole(frame: &FrameHead, body: impl Read) -> Outcome<Option<Frame>> {
    let mut payload = Vec::new();
    body.take(frame.payload.len).read_to_end(&mut payload)?;
    let is_whole = xxh3_64(&payload) == frame.payload.sum;
    Ok(is_whole.then(|| Frame::new(&frame.header, &frame.key, &frame.attributes, payload.into())))
}

fn print(imported: &Imported, label: &str, printer: &mut Printer) -> Outcome<()> {
    let verb = if imported.is_dry_run { "would import" } else { "imported" };
    let entries = printer::count(imported.entries, "entry", "entries");
    let created = if imported.is_created { ", a new cache" } else { "" };
    printer.line(&format!("{label}{created}: {verb} {entries}, {}", printer::bytes(imported.bytes)))?;
    for (count, what) in [
        (imported.kept, "the cache has them already; `--replace` replaces them"),
        (imported.expired, "their time is over"),
        (imported.foreign, "no version of the program on the server has their types for certain"),
        (imported.too_large, "too large for a server"),
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
