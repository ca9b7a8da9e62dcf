//! `larder doctor`: problems of the machine and of the caches, with what to do.

use std::fs;
use std::path::Path;

use larder_tiers::{LastShutdown, ShutdownRecord};
use serde::Serialize;

use crate::args::Arguments;
use crate::catalog::{self, CacheDirectory, InUse};
use crate::exit::{Exit, Outcome};
use crate::printer::{self, Printer, escaped_line};
use crate::source;

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Fine,
    Warning,
    Problem,
}

/// One thing that was looked at.
#[derive(Serialize)]
struct Finding {
    level: Level,
    subject: String,
    found: String,
    /// What to do; empty if there is nothing to do.
    advice: String,
}

impl Finding {
    fn new(level: Level, subject: &str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level, subject: subject.to_owned(), found: found.into(), advice: advice.into() }
    }

    #[cfg(unix)]
    fn of_process(live: crate::live::LiveFinding) -> Self {
        let level = match (live.is_problem, live.advice.is_empty()) {
            (true, _) => Level::Problem,
            (false, false) => Level::Warning,
            (false, true) => Level::Fine,
        };
        Self::new(level, &live.subject, live.found, live.advice)
    }

    fn fine(subject: &str, found: impl Into<String>) -> Self {
        Self::new(Level::Fine, subject, found, "")
    }
}

#[derive(Serialize)]
struct Diagnosis {
    version: &'static str,
    format: u8,
    findings: Vec<Finding>,
}

pub(super) fn run(arguments: &Arguments, printer: &mut Printer) -> Outcome {
    let folder = catalog::folder(arguments)?;
    let mut findings = machine(&folder);
    let caches = match arguments.cache {
        Some(_) => catalog::chosen(arguments)?,
        None => catalog::all(arguments)?,
    };
    if caches.is_empty() {
        findings.push(Finding::fine("caches", format!("none in {}", folder.display())));
    }
    for cache in &caches {
        look_at(cache, &mut findings)?;
    }
    #[cfg(unix)]
    findings.extend(crate::live::diagnosis(arguments)?.into_iter().map(Finding::of_process));
    let is_healthy = findings.iter().all(|finding| finding.level != Level::Problem);
    let exit = if is_healthy { Exit::Done } else { Exit::Problems };
    let format = larder_core::frame::VERSION;
    let diagnosis = Diagnosis { version: env!("CARGO_PKG_VERSION"), format, findings };
    if printer.is_json() {
        printer.json("larder.doctor.v1", &diagnosis)?;
        return Ok(exit);
    }
    printer.line(&format!("larder {}, format {format}", diagnosis.version))?;
    for Finding { level, subject, found, advice } in &diagnosis.findings {
        let sign = match level {
            Level::Fine => "fine    ",
            Level::Warning => "warning ",
            Level::Problem => "problem ",
        };
        printer.line(&format!("{sign} {}: {}", escaped_line(subject), escaped_line(found)))?;
        if !advice.is_empty() {
            printer.line(&format!("          → {advice}"))?;
        }
    }
    Ok(exit)
}

/// What concerns all caches of the folder.
fn machine(folder: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    if fs::exists("/proc/sys/kernel/random/boot_id").unwrap_or(false) {
        findings.push(Finding::fine("boot identifier", "known: entries survive a killed process"));
    } else {
        let found = "unknown: a killed process cannot be told from a machine that went down";
        let advice =
            "close caches, or build them with durability `synced`; otherwise they start empty after a kill";
        findings.push(Finding::new(Level::Warning, "boot identifier", found, advice));
    }
    findings.extend(free_space(folder));
    findings.extend(open_files());
    let written = tempfile::tempdir();
    match written {
        Ok(dir) => findings.push(Finding::fine("temporary folder", escaped_line(&place_of(dir.path())))),
        Err(error) => {
            let advice = "set the variable TMPDIR to a folder that can be written: the disk tier is read from a copy there";
            findings.push(Finding::new(Level::Problem, "temporary folder", error.to_string(), advice));
        }
    }
    findings
}

fn place_of(dir: &Path) -> String {
    dir.parent().unwrap_or(dir).display().to_string()
}

/// Below this share of the file system, in percent, caches evict early.
const FREE_PERCENT_MIN: u64 = 7;

#[cfg(unix)]
fn free_space(folder: &Path) -> Option<Finding> {
    let found = rustix::fs::statvfs(folder).ok()?;
    let (free, all) =
        (found.f_bavail.saturating_mul(found.f_frsize), found.f_blocks.saturating_mul(found.f_frsize));
    let text = format!("{} of {} free", printer::bytes(free), printer::bytes(all));
    if found.f_files > 0 && found.f_favail < 1000 {
        let advice = "delete files: each entry of the file tier needs one inode";
        return Some(Finding::new(Level::Problem, "inodes", format!("{} free", found.f_favail), advice));
    }
    if free < all / 100 * FREE_PERCENT_MIN {
        let advice =
            "free space, or lower `disk_bytes`: caches keep a sixteenth free and evict entries early";
        return Some(Finding::new(Level::Warning, "free space", text, advice));
    }
    Some(Finding::fine("free space", text))
}

