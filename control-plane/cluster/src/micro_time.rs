//! Times with microseconds, as Leases and Events have them.

use time::{OffsetDateTime, UtcOffset, format_description::BorrowedFormatItem, macros::format_description};

/// RFC 3339 with microseconds, as the API demands it.
const FORMAT: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");

/// A time as the API's type `MicroTime`.
pub(crate) fn micro_time(time: OffsetDateTime) -> String {
    time.to_offset(UtcOffset::UTC).format(FORMAT).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_six_digits_of_a_second() {
        assert_eq!(micro_time(OffsetDateTime::UNIX_EPOCH), "1970-01-01T00:00:00.000000Z");
    }
}
