//! Numbers for people: bytes, spans, moments.

use std::time::{Duration, SystemTime};

use larder_core::clock::Time;

/// The last moment that can be printed: the end of the year 9999.
const LAST_MILLIS: u64 = 253_402_300_799_999;

/// Bytes with a unit, to three digits.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if size < 1000.0 {
            break;
        }
        (size, unit) = (size / 1024.0, next);
    }
    let digits = if size < 10.0 { 2 } else { usize::from(size < 100.0) };
    format!("{size:.digits$} {unit}")
}

/// A number and its noun.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// A span, by its two largest units.
pub(crate) fn span(span: Duration) -> String {
    const UNITS: [(&str, u64); 5] = [("d", 86_400), ("h", 3600), ("min", 60), ("s", 1), ("", 0)];
    let seconds = span.as_secs();
    if seconds == 0 {
        return format!("{} ms", span.as_millis());
    }
    for pair in UNITS.windows(2) {
        let ((name, unit), (next, part)) = (pair[0], pair[1]);
        if seconds >= unit {
            let rest = (seconds % unit).checked_div(part).unwrap_or(0);
            let rest = if rest > 0 { format!(" {rest} {next}") } else { String::new() };
            return format!("{} {name}{rest}", seconds / unit);
        }
    }
    String::new()
}

/// How long ago a time was, as text.
pub(crate) fn ago(now: Time, then: Time) -> String {
    if then > now { "in the future".to_owned() } else { span(now.since(then)) }
}

/// A moment in UTC, as RFC 3339; `never` for the infinite future.
pub(crate) fn moment(time: Time) -> String {
    if time == Time::NEVER {
        return "never".to_owned();
    }
    let millis = time.as_millis();
    if millis > LAST_MILLIS {
        return format!("{millis} ms after 1970");
    }
    humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + Duration::from_millis(millis)).to_string()
}

/// A range of ages, for sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Age {
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Older,
}

impl Age {
    pub(crate) fn of(age: Duration) -> Self {
        match age.as_secs() {
            0..60 => Self::Minute,
            60..3600 => Self::Hour,
            3600..86_400 => Self::Day,
            86_400..604_800 => Self::Week,
            604_800..2_592_000 => Self::Month,
            _ => Self::Older,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Minute => "below 1 min",
            Self::Hour => "below 1 h",
            Self::Day => "below 1 d",
            Self::Week => "below 7 d",
            Self::Month => "below 30 d",
            Self::Older => "30 d or more",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_three_digits_and_a_unit() {
        for (number, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (10_240, "10.0 KiB"),
            (1_048_575, "1.00 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }

    #[test]
    fn spans_have_two_units() {
        for (millis, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1000, "1 s"),
            (61_000, "1 min 1 s"),
            (3_600_000, "1 h"),
            (90_000_000, "1 d 1 h"),
        ] {
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn any_time_can_be_printed() {
        assert_eq!(moment(Time::NEVER), "never");
        assert_eq!(moment(Time::from_millis(1_700_000_000_000)), "2023-11-14T22:13:20.000Z");
        assert_eq!(moment(Time::from_millis(LAST_MILLIS)), "9999-12-31T23:59:59.999Z");
        assert!(moment(Time::from_millis(u64::MAX - 1)).ends_with("ms after 1970"));
    }
}
