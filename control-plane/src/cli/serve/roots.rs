//! Where signer and roots come from.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use eastwest_ca::NewKey;

use super::istiod;
use crate::{
    config::{Problems, duration},
    serve::RootConfig,
};

/// Flags of the signing CA and its roots.
#[derive(Debug, Args)]
pub(crate) struct RootArgs {
    /// Sign with the CA in this directory as soon as it exists, and read it again when it changes. Files: ca-cert.pem,
    /// ca-key.pem, cert-chain.pem and root-cert.pem; or tls.crt, tls.key and ca.crt. Optional: ca-crl.pem [also read from
    /// ROOT_CA_DIR].
    #[arg(long, value_name = "DIR", env = "EASTWEST_CA_DIR")]
    ca_dir: Option<PathBuf>,
    /// Type of the key of a new root: p256 or p384.
    #[arg(long, value_name = "KIND", default_value = "p256", env = "EASTWEST_ROOT_KEY_TYPE")]
    root_key_type: String,
    /// Lifetime of a new root [default: 3650d; also read from CITADEL_SELF_SIGNED_CA_CERT_TTL].
    #[arg(long, value_name = "DURATION", env = "EASTWEST_ROOT_TTL")]
    root_ttl: Option<String>,
    /// How our own root is rotated: auto (the server takes each step when it is due) or manual (only `eastwest ca rotate`).
    #[arg(long, value_name = "WHO", default_value = "auto", value_enum, env = "EASTWEST_ROOT_ROTATION")]
    root_rotation: RootRotation,
}

/// How a root is rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RootRotation {
    Auto,
    Manual,
}

impl RootArgs {
    /// Reads the flags.
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
