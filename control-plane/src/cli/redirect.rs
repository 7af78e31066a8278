//! `eastwest redirect`: sends a pod's connections through its sidecar.

use clap::{Args, ValueEnum};
use eastwest_agent::redirect::{self, Backend};
use eastwest_redirect::{
    ENVOY_SOURCE_V6, Family, Redirection, Selected, interfaces, iptables, nftables, ports, ranges,
    selected_ports, selected_ranges,
};

use super::{Exit, Failure, Result};
use crate::{config::Problems, output::write_out};

/// The arguments of `eastwest redirect`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  eastwest redirect --exclude-inbound-ports 9090 --exclude-outbound-ranges 10.0.0.10/32\n  \
    eastwest redirect --dry-run --backend nftables\n\nThe flags of istio-iptables have an effect too, for example \
    --istio-local-exclude-ports."
)]
pub(crate) struct RedirectArgs {
    /// Inbound ports to redirect, or * for all.
    #[arg(
        long,
        value_name = "PORTS",
        default_value = "*",
        visible_alias = "istio-inbound-ports",
        env = "EASTWEST_INCLUDE_INBOUND_PORTS"
    )]
    include_inbound_ports: String,
    /// Inbound ports to leave alone where all others are redirected.
    #[arg(
        long,
        value_name = "PORTS",
        default_value = "",
        hide_default_value = true,
        visible_alias = "istio-local-exclude-ports",
        env = "EASTWEST_EXCLUDE_INBOUND_PORTS"
    )]
    exclude_inbound_ports: String,
    /// Outbound ports to redirect whatever the address is.
    #[arg(
        long,
        value_name = "PORTS",
        default_value = "",
        hide_default_value = true,
        visible_alias = "istio-outbound-ports",
        env = "EASTWEST_INCLUDE_OUTBOUND_PORTS"
    )]
    include_outbound_ports: String,
    /// Outbound ports to leave alone.
    #[arg(
        long,
        value_name = "PORTS",
        default_value = "",
        hide_default_value = true,
        visible_alias = "istio-local-outbound-ports-exclude",
        env = "EASTWEST_EXCLUDE_OUTBOUND_PORTS"
    )]
    exclude_outbound_ports: String,
    /// Ranges of addresses to which outbound connections are redirected, or * for all.
    #[arg(
        long,
        value_name = "RANGES",
        default_value = "*",
        visible_alias = "istio-service-cidr",
        env = "EASTWEST_INCLUDE_OUTBOUND_RANGES"
    )]
    include_outbound_ranges: String,
    /// Ranges of addresses to leave alone.
    #[arg(
        long,
        value_name = "RANGES",
        default_value = "",
        hide_default_value = true,
        visible_alias = "istio-service-exclude-cidr",
        env = "EASTWEST_EXCLUDE_OUTBOUND_RANGES"
    )]
    exclude_outbound_ranges: String,
    /// Interfaces to leave alone; a final + stands for any rest of a name.
    #[arg(
        long,
        value_name = "NAMES",
        default_value = "",
        hide_default_value = true,
        visible_alias = "istio-exclude-interfaces",
        env = "EASTWEST_EXCLUDE_INTERFACES"
    )]
    exclude_interfaces: String,
    /// Interfaces of virtual machines in the pod, from which connections are outbound.
    #[arg(long, value_name = "NAMES", default_value = "", hide_default_value = true,
          visible_aliases = ["istio-reroute-virtual-interfaces", "kube-virt-interfaces"],
          env = "EASTWEST_REROUTE_VIRTUAL_INTERFACES")]
    reroute_virtual_interfaces: String,
    /// Port of the sidecar for inbound connections.
    #[arg(long, value_name = "PORT", default_value_t = 15006, value_parser = port(),
          visible_alias = "inbound-capture-port", env = "EASTWEST_INBOUND_PORT")]
    inbound_port: u16,
    /// Port of the sidecar for outbound connections.
    #[arg(long, value_name = "PORT", default_value_t = 15001, value_parser = port(), visible_alias = "envoy-port",
          env = "EASTWEST_OUTBOUND_PORT")]
    outbound_port: u16,
    /// Port of tunnels between sidecars, to which callers connect directly.
    #[arg(long, value_name = "PORT", default_value_t = 15008, value_parser = port(),
          visible_alias = "inbound-tunnel-port", env = "EASTWEST_TUNNEL_PORT")]
    tunnel_port: u16,
    /// Ports of the sidecar itself, to which callers connect directly.
    #[arg(long, value_name = "PORTS", default_value = "15020,15021,15090", env = "EASTWEST_OWN_PORTS")]
    own_ports: String,
    /// User of the sidecar, whose connections are left alone.
    #[arg(
        long,
        value_name = "ID",
        default_value_t = 1337,
        visible_alias = "proxy-uid",
        env = "EASTWEST_PROXY_USER"
    )]
    proxy_user: u32,
    /// Group of the sidecar, whose connections are left alone.
    #[arg(
        long,
        value_name = "ID",
        default_value_t = 1337,
        visible_alias = "proxy-gid",
        env = "EASTWEST_PROXY_GROUP"
    )]
    proxy_group: u32,
    /// REDIRECT, or NONE to set no rules.
    #[arg(
        long,
        value_name = "MODE",
        default_value = "REDIRECT",
        visible_alias = "istio-inbound-interception-mode",
        env = "EASTWEST_INTERCEPTION_MODE"
    )]
    interception_mode: String,
    /// What sets the rules: iptables if it works and else nftables, or one of them.
    #[arg(long, value_enum, default_value_t, env = "EASTWEST_REDIRECT_BACKEND")]
    backend: BackendName,
    /// Families of addresses: those that the pod has, or IPv4 alone.
    #[arg(long, value_enum, default_value_t, env = "EASTWEST_IP_FAMILIES")]
    ip_families: Families,
    /// Print the rules and set none; by auto, those for iptables.
    #[arg(long, visible_short_alias = 'n', env = "EASTWEST_REDIRECT_DRY_RUN")]
    dry_run: bool,
    /// Remove our rules, and no others.
    #[arg(long, visible_alias = "cleanup-only", env = "EASTWEST_REDIRECT_CLEAN")]
    clean: bool,
}

