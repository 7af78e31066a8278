//! `eastwest agent`: flags of the agent of a workload.

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf};

use clap::Args;
use eastwest_agent::{AgentConfig, AgentError, Shutdown};

use super::{Exit, Failure, Result, logs, runtime};
use crate::config::{Problems, duration};

/// The arguments of `eastwest agent`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  eastwest agent --control-plane eastwest.istio-system.svc:15012 \\\n    \
    --namespace shop --pod reviews-0 --service-account reviews --ip 10.0.0.7 --dir /run/eastwest \\\n    \
    -- envoy -c /run/eastwest/envoy.yaml")]
pub(crate) struct AgentArgs {
    /// TLS address of the control plane.
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "",
        hide_default_value = true,
        env = "EASTWEST_CONTROL_PLANE"
    )]
    control_plane: String,
    /// Name that the control plane's certificate must have [default: the host of --control-plane].
    #[arg(long, value_name = "NAME", env = "EASTWEST_CONTROL_PLANE_NAME")]
    control_plane_name: Option<String>,
    /// Trust anchor for the control plane.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/var/run/secrets/istio/root-cert.pem",
        env = "EASTWEST_CA_ROOT"
    )]
    ca_root: PathBuf,
    /// Service-account token, read at each use.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/var/run/secrets/tokens/istio-token",
        env = "EASTWEST_TOKEN_FILE"
    )]
    token_file: PathBuf,
    /// Namespace of the workload [else: POD_NAMESPACE].
    #[arg(long, value_name = "NAMESPACE", env = "EASTWEST_NAMESPACE")]
    namespace: Option<String>,
    /// Name of the workload's pod [else: POD_NAME].
    #[arg(long, value_name = "NAME", env = "EASTWEST_AGENT_POD")]
    pod: Option<String>,
    /// Service account of the workload [else: SERVICE_ACCOUNT, default].
    #[arg(long, value_name = "NAME", env = "EASTWEST_SERVICE_ACCOUNT")]
    service_account: Option<String>,
    /// Address of the workload, and one more where it has IPv4 and IPv6 (repeatable) [else: INSTANCE_IP].
    #[arg(long, value_name = "IP", value_delimiter = ',', env = "EASTWEST_AGENT_IP")]
    ip: Vec<String>,
    /// A label of the workload (repeatable).
    #[arg(long, value_name = "KEY=VALUE", value_parser = label, value_delimiter = ',', env = "EASTWEST_AGENT_LABEL")]
    label: Vec<(String, String)>,
    /// Refuse certificates of any other trust domain [default: take what the CA issues].
    #[arg(long, value_name = "NAME", env = "EASTWEST_TRUST_DOMAIN")]
    trust_domain: Option<String>,
    /// Name of the cluster.
    #[arg(long, value_name = "ID", default_value = "Kubernetes", env = "EASTWEST_CLUSTER_ID")]
    cluster_id: String,
    /// DNS domain of the cluster.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local", env = "EASTWEST_CLUSTER_DOMAIN")]
    cluster_domain: String,
    /// Work directory: envoy.yaml, and sds.sock with SDS and the SPIFFE Workload API; created with mode 0700.
    #[arg(long, value_name = "DIR", default_value = ".eastwest-agent", env = "EASTWEST_AGENT_DIR")]
    dir: PathBuf,
    /// Also write certificate, key and trust bundle here at each renewal [default: the key stays in memory].
    #[arg(long, value_name = "DIR", env = "EASTWEST_WRITE_CERTS")]
    write_certs: Option<PathBuf>,
    /// Folder below which certificate files that policies name may be read (repeatable).
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/etc/certs,/var/run/secrets",
        value_delimiter = ',',
        env = "EASTWEST_CERTIFICATE_DIR"
    )]
    certificate_dir: Vec<PathBuf>,
    /// Requested lifetime of the certificate, which is renewed at about half of it.
    #[arg(long, value_name = "DURATION", default_value = "24h", env = "EASTWEST_CERT_TTL")]
    cert_ttl: String,
    /// Port of intercepted inbound connections.
    #[arg(long, value_name = "PORT", default_value_t = 15006, env = "EASTWEST_INBOUND_PORT")]
    inbound_port: u16,
    /// Port of intercepted outbound connections.
    #[arg(long, value_name = "PORT", default_value_t = 15001, env = "EASTWEST_OUTBOUND_PORT")]
    outbound_port: u16,
    /// Let Envoy inspect inbound connections in internal listeners. Servers that send first then reach clients on
    /// plaintext ports without delay, at a cost of some microseconds per request.
    #[arg(
        long,
        value_name = "BOOL",
        default_value_t = true,
        num_args = 0..=1,
        default_missing_value = "true",
        action = clap::ArgAction::Set,
        env = "EASTWEST_INTERNAL_LISTENERS"
    )]
    internal_listeners: bool,
    /// Envoy's admin port on 127.0.0.1, or on ::1 in a workload with IPv6 alone.
    #[arg(long, value_name = "PORT", default_value_t = 15000, env = "EASTWEST_ADMIN_PORT")]
    admin_port: u16,
    /// Port of the agent: /healthz/ready, /healthz/live, /certz, /metrics.
    #[arg(long, value_name = "PORT", default_value_t = 15021, env = "EASTWEST_STATUS_PORT")]
    status_port: u16,
    /// Probes of the application, JSON as Istio's injector writes it [else: ISTIO_KUBE_APP_PROBERS].
    #[arg(long, value_name = "JSON", env = "EASTWEST_AGENT_APP_PROBES")]
    app_probes: Option<String>,
    /// Port at which the agent is asked for probes of the application, if there are any.
    #[arg(long, value_name = "PORT", default_value_t = 15020, env = "EASTWEST_AGENT_APP_PROBE_PORT")]
    app_probe_port: u16,
    /// How long Envoy drains inbound connections before the command is stopped.
    #[arg(long, value_name = "DURATION", default_value = "5s", env = "EASTWEST_DRAIN_TIME")]
    drain_time: String,
    /// How long the command may take to end before it is killed.
    #[arg(long, value_name = "DURATION", default_value = "10s", env = "EASTWEST_STOP_TIME")]
    stop_time: String,
    /// Command to start once there is a certificate, for example `-- envoy -c DIR/envoy.yaml`.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

