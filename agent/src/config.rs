//! Configuration of the agent, as given and as parsed. All mistakes are reported together, each with its flag.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsString,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use eastwest_identity::{SpiffeId, TrustDomain};
use rustls_pki_types::ServerName;

use crate::app_health::{self, AppProbes};

/// Trust domain in the CSR when none is configured; the CA decides which one is issued.
const DEFAULT_TRUST_DOMAIN: &str = "cluster.local";
/// Longest path of a unix socket in bytes, without the final NUL (`sockaddr_un` of Linux).
const MAX_SOCKET_PATH: usize = 107;
/// Shortest lifetime that may be requested.
const MIN_CERT_TTL: Duration = Duration::from_secs(1);

/// Flags and environment of `eastwest agent`. Contains no secrets.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// `--control-plane HOST:PORT`, the TLS address of CA and xDS; `[v6]:PORT` too. Required.
    pub control_plane: String,
    /// `--control-plane-name`: DNS name or IP expected in its certificate; the host if `None`.
    pub control_plane_name: Option<String>,
    /// `--ca-root FILE`: trust anchor for the control plane, read for each connection.
    pub ca_root: PathBuf,
    /// `--token-file FILE`: service-account token, read at each use.
    pub token_file: PathBuf,
    /// `--namespace` of the workload. Required.
    pub namespace: String,
    /// `--pod`, the workload's name. Required.
    pub pod: String,
    /// `--service-account` of the workload.
    pub service_account: String,
    /// `--ip`, the workload's addresses, of one family or both; the first one stands in the node id. Required.
    pub ips: Vec<String>,
    /// `--label K=V`, the workload's labels.
    pub labels: BTreeMap<String, String>,
    /// `--trust-domain`: refuse a certificate of any other; `None` takes what the CA issues.
    pub trust_domain: Option<String>,
    /// `--cluster-id`, sent to CA and control plane.
    pub cluster_id: String,
    /// `--cluster-domain`, the DNS suffix in the node id.
    pub cluster_domain: String,
    /// `--dir`, work directory: `sds.sock` and `envoy.yaml`.
    pub dir: PathBuf,
    /// `--write-certs DIR`: also keep certificates and key as files there.
    pub write_certs: Option<PathBuf>,
    /// `--certificate-dir DIR`: folders below which policies may name certificate files.
    pub certificate_dirs: Vec<PathBuf>,
    /// `--cert-ttl`, requested lifetime of a certificate.
    pub cert_ttl: Duration,
    /// `--inbound-port`, where intercepted inbound connections arrive.
    pub inbound_port: u16,
    /// `--outbound-port`, where intercepted outbound connections arrive.
    pub outbound_port: u16,
    /// `--internal-listeners`: whether Envoy may have internal listeners.
    pub internal_listeners: bool,
    /// `--admin-port` of Envoy, on 127.0.0.1, or on ::1 where the workload has IPv6 addresses alone.
    pub admin_port: u16,
    /// `--status-port` of the agent's own status server; 0 takes a free one.
    pub status_port: u16,
    /// `--app-probes`: the application's probes, JSON from paths of the agent to probes; empty for none.
    pub app_probes: String,
    /// `--app-probe-port`, where the agent is asked for them; opened only if there are any.
    pub app_probe_port: u16,
    /// `--drain-time`: how long Envoy drains inbound connections before it is stopped.
    pub drain_time: Duration,
    /// `--stop-time`: how long the command may take to end before it is killed.
    pub stop_time: Duration,
    /// The command after `--`; empty when nothing is to be started.
    pub command: Vec<OsString>,
    /// Words before the command that have it end with the agent, whatever ends that. Empty: it is started directly.
    pub launcher: Vec<OsString>,
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            control_plane: String::new(),
            control_plane_name: None,
            ca_root: "/var/run/secrets/istio/root-cert.pem".into(),
            token_file: "/var/run/secrets/tokens/istio-token".into(),
            namespace: String::new(),
            pod: String::new(),
            service_account: "default".into(),
            ips: Vec::new(),
            labels: BTreeMap::new(),
            trust_domain: None,
            cluster_id: "Kubernetes".into(),
            cluster_domain: "cluster.local".into(),
            dir: ".eastwest-agent".into(),
            write_certs: None,
            certificate_dirs: vec!["/etc/certs".into(), "/var/run/secrets".into()],
            cert_ttl: Duration::from_secs(24 * 60 * 60),
            inbound_port: 15006,
            outbound_port: 15001,
            internal_listeners: true,
            admin_port: 15000,
            status_port: 15021,
            app_probes: String::new(),
            app_probe_port: 15020,
            drain_time: Duration::from_secs(5),
            stop_time: Duration::from_secs(10),
            command: Vec::new(),
            launcher: Vec::new(),
        }
    }
}

