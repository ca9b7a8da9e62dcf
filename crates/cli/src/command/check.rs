//! `larder check`: verifies every entry, and with `--fix` removes damaged ones.

use larder_core::hot_keys::HotKeyList;
use larder_tiers::FileHotKeys;
use larder_tiers::redis::DamagedEntry;
use serde::Serialize;

use super::{each_cache, tell};
use crate::args::{Arguments, CheckArguments};
use crate::catalog::{self, CacheDirectory};
use crate::entry::KeyText;
use crate::exit::{Exit, Outcome};
use crate::printer::{self, Printer};
use crate::source::{self, OpenCache};

/// The most damaged entries of a tier that are named.
const NAMED_MAX: u64 = 1000;

#[derive(Serialize)]
struct CheckedTier {
    tier: &'static str,
    whole: u64,
    damaged: u64,
}

#[derive(Serialize)]
struct CheckedCache {
    name: String,
    program: Option<String>,
    path: String,
    is_partial: bool,
    tiers: Vec<CheckedTier>,
    problems: Vec<String>,
    removed: u64,
}

#[derive(Serialize)]
struct AllChecked {
    is_fixed: bool,
    caches: Vec<CheckedCache>,
}

pub(super) fn run(arguments: &Arguments, check: &CheckArguments, printer: &mut Printer) -> Outcome {
    let mut caches = Vec::new();
    let exit = if check.fix {
        let cache = catalog::only(arguments)?;
        let fix = |open: &OpenCache| {
            tell(&cache, &open.notes);
            checked(&cache, open, true)
        };
        caches.push(if cache.server.is_some() {
            fix(&source::reading(&cache)?)?
        } else {
            source::changing(&cache, fix)?
        });
        let stayed = caches.iter().any(|cache| cache.removed < cache.damaged());
        if stayed { Exit::Problems } else { Exit::Done }
    } else {
        each_cache(arguments, |cache, open| {
            let checked = checked(cache, open, false)?;
            let is_damaged = !checked.problems.is_empty();
            caches.push(checked);
            Ok(if is_damaged { Exit::Problems } else { Exit::Done })
        })?
    };
    if printer.is_json() {
        printer.json("larder.check.v1", &AllChecked { is_fixed: check.fix, caches })?;
    } else {
        caches.iter().try_for_each(|cache| print(cache, printer))?;
    }
    Ok(exit)
}

impl CheckedCache {
    fn damaged(&self) -> u64 {
        self.tiers.iter().map(|tier| tier.damaged).sum()
    }
}

fn checked(cache: &CacheDirectory, open: &OpenCache, fix: bool) -> Outcome<CheckedCache> {
    let mut problems: Vec<String> = open.notes.clone();
    let (mut tiers, mut stayed) = (Vec::new(), 0);
    for tier in &open.tiers {
        let mut named = 0;
        let found = tier.check(fix, &mut |entry| {
            named += 1;
            stayed += u64::from(!entry.is_removed);
            if named <= NAMED_MAX {
                problems.push(described(&entry, fix));
            }
        })?;
        let name = tier.kind().name();
        if found.damaged > 0 {
            let entries = printer::count(found.damaged, "entry is", "entries are");
            problems.push(format!("{entries} damaged in the {name} tier"));
        }
        tiers.push(CheckedTier { tier: name, whole: found.whole, damaged: found.damaged });
    }
    let list = cache.path.join("hot");
    if list.exists()
        && std::fs::metadata(&list).is_ok_and(|found| found.len() > 16)
        && FileHotKeys::new(&cache.path).read().is_empty()
    {
        problems.push("the list of the hottest keys is damaged: a restart reads no entry ahead".to_owned());
    }
    let (name, program) = (cache.name.clone(), cache.program.clone());
    let path = cache.path.display().to_string();
    let checked =
        CheckedCache { name, program, path, is_partial: open.is_partial, tiers, problems, removed: 0 };
    // A directory that is open for a change keeps none.
    let removed = if fix { checked.damaged() - stayed } else { 0 };
    Ok(CheckedCache { removed, ..checked })
}

/// Names a damaged entry of a server, and says what is wrong with it.
fn described(entry: &DamagedEntry, fix: bool) -> String {
    let key = entry.key.as_ref().map(|key| KeyText::of(key.as_bytes()).text);
    let key = key.unwrap_or_else(|| format!("the key with the digest in {}", entry.name));
    let changed = if fix && !entry.is_removed { "; it changed meanwhile and stays" } else { "" };
    format!("{key}: {}{changed}", entry.error)
}

fn print(cache: &CheckedCache, printer: &mut Printer) -> Outcome<()> {
    let name = printer::escaped_line(&cache.path);
    for CheckedTier { tier, whole, damaged } in &cache.tiers {
        let entries = printer::count(*whole, "whole entry", "whole entries");
        printer.line(&format!("{name}: {tier} tier: {entries}, {damaged} damaged"))?;
    }
    for problem in &cache.problems {
        printer.line(&format!("{name}: {}", printer::escaped_line(problem)))?;
    }
    if cache.removed > 0 {
        let entries = printer::count(cache.removed, "damaged entry", "damaged entries");
        printer.line(&format!("{name}: removed {entries}"))?;
    }
    Ok(())
}
