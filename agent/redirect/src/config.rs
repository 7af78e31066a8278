//! What is redirected, as a value, and its parts as flags and annotations write them.

use std::net::IpAddr;

use ipnet::IpNet;

/// All, or those that are listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selected<T> {
    /// `*`.
    All,
    /// These alone; none if empty.
    Only(Vec<T>),
}

/// Which TCP connections of a pod go through its sidecar. UDP and SCTP never do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirection {
    /// Where the sidecar takes inbound connections.
    pub inbound_port: u16,
    /// Where the sidecar takes outbound connections.
    pub outbound_port: u16,
    /// Where tunnels between sidecars end. Connections to it are never redirected.
    pub tunnel_port: u16,
    /// Ports of the sidecar itself, to which callers connect directly.
    pub own_ports: Vec<u16>,
    /// User of the sidecar, whose own connections go out directly.
    pub user: u32,
    /// Group of the sidecar, with the same effect.
    pub group: u32,
    /// Inbound connections that are redirected, by port.
    pub inbound_ports: Selected<u16>,
    /// Inbound connections that are not, by port. They count only where all ports are redirected.
    pub excluded_inbound_ports: Vec<u16>,
    /// Outbound connections that are redirected whatever their address is, by port.
    pub outbound_ports: Vec<u16>,
    /// Outbound connections that are not redirected, by port.
    pub excluded_outbound_ports: Vec<u16>,
    /// Outbound connections that are redirected, by address.
    pub outbound_ranges: Selected<IpNet>,
    /// Outbound connections that are not redirected, by address.
    pub excluded_outbound_ranges: Vec<IpNet>,
    /// Interfaces whose connections are left alone, in both directions. A final `+` stands for any rest of a name.
    pub excluded_interfaces: Vec<String>,
    /// Interfaces of virtual machines in the pod: what comes from them is outbound.
    pub virtual_interfaces: Vec<String>,
}

impl Default for Redirection {
    /// All connections of a pod whose sidecar has the usual ports and the user and group 1337.
    fn default() -> Self {
        Self {
            inbound_port: 15006,
            outbound_port: 15001,
            tunnel_port: 15008,
            own_ports: vec![15020, 15021, 15090],
            user: 1337,
            group: 1337,
            inbound_ports: Selected::All,
            excluded_inbound_ports: Vec::new(),
            outbound_ports: Vec::new(),
            excluded_outbound_ports: Vec::new(),
            outbound_ranges: Selected::All,
            excluded_outbound_ranges: Vec::new(),
            excluded_interfaces: Vec::new(),
            virtual_interfaces: Vec::new(),
        }
    }
}

/// A list of ports, separated by commas; may be empty.
///
/// # Errors
/// What is no port, with the remedy.
pub fn ports(text: &str) -> Result<Vec<u16>, String> {
    list(text, |word| {
        let port = word.parse().ok().filter(|port| *port != 0);
        port.ok_or_else(|| {
            format!("{word:?} is not a port; give numbers from 1 to 65535, separated by commas")
        })
    })
}

/// A list of ports, or `*` for all.
///
/// # Errors
/// What is no port, with the remedy.
pub fn selected_ports(text: &str) -> Result<Selected<u16>, String> {
    selected(text, ports)
}

/// A list of address ranges, separated by commas; may be empty. An address alone is a range of one.
///
/// # Errors
/// What is no range, with the remedy.
pub fn ranges(text: &str) -> Result<Vec<IpNet>, String> {
    list(text, |word| {
        let range = word.parse::<IpNet>().or_else(|_| word.parse::<IpAddr>().map(IpNet::from));
        range.map(|range| range.trunc()).map_err(|_| {
            format!(
                "{word:?} is not a range of addresses; give for example 10.0.0.0/8 or fd00::/8, separated by commas"
            )
        })
    })
}

/// A list of address ranges, or `*` for all.
///
/// # Errors
/// What is no range, with the remedy.
pub fn selected_ranges(text: &str) -> Result<Selected<IpNet>, String> {
    selected(text, ranges)
}

/// Longest name of an interface in bytes.
const MAX_INTERFACE: usize = 15;

/// A list of names of interfaces, separated by commas; may be empty. A final `+` stands for any rest of a name.
///
/// # Errors
/// What is no name of an interface, with the remedy.
pub fn interfaces(text: &str) -> Result<Vec<String>, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:@".contains(c);
    list(text, |word| {
        let name = word.strip_suffix('+').unwrap_or(word);
        match !name.is_empty() && word.len() <= MAX_INTERFACE && name.chars().all(allowed) {
            true => Ok(word.to_owned()),
            false => Err(format!(
                "{word:?} is not the name of an interface; give names such as eth1, separated by commas, of at most \
                 {MAX_INTERFACE} characters"
            )),
        }
    })
}

fn selected<T>(text: &str, parse: impl Fn(&str) -> Result<Vec<T>, String>) -> Result<Selected<T>, String> {
    match text.trim() {
        "*" => Ok(Selected::All),
        list => parse(list).map(Selected::Only).map_err(|mistake| format!("{mistake}, or * for all")),
    }
}

/// The words between commas, each once.
fn list<T: PartialEq>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    let mut found = Vec::new();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let one = parse(word)?;
        if !found.contains(&one) {
            found.push(one);
        }
    }
    Ok(found)
}
