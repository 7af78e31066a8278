//! `eastwest ca serve`: the CA without a mesh.

use std::{
    hash::{BuildHasher as _, Hasher as _},
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::Args;
use eastwest_ca::NewKey;
use eastwest_model::TrustDomain;
use zeroize::Zeroizing;

use super::{
    super::{
        logs, runtime,
        serve::{ca::CaArgs, debug::DebugArgs, names::UsualNames},
    },
    Exit, Failure, Result,
};
use crate::{
    config::{Problems, address},
    serve::{self, PortAddresses, RootConfig, SignerSource, StandaloneConfig, StatePlace},
};

/// Lifetime of a certificate if neither flag nor request names one: long enough for a test.
const USUAL_LIFE: &str = "10m";
/// Trust domain of a CA whose state directory is kept.
const KEPT_TRUST_DOMAIN: &str = "cluster.local";
/// Variables that hold a root as PEM. There are no such flags: other users can read a command line.
const ROOT_PEM: [&str; 2] = ["EASTWEST_ROOT_CERT_PEM", "EASTWEST_ROOT_KEY_PEM"];

/// The root of the state directory: created with the defaults, rotated automatically.
const OWN_ROOT: RootConfig =
    RootConfig { ca_dir: None, key: NewKey::P256, life: None, automatic_rotation: true };

#[derive(Debug, Args)]
#[command(
    after_help = "By default the root of the state directory signs. --root-cert and --root-key name another \
    one; so do the variables EASTWEST_ROOT_CERT_PEM and EASTWEST_ROOT_KEY_PEM, which hold PEM (for secrets of CI systems).\n\n\
    Example:\n  eastwest ca serve --ephemeral &\n  eastwest ca wait-ready"
)]
pub(super) struct ServeArgs {
    /// Use a temporary state directory and delete it at the end.
    #[arg(long, env = "EASTWEST_EPHEMERAL")]
    ephemeral: bool,
    /// Sign with this root: file with its certificate (PEM).
    #[arg(long, value_name = "FILE", env = "EASTWEST_ROOT_CERT")]
    root_cert: Option<PathBuf>,
    /// File with the private key of that root (PEM, PKCS#8).
    #[arg(long, value_name = "FILE", env = "EASTWEST_ROOT_KEY")]
    root_key: Option<PathBuf>,
    /// Sign with a fixed root whose private key is public, for golden tests. Never trust it elsewhere.
    #[arg(long, env = "EASTWEST_INSECURE_TEST_ROOT")]
    insecure_test_root: bool,
    /// With --insecure-test-root: also listen on addresses that other machines can reach.
    #[arg(long, env = "EASTWEST_INSECURE_ALLOW_REMOTE")]
    insecure_allow_remote: bool,
    /// The trust domain [default: cluster.local; with --ephemeral a new one for each run, ci-….test].
    #[arg(long, value_name = "NAME", env = "EASTWEST_TRUST_DOMAIN")]
    trust_domain: Option<String>,
    /// Address of gRPC with TLS: the certificate service. With port 0 the system chooses a port.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15012", env = "EASTWEST_GRPC_TLS_ADDR")]
    grpc_tls_addr: String,
    /// Address of HTTP: /metrics, /healthz, /readyz, /version, /debug/…
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15014", env = "EASTWEST_HTTP_ADDR")]
    http_addr: String,
    #[command(flatten)]
    debug: DebugArgs,
    #[command(flatten)]
    ca: CaArgs,
}

impl ServeArgs {
    pub(super) fn run(self, state_dir: &Path) -> Result {
        let mut problems = Problems::default();
        let config = self
            .read(state_dir, &mut problems)
            .filter(|_| problems.is_empty())
            .ok_or(Failure::Usage(problems))?;
        logs::init()?;
        runtime()?.block_on(serve::run_standalone(config))?;
        Ok(Exit::Success)
    }

