//! The options of a cache: one table, and the values that were set, from
//! wherever they were.
//!
//! A new option is a row in `table.rs`. The row gives it a field in
//! [`Settings`], a variable, a key of the configuration file, a parameter of a
//! URL, and its line in `docs/options.md`; what is left to write is the method
//! of the builder.

mod table;
pub(crate) mod values;

use std::fmt;
use std::path::PathBuf;

use larder_core::{Error, Result};

pub(crate) use table::Settings;
pub use table::{OptionRow, options};

/// Where the value of an option came from, the strongest first.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// A method of the builder.
    Code,
    /// A URL that was given to the builder.
    Url,
    /// A preset, by its name.
    Preset(&'static str),
    /// A context, by its name.
    Context(String),
    /// An environment variable, by its name.
    Variable(String),
    /// A line of a configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code => f.write_str("code"),
            Self::Url => f.write_str("the URL"),
            Self::Preset(name) => write!(f, "the preset {name}"),
            Self::Context(name) => write!(f, "the context {name}"),
            Self::Variable(name) => write!(f, "the variable {name}"),
            Self::File { path, line } => write!(f, "{}, line {line}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// An option with its value and where that came from; `Display` says it in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explained {
    /// The name of the option.
    pub option: &'static str,
    /// Its value, as a configuration file would spell it; for a default, as
    /// the table of options describes it.
    pub value: String,
    /// Where it came from.
    pub source: Source,
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} ({})", self.option, self.value, self.source)
    }
}

/// Values that one source set.
pub(crate) type Layer = (Settings, Source);

/// The values that count, and where each came from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resolved {
    pub(crate) settings: Settings,
    pub(crate) explained: Vec<Explained>,
}

impl Resolved {
    /// Goes through the layers, the strongest first: the first that has an
    /// option decides it.
    pub(crate) fn from_layers(layers: impl IntoIterator<Item = Layer>) -> Self {
        let mut resolved = Self::default();
        for (mut layer, source) in layers {
            resolved.drop_rivals(&mut layer);
            resolved.settings.fill(layer, &source, &mut resolved.explained);
        }
        resolved
    }

    /// The bound of memory is one option by two names: where a stronger layer
    /// said one, the other one of a weaker layer does not count.
    fn drop_rivals(&self, weaker: &mut Settings) {
        if self.settings.capacity.is_some() || self.settings.memory_bytes.is_some() {
            weaker.capacity = None;
            weaker.memory_bytes = None;
        }
    }

    /// Where an option was said that counts.
    #[cfg(feature = "_codec")]
    pub(crate) fn source(&self, option: &str) -> Option<&Source> {
        self.explained.iter().find(|told| told.option == option).map(|told| &told.source)
    }

    /// Who said an option, as an error tells it; nothing for code.
    #[cfg(feature = "_codec")]
    pub(crate) fn by(&self, option: &str) -> String {
        match self.source(option) {
            None | Some(Source::Code) => String::new(),
            Some(source) => format!(" by {source}"),
        }
    }

    /// Takes the server back, as if nobody had named one.
    #[cfg(feature = "_codec")]
    pub(crate) fn forget_server(&mut self) {
        self.settings.redis = None;
        self.forget("redis");
    }

    /// Takes the budget of memory back; what it was.
    pub(crate) fn forget_memory_bytes(&mut self) -> Option<u64> {
        self.forget("memory_bytes");
        self.settings.memory_bytes.take()
    }

    fn forget(&mut self, option: &str) {
        self.explained.retain(|told| told.option != option);
    }

    /// A row for every option, in the order of the table.
    pub(crate) fn explain(&self) -> Vec<Explained> {
        let row = |row: &OptionRow| {
            let told = self.explained.iter().find(|told| told.option == row.name);
            told.cloned().unwrap_or_else(|| Explained {
                option: row.name,
                value: row.default.to_owned(),
                source: Source::Default,
            })
        };
        options().iter().map(row).collect()
    }
}

/// One option out of text, as variables, files and URLs have it.
///
/// # Errors
/// Names the option, the source, what was given and what is allowed.
pub(crate) fn parse(option: &str, text: &str, source: &Source) -> Result<Settings> {
    let shown = given(option, text);
    let Some(row) = options().iter().find(|row| row.name == option) else {
        let names: Vec<_> = options().iter().map(|row| row.name).collect();
        return Err(refused(option, &shown, source, &names.join(", ")));
    };
    let mut settings = Settings::default();
    // What is no Unicode came here as something else than was said.
    let is_text = !text.contains(char::REPLACEMENT_CHARACTER);
    if is_text && settings.set(row.name, text.trim()) {
        return Ok(settings);
    }
    let allowed = match row.takes.contains(", as ") {
        true => format!("{} ({})", row.allowed, row.takes),
        false => row.allowed.to_owned(),
    };
    Err(refused(option, &shown, source, &allowed))
}

/// What was given, as an error shows it.
fn given(option: &str, text: &str) -> String {
    match option {
        "redis" | "url" => values::scheme_alone(text),
        _ => values::without_password(text),
    }
}

fn refused(option: &str, shown: &str, source: &Source, allowed: &str) -> Error {
    Error::config(option, format_args!("`{shown}` by {source}"), allowed)
}
