//! Whether this process may change the rules.

use super::RedirectError;

/// Number and name of the capabilities that are needed (`linux/capability.h`). The older iptables open a raw socket.
const NEEDED: [(u32, &str); 2] = [(12, "NET_ADMIN"), (13, "NET_RAW")];

/// Finds out by the capabilities in force. Where they cannot be read, the programs say what is missing.
pub(super) fn check() -> Result<(), RedirectError> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    match missing(&status) {
        Some(name) => Err(RedirectError::Right(name)),
        None => Ok(()),
    }
}

/// The first capability that is missing by the content of `/proc/PID/status`.
fn missing(status: &str) -> Option<&'static str> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let held = u64::from_str_radix(line.trim(), 16).ok()?;
    NEEDED.iter().find(|(number, _)| held & (1 << number) == 0).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_capability_is_named() {
        for (held, expected) in [
            ("000001ffffffffff", None),
            ("0000000000003000", None),
            ("0000000000001000", Some("NET_RAW")),
            ("0000000000002000", Some("NET_ADMIN")),
            ("0000000000000000", Some("NET_ADMIN")),
            ("unknown", None),
        ] {
            assert_eq!(missing(&format!("Name:\tx\nCapEff:\t{held}\nSeccomp:\t0\n")), expected, "{held}");
        }
    }
}
