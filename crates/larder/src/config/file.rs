//! The configuration file: TOML, with a section for each cache, named after it.

use std::path::Path;

use larder_core::{Error, Result};

use crate::options::Level;

/// The options of the cache `name` in the file: its own section, then `[all]`.
#[cfg(feature = "config")]
pub(super) fn levels(path: &Path, name: &str) -> Result<Vec<Level>> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| unreadable(path, &error.to_string()).with_source(error))?;
    read(path, &text, name)
}

/// Returns an error: a build that cannot read the file must not ignore it.
#[cfg(not(feature = "config"))]
pub(super) fn levels(path: &Path, _: &str) -> Result<Vec<Level>> {
    Err(unreadable(path, "larder was built without the feature `config`"))
}

fn unreadable(path: &Path, why: &str) -> Error {
    let allowed = "a readable TOML file with a section for each cache, or `[all]`";
    Error::config("LARDER_CONFIG", format_args!("{}: {why}", path.display()), allowed)
}

#[cfg(feature = "config")]
fn read(path: &Path, text: &str, name: &str) -> Result<Vec<Level>> {
    use toml::de::DeTable;
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(0, |span| line_at(text, span.start));
        // Not attached: the error of the parser quotes the line, which may hold a password.
        unreadable(path, &format!("line {line}: {}", error.message()))
    })?;
    check_sections(path, text, table.get_ref())?;
    let sections = [name, super::ALL].into_iter().filter_map(|section| table.get_ref().get(section));
    sections.map(|section| level(path, text, section)).collect()
}

/// Returns an error for content that no cache would read: options outside of sections, and nested sections.
#[cfg(feature = "config")]
fn check_sections(path: &Path, text: &str, file: &toml::de::DeTable<'_>) -> Result<()> {
    for (name, value) in file {
        let line = line_at(text, name.span().start);
        let name = name.get_ref();
        let Some(section) = value.get_ref().as_table() else {
            let why = format!("line {line}: `{name}` is in no section; `[all]` applies to all caches");
            return Err(unreadable(path, &why));
        };
        let is_option = |name: &str| crate::options().iter().any(|row| row.name == name);
        let mut inside = section.iter().filter(|(name, _)| !is_option(name.get_ref()));
        if let Some((inner, _)) = inside.find(|(_, value)| value.get_ref().is_table()) {
            let (line, inner) = (line_at(text, inner.span().start), inner.get_ref());
            let why = format!(
                "line {line}: a section within a section; quote a name with a dot: `[\"{name}.{inner}\"]`"
            );
            return Err(unreadable(path, &why));
        }
    }
    Ok(())
}

#[cfg(feature = "config")]
fn level(path: &Path, text: &str, section: &toml::Spanned<toml::de::DeValue<'_>>) -> Result<Level> {
    use crate::options::{Source, parse};
    let source = |at: usize| Source::File { path: path.to_path_buf(), line: line_at(text, at) };
    let mut level = Level::new();
    let Some(table) = section.get_ref().as_table() else { return Ok(level) };
    for (option, value) in table {
        let source = source(option.span().start);
        let (name, value) = (option.get_ref(), value.get_ref());
        let row = crate::options().iter().find(|row| row.name == name.as_ref());
        let text = match (plain(value), row) {
            (None, Some(row)) => {
                let given = format_args!("a value of the type {} in {source}", value.type_str());
                return Err(Error::config(row.name, given, row.allowed));
            }
            (text, _) => text.unwrap_or_default(),
        };
        level.push((parse(name, &text, &source)?, source));
    }
    Ok(level)
}

/// Converts a string, a number, a boolean or a list of strings into the text that `parse` takes. `None` for any
/// other type, which no option has.
#[cfg(feature = "config")]
fn plain(value: &toml::de::DeValue<'_>) -> Option<String> {
    use toml::de::DeValue;
    let text = match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(yes) => yes.to_string(),
        DeValue::Array(items) => return list(items),
        _ => return None,
    };
    Some(text)
}

/// Joins a list of texts with commas.
#[cfg(feature = "config")]
fn list(items: &toml::de::DeArray<'_>) -> Option<String> {
    let texts: Option<Vec<_>> = items.iter().map(|item| item.get_ref().as_str()).collect();
    texts.filter(|texts| !texts.is_empty()).map(|texts| texts.join(", "))
}

