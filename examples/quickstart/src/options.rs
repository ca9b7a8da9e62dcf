//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use larder::{Error, ErrorKind, Result};

/// What `--help` prints.
pub(crate) const USAGE: &str = "\
Studies source text; every answer comes from a cache. Run it twice.

usage: quickstart [FOLDER] [--limit MIB] [--dir DIR] [--auto] [--clear]

  FOLDER       the text to study; default: the sources in the cargo registry,
               then /usr/include, /usr/share and /usr/lib up to the limit
  --limit MIB  how much text to read, 1 to 256 MiB; default: 48
  --dir DIR    where the cache lives; default: `larder/quickstart` in the
               platform's cache folder
  --auto       weigh what an answer cost: small ones that took less than 1 ms
               stay in memory and are computed again by the next run
  --clear      forget what earlier runs computed";

/// The parsed command line.
#[derive(Debug)]
pub(crate) struct Options {
    /// The folder with the text to study, in place of the default folders.
    pub(crate) folder: Option<PathBuf>,
    /// The most bytes of text to read.
    pub(crate) limit: u64,
    /// The folder of the cache.
    pub(crate) dir: Option<PathBuf>,
    /// Whether cheap answers may be lost at the end of the run.
    pub(crate) auto: bool,
    /// Whether to remove the results of earlier runs.
    pub(crate) clear: bool,
}

const LIMIT_MIB: std::ops::RangeInclusive<u64> = 1..=256;

impl Options {
    /// Parses the arguments; `None` if they ask for help.
    pub(crate) fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Option<Self>> {
        let mut options = Self { folder: None, limit: 48 << 20, dir: None, auto: false, clear: false };
        while let Some(arg) = args.next() {
            match arg.to_str() {
                Some("--help" | "-h") => return Ok(None),
                Some("--auto") => options.auto = true,
                Some("--clear") => options.clear = true,
                Some("--limit") => options.limit = limit(args.next())?,
                Some("--dir") => options.dir = Some(dir(args.next())?),
                Some(unknown) if unknown.starts_with('-') => {
                    let message = format!(
                        "option `{unknown}` does not exist, allowed --limit, --dir, --auto, --clear, --help"
                    );
                    return Err(Error::new(ErrorKind::Config, message));
                }
                _ if options.folder.is_some() => {
                    return Err(Error::config(
                        "FOLDER",
                        format_args!("{arg:?} as a second one"),
                        "one folder",
                    ));
                }
                _ => options.folder = Some(folder(arg)?),
            }
        }
        Ok(Some(options))
    }
}

fn limit(given: Option<OsString>) -> Result<u64> {
    let given = given.unwrap_or_default();
    let mib = given.to_str().and_then(|text| text.parse().ok()).filter(|mib| LIMIT_MIB.contains(mib));
    let range = format!("{} to {} (MiB of text)", LIMIT_MIB.start(), LIMIT_MIB.end());
    mib.map(|mib| mib << 20).ok_or_else(|| Error::config("--limit", format_args!("{given:?}"), range))
}

fn dir(given: Option<OsString>) -> Result<PathBuf> {
    let given = given.unwrap_or_default();
    if given.is_empty() || given.as_encoded_bytes().starts_with(b"-") {
        return Err(Error::config(
            "--dir",
            format_args!("{given:?}"),
            "a folder, which is made where it is missing",
        ));
    }
    Ok(given.into())
}

fn folder(given: OsString) -> Result<PathBuf> {
    let refused =
        |error| Error::config("FOLDER", format_args!("{given:?} ({error})"), "a folder that can be read");
    std::fs::read_dir(&given).and_then(|_| std::fs::canonicalize(&given)).map_err(refused)
}
