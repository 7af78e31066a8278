//! `eastwest ca issue`: a key and its certificate in one call, signed with the state directory or by a running server.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use eastwest_agent::{CertificateRequest, CertificateRequestError, TokenSource};
use eastwest_ca::{Lifetimes, Refusal, ServingName};
use eastwest_ca_server::{
    StateDir,
    operations::{self, OperationError},
};
use eastwest_model::{IdentityError, SpiffeId, TrustDomain};
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use zeroize::Zeroizing;

use super::{super::runtime, Exit, Failure, Result, USUAL_TRUST_DOMAIN};
use crate::{
    config::{Problems, duration, service_account},
    output::OutputArgs,
};

/// Lifetime of a certificate that is signed with the state directory. A server has its own default.
const USUAL_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// Shortest lifetime of a certificate that is signed with the state directory.
const SHORTEST_LIFE: Duration = Duration::from_secs(10);
/// Lifetime of the token that is created for one call.
const TOKEN_LIFE: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  eastwest ca issue spiffe://cluster.local/ns/shop/sa/reviews --out certs\n  \
    eastwest ca issue --server 127.0.0.1:15012 --service-account shop/reviews --out certs\n  \
    eastwest ca issue --server 127.0.0.1:15012 --service-account shop/web --dns web.test --ip 127.0.0.1 --out certs"
)]
pub(super) struct IssueArgs {
    /// The identity, for example spiffe://cluster.local/ns/shop/sa/reviews.
    #[arg(value_name = "SPIFFE-ID")]
    identity: Option<String>,
    /// The identity as NAMESPACE/SERVICE-ACCOUNT, instead of a SPIFFE ID.
    #[arg(long, value_name = "NS/SA", env = "EASTWEST_ISSUE_SERVICE_ACCOUNT")]
    service_account: Option<String>,
    /// Trust domain of the service account [default: that of the root, or of the server].
    #[arg(long, value_name = "NAME", env = "EASTWEST_TRUST_DOMAIN")]
    trust_domain: Option<String>,
    /// Directory for the files. It is created with mode 0700.
    #[arg(long, value_name = "DIR", default_value = ".", env = "EASTWEST_ISSUE_OUT")]
    out: PathBuf,
    /// Lifetime of the certificate [default: 24h, or the default of the server].
    #[arg(long, value_name = "DURATION", env = "EASTWEST_CERT_TTL")]
    ttl: Option<String>,
    /// Longest lifetime that may be asked for where the state directory signs. A server has its own bound.
    #[arg(long, value_name = "DURATION", default_value = "90d", env = "EASTWEST_MAX_CERT_TTL")]
    max_cert_ttl: String,
    /// A DNS name for the certificate beside the SPIFFE ID, for clients that verify a server by its name (repeatable). A
    /// server must allow it: see --allow-dns of `ca serve`.
    #[arg(long, value_name = "NAME", value_delimiter = ',', env = "EASTWEST_ISSUE_DNS")]
    dns: Vec<String>,
    /// An IP address for the certificate (repeatable). A server must allow it: see --allow-ip of `ca serve`.
    #[arg(long, value_name = "ADDR", value_delimiter = ',', env = "EASTWEST_ISSUE_IP")]
    ip: Vec<IpAddr>,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Flags for a running server.
#[derive(Debug, Args)]
struct ServerArgs {
    /// TLS address of a running server that signs. The key is created here and does not leave this machine.
    #[arg(long, value_name = "HOST:PORT", env = "EASTWEST_CONTROL_PLANE")]
    server: Option<String>,
    /// The name that the server's certificate must have [default: the host of --server].
    #[arg(long, value_name = "NAME", env = "EASTWEST_CONTROL_PLANE_NAME")]
    server_name: Option<String>,
    /// Root certificates (PEM) to verify the server with [default: root-cert.pem in the state directory].
    #[arg(long, value_name = "FILE", env = "EASTWEST_CA_ROOT")]
    ca_root: Option<PathBuf>,
    /// File with the token that proves the identity [default: a token made with the token key of the state directory].
    #[arg(long, value_name = "FILE", env = "EASTWEST_TOKEN_FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// The token itself. Prefer the environment variable: other users can read a command line.
    #[arg(long, value_name = "TOKEN", env = "EASTWEST_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The audience (`aud`) of a token that is made here.
    #[arg(long, value_name = "AUD", default_value = "istio-ca", env = "EASTWEST_TOKEN_AUDIENCE")]
    token_audience: String,
    /// Name of the cluster that issued the token.
    #[arg(long, value_name = "ID", default_value = "Kubernetes", env = "EASTWEST_CLUSTER_ID")]
    cluster_id: String,
}

/// What was issued. The key is only in its file.
#[derive(Serialize)]
struct Report {
    identity: SpiffeId,
    serial: String,
    not_after: String,
    certificate_chain: PathBuf,
    private_key: PathBuf,
    roots: PathBuf,
}

impl IssueArgs {
    pub(super) fn run(self, state_dir: &Path, now: OffsetDateTime) -> Result {
        let mut problems = Problems::default();
        let identity = self.identity(state_dir, now, &mut problems);
        let ttl = self.ttl.as_deref().and_then(|ttl| problems.take("--ttl", duration(ttl)));
        let names = self.names(&mut problems);
        let lifetimes = self.lifetimes(&mut problems);
        let (Some(identity), Some(lifetimes), true) = (identity, lifetimes, problems.is_empty()) else {
            return Err(Failure::Usage(problems));
        };
        let report = match self.server.server.clone() {
            Some(server) => self.order(server, (identity, names), ttl, state_dir, now)?,
            None => self.sign((identity, names), ttl, lifetimes, state_dir, now)?,
        };
        self.output.print(&report, describe)?;
        Ok(Exit::Success)
    }