#[cfg(not(unix))]
fn free_space(_: &Path) -> Option<Finding> {
    None
}

/// Open files that a process with a few caches needs.
#[cfg(unix)]
const OPEN_FILES_MIN: u64 = 512;

#[cfg(unix)]
fn open_files() -> Option<Finding> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current?;
    let text = format!("{limit} for each process");
    if limit < OPEN_FILES_MIN {
        let advice = format!(
            "raise the limit (`ulimit -n`) to at least {OPEN_FILES_MIN}: segments and runs stay open"
        );
        return Some(Finding::new(Level::Warning, "open files", text, advice));
    }
    Some(Finding::fine("open files", text))
}

#[cfg(not(unix))]
fn open_files() -> Option<Finding> {
    None
}

/// What concerns one cache.
fn look_at(cache: &CacheDirectory, findings: &mut Vec<Finding>) -> Outcome<()> {
    let (subject, before) = (cache.label(), findings.len());
    let place = escaped_line(&cache.path.display().to_string());
    match (cache.is_private, cache.in_use()) {
        (true, InUse::No) => findings.push(Finding::new(
            Level::Warning,
            &subject,
            "a private directory of a process that has ended",
            "`larder gc` deletes it",
        )),
        (true, _) => findings.push(Finding::new(
            Level::Warning,
            &subject,
            "a process found the directory of its cache taken and uses this one, which is deleted at its end",
            "build the caches with `sharing(Sharing::Processes)`, or give each process a directory",
        )),
        (false, InUse::Unknown) => findings.push(Finding::new(
            Level::Problem,
            &subject,
            "this user may not lock the directory",
            format!("run as the owner of {place}"),
        )),
        (false, _) => {}
    }
    findings.extend(permissions(&cache.path, &subject));
    for (name, dir) in [("disk", cache.disk()), ("file", cache.files())] {
        let Some(dir) = dir else { continue };
        if cache.in_use() == InUse::No {
            findings.extend(last_shutdown(&dir, name, &subject));
        }
        let torn = fs::read_dir(&dir).into_iter().flatten().flatten();
        let torn = torn.filter(|entry| entry.file_name().to_string_lossy().starts_with("db-torn-")).count();
        if torn > 0 {
            let found = format!(
                "{} set aside as damaged",
                printer::count(torn as u64, "database was", "databases were")
            );
            let advice =
                "check the disk and the memory of the machine; the next open deletes what was set aside";
            findings.push(Finding::new(Level::Problem, &subject, found, advice));
        }
    }
    if cache.in_use() == InUse::No {
        let void = source::void_tiers(cache)?.into_iter();
        findings.extend(void.map(|reason| {
            Finding::new(
                Level::Problem,
                &subject,
                reason,
                "nothing: the entries are loaded again; `larder clear` empties it now",
            )
        }));
    }
    if findings.len() == before {
        findings.push(Finding::fine(&subject, place));
    }
    Ok(())
}

/// How the last process left a tier, where a user should know.
fn last_shutdown(dir: &Path, name: &str, subject: &str) -> Option<Finding> {
    let shutdown = ShutdownRecord::read(dir)?.last_shutdown;
    let (found, advice) = match shutdown {
        LastShutdown::Killed => (
            format!("the last process did not close the {name} tier; the next one recovers it"),
            "call `close()` before the program ends",
        ),
        LastShutdown::MachineDown => (
            format!("the machine went down while the {name} tier was open; synced entries are recovered"),
            "",
        ),
        _ => return None,
    };
    Some(Finding::new(Level::Warning, subject, found, advice))
}

#[cfg(unix)]
fn permissions(dir: &Path, subject: &str) -> Option<Finding> {
    use std::os::unix::fs::MetadataExt;
    let found = fs::metadata(dir).ok()?;
    let place = escaped_line(&dir.display().to_string());
    if found.mode() & 0o022 != 0 {
        let text = format!("other users may write to {place} (mode {:04o})", found.mode() & 0o7777);
        let advice = format!("`chmod 0700 {place}`: who can write to it can replace entries");
        return Some(Finding::new(Level::Problem, subject, text, advice));
    }
    if found.mode() & 0o055 != 0 {
        let text = format!("other users may read {place} (mode {:04o})", found.mode() & 0o7777);
        return Some(Finding::new(Level::Warning, subject, text, format!("`chmod 0700 {place}`")));
    }
    let user = rustix::process::geteuid().as_raw();
    if found.uid() != user && user != 0 {
        let text = format!("the directory belongs to user {}, not to this one ({user})", found.uid());
        return Some(Finding::new(Level::Warning, subject, text, "run as its owner"));
    }
    None
}

#[cfg(not(unix))]
fn permissions(_: &Path, _: &str) -> Option<Finding> {
    None
}
