//! Makes stored text harmless to a terminal.
//!
//! A key or a value may contain the control codes of a terminal, or characters that reorder a line. They are
//! printed as `\u{1b}`, so that a look at a cache never moves the cursor, sets a title or hides text.

use std::fmt::Write;

/// Returns whether a character is printed as an escape.
pub(crate) fn needs_escape(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// Text in one line: line breaks and tabs are escaped as well.
pub(crate) fn escaped_line(text: &str) -> String {
    escaped(text, |_| false)
}

/// Text that may have several lines: line breaks and tabs stay.
pub(crate) fn escaped_lines(text: &str) -> String {
    escaped(text, |c| c == '\n' || c == '\t')
}

fn escaped(text: &str, stays: impl Fn(char) -> bool) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if needs_escape(c) && !stays(c) {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    safe
}

/// JSON in which those characters are escapes of JSON. In a JSON document they occur only within text.
pub(crate) fn without_control_codes(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        if needs_escape(c) && c != '\n' {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(safe, "\\u{unit:04x}");
            }
        } else {
            safe.push(c);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\u{1b}]0;title\u{7}b\u{9b}2J\r\n\u{202e}c\u{200b}\u{7f}\u{e0041}";

    #[test]
    fn no_control_code_is_left() {
        for safe in [escaped_line(HOSTILE), escaped_lines(HOSTILE)] {
            assert!(!safe.chars().any(|c| needs_escape(c) && c != '\n'), "{safe}");
        }
        assert_eq!(escaped_line("\u{1b}[0m\n"), "\\u{1b}[0m\\n");
        assert_eq!(escaped_lines("a\tb\nc"), "a\tb\nc");
        assert_eq!(escaped_line("Speisekammer, кладовая, 食料庫 🥫"), "Speisekammer, кладовая, 食料庫 🥫");
    }

    #[test]
    fn escaped_json_reads_back() {
        let json = serde_json::to_string_pretty(&serde_json::json!({ "key": HOSTILE })).unwrap();
        let safe = without_control_codes(&json);
        assert!(!safe.chars().any(|c| needs_escape(c) && c != '\n'), "{safe}");
        let read: serde_json::Value = serde_json::from_str(&safe).unwrap();
        assert_eq!(read["key"], HOSTILE);
    }
}
