//! CAs to be plugged in, and a server that follows a directory with one.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use eastwest_tests::process::until;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use serde_json::Value;
use time::{Duration, OffsetDateTime};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use super::{
    Bench, PATIENCE, Server,
    clients::{Svid, certificates, certify, tls},
};

pub(crate) const FILES: [&str; 4] = ["ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"];

/// A root and CAs below it.
pub(crate) struct Pki {
    pub(crate) root: String,
    issuer: rcgen::Issuer<'static, KeyPair>,
}

/// A CA that signs for the mesh.
pub(crate) struct Plugged {
    pub(crate) files: [String; 4],
    issuer: rcgen::Issuer<'static, KeyPair>,
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = OffsetDateTime::now_utc() - Duration::DAY;
    params.not_after = OffsetDateTime::now_utc() + Duration::DAY;
    params
}

impl Pki {
    pub(crate) fn new(name: &str) -> Self {
        let (params, key) = (ca_params(name), KeyPair::generate().unwrap());
        let root = params.self_signed(&key).unwrap().pem();
        Self { root, issuer: rcgen::Issuer::new(params, key) }
    }

    /// A CA below the root.
    pub(crate) fn ca(&self, name: &str) -> Plugged {
        let (params, key) = (ca_params(name), KeyPair::generate().unwrap());
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        let chain = format!("{certificate}{}", self.root);
        let files = [certificate, key.serialize_pem(), chain, self.root.clone()];
        Plugged { files, issuer: rcgen::Issuer::new(params, key) }
    }
}

impl Plugged {
    /// Writes the files one after the other, as `cp` does.
    pub(crate) fn write(&self, dir: &Path) {
        fs::create_dir_all(dir).unwrap();
        for (name, text) in FILES.into_iter().zip(&self.files) {
            fs::write(dir.join(name), text).unwrap();
        }
    }

    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        certificates(&self.files[0]).remove(0)
    }

    /// A list that revokes this leaf.
    pub(crate) fn revoke(&self, leaf: &CertificateDer<'_>) -> String {
        let (_, leaf) = X509Certificate::from_der(leaf).unwrap();
        let now = OffsetDateTime::now_utc();
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from_slice(leaf.raw_serial()),
            revocation_time: now - Duration::HOUR,
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: now - Duration::HOUR,
            next_update: now + Duration::HOUR,
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

/// A bench with room for a plugged-in CA.
pub(crate) struct Place {
    pub(crate) bench: Bench,
    pub(crate) dir: PathBuf,
}

impl Place {
    pub(crate) fn new() -> Self {
        let bench = Bench::new();
        let dir = bench.path("cacerts");
        Self { bench, dir }
    }

    pub(crate) fn serve(&self) -> Server {
        self.bench.serve(&["--ca-dir", "cacerts"])
    }

    pub(crate) async fn ask(&self, server: &Server) -> (Svid, Vec<String>) {
        self.ask_by(server, &self.bench.root()).await.unwrap()
    }

    /// Requests a certificate; an error if `root` does not verify the server.
    pub(crate) async fn ask_by(&self, server: &Server, root: &str) -> io::Result<(Svid, Vec<String>)> {
        let channel = tls(server.tls, root, None).await?;
        let token = self.bench.token("bookshop/storefront");
        Ok(certify(channel, Some(&token), 0).await.unwrap())
    }

    /// Waits until `ca` signs, and returns the last answer.
    pub(crate) async fn signed_by(&self, server: &Server, ca: &Plugged) -> Vec<String> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            // The root may be replaced between its reading and the handshake.
            match self.ask_by(server, &self.bench.root()).await {
                Ok((_, chain)) if certificates(&chain[1])[0] == ca.certificate() => return chain,
                _ => {}
            }
            assert!(tokio::time::Instant::now() < deadline, "not taken: {}", server.output());
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

/// What `/debug/ca` says about the signer.
pub(crate) fn status(server: &Server) -> Value {
    server.json("/debug/ca")["signing"].clone()
}

/// Waits for a problem whose message has `text`, or for none; the server must stay ready.
pub(crate) fn problem(server: &Server, subject: &str, text: Option<&str>) {
    until("the problem", PATIENCE, || {
        let status = status(server);
        let told = status["problems"].as_array().unwrap().iter().find(|one| one["subject"] == subject);
        let message = told.map(|one| one["message"].as_str().unwrap().to_owned());
        Ok(match (&message, text) {
            (None, None) => Some(()),
            (Some(message), Some(text)) => message.contains(text).then_some(()),
            _ => None,
        })
    })
    .unwrap_or_else(|error| panic!("{subject} {text:?}: {error}: {}", status(server)));
    assert_eq!(server.page("/readyz").0, 200);
}
