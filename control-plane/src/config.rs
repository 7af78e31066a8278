//! Parsing of settings. All mistakes are reported together, each with the name of its flag.

use std::{fmt, net::SocketAddr, time::Duration};

use eastwest_model::names::{is_dns_label, is_dns_subdomain};

/// The mistakes in a configuration.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<String>);

impl Problems {
    /// Adds a mistake: its flag, what is wrong, what to do.
    pub(crate) fn add(&mut self, flag: &str, problem: impl fmt::Display) {
        self.0.push(format!("{flag}: {problem}"));
    }

    /// Returns a valid value; adds the mistake of an invalid one.
    pub(crate) fn take<T, E: fmt::Display>(&mut self, flag: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(flag, error)).ok()
    }

    /// Adds mistakes in the form `--flag: …`, unless there is one of the same flag.
    pub(crate) fn extend(&mut self, mistakes: impl IntoIterator<Item = String>) {
        for mistake in mistakes {
            let flag = mistake.split(':').next().unwrap_or_default();
            if !self.0.iter().any(|known| known.split(':').next() == Some(flag)) {
                self.0.push(mistake);
            }
        }
    }

    /// Whether there is no mistake.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<String> for Problems {
    fn from_iter<I: IntoIterator<Item = String>>(problems: I) -> Self {
        Self(problems.into_iter().collect())
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|problem| writeln!(f, "error: {problem}"))
    }
}

/// A duration such as `10s`, `1h30m` or `90d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| format!("{text:?} is not a duration: write for example 10s, 45m, 24h, 1h30m or 90d"))
}

/// A duration as Go writes it, such as `2h`, `1h30m` or `1.5h`; not negative.
pub(crate) fn go_duration(text: &str) -> Result<Duration, String> {
    read_go_duration(text).ok_or_else(|| {
        format!("{text:?} is not a duration as Go writes it: write for example 45m, 24h, 1h30m or 1.5h")
    })
}

fn read_go_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 7] =
        [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = (!rest.is_empty()).then_some(Duration::ZERO)?;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let unit = rest[number..]
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .map_or(rest.len(), |at| number + at);
        let (_, seconds) = UNITS.iter().find(|(name, _)| *name == &rest[number..unit])?;
        let value = rest[..number].parse::<f64>().ok()? * seconds;
        total = total.checked_add(Duration::try_from_secs_f64(value).ok()?)?;
        rest = &rest[unit..];
    }
    Some(total)
}

/// A socket address such as `127.0.0.1:15012`; port 0 lets the system choose.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("{text:?} is not an address: write IP:PORT, for example 127.0.0.1:15012 or [::1]:0")
    })
}

/// A service account such as `shop/reviews`: namespace and name.
pub(crate) fn service_account(text: &str) -> Result<(String, String), String> {
    let shape = "NAMESPACE/SERVICE-ACCOUNT, for example shop/reviews";
    let (namespace, account) = text.split_once('/').ok_or_else(|| format!("{text:?} is not {shape}"))?;
    if !is_dns_label(namespace) {
        return Err(format!("{text:?}: {namespace:?} is not the name of a namespace: write {shape}"));
    }
    if !is_dns_subdomain(account) {
        return Err(format!("{text:?}: {account:?} is not the name of a service account: write {shape}"));
    }
    Ok((namespace.to_owned(), account.to_owned()))
}

/// The name of this process among its replicas: its pod, else its host.
pub(crate) fn replica() -> String {
    let pod = std::env::var("POD_NAME").ok().filter(|name| !name.is_empty());
    let host = || nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    pod.or_else(host).unwrap_or_else(|| "eastwest".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go_writes_them() {
        for (text, seconds) in [
            ("2h", Some(7200.0)),
            ("1h30m", Some(5400.0)),
            ("1.5h", Some(5400.0)),
            ("90m0s", Some(5400.0)),
            ("2h45m30.5s", Some(9930.5)),
            ("300ms", Some(0.3)),
            ("0", Some(0.0)),
            ("+5m", Some(300.0)),
            (".5h", Some(1800.0)),
            ("87600h", Some(315_360_000.0)),
            ("", None),
            ("10", None),
            ("-1h", None),
            ("1d", None),
            ("h", None),
            ("1h 30m", None),
            ("1.2.3h", None),
            ("99999999999999999999h", None),
        ] {
            assert_eq!(read_go_duration(text).map(|read| read.as_secs_f64()), seconds, "{text:?}");
        }
    }

    #[test]
    fn service_accounts_have_the_names_of_kubernetes() {
        for text in ["shop/reviews", "shop/reviews.v1", "0/0"] {
            assert!(service_account(text).is_ok(), "{text}");
        }
        for text in ["", "shop", "/", "a/", "/b", "A/b", "a/B", "a/b/c", "a.b/c", "a b/c", "a/b "] {
            let said = service_account(text).expect_err(text);
            assert!(said.contains("NAMESPACE/SERVICE-ACCOUNT, for example shop/reviews"), "{said}");
        }
    }

    #[test]
    fn all_mistakes_are_kept_by_name() {
        let mut problems = Problems::default();
        assert_eq!(problems.take("--cert-ttl", duration("90d")), Some(Duration::from_secs(90 * 86_400)));
        assert!(problems.is_empty());
        assert_eq!(problems.take("--cert-ttl", duration("soon")), None);
        assert_eq!(problems.take("--grpc-addr", address("localhost")), None);
        let text = problems.to_string();
        assert!(
            text.contains("--cert-ttl: \"soon\"") && text.contains("--grpc-addr: \"localhost\""),
            "{text}"
        );
    }
}
