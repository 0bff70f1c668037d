//! Columns of exported tables, tolerant of the spellings of exports: numbers and booleans as text,
//! times with or without zone, absent values as null or "".

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use jiff::civil::DateTime;
use serde::{Deserialize, Deserializer, de};

/// A JSON string, borrowed from the input if it has no escapes; null and absent are "".
/// (`Option<Cow<str>>` would always copy.)
#[derive(Debug, Default)]
pub struct JsonStr<'a>(Cow<'a, str>);

impl JsonStr<'_> {
    /// Returns the string.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the string, copied unless it is owned.
    pub fn into_owned(self) -> String {
        self.0.into_owned()
    }
}

impl<'a> From<&'a str> for JsonStr<'a> {
    fn from(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl From<String> for JsonStr<'_> {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for JsonStr<'a> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(JsonStrVisitor)
    }
}

struct JsonStrVisitor;

impl<'de> de::Visitor<'de> for JsonStrVisitor {
    type Value = JsonStr<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or null")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(JsonStr(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(JsonStr(Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(JsonStr::default())
    }
}

/// Parses a time: RFC 3339 with up to nine digits of a second; UTC if it has no zone.
pub fn parse_time(text: &str) -> Option<Timestamp> {
    text.parse::<Timestamp>().ok().or_else(|| {
        let civil: DateTime = text.parse().ok()?;
        jiff::tz::TimeZone::UTC.to_timestamp(civil).ok()
    })
}

/// Parses a time in any spelling of lists: as [`parse_time`], with the suffix ` UTC`, a date, or
/// seconds or milliseconds since 1970.
pub fn lenient_time(text: &str) -> Option<Timestamp> {
    /// Numbers below are seconds (to the year 5138), others milliseconds (from 1973).
    const SECONDS_MAX: i64 = 100_000_000_000;
    let text = text.strip_suffix("UTC").unwrap_or(text).trim();
    if let Ok(number) = text.parse::<i64>() {
        return match number {
            0 => None,
            ..SECONDS_MAX => Timestamp::from_second(number).ok(),
            _ => Timestamp::from_millisecond(number).ok(),
        };
    }
    parse_time(text)
}

/// Deserializes a time; null and "" are absent.
pub fn time<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Timestamp>, D::Error> {
    let text = Option::<Borrowed<'de>>::deserialize(input)?;
    match text.as_ref().map(|text| text.0.as_ref()) {
        None | Some("") => Ok(None),
        Some(text) => parse_time(text).map(Some).ok_or_else(|| {
            de::Error::invalid_value(
                de::Unexpected::Str(text),
                &"a time such as 2026-11-24T10:00:00Z",
            )
        }),
    }
}

/// Deserializes a boolean, also as text (any case) or 1 and 0; null and "" are absent.
pub fn flag<'de, D: Deserializer<'de>>(input: D) -> Result<Option<bool>, D::Error> {
    match Option::<Scalar<'de>>::deserialize(input)? {
        None => Ok(None),
        Some(Scalar::Bool(value)) => Ok(Some(value)),
        Some(Scalar::Number(0.0)) => Ok(Some(false)),
        Some(Scalar::Number(1.0)) => Ok(Some(true)),
        Some(Scalar::Number(value)) => {
            Err(de::Error::invalid_value(de::Unexpected::Float(value), &"true or false"))
        }
        Some(Scalar::Text(text)) => match text.to_ascii_lowercase().as_str() {
            "" => Ok(None),
            "true" | "1" => Ok(Some(true)),
            "false" | "0" => Ok(Some(false)),
            _ => Err(de::Error::invalid_value(de::Unexpected::Str(&text), &"true or false")),
        },
    }
}

/// Deserializes a number, also as text; null and "" are absent.
pub fn number<'de, D: Deserializer<'de>>(input: D) -> Result<Option<f64>, D::Error> {
    match Option::<Scalar<'de>>::deserialize(input)? {
        None => Ok(None),
        Some(Scalar::Number(value)) => Ok(Some(value)),
        Some(Scalar::Bool(value)) => {
            Err(de::Error::invalid_type(de::Unexpected::Bool(value), &"a number"))
        }
        Some(Scalar::Text(text)) if text.is_empty() => Ok(None),
        Some(Scalar::Text(text)) => text
            .parse()
            .map(Some)
            .map_err(|_cause| de::Error::invalid_value(de::Unexpected::Str(&text), &"a number")),
    }
}

/// Deserializes an integer of at least 0, also as text; null and "" are absent.
pub fn integer<'de, D, N>(input: D) -> Result<Option<N>, D::Error>
where
    D: Deserializer<'de>,
    N: TryFrom<u64>,
{
    let Some(value) = number(input)? else { return Ok(None) };
    let wrong = || de::Error::invalid_value(de::Unexpected::Float(value), &"an integer in range");
    if value < 0.0 || value.fract() != 0.0 || value > MAX_EXACT {
        return Err(wrong());
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be whole and in range"
    )]
    let whole = value as u64;
    N::try_from(whole).map(Some).map_err(|_cause| wrong())
}

/// 2^53, the largest integer up to which an `f64` is exact.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

#[derive(Deserialize)]
struct Borrowed<'a>(#[serde(borrow)] Cow<'a, str>);

/// A column with several possible types. (An untagged enum would build an error for each type that
/// does not fit.)
enum Scalar<'a> {
    Bool(bool),
    Number(f64),
    Text(Cow<'a, str>),
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> de::Visitor<'de> for ScalarVisitor {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a boolean, a number, a string or null")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Scalar::Bool(value))
    }

    #[expect(clippy::cast_precision_loss, reason = "`integer` checks the range")]
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Scalar::Number(value as f64))
    }

    #[expect(clippy::cast_precision_loss, reason = "`integer` checks the range")]
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Scalar::Number(value as f64))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Scalar::Number(value))
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(text.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::lenient_time;

    #[test]
    fn times_of_lists_are_read_in_all_their_forms() {
        for (text, time) in [
            ("2026-11-24 10:00:00", Some("2026-11-24T10:00:00Z")),
            ("2026-11-24 10:00:00 UTC", Some("2026-11-24T10:00:00Z")),
            ("2026-11-24T10:00:00.123456", Some("2026-11-24T10:00:00.123456Z")),
            ("2026-11-24T12:00:00+02:00", Some("2026-11-24T10:00:00Z")),
            ("2026-11-24", Some("2026-11-24T00:00:00Z")),
            ("1795514400", Some("2026-11-24T10:00:00Z")),
            ("1795514400000", Some("2026-11-24T10:00:00Z")),
            ("0", None),
            ("", None),
            ("never", None),
            ("9223372036854775807", None),
        ] {
            assert_eq!(lenient_time(text), time.map(|it| it.parse().unwrap()), "{text}");
        }
    }
}