impl AgentConfig {
    /// All mistakes, each as `--flag: what is wrong; remedy`. Empty when there is none.
    pub fn validate(&self) -> Vec<String> {
        Settings::parse(self.clone()).err().map_or_else(Vec::new, |error| error.0)
    }
}

/// All mistakes of an [`AgentConfig`]; one line each.
#[derive(Debug, thiserror::Error)]
pub struct ConfigError(pub Vec<String>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

/// Address of the control plane, and the name that its certificate must have.
#[derive(Clone, Debug)]
pub(crate) struct ControlPlane {
    /// Host name or IP address, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The name in its certificate.
    pub(crate) name: ServerName<'static>,
    /// The flag of the address; the flag of the name has `-name` appended.
    pub(crate) flag: &'static str,
}

impl fmt::Display for ControlPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// An [`AgentConfig`] without mistakes.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) control_plane: ControlPlane,
    /// The identity that the CSR names.
    pub(crate) identity: SpiffeId,
    /// Whether the trust domain of `identity` was configured, or is only the default.
    pub(crate) trust_domain_fixed: bool,
    /// At least one, each once.
    pub(crate) ips: Vec<IpAddr>,
    /// Absolute.
    pub(crate) dir: PathBuf,
    /// Probes of the application, by the path at which the agent is asked.
    pub(crate) app_probes: AppProbes,
    /// The rest, as given.
    pub(crate) config: AgentConfig,
}

impl Settings {
    /// Parses the configuration and collects all mistakes.
    pub(crate) fn parse(config: AgentConfig) -> Result<Self, ConfigError> {
        let mut mistakes = Mistakes::default();
        let control_plane = mistakes.note(
            "control-plane",
            control_plane("--control-plane", &config.control_plane, config.control_plane_name.as_deref()),
        );
        let identity = mistakes.note("namespace, --service-account, --trust-domain", identity(&config));
        let ips = mistakes.note("ip", ips(&config.ips));
        let dir = mistakes.note("dir", directory(&config.dir));
        let app_probes = mistakes.note("app-probes", app_health::parse(&config.app_probes));
        mistakes.note("pod", pod(&config.pod));
        mistakes.note("cluster-id", printable(&config.cluster_id));
        mistakes.note("cluster-domain", printable(&config.cluster_domain));
        mistakes.note("cert-ttl", cert_ttl(config.cert_ttl));
        mistakes.note(
            "inbound-port, --outbound-port, --admin-port, --status-port, --app-probe-port",
            ports(&config),
        );
        mistakes.note("", command(&config.command));
        match (control_plane, identity, ips, dir, app_probes) {
            (Some(control_plane), Some(identity), Some(ips), Some(dir), Some(app_probes))
                if mistakes.0.is_empty() =>
            {
                let trust_domain_fixed = config.trust_domain.is_some();
                Ok(Self { control_plane, identity, trust_domain_fixed, ips, dir, app_probes, config })
            }
            _ => Err(ConfigError(mistakes.0)),
        }
    }

    /// Where Envoy's administration listens: the loopback address of a family that the workload has.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        let loopback = match self.ips.iter().any(IpAddr::is_ipv4) {
            true => Ipv4Addr::LOCALHOST.into(),
            false => Ipv6Addr::LOCALHOST.into(),
        };
        SocketAddr::new(loopback, self.config.admin_port)
    }

    /// The unix socket of the secret discovery service.
    pub(crate) fn sds_socket(&self) -> PathBuf {
        self.dir.join("sds.sock")
    }

    /// The Envoy bootstrap.
    pub(crate) fn bootstrap_file(&self) -> PathBuf {
        self.dir.join("envoy.yaml")
    }
}

#[derive(Default)]
struct Mistakes(Vec<String>);

