//! The TLS port: its certificate, its manners with clients, and what it does when it closes.

use std::{io, sync::Arc, time::Duration};

use super::common::{Ca, REVIEWS, client_config, request};
use eastwest_ca::PrivateKey;
use eastwest_ca_server::server_config;
use eastwest_io::Incoming;
use rustls::{ClientConfig, HandshakeKind, version};
use rustls_pki_types::ServerName;
use time::OffsetDateTime;
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

async fn connect(ca: &Ca, config: &Arc<ClientConfig>, name: &str) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    TlsConnector::from(Arc::clone(config)).connect(name, TcpStream::connect(ca.tls).await?).await
}

#[tokio::test]
async fn the_serving_certificate_is_our_own_and_is_renewed() {
    let ca = Ca::start().await;
    for versions in [&[&version::TLS13], &[&version::TLS12]] {
        let config = Arc::new(client_config(&ca.certificate_authority.roots_pem(), None, versions));
        for name in ["istiod.istio-system.svc", "istio-pilot.istio-system.svc", "localhost", "127.0.0.1"] {
            let stream = connect(&ca, &config, name).await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        }
        assert!(connect(&ca, &config, "example.org").await.is_err());
    }
    let now = OffsetDateTime::now_utc();
    let renew =
        |hours| ca.certificate_authority.renew_serving_if_due(now + time::Duration::hours(hours)).unwrap();
    assert_eq!([11, 13, 14].map(renew), [false, true, false], "once, after half of its life");
    // The new one begins in thirteen hours: that clients refuse it shows that it is in use.
    let config = Arc::new(client_config(&ca.certificate_authority.roots_pem(), None, &[&version::TLS13]));
    assert!(connect(&ca, &config, "localhost").await.is_err());
}

/// Readiness goes by the clock on the wall, and so does renewal: a clock that jumps, forward or back, takes effect at
/// once.
#[tokio::test]
async fn a_clock_that_jumps_costs_readiness_until_the_serving_certificate_is_renewed() {
    let ca = Ca::start().await;
    let authority = &ca.certificate_authority;
    let unready = |now| {
        let reasons = authority.inabilities(now);
        reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    let (now, later) = (OffsetDateTime::now_utc(), OffsetDateTime::now_utc() + time::Duration::days(2));
    assert_eq!(unready(now), "");
    for (at, other) in [(later, now), (now, later)] {
        assert!(unready(at).contains("the serving certificate is not valid now"), "{}", unready(at));
        assert!(authority.renew_serving_if_due(at).unwrap(), "it is due at once");
        assert_eq!((unready(at), authority.renew_serving_if_due(at).unwrap()), (String::new(), false));
        assert_ne!(unready(other), "");
    }
    let config = Arc::new(client_config(&authority.roots_pem(), None, &[&version::TLS13]));
    assert!(connect(&ca, &config, "localhost").await.is_ok());
}

/// A ticket would outlive the certificate of the client that holds it.
#[tokio::test]
async fn nothing_is_resumed() {
    let ca = Ca::start().await;
    let issued = ca.issue(REVIEWS, Duration::from_secs(60), OffsetDateTime::now_utc());
    let certificate = (issued.certificate_chain_pem.as_str(), issued.private_key_pem.as_str());
    for versions in [&[&version::TLS13], &[&version::TLS12]] {
        let config =
            Arc::new(client_config(&ca.certificate_authority.roots_pem(), Some(certificate), versions));
        for _ in 0..3 {
            let mut stream = connect(&ca, &config, "localhost").await.unwrap();
            // A ticket would come now, with the server's first words.
            let _ = tokio::time::timeout(Duration::from_millis(100), stream.read(&mut [0; 64])).await;
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        }
    }
}

/// A client must hold the key of the certificate that it presents.
#[tokio::test]
async fn a_certificate_without_its_key_does_not_get_in() {
    let ca = Ca::start().await;
    let issued = ca.issue(REVIEWS, Duration::from_secs(60), OffsetDateTime::now_utc());
    let other = PrivateKey::generate().unwrap();
    let mut config = client_config(&ca.certificate_authority.roots_pem(), None, &[&version::TLS13]);
    let key = rustls::crypto::ring::sign::any_ecdsa_type(&rustls_pki_types::PrivateKeyDer::Pkcs8(
        other.pkcs8().to_vec().into(),
    ))
    .unwrap();
    let chain = eastwest_ca::pem::certificates(&issued.certificate_chain_pem).unwrap();
    let stolen = rustls::sign::CertifiedKey::new(chain, key);
    config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(stolen));
    // In TLS 1.3 the client is done first; the alert comes with the first read.
    let mut stream = connect(&ca, &Arc::new(config), "localhost").await.unwrap();
    assert!(stream.read(&mut [0; 64]).await.is_err());
}

/// Peers that connect and send nothing do not block others.
#[tokio::test]
async fn silent_peers_delay_no_other_peer() {
    let ca = Ca::start().await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(ca.tls).await.unwrap());
    }
    let answer = async { ca.client().token(&ca.token("shop", "reviews")).await.create(request()).await };
    let answer = tokio::time::timeout(Duration::from_secs(5), answer).await;
    assert!(answer.is_ok_and(|answer| answer.is_ok()), "answered long before the handshakes time out");
}

#[tokio::test]
async fn dropping_the_incoming_closes_the_port() {
    let ca = Ca::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = Incoming::tls(listener, server_config(&ca.certificate_authority));
    assert!(TcpStream::connect(address).await.is_ok());
    drop(incoming);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    while TcpStream::connect(address).await.is_ok() {
        assert!(tokio::time::Instant::now() < deadline, "the port is still open");
        tokio::task::yield_now().await;
    }
}
