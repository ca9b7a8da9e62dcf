//! The subcommands.

mod change;
mod check;
mod complete;
mod config;
mod doctor;
mod du;
mod explain;
mod export;
mod keys;
mod ls;
mod show;
mod simulate;
mod stats;
mod tag;

use change::{gc, import, remove};
use serde::Serialize;

use crate::args::{Arguments, Command};
use crate::catalog::{self, CacheDirectory};
use crate::exit::{Exit, Failure, Outcome};
use crate::printer::{self, Printer};
use crate::source::{self, OpenCache};

/// Runs the command that the arguments name.
pub(crate) fn run(arguments: &Arguments, printer: &mut Printer) -> Outcome {
    check_source(arguments)?;
    match &arguments.command {
        Command::Ls => ls::run(arguments, printer),
        Command::Stats(filter) => stats::run(arguments, filter, printer),
        Command::Keys(keys) => keys::run(arguments, keys, printer),
        Command::Show(show) => show::run(arguments, show, printer),
        Command::Explain(explain) => explain::run(arguments, explain, printer),
        Command::Tag(tag) => tag::run(arguments, tag, printer),
        Command::Du(du) => du::run(arguments, du, printer),
        Command::Check(check) => check::run(arguments, check, printer),
        Command::Rm(rm) => remove::rm(arguments, rm, printer),
        Command::Clear(change) => remove::clear(arguments, *change, printer),
        Command::Gc(change) => gc::run(arguments, *change, printer),
        Command::Export(export) => export::run(arguments, export, printer),
        Command::Import(import) => import::run(arguments, import, printer),
        Command::Config(config) => config::run(arguments, config, printer),
        Command::Doctor => doctor::run(arguments, printer),
        Command::Simulate(simulate) => simulate::run(simulate, printer),
        #[cfg(unix)]
        Command::Top(top) => crate::top::run(arguments, top),
        #[cfg(unix)]
        Command::Serve(serve) => crate::serve::run(arguments, serve, printer),
        #[cfg(not(unix))]
        Command::Top(_) | Command::Serve(_) => {
            Err(Failure::new(Exit::Failed, "running processes can be looked into on Unix alone"))
        }
        Command::Completions { shell } => complete::completions(*shell, printer),
        Command::Man => complete::manual(printer),
    }
}

/// Checks the options that say where the caches are. clap does not see those of both sides of a subcommand
/// together.
fn check_source(arguments: &Arguments) -> Outcome<()> {
    if arguments.redis.is_none() {
        return match &arguments.namespace {
            Some(name) => Err(Failure::argument("--namespace", name, "a namespace together with --redis")),
            None => Ok(()),
        };
    }
    if let Some(dir) = &arguments.dir {
        return Err(Failure::argument("--dir", dir.display(), "either --dir or --redis"));
    }
    if !is_for_servers(&arguments.command) {
        let allowed = "ls, stats, keys, show, explain, tag, du, check, rm, clear, gc, export, import";
        return Err(Failure::new(
            Exit::Usage,
            format!("--redis: given with another command, allowed {allowed}"),
        ));
    }
    Ok(())
}

/// Whether a command works on a server.
fn is_for_servers(command: &Command) -> bool {
    matches!(
        command,
        Command::Ls
            | Command::Stats(_)
            | Command::Keys(_)
            | Command::Show(_)
            | Command::Explain(_)
            | Command::Tag(_)
            | Command::Du(_)
            | Command::Rm(_)
            | Command::Clear(_)
            | Command::Gc(_)
            | Command::Export(_)
            | Command::Import(_)
            | Command::Check(_)
            | Command::Completions { .. }
            | Command::Man
    )
}

/// What the document of every cache begins with.
#[derive(Default, Serialize)]
struct CacheHead {
    name: String,
    program: Option<String>,
    path: String,
    is_partial: bool,
    notes: Vec<String>,
}

impl CacheHead {
    fn of(cache: &CacheDirectory, open: &OpenCache) -> Self {
        Self {
            name: cache.name.clone(),
            program: cache.program.clone(),
            path: cache.path.display().to_string(),
            is_partial: open.is_partial,
            notes: open.notes.clone(),
        }
    }
}

/// Opens each chosen cache for reading and calls `look` with it. Notes go to the standard error. A cache that
/// cannot be opened is reported, and the others follow.
fn each_cache(
    arguments: &Arguments,
    mut look: impl FnMut(&CacheDirectory, &OpenCache) -> Outcome,
) -> Outcome {
    let mut exit = Exit::Done;
    for cache in catalog::chosen(arguments)? {
        let looked = source::reading(&cache).and_then(|open| {
            tell(&cache, &open.notes);
            let looked = look(&cache, &open)?;
            if !open.is_partial {
                return Ok(looked);
            }
            let left_out = "another process has it open: the entries of its disk tier are left out; \
                            `larder top` asks a process that is observed";
            tell(&cache, &[left_out.to_owned()]);
            Ok(looked.or(Exit::InUse))
        });
        match looked {
            Ok(looked) => exit = exit.or(looked),
            Err(failure) if failure.is_closed_pipe() => return Err(failure),
            Err(failure) => {
                printer::to_stderr(&format!("larder: {}: {failure}", cache.label()));
                exit = exit.or(failure.code());
            }
        }
    }
    Ok(exit)
}

/// Prints notes about a cache to the standard error.
fn tell(cache: &CacheDirectory, notes: &[String]) {
    for note in notes {
        printer::to_stderr(&format!("larder: {}: {note}", cache.label()));
    }
}
