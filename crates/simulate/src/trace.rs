//! Reads traces of requests.
//!
//! Three forms are read, each also compressed with zstd:
//!
//! - `lis`, the block accesses that the authors of ARC published (Megiddo and Modha, USENIX FAST 03). A line
//!   is `START COUNT IGNORED REQUEST` and asks for the blocks `START` to `START + COUNT - 1` in turn.
//! - `trace`, what the option `record_trace` of a cache recorded.
//! - CSV: a row is a request. One column is the key, of any text; another one may be the size in bytes.
//!
//! No length in a file is trusted: a trace is cut at a number of requests.

use std::fs::File;
use std::hash::BuildHasher;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use hashbrown::HashMap;
use larder::{Error, ErrorKind, Result};

use crate::Workload;

/// The most requests that can be replayed.
pub const REQUESTS_MAX: usize = u32::MAX as usize - 1;

/// The longest line that is read, in bytes.
const LINE_MAX: u64 = 1 << 20;

/// The form of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceFormat {
    /// Block accesses, as the authors of ARC published them.
    Lis,
    /// Rows of columns.
    Csv,
    /// What `record_trace` recorded.
    Recorded,
}

/// How a trace is read.
#[derive(Clone, Debug)]
pub struct TraceOptions {
    /// The form; `None` to take it from the name of the file.
    pub format: Option<TraceFormat>,
    /// The column of the key in CSV: its name, or its number from 1. Default: the column named `key`, or the
    /// first one.
    pub key: Option<String>,
    /// The column of the size in bytes in CSV. Default: none, each entry counts as one.
    pub size: Option<String>,
    /// The requests after which the rest is left out.
    pub requests_max: usize,
}

impl Default for TraceOptions {
    fn default() -> Self {
        Self { format: None, key: None, size: None, requests_max: REQUESTS_MAX }
    }
}

/// Reads a trace. The name of the workload is that of the file without its endings.
///
/// # Errors
/// A file that cannot be read, a line that cannot be parsed, each with its file; a form that the name of the
/// file does not tell; a column that there is not.
pub fn read(path: &Path, options: &TraceOptions) -> Result<Workload> {
    let format = match options.format {
        Some(format) => format,
        None => format_of(path)?,
    };
    let is_packed = path.extension().is_some_and(|end| end == "zst");
    let file = File::open(path).map_err(|error| unreadable(path, error))?;
    let lines: Box<dyn Read> = match is_packed {
        true => Box::new(zstd::Decoder::new(file).map_err(|error| unreadable(path, error))?),
        false => Box::new(file),
    };
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = name.split('.').next().unwrap_or_default().to_owned();
    let max = options.requests_max.min(REQUESTS_MAX);
    match format {
        TraceFormat::Lis => {
            let keys = lis(path, BufReader::new(lines), max)?;
            Ok(Workload::new(&name, "a trace of block accesses".to_owned(), keys))
        }
        TraceFormat::Csv => rows(path, lines, options, max).map(|rows| rows.workload(&name)),
        TraceFormat::Recorded => {
            let (hashes, share) =
                recorded(BufReader::new(lines), max).map_err(|error| unreadable(path, error))?;
            Ok(Workload::new(&name, "the recorded look-ups of a cache".to_owned(), hashes).sampled(share))
        }
    }
}

/// The form that the name of a file tells.
fn format_of(path: &Path) -> Result<TraceFormat> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    match name.strip_suffix(".zst").unwrap_or(&name).rsplit('.').next() {
        Some("lis") => Ok(TraceFormat::Lis),
        Some("csv") => Ok(TraceFormat::Csv),
        Some("trace") => Ok(TraceFormat::Recorded),
        _ => Err(Error::config(
            "format",
            path.display(),
            "a name that ends in .trace, .lis or .csv, with or without .zst",
        )),
    }
}

/// How a recorded trace begins.
const RECORDED: [u8; 8] = *b"LRDT\x01\0\0\0";

/// The hashes of a recorded trace, and the share of the keys that it has. A record that is cut off at the end is
/// left out: the process was killed.
fn recorded(mut trace: impl Read, max: usize) -> std::io::Result<(Vec<u64>, f64)> {
    let mut word = [0; 8];
    trace.read_exact(&mut word)?;
    if word != RECORDED {
        return Err(std::io::Error::other(
            "not a trace that `record_trace` recorded, or one of a later version",
        ));
    }
    trace.read_exact(&mut word)?;
    let share = (u64::from_le_bytes(word) as f64 / u64::MAX as f64).max(f64::MIN_POSITIVE);
    let mut hashes = Vec::new();
    while hashes.len() < max {
        match trace.read_exact(&mut word) {
            Ok(()) => hashes.push(u64::from_le_bytes(word)),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        }
    }
    Ok((hashes, share))
}

