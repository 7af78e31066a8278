//! Forged certification requests. Each has its error in `ca/tests/hostile.rs`; here, its code.

use eastwest_ca::{CertificateSummary, pem};
use eastwest_proto::istio::v1::auth::IstioCertificateRequest;
use tonic::Code;

use super::{
    super::common::{REVIEWS, identity, request},
    Siege,
    forge::attacks,
};

/// CA.md A1 to A8a.
#[tokio::test]
async fn a_hostile_request_is_an_invalid_argument_or_gets_the_callers_identity_alone() {
    let siege = Siege::begin().await;
    let mut client = siege.ca.client().token(&siege.token()).await;
    for attack in attacks() {
        let message = IstioCertificateRequest { csr: attack.text, ..request() };
        match (client.create(message).await, attack.outcome) {
            (Ok(answer), Ok(())) => {
                assert_eq!(identity(&answer), REVIEWS, "{}", attack.name);
                let leaf = &pem::certificates(&answer.cert_chain[0]).unwrap()[0];
                let leaf = CertificateSummary::of(leaf).unwrap();
                assert_eq!((leaf.subject.as_str(), leaf.names.len()), ("", 1), "{}", attack.name);
            }
            (Err(status), Err(error)) => {
                assert_eq!(status.code(), Code::InvalidArgument, "{}: {status:?}", attack.name);
                assert_eq!(status.message(), error.to_string(), "{}", attack.name);
            }
            (answer, expected) => panic!("{}: {answer:?}, not {expected:?}", attack.name),
        }
        let good = client.create(request()).await;
        assert!(good.is_ok(), "after {}: {good:?}", attack.name);
    }
    siege.serves("all of them").await;
}

/// An unauthenticated caller does not even learn that its request is malformed.
#[tokio::test]
async fn unauthenticated_callers_get_one_answer_for_all_requests() {
    let siege = Siege::begin().await;
    let mut client = siege.ca.client().anonymous().await;
    for attack in attacks() {
        let message = IstioCertificateRequest { csr: attack.text, ..request() };
        let status = client.create(message).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{}", attack.name);
        assert_eq!(status.message(), "request authenticate failure", "{}", attack.name);
    }
}