impl Mistakes {
    fn note<T>(&mut self, flag: &str, parsed: Result<T, String>) -> Option<T> {
        let flag = if flag.is_empty() { "--" } else { &format!("--{flag}") };
        parsed.map_err(|mistake| self.0.push(format!("{flag}: {mistake}"))).ok()
    }
}

/// Parses HOST:PORT of the control plane, the value of `flag`, and the name in its certificate.
pub(crate) fn control_plane(
    flag: &'static str,
    address: &str,
    name: Option<&str>,
) -> Result<ControlPlane, String> {
    if address.is_empty() {
        return Err("missing; give HOST:PORT of the control plane's TLS port, for example \
                    eastwest.istio-system.svc:15012"
            .into());
    }
    let (host, port) = address
        .rsplit_once(':')
        .ok_or_else(|| format!("{address:?} has no port; give HOST:PORT, for example {address}:15012"))?;
    let port = port
        .parse()
        .ok()
        .filter(|&port| port != 0)
        .ok_or_else(|| format!("{port:?} is not a port; give a number from 1 to 65535"))?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if host.contains(':') && host.parse::<IpAddr>().is_err() {
        return Err(format!("{host:?} is neither a host name nor an IP address; give HOST:PORT"));
    }
    let name = name.unwrap_or(host);
    let name = ServerName::try_from(name.to_owned())
        .map_err(|_| format!("{name:?} (or {flag}-name) is neither a DNS name nor an IP address"))?;
    Ok(ControlPlane { host: host.to_owned(), port, name, flag })
}

fn identity(config: &AgentConfig) -> Result<SpiffeId, String> {
    if config.namespace.is_empty() {
        return Err("the namespace is missing; give --namespace or set POD_NAMESPACE".into());
    }
    let domain = config.trust_domain.as_deref().unwrap_or(DEFAULT_TRUST_DOMAIN);
    TrustDomain::parse(domain)
        .and_then(|domain| SpiffeId::workload(&domain, &config.namespace, &config.service_account))
        .map_err(|error| error.to_string())
}

fn ips(texts: &[String]) -> Result<Vec<IpAddr>, String> {
    let mut found = Vec::new();
    for text in texts.iter().map(|text| text.trim()).filter(|text| !text.is_empty()) {
        let address = text.parse().map_err(|_| format!("{text:?} is not an IP address"))?;
        if !found.contains(&address) {
            found.push(address);
        }
    }
    match found.is_empty() {
        true => Err("missing; give the workload's addresses or set INSTANCE_IP".into()),
        false => Ok(found),
    }
}

fn directory(dir: &Path) -> Result<PathBuf, String> {
    let dir =
        std::path::absolute(dir).map_err(|error| format!("{} is no usable path: {error}", dir.display()))?;
    let socket = dir.join("sds.sock");
    if socket.to_str().is_none() {
        return Err(format!("{} is not UTF-8, which Envoy's configuration needs", dir.display()));
    }
    match socket.as_os_str().len() {
        0..=MAX_SOCKET_PATH => Ok(dir),
        length => Err(format!(
            "{} has {length} bytes, but a unix socket's path may have {MAX_SOCKET_PATH}; choose a shorter directory",
            socket.display()
        )),
    }
}

fn pod(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
    match name {
        "" => Err("missing; give the workload's name or set POD_NAME".into()),
        _ if name.len() <= 253 && name.chars().all(allowed) => Ok(()),
        _ => Err(format!("{name:?} is not a pod name; use a-z, 0-9, '-' and '.', at most 253 characters")),
    }
}

/// Checks text for a header or the node id, where `~` is a separator.
fn printable(text: &str) -> Result<(), String> {
    match !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() && c != '~') {
        true => Ok(()),
        false => Err(format!("{text:?} is not usable; give letters, digits, '-', '_', '.' or ':'")),
    }
}

fn cert_ttl(ttl: Duration) -> Result<(), String> {
    match ttl < MIN_CERT_TTL {
        true => Err(format!("{ttl:?} is too short; give at least {MIN_CERT_TTL:?}")),
        false => Ok(()),
    }
}

