//! `larder show`: the entry of a key.

use serde::Serialize;
use serde_json::Value;

use super::each_cache;
use crate::args::{Arguments, ShowArguments};
use crate::entry::{EntryDocument, EntryRecord, StoredValue, codec, compression};
use crate::exit::{Exit, Failure, Outcome};
use crate::printer::{self, Printer, escaped_line, moment};
use crate::source::OpenCache;

#[derive(Serialize)]
struct Shown {
    cache: String,
    program: Option<String>,
    path: String,
    entry: EntryDocument,
    value: Value,
}

#[derive(Serialize)]
struct AllShown {
    entries: Vec<Shown>,
}

pub(super) fn run(arguments: &Arguments, show: &ShowArguments, printer: &mut Printer) -> Outcome {
    if show.raw && printer::is_terminal() {
        return Err(Failure::argument("--raw", "a terminal as the output", "a file or a pipe"));
    }
    let limit = if show.limit == 0 { usize::MAX } else { usize::try_from(show.limit).unwrap_or(usize::MAX) };
    let (mut entries, mut found) = (Vec::new(), 0_u64);
    let exit = each_cache(arguments, |cache, open| {
        for entry in matching(open, &show.key)? {
            let Some(frame) = open.frame(&entry)? else { continue };
            let value = StoredValue::of(&entry, &frame, open)?;
            found += 1;
            if show.raw {
                if found > 1 {
                    return Err(several(&show.key));
                }
                printer.raw(&value.bytes)?;
            } else if printer.is_json() {
                entries.push(Shown {
                    cache: cache.name.clone(),
                    program: cache.program.clone(),
                    path: cache.path.display().to_string(),
                    entry: entry.document(open.now),
                    value: value.json(limit),
                });
            } else {
                print(&cache.label(), &entry, open, printer)?;
                printer.line(&value.text(limit))?;
                printer.line("")?;
            }
        }
        Ok(Exit::Done)
    })?;
    if found == 0 && exit != Exit::Failed && exit != Exit::Problems {
        let message = format!("no cache has the key {}", escaped_line(&show.key));
        return Err(Failure::new(exit.or(Exit::NotFound), message));
    }
    if printer.is_json() {
        printer.json("larder.show.v1", &AllShown { entries })?;
    }
    Ok(exit)
}

/// The entries of a key, in each tier that has one.
fn matching(open: &OpenCache, key: &str) -> Outcome<Vec<EntryRecord>> {
    let mut found = Vec::new();
    open.each(|entry| {
        if entry.key_text().is(key) {
            found.push(entry);
        }
    })?;
    Ok(found)
}

fn several(key: &str) -> Failure {
    Failure::argument("--raw", key, "a key that only one cache has; --cache names it")
}

fn print(label: &str, entry: &EntryRecord, open: &OpenCache, printer: &mut Printer) -> Outcome<()> {
    let (header, now) = (&entry.header, open.now);
    let tags: Vec<String> = entry.meta.tags.iter().map(|tag| escaped_line(tag.as_str())).collect();
    let size = format!(
        "{}, of these {} value, {} unpacked",
        printer::bytes(entry.bytes),
        printer::bytes(entry.stored),
        printer::bytes(header.value_len)
    );
    let expires = match entry.meta.until() {
        larder_core::clock::Time::NEVER => "never".to_owned(),
        until => format!("{} ({})", moment(until), entry.expiry(now)),
    };
    let lines = [
        ("key", entry.key_text().text),
        ("cache", label.to_owned()),
        ("tier", entry.tier.name().to_owned()),
        ("state", entry.state.name().to_owned()),
        ("kind", header.kind.name().to_owned()),
        ("codec", format!("{}, compression {}", codec(header.codec), compression(header.compression))),
        ("size", size),
        ("written", format!("{} ({} ago)", moment(header.created), printer::ago(now, header.created))),
        ("expires", expires),
        ("load cost", header.load_cost.map_or_else(|| "not measured".to_owned(), printer::span)),
        ("version", header.schema.to_string()),
        ("tags", if tags.is_empty() { "none".to_owned() } else { tags.join(", ") }),
    ];
    for (name, text) in lines {
        printer.line(&format!("{name:<10}{text}"))?;
    }
    printer.line("")
}
