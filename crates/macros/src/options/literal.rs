//! Option values that are known at compile time, and their ranges.

use std::ops::RangeInclusive;
use std::time::Duration;

use syn::spanned::Spanned;
use syn::{Error, Expr, ExprLit, Lit, LitStr};

use super::Tier;

/// The text of a string literal.
pub(crate) fn text(value: &Expr) -> Option<&LitStr> {
    match value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text),
        _ => None,
    }
}

fn integer(value: &Expr) -> Option<syn::Result<u64>> {
    match value {
        Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) => Some(number.base10_parse()),
        _ => None,
    }
}

/// The range that the builder allows, by the name of the option. Only literals are checked here; `build()`
/// checks other expressions.
fn allowed(tier: Tier, option: &str) -> Option<(RangeInclusive<u64>, &'static str)> {
    let least_memory = if tier == Tier::Memory { 64 << 10 } else { 0 };
    match option {
        "capacity" => Some((0..=u64::MAX, "entries")),
        "memory_bytes" => Some((least_memory..=16 << 40, "bytes")),
        "disk_bytes" => Some((16 << 20..=1 << 50, "bytes")),
        "record_bytes" => Some((1..=u64::MAX, "bytes")),
        _ => None,
    }
}

/// The value of a numeric option, checked if it is a literal. Text such as `"64 MiB"` becomes the number of
/// bytes.
pub(crate) fn number(tier: Tier, option: &str, value: Expr) -> syn::Result<Expr> {
    let Some((range, unit)) = allowed(tier, option) else { return Ok(value) };
    let given = match (text(&value), integer(&value)) {
        (Some(text), _) if unit == "bytes" => bytes(text)?,
        (Some(text), _) => return Err(Error::new(text.span(), format!("`{option}` is a number of {unit}"))),
        (None, Some(number)) => number?,
        (None, None) => return Ok(value),
    };
    if !range.contains(&given) {
        let (from, to) = (*range.start(), *range.end());
        let (given, from, to) = match unit {
            "bytes" => (size(given), size(from), size(to)),
            _ => (format!("{given} {unit}"), from.to_string(), format!("{to} {unit}")),
        };
        let message = format!("option `{option}`: given {given}, allowed {from} to {to}");
        return Err(Error::new(value.span(), message));
    }
    let literal = proc_macro2::Literal::u64_suffixed(given);
    Ok(syn::parse_quote_spanned!(value.span()=> #literal))
}

/// Prints a size in the largest binary unit that divides it.
fn size(bytes: u64) -> String {
    let units = [("PiB", 50), ("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let whole = units.into_iter().find(|(_, power)| bytes > 0 && bytes.is_multiple_of(1 << power));
    whole.map_or_else(|| format!("{bytes} B"), |(unit, power)| format!("{} {unit}", bytes >> power))
}

/// The units, as in the text of variables and files.
const UNITS: [(&str, u64); 12] = [
    ("", 1),
    ("b", 1),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("pib", 1 << 50),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("pb", 1_000_000_000_000_000),
];

/// Parses `"64 MiB"`, `"1 GB"`, `"4096"`.
fn bytes(text: &LitStr) -> syn::Result<u64> {
    let given = text.value().trim().to_ascii_lowercase();
    let digits = given.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = UNITS.iter().find(|(unit, _)| *unit == &given[digits.len()..]).map(|(_, factor)| factor);
    let number = digits.trim().replace(['_', ','], "").parse::<u64>().ok();
    let bytes = number.zip(factor).and_then(|(number, factor)| number.checked_mul(*factor));
    bytes.ok_or_else(|| {
        let message =
            "a size is a whole number and a unit, as \"64 MiB\": KiB to PiB count by 1024, kB to PB by 1000";
        Error::new(text.span(), message)
    })
}

/// Parses `"1h"`, `"90s"`, `"2days 3h"`.
pub(crate) fn duration(text: &LitStr) -> syn::Result<Duration> {
    let refused = |reason: String| {
        Error::new(
            text.span(),
            format!("`{}` is no time such as \"90s\", \"1h\" or \"2days\": {reason}", text.value()),
        )
    };
    match humantime::parse_duration(&text.value()) {
        Ok(Duration::ZERO) => Err(refused("it has to be longer than nothing".to_owned())),
        Ok(duration) => Ok(duration),
        Err(error) => Err(refused(error.to_string())),
    }
}
