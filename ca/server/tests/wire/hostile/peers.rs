//! Client certificates that our own root signed and that prove nothing all the same (CA.md
//! S20 to S36 and A22).

use std::fs;

use eastwest_ca_server::operations::IssuedKey;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use time::{Duration, OffsetDateTime};
use tonic::Code;
use zeroize::Zeroizing;

use super::{
    super::common::{Ca, REVIEWS, identity, request},
    Siege,
};

/// The CA's own root, in the wrong hands.
fn signer(ca: &Ca) -> Issuer<'static, KeyPair> {
    let read = |name: &str| fs::read_to_string(ca.path().join(name)).unwrap();
    Issuer::from_ca_cert_pem(&read("ca-cert.pem"), KeyPair::from_pem(&read("ca-key.pem")).unwrap()).unwrap()
}

/// What a good leaf says.
fn good() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let now = OffsetDateTime::now_utc();
    (params.not_before, params.not_after) = (now - Duration::MINUTE, now + Duration::HOUR);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names = vec![uri(REVIEWS)];
    params
}

fn changed(change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = good();
    change(&mut params);
    params
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn named(names: &[&str]) -> CertificateParams {
    changed(|params| params.subject_alt_names = names.iter().map(|name| uri(name)).collect())
}

/// A leaf with the chain above it.
fn issued(params: &CertificateParams, signer: &Issuer<'_, KeyPair>, above: &str) -> IssuedKey {
    let key = KeyPair::generate().unwrap();
    let leaf = params.clone().signed_by(&key, signer).unwrap();
    IssuedKey {
        certificate_chain_pem: leaf.pem() + above,
        private_key_pem: Zeroizing::new(key.serialize_pem()),
        roots_pem: String::new(),
        serial: String::new(),
        not_after: params.not_after,
    }
}

/// An intermediate: its certificate, and what signs with it.
fn intermediate(
    name: &str,
    signer: &Issuer<'_, KeyPair>,
    change: impl FnOnce(&mut CertificateParams),
) -> (String, Issuer<'static, KeyPair>) {
    let mut params = changed(|params| {
        params.subject_alt_names.clear();
        params.extended_key_usages.clear();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    });
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.clone().signed_by(&key, signer).unwrap().pem();
    (certificate, Issuer::new(params, key))
}

/// Leaves that differ from a good one in one thing.
fn odd_leaves() -> Vec<(&'static str, CertificateParams)> {
    let now = OffsetDateTime::now_utc();
    vec![
        ("two URIs", named(&[REVIEWS, "spiffe://cluster.local/ns/a/sa/b"])),
        ("the same URI twice", named(&[REVIEWS, REVIEWS])),
        ("a URI of the web", named(&["https://cluster.local/ns/shop/sa/reviews"])),
        ("a foreign trust domain", named(&["spiffe://elsewhere/ns/shop/sa/reviews"])),
        ("a trust domain in upper case", named(&["spiffe://CLUSTER.local/ns/shop/sa/reviews"])),
        ("a trust domain with a port", named(&["spiffe://cluster.local:443/ns/shop/sa/reviews"])),
        ("a trust domain with a user", named(&["spiffe://me@cluster.local/ns/shop/sa/reviews"])),
        ("a query", named(&["spiffe://cluster.local/ns/shop/sa/reviews?admin"])),
        ("dots in the path", named(&["spiffe://cluster.local/ns/shop/../kube-system/sa/admin"])),
        ("a slash at the end", named(&["spiffe://cluster.local/ns/shop/sa/reviews/"])),
        ("a trust domain alone", named(&["spiffe://cluster.local"])),
        ("no name", changed(|params| params.subject_alt_names.clear())),
        (
            "a DNS name alone",
            changed(|params| {
                params.subject_alt_names =
                    vec![SanType::DnsName("istiod.istio-system.svc".try_into().unwrap())];
            }),
        ),
        (
            "the identity as common name",
            changed(|params| {
                params.subject_alt_names.clear();
                params.distinguished_name.push(DnType::CommonName, REVIEWS);
            }),
        ),
        ("a CA", changed(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))),
        ("may sign certificates", changed(|params| params.key_usages.push(KeyUsagePurpose::KeyCertSign))),
        ("may sign revocations", changed(|params| params.key_usages.push(KeyUsagePurpose::CrlSign))),
        (
            "for servers alone",
            changed(|params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            }),
        ),
        (
            "for code",
            changed(|params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
            }),
        ),
        ("expired", changed(|params| params.not_after = now - Duration::SECOND)),
        ("not yet valid", changed(|params| params.not_before = now + Duration::HOUR / 2)),
    ]
}

