//! Secrets and ConfigMaps, as far as rules may name them as credentials (POLICY.md O7).
//!
//! Whether an unusable certificate matters depends on the rules that name it: what is wrong with it is kept beside it,
//! and reported where the certificate is needed. No message quotes a value.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use eastwest_model::{
    Credential, MeshConfig, Meta, Name, Object,
    credential::{CaBundle, KeyPair, PrivateKey},
};
use ring::digest::{SHA256, digest};
use rustls::{Error, InconsistentKeys, crypto::ring::sign::any_supported_type, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use zeroize::Zeroizing;

use super::mesh_config;
use crate::field::Field;

/// Certificate and key, in Istio's own order: generic keys before those of `kubernetes.io/tls`.
const PAIRS: [[&str; 2]; 2] = [["cert", "key"], ["tls.crt", "tls.key"]];
/// Trust bundle, each with its list of revoked certificates.
const TRUSTS: [[&str; 2]; 2] = [["cacert", "crl"], ["ca.crt", "ca.crl"]];
/// Types that are never meant as a credential, as Istio has it.
const OTHER_TYPES: [&str; 2] = ["kubernetes.io/service-account-token", "helm.sh/release.v1"];

type Content = Zeroizing<String>;

pub(super) fn secret(meta: Meta, root: &Field<'_>, _: &MeshConfig) -> Option<Object> {
    if root.get("type").text().is_some_and(|text| OTHER_TYPES.contains(&text)) {
        return None;
    }
    let (data, text) = (root.get("data"), root.get("stringData"));
    let content = |key: &str| match text.get(key).secret() {
        Some(text) => Some(Zeroizing::new(text.to_owned())),
        None => decoded(&data.get(key)),
    };
    Some(Object::Credential(Arc::new(Credential { pair: pair(&content), trust: trust(&content), meta })))
}

/// The mesh's own ConfigMap, or one that may hold a trust bundle.
pub(super) fn config_map(meta: Meta, root: &Field<'_>, defaults: &MeshConfig) -> Option<Object> {
    if mesh_config::is_it(&meta, defaults) {
        return mesh_config::read(meta, root, defaults);
    }
    let data = root.get("data");
    let content = |key: &str| data.get(key).text().map(|text| Zeroizing::new(text.to_owned()));
    Some(Object::Credential(Arc::new(Credential { pair: None, trust: trust(&content), meta })))
}

/// A value of `data`: base64, perhaps over several lines.
fn decoded(field: &Field<'_>) -> Option<Content> {
    let text: Content = Zeroizing::new(field.secret()?.split_ascii_whitespace().collect());
    let bytes = STANDARD.decode(text.as_bytes()).map(Zeroizing::new);
    let Ok(bytes) = bytes else {
        field.error("is no base64: encode it, or write it as it is under stringData");
        return None;
    };
    // A value that is not text is reported as not PEM.
    Some(Zeroizing::new(std::str::from_utf8(&bytes).unwrap_or("\0").to_owned()))
}

/// The first of two names under which something stands; what is empty does not count.
fn first<const N: usize>(
    names: &[[&'static str; N]],
    content: impl Fn(&str) -> Option<Content>,
    enough: impl Fn(&[Option<Content>; N]) -> bool,
) -> Option<([&'static str; N], [Option<Content>; N])> {
    let found =
        names.iter().map(|keys| (*keys, keys.map(|key| content(key).filter(|text| !text.trim().is_empty()))));
    found.into_iter().find(|(_, values)| enough(values))
}

fn pair(content: &impl Fn(&str) -> Option<Content>) -> Option<Result<KeyPair, Name>> {
    let both = first(&PAIRS, content, |values| values.iter().all(Option::is_some));
    let some = || first(&PAIRS, content, |values| values.iter().any(Option::is_some));
    Some(match both.or_else(some)? {
        (names, [Some(certificate), Some(key)]) => key_pair(names, &certificate, key),
        ([certificate, key], [None, _]) => Err(format!("has {key}, but no {certificate}").into()),
        ([certificate, key], _) => Err(format!("has {certificate}, but no {key}").into()),
    })
}

fn key_pair([certificate, key]: [&str; 2], chain: &str, private_key: Content) -> Result<KeyPair, Name> {
    let ders = certificates(chain).map_err(|reason| Name::from(format!("{reason} in {certificate}")))?;
    let der = PrivateKeyDer::from_pem_slice(private_key.as_bytes())
        .map_err(|_| Name::from(format!("has no private key as PEM in {key}")))?;
    // A kind of key that is not known here may still be known to the proxy.
    if let Ok(signer) = any_supported_type(&der) {
        match CertifiedKey::new(ders.clone(), signer).keys_match() {
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                return Err(format!(
                    "has a key in {key} that does not belong to the certificate in {certificate}"
                )
                .into());
            }
            Err(Error::InvalidCertificate(_)) => {
                return Err(format!("has something else than an X.509 certificate in {certificate}").into());
            }
            _ => {}
        }
    }
    Ok(KeyPair {
        certificate_chain: chain.into(),
        private_key: PrivateKey::new(private_key),
        fingerprint: fingerprint(&ders[..1]),
    })
}

fn trust(content: &impl Fn(&str) -> Option<Content>) -> Option<Result<CaBundle, Name>> {
    let ([name, _], [bundle, crl]) = first(&TRUSTS, content, |[bundle, _]| bundle.is_some())?;
    let bundle = bundle?;
    Some(match certificates(&bundle) {
        Ok(ders) => Ok(CaBundle {
            certificates: bundle.as_str().into(),
            crl: crl.map(|crl| crl.as_str().into()),
            fingerprint: fingerprint(&ders),
        }),
        Err(reason) => Err(format!("{reason} in {name}").into()),
    })
}

/// At least one certificate.
fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    let ders: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    ders.ok().filter(|ders| !ders.is_empty()).ok_or("has no certificate as PEM")
}

fn fingerprint(ders: &[CertificateDer<'_>]) -> Name {
    let joined: Vec<u8> = ders.iter().flat_map(|der| der.iter().copied()).collect();
    digest(&SHA256, &joined).as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}