fn label(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not KEY=VALUE")),
    }
}

/// The flag, else the variable that Istio's injector sets, else nothing.
fn or_env(flag: Option<String>, variable: &str) -> Option<String> {
    flag.or_else(|| std::env::var(variable).ok()).filter(|value| !value.is_empty())
}

/// Has a command end with this process, however that ends.
fn launcher() -> Vec<OsString> {
    // In the child it is still this program, also if its file was replaced meanwhile.
    let program = "/proc/self/exe";
    match std::path::Path::new(program).exists() {
        true => [program, "launch", &std::process::id().to_string(), "--"].map(OsString::from).to_vec(),
        false => Vec::new(),
    }
}

impl AgentArgs {
    pub(super) fn run(self) -> Result {
        let mut problems = Problems::default();
        let times = [
            ("--cert-ttl", &self.cert_ttl),
            ("--drain-time", &self.drain_time),
            ("--stop-time", &self.stop_time),
        ]
        .map(|(flag, text)| problems.take(flag, duration(text)).unwrap_or_default());
        let config = self.config(times);
        problems.extend(config.validate());
        if !problems.is_empty() {
            return Err(Failure::Usage(problems));
        }
        logs::init()?;
        let ended = runtime()?.block_on(async {
            let shutdown = Shutdown::on_signals()?;
            std::io::Result::Ok(eastwest_agent::run(config, shutdown).await)
        })?;
        match ended {
            Ok(0) => Ok(Exit::Success),
            Ok(status) => Ok(Exit::Status(status)),
            Err(AgentError::Config(error)) => Err(Failure::Usage(error.0.into_iter().collect())),
            Err(error) => Err(error.into()),
        }
    }

    /// The flag, else the variable that Istio's injector sets.
    fn addresses(&self) -> Vec<String> {
        let given: Vec<_> = self.ip.iter().filter(|address| !address.is_empty()).cloned().collect();
        let variable = || or_env(None, "INSTANCE_IP").unwrap_or_default();
        if given.is_empty() { variable().split(',').map(str::to_owned).collect() } else { given }
    }

    fn config(self, [cert_ttl, drain_time, stop_time]: [std::time::Duration; 3]) -> AgentConfig {
        let ips = self.addresses();
        AgentConfig {
            control_plane: self.control_plane,
            control_plane_name: self.control_plane_name,
            ca_root: self.ca_root,
            token_file: self.token_file,
            namespace: or_env(self.namespace, "POD_NAMESPACE").unwrap_or_default(),
            pod: or_env(self.pod, "POD_NAME").unwrap_or_default(),
            service_account: or_env(self.service_account, "SERVICE_ACCOUNT")
                .unwrap_or_else(|| "default".to_owned()),
            ips,
            labels: self.label.into_iter().collect::<BTreeMap<_, _>>(),
            trust_domain: self.trust_domain,
            cluster_id: self.cluster_id,
            cluster_domain: self.cluster_domain,
            dir: self.dir,
            write_certs: self.write_certs,
            certificate_dirs: self.certificate_dir,
            cert_ttl,
            inbound_port: self.inbound_port,
            outbound_port: self.outbound_port,
            internal_listeners: self.internal_listeners,
            admin_port: self.admin_port,
            status_port: self.status_port,
            app_probes: or_env(self.app_probes, "ISTIO_KUBE_APP_PROBERS").unwrap_or_default(),
            app_probe_port: self.app_probe_port,
            drain_time,
            stop_time,
            command: self.command,
            launcher: launcher(),
        }
    }
}
