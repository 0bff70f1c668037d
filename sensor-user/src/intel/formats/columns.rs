//! Columns of exported tables, tolerant of the spellings of exports: numbers and booleans as text,
//! times with or without zone, absent values as null or "".

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use jiff::civil::DateTime;
use serde::de::{IgnoredAny, MapAccess, SeqAccess};
use serde::{Deserialize, Deserializer, de};

use super::json::LenientStr;

/// Text of a column, borrowed from the input if it has no escapes. Numbers and booleans are their text,
/// since converters write a process named `17` so; null and absent are "".
#[derive(Debug, Default)]
pub struct JsonStr<'a>(Cow<'a, str>);

impl JsonStr<'_> {
    /// Returns the string.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the string; "" for a word that stands for an absent value.
    pub fn present(&self) -> &str {
        if is_absent(&self.0) { "" } else { &self.0 }
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
        LenientStr::deserialize(input).map(|text| Self(text.0))
    }
}

/// Value of a column or property that may be of another type than it should be, so that the value
/// costs only itself.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub enum Lenient<T> {
    /// There is none, or a word for none.
    #[default]
    Absent,
    /// The value.
    Value(T),
    /// Another value, which cannot be converted; its text.
    Unused(String),
}

impl<T: Copy> Lenient<T> {
    /// Returns the value, if there is a usable one.
    pub const fn get(&self) -> Option<T> {
        match self {
            Self::Value(value) => Some(*value),
            Self::Absent | Self::Unused(_) => None,
        }
    }

    /// Returns the text of a value that cannot be used.
    pub fn unused(&self) -> Option<&str> {
        match self {
            Self::Unused(text) => Some(text),
            Self::Absent | Self::Value(_) => None,
        }
    }

    fn convert<U>(self, convert: impl FnOnce(T) -> Option<U>) -> Lenient<U>
    where
        T: fmt::Display,
    {
        match self {
            Self::Absent => Lenient::Absent,
            Self::Value(value) => match convert(value) {
                Some(converted) => Lenient::Value(converted),
                None => Lenient::Unused(value.to_string()),
            },
            Self::Unused(text) => Lenient::Unused(text),
        }
    }
}

/// True for a text that stands for an absent value, as exports write it.
pub fn is_absent(text: &str) -> bool {
    ["", "None", "null", "-", "N/A"].contains(&text)
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

/// Deserializes a time in any spelling of lists.
pub fn time<'de, D: Deserializer<'de>>(input: D) -> Result<Lenient<Timestamp>, D::Error> {
    let text = LenientStr::deserialize(input)?;
    let text = text.as_str();
    Ok(match lenient_time(text) {
        _ if is_absent(text) => Lenient::Absent,
        Some(time) => Lenient::Value(time),
        None => Lenient::Unused(text.to_owned()),
    })
}

/// Deserializes a boolean, also as text (any case, `yes` and `no`) or 1 and 0.
pub fn flag<'de, D: Deserializer<'de>>(input: D) -> Result<Lenient<bool>, D::Error> {
    let unused = |text: &str| Lenient::Unused(text.to_owned());
    Ok(match Option::<Scalar<'de>>::deserialize(input)? {
        None => Lenient::Absent,
        Some(Scalar::Bool(value)) => Lenient::Value(value),
        Some(Scalar::Number(0.0)) => Lenient::Value(false),
        Some(Scalar::Number(1.0)) => Lenient::Value(true),
        Some(Scalar::Number(value)) => unused(&value.to_string()),
        Some(Scalar::Text(text)) if is_absent(text.trim()) => Lenient::Absent,
        Some(Scalar::Text(text)) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" => Lenient::Value(true),
            "false" | "0" | "no" => Lenient::Value(false),
            _ => unused(&text),
        },
        Some(Scalar::Other(kind)) => unused(kind),
    })
}