fn lis(path: &Path, mut lines: impl BufRead, max: usize) -> Result<Vec<u64>> {
    let (mut keys, mut line, mut number) = (Vec::new(), String::new(), 0);
    while keys.len() < max {
        line.clear();
        number += 1;
        let read =
            (&mut lines).take(LINE_MAX).read_line(&mut line).map_err(|error| unreadable(path, error))?;
        if read == 0 {
            break;
        }
        let line = line.trim_end();
        let bad = || format!("line {number}: `{}` is not START COUNT IGNORED REQUEST", shortened(line));
        let blocks = blocks(line).ok_or_else(|| unreadable(path, bad()))?;
        keys.extend(blocks.take(max - keys.len()));
    }
    Ok(keys)
}

/// The blocks that a line asks for.
fn blocks(line: &str) -> Option<std::ops::Range<u64>> {
    let mut numbers = line.split_ascii_whitespace();
    let start: u64 = numbers.next()?.parse().ok()?;
    let count: u64 = numbers.next()?.parse().ok()?;
    Some(start..start.checked_add(count)?)
}

/// The rows of a CSV: the key and the size of each.
struct Rows {
    keys: Vec<u64>,
    /// The last size of each key; `None` without a column of sizes.
    sizes: Option<HashMap<u64, u32, foldhash::fast::FixedState>>,
}

impl Rows {
    fn workload(self, name: &str) -> Workload {
        let Some(sizes) = self.sizes else {
            return Workload::new(name, "a trace of requests".to_owned(), self.keys);
        };
        let mut order = Vec::new();
        let mut seen = hashbrown::HashSet::with_hasher(foldhash::fast::FixedState::default());
        order.extend(self.keys.iter().copied().filter(|key| seen.insert(*key)));
        let workload = Workload::new(name, "a trace of requests with sizes".to_owned(), self.keys);
        workload.weighed(|key| order.get(key as usize).and_then(|key| sizes.get(key)).copied().unwrap_or(1))
    }
}

fn rows(path: &Path, lines: impl Read, options: &TraceOptions, max: usize) -> Result<Rows> {
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).trim(csv::Trim::All).from_reader(lines);
    let mut row = csv::ByteRecord::new();
    let mut next =
        |row: &mut csv::ByteRecord| reader.read_byte_record(row).map_err(|error| unreadable(path, error));
    let mut rows = Rows { keys: Vec::new(), sizes: options.size.as_ref().map(|_| HashMap::default()) };
    if !next(&mut row)? {
        return Ok(rows);
    }
    let columns = Columns::of(&row, options)?;
    let mut is_there = !columns.is_named || next(&mut row)?;
    // A fixed hash: the same text is the same key in every run.
    let hash = foldhash::fast::FixedState::default();
    let mut number = 1 + usize::from(columns.is_named);
    while is_there && rows.keys.len() < max {
        let column = |at: usize, what: &str| {
            let missing =
                || unreadable(path, format!("row {number}: there is no column {} for the {what}", at + 1));
            row.get(at).ok_or_else(missing)
        };
        let key = hash.hash_one(column(columns.key, "key")?);
        if let (Some(at), Some(sizes)) = (columns.size, &mut rows.sizes) {
            let text = column(at, "size")?;
            let size = std::str::from_utf8(text)
                .ok()
                .and_then(|text| text.parse::<f64>().ok())
                .filter(|size| *size >= 0.0);
            let bad = || {
                let text = String::from_utf8_lossy(text);
                unreadable(path, format!("row {number}: `{}` is no size in bytes", shortened(&text)))
            };
            sizes.insert(key, (size.ok_or_else(bad)? as u32).max(1));
        }
        rows.keys.push(key);
        number += 1;
        is_there = next(&mut row)?;
    }
    Ok(rows)
}

/// Where key and size stand in a row.
struct Columns {
    /// Whether the first row has the names of the columns.
    is_named: bool,
    key: usize,
    size: Option<usize>,
}

impl Columns {
    fn of(first: &csv::ByteRecord, options: &TraceOptions) -> Result<Self> {
        let named = |name: &str| first.iter().position(|cell| cell.eq_ignore_ascii_case(name.as_bytes()));
        let find = |option: &'static str, wanted: &str| match wanted.parse::<usize>() {
            Ok(number) if number > 0 => Ok((number - 1, false)),
            _ => named(wanted).map(|at| (at, true)).ok_or_else(|| {
                let names: Vec<_> =
                    first.iter().map(|cell| shortened(&String::from_utf8_lossy(cell))).collect();
                Error::config(
                    option,
                    format_args!("`{}`", shortened(wanted)),
                    format_args!("a number from 1, or one of {}", names.join(", ")),
                )
            }),
        };
        let (key, is_key_named) = match &options.key {
            Some(wanted) => find("key", wanted)?,
            None => named("key").map_or((0, false), |at| (at, true)),
        };
        let size = options.size.as_ref().map(|wanted| find("size", wanted)).transpose()?;
        let has_names = is_key_named || size.is_some_and(|(_, is_named)| is_named) || named("key").is_some();
        Ok(Self { is_named: has_names, key, size: size.map(|(at, _)| at) })
    }
}

/// The first characters of a line, for a message.
fn shortened(text: &str) -> String {
    text.chars().take(60).flat_map(char::escape_default).collect()
}

