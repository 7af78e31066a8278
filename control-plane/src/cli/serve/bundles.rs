//! Flags of trust bundles, out and in.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use clap::Args;
use eastwest_ca_server::bundles::federation::{Relationship, Source};

use crate::{
    config::{Problems, address, duration},
    serve::{BundleConfig, EndpointConfig},
};

/// Flags of trust bundles: ours for other trust domains, and theirs for us.
#[derive(Debug, Args)]
#[command(next_help_heading = "Trust bundles")]
pub(crate) struct BundleArgs {
    /// Serve our trust bundle over HTTPS to other trust domains (SPIFFE bundle endpoint) [default: off].
    #[arg(long, value_name = "ADDR", env = "EASTWEST_BUNDLE_ADDR")]
    bundle_addr: Option<String>,
    /// Certificate chain (PEM) of that endpoint, for the profile https_web. It is read again when it changes [default: the
    /// profile https_spiffe with a certificate of our own CA for spiffe://TRUST-DOMAIN/ns/ROOT-NAMESPACE/sa/eastwest].
    #[arg(long, value_name = "FILE", env = "EASTWEST_BUNDLE_CERT")]
    bundle_cert: Option<PathBuf>,
    /// Private key (PEM) of --bundle-cert.
    #[arg(long, value_name = "FILE", env = "EASTWEST_BUNDLE_KEY")]
    bundle_key: Option<PathBuf>,
    /// How often other trust domains should fetch the bundle again, in whole seconds.
    #[arg(long, value_name = "DURATION", default_value = "5m", env = "EASTWEST_BUNDLE_REFRESH_HINT")]
    bundle_refresh_hint: String,
    /// Trust the workloads of another trust domain (repeatable). Forms: TRUST-DOMAIN=https://… (profile https_web; add
    /// ,ca=FILE to use other CAs than the system's), TRUST-DOMAIN=https://…,id=SPIFFE-ID,bundle=FILE (profile https_spiffe;
    /// bundle= is for the first connection), TRUST-DOMAIN=FILE, or FILE with several bundles by trust domain. In the
    /// variable, separate them by ;
    #[arg(long, value_name = "TRUST-DOMAIN=URL|FILE", value_delimiter = ';', env = "EASTWEST_FEDERATE")]
    federate: Vec<String>,
}

impl BundleArgs {
    pub(crate) fn read(self, problems: &mut Problems) -> Option<BundleConfig> {
        let refresh_hint = problems.take("--bundle-refresh-hint", whole_seconds(&self.bundle_refresh_hint));
        let relationships = self.federate.iter().filter_map(|text| problems.take("--federate", text.parse()));
        let relationships: Vec<Relationship> = relationships.collect();
        once_each(&relationships, problems);
        let endpoint = self.endpoint(problems);
        Some(BundleConfig { endpoint, refresh_hint: refresh_hint?, relationships })
    }

    fn endpoint(self, problems: &mut Problems) -> Option<EndpointConfig> {
        let files = match (self.bundle_cert, self.bundle_key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => {
                problems.add("--bundle-key", "--bundle-cert needs it: the file with the private key");
                None
            }
            (None, Some(_)) => {
                problems.add("--bundle-cert", "--bundle-key needs it: the file with the certificate chain");
                None
            }
        };
        let Some(text) = self.bundle_addr else {
            if files.is_some() {
                problems.add("--bundle-addr", "--bundle-cert needs it: where to serve the trust bundle");
            }
            return None;
        };
        let address = problems.take("--bundle-addr", address(&text))?;
        Some(EndpointConfig { address, files })
    }
}

fn whole_seconds(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        whole if whole.as_secs() > 0 && whole.subsec_nanos() == 0 => Ok(whole),
        other => Err(format!("{other:?} is not in whole seconds; give at least 1s")),
    }
}

/// Refuses two sources for one domain: their bundles would have to be merged.
fn once_each(relationships: &[Relationship], problems: &mut Problems) {
    let mut seen = BTreeSet::new();
    for relationship in relationships {
        if let Source::Endpoint { domain, .. } | Source::File(domain, _) = &relationship.source
            && !seen.insert(domain)
        {
            problems.add("--federate", format!("{domain} is named twice; which of them is meant?"));
        }
    }
}
