//! Times in RFC 3339, in whole seconds. They are rounded up, so that no time is too early.

use serde::{Deserialize, Deserializer, Serializer, de::Error as _};
use time::{Duration, OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

pub(crate) fn text(time: OffsetDateTime) -> String {
    let time = if time.nanosecond() == 0 { time } else { time + Duration::SECOND };
    let time = time.replace_nanosecond(0).unwrap_or(time).to_offset(UtcOffset::UTC);
    time.format(&Rfc3339).unwrap_or_default()
}

pub(crate) fn serialize<S: Serializer>(time: &OffsetDateTime, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&text(*time))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<OffsetDateTime, D::Error> {
    let text = String::deserialize(from)?;
    OffsetDateTime::parse(&text, &Rfc3339).map_err(D::Error::custom)
}

pub(crate) mod option {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(time: &Option<OffsetDateTime>, to: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => super::serialize(time, to),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<OffsetDateTime>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| OffsetDateTime::parse(&text, &Rfc3339).map_err(D::Error::custom)).transpose()
    }
}