#[cfg(feature = "config")]
fn line_at(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

#[cfg(all(test, feature = "config"))]
mod tests {
    use super::super::tests::{samples, wrong};
    use super::*;
    use crate::options::{Resolved, Source};

    fn path() -> &'static Path {
        Path::new("larder.toml")
    }

    #[test]
    fn every_option_is_read_from_its_section_with_its_line() {
        for (option, text) in samples() {
            let quoted = if text.parse::<f64>().is_ok() { text.to_owned() } else { format!("\"{text}\"") };
            let file = format!("# mine\n[reports]\n{option} = {quoted}\n");
            let resolved = Resolved::from_levels(read(path(), &file, "reports").unwrap());
            let row = resolved.explain().into_iter().find(|row| row.option == option).unwrap();
            assert_eq!(row.value, text);
            assert_eq!(row.source, Source::File { path: path().to_path_buf(), line: 3 });
        }
    }

    #[test]
    fn error_of_invalid_value_names_option_line_and_allowed_values() {
        for (option, wrong) in wrong() {
            let file = format!("[reports]\n{option} = \"{wrong}\"\n");
            let error = read(path(), &file, "reports").unwrap_err().to_string();
            let row = crate::options().iter().find(|row| row.name == option).unwrap();
            for part in [option, "larder.toml, line 2", row.allowed] {
                assert!(error.contains(part), "{part:?} is missing in {error:?}");
            }
        }
    }

    #[test]
    fn errors_do_not_contain_passwords() {
        for file in
            ["[all]\nredis = \"redis://me:secret@host\n", "[all]\nredis = \"redis//me:secret@host\"\n"]
        {
            let error = read(path(), file, "reports").unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        }
    }

    #[test]
    fn lists_and_fractions_are_parsed() {
        let file = "[all]\nrequire = [\"memory\", \"disk\"]\njitter = 0.5\n";
        let settings = Resolved::from_levels(read(path(), file, "x").unwrap()).settings;
        assert_eq!(settings.require.map(|tiers| tiers.iter().count()), Some(2));
        assert_eq!(settings.jitter, Some(0.5));
    }

    #[test]
    fn section_of_a_cache_overrides_section_all() {
        let file = "[all]\ncapacity = 1\nversion = 2\n[\"my reports\"]\ncapacity = 3\n";
        let resolved = Resolved::from_levels(read(path(), file, "my reports").unwrap());
        assert_eq!((resolved.settings.capacity, resolved.settings.version), (Some(3), Some(2)));
    }

    #[test]
    fn error_of_invalid_file_names_the_line() {
        let check = |file: &str, parts: &[&str]| {
            let error = read(path(), file, "reports").unwrap_err().to_string();
            parts.iter().for_each(|part| assert!(error.contains(part), "{part:?} is missing in {error:?}"));
        };
        check(
            "[reports]\n\ndisk_bytes = \"1 B\"\n",
            &["disk_bytes", "larder.toml, line 3", "`1 B`", "16 MiB"],
        );
        check("[reports]\ndisk_bites = 1\n", &["disk_bites", "larder.toml, line 2", "disk_bytes"]);
        check("[reports]\ncapacity = [1]\n", &["capacity", "the type array", "line 2", "0 keeps nothing"]);
        check("[reports\n", &["LARDER_CONFIG", "larder.toml", "line 1"]);
        check(
            "\ndisk_bytes = \"1 GiB\"\n[all]\n",
            &["LARDER_CONFIG", "line 2", "`disk_bytes`", "no section", "[all]"],
        );
        check("[all]\n[my.reports]\nttl = \"1h\"\n", &["LARDER_CONFIG", "line 2", "[\"my.reports\"]"]);
        check("[reports]\nttl = 3600\n", &["`3600`", "larder.toml, line 2", "1ms or more", "1h 30m"]);
    }

    #[test]
    fn value_of_another_type_is_an_error_that_names_the_type_and_the_line() {
        for (value, given) in
            [("[]", "array"), ("[1, 2]", "array"), ("2020-01-01", "datetime"), ("{ x = 1 }", "table")]
        {
            let file = format!("[reports]\nttl = \"1s\"\nnamespace = {value}\n");
            let row = crate::options().iter().find(|row| row.name == "namespace").unwrap();
            let error = read(path(), &file, "reports").unwrap_err().to_string();
            for part in ["namespace", given, "larder.toml, line 3", row.allowed] {
                assert!(error.contains(part), "{part:?} is missing in {error:?}");
            }
        }
    }

    #[test]
    fn both_bounds_of_one_section_hold() {
        let bounds = |file: &str| {
            let settings = Resolved::from_levels(read(path(), file, "mine").unwrap()).settings;
            (settings.capacity, settings.memory_bytes)
        };
        let both = "capacity = 5\nmemory_bytes = \"1 MiB\"\n";
        assert_eq!(bounds(&format!("[mine]\n{both}")), (Some(5), Some(1 << 20)));
        assert_eq!(bounds(&format!("[all]\n{both}")), (Some(5), Some(1 << 20)));
        assert_eq!(bounds("[mine]\ncapacity = 5\n[all]\nmemory_bytes = \"1 MiB\"\n"), (Some(5), None));
    }
}
