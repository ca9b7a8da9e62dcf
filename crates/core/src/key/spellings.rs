//! Canonical spellings of text: paths, numbers and words.
//!
//! Each function returns `None` if the text already has that spelling.

use std::path::{Path, PathBuf};

/// The longest text that is read as a number, and the longest number written
/// without an exponent.
const DIGITS_MAX: usize = 128;

/// A path normalized by its components, as the standard library compares paths: without repeated or trailing
/// separators and without inner `.` components.
pub(super) fn path(given: &str) -> Option<String> {
    let is_loose = |pair: &[u8]| pair[0] == b'/' && matches!(pair[1], b'/' | b'.');
    let may_change = given.ends_with('/') || given.as_bytes().windows(2).any(is_loose);
    if !may_change && std::path::MAIN_SEPARATOR == '/' {
        return None;
    }
    let path: PathBuf = Path::new(given).components().collect();
    path.into_os_string().into_string().ok().filter(|path| path != given)
}

/// A path without repeated and trailing `/`.
pub(super) fn separators(given: &str) -> Option<String> {
    if !given.contains("//") && !given.ends_with('/') {
        return None;
    }
    let mut path = String::with_capacity(given.len());
    for letter in given.chars() {
        if letter != '/' || !path.ends_with('/') {
            path.push(letter);
        }
    }
    if path.len() > 1 && path.ends_with('/') {
        path.pop();
    }
    Some(path).filter(|path| path != given)
}

/// Text with full case folding, `ß` and `SS` included.
pub(super) fn fold(given: &str) -> Option<String> {
    if given.is_ascii() {
        return ascii_lower(given);
    }
    Some(given.to_uppercase().to_lowercase()).filter(|text| text != given)
}

pub(super) fn lower(given: &str) -> Option<String> {
    if given.is_ascii() {
        return ascii_lower(given);
    }
    Some(given.to_lowercase()).filter(|text| text != given)
}

pub(super) fn ascii_lower(given: &str) -> Option<String> {
    given.bytes().any(|byte| byte.is_ascii_uppercase()).then(|| given.to_ascii_lowercase())
}

/// Whether case rewrites may change a text.
pub(super) fn has_case(given: &str) -> bool {
    given.bytes().any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii())
}

/// A decimal number without insignificant signs, zeros and exponents: `1.50` as `1.5`, `-0.0` as `0`, `1e3`
/// as `1000`.
pub(super) fn number(given: &str) -> Option<String> {
    let first = *given.as_bytes().first()?;
    if given.len() > DIGITS_MAX || !(first.is_ascii_digit() || matches!(first, b'+' | b'-' | b'.')) {
        return None;
    }
    let unsigned = given.strip_prefix(['+', '-']).unwrap_or(given);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = || whole.bytes().chain(fraction.bytes());
    if all().next().is_none() || !all().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits: String = all().map(char::from).skip_while(|digit| *digit == '0').collect();
    let kept = digits.trim_end_matches('0');
    // The number is `kept` times ten to the power of `scale`.
    let scale = i64::from(exponent) - fraction.len() as i64 + (digits.len() - kept.len()) as i64;
    let sign = if first == b'-' && !kept.is_empty() { "-" } else { "" };
    Some(format!("{sign}{}", written(kept, scale))).filter(|text| text != given)
}

/// Formats `digits` times ten to the power of `scale`.
fn written(digits: &str, scale: i64) -> String {
    let point = digits.len() as i64 + scale;
    match usize::try_from(scale) {
        _ if digits.is_empty() => "0".to_owned(),
        Ok(zeros) if point <= DIGITS_MAX as i64 => format!("{digits}{}", "0".repeat(zeros)),
        Ok(_) => format!("{digits}e{scale}"),
        Err(_) => match usize::try_from(point) {
            Ok(point) if point > 0 => format!("{}.{}", &digits[..point], &digits[point..]),
            _ if point > -(DIGITS_MAX as i64) => {
                format!("0.{}{digits}", "0".repeat(point.unsigned_abs() as usize))
            }
            _ => format!("{digits}e{scale}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lose_insignificant_digits() {
        let cases = [
            ("1.50", "1.5"),
            ("1.0", "1"),
            ("-0.00", "0"),
            ("+7", "7"),
            ("007", "7"),
            ("1e3", "1000"),
            ("1.5E-3", "0.0015"),
            ("100e-2", "1"),
            ("12.340", "12.34"),
            (".5", "0.5"),
            ("1e1000", "1e1000"),
            ("10e999", "1e1000"),
            ("1e-1000", "1e-1000"),
        ];
        for (given, expected) in cases {
            assert_eq!(number(given).unwrap_or_else(|| given.to_owned()), expected, "{given}");
            assert_eq!(number(expected), None, "{expected} is final");
        }
        for text in ["", "-", "1.2.3", "e3", "0x10", "1e", "1 ", "ten", "2024-01-01", "1e99999999999"] {
            assert_eq!(number(text), None, "{text} is no number");
        }
    }

    #[test]
    fn words_lose_their_case() {
        assert_eq!(fold("Straße").as_deref(), Some("strasse"));
        assert_eq!(lower("Straße").as_deref(), Some("straße"));
        assert_eq!(ascii_lower("ÀB").as_deref(), Some("Àb"));
        assert_eq!(fold("plain"), None);
    }

    #[cfg(unix)]
    #[test]
    fn paths_are_normalized_by_their_components() {
        for (given, expected) in
            [("a//b", "a/b"), ("a/./b/", "a/b"), ("./a/", "./a"), ("//", "/"), ("/", "/"), ("../a/.", "../a")]
        {
            assert_eq!(path(given).unwrap_or_else(|| given.to_owned()), expected, "{given}");
            assert_eq!(Path::new(given), Path::new(expected));
        }
        assert_eq!(separators("a//./b//").as_deref(), Some("a/./b"));
    }
}
