//! Names of hosts in certificates: who gets which (CA.md C39).

use eastwest_ca::{AllowedNames, CertificateSummary, pem};
use eastwest_proto::istio::v1::auth::{IstioCertificateRequest, IstioCertificateResponse};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};
use tonic::Status;

use super::common::{Ca, REVIEWS};

/// A request that asks for these names, beside an identity of its own.
pub(crate) fn asking_for(names: &[&str]) -> IstioCertificateRequest {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let uri = SanType::URI("spiffe://cluster.local/ns/other/sa/other".try_into().unwrap());
    params.subject_alt_names = std::iter::once(uri)
        .chain(names.iter().map(|name| match name.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName((*name).try_into().unwrap()),
        }))
        .collect();
    let csr = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
    IstioCertificateRequest { csr, validity_duration: 0, metadata: None }
}

/// The names in the certificate of an answer, or why there is none.
pub(crate) fn names(answer: Result<IstioCertificateResponse, Status>) -> Result<Vec<String>, String> {
    let answer = answer.map_err(|status| format!("{:?}: {}", status.code(), status.message()))?;
    Ok(CertificateSummary::of(&pem::certificates(&answer.cert_chain[0]).unwrap()[0]).unwrap().names)
}

#[tokio::test]
async fn names_of_hosts_are_given_where_they_are_allowed() {
    let allowed = AllowedNames::new(["localhost", "*.test"], ["127.0.0.0/8"]).unwrap();
    let ca = Ca::start_allowing(allowed).await;
    let mut client = ca.client().token(&ca.token("shop", "reviews")).await;
    let wanted = ["db.shop.test", "127.0.0.1", "localhost", "localhost"];
    let given = names(client.create(asking_for(&wanted)).await).unwrap();
    assert_eq!(
        given,
        [REVIEWS, "db.shop.test", "localhost", "127.0.0.1"],
        "each once, the identity is the token's"
    );
    assert_eq!(names(client.create(asking_for(&[])).await).unwrap(), [REVIEWS]);
    for bad in ["istiod.istio-system.svc", "test", "10.0.0.1", "*.test"] {
        let refused = names(client.create(asking_for(&["localhost", bad])).await).unwrap_err();
        assert!(refused.starts_with("InvalidArgument") && refused.contains(bad), "{bad}: {refused}");
        assert!(
            refused.contains("--allow-dns") && refused.contains("*.test, 127.0.0.0/8"),
            "{bad}: {refused}"
        );
    }
    let many: Vec<String> = (0..101).map(|n| format!("n{n}.test")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let refused = names(client.create(asking_for(&many)).await).unwrap_err();
    assert!(refused.contains("101 names are more than the 100"), "{refused}");

    // A mesh allows none: what a request asks for is not even looked at.
    let ca = Ca::start().await;
    let mut client = ca.client().token(&ca.token("shop", "reviews")).await;
    assert_eq!(
        names(client.create(asking_for(&["istiod.istio-system.svc", "10.0.0.1"])).await).unwrap(),
        [REVIEWS]
    );
}
