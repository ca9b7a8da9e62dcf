//! `larder gc`: removes entries that no reader gets any more, and what ended processes left behind.

use std::fs;
use std::path::{Path, PathBuf};

use larder_tiers::DirLock;
use serde::Serialize;

use super::remove::{Removal, remove};
use crate::args::{Arguments, ChangeArguments};
use crate::catalog::{self, CacheDirectory};
use crate::entry::EntryState;
use crate::exit::{Exit, Outcome};
use crate::printer::{self, Printer};

#[derive(Serialize)]
struct Collected<'a> {
    caches: Vec<&'a Removal>,
}

pub(in crate::command) fn run(
    arguments: &Arguments,
    change: ChangeArguments,
    printer: &mut Printer,
) -> Outcome {
    let (mut exit, mut caches) = (Exit::Done, Vec::new());
    let found = catalog::chosen(arguments)?;
    for cache in found.iter().filter(|cache| !cache.is_private) {
        // A server removes expired entries itself, by its own clock.
        let is_over = |state| match state {
            EntryState::Expired => cache.server.is_none(),
            state => state == EntryState::Invalidated,
        };
        match remove(cache, change, |entry, _| is_over(entry.state)) {
            Ok(entries) => {
                let mut removal = Removal::of(cache, &entries, change.dry_run);
                removal.entries.clear();
                caches.push((cache, removal));
            }
            Err(failure) => {
                printer::to_stderr(&format!("larder: {}: {failure}", cache.label()));
                exit = exit.or(failure.code());
            }
        }
    }
    for cache in found.iter().filter(|cache| cache.is_private) {
        if let Some(directory) = orphaned(&cache.path, change.dry_run)? {
            let mut removal = Removal::of(cache, &[], change.dry_run);
            removal.directories.push(directory.display().to_string());
            caches.push((cache, removal));
        }
    }
    report(&caches, printer)?;
    Ok(exit)
}

fn report(caches: &[(&CacheDirectory, Removal)], printer: &mut Printer) -> Outcome<()> {
    if !printer.is_json() {
        return caches.iter().try_for_each(|(cache, removal)| removal.print(&cache.label(), printer));
    }
    printer.json("larder.gc.v1", &Collected { caches: caches.iter().map(|(_, removal)| removal).collect() })
}

/// Deletes a private directory whose process has ended. `None` if a process has it.
fn orphaned(path: &Path, is_dry_run: bool) -> Outcome<Option<PathBuf>> {
    let Some(_lock) = DirLock::of_orphan(path)? else { return Ok(None) };
    if !is_dry_run {
        fs::remove_dir_all(path)?;
    }
    Ok(Some(path.to_owned()))
}