fn ports(config: &AgentConfig) -> Result<(), String> {
    let named = [
        ("inbound", config.inbound_port),
        ("outbound", config.outbound_port),
        ("admin", config.admin_port),
        ("status", config.status_port),
    ];
    let probes = (!config.app_probes.is_empty()).then_some(("app-probe", config.app_probe_port));
    let mut seen = HashMap::new();
    for (name, port) in named.into_iter().chain(probes) {
        if port == 0 && name != "status" {
            return Err(format!("the {name} port is 0; give a fixed one from 1 to 65535"));
        }
        if let Some(other) = seen.insert(port, name) {
            return Err(format!("{other} and {name} are both {port}; give each its own"));
        }
    }
    Ok(())
}

fn command(command: &[OsString]) -> Result<(), String> {
    match command.first() {
        Some(program) if program.is_empty() => {
            Err("the command is empty; write `-- COMMAND ARGS…` or leave it away".into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete() -> AgentConfig {
        AgentConfig {
            control_plane: "eastwest.istio-system.svc:15012".into(),
            namespace: "shop".into(),
            pod: "reviews-0".into(),
            service_account: "reviews".into(),
            ips: vec!["10.0.0.7".into()],
            ..AgentConfig::default()
        }
    }

    #[test]
    fn a_complete_configuration_has_no_mistakes() {
        assert_eq!(complete().validate(), Vec::<String>::new());
        let settings = Settings::parse(complete()).unwrap();
        assert_eq!(settings.identity.as_str(), "spiffe://cluster.local/ns/shop/sa/reviews");
        assert!(settings.sds_socket().is_absolute());
    }

    #[test]
    fn all_mistakes_are_reported_at_once_by_flag() {
        let config = AgentConfig {
            control_plane: "control".into(),
            ips: vec!["fd00::7".into(), "10.0.0".into()],
            pod: "Reviews 0".into(),
            cluster_id: "one two".into(),
            cluster_domain: String::new(),
            namespace: String::new(),
            cert_ttl: Duration::ZERO,
            admin_port: 15001,
            command: vec!["".into()],
            dir: "/d".repeat(60).into(),
            ..complete()
        };
        let mistakes = config.validate();
        let flags = ["--control-plane:", "--namespace,", "--ip:", "--dir:", "--pod:", "--cert-ttl:"];
        let more = ["--cluster-id:", "--cluster-domain:", "--inbound-port,", "--:"];
        for flag in flags.into_iter().chain(more) {
            assert!(mistakes.iter().any(|mistake| mistake.starts_with(flag)), "{flag} in {mistakes:#?}");
        }
        assert_eq!(mistakes.len(), 10);
    }

    #[test]
    fn a_workload_has_addresses_of_either_family_or_both() {
        let of = |ips: &[&str]| {
            let ips = ips.iter().map(ToString::to_string).collect();
            Settings::parse(AgentConfig { ips, ..complete() })
        };
        let both = of(&["fd00::7", " 10.0.0.7", "fd00::7", ""]).unwrap();
        assert_eq!(both.ips, ["fd00::7".parse::<IpAddr>().unwrap(), "10.0.0.7".parse().unwrap()]);
        assert_eq!(both.admin_address().to_string(), "127.0.0.1:15000");
        assert_eq!(of(&["fd00::7"]).unwrap().admin_address().to_string(), "[::1]:15000");
        for none in [&[][..], &[""]] {
            assert!(of(none).unwrap_err().to_string().contains("--ip: missing"));
        }
    }

    #[test]
    fn addresses_of_the_control_plane_are_understood() {
        for (address, host, name) in [
            ("127.0.0.1:15012", "127.0.0.1", "127.0.0.1"),
            ("[::1]:15012", "::1", "::1"),
            ("localhost:15012", "localhost", "localhost"),
        ] {
            let parsed =
                Settings::parse(AgentConfig { control_plane: address.into(), ..complete() }).unwrap();
            assert_eq!(parsed.control_plane.host, host);
            assert_eq!(parsed.control_plane.name.to_str(), name);
            assert_eq!(parsed.control_plane.to_string(), address);
        }
        for address in ["localhost", "localhost:0", "localhost:x", "a:b:15012", ":15012"] {
            let config = AgentConfig { control_plane: address.into(), ..complete() };
            assert_eq!(config.validate().len(), 1, "{address}");
        }
    }

    #[test]
    fn the_expected_name_can_be_overridden() {
        let named = AgentConfig { control_plane_name: Some("istiod.istio-system.svc".into()), ..complete() };
        assert_eq!(Settings::parse(named).unwrap().control_plane.name.to_str(), "istiod.istio-system.svc");
    }
}
