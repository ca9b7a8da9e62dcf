//! `larder check`: verifies every entry, and with `--fix` removes damaged ones.

use larder_core::hot_keys::HotKeyList;
use larder_tiers::FileHotKeys;
use serde::Serialize;

use super::{each_cache, tell};
use crate::args::{Arguments, CheckArguments};
use crate::catalog::{self, CacheDirectory};
use crate::exit::{Exit, Outcome};
use crate::printer::{self, Printer};
use crate::source::{self, OpenCache};

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
        let (checked, exit) = source::changing(&cache, |open| {
            tell(&cache, &open.notes);
            let mut checked = checked(&cache, open)?;
            checked.removed = checked.tiers.iter().map(|tier| tier.damaged).sum();
            Ok((checked, Exit::Done))
        })?;
        caches.push(checked);
        exit
    } else {
        each_cache(arguments, |cache, open| {
            let checked = checked(cache, open)?;
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

fn checked(cache: &CacheDirectory, open: &OpenCache) -> Outcome<CheckedCache> {
    let mut problems: Vec<String> = open.notes.clone();
    let mut tiers = Vec::new();
    for tier in &open.tiers {
        let found = tier.check()?;
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
    Ok(CheckedCache { name, program, path, is_partial: open.is_partial, tiers, problems, removed: 0 })
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
