//! `larder stats`: what each cache holds.

use std::collections::BTreeMap;

use larder_core::clock::Time;
use serde::Serialize;

use super::{CacheHead, each_cache};
use crate::args::{Arguments, Filter};
use crate::entry::{EntryRecord, EntryState, codec};
use crate::exit::Outcome;
use crate::printer::{self, Printer, TextTable, escaped_line};

/// Sums over entries.
#[derive(Clone, Default, Serialize)]
struct Sums {
    entries: u64,
    frame_bytes: u64,
    stored_bytes: u64,
    value_bytes: u64,
}

impl Sums {
    fn add(&mut self, entry: &EntryRecord) {
        self.entries += 1;
        self.frame_bytes = self.frame_bytes.saturating_add(entry.bytes);
        self.stored_bytes = self.stored_bytes.saturating_add(entry.stored);
        self.value_bytes = self.value_bytes.saturating_add(entry.header.value_len);
    }
}

#[derive(Default, Serialize)]
struct CacheSums {
    #[serde(flatten)]
    head: CacheHead,
    total: Sums,
    tiers: BTreeMap<&'static str, Sums>,
    states: BTreeMap<&'static str, Sums>,
    codecs: BTreeMap<&'static str, Sums>,
    tags: usize,
    tagged_entries: u64,
    oldest: Option<String>,
    newest: Option<String>,
    largest_key: Option<String>,
    largest_bytes: u64,
    /// What the loads of all entries took together, as far as it was measured.
    load_cost_ms: u64,
    #[serde(skip)]
    seen_tags: std::collections::HashSet<String>,
    #[serde(skip)]
    created: Option<(Time, Time)>,
    #[serde(skip)]
    load_cost: std::time::Duration,
}

#[derive(Serialize)]
struct Statistics {
    caches: Vec<CacheSums>,
}

pub(super) fn run(arguments: &Arguments, filter: &Filter, printer: &mut Printer) -> Outcome {
    let mut caches = Vec::new();
    let exit = each_cache(arguments, |cache, open| {
        let mut sums = CacheSums { head: CacheHead::of(cache, open), ..CacheSums::default() };
        open.each(|entry| {
            if filter.accepts(&entry, open.now) {
                sums.add(&entry);
            }
        })?;
        sums.finish();
        if !printer.is_json() {
            sums.print(&cache.label(), open.now, printer)?;
        }
        caches.push(sums);
        Ok(crate::exit::Exit::Done)
    })?;
    if printer.is_json() {
        printer.json("larder.stats.v1", &Statistics { caches })?;
    }
    Ok(exit)
}

impl CacheSums {
    fn add(&mut self, entry: &EntryRecord) {
        self.total.add(entry);
        self.tiers.entry(entry.tier.name()).or_default().add(entry);
        self.states.entry(entry.state.name()).or_default().add(entry);
        self.codecs.entry(codec(entry.header.codec)).or_default().add(entry);
        self.tagged_entries += u64::from(!entry.meta.tags.is_empty());
        for tag in &entry.meta.tags {
            if !self.seen_tags.contains(tag.as_str()) {
                self.seen_tags.insert(tag.to_string());
            }
        }
        let created = entry.header.created;
        let (oldest, newest) = self.created.unwrap_or((created, created));
        self.created = Some((oldest.min(created), newest.max(created)));
        self.load_cost = self.load_cost.saturating_add(entry.header.load_cost.unwrap_or_default());
        if entry.bytes > self.largest_bytes {
            self.largest_bytes = entry.bytes;
            self.largest_key = Some(entry.key_text().text);
        }
    }

    fn finish(&mut self) {
        self.tags = self.seen_tags.len();
        self.load_cost_ms = crate::entry::millis(self.load_cost);
        (self.oldest, self.newest) =
            self.created.map(|(oldest, newest)| (printer::moment(oldest), printer::moment(newest))).unzip();
    }

    fn print(&self, label: &str, now: Time, printer: &mut Printer) -> Outcome<()> {
        printer.line(&format!("{label}  ({})", escaped_line(&self.head.path)))?;
        let mut table = TextTable::new(&["", "ENTRIES", "BYTES", "VALUES", "UNPACKED"], &[1, 2, 3, 4]);
        let mut row = |name: String, sums: &Sums| {
            let sizes = [sums.frame_bytes, sums.stored_bytes, sums.value_bytes].map(printer::bytes);
            table.row([name, sums.entries.to_string()].into_iter().chain(sizes));
        };
        row("all".to_owned(), &self.total);
        self.tiers.iter().for_each(|(name, sums)| row(format!("tier {name}"), sums));
        self.states.iter().for_each(|(name, sums)| row((*name).to_owned(), sums));
        self.codecs.iter().for_each(|(name, sums)| row(format!("codec {name}"), sums));
        printer.table(&table)?;
        if let Some((oldest, newest)) = self.created {
            let (oldest, newest) = (printer::ago(now, oldest), printer::ago(now, newest));
            printer.line(&format!("oldest {oldest}, newest {newest}"))?;
        }
        if let Some(key) = &self.largest_key {
            printer.line(&format!("largest {key}, {}", printer::bytes(self.largest_bytes)))?;
        }
        let entries = printer::count(self.tagged_entries, "entry", "entries");
        printer.line(&format!("{} in {entries}", printer::count(self.tags as u64, "tag", "tags")))?;
        if self.load_cost_ms > 0 {
            printer.line(&format!("loads of these entries took {}", printer::span(self.load_cost)))?;
        }
        let gone = [EntryState::Expired, EntryState::Invalidated].map(EntryState::name);
        let waste: u64 =
            gone.iter().filter_map(|name| self.states.get(name)).map(|sums| sums.frame_bytes).sum();
        if waste > 0 {
            printer.line(&format!("`larder gc` would remove {}", printer::bytes(waste)))?;
        }
        printer.line("")
    }
}
