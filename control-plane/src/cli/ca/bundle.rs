//! `eastwest ca bundle`: the trust bundle, for those that must trust our certificates.

use std::path::Path;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use eastwest_ca::SpiffeBundle;
use eastwest_ca_server::{bundles, operations};
use time::OffsetDateTime;

use super::{Exit, Result};
use crate::{cli::runtime, output::write_out, remote};

/// The arguments of `eastwest ca bundle`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  eastwest ca bundle > root-cert.pem\n  eastwest ca bundle -o spiffe \
    --server http://127.0.0.1:15014 > bundle.json")]
pub(super) struct BundleArgs {
    /// The format of the output.
    #[arg(short = 'o', long, alias = "output", value_enum, default_value_t, env = "EASTWEST_BUNDLE_FORMAT")]
    format: BundleFormat,
    /// HTTP address of a running server, for example http://127.0.0.1:15014 [default: read --state-dir].
    #[arg(long, value_name = "URL", env = "EASTWEST_SERVER")]
    server: Option<String>,
}

/// What a trust bundle looks like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum BundleFormat {
    /// The root certificates in PEM.
    #[default]
    Pem,
    /// The SPIFFE bundle document: a JWK Set with a sequence number and a refresh hint.
    #[value(alias = "jwks", alias = "json")]
    Spiffe,
}

impl BundleArgs {
    pub(super) fn run(self, state_dir: &Path, now: OffsetDateTime) -> Result {
        let text = match (self.server, self.format) {
            (Some(server), format) => {
                let text = runtime()?.block_on(remote::fetch(&server, "/bundle"))?;
                let text = std::str::from_utf8(&text).context("the answer is not UTF-8")?;
                let bundle = SpiffeBundle::from_json(text)
                    .with_context(|| format!("{server}/bundle: is that an eastwest control plane?"))?;
                format.show(&bundle)
            }
            (None, BundleFormat::Pem) => operations::bundle(state_dir, now)?,
            (None, format) => format.show(&bundles::of_state_dir(state_dir, now)?),
        };
        write_out(text.trim_end())?;
        Ok(Exit::Success)
    }
}

impl BundleFormat {
    fn show(self, bundle: &SpiffeBundle) -> String {
        match self {
            Self::Pem => bundle.pem(),
            Self::Spiffe => bundle.to_json(),
        }
    }
}
