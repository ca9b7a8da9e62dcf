//! Values that are known at compile time, and what is allowed for them.

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

/// Numbers that the builders allow, by the name of their option. Expressions
/// that are no literals are left to `build()`.
fn allowed(tier: Tier, option: &str) -> Option<(RangeInclusive<u64>, &'static str)> {
    let least_memory = if tier == Tier::Memory { 64 << 10 } else { 0 };
    match option {
        "capacity" => Some((1..=u64::from(u32::MAX), "entries")),
        "memory_bytes" => Some((least_memory..=16 << 40, "bytes")),
        "disk_bytes" => Some((16 << 20..=1 << 50, "bytes")),
        "record_bytes" => Some((1..=u64::MAX, "bytes")),
        _ => None,
    }
}

/// The value of an option that is a number, checked where it is a literal;
/// text such as `"64 MiB"` becomes its number of bytes.
pub(crate) fn number(tier: Tier, option: &str, value: Expr) -> syn::Result<Expr> {
    let Some((range, unit)) = allowed(tier, option) else { return Ok(value) };
    let given = match (text(&value), integer(&value)) {
        (Some(text), _) if unit == "bytes" => bytes(text)?,
        (Some(text), _) => return Err(Error::new(text.span(), format!("`{option}` is a number of {unit}"))),
        (None, Some(number)) => number?,
        (None, None) => return Ok(value),
    };
    if !range.contains(&given) {
        let (from, to) = (range.start(), range.end());
        let message = format!("option `{option}`: given {given} {unit}, allowed {from} to {to} {unit}");
        return Err(Error::new(value.span(), message));
    }
    let literal = proc_macro2::Literal::u64_suffixed(given);
    Ok(syn::parse_quote_spanned!(value.span()=> #literal))
}

/// `"64 MiB"`, `"1 GiB"`, `"4096"`.
fn bytes(text: &LitStr) -> syn::Result<u64> {
    let refused = || Error::new(text.span(), "a size is a whole number and a unit: B, KiB, MiB, GiB, TiB");
    let given = text.value();
    let digits = given.len() - given.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = given.split_at(digits);
    let number: u64 = number.parse().map_err(|_| refused())?;
    let power = match unit.trim() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return Err(refused()),
    };
    number.checked_mul(1 << power).ok_or_else(refused)
}

/// `"1h"`, `"90s"`, `"2days 3h"`.
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
