//! What our certificates contain (CA.md C6 and S20 to S30).

use std::{fmt, net::IpAddr, str::FromStr, time::Duration};

use eastwest_identity::{SpiffeId, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, SanType, SerialNumber, string::Ia5String,
};
use rustls_pki_types::ServerName;
use thiserror::Error;
use time::{OffsetDateTime, macros::datetime};

use crate::x509::{Window, public_key::KeyKind};

/// How far back certificates begin, for clocks that lag; short-lived ones half of their life at most. Clients that renew in
/// the middle between both ends, as ztunnel does, would else take a new certificate for an old one and ask without end.
const BACKDATE: time::Duration = time::Duration::minutes(2);
/// How far back a root begins: its first leaf must not be older than it on any clock. Short-lived roots begin a tenth of
/// their life back at most, so that they are not old at birth.
const ROOT_BACKDATE: time::Duration = time::Duration::hours(1);
/// How long a root lives unless told otherwise: ten years.
pub(crate) const ROOT_LIFE: Duration = Duration::from_secs(3650 * 24 * 60 * 60);
/// The last moment that a certificate can name (RFC 5280 §4.1.2.5).
const LAST_DAY: OffsetDateTime = datetime!(9999-12-31 23:59:59 UTC);
/// Longest organization name in characters (RFC 5280 appendix A, ub-organization-name).
const MAX_ORGANIZATION: usize = 64;

/// id-kp-documentSigning (RFC 9336 §3.1).
const DOCUMENT_SIGNING: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 3, 36];

/// A name or address in our own serving certificate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServingName {
    /// A DNS name in lower case.
    Dns(String),
    /// An IP address.
    Ip(IpAddr),
}

/// Neither a DNS name nor an IP address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("serving name {0:?}: neither a DNS name nor an IP address")]
pub struct ServingNameError(String);

impl FromStr for ServingName {
    type Err = ServingNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match ServerName::try_from(text) {
            Ok(ServerName::DnsName(name)) => {
                Ok(Self::Dns(name.as_ref().trim_end_matches('.').to_ascii_lowercase()))
            }
            Ok(ServerName::IpAddress(ip)) => Ok(Self::Ip(ip.into())),
            _ => Err(ServingNameError(text.to_owned())),
        }
    }
}

impl fmt::Display for ServingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

/// The life of a certificate that is asked for at `now`, inside the life of its signers.
pub(crate) fn window(now: OffsetDateTime, lifetime: Duration, signers: Window) -> Window {
    let now = now.replace_nanosecond(0).unwrap_or(now);
    let end = time::Duration::try_from(lifetime).ok().and_then(|lifetime| now.checked_add(lifetime));
    let not_after = end.map_or(signers.not_after, |end| end.min(signers.not_after));
    let half = time::Duration::seconds((not_after - now).whole_seconds() / 2);
    Window { not_before: now - BACKDATE.min(half), not_after }
}

/// An X509-SVID: empty subject, one URI, both extended key usages.
pub(crate) fn leaf(
    identity: &SpiffeId,
    key: KeyKind,
    serial: SerialNumber,
    window: Window,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = end_entity(serial, window);
    params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(identity.as_str())?)];
    if matches!(key, KeyKind::Rsa(_)) {
        params.key_usages.push(KeyUsagePurpose::KeyEncipherment); // RFC 8813 §3: never with an EC key
    }
    params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
    Ok(params)
}

/// The certificate that our own servers show. It names no SPIFFE ID, so nobody can be taken for us by it.
pub(crate) fn serving(
    names: &[ServingName],
    serial: SerialNumber,
    window: Window,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = end_entity(serial, window);
    for name in names {
        params.subject_alt_names.push(match name {
            ServingName::Dns(name) => SanType::DnsName(Ia5String::try_from(name.as_str())?),
            ServingName::Ip(ip) => SanType::IpAddress(*ip),
        });
    }
    Ok(params)
}

/// The certificate of the key that signs the ledger's checkpoints. It serves for documents (RFC 9336) and no peer.
pub(crate) fn ledger(serial: SerialNumber, window: Window) -> CertificateParams {
    let mut params = end_entity(serial, window);
    params.distinguished_name.push(DnType::CommonName, "eastwest ledger");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(DOCUMENT_SIGNING.to_vec())];
    params
}

/// A self-signed root, the `generation`th of its CA. Those that follow each other have names of their own, so that
/// nobody who looks for a signer by name finds two.
pub(crate) fn root(
    trust_domain: &TrustDomain,
    generation: u32,
    serial: SerialNumber,
    life: Duration,
    now: OffsetDateTime,
) -> CertificateParams {
    let now = now.replace_nanosecond(0).unwrap_or(now);
    let end = time::Duration::try_from(life).ok().and_then(|life| now.checked_add(life));
    let backdate =
        time::Duration::try_from(life / 10).map_or(ROOT_BACKDATE, |tenth| tenth.min(ROOT_BACKDATE));
    let backdate = time::Duration::seconds(backdate.whole_seconds());
    let window = Window { not_before: now - backdate, not_after: end.unwrap_or(LAST_DAY).min(LAST_DAY) };
    let mut params = base(serial, window);
    let name = trust_domain.as_str();
    params.distinguished_name.push(DnType::OrganizationName, &name[..name.len().min(MAX_ORGANIZATION)]);
    if generation > 1 {
        params.distinguished_name.push(DnType::CommonName, format!("root {generation}"));
    }
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn end_entity(serial: SerialNumber, window: Window) -> CertificateParams {
    let mut params = base(serial, window);
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

/// Nothing of rcgen's defaults that matters remains: neither name, serial number nor validity.
fn base(serial: SerialNumber, window: Window) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(serial);
    params.not_before = window.not_before;
    params.not_after = window.not_after;
    params
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serving_names() {
        for (text, good) in [
            ("istiod.istio-system.svc", true),
            ("LocalHost.", true),
            ("127.0.0.1", true),
            ("::1", true),
            ("a b", false),
            ("*.a", false),
            ("", false),
        ] {
            assert_eq!(ServingName::from_str(text).is_ok(), good, "{text}");
        }
        assert_eq!(ServingName::from_str("LocalHost."), Ok(ServingName::Dns("localhost".into())));
    }
}