    /// The names beside the identity.
    fn names(&self, problems: &mut Problems) -> Vec<ServingName> {
        let dns = self.dns.iter().filter(|name| !name.is_empty()).filter_map(|name| {
            let parsed = problems.take("--dns", name.parse());
            if let Some(ServingName::Ip(_)) = parsed {
                problems.add("--dns", format!("{name:?} is an address: give it with --ip"));
            }
            parsed
        });
        dns.collect::<Vec<_>>().into_iter().chain(self.ip.iter().copied().map(ServingName::Ip)).collect()
    }

    /// The bounds where the state directory signs.
    fn lifetimes(&self, problems: &mut Problems) -> Option<Lifetimes> {
        let max = problems.take("--max-cert-ttl", duration(&self.max_cert_ttl))?;
        problems.take("--max-cert-ttl", Lifetimes::new(USUAL_LIFE.min(max), SHORTEST_LIFE.min(max), max))
    }

    /// The identity that was named.
    fn identity(&self, state_dir: &Path, now: OffsetDateTime, problems: &mut Problems) -> Option<SpiffeId> {
        match (&self.identity, &self.service_account) {
            (Some(identity), None) => problems.take("SPIFFE-ID", SpiffeId::parse(identity)),
            (None, Some(account)) => {
                let account = problems.take("--service-account", service_account(account));
                let domain = self.trust_domain(state_dir, now);
                let domain = problems.take("--trust-domain", domain);
                let (namespace, account) = account?;
                problems.take("--service-account", SpiffeId::workload(&domain?, &namespace, &account))
            }
            (None, None) => {
                problems
                    .add("SPIFFE-ID", "name the identity, or a --service-account NAMESPACE/SERVICE-ACCOUNT");
                None
            }
            (Some(_), Some(_)) => {
                problems.add("--service-account", "the identity is named twice; leave one of the two away");
                None
            }
        }
    }

    /// The trust domain of the flag; else that of the root in the state directory.
    fn trust_domain(
        &self,
        state_dir: &Path,
        now: OffsetDateTime,
    ) -> std::result::Result<TrustDomain, IdentityError> {
        let told = self.trust_domain.clone().filter(|domain| !domain.is_empty());
        let named = || match self.server.server {
            Some(_) => None,
            None => operations::trust_domain(state_dir, now),
        };
        match told {
            Some(domain) => TrustDomain::parse(&domain),
            None => named().map_or_else(|| TrustDomain::parse(USUAL_TRUST_DOMAIN), Ok),
        }
    }