/// An error of a file, which is named.
fn unreadable(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Io, format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Weights;

    fn written(name: &str, text: &str, options: &TraceOptions) -> Result<Workload> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        let bytes = match name.ends_with(".zst") {
            true => zstd::encode_all(text.as_bytes(), 1).unwrap(),
            false => text.as_bytes().to_vec(),
        };
        std::fs::write(&path, bytes).unwrap();
        read(&path, options)
    }

    fn requests(name: &str, text: &str) -> Vec<u32> {
        written(name, text, &TraceOptions::default()).unwrap().requests
    }

    #[test]
    fn line_asks_for_its_blocks_in_turn() {
        assert_eq!(blocks("10 3 0 1"), Some(10..13));
        assert_eq!(blocks("10 0 0 1"), Some(10..10));
        assert_eq!(blocks("10"), None);
        assert_eq!(blocks("a 3 0 1"), None);
        assert_eq!(blocks("18446744073709551615 2 0 1"), None);
    }

    #[test]
    fn lis_is_read_plain_and_packed() {
        for name in ["good.lis", "good.lis.zst", "GOOD.LIS"] {
            assert_eq!(requests(name, "5 2 0 1\n6 2 0 2\n"), [0, 1, 1, 2], "{name}");
        }
    }

    #[test]
    fn csv_is_read_by_number_and_by_name_of_its_columns() {
        assert_eq!(requests("a.csv", "x,1\ny,2\nx,3\n"), [0, 1, 0]);
        assert_eq!(requests("a.csv.zst", "op,key,size\nget,x,10\nget,y,20\nget,x,30\n"), [0, 1, 0]);
        let options =
            TraceOptions { key: Some("2".into()), size: Some("3".into()), ..TraceOptions::default() };
        let workload = written("twitter.csv", "0,k1,100\n1,k2,200\n2,k1,300\n", &options).unwrap();
        assert_eq!((&workload.requests[..], workload.name.as_str()), (&[0, 1, 0][..], "twitter"));
        assert!(matches!(&workload.weights, Weights::Bytes(bytes) if bytes == &[300, 200]));
        let options = TraceOptions { size: Some("size".into()), ..TraceOptions::default() };
        let workload = written("meta.csv", "key,op,size\na,get,0\nb,get,7\n", &options).unwrap();
        assert!(matches!(&workload.weights, Weights::Bytes(bytes) if bytes == &[1, 7]));
    }

    #[test]
    fn trace_is_cut_at_its_limit_whatever_a_line_claims() {
        let options = TraceOptions { requests_max: 5, ..TraceOptions::default() };
        assert_eq!(written("a.lis", "0 18446744073709551615 0 1\n", &options).unwrap().requests.len(), 5);
        assert_eq!(written("a.csv", &"x\n".repeat(100), &options).unwrap().requests.len(), 5);
        assert_eq!(requests("empty.lis", "").len(), 0);
        assert_eq!(requests("empty.csv", "").len(), 0);
    }

    #[test]
    fn recorded_trace_has_its_share_and_may_be_cut_off() {
        let bytes = |words: &[u64], rest: &[u8]| {
            let words = words.iter().flat_map(|word| word.to_le_bytes());
            RECORDED.into_iter().chain(words).chain(rest.iter().copied()).collect::<Vec<_>>()
        };
        let whole = recorded(&bytes(&[u64::MAX, 70, 7, 70], &[1, 2])[..], 100).unwrap();
        assert_eq!(whole, (vec![70, 7, 70], 1.0));
        let (hashes, share) = recorded(&bytes(&[u64::MAX >> 2, 7, 8, 9], &[])[..], 2).unwrap();
        assert_eq!((hashes, (share * 1000.0).round()), (vec![7, 8], 250.0));
        assert!(recorded(&bytes(&[0], &[])[..], 2).unwrap().1 > 0.0);
    }

    #[test]
    fn bad_input_is_named() {
        let sized = TraceOptions { size: Some("2".into()), ..TraceOptions::default() };
        let named = TraceOptions { key: Some("name".into()), ..TraceOptions::default() };
        let plain = TraceOptions::default();
        for (name, text, options, parts) in [
            ("bad.lis.zst", "5 2 0 1\nx\u{1b}\n", &plain, &["bad.lis.zst: line 2: `x\\u{1b}`"][..]),
            ("bad.csv", "a,1\nb,many\n", &sized, &["bad.csv: row 2", "`many`"]),
            ("bad.csv", "a,1\nb\n", &sized, &["row 2", "no column 2", "size"]),
            ("bad.csv", "a,1\n", &named, &["key", "`name`", "one of a, 1"]),
            ("bad.txt", "a\n", &plain, &["format", "bad.txt", ".lis or .csv"]),
            ("bad.trace", "LRDT\u{2}\0\0\0........", &plain, &["bad.trace", "a later version"]),
            ("bad.trace", "LRDT", &plain, &["bad.trace"]),
        ] {
            let error = written(name, text, options).unwrap_err().to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        }
        let error = read(Path::new("none.lis"), &plain).unwrap_err().to_string();
        assert!(error.contains("none.lis"), "{error}");
    }
}
