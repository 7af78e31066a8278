//! The profiles of our certificates (CA.md C6 and S20 to S30).

use std::{str::FromStr as _, time::Duration};

use der::{
    asn1::{Ia5String, ObjectIdentifier},
    flagset::FlagSet,
    oid::db::rfc5280::{ID_KP_CLIENT_AUTH, ID_KP_SERVER_AUTH},
};
use eastwest_identity::{SpiffeId, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyUsagePurpose, SerialNumber,
};
use time::{OffsetDateTime, macros::datetime};
use x509_cert::{
    ext::pkix::{KeyUsages, name::GeneralName},
    name::Name,
};

use crate::{
    issuing::signer::Contents,
    names::ServingName,
    x509::{Window, public_key::KeyKind},
};

/// Certificates begin this long before they are issued, because clocks differ; short-lived ones at most half of their
/// lifetime. Clients such as ztunnel renew in the middle between both ends: a longer backdate would make a new certificate
/// look old, and they would renew without end.
const BACKDATE: time::Duration = time::Duration::minutes(2);
/// Roots begin this long before they are created, so that no clock sees the first leaf as older than its root.
/// Short-lived roots begin at most a tenth of their lifetime back.
const ROOT_BACKDATE: time::Duration = time::Duration::hours(1);
/// Default lifetime of a root: ten years.
pub(crate) const ROOT_LIFE: Duration = Duration::from_secs(3650 * 24 * 60 * 60);
/// The last moment that a certificate can name (RFC 5280 §4.1.2.5).
const LAST_DAY: OffsetDateTime = datetime!(9999-12-31 23:59:59 UTC);
/// Longest organization name in characters (RFC 5280 appendix A, ub-organization-name).
const MAX_ORGANIZATION: usize = 64;

/// id-kp-documentSigning (RFC 9336 §3.1).
const DOCUMENT_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.36");

/// A SPIFFE ID as it stands in a certificate.
pub(crate) fn uri(identity: &SpiffeId) -> der::Result<GeneralName> {
    Ia5String::new(identity.as_str()).map(GeneralName::UniformResourceIdentifier)
}

/// The life of a certificate that is asked for at `now`, inside the life of its signers.
pub(crate) fn window(now: OffsetDateTime, lifetime: Duration, signers: Window) -> Window {
    let now = now.replace_nanosecond(0).unwrap_or(now);
    let end = time::Duration::try_from(lifetime).ok().and_then(|lifetime| now.checked_add(lifetime));
    let not_after = end.map_or(signers.not_after, |end| end.min(signers.not_after));
    let half = time::Duration::seconds((not_after - now).whole_seconds() / 2);
    Window { not_before: now - BACKDATE.min(half), not_after }
}

/// The alternative names of a workload's certificate: its one URI, then other names.
pub(crate) fn leaf_names(identity: &SpiffeId, names: &[ServingName]) -> der::Result<Vec<GeneralName>> {
    std::iter::once(uri(identity)).chain(names.iter().map(ServingName::general_name)).collect()
}

/// An X509-SVID: empty subject, one URI, both extended key usages. `names` are those of [`leaf_names`].
pub(crate) fn leaf(names: Vec<GeneralName>, key: KeyKind, serial: [u8; 16], window: Window) -> Contents {
    let mut contents = end_entity(serial, window);
    contents.names = names;
    if matches!(key, KeyKind::Rsa(_)) {
        contents.key_usages |= KeyUsages::KeyEncipherment; // RFC 8813 §3: never with an EC key
    }
    contents.extended_key_usages.push(ID_KP_CLIENT_AUTH);
    contents
}

/// The certificate that our own servers show. It names no SPIFFE ID, so it proves no workload identity.
pub(crate) fn serving(names: &[ServingName], serial: [u8; 16], window: Window) -> der::Result<Contents> {
    let names = names.iter().map(ServingName::general_name).collect::<der::Result<_>>()?;
    Ok(Contents { names, ..end_entity(serial, window) })
}

/// A certificate made for trial: without names, for servers and clients.
pub(crate) fn trial(serial: [u8; 16], window: Window) -> Contents {
    let mut contents = end_entity(serial, window);
    contents.extended_key_usages.push(ID_KP_CLIENT_AUTH);
    contents
}

/// The certificate of the key that signs the ledger's checkpoints. It serves for documents (RFC 9336) and no peer.
pub(crate) fn ledger(serial: [u8; 16], window: Window) -> der::Result<Contents> {
    let subject = Name::from_str("CN=eastwest ledger")?;
    let extended_key_usages = vec![DOCUMENT_SIGNING];
    Ok(Contents { subject, extended_key_usages, ..end_entity(serial, window) })
}

fn end_entity(serial: [u8; 16], window: Window) -> Contents {
    Contents {
        serial,
        window,
        subject: Name::default(),
        names: Vec::new(),
        key_usages: FlagSet::from(KeyUsages::DigitalSignature),
        extended_key_usages: vec![ID_KP_SERVER_AUTH],
    }
}

/// A self-signed root, the `generation`th of its CA. Those that follow each other have names of their own, so that
/// nobody who looks for a signer by name finds two.
pub(crate) fn root(
    trust_domain: &TrustDomain,
    generation: u32,
    serial: [u8; 16],
    life: Duration,
    now: OffsetDateTime,
) -> CertificateParams {
    let now = now.replace_nanosecond(0).unwrap_or(now);
    let end = time::Duration::try_from(life).ok().and_then(|life| now.checked_add(life));
    let backdate =
        time::Duration::try_from(life / 10).map_or(ROOT_BACKDATE, |tenth| tenth.min(ROOT_BACKDATE));
    let backdate = time::Duration::seconds(backdate.whole_seconds());
    let window = Window { not_before: now - backdate, not_after: end.unwrap_or(LAST_DAY).min(LAST_DAY) };
    // Nothing of rcgen's defaults that matters remains: neither name, serial number nor validity.
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = window.not_before;
    params.not_after = window.not_after;
    let name = trust_domain.as_str();
    params.distinguished_name.push(DnType::OrganizationName, &name[..name.len().min(MAX_ORGANIZATION)]);
    if generation > 1 {
        params.distinguished_name.push(DnType::CommonName, format!("root {generation}"));
    }
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}
