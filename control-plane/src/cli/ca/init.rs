//! `eastwest ca init`: creates the root of a state directory.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use eastwest_ca::{NewKey, NewRoot, PrivateKey};
use eastwest_ca_server::operations;
use eastwest_model::TrustDomain;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{Exit, Failure, Result, USUAL_TRUST_DOMAIN, show};
use crate::{
    config::{Problems, duration},
    output::OutputArgs,
};

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// The trust domain that the root certificate names [default: that of the CA that is there, else cluster.local].
    #[arg(long, value_name = "NAME", env = "EASTWEST_TRUST_DOMAIN")]
    trust_domain: Option<String>,
    /// Type of the root key: p256 or p384.
    #[arg(long, value_name = "KIND", default_value = "p256", env = "EASTWEST_ROOT_KEY_TYPE")]
    root_key_type: String,
    /// Lifetime of the root certificate.
    #[arg(long, value_name = "DURATION", default_value = "3650d", env = "EASTWEST_ROOT_TTL")]
    root_ttl: String,
    /// Use the private key in this PEM file instead of a new one. RSA of at least 2048 bits, P-256 or P-384; in PKCS#8,
    /// PKCS#1 or RFC 5915 form, not encrypted.
    #[arg(long, value_name = "FILE", env = "EASTWEST_IMPORT_KEY")]
    import_key: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

impl InitArgs {
    pub(super) fn run(self, state_dir: &Path, now: OffsetDateTime) -> Result {
        let mut problems = Problems::default();
        let there = || operations::trust_domain(state_dir, now);
        let domain = match &self.trust_domain {
            Some(domain) => TrustDomain::parse(domain),
            None => there().map_or_else(|| TrustDomain::parse(USUAL_TRUST_DOMAIN), Ok),
        };
        let domain = problems.take("--trust-domain", domain);
        let key: Option<NewKey> = problems.take("--root-key-type", self.root_key_type.parse());
        let life = problems.take("--root-ttl", duration(&self.root_ttl));
        let (Some(domain), Some(key), Some(life)) = (domain, key, life) else {
            return Err(Failure::Usage(problems));
        };
        let import = self.import_key.as_deref().map(read_key).transpose()?;
        let new = NewRoot { key, life, ..NewRoot::of(domain) };
        let summary = operations::init(state_dir, &new, import.as_ref(), now)?;
        self.output.print(&summary, show::describe)?;
        Ok(Exit::Success)
    }
}

fn read_key(path: &Path) -> anyhow::Result<PrivateKey> {
    let told = || format!("--import-key: {}", path.display());
    let text = Zeroizing::new(std::fs::read_to_string(path).with_context(told)?);
    let key = PrivateKey::from_pem(&text).with_context(told)?;
    key.public().with_context(told)?;
    Ok(key)
}
