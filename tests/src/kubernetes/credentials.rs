//! Certificates and keys of a Kubernetes API, as kubeadm creates them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

use crate::process::run;

/// Files, all PEM.
#[derive(Debug)]
pub(super) struct Credentials {
    pub(super) ca: PathBuf,
    pub(super) serving: PathBuf,
    pub(super) serving_key: PathBuf,
    /// Client certificate of the administrator.
    pub(super) admin: PathBuf,
    pub(super) admin_key: PathBuf,
    /// Key that signs service accounts' tokens: RSA, as in most clusters.
    pub(super) tokens_key: PathBuf,
    pub(super) tokens_public: PathBuf,
}

impl Credentials {
    /// Makes them in `dir`.
    pub(super) fn make(dir: &Path) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name = name("kubernetes", None);
        let ca = write(dir, "ca.pem", &params.self_signed(&key)?.pem())?;
        let issuer = Issuer::new(params, key);

        let names = ["127.0.0.1", "localhost", "kubernetes.default.svc"].map(str::to_owned);
        let mut server = CertificateParams::new(names)?;
        server.distinguished_name = name("kube-apiserver", None);
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let (serving, serving_key) = certify(dir, "apiserver", &server, &issuer)?;

        let mut client = CertificateParams::default();
        // The group that may do everything.
        client.distinguished_name = name("admin", Some("system:masters"));
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let (admin, admin_key) = certify(dir, "admin", &client, &issuer)?;
        let (tokens_key, tokens_public) = rsa(dir, "tokens")?;
        Ok(Self { ca, serving, serving_key, admin, admin_key, tokens_key, tokens_public })
    }
}

fn name(common_name: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name
}

fn write(dir: &Path, file: &str, text: &str) -> Result<PathBuf> {
    let path = dir.join(file);
    fs::write(&path, text)?;
    Ok(path)
}

/// A certificate and its key in files.
fn certify(
    dir: &Path,
    name: &str,
    params: &CertificateParams,
    issuer: &Issuer<'_, KeyPair>,
) -> Result<(PathBuf, PathBuf)> {
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    let certificate = write(dir, &format!("{name}.pem"), &certificate.pem())?;
    Ok((certificate, write(dir, &format!("{name}-key.pem"), &key.serialize_pem())?))
}

/// An RSA key and its public half in files; ring makes none.
fn rsa(dir: &Path, name: &str) -> Result<(PathBuf, PathBuf)> {
    let (key, public) = (dir.join(format!("{name}-key.pem")), dir.join(format!("{name}.pem")));
    let mut generate = Command::new("openssl");
    generate.args(["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out"]);
    generate.arg(&key);
    run(generate)?;
    let mut publish = Command::new("openssl");
    publish.args(["pkey", "-pubout", "-in"]).arg(&key).arg("-out").arg(&public);
    run(publish)?;
    Ok((key, public))
}
