//! Where signer and roots come from.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use eastwest_ca::NewKey;

use super::istiod;
use crate::{
    config::{Problems, duration},
    serve::RootConfig,
};

/// Flags of signer and roots.
#[derive(Debug, Args)]
pub(crate) struct RootArgs {
    /// Sign with the CA that lies in this directory, from when it is there, and follow its changes: ca-cert.pem,
    /// ca-key.pem, cert-chain.pem and root-cert.pem, or tls.crt, tls.key and ca.crt; and ca-crl.pem, if there is one
    /// [also: ROOT_CA_DIR].
    #[arg(long, value_name = "DIR", env = "EASTWEST_CA_DIR")]
    ca_dir: Option<PathBuf>,
    /// Key of a root that is made: p256 or p384.
    #[arg(long, value_name = "KIND", default_value = "p256", env = "EASTWEST_ROOT_KEY_TYPE")]
    root_key_type: String,
    /// Life of a root that is made [default: 3650d; also: CITADEL_SELF_SIGNED_CA_CERT_TTL].
    #[arg(long, value_name = "DURATION", env = "EASTWEST_ROOT_TTL")]
    root_ttl: Option<String>,
    /// Who lets a next root follow our own: auto, when it is time, or manual, by `eastwest ca rotate` alone.
    #[arg(long, value_name = "WHO", default_value = "auto", value_enum, env = "EASTWEST_ROOT_ROTATION")]
    root_rotation: RootRotation,
}

/// Who takes the steps of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RootRotation {
    Auto,
    Manual,
}

impl RootArgs {
    /// Reads them.
    pub(crate) fn read(self, problems: &mut Problems) -> Option<RootConfig> {
        let ca_dir = self.ca_dir.or_else(|| istiod::text("ROOT_CA_DIR").map(PathBuf::from));
        let key: Option<NewKey> = problems.take("--root-key-type", self.root_key_type.parse());
        let life = match self.root_ttl {
            Some(text) => problems.take("--root-ttl", duration(&text)).map(Some)?,
            None => istiod::duration("CITADEL_SELF_SIGNED_CA_CERT_TTL", problems)?,
        };
        if life.is_some_and(|life| life.as_secs() == 0) {
            problems.add("--root-ttl", "a root must live for a second at least");
        }
        let automatic_rotation = self.root_rotation == RootRotation::Auto;
        Some(RootConfig { ca_dir, key: key?, life, automatic_rotation })
    }
}