    /// Signs with the state directory.
    fn sign(
        &self,
        (identity, names): (SpiffeId, Vec<ServingName>),
        ttl: Option<Duration>,
        lifetimes: Lifetimes,
        state_dir: &Path,
        now: OffsetDateTime,
    ) -> Result<Report> {
        let issued = operations::issue(state_dir, (&identity, names), ttl, lifetimes, now);
        let issued = issued.map_err(|error| match error {
            OperationError::Refused(refusal) => {
                let flag = match &refusal {
                    Refusal::TooLong { .. } | Refusal::TooShort { .. } => "--ttl",
                    Refusal::Name { .. } | Refusal::TooManyNames(_) => "--dns, --ip",
                    _ => "SPIFFE-ID",
                };
                Failure::usage(flag, refusal)
            }
            error => error.into(),
        })?;
        let [certificate_chain, private_key, roots] = issued.write(&self.out)?;
        let not_after = issued.not_after.format(&Rfc3339)?;
        Ok(Report { identity, serial: issued.serial, not_after, certificate_chain, private_key, roots })
    }

    /// Has a server sign.
    fn order(
        &self,
        server: String,
        (identity, names): (SpiffeId, Vec<ServingName>),
        ttl: Option<Duration>,
        state_dir: &Path,
        now: OffsetDateTime,
    ) -> Result<Report> {
        let token = self.server.token(&identity, state_dir, now)?;
        let ca_root = self.server.ca_root.clone();
        let any_trust_domain = self.identity.is_none() && self.trust_domain.is_none();
        let request = CertificateRequest {
            server,
            server_name: self.server.server_name.clone(),
            ca_root: ca_root.unwrap_or_else(|| state_dir.join("root-cert.pem")),
            token,
            identity,
            names,
            any_trust_domain,
            cluster_id: self.server.cluster_id.clone(),
            cert_ttl: ttl.unwrap_or_default(),
        };
        let issued =
            runtime()?.block_on(eastwest_agent::request_certificate(request)).map_err(
                |error| match error {
                    CertificateRequestError::Config(mistakes) => {
                        Failure::Usage(mistakes.0.into_iter().collect())
                    }
                    CertificateRequestError::Refused(error) if error.is_denial() => {
                        Failure::Error(error.into())
                    }
                    error @ CertificateRequestError::Refused(_) => Failure::Unanswered(error.into()),
                },
            )?;
        issued.write(&self.out)?;
        Ok(Report {
            identity: issued.identity().clone(),
            serial: issued.serial().to_owned(),
            not_after: OffsetDateTime::from(issued.not_after()).format(&Rfc3339)?,
            certificate_chain: self.out.join("cert-chain.pem"),
            private_key: self.out.join("key.pem"),
            roots: self.out.join("root-cert.pem"),
        })
    }
}

impl ServerArgs {
    /// The token of the flags; else a new one, if the state directory is that of the server.
    fn token(&self, identity: &SpiffeId, state_dir: &Path, now: OffsetDateTime) -> Result<TokenSource> {
        if let Some(path) = &self.token_file {
            return Ok(TokenSource::File(path.clone()));
        }
        if let Some(token) = &self.token {
            return Ok(TokenSource::Given(Zeroizing::new(token.clone())));
        }
        let (namespace, account) = identity.as_workload().map_err(|error| {
            let remedy = "name a service account, for which a token can be made here, or give a token of this identity with \
                          --token-file";
            Failure::usage("SPIFFE-ID", format_args!("{error}; {remedy}"))
        })?;
        let key = StateDir::open_existing(state_dir).and_then(|state| state.existing_token_key());
        key.map_err(|error| {
            let remedy = "name a token for this identity, or with --state-dir the server's state directory";
            Failure::usage("--token-file", format_args!("{remedy} ({error})"))
        })?;
        let token = operations::token(state_dir, namespace, account, &self.token_audience, TOKEN_LIFE, now)?;
        Ok(TokenSource::Given(Zeroizing::new(token)))
    }
}

fn describe(report: &Report) -> String {
    let files = [&report.certificate_chain, &report.private_key, &report.roots];
    let files: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    let Report { identity, serial, not_after, .. } = report;
    format!("issued {identity}\nserial {serial}, until {not_after}\n{}", files.join("\n"))
}