/// Deserializes a number, also as text, with or without `%`.
pub fn number<'de, D: Deserializer<'de>>(input: D) -> Result<Lenient<f64>, D::Error> {
    let finite =
        |value: f64| if value.is_finite() { Lenient::Value(value) } else { Lenient::Absent };
    Ok(match Option::<Scalar<'de>>::deserialize(input)? {
        None => Lenient::Absent,
        Some(Scalar::Number(value)) => finite(value),
        Some(Scalar::Bool(value)) => Lenient::Unused(value.to_string()),
        Some(Scalar::Text(text)) if is_absent(text.trim()) => Lenient::Absent,
        Some(Scalar::Text(text)) => match text.trim().trim_end_matches('%').parse() {
            // Pandas writes NaN for an absent number.
            Ok(value) => finite(value),
            Err(_not_a_number) => Lenient::Unused(text.into_owned()),
        },
        Some(Scalar::Other(kind)) => Lenient::Unused(kind.to_owned()),
    })
}

/// Deserializes an integer of at least 0, also as text; true is 1 and false 0, since converters take a
/// column of ones and zeros for booleans.
pub fn integer<'de, D, N>(input: D) -> Result<Lenient<N>, D::Error>
where
    D: Deserializer<'de>,
    N: TryFrom<u64>,
{
    let value = match number(input)? {
        Lenient::Unused(text) if text == "true" => Lenient::Value(1.0),
        Lenient::Unused(text) if text == "false" => Lenient::Value(0.0),
        other => other,
    };
    Ok(value.convert(|value| {
        if value < 0.0 || value.fract() != 0.0 || value > MAX_EXACT {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to be whole and in range"
        )]
        let whole = value as u64;
        N::try_from(whole).ok()
    }))
}

/// 2^53, the largest integer up to which an `f64` is exact.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// A column with several possible types. (An untagged enum would build an error for each type that
/// does not fit.)
enum Scalar<'a> {
    Bool(bool),
    Number(f64),
    Text(Cow<'a, str>),
    /// An array or object; its description.
    Other(&'static str),
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
        f.write_str("a value")
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

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Self::Value, A::Error> {
        while values.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other("an array"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other("an object"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_another_type_costs_only_itself() {
        fn read<T>(
            json: &str,
            read: impl FnOnce(
                &mut serde_json::Deserializer<serde_json::de::StrRead<'_>>,
            ) -> Result<Lenient<T>, serde_json::Error>,
        ) -> Lenient<T> {
            read(&mut serde_json::Deserializer::from_str(json)).unwrap()
        }
        for (json, value) in [
            ("85", Lenient::Value(85.0)),
            ("\"85%\"", Lenient::Value(85.0)),
            ("null", Lenient::Absent),
            ("\"None\"", Lenient::Absent),
            ("\"N/A\"", Lenient::Absent),
            ("\"NaN\"", Lenient::Absent),
            ("\"High\"", Lenient::Unused("High".to_owned())),
            ("false", Lenient::Unused("false".to_owned())),
            ("[1,[2]]", Lenient::Unused("an array".to_owned())),
            ("{\"a\":1}", Lenient::Unused("an object".to_owned())),
        ] {
            assert_eq!(read(json, |input| number(input)), value, "{json}");
        }
        for (json, value) in [
            ("true", Lenient::Value(true)),
            ("\"No\"", Lenient::Value(false)),
            ("0.0", Lenient::Value(false)),
            ("2", Lenient::Unused("2".to_owned())),
            ("\"\"", Lenient::Absent),
            ("\"maybe\"", Lenient::Unused("maybe".to_owned())),
        ] {
            assert_eq!(read(json, |input| flag(input)), value, "{json}");
        }
        for (json, value) in [
            ("true", Lenient::Value(1)),
            ("443.0", Lenient::Value(443)),
            ("\"443\"", Lenient::Value(443)),
            ("-1", Lenient::Unused("-1".to_owned())),
            ("65536", Lenient::Unused("65536".to_owned())),
            ("\"-\"", Lenient::Absent),
        ] {
            assert_eq!(read::<u16>(json, |input| integer(input)), value, "{json}");
        }
        let noon: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        for (json, value) in [
            ("\"2026-11-24 12:00:00\"", Lenient::Value(noon)),
            ("1795521600", Lenient::Value(noon)),
            ("\"None\"", Lenient::Absent),
            ("false", Lenient::Unused("false".to_owned())),
        ] {
            assert_eq!(read(json, |input| time(input)), value, "{json}");
        }
        for (json, text) in [("17", "17"), ("true", "true"), ("null", ""), ("[\"a\",1]", "a, 1")] {
            assert_eq!(serde_json::from_str::<JsonStr<'_>>(json).unwrap().as_str(), text);
        }
    }

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
