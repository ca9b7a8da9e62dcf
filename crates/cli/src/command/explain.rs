//! `larder explain`: what a reader gets for a key, from which tier, and why.

use larder_core::clock::Time;
use larder_core::hot_keys::HotKeyList;
use larder_core::invalidation::Invalidation;
use larder_core::tier::TierKind;
use larder_tiers::FileHotKeys;
use serde::Serialize;

use super::{CacheHead, each_cache};
use crate::args::{Arguments, ExplainArguments};
use crate::catalog::CacheDirectory;
use crate::entry::{EntryDocument, EntryRecord, EntryState, StoredValue};
use crate::exit::{Exit, Failure, Outcome};
use crate::printer::{Printer, ago, escaped_line, moment, span};
use crate::source::OpenCache;

/// Maximum number of similar keys in the error for an absent key.
const SIMILAR_MAX: usize = 3;

/// The entry of the key in one tier.
#[derive(Serialize)]
struct Explained {
    tier: &'static str,
    is_damaged: bool,
    /// Why readers get it or not.
    reason: String,
    entry: EntryDocument,
}

#[derive(Serialize)]
struct CacheExplained {
    #[serde(skip)]
    label: String,
    #[serde(flatten)]
    head: CacheHead,
    /// The tier with the fresh entry. `null` if no tier has one; `reason` says whether a stale entry may serve.
    answer: Option<&'static str>,
    reason: String,
    /// The place of the key in the list of hot keys, from 1.
    hot_rank: Option<usize>,
    tiers: Vec<Explained>,
}

#[derive(Serialize)]
struct AllExplained {
    key: String,
    caches: Vec<CacheExplained>,
}

pub(super) fn run(arguments: &Arguments, explain: &ExplainArguments, printer: &mut Printer) -> Outcome {
    let (mut caches, mut similar) = (Vec::new(), Vec::new());
    let exit = each_cache(arguments, |cache, open| {
        let mut found = Vec::new();
        open.each(|entry| {
            let text = entry.key_text();
            if text.is(&explain.key) {
                found.push(entry);
            } else if similar.len() < SIMILAR_MAX && text.text.contains(&explain.key) {
                similar.push(text.text);
            }
        })?;
        if !found.is_empty() {
            caches.push(explained(cache, open, &found)?);
        }
        Ok(Exit::Done)
    })?;
    if caches.is_empty() && matches!(exit, Exit::Done | Exit::InUse) {
        return Err(absent(&explain.key, &similar, exit));
    }
    if printer.is_json() {
        printer.json("larder.explain.v1", &AllExplained { key: explain.key.clone(), caches })?;
    } else {
        caches.iter().try_for_each(|cache| print(cache, printer))?;
    }
    Ok(exit)
}

fn absent(key: &str, similar: &[String], exit: Exit) -> Failure {
    let mut message = format!("no cache has the key {}", escaped_line(key));
    if !similar.is_empty() {
        message += &format!("; similar keys: {}", similar.join(", "));
    }
    Failure::new(exit.or(Exit::NotFound), message)
}

fn explained(cache: &CacheDirectory, open: &OpenCache, found: &[EntryRecord]) -> Outcome<CacheExplained> {
    let (mut tiers, mut whole) = (Vec::new(), Vec::new());
    for entry in found {
        let Some(frame) = open.frame(entry)? else { continue };
        let damage = StoredValue::of(entry, &frame, open).err();
        let reason = match &damage {
            Some(failure) => failure.to_string(),
            None => reason(entry, open),
        };
        if damage.is_none() {
            whole.push(entry);
        }
        let (tier, is_damaged) = (entry.tier.name(), damage.is_some());
        tiers.push(Explained { tier, is_damaged, reason, entry: entry.document(open.now) });
    }
    let (answer, reason) = answer(&whole);
    Ok(CacheExplained {
        label: cache.label(),
        head: CacheHead::of(cache, open),
        answer: answer.map(TierKind::name),
        reason,
        hot_rank: found.first().and_then(|entry| hot_rank(cache, &entry.key)),
        tiers,
    })
}

/// Returns the tier that answers a read, and why. `entries` are the undamaged entries of one key, in the order in
/// which tiers are read.
fn answer(entries: &[&EntryRecord]) -> (Option<TierKind>, String) {
    let first = |state| entries.iter().find(|entry| entry.state == state).map(|entry| entry.tier);
    match (first(EntryState::Fresh), first(EntryState::Stale)) {
        (Some(tier), _) => (Some(tier), format!("a reader gets the entry of the {} tier", tier.name())),
        (None, Some(tier)) => {
            let when = "if its load fails or takes long, and nothing without a load";
            (None, format!("a reader gets the stale entry of the {} tier {when}", tier.name()))
        }
        (None, None) => (None, "a reader gets nothing, and loads the value".to_owned()),
    }
}

/// Why readers get an undamaged entry or not.
fn reason(entry: &EntryRecord, open: &OpenCache) -> String {
    let until = |time: Time| format!("{} (in {})", moment(time), span(time.since(open.now)));
    let (over, stale) = (entry.meta.until(), entry.meta.stale_until());
    match entry.state {
        EntryState::Fresh if over == Time::NEVER => "fresh: it does not expire".to_owned(),
        EntryState::Fresh => format!("fresh until {}", until(over)),
        EntryState::Stale => {
            let since = ago(open.now, over);
            format!("expired {since} ago, and may be served as stale until {}", until(stale))
        }
        // An entry that nodes share is left to the node that wrote it.
        EntryState::Expired if entry.tier == TierKind::Redis => {
            format!("expired {} ago; no reader gets it", ago(open.now, over))
        }
        EntryState::Expired => format!("expired {} ago; the next read removes it", ago(open.now, over)),
        EntryState::Invalidated => invalidated(entry, open),
    }
}

fn invalidated(entry: &EntryRecord, open: &OpenCache) -> String {
    let number = entry.header.generation;
    let Some((extent, later)) = open.invalidated.latest(number, &entry.meta.tags) else {
        return "invalidated".to_owned();
    };
    let by = match extent {
        Invalidation::Cleared => "`clear`".to_owned(),
        Invalidation::Tag(tag) => format!("`invalidate_tag`, with the tag {}", escaped_line(&tag)),
        _ => "`invalidate_all`".to_owned(),
    };
    format!("invalidated by {by}: its sequence number is {later}, that of the entry is {number}")
}

/// The place of a key in the list that a restart reads ahead, from 1.
fn hot_rank(cache: &CacheDirectory, key: &[u8]) -> Option<usize> {
    let is_here = cache.server.is_none();
    let place = is_here.then(|| FileHotKeys::new(&cache.path).read())?;
    place.iter().position(|hot| **hot == *key).map(|at| at + 1)
}

fn print(cache: &CacheExplained, printer: &mut Printer) -> Outcome<()> {
    printer.line(&format!("{}: {}", cache.label, cache.reason))?;
    for Explained { tier, reason, entry, .. } in &cache.tiers {
        printer.line(&format!("  {tier:<6}{}", escaped_line(reason)))?;
        printer.line(&format!("        {}", entry.facts()))?;
    }
    if let Some(rank) = cache.hot_rank {
        printer.line(&format!("  number {rank} of the hottest keys: a restart reads it into memory"))?;
    }
    if cache.head.is_partial {
        printer
            .line("  the disk tier is not shown: another process has it; `larder top` asks that process")?;
    }
    printer.line("")
}
