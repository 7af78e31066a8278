//! Certificate revocation lists.

use std::collections::BTreeSet;

use der::{Encode as _, Tag, asn1::AnyRef};
use rustls_pki_types::CertificateDer;
use thiserror::Error;
use time::OffsetDateTime;
use webpki::VerifiedPath;
use x509_parser::{
    certificate::X509Certificate, prelude::FromDer as _, revocation_list::CertificateRevocationList,
};

use crate::x509::{self, pem};

/// Why revocation lists are refused. Numbers count the lists of the file from 1.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RevocationError {
    /// No list, or a block that is no PEM.
    #[error("there is no readable X509 CRL block; remove the file if nothing is revoked")]
    NoList,
    /// A list that cannot be read.
    #[error("list {0} cannot be read")]
    Unreadable(usize),
    /// A list with a critical extension: delta and indirect lists, and lists of a part only.
    #[error(
        "list {0} has a critical extension, as delta, indirect and partial lists do; give complete lists only"
    )]
    Partial(usize),
    /// A list that none of our CA certificates has signed.
    #[error("list {0} is signed by no certificate of the chain and by no root")]
    Unsigned(usize),
    /// A list from the future.
    #[error("list {0} is valid from {1} only; check the clock")]
    NotYet(usize, OffsetDateTime),
}

/// What has been revoked: lists whose signatures were verified when they were loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revocations {
    lists: Vec<List>,
    /// The lists and the certificates of those who signed them.
    pem: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct List {
    /// The signer's SubjectPublicKeyInfo in DER. Names will not do: roots that follow each other may share one.
    signer: Vec<u8>,
    /// The serial numbers without their sign byte.
    serials: BTreeSet<Vec<u8>>,
    next_update: Option<OffsetDateTime>,
}

impl Revocations {
    /// The lists in a file of PEM, each signed by one of `signers`.
    ///
    /// A list whose next update is overdue still counts: [`Self::overdue_since`] tells.
    ///
    /// # Errors
    /// See [`RevocationError`]; one bad list spoils them all, so that no revocation gets lost unnoticed.
    pub fn from_pem<'a>(
        file: &(impl AsRef<[u8]> + ?Sized),
        signers: impl IntoIterator<Item = &'a CertificateDer<'static>>,
        now: OffsetDateTime,
    ) -> Result<Self, RevocationError> {
        let blocks = pem::blocks(file.as_ref()).map_err(|_| RevocationError::NoList)?;
        let all: Vec<_> = blocks.into_iter().filter(|block| block.label == pem::REVOCATION_LIST).collect();
        if all.is_empty() {
            return Err(RevocationError::NoList);
        }
        let signers: Vec<_> = signers.into_iter().filter_map(|der| x509::parse(der)).collect();
        let read = |(at, list): (usize, &pem::Block)| read(at + 1, &list.content, &signers, now);
        let lists: Vec<List> = all.iter().enumerate().map(read).collect::<Result<_, _>>()?;
        let mut text: String =
            all.iter().map(|list| pem::encode(pem::REVOCATION_LIST, &list.content)).collect();
        for signer in signers {
            if lists.iter().any(|list| list.signer == signer.public_key().raw) {
                text += &pem::encode(pem::CERTIFICATE, signer.as_raw());
            }
        }
        Ok(Self { lists, pem: text })
    }

    /// The lists and the certificates of those who signed them, all that [`Self::from_own_pem`] needs.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// What [`Self::pem`] gave: lists that were accepted once, although their CA may no longer be the one that signs.
    ///
    /// # Errors
    /// See [`RevocationError`].
    pub fn from_own_pem(text: &str, now: OffsetDateTime) -> Result<Self, RevocationError> {
        let signers = pem::certificates(text).unwrap_or_default();
        Self::from_pem(text, &signers, now)
    }

    /// How many certificates are listed.
    pub fn len(&self) -> usize {
        self.lists.iter().map(|list| list.serials.len()).sum()
    }

    /// Whether nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many lists there are.
    pub fn lists(&self) -> usize {
        self.lists.len()
    }

    /// Since when at `now` a newer list should be there, if one should.
    pub fn overdue_since(&self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        self.lists.iter().filter_map(|list| list.next_update).filter(|next| *next < now).min()
    }

    /// Refuses a path with a revoked certificate in it.
    pub(crate) fn check(&self, path: &VerifiedPath<'_>) -> Result<(), webpki::Error> {
        if self.is_empty() {
            return Ok(());
        }
        let mut issuer = anchor_key(path);
        for below in path.intermediate_certificates().rev() {
            self.check_one(below.serial(), &issuer)?;
            issuer = below.subject_public_key_info().to_vec();
        }
        self.check_one(path.end_entity().serial(), &issuer)
    }

    /// Refuses a path with a revoked certificate in it, given from the leaf to the root.
    pub(crate) fn check_chain<'a>(
        &self,
        path: impl IntoIterator<Item = &'a CertificateDer<'a>>,
    ) -> Result<(), webpki::Error> {
        let mut path = path.into_iter().filter_map(|der| x509::parse(der));
        let Some(mut below) = path.next() else { return Ok(()) };
        for above in path {
            self.check_one(below.raw_serial(), above.public_key().raw)?;
            below = above;
        }
        Ok(())
    }

    fn check_one(&self, serial: &[u8], issuer: &[u8]) -> Result<(), webpki::Error> {
        let revoked = |list: &List| list.signer == issuer && list.serials.contains(magnitude(serial));
        if self.lists.iter().any(revoked) { Err(webpki::Error::CertRevoked) } else { Ok(()) }
    }
}

/// A serial number without leading zeros: some encoders write more than one.
fn magnitude(serial: &[u8]) -> &[u8] {
    let zeros = serial.iter().take_while(|&&byte| byte == 0).count();
    &serial[zeros..]
}

/// The anchor's SubjectPublicKeyInfo in DER: an anchor holds it without its header.
fn anchor_key(path: &VerifiedPath<'_>) -> Vec<u8> {
    let content = &path.anchor().subject_public_key_info;
    AnyRef::new(Tag::Sequence, content).and_then(|whole| whole.to_der()).unwrap_or_default()
}

fn read(
    at: usize,
    der: &[u8],
    signers: &[X509Certificate<'_>],
    now: OffsetDateTime,
) -> Result<List, RevocationError> {
    let Ok(([], list)) = CertificateRevocationList::from_der(der) else {
        return Err(RevocationError::Unreadable(at));
    };
    let entries = || list.iter_revoked_certificates();
    let critical = list.extensions().iter().chain(entries().flat_map(|entry| entry.extensions()));
    if critical.into_iter().any(|extension| extension.critical) {
        return Err(RevocationError::Partial(at));
    }
    let signed = |signer: &&X509Certificate<'_>| {
        signer.subject().as_raw() == list.issuer().as_raw()
            && list.verify_signature(signer.public_key()).is_ok()
    };
    let signer = signers.iter().find(signed).ok_or(RevocationError::Unsigned(at))?;
    let from = list.last_update().to_datetime();
    if from > now {
        return Err(RevocationError::NotYet(at, from));
    }
    Ok(List {
        signer: signer.public_key().raw.to_vec(),
        serials: entries().map(|entry| magnitude(entry.raw_serial()).to_vec()).collect(),
        next_update: list.next_update().map(|next| next.to_datetime()),
    })
}

#[cfg(test)]
mod tests;
