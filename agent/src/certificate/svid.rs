//! Checking the response of the CA: an X.509-SVID with its key and trust bundle.

use std::{
    fmt,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use eastwest_ca::{ServingName, TrustBundle};
use eastwest_identity::SpiffeId;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use x509_parser::{
    certificate::X509Certificate,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer,
};
use zeroize::Zeroizing;

use super::key::WorkloadKey;

/// The workload's certificate with its key and its roots, all checked.
pub(crate) struct Svid {
    /// Leaf and intermediates, PEM, no roots.
    pub(crate) chain_pem: String,
    /// The private key, PKCS #8 in PEM.
    pub(crate) key_pem: Zeroizing<String>,
    /// The roots, PEM.
    pub(crate) bundle_pem: String,
    /// The identity of the workload.
    pub(crate) identity: SpiffeId,
    /// Serial number, lower-case hexadecimal.
    pub(crate) serial: String,
    /// Start of validity.
    pub(crate) not_before: SystemTime,
    /// End of validity.
    pub(crate) not_after: SystemTime,
}

/// What the certificate must contain.
pub(crate) struct Expected<'a> {
    /// The requested identity.
    pub(crate) identity: &'a SpiffeId,
    /// The names that were asked for beside it.
    pub(crate) names: &'a [ServingName],
    /// Whether the CA may choose another trust domain.
    pub(crate) any_trust_domain: bool,
}

/// Why the CA's response cannot be used. The mistake is the CA's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    #[error("it has {0} elements, but leaf and root are two at least")]
    TooShort(usize),
    #[error("element {element} is malformed: {reason}")]
    Malformed { element: usize, reason: String },
    #[error("the certificate is for another key than the one in our request")]
    ForeignKey,
    #[error(
        "the certificate names [{found}], but {expected} was asked for; do token and --namespace, --service-account, --trust-domain agree?"
    )]
    WrongIdentity { found: String, expected: SpiffeId },
    #[error(
        "the certificate lacks {0}; the CA gives names of hosts where --allow-dns and --allow-ip allow them, to a CI job \
         where dnsNames and ipAddresses of its rule do"
    )]
    MissingName(ServingName),
    #[error("the certificate has expired already; do the clocks of this host and the CA agree?")]
    Expired,
    #[error("the certificate does not lead to the roots that came with it: {0}")]
    Untrusted(String),
}

impl Svid {
    /// Checks the elements of a `cert_chain` (CA.md C8 and C32): leaf, intermediates, and the roots
    /// concatenated in the last one.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub(crate) fn accept(
        answer: &[String],
        key: &WorkloadKey,
        expected: &Expected<'_>,
        now: SystemTime,
    ) -> Result<Self, AnswerError> {
        let [chain @ .., bundle_pem] = answer else { return Err(AnswerError::TooShort(0)) };
        if chain.is_empty() {
            return Err(AnswerError::TooShort(1));
        }
        let elements: Vec<_> = answer.iter().enumerate().map(certificates).collect::<Result<_, _>>()?;
        let (roots, chain) = (&elements[elements.len() - 1], elements[..elements.len() - 1].concat());
        let (_, leaf) = X509Certificate::from_der(&chain[0]).map_err(|error| malformed(0, error))?;
        if leaf.public_key().raw != key.public_key() {
            return Err(AnswerError::ForeignKey);
        }
        let identity = identity(&leaf, expected)?;
        let missing = expected.names.iter().find(|name| !has_name(&leaf, name));
        if let Some(missing) = missing {
            return Err(AnswerError::MissingName(missing.clone()));
        }
        let (not_before, not_after) = validity(&leaf);
        if not_after <= now {
            return Err(AnswerError::Expired);
        }
        verify(&chain, roots, now)?;
        Ok(Self {
            chain_pem: without_roots(&chain).map(pem).collect(),
            key_pem: key.to_pem(),
            bundle_pem: with_newline(bundle_pem),
            identity,
            serial: leaf.serial.to_str_radix(16),
            not_before,
            not_after,
        })
    }

    /// Whether its validity has ended at `now`.
    pub(crate) fn expired(&self, now: SystemTime) -> bool {
        self.not_after <= now
    }

    /// Chain and key for a TLS client.
    ///
    /// # Errors
    /// Never for an accepted one; the texts are parsed again.
    pub(crate) fn client_identity(
        &self,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), rustls_pki_types::pem::Error> {
        let chain = CertificateDer::pem_slice_iter(self.chain_pem.as_bytes()).collect::<Result<_, _>>()?;
        Ok((chain, PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())?))
    }

    /// The roots.
    ///
    /// # Errors
    /// Never for an accepted one; the text is parsed again.
    pub(crate) fn roots(&self) -> Result<Vec<CertificateDer<'static>>, rustls_pki_types::pem::Error> {
        CertificateDer::pem_slice_iter(self.bundle_pem.as_bytes()).collect()
    }
}

