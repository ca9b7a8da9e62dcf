//! `larder config`: the options that variables and the configuration file set for a cache.

use larder::{Explained, Source};
use serde::Serialize;

use crate::args::{Arguments, ConfigArguments};
use crate::catalog;
use crate::exit::{Exit, Outcome};
use crate::printer::{self, Printer, TextTable, escaped_line};

#[derive(Serialize)]
struct OptionDocument {
    option: &'static str,
    value: String,
    source: String,
}

#[derive(Serialize)]
struct ConfigDocument {
    cache: String,
    options: Vec<OptionDocument>,
}

#[derive(Serialize)]
struct AllConfigs {
    caches: Vec<ConfigDocument>,
}

pub(super) fn run(arguments: &Arguments, config: &ConfigArguments, printer: &mut Printer) -> Outcome {
    let mut caches = Vec::new();
    for name in names(arguments)? {
        let explained = larder::ucache::<String, larder::Bytes>(&name).explain_config()?;
        let is_asked = |told: &Explained| config.all || told.source != Source::Default;
        let options = explained.into_iter().filter(is_asked).map(document).collect();
        caches.push(ConfigDocument { cache: name, options });
    }
    if printer.is_json() {
        printer.json("larder.config.v1", &AllConfigs { caches })?;
        return Ok(Exit::Done);
    }
    for ConfigDocument { cache, options } in caches {
        printer.line(&format!("{}:", escaped_line(&cache)))?;
        let mut table = TextTable::new(&["OPTION", "VALUE", "FROM"], &[]);
        for OptionDocument { option, value, source } in options {
            table.row([option.to_owned(), escaped_line(&value), escaped_line(&source)]);
        }
        if table.is_empty() {
            printer.line("neither a variable nor a file sets an option; `--all` prints the defaults")?;
        } else {
            printer.table(&table)?;
        }
        printer.line("")?;
    }
    printer::to_stderr(
        "larder: options that the program sets in its code come before these and are not known here",
    );
    Ok(Exit::Done)
}

/// The caches that are asked for: the named one, whether it exists or not, or all that are found.
fn names(arguments: &Arguments) -> Outcome<Vec<String>> {
    if let Some(name) = &arguments.cache {
        return Ok(vec![name.clone()]);
    }
    let mut names: Vec<String> = catalog::chosen(arguments)?.into_iter().map(|cache| cache.name).collect();
    names.dedup();
    Ok(names)
}

fn document(explained: Explained) -> OptionDocument {
    let Explained { option, value, source, .. } = explained;
    OptionDocument { option, value, source: source.to_string() }
}
