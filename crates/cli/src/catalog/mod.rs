//! Finds caches: their directories, or their names on a server.
//!
//! The cache folder of the platform has a folder for each program, and in it a directory for each cache.
//! Symbolic links below the folder are not followed.

mod server;

use std::fs;
use std::path::{Path, PathBuf};

use larder_tiers::DirLock;
use percent_encoding::percent_decode_str;

pub(crate) use server::{PATIENCE, ServerCache};

use crate::args::Arguments;
use crate::exit::{Exit, Failure, Outcome};
use crate::printer::escaped_line;

/// Which processes have a cache open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InUse {
    /// None.
    No,
    /// One, alone.
    Alone,
    /// Any number of processes that share the directory.
    Shared,
    /// This user may not find out.
    Unknown,
}

impl InUse {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Alone => "yes",
            Self::Shared => "shared",
            Self::Unknown => "unknown",
        }
    }
}

/// The directory of a cache.
#[derive(Clone, Debug)]
pub(crate) struct CacheDirectory {
    pub(crate) path: PathBuf,
    /// The name of the cache, or its encoded form where that was cut.
    pub(crate) name: String,
    /// The program that the folder above is named after.
    pub(crate) program: Option<String>,
    /// Whether a process made it because another one had the directory of the cache.
    pub(crate) is_private: bool,
    /// Where the cache is, if it is on a server.
    pub(crate) server: Option<ServerCache>,
}

impl CacheDirectory {
    fn at(path: PathBuf, program: Option<&str>) -> Self {
        let segment = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let is_private = segment.starts_with('~');
        let program = program.map(str::to_owned);
        Self { name: decoded(&segment), program, is_private, path, server: None }
    }

    /// The directory of a cache that does not exist yet.
    pub(crate) fn new_in(folder: &Path, program: Option<&str>, name: &str) -> Self {
        let base =
            program.map_or_else(|| folder.to_owned(), |program| folder.join(larder::path_segment(program)));
        Self::at(base.join(larder::path_segment(name)), program)
    }

    /// A cache on a server. It need not exist yet.
    pub(crate) fn new_on_server(url: &str, namespace: &str, name: &str) -> Self {
        Self {
            path: PathBuf::from(format!("{namespace}:{name}")),
            program: Some(namespace.to_owned()),
            is_private: false,
            server: Some(ServerCache { url: url.to_owned(), namespace: namespace.to_owned() }),
            name: name.to_owned(),
        }
    }

    /// The name as text, with the program before it.
    pub(crate) fn label(&self) -> String {
        let name = escaped_line(if self.name.is_empty() { "\"\"" } else { &self.name });
        match &self.program {
            Some(program) => format!("{}/{name}", escaped_line(program)),
            None => name,
        }
    }

    /// The directory of the disk tier, if there is one.
    pub(crate) fn disk(&self) -> Option<PathBuf> {
        Some(self.path.join("disk")).filter(|disk| is_disk_tier(disk))
    }

    /// The directory of the file tier, if there is one.
    pub(crate) fn files(&self) -> Option<PathBuf> {
        Some(self.path.join("files")).filter(|files| files.join("entries").is_dir())
    }

    /// Whether several processes may have the directory open at once.
    pub(crate) fn is_shared(&self) -> bool {
        self.server.is_some() || self.path.join("files/peers").is_dir()
    }

    /// Which processes have the directory open now. Holds its lock for a moment.
    pub(crate) fn in_use(&self) -> InUse {
        if self.server.is_some() {
            return InUse::Shared;
        }
        match DirLock::of_orphan(&self.path) {
            Ok(Some(_)) => InUse::No,
            Ok(None) if self.is_shared() => InUse::Shared,
            Ok(None) => InUse::Alone,
            Err(_) => InUse::Unknown,
        }
    }

    fn is_named(&self, wanted: &str) -> bool {
        let segment = self.path.file_name().map(|name| name.to_string_lossy());
        let is_own = |name: &str| self.name == name || segment.as_deref() == Some(name);
        is_own(wanted)
            || wanted
                .split_once('/')
                .is_some_and(|(program, name)| self.program.as_deref() == Some(program) && is_own(name))
    }
}

/// The folder that is searched.
pub(crate) fn folder(arguments: &Arguments) -> Outcome<PathBuf> {
    let Some(dir) = &arguments.dir else {
        let cache = dirs::cache_dir().map(|cache| cache.join("larder"));
        return cache.ok_or_else(|| {
            Failure::argument("--dir", "nothing, and the platform has no cache folder", "a directory")
        });
    };
    match fs::metadata(dir) {
        Ok(found) if found.is_dir() => Ok(dir.clone()),
        Ok(_) => Err(Failure::argument("--dir", dir.display(), "a directory: this is none")),
        Err(error) => Err(Failure::argument("--dir", dir.display(), format_args!("a directory: {error}"))),
    }
}

