//! The rules of one family of addresses, before they are text. The order of the rules is what makes them work
//! (ENVOY.md E1).

use ipnet::IpNet;

use crate::{Family, Redirection, Selected};

/// What a rule asks of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Match {
    /// It comes in by this interface.
    ComesBy(String),
    /// It goes out by this interface.
    GoesBy(String),
    Source(IpNet),
    Destination(IpNet),
    NotDestination(IpNet),
    Port(u16),
    NotPort(u16),
    User(u32),
    NotUser(u32),
    Group(u32),
    NotGroup(u32),
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The connection is left alone.
    Leave,
    /// To the sidecar's port for inbound connections.
    Inbound,
    /// To the sidecar's port for outbound connections.
    Outbound,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// All of them; a rule without any is for every connection.
    pub(crate) when: Vec<Match>,
    pub(crate) then: Verdict,
}

/// The rules for TCP connections, the first that matches decides. Connections for which there is none are left alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// For connections that come into the pod.
    pub(crate) inbound: Vec<Rule>,
    /// For connections that processes of the pod open.
    pub(crate) outbound: Vec<Rule>,
}

impl Plan {
    pub(crate) fn new(config: &Redirection, family: Family) -> Self {
        Self { inbound: inbound(config, family), outbound: outbound(config, family) }
    }
}

fn rule(when: impl Into<Vec<Match>>, then: Verdict) -> Rule {
    Rule { when: when.into(), then }
}

fn inbound(config: &Redirection, family: Family) -> Vec<Rule> {
    let mut rules = Vec::new();
    let interfaces = config.excluded_interfaces.iter();
    rules.extend(interfaces.map(|name| rule([Match::ComesBy(name.clone())], Verdict::Leave)));
    for name in &config.virtual_interfaces {
        rules.extend(from_virtual(config, family, name));
    }
    let own = config.own_ports.iter().chain([&config.tunnel_port]);
    rules.extend(own.map(|port| rule([Match::Port(*port)], Verdict::Leave)));
    match &config.inbound_ports {
        Selected::All => {
            let excluded = config.excluded_inbound_ports.iter();
            rules.extend(excluded.map(|port| rule([Match::Port(*port)], Verdict::Leave)));
            rules.push(rule([], Verdict::Inbound));
        }
        Selected::Only(ports) => {
            rules.extend(ports.iter().map(|port| rule([Match::Port(*port)], Verdict::Inbound)));
        }
    }
    rules
}

/// Connections from the interface of a virtual machine in the pod go out by address, or are left alone.
fn from_virtual(config: &Redirection, family: Family, name: &str) -> Vec<Rule> {
    let comes = || Match::ComesBy(name.to_owned());
    let mut rules = Vec::new();
    for range in of(&config.excluded_outbound_ranges, family) {
        rules.push(rule([comes(), Match::Destination(range)], Verdict::Leave));
    }
    match &config.outbound_ranges {
        Selected::All => rules.push(rule([comes()], Verdict::Outbound)),
        Selected::Only(ranges) => {
            let to = |range| rule([comes(), Match::Destination(range)], Verdict::Outbound);
            rules.extend(of(ranges, family).map(to));
            rules.push(rule([comes()], Verdict::Leave));
        }
    }
    rules
}

fn outbound(config: &Redirection, family: Family) -> Vec<Rule> {
    let lo = || Match::GoesBy("lo".to_owned());
    let (source, loopback) = match family {
        Family::V4 => ("127.0.0.6/32", "127.0.0.1/32"),
        Family::V6 => (crate::ENVOY_SOURCE_V6, "::1/128"),
    };
    let [source, loopback] = [source, loopback].map(range);
    let mut rules = Vec::new();
    let interfaces = config.excluded_interfaces.iter();
    rules.extend(interfaces.map(|name| rule([Match::GoesBy(name.clone())], Verdict::Leave)));
    let excluded = config.excluded_outbound_ports.iter();
    rules.extend(excluded.map(|port| rule([Match::Port(*port)], Verdict::Leave)));
    // What Envoy sends to the application.
    rules.push(rule([lo(), Match::Source(source)], Verdict::Leave));
    let owners = [
        (Match::User(config.user), Match::NotUser(config.user)),
        (Match::Group(config.group), Match::NotGroup(config.group)),
    ];
    for (sidecar, others) in owners {
        // An application that calls its own Service: its call comes in like that of any other caller.
        let to_itself =
            [lo(), Match::NotDestination(loopback), Match::NotPort(config.tunnel_port), sidecar.clone()];
        rules.push(rule(to_itself, Verdict::Inbound));
        if !includes_loopback(config) {
            rules.push(rule([lo(), others], Verdict::Leave));
        }
        rules.push(rule([sidecar], Verdict::Leave));
    }
    rules.push(rule([Match::Destination(loopback)], Verdict::Leave));
    let excluded = of(&config.excluded_outbound_ranges, family);
    rules.extend(excluded.map(|range| rule([Match::Destination(range)], Verdict::Leave)));
    rules.extend(config.outbound_ports.iter().map(|port| rule([Match::Port(*port)], Verdict::Outbound)));
    match &config.outbound_ranges {
        Selected::All => rules.push(rule([], Verdict::Outbound)),
        Selected::Only(ranges) => {
            let to = |range| rule([Match::Destination(range)], Verdict::Outbound);
            rules.extend(of(ranges, family).map(to));
        }
    }
    rules
}

/// Whether the ranges name loopback addresses: then connections to them are redirected too, except those to 127.0.0.1
/// and ::1.
fn includes_loopback(config: &Redirection) -> bool {
    match &config.outbound_ranges {
        Selected::All => false,
        Selected::Only(ranges) => ranges.iter().any(|range| range.network().is_loopback()),
    }
}

fn of(ranges: &[IpNet], family: Family) -> impl Iterator<Item = IpNet> {
    let is_of = move |range: &&IpNet| matches!(range, IpNet::V4(_)) == (family == Family::V4);
    ranges.iter().filter(is_of).copied()
}

fn range(constant: &str) -> IpNet {
    constant.parse().expect("a constant of this file is a range")
}
