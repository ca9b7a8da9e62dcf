//! The options of a cache: the table of options, and the values from all sources.
//!
//! A new option is a row in `table.rs`. The row gives the option a field in [`Settings`], a variable, a key
//! of the configuration file, a parameter of a URL, and its line in `docs/options.md`. Only the method of the
//! builder is written by hand.

mod per_tier;
mod selector;
mod table;
pub(crate) mod values;

use std::fmt;
use std::path::PathBuf;

use larder_core::{Error, Result};

#[cfg_attr(
    not(feature = "_codec"),
    allow(unused_imports, reason = "a cache of memory alone has no selector")
)]
pub(crate) use selector::SelectorChoice;
pub(crate) use table::Settings;
pub use table::{OptionRow, options};

/// The source of an option's value, from the highest precedence to the lowest.
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
    /// The default: no source sets the option.
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

/// An option with its value and its source; `Display` prints one line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explained {
    /// The name of the option.
    pub option: &'static str,
    /// Its value, as a configuration file would spell it. For a default, the text of the table of options.
    pub value: String,
    /// The source of the value.
    pub source: Source,
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} ({})", self.option, self.value, self.source)
    }
}

/// The values that one source set, and that source.
pub(crate) type Layer = (Settings, Source);
/// The layers of one precedence: the options of one section of the file, for example. No two set the same option.
pub(crate) type Level = Vec<Layer>;

/// The effective values, and the source of each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resolved {
    pub(crate) settings: Settings,
    pub(crate) explained: Vec<Explained>,
}

impl Resolved {
    /// Merges the levels, the highest precedence first: the first layer that sets an option wins.
    ///
    /// `capacity` and `memory_bytes` bound the same memory. Where one level sets both, both hold; but if a
    /// stronger level sets one of them, neither of a weaker level applies.
    pub(crate) fn from_levels(levels: impl IntoIterator<Item = Level>) -> Self {
        let mut resolved = Self::default();
        for level in levels {
            let is_bounded = resolved.settings.capacity.is_some() || resolved.settings.memory_bytes.is_some();
            for (mut layer, source) in level {
                if is_bounded {
                    (layer.capacity, layer.memory_bytes) = (None, None);
                }
                resolved.settings.fill(layer, &source, &mut resolved.explained);
            }
        }
        resolved
    }

    /// The source of the effective value of an option; `None` for a default.
    #[cfg(feature = "_codec")]
    pub(crate) fn source(&self, option: &str) -> Option<&Source> {
        self.explained.iter().find(|told| told.option == option).map(|told| &told.source)
    }

    /// Names the source of an option in an error message; empty for code.
    #[cfg(feature = "_codec")]
    pub(crate) fn by(&self, option: &str) -> String {
        match self.source(option) {
            None | Some(Source::Code) => String::new(),
            Some(source) => format!(" by {source}"),
        }
    }

    /// Whether the source of an option speaks of this cache alone, and not of several caches.
    #[cfg(feature = "_codec")]
    pub(crate) fn is_of_one_cache(&self, option: &str) -> bool {
        matches!(self.source(option), None | Some(Source::Code | Source::Url))
    }

    /// Removes the server from the settings, as if no source had set it.
    #[cfg(feature = "_codec")]
    pub(crate) fn forget_server(&mut self) {
        self.settings.redis = None;
        self.forget("redis");
    }

    /// Sets a memory budget of zero, because the URLs of this source name no memory.
    #[cfg(feature = "_codec")]
    pub(crate) fn set_no_memory(&mut self, source: Source) {
        self.settings.memory_bytes = Some(0);
        self.explained.push(Explained { option: "memory_bytes", value: "0 B".to_owned(), source });
    }

    /// Removes the memory budget from the settings and returns it.
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

/// Parses the text of one option from a variable, a file or a URL.
///
/// # Errors
/// Names the option, the source, the given value and the allowed values.
pub(crate) fn parse(option: &str, text: &str, source: &Source) -> Result<Settings> {
    let shown = given(option, text);
    let Some(row) = options().iter().find(|row| row.name == option) else {
        let names: Vec<_> = options().iter().map(|row| row.name).collect();
        return Err(refused(option, &shown, source, &names.join(", ")));
    };
    let mut settings = Settings::default();
    // Text that was not Unicode has replacement characters here; no option allows them.
    let is_text = !text.contains(char::REPLACEMENT_CHARACTER);
    if is_text && settings.set(row.name, text.trim()) {
        return Ok(settings);
    }
    let allowed = match row.takes.contains(", such as ") {
        true => format!("{} ({})", row.allowed, row.takes),
        false => row.allowed.to_owned(),
    };
    Err(refused(option, &shown, source, &allowed))
}

/// The given text, as an error shows it: without passwords.
fn given(option: &str, text: &str) -> String {
    match option {
        "redis" | "url" => values::scheme_alone(text),
        _ => values::without_password(text),
    }
}

fn refused(option: &str, shown: &str, source: &Source, allowed: &str) -> Error {
    Error::config(option, format_args!("`{shown}` by {source}"), allowed)
}