/// Where caches are looked for, as text.
pub(crate) fn place(arguments: &Arguments) -> Outcome<String> {
    match (&arguments.redis, &arguments.namespace) {
        (Some(_), Some(namespace)) => Ok(format!("in the namespace {namespace} of the server")),
        (Some(_), None) => Ok("on the server".to_owned()),
        (None, _) => Ok(format!("in {}", folder(arguments)?.display())),
    }
}

/// All caches of the folder that the arguments name, by program and name.
///
/// # Errors
/// A folder that cannot be read. A folder of the platform that does not exist has no caches.
pub(crate) fn all(arguments: &Arguments) -> Outcome<Vec<CacheDirectory>> {
    if let Some(url) = &arguments.redis {
        return server::caches(url, arguments.namespace.as_deref());
    }
    let folder = folder(arguments)?;
    if is_cache(&folder) {
        return Ok(vec![CacheDirectory::at(folder, None)]);
    }
    let mut found = Vec::new();
    for path in children(&folder)? {
        if is_cache(&path) {
            found.push(CacheDirectory::at(path, None));
            continue;
        }
        let program = path.file_name().map(|name| decoded(&name.to_string_lossy()));
        let below = children(&path).unwrap_or_default().into_iter().filter(|path| is_cache(path));
        found.extend(below.map(|path| CacheDirectory::at(path, program.as_deref())));
    }
    found.sort_by(|one, other| {
        (&one.program, &one.name, &one.path).cmp(&(&other.program, &other.name, &other.path))
    });
    Ok(found)
}

/// The caches that the arguments choose: all of them, or those of one name.
///
/// # Errors
/// Exit code 3 if there is none.
pub(crate) fn chosen(arguments: &Arguments) -> Outcome<Vec<CacheDirectory>> {
    let mut found = all(arguments)?;
    if let Some(name) = &arguments.cache {
        found.retain(|cache| cache.is_named(name));
    }
    if found.is_empty() {
        let named = arguments.cache.as_ref().map(|name| format!(" named `{name}`")).unwrap_or_default();
        let place = place(arguments)?;
        return Err(Failure::not_found(format!("there is no cache{named} {place}")));
    }
    Ok(found)
}

/// The one cache that the arguments choose, for a command that changes it.
///
/// # Errors
/// Exit code 2 if the arguments choose several.
pub(crate) fn only(arguments: &Arguments) -> Outcome<CacheDirectory> {
    let mut found = chosen(arguments)?;
    match found.pop() {
        Some(cache) if found.is_empty() => Ok(cache),
        last => {
            let labels: Vec<String> = found.iter().chain(&last).map(CacheDirectory::label).collect();
            let given = arguments.cache.as_deref().unwrap_or("nothing");
            let allowed = format!("one of {}, or the directory of one cache as --dir", labels.join(", "));
            Err(Failure::new(
                Exit::Usage,
                format!("--cache: given `{given}`, which is not one cache, allowed {allowed}"),
            ))
        }
    }
}

/// Returns whether a directory has a tier of a cache in it.
fn is_cache(path: &Path) -> bool {
    is_disk_tier(&path.join("disk")) || path.join("files/entries").is_dir()
}

/// Whether a directory is that of a disk tier. In those of earlier builds `db` has the rows.
fn is_disk_tier(dir: &Path) -> bool {
    ["journal", "packs", "db"].iter().any(|part| dir.join(part).is_dir())
}

/// The directories in `folder`, without those that are links.
fn children(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Failure::new(Exit::Failed, format!("{}: {error}", folder.display()))),
        Ok(entries) => entries,
    };
    let dirs = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    Ok(dirs.map(|entry| entry.path()).collect())
}

/// The name that a segment of a path encodes. `docs/format.md` has the encoding.
fn decoded(segment: &str) -> String {
    if segment == "%" {
        return String::new();
    }
    if segment.contains("%~") {
        return segment.to_owned();
    }
    let plain = segment.strip_suffix('%').unwrap_or(segment);
    percent_decode_str(plain).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_decoded() {
        for (segment, name) in [
            ("reports-2", "reports-2"),
            ("%", ""),
            ("a%2Fb%20%C3%9F", "a/b ß"),
            ("con%", "con"),
            ("x%~0123", "x%~0123"),
            ("%FF", "\u{fffd}"),
        ] {
            assert_eq!(decoded(segment), name);
        }
    }
}
