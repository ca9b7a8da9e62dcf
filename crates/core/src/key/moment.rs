//! Converts moments with a UTC offset to UTC.

/// The length of the shortest moment: `2024-01-01T12:00:00Z`.
const SHORTEST: usize = 20;
/// Seconds of a day.
const DAY: i64 = 86_400;

/// Converts a moment in RFC 3339 or ISO 8601 format to UTC: `2024-01-01T13:00:00+01:00` to
/// `2024-01-01T12:00:00Z`. A moment with a time zone in brackets (RFC 9557) gets the suffix `+00:00[UTC]`.
/// `None` if it already has this form, or is not a moment.
pub(super) fn utc(given: &str) -> Option<String> {
    let bytes = given.as_bytes();
    if bytes.len() < SHORTEST || !matches!(bytes[0], b'0'..=b'9' | b'+' | b'-') {
        return None;
    }
    let at = given.find(['T', 't', ' ']).filter(|at| (10..=16).contains(at))?;
    let (date, rest) = (&given[..at], given.get(at + 9..)?);
    let (year, day) = civil(date)?;
    let time = given.get(at + 1..at + 9)?;
    let (hour, minute, second) = (two(time, 0)?, two(time, 3)?, two(time, 6)?);
    if time.as_bytes()[2] != b':' || time.as_bytes()[5] != b':' || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let digits =
        rest.strip_prefix('.').map_or(0, |rest| 1 + rest.bytes().take_while(u8::is_ascii_digit).count());
    let (fraction, zone) = rest.split_at(digits);
    let (zone, name) = zone.split_at(zone.find('[').unwrap_or(zone.len()));
    let offset = offset(zone)?;
    // A leap second stays second 60 of its minute.
    let moment = day * DAY + hour * 3600 + minute * 60 + second.min(59) - offset;
    let (day, moment) = (moment.div_euclid(DAY), moment.rem_euclid(DAY));
    let (hour, minute, shown) = (moment / 3600, moment / 60 % 60, moment % 60 + second / 60);
    let (year, month, day) = if offset == 0 { (year, 0, 0) } else { from_days(day) };
    let date =
        if offset == 0 { date.to_owned() } else { format!("{}-{month:02}-{day:02}", shown_year(year)) };
    let zone = if name.is_empty() { "Z" } else { "+00:00[UTC]" };
    let separator = char::from(bytes[at]);
    let text = format!("{date}{separator}{hour:02}:{minute:02}:{shown:02}{fraction}{zone}");
    (text != given).then_some(text)
}

/// Converts a moment in nine numbers to UTC: year, day of the year, hour, minute, second, nanosecond, and
/// hours, minutes and seconds of the offset. `None` if it is in UTC already, or not a moment.
pub(super) fn in_numbers(given: [i64; 9]) -> Option<[i64; 9]> {
    let [year, ordinal, hour, minute, second, nano, hours, minutes, seconds] = given;
    let in_range = (1..=366).contains(&ordinal)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..60).contains(&second)
        && (0..1_000_000_000).contains(&nano)
        && [hours, minutes, seconds].iter().all(|part| part.abs() < 60)
        && year.abs() < 1_000_000;
    let offset = hours * 3600 + minutes * 60 + seconds;
    if !in_range || offset == 0 {
        return None;
    }
    let moment = (days(year, 1, 1) + ordinal - 1) * DAY + hour * 3600 + minute * 60 + second - offset;
    let (day, moment) = (moment.div_euclid(DAY), moment.rem_euclid(DAY));
    let (year, ..) = from_days(day);
    let ordinal = day - days(year, 1, 1) + 1;
    Some([year, ordinal, moment / 3600, moment / 60 % 60, moment % 60, nano, 0, 0, 0])
}

/// The year of a date, and the days since 1970-01-01.
fn civil(date: &str) -> Option<(i64, i64)> {
    let (rest, day) = date.rsplit_once('-')?;
    let (year, month) = rest.rsplit_once('-')?;
    if day.len() != 2 || month.len() != 2 {
        return None;
    }
    let is_year = year.trim_start_matches(['+', '-']).bytes().all(|byte| byte.is_ascii_digit());
    let (year, month, day): (i64, i64, i64) =
        (year.parse().ok().filter(|_| is_year)?, two(month, 0)?, two(day, 0)?);
    ((1..=12).contains(&month) && (1..=31).contains(&day)).then(|| (year, days(year, month, day)))
}

