//! Sets and removes the redirection of the network namespace that this process is in: chooses a back end and runs its
//! programs. The rules come from [`eastwest_redirect`].
//!
//! Back ends are `iptables`, by the kernel's nf_tables or its older tables, and nftables itself. Rules of ours in a back
//! end that is not the chosen one are removed, for the kernel would follow both.

mod programs;
mod rights;

use eastwest_redirect::{ENVOY_SOURCE_V6, Family, Redirection, iptables, nftables};

use self::programs::{Iptables, add_address, nft};

/// Which programs set the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// iptables if it works, else nftables.
    Auto,
    /// `iptables-restore`, in the form that the kernel supports.
    Iptables,
    /// `nft`.
    Nftables,
}

/// Why the redirection is not as it should be: one line.
#[derive(Debug, thiserror::Error)]
pub enum RedirectError {
    /// This process lacks a right.
    #[error(
        "redirection needs the capability {0}; run as root with NET_ADMIN and NET_RAW, as the container istio-init does"
    )]
    Right(&'static str),
    /// No back end works here.
    #[error("redirection of {family}: no program works here: {tried}; {remedy}", family = .family.name())]
    NoBackend {
        /// The family of addresses.
        family: Family,
        /// Each program with its own words.
        tried: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A program refused the rules.
    #[error("redirection of {family}: {program}: {said}", family = .family.name())]
    Refused {
        /// The family of addresses.
        family: Family,
        /// The program.
        program: String,
        /// Its own words, in one line.
        said: String,
    },
}

/// One way to set rules of one family.
enum Means {
    Iptables(Iptables),
    Nftables,
}

impl Means {
    fn name(&self) -> &'static str {
        match self {
            Self::Iptables(found) => found.restore(),
            Self::Nftables => "nft",
        }
    }
}

/// The families of addresses that this network namespace has: IPv4 always.
pub fn families() -> Vec<Family> {
    let interfaces = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let has_v6 = !interfaces.trim().is_empty();
    [Family::V4].into_iter().chain(has_v6.then_some(Family::V6)).collect()
}

/// Sets the rules for these families, in place of those of an earlier run. Returns the program used for each.
///
/// # Errors
/// A right, a program or a part of the kernel is missing; then families before may have their rules already.
pub fn set(
    config: &Redirection,
    families: &[Family],
    backend: Backend,
) -> Result<Vec<(Family, &'static str)>, RedirectError> {
    rights::check()?;
    let mut used = Vec::new();
    for family in families.iter().copied() {
        if family == Family::V6 {
            add_address(ENVOY_SOURCE_V6, family)?;
        }
        let means = choose(family, backend)?;
        match &means {
            Means::Iptables(found) => found.run(&iptables::set(config, family, &found.saved))?,
            Means::Nftables => nft(&nftables::set(config, &[family]), family)?,
        }
        unset_others(family, Some(&means))?;
        used.push((family, means.name()));
    }
    Ok(used)
}

/// Removes our rules of these families from every back end that is there.
///
/// # Errors
/// A right is missing, or a program refuses.
pub fn unset(families: &[Family]) -> Result<(), RedirectError> {
    rights::check()?;
    families.iter().try_for_each(|family| unset_others(*family, None))
}

/// Removes our rules from all back ends but one.
fn unset_others(family: Family, kept: Option<&Means>) -> Result<(), RedirectError> {
    for found in Iptables::installed(family).into_iter().flatten() {
        let is_kept = matches!(kept, Some(Means::Iptables(kept)) if kept.restore() == found.restore());
        if let (false, Some(text)) = (is_kept, iptables::unset(&found.saved)) {
            found.run(&text)?;
        }
    }
    match kept {
        Some(Means::Nftables) => Ok(()),
        _ if programs::nft_works(family).is_ok() => nft(&nftables::unset(&[family]), family),
        _ => Ok(()),
    }
}

/// The back end for a family. Older tables that have rules go first: the kernel's nf_tables do not see them. Else the
/// older form comes last, and is not even tried before, for its trial loads a module.
fn choose(family: Family, backend: Backend) -> Result<Means, RedirectError> {
    let mut tried = Vec::new();
    if backend != Backend::Nftables {
        let mut installed = Iptables::installed(family);
        let in_use = |found: &Iptables| found.is_legacy() && iptables::present(&found.saved).any;
        installed.sort_by_key(|found| !found.as_ref().is_ok_and(in_use));
        if installed.is_empty() {
            tried.push("iptables is not installed".to_owned());
        }
        for found in installed {
            match found.and_then(|found| found.works().map(|()| found)) {
                Ok(found) => return Ok(Means::Iptables(found)),
                Err(said) => tried.push(said),
            }
        }
    }
    if backend != Backend::Iptables {
        match programs::nft_works(family) {
            Ok(()) => return Ok(Means::Nftables),
            Err(said) => tried.push(said),
        }
    }
    let remedy = match family {
        Family::V4 => "the node's kernel needs nf_tables, or iptable_nat with xt_REDIRECT and xt_owner",
        Family::V6 => {
            "the node's kernel needs nf_tables, or ip6table_nat with xt_REDIRECT and xt_owner; in a cluster without \
             IPv6, --ip-families ipv4 leaves IPv6 unprotected"
        }
    };
    Err(RedirectError::NoBackend { family, tried: tried.join("; "), remedy })
}
