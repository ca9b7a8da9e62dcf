//! `larder tag`: the tags with their entries, or the keys of one tag.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use larder_core::frame::CodecId;
use serde::Serialize;

use super::{CacheHead, each_cache, keys};
use crate::args::{Arguments, Filter, KeysArguments, SortBy, TagArguments};
use crate::entry::{EntryRecord, EntryState};
use crate::exit::{Exit, Failure, Outcome};
use crate::printer::{self, Printer, TextTable, escaped_line};

/// The entries of one tag.
#[derive(Default)]
struct Tagged {
    entries: u64,
    fresh: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct TagDocument {
    tag: String,
    entries: u64,
    fresh: u64,
    frame_bytes: u64,
}

#[derive(Serialize)]
struct CacheTags {
    #[serde(flatten)]
    head: CacheHead,
    matched: usize,
    untagged: u64,
    sealed: u64,
    tags: Vec<TagDocument>,
}

#[derive(Serialize)]
struct Tags {
    caches: Vec<CacheTags>,
}

/// What a cache has.
#[derive(Default)]
struct Counted {
    tags: BTreeMap<String, Tagged>,
    untagged: u64,
    /// Entries whose tags are sealed.
    sealed: u64,
}

pub(super) fn run(arguments: &Arguments, tag: &TagArguments, printer: &mut Printer) -> Outcome {
    match &tag.name {
        Some(name) => keys_of(arguments, name, tag.limit, printer),
        None => all(arguments, tag.limit, printer),
    }
}

/// Lists the keys of one tag, as `keys --tag` does.
fn keys_of(arguments: &Arguments, name: &str, limit: usize, printer: &mut Printer) -> Outcome {
    let filter = Filter { tag: vec![name.to_owned()], ..Filter::default() };
    let (exit, found) = keys::list(arguments, &KeysArguments { filter, sort: SortBy::Key, limit }, printer)?;
    if found == 0 {
        printer::to_stderr(&format!("larder: no entry has the tag {}", escaped_line(name)));
        return Ok(exit.or(Exit::NotFound));
    }
    Ok(exit)
}

fn all(arguments: &Arguments, limit: usize, printer: &mut Printer) -> Outcome {
    let mut caches = Vec::new();
    let exit = each_cache(arguments, |cache, open| {
        let mut counted = Counted::default();
        open.each(|entry| counted.add(&entry))?;
        let matched = counted.tags.len();
        let limit = if limit == 0 { matched } else { limit };
        let document = CacheTags {
            head: CacheHead::of(cache, open),
            matched,
            untagged: counted.untagged,
            sealed: counted.sealed,
            tags: counted.documents(limit),
        };
        if printer.is_json() {
            caches.push(document);
        } else {
            print(&cache.label(), &document, printer)?;
        }
        Ok(Exit::Done)
    })?;
    if printer.is_json() {
        printer.json("larder.tag.v1", &Tags { caches })?;
    }
    Ok(exit)
}

impl Counted {
    fn add(&mut self, entry: &EntryRecord) {
        if entry.header.codec == CodecId::Sealed {
            self.sealed += 1;
        } else if entry.meta.tags.is_empty() {
            self.untagged += 1;
        }
        for tag in &entry.meta.tags {
            let tagged = self.tags.entry(tag.to_string()).or_default();
            tagged.entries += 1;
            tagged.fresh += u64::from(entry.state == EntryState::Fresh);
            tagged.bytes = tagged.bytes.saturating_add(entry.bytes);
        }
    }

    /// The first `limit` tags, those with the most entries first.
    fn documents(self, limit: usize) -> Vec<TagDocument> {
        let mut tags: Vec<_> = self.tags.into_iter().collect();
        tags.sort_by_key(|(_, tagged)| Reverse(tagged.entries));
        let document =
            |(tag, Tagged { entries, fresh, bytes })| TagDocument { tag, entries, fresh, frame_bytes: bytes };
        tags.into_iter().take(limit).map(document).collect()
    }
}

fn print(label: &str, cache: &CacheTags, printer: &mut Printer) -> Result<(), Failure> {
    let untagged = printer::count(cache.untagged, "entry without a tag", "entries without a tag");
    let tags = printer::count(cache.matched as u64, "tag", "tags");
    printer.line(&format!("{label}: {tags}, {untagged}"))?;
    if cache.sealed > 0 {
        let sealed = printer::count(cache.sealed, "entry is", "entries are");
        printer.line(&format!("{sealed} sealed: their tags cannot be read"))?;
    }
    if !cache.tags.is_empty() {
        let mut table = TextTable::new(&["ENTRIES", "FRESH", "BYTES", "TAG"], &[0, 1, 2]);
        for TagDocument { tag, entries, fresh, frame_bytes } in &cache.tags {
            let bytes = printer::bytes(*frame_bytes);
            table.row([entries.to_string(), fresh.to_string(), bytes, escaped_line(tag)]);
        }
        printer.table(&table)?;
    }
    if cache.matched > cache.tags.len() {
        let more = cache.matched - cache.tags.len();
        printer.line(&format!("… and {more} more; `--limit 0` prints all"))?;
    }
    printer.line("")
}