/// Formats a year with four digits, or with a sign if it needs more.
fn shown_year(year: i64) -> String {
    match year {
        0..=9999 => format!("{year:04}"),
        _ => format!("{}{:04}", if year < 0 { '-' } else { '+' }, year.unsigned_abs()),
    }
}

/// Parses an offset to seconds: `Z`, `+01:00`, `+0100`, `+01`, `+01:00:30`.
fn offset(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let digits: String = zone.strip_prefix(['+', '-'])?.split(':').collect();
    let is_whole = matches!(digits.len(), 2 | 4 | 6) && zone.len() <= 9;
    let part = |at| if at < digits.len() { two(&digits, at) } else { Some(0) };
    let (hours, minutes, seconds) = (part(0)?, part(2)?, part(4)?);
    (is_whole && hours < 24 && minutes < 60 && seconds < 60)
        .then_some(sign * (hours * 3600 + minutes * 60 + seconds))
}

/// Parses two digits.
fn two(text: &str, at: usize) -> Option<i64> {
    let digits = text.as_bytes().get(at..at + 2)?;
    let digit = |byte: u8| byte.is_ascii_digit().then(|| i64::from(byte - b'0'));
    Some(digit(digits[0])? * 10 + digit(digits[1])?)
}

/// Days since 1970-01-01 in the Gregorian calendar (Howard Hinnant, `days_from_civil`).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The reverse of [`days`].
fn from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_moments_are_converted_to_utc() {
        for (given, expected) in [
            ("2024-01-01T13:00:00+01:00", "2024-01-01T12:00:00Z"),
            ("2024-01-01T00:30:00.250+01:00", "2023-12-31T23:30:00.250Z"),
            ("2024-02-28T23:30:00-05:30", "2024-02-29T05:00:00Z"),
            ("2024-01-01 13:00:00+0100", "2024-01-01 12:00:00Z"),
            ("2024-01-01T12:00:00+00:00", "2024-01-01T12:00:00Z"),
            ("2016-12-31T18:59:60-05:00", "2016-12-31T23:59:60Z"),
            ("-0001-01-01T00:00:00+01:00", "-0002-12-31T23:00:00Z"),
            ("2024-07-11T01:14:00-04:00[America/New_York]", "2024-07-11T05:14:00+00:00[UTC]"),
        ] {
            assert_eq!(utc(given).as_deref(), Some(expected), "{given}");
            assert_eq!(utc(expected), None, "{expected} is final");
        }
        for text in [
            "",
            "2024-01-01",
            "2024-01-01T12:00:00",
            "2024-13-01T12:00:00+01:00",
            "T",
            "12:00:00+01:00",
            "2024-01-01T25:00:00+01:00",
            "2024-01-01Täglich neu, +01:00",
            "2024-01-01T12:00:00+",
            "aaaa-aa-aaTaa:aa:aa+aa:aa",
        ] {
            assert_eq!(utc(text), None, "{text} is no moment with an offset");
        }
    }

    #[test]
    fn numeric_moments_are_converted_to_utc() {
        assert_eq!(in_numbers([2024, 1, 0, 30, 0, 5, 1, 0, 0]), Some([2023, 365, 23, 30, 0, 5, 0, 0, 0]));
        assert_eq!(in_numbers([2023, 365, 20, 0, 0, 0, -5, -30, 0]), Some([2024, 1, 1, 30, 0, 0, 0, 0, 0]));
        assert_eq!(in_numbers([2024, 1, 0, 30, 0, 5, 0, 0, 0]), None);
        assert_eq!(in_numbers([1, 2, 3, 4, 5, 6, 7, 8, 900]), None);
    }

    #[test]
    fn days_and_dates_are_inverse() {
        for day in (-800_000..800_000).step_by(97) {
            let (year, month, of_month) = from_days(day);
            assert_eq!(days(year, month, of_month), day);
        }
    }
}