/// Chains with something wrong above the leaf.
fn odd_chains(root: &Issuer<'static, KeyPair>) -> Vec<(&'static str, IssuedKey)> {
    let (plain, by_plain) = intermediate("plain", root, |_| ());
    let old = OffsetDateTime::now_utc() - Duration::SECOND;
    let (expired, by_expired) = intermediate("expired", root, |params| params.not_after = old);
    let (narrow, by_narrow) =
        intermediate("narrow", root, |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let (below, by_below) = intermediate("below", &by_narrow, |_| ());
    let (leaf_as_ca, by_leaf) = intermediate("leaf", root, |params| params.is_ca = IsCa::ExplicitNoCa);
    let (mute, by_mute) = intermediate("mute", root, |params| {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    });
    let mut stranger = changed(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    stranger.distinguished_name.push(DnType::OrganizationName, "cluster.local");
    let stranger = Issuer::new(stranger, KeyPair::generate().unwrap());
    vec![
        ("without its intermediate", issued(&good(), &by_plain, "")),
        ("an expired intermediate", issued(&good(), &by_expired, &expired)),
        ("a CA below path length 0", issued(&good(), &by_below, &format!("{below}{narrow}"))),
        ("signed by a leaf", issued(&good(), &by_leaf, &leaf_as_ca)),
        ("signed by who may not", issued(&good(), &by_mute, &mute)),
        ("a root of the same name", issued(&good(), &stranger, "")),
        ("eleven certificates", issued(&good(), root, &plain.repeat(10))),
    ]
}

#[tokio::test]
async fn client_certificates_of_our_root_that_prove_nothing() {
    let siege = Siege::begin().await;
    let root = signer(&siege.ca);
    let mut all: Vec<_> =
        odd_leaves().into_iter().map(|(name, params)| (name, issued(&params, &root, ""))).collect();
    all.extend(odd_chains(&root));
    let read = |name: &str| fs::read_to_string(siege.ca.path().join(name)).unwrap();
    let own = IssuedKey {
        certificate_chain_pem: read("ca-cert.pem"),
        private_key_pem: Zeroizing::new(read("ca-key.pem")),
        ..issued(&good(), &root, "")
    };
    all.push(("the root itself", own));
    let ratings = siege.ca.token("shop", "ratings");
    for (name, certificate) in all {
        let alone = siege.ca.client().certificate(&certificate).await.create(request()).await;
        let status = alone.expect_err(name);
        assert_eq!(status.code(), Code::Unauthenticated, "{name}: {status:?}");
        assert_eq!(status.message(), "request authenticate failure", "{name}");
        let beside = siege.ca.client().with(&certificate).token(&ratings).await.create(request()).await;
        let beside = beside.unwrap_or_else(|status| panic!("{name}: {status:?}"));
        assert_eq!(identity(&beside), "spiffe://cluster.local/ns/shop/sa/ratings", "{name}: the token's");
    }
    siege.serves("all of them").await;
}

/// The same tools make certificates that are good, so the others are refused for what is odd in them.
#[tokio::test]
async fn client_certificates_of_our_root_that_prove_an_identity() {
    let siege = Siege::begin().await;
    let root = signer(&siege.ca);
    let (plain, by_plain) = intermediate("plain", &root, |_| ());
    let dns = SanType::DnsName("reviews.shop.svc".try_into().unwrap());
    for (name, certificate) in [
        ("a plain leaf", issued(&good(), &root, "")),
        ("below an intermediate", issued(&good(), &by_plain, &plain)),
        ("a DNS name beside it", issued(&changed(|params| params.subject_alt_names.push(dns)), &root, "")),
        (
            "no usages said",
            issued(
                &changed(|params| {
                    params.key_usages.clear();
                    params.extended_key_usages.clear();
                }),
                &root,
                "",
            ),
        ),
    ] {
        let answer = siege.ca.client().certificate(&certificate).await.create(request()).await;
        assert_eq!(
            identity(&answer.unwrap_or_else(|status| panic!("{name}: {status:?}"))),
            REVIEWS,
            "{name}"
        );
    }
}
