//! Which names of hosts workload certificates may have.

use clap::Args;
use eastwest_ca::AllowedNames;

use crate::config::Problems;

/// The names that a server allows where no flag says so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UsualNames {
    /// DNS names and patterns.
    pub(crate) dns: &'static [&'static str],
    /// Addresses and blocks of them.
    pub(crate) addresses: &'static [&'static str],
}

impl UsualNames {
    /// No name: a pod of a mesh is known by its identity.
    pub(crate) const NONE: Self = Self { dns: &[], addresses: &[] };
    /// Names that lead nowhere outside of this machine (RFC 6761 §6.2 and §6.3).
    pub(crate) const TESTS: Self = Self { dns: &["localhost", "*.test"], addresses: &["127.0.0.0/8", "::1"] };
}

/// Flags of names in workload certificates.
#[derive(Debug, Args)]
pub(super) struct NameArgs {
    /// A DNS name that certificates may have beside the SPIFFE ID if a request asks for it, or a pattern: *.example.com for
    /// every name that ends so (repeatable). For CI jobs the rule decides [default: none; for `ca serve` localhost, *.test].
    #[arg(long, value_name = "PATTERN", value_delimiter = ',', env = "EASTWEST_ALLOW_DNS")]
    allow_dns: Option<Vec<String>>,
    /// The same for IP addresses: an address or a block, 10.0.0.0/8 [default: none; for `ca serve` 127.0.0.0/8, ::1].
    #[arg(long, value_name = "ADDR-OR-BLOCK", value_delimiter = ',', env = "EASTWEST_ALLOW_IP")]
    allow_ip: Option<Vec<String>>,
}

impl NameArgs {
    /// Reads the flags.
    pub(super) fn read(self, problems: &mut Problems, usual: UsualNames) -> Option<AllowedNames> {
        let list = |given: &Option<Vec<String>>, usual: &[&'static str]| match given {
            Some(given) => given.iter().filter(|one| !one.is_empty()).cloned().collect(),
            None => usual.iter().map(|&one| one.to_owned()).collect::<Vec<_>>(),
        };
        let (dns, addresses) = (list(&self.allow_dns, usual.dns), list(&self.allow_ip, usual.addresses));
        let of_dns = problems.take("--allow-dns", AllowedNames::new(dns.iter().map(String::as_str), []));
        let of_ip = problems.take("--allow-ip", AllowedNames::new([], addresses.iter().map(String::as_str)));
        Some(of_dns?.and(&of_ip?))
    }
}
