//! Durations as Go writes them: `1h30m`, `1.5s`, `100ms`.

use std::time::Duration;

use crate::field::Field;

/// The longest one, in seconds: beyond it Go and Envoy lose count of nanoseconds.
const LONGEST: u64 = i64::MAX.unsigned_abs() / 1_000_000_000;

/// Any duration; whoever asks says what is wrong with any other text.
pub(super) fn lenient(field: &Field<'_>) -> Option<Duration> {
    parse(field.text()?)
}

/// A duration of at least a millisecond, in whole milliseconds.
pub(super) fn positive(field: &Field<'_>) -> Option<Duration> {
    let duration = read(field)?;
    match whole_millis(duration) {
        true if duration.is_zero() => {
            field.error("must be at least 1ms: leave the field out for the default");
            None
        }
        true => Some(duration),
        false => refuse_fraction(field),
    }
}

/// A duration in whole milliseconds; 0 is one too.
pub(super) fn or_zero(field: &Field<'_>) -> Option<Duration> {
    let duration = read(field)?;
    if whole_millis(duration) { Some(duration) } else { refuse_fraction(field) }
}

fn whole_millis(duration: Duration) -> bool {
    duration.subsec_nanos().is_multiple_of(1_000_000)
}

fn refuse_fraction(field: &Field<'_>) -> Option<Duration> {
    field.error("must be whole milliseconds, such as 10s or 250ms");
    None
}

fn read(field: &Field<'_>) -> Option<Duration> {
    let text = field.text()?;
    let duration = parse(text);
    if duration.is_none() {
        field.error(format_args!("{text:?} is no duration: write it like 10s, 250ms or 1h30m"));
    }
    duration
}

fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let is_digit = |c: char| c.is_ascii_digit() || c == '.';
        let (number, tail) = rest.split_at(rest.find(|c| !is_digit(c))?);
        let (unit, tail) = tail.split_at(tail.find(is_digit).unwrap_or(tail.len()));
        let nanos = match unit {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "µs" => 1_000,
            "ns" => 1,
            _ => return None,
        };
        total = total.checked_add(part(number, nanos)?)?;
        rest = tail;
    }
    (!text.is_empty() && total.as_secs() < LONGEST).then_some(total)
}

/// A decimal number of units, exact to the nanosecond.
fn part(number: &str, unit: u64) -> Option<Duration> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut nanos = u128::from(whole) * u128::from(unit);
    let mut place = u128::from(unit);
    for digit in fraction.chars() {
        place /= 10;
        nanos += u128::from(digit.to_digit(10)?) * place;
    }
    Some(Duration::from_nanos(u64::try_from(nanos).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        for (text, millis) in
            [("10s", 10_000), ("1.5s", 1_500), ("100ms", 100), ("1h30m", 5_400_000), ("0s", 0), (".5s", 500)]
        {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse("0.001ms"), Some(Duration::from_micros(1)));
        for text in ["", "10", "s", "1d", "1s2", "-1s", ".s", "1.2.3s", "99999999999999999999h", "2562048h"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
