//! serde modules for exact times on disk, as seconds and nanoseconds.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Encoding of a `Timestamp`.
pub(crate) mod required {
    use super::{Deserialize as _, Deserializer, Serialize as _, Serializer, Timestamp, de};

    pub(crate) fn serialize<S: Serializer>(time: &Timestamp, out: S) -> Result<S::Ok, S::Error> {
        (time.as_second(), time.subsec_nanosecond()).serialize(out)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Timestamp, D::Error> {
        let (second, nanosecond) = <(i64, i32)>::deserialize(input)?;
        Timestamp::new(second, nanosecond).map_err(de::Error::custom)
    }
}

/// Encoding of an `Option<Timestamp>`.
pub(crate) mod optional {
    use super::{Deserialize as _, Deserializer, Serialize as _, Serializer, Timestamp, de};

    #[expect(clippy::ref_option, reason = "serde passes the field by reference")]
    pub(crate) fn serialize<S: Serializer>(
        time: &Option<Timestamp>,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(|time| (time.as_second(), time.subsec_nanosecond())).serialize(out)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        input: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        let parts = Option::<(i64, i32)>::deserialize(input)?;
        let time = parts.map(|(second, nanosecond)| Timestamp::new(second, nanosecond));
        time.transpose().map_err(de::Error::custom)
    }
}
