//! Hosts in objects of Istio.

use std::net::IpAddr;

/// Checks a host that may begin with a wildcard (POLICY.md D2, V2): `reviews`, `*.example.org`, `*-east.shop`, `*`.
///
/// # Errors
/// What is wrong with it and what to write.
pub(super) fn check_pattern(host: &str) -> Result<(), String> {
    if host.parse::<IpAddr>().is_ok_and(|address| address.is_ipv4()) {
        return Ok(());
    }
    let (first, rest) = host.split_once('.').map_or((host, None), |(first, rest)| (first, Some(rest)));
    let first = match first.strip_prefix('*') {
        Some("") => "x",
        Some(tail) => tail.strip_prefix('-').unwrap_or(tail),
        None => first,
    };
    if first.contains('*') || rest.is_some_and(|rest| rest.contains('*')) {
        return Err("a wildcard may only stand at the front, like *.example.org".to_owned());
    }
    check_name(&rest.map_or_else(|| first.to_owned(), |rest| format!("{first}.{rest}")))
}

/// Checks a DNS name; a dot may end it.
///
/// # Errors
/// What is wrong with it and what to write.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > 255 {
        return Err("a host has 1 to 255 bytes".to_owned());
    }
    let labels: Vec<&str> = name.strip_suffix('.').unwrap_or(name).split('.').collect();
    if let Some(label) = labels.iter().find(|label| !is_label(label)) {
        return Err(format!("the label {label:?} is not of letters, digits and '-', 1 to 63 bytes"));
    }
    match labels[..] {
        [_, .., last] if last.bytes().all(|b| b.is_ascii_digit()) => {
            Err("the last label is a number".to_owned())
        }
        _ => Ok(()),
    }
}

/// A DNS label in either case.
pub(super) fn is_label(label: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    label.len() <= 63
        && label.starts_with(edge)
        && label.ends_with(edge)
        && label.chars().all(|c| edge(c) || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_stand_at_the_front() {
        for good in ["a", "a.b", "*", "*.b", "*-east.b", "*east.b", "A.b.", "10.0.0.1", "a-1.b"] {
            assert_eq!(check_pattern(good), Ok(()), "{good}");
        }
        for bad in ["", "a.*", "a*.b", "*.*", "**", "*-.b", "a..b", "-a", "a_b", ".", "a.1", "é.b", "*a*.b"]
        {
            assert!(check_pattern(bad).is_err(), "{bad}");
        }
    }
}