    fn read(self, state_dir: &Path, problems: &mut Problems) -> Option<StandaloneConfig> {
        let signer = self.signer(problems);
        let domain = self.trust_domain.unwrap_or_else(|| match self.ephemeral {
            true => new_trust_domain(),
            false => KEPT_TRUST_DOMAIN.to_owned(),
        });
        let trust_domain = problems.take("--trust-domain", TrustDomain::parse(&domain));
        let tls = problems.take("--grpc-tls-addr", address(&self.grpc_tls_addr));
        let http = problems.take("--http-addr", address(&self.http_addr));
        let ca = self.ca.read(problems, (USUAL_LIFE, UsualNames::TESTS), false);
        let remote = |tls: &SocketAddr| !tls.ip().is_loopback();
        if self.insecure_test_root && !self.insecure_allow_remote && tls.as_ref().is_some_and(remote) {
            problems.add(
                "--insecure-test-root",
                "anybody has the key of this root: use a loopback --grpc-tls-addr, or say --insecure-allow-remote",
            );
        }
        Some(StandaloneConfig {
            state: if self.ephemeral {
                StatePlace::Temporary
            } else {
                StatePlace::Kept(state_dir.to_owned())
            },
            signer: signer?,
            trust_domain: trust_domain?,
            ca: ca?,
            ports: PortAddresses { plaintext: None, tls: tls?, http: http? },
            debug_access: self.debug.debug_access,
            insecure_remote: self.insecure_allow_remote,
        })
    }

    /// The one root that was named.
    fn signer(&self, problems: &mut Problems) -> Option<SignerSource> {
        let by_files = self.root_cert.is_some() || self.root_key.is_some();
        let pem =
            ROOT_PEM.map(|name| std::env::var(name).ok().filter(|text| !text.is_empty()).map(Zeroizing::new));
        let by_environment = pem.iter().any(Option::is_some);
        match (by_files, by_environment, self.insecure_test_root) {
            (false, false, false) => Some(SignerSource::Followed(OWN_ROOT)),
            (false, false, true) => Some(SignerSource::Test),
            (true, false, false) => self.root_in_files(problems),
            (false, true, false) => root_in_environment(pem, problems),
            _ => {
                problems.add(
                    "--root-cert, EASTWEST_ROOT_CERT_PEM, --insecure-test-root",
                    "more than one root is named; name one",
                );
                None
            }
        }
    }

    fn root_in_files(&self, problems: &mut Problems) -> Option<SignerSource> {
        let mut read = |flag: &str, path: &Option<PathBuf>| {
            let path = path.as_ref().ok_or("a root needs certificate and key: name this file too".to_owned());
            let text = path.and_then(|path| {
                std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
            });
            problems.take(flag, text).map(Zeroizing::new)
        };
        let (certificate, key) = (read("--root-cert", &self.root_cert), read("--root-key", &self.root_key));
        let (certificate, key) = (certificate?.to_string(), key?);
        Some(SignerSource::Provided { from: "--root-cert, --root-key".to_owned(), certificate, key })
    }
}

fn root_in_environment(pem: [Option<Zeroizing<String>>; 2], problems: &mut Problems) -> Option<SignerSource> {
    let [certificate, key] = pem;
    let mut need = |name: &str, text: Option<Zeroizing<String>>| {
        problems.take(name, text.ok_or("is not set, but a root needs certificate and key"))
    };
    let (certificate, key) = (need(ROOT_PEM[0], certificate), need(ROOT_PEM[1], key));
    let (certificate, key) = (certificate?.to_string(), key?);
    Some(SignerSource::Provided { from: ROOT_PEM.join(", "), certificate, key })
}

/// A trust domain that no other run has, below a top-level domain that is reserved for tests (RFC 2606).
fn new_trust_domain() -> String {
    let random = std::hash::RandomState::new().build_hasher().finish();
    format!("ci-{random:016x}.test")
}
