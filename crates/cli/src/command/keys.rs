//! `larder keys`: the keys, with the size, the age and the state of their entries.

use larder_core::clock::Time;
use serde::Serialize;

use super::{CacheHead, each_cache};
use crate::args::{Arguments, KeysArguments, SortBy};
use crate::entry::{EntryDocument, EntryRecord};
use crate::exit::{Exit, Outcome};
use crate::printer::{self, Printer, TextTable, escaped_line};

#[derive(Serialize)]
struct CacheKeys {
    #[serde(flatten)]
    head: CacheHead,
    matched: usize,
    entries: Vec<EntryDocument>,
}

#[derive(Serialize)]
struct Keys {
    caches: Vec<CacheKeys>,
}

pub(super) fn run(arguments: &Arguments, keys: &KeysArguments, printer: &mut Printer) -> Outcome {
    Ok(list(arguments, keys, printer)?.0)
}

/// Prints the keys, and returns how many there are.
pub(super) fn list(
    arguments: &Arguments,
    keys: &KeysArguments,
    printer: &mut Printer,
) -> Outcome<(Exit, usize)> {
    let (mut caches, mut all) = (Vec::new(), 0);
    let exit = each_cache(arguments, |cache, open| {
        let mut found = Vec::new();
        open.each(|entry| {
            if keys.filter.accepts(&entry, open.now) {
                found.push(entry);
            }
        })?;
        let matched = found.len();
        all += matched;
        let limit = if keys.limit == 0 { matched } else { keys.limit };
        let mut found = sorted(found, keys.sort);
        found.truncate(limit);
        if printer.is_json() {
            caches.push(CacheKeys {
                head: CacheHead::of(cache, open),
                matched,
                entries: found.iter().map(|entry| entry.document(open.now)).collect(),
            });
            return Ok(Exit::Done);
        }
        printer.line(&format!("{}: {}", cache.label(), printer::count(matched as u64, "key", "keys")))?;
        print(&found, open.now, printer)?;
        if matched > limit {
            printer.line(&format!("… and {} more; `--limit 0` prints all", matched - limit))?;
        }
        printer.line("")?;
        Ok(Exit::Done)
    })?;
    if printer.is_json() {
        printer.json("larder.keys.v1", &Keys { caches })?;
    }
    Ok((exit, all))
}

fn sorted(mut entries: Vec<EntryRecord>, by: SortBy) -> Vec<EntryRecord> {
    match by {
        SortBy::Key => entries.sort_by(|one, other| one.key.cmp(&other.key)),
        SortBy::Size => entries.sort_by_key(|entry| std::cmp::Reverse(entry.bytes)),
        SortBy::Age => entries.sort_by_key(|entry| entry.header.created),
        SortBy::Expiry => entries.sort_by_key(|entry| entry.meta.until()),
    }
    entries
}

fn print(entries: &[EntryRecord], now: Time, printer: &mut Printer) -> Outcome<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let mut table =
        TextTable::new(&["KEY", "TIER", "KIND", "SIZE", "AGE", "EXPIRES IN", "STATE", "TAGS"], &[3]);
    for entry in entries {
        let tags: Vec<String> = entry.meta.tags.iter().map(|tag| escaped_line(tag.as_str())).collect();
        table.row([
            entry.key_text().text,
            entry.tier.name().to_owned(),
            entry.header.kind.name().to_owned(),
            printer::bytes(entry.bytes),
            printer::ago(now, entry.header.created),
            entry.expiry(now),
            entry.state.name().to_owned(),
            tags.join(", "),
        ]);
    }
    printer.table(&table)
}
