//! `larder du`: the bytes by tier, kind, tag, age or state.

use std::collections::BTreeMap;

use clap::ValueEnum;
use larder_core::clock::Time;
use serde::Serialize;

use super::each_cache;
use crate::args::{Arguments, DuArguments, SumBy};
use crate::entry::EntryRecord;
use crate::exit::{Exit, Outcome};
use crate::printer::{self, Age, Printer, TextTable, escaped_line};

/// The groups of one cache: each by its rank, where they have an order, and its name.
type Groups = BTreeMap<(Option<Age>, String), Share>;

#[derive(Default)]
struct Share {
    entries: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct ShareDocument {
    group: String,
    entries: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct CacheShares {
    name: String,
    program: Option<String>,
    path: String,
    is_partial: bool,
    entries: u64,
    bytes: u64,
    groups: Vec<ShareDocument>,
}

#[derive(Serialize)]
struct AllShares {
    by: String,
    caches: Vec<CacheShares>,
}

pub(super) fn run(arguments: &Arguments, du: &DuArguments, printer: &mut Printer) -> Outcome {
    let mut caches = Vec::new();
    let exit = each_cache(arguments, |cache, open| {
        let (mut groups, mut total) = (Groups::new(), Share::default());
        open.each(|entry| {
            if du.filter.accepts(&entry, open.now) {
                total.add(&entry);
                names(&entry, du.by, open.now).for_each(|name| groups.entry(name).or_default().add(&entry));
            }
        })?;
        if !printer.is_json() {
            printer.line(&cache.label())?;
            printer.table(&table(&groups, &total))?;
            printer.line("")?;
        }
        caches.push(CacheShares {
            name: cache.name.clone(),
            program: cache.program.clone(),
            path: cache.path.display().to_string(),
            is_partial: open.is_partial,
            entries: total.entries,
            bytes: total.bytes,
            groups: groups.into_iter().map(|((_, group), share)| share.document(group)).collect(),
        });
        Ok(Exit::Done)
    })?;
    if printer.is_json() {
        let by = du.by.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        printer.json("larder.du.v1", &AllShares { by, caches })?;
    }
    Ok(exit)
}

impl Share {
    fn add(&mut self, entry: &EntryRecord) {
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(entry.bytes);
    }

    fn document(&self, group: String) -> ShareDocument {
        ShareDocument { group, entries: self.entries, bytes: self.bytes }
    }
}

/// The groups of an entry.
fn names(entry: &EntryRecord, by: SumBy, now: Time) -> impl Iterator<Item = (Option<Age>, String)> {
    let one = |name: &str| vec![(None, name.to_owned())];
    let groups = match by {
        SumBy::Tier => one(entry.tier.name()),
        SumBy::Kind => one(entry.header.kind.name()),
        SumBy::State => one(entry.state.name()),
        SumBy::Age => {
            let age = Age::of(now.since(entry.header.created));
            vec![(Some(age), age.name().to_owned())]
        }
        SumBy::Tag if entry.meta.tags.is_empty() => one("(no tag)"),
        SumBy::Tag => entry.meta.tags.iter().map(|tag| (None, tag.to_string())).collect(),
    };
    groups.into_iter()
}

fn table(groups: &Groups, total: &Share) -> TextTable {
    let mut table = TextTable::new(&["BYTES", "ENTRIES", "SHARE", ""], &[0, 1, 2]);
    let mut rows: Vec<_> = groups.iter().collect();
    // Ages stay in their order; of the others the largest comes first.
    rows.sort_by_key(|((age, _), share)| (*age, std::cmp::Reverse(share.bytes)));
    let row = |name: &str, share: &Share| {
        let percent = if total.bytes == 0 { 0.0 } else { share.bytes as f64 / total.bytes as f64 * 100.0 };
        [
            printer::bytes(share.bytes),
            share.entries.to_string(),
            format!("{percent:.1} %"),
            escaped_line(name),
        ]
    };
    rows.into_iter().for_each(|((_, name), share)| table.row(row(name, share)));
    table.row(row("all", total));
    table
}