impl fmt::Debug for Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Svid({}, serial {})", self.identity, self.serial)
    }
}

fn malformed(element: usize, reason: impl fmt::Display) -> AnswerError {
    AnswerError::Malformed { element, reason: reason.to_string() }
}

/// The certificates of one element: at least one.
fn certificates((element, pem): (usize, &String)) -> Result<Vec<CertificateDer<'static>>, AnswerError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match found {
        Ok(found) if found.is_empty() => Err(malformed(element, "no certificate in PEM")),
        found => found.map_err(|error| malformed(element, error)),
    }
}

/// The one URI among the subject alternative names, which must be the requested one (X509-SVID section 2).
fn identity(leaf: &X509Certificate<'_>, expected: &Expected<'_>) -> Result<SpiffeId, AnswerError> {
    let names: Vec<_> = leaf
        .extensions()
        .iter()
        .filter_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(san) => Some(&san.general_names),
            _ => None,
        })
        .flatten()
        .filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None })
        .collect();
    let wanted = |id: &SpiffeId| {
        id == expected.identity || expected.any_trust_domain && id.path() == expected.identity.path()
    };
    match names[..] {
        [uri] => SpiffeId::parse(uri).ok().filter(wanted),
        _ => None,
    }
    .ok_or_else(|| AnswerError::WrongIdentity {
        found: names.join(", "),
        expected: expected.identity.clone(),
    })
}

/// Whether a DNS name or an address is among the subject alternative names.
fn has_name(leaf: &X509Certificate<'_>, wanted: &ServingName) -> bool {
    let names = leaf.subject_alternative_name().ok().flatten();
    names.is_some_and(|names| {
        names.value.general_names.iter().any(|name| match (name, wanted) {
            (GeneralName::DNSName(name), ServingName::Dns(wanted)) => name.eq_ignore_ascii_case(wanted),
            (GeneralName::IPAddress(bytes), ServingName::Ip(IpAddr::V4(wanted))) => {
                **bytes == wanted.octets()
            }
            (GeneralName::IPAddress(bytes), ServingName::Ip(IpAddr::V6(wanted))) => {
                **bytes == wanted.octets()
            }
            _ => false,
        })
    })
}

fn validity(leaf: &X509Certificate<'_>) -> (SystemTime, SystemTime) {
    let time = |seconds: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap_or(0));
    (time(leaf.validity().not_before.timestamp()), time(leaf.validity().not_after.timestamp()))
}

/// Verifies as the servers of the mesh do when this workload calls them.
fn verify(
    chain: &[CertificateDer<'static>],
    roots: &[CertificateDer<'static>],
    now: SystemTime,
) -> Result<(), AnswerError> {
    // A root that cannot be used takes none of the others along.
    let usable = roots.iter().filter_map(|root| TrustBundle::new(vec![root.clone()]).ok());
    let roots = usable.reduce(|all, further| all.and(&further));
    let roots = roots.ok_or_else(|| AnswerError::Untrusted("none of the roots is usable".to_owned()))?;
    let verified = roots.verify_client(&chain[0], &chain[1..], now.into());
    verified.map_err(|error| AnswerError::Untrusted(error.to_string()))
}

/// The leaf and its intermediates: roots need not be sent in each handshake.
fn without_roots<'a>(
    chain: &'a [CertificateDer<'static>],
) -> impl Iterator<Item = &'a CertificateDer<'static>> {
    let self_signed = |der: &CertificateDer<'_>| {
        X509Certificate::from_der(der).is_ok_and(|(_, found)| found.subject() == found.issuer())
    };
    chain.iter().enumerate().filter(move |(at, der)| *at == 0 || !self_signed(der)).map(|(_, der)| der)
}

fn pem(der: &CertificateDer<'_>) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let text = BASE64_STANDARD.encode(der);
    let lines = text.as_bytes().chunks(64).map(|line| format!("{}\n", String::from_utf8_lossy(line)));
    format!("-----BEGIN CERTIFICATE-----\n{}-----END CERTIFICATE-----\n", lines.collect::<String>())
}

fn with_newline(pem: &str) -> String {
    format!("{}\n", pem.trim_end())
}

#[cfg(test)]
mod tests;