fn port() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum BackendName {
    #[default]
    Auto,
    Iptables,
    Nftables,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Families {
    /// IPv4, and IPv6 where an interface has an address of it.
    #[default]
    Auto,
    /// IPv4 alone.
    Ipv4,
    /// Both.
    Dual,
}

impl RedirectArgs {
    pub(super) fn run(self) -> Result {
        let mut problems = Problems::default();
        let redirects = problems.take("--interception-mode", redirects(&self.interception_mode));
        let config = self.config(&mut problems);
        if self.clean && self.dry_run {
            problems.add("--clean", "removes rules, and --dry-run changes nothing: give one of them");
        }
        if !problems.is_empty() {
            return Err(Failure::Usage(problems));
        }
        let families = match self.ip_families {
            Families::Auto => redirect::families(),
            Families::Ipv4 => vec![Family::V4],
            Families::Dual => vec![Family::V4, Family::V6],
        };
        let said = match redirects {
            _ if self.clean => {
                redirect::unset(&families)?;
                format!("eastwest redirect: no rules of eastwest are left for {}", names(&families))
            }
            Some(false) => "eastwest redirect: interception mode NONE, no rules are set".to_owned(),
            _ if self.dry_run => dry_run(&config, &families, self.backend),
            _ => summary(&config, &redirect::set(&config, &families, self.backend.into())?),
        };
        write_out(said.trim_end())?;
        Ok(Exit::Success)
    }

    fn config(&self, problems: &mut Problems) -> Redirection {
        Redirection {
            inbound_port: self.inbound_port,
            outbound_port: self.outbound_port,
            tunnel_port: self.tunnel_port,
            own_ports: problems.take("--own-ports", ports(&self.own_ports)).unwrap_or_default(),
            user: self.proxy_user,
            group: self.proxy_group,
            inbound_ports: problems
                .take("--include-inbound-ports", selected_ports(&self.include_inbound_ports))
                .unwrap_or(Selected::All),
            excluded_inbound_ports: problems
                .take("--exclude-inbound-ports", ports(&self.exclude_inbound_ports))
                .unwrap_or_default(),
            outbound_ports: problems
                .take("--include-outbound-ports", ports(&self.include_outbound_ports))
                .unwrap_or_default(),
            excluded_outbound_ports: problems
                .take("--exclude-outbound-ports", ports(&self.exclude_outbound_ports))
                .unwrap_or_default(),
            outbound_ranges: problems
                .take("--include-outbound-ranges", selected_ranges(&self.include_outbound_ranges))
                .unwrap_or(Selected::All),
            excluded_outbound_ranges: problems
                .take("--exclude-outbound-ranges", ranges(&self.exclude_outbound_ranges))
                .unwrap_or_default(),
            excluded_interfaces: problems
                .take("--exclude-interfaces", interfaces(&self.exclude_interfaces))
                .unwrap_or_default(),
            virtual_interfaces: problems
                .take("--reroute-virtual-interfaces", interfaces(&self.reroute_virtual_interfaces))
                .unwrap_or_default(),
        }
    }
}

impl From<BackendName> for Backend {
    fn from(name: BackendName) -> Self {
        match name {
            BackendName::Auto => Self::Auto,
            BackendName::Iptables => Self::Iptables,
            BackendName::Nftables => Self::Nftables,
        }
    }
}

/// Whether a mode of interception redirects.
fn redirects(mode: &str) -> std::result::Result<bool, String> {
    match mode {
        "REDIRECT" => Ok(true),
        "NONE" => Ok(false),
        "TPROXY" => Err("TPROXY is not supported; give REDIRECT, which changes the source address that the \
                         application sees, or NONE"
            .to_owned()),
        _ => Err(format!("{mode:?} is not a mode; give REDIRECT or NONE")),
    }
}

fn dry_run(config: &Redirection, families: &[Family], backend: BackendName) -> String {
    let address = match families.contains(&Family::V6) {
        true => format!("# ip -6 address replace {ENVOY_SOURCE_V6} dev lo\n"),
        false => String::new(),
    };
    let rules: String = match backend {
        BackendName::Nftables => format!("# nft --file -\n{}", nftables::set(config, families)),
        _ => families.iter().map(|family| restored(config, *family)).collect(),
    };
    address + &rules
}

fn restored(config: &Redirection, family: Family) -> String {
    let program = if family == Family::V4 { "iptables-restore" } else { "ip6tables-restore" };
    format!("# {program} --noflush\n{}", iptables::set(config, family, ""))
}

fn names(families: &[Family]) -> String {
    families.iter().map(|family| family.name()).collect::<Vec<_>>().join(" and ")
}

fn summary(config: &Redirection, used: &[(Family, &'static str)]) -> String {
    let by: Vec<_> = used.iter().map(|(family, program)| format!("{} by {program}", family.name())).collect();
    format!(
        "eastwest redirect: inbound connections to port {}, outbound to port {}, except those of user {} and group \
         {}; {}",
        config.inbound_port,
        config.outbound_port,
        config.user,
        config.group,
        by.join(", ")
    )
}
