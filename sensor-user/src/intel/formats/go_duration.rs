//! Durations as Go prints them (`time.Duration`).

use jiff::SignedDuration;

/// Parses a duration in Go's format: `-1h2m3.5s`, `1.5ms`; `None` for anything else.
pub(super) fn go_duration(text: &str) -> Option<SignedDuration> {
    const SECOND: i128 = 1_000_000_000;
    let (is_negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    let mut total: i128 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (number, after) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let (unit, after) = [
            ("ns", 1),
            ("us", 1_000),
            ("µs", 1_000),
            ("μs", 1_000),
            ("ms", 1_000_000),
            ("s", SECOND),
            ("m", 60 * SECOND),
            ("h", 3600 * SECOND),
        ]
        .into_iter()
        .find_map(|(name, unit)| after.strip_prefix(name).map(|rest| (unit, rest)))?;
        if whole.len() > 18 || (whole.is_empty() && fraction.is_empty()) {
            return None;
        }
        let mut part = if whole.is_empty() { 0 } else { whole.parse::<i128>().ok()? } * unit;
        let mut scale = unit;
        for digit in fraction.chars() {
            scale /= 10;
            part += i128::from(digit.to_digit(10)?) * scale;
        }
        total = total.checked_add(part)?;
        rest = after;
    }
    let seconds = i64::try_from(total / SECOND).ok()?;
    let nanoseconds = i32::try_from(total % SECOND).ok()?;
    let duration = SignedDuration::new(seconds, nanoseconds);
    Some(if is_negative { -duration } else { duration })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_go_are_read_in_all_their_units() {
        for (text, nanoseconds) in [
            ("3h59m57.64s", Some(14_397_640_000_000)),
            ("-20.9ms", Some(-20_900_000)),
            ("1.5µs", Some(1_500)),
            ("1μs2us", Some(3_000)),
            ("7ns", Some(7)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("1.0000000000000009s", Some(1_000_000_000)),
            ("", None),
            ("-", None),
            ("5", None),
            ("h", None),
            (".s", None),
            ("1.2.3s", None),
            ("1d", None),
            ("99999999999999999999h", None),
            ("999999999999999999h", None),
        ] {
            let expected = nanoseconds.map(SignedDuration::from_nanos);
            assert_eq!(go_duration(text), expected, "{text}");
        }
    }
}
